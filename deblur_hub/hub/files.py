"""The names of a model's files, and where a model came from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError

CONFIG, CARD, GOLDEN = "config.json", "README.md", "golden.safetensors"
VARIANT = re.compile(r"[\w-]+", re.ASCII)
WHOLE = re.compile(r"model(\.(?P<variant>[\w-]+?))?\.safetensors(\.index\.json)?", re.ASCII)  # one file, or the index
PART = re.compile(r"-\d{5}-of-\d{5}\.safetensors")
LONGEST_REASON = 200  # characters


@dataclass(frozen=True)
class Source:
    """Where a model comes from: what messages call it, the folder of its files, and the hub's commit if it has one."""

    name: str
    folder: Path
    commit: str = ""


def weights_file(variant: str | None) -> str:
    """`model.safetensors`, or `model.<variant>.safetensors`."""
    if variant and not VARIANT.fullmatch(variant):
        raise ModelError(f"variant '{variant:.60}': is a part of a file's name, of letters, digits, '-' and '_'")
    return f"model.{variant}.safetensors" if variant else "model.safetensors"


def index_file(variant: str | None) -> str:
    """The list of the files over which weights are spread, where one would be too large."""
    return f"{weights_file(variant)}.index.json"


def golden_file(variant: str | None) -> str:
    """`golden.safetensors`, or `golden.<variant>.safetensors`: rounded weights give an output of their own."""
    return f"golden.{variant}.safetensors" if variant else GOLDEN


def weights_among(names: Iterable[str], variant: str | None) -> list[str]:
    """Those files that hold a variant's weights in any form: one file, or several and their index."""
    stem = re.escape(weights_file(variant).removesuffix(".safetensors"))
    form = re.compile(stem + rf"({PART.pattern}|\.safetensors(\.index\.json)?)")
    return sorted(name for name in names if form.fullmatch(name))


def variants_among(names: Iterable[str]) -> list[str | None]:
    """The variants of which there are weights, None for the plain ones, which come first."""
    whole = (WHOLE.fullmatch(name) for name in names if not PART.search(name))
    return sorted({match["variant"] for match in whole if match}, key=lambda variant: variant or "")


def first_line(reason: Exception) -> str:
    """What an error of a library says, fit for a sentence of ours, whatever it may repeat of a stranger's file."""
    line = (str(reason).strip().splitlines() or [type(reason).__name__])[0].rstrip(".")
    line = "".join(letter if letter.isprintable() else "?" for letter in line[: LONGEST_REASON + 1])
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
