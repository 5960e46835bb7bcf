"""Text that comes from outside (names of models, pictures, files) as Markdown that shows it and does no more."""

import json
import re
from collections.abc import Sequence

SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word means nothing


def clean(text: str) -> str:
    """One line of characters that can be shown; line breaks would leave their place."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in encodable(text)).split())


def encodable(text: str) -> str:
    """The text without halves of characters, which JSON can hold and a file of UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(text: str) -> str:
    """Text in running Markdown or a cell of a table, which shows it letter by letter."""
    marked = SPECIAL.sub(r"\\\g<0>", clean(text))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """Text as inline code, in quotes of more backticks than it has itself; not for tables."""
    text = clean(text)
    quotes = "`" * (longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{quotes}{pad}{text}{pad}{quotes}" if text else ""


def block(text: str, language: str) -> str:
    """Several lines of code between fences that nothing in them can close."""
    fence = "`" * max(3, longest_run(text) + 1)
    return f"{fence}{language}\n{encodable(text).strip()}\n{fence}\n"


def literal(text: str) -> str:
    """Text as a string of Python."""
    return json.dumps(clean(text), ensure_ascii=False)


def longest_run(text: str) -> int:
    """How many backticks stand in a row at the most."""
    return max(map(len, re.findall("`+", text)), default=0)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    rows = [f"| {' | '.join(row)} |\n" for row in (header, *lines)]
    return "".join([rows[0], "|---" * len(header), "|\n", *rows[1:]])
