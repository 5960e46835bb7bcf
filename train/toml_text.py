"""Nested tables as TOML: what `tomllib` reads and does not write."""

import json
from typing import Any


def as_toml(table: dict[str, Any], prefix: str = "") -> str:
    """A table of texts, numbers, lists and tables, its own values first, then its tables, each under its dotted name.

    Floats are written so that they are read back as they were.
    """
    values = [f"{key_text(key)} = {value_text(value)}" for key, value in table.items() if not isinstance(value, dict)]
    parts = ["\n".join(values)] if values else []
    for key, inner in table.items():
        if isinstance(inner, dict):
            name = prefix + key_text(key)
            own = any(not isinstance(value, dict) for value in inner.values())
            body = as_toml(inner, f"{name}.").rstrip("\n")
            # A table that only holds others needs no heading of its own.
            parts.append(f"[{name}]\n{body}".rstrip("\n") if own or not inner else body)
    return "\n\n".join(parts) + "\n"


def key_text(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isalnum() and key.isascii() else json.dumps(key)


def value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # inf and nan are TOML's words as well
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key_text(key)} = {value_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(inner) for inner in value) + "]"
    raise TypeError(f"{type(value).__name__} has no place in TOML")
