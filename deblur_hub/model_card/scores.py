"""What was measured of a model, as its card states it; from an evaluation, or from training's own validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from .markdown import plain, table

BLURRED = "blurred_"  # before a column's name: of the blurry input in place of the restored picture
MOST_ROWS = 20  # of single pictures in a card; more are for results.json


@dataclass(frozen=True)
class Column:
    """One measure: its name in results.json and for people, how it is written, and what tells it from its like."""

    name: str
    label: str
    unit: str = ""
    digits: int = 4
    note: str = ""

    def written(self, value: float, *, signed: bool = False) -> str:
        return f"{value:{'+' if signed else ''}.{self.digits}f}{self.unit}"


PSNR = Column("psnr", "PSNR", " dB", 2)
SSIM = Column("ssim", "SSIM", note="per channel, with a Gaussian window of 11, sigma 1.5")


@dataclass(frozen=True)
class Scores:
    """Of the restored pictures of a set, and of its blurry input."""

    title: str  # of the set, for people
    dataset: str  # its name for the hub, such as `snah/GOPRO_Large`
    protocol: str
    rules: str  # what the protocol means
    columns: Sequence[Column]
    mean: Mapping[str, float]  # by column, and with `blurred_` before it, of the per-picture values
    rows: Sequence[Mapping[str, float | str]]  # the same for each picture, with its `name`
    comparable: Sequence[str] = ()  # the published numbers that these may stand beside
    precision: str = ""  # of the arithmetic
    command: str = ""  # that measures them again

    def stated(self) -> dict[str, float]:
        """The means that the hub's index takes, rounded as the tables show them: JSON knows no infinity."""
        digits = {prefix + column.name: column.digits for column in self.columns for prefix in ("", BLURRED)}
        return {name: round(self.mean[name], places) for name, places in digits.items() if isfinite(self.mean[name])}


@dataclass(frozen=True)
class Cost:
    """What restoring took: the median of the seconds a picture, on which device, and the most memory in bytes."""

    seconds: float
    pictures: int
    precision: str
    device: str
    threads: int = 0
    memory: int = 0
    gpu_memory: int = 0


def means_table(scores: Scores) -> str:
    """A line for each measure."""
    lines = [[plain(column.label), *before_and_after(column, scores.mean)] for column in scores.columns]
    return table(["measure", "blurry", "restored", "gain"], lines)


def before_and_after(column: Column, row: Mapping[str, float]) -> list[str]:
    """A measure of the blurry input and of the restored picture, and the gain, as they are written."""
    before, after = (column.written(row[name]) for name in (BLURRED + column.name, column.name))
    return [before, after, column.written(gain(row, column.name), signed=True)]


def rows_table(scores: Scores) -> str:
    """Blurry and restored PSNR and SSIM of each picture, or of none where there are many, and their means."""
    rows = [(plain(str(row["name"])), numbers(row)) for row in scores.rows if len(scores.rows) <= MOST_ROWS]
    lines = [
        [name, *before_and_after(PSNR, row), *before_and_after(SSIM, row)[:2]]
        for name, row in (*rows, ("**mean**", numbers(scores.mean)))
    ]
    return table(["picture", "blurry PSNR", "restored PSNR", "gain", "blurry SSIM", "restored SSIM"], lines)


def gain(row: Mapping[str, float], name: str = "psnr") -> float:
    """Of a measure; 0 where the picture was perfect before and after."""
    before, after = row[BLURRED + name], row[name]
    return 0.0 if after == before else after - before


def numbers(row: Mapping[str, float | str]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not isinstance(value, str)}
