"""What was measured of a model, as its card states it; from an evaluation, or from training's own validation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """Of the restored pictures of a set, and of its blurry input.

    Attributes:
        title, dataset: what set it is: for people, and for the hub, such as `snah/GOPRO_Large`.
        protocol, rules: the name under which it was scored, and what that means.
        columns: what was measured.
        mean: by column, and with `blurred_` before it, of the per-picture values.
        rows: the same for each picture, with its `name`.
        comparable: the published numbers that these may stand beside.
        precision: of the arithmetic; "" where it is not known.
        command: that measures them again; "" where there is none.
    """

    title: str
    dataset: str
    protocol: str
    rules: str
    columns: Sequence[Column]
    mean: Mapping[str, float]
    rows: Sequence[Mapping[str, float | str]]
    comparable: Sequence[str] = ()
    precision: str = ""
    command: str = ""

    def stated(self) -> dict[str, float]:
        """The means that the hub's index takes, rounded as the tables show them: JSON knows no infinity."""
        found = {}
        for column in self.columns:
            for name in (column.name, BLURRED + column.name):
                if math.isfinite(self.mean[name]):
                    found[name] = round(self.mean[name], column.digits)
        return found


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
    lines = []
    for column in scores.columns:
        after, before = scores.mean[column.name], scores.mean[BLURRED + column.name]
        gain = 0.0 if after == before else after - before
        lines.append(
            [plain(column.label), column.written(before), column.written(after), column.written(gain, signed=True)]
        )
    return table(["measure", "blurry", "restored", "gain"], lines)


def rows_table(scores: Scores) -> str:
    """Blurry and restored PSNR and SSIM of each picture, or of none where there are many, and their means."""
    lines = [
        [
            name,
            PSNR.written(row["blurred_psnr"]),
            PSNR.written(row["psnr"]),
            PSNR.written(gain(row), signed=True),
            SSIM.written(row["blurred_ssim"]),
            SSIM.written(row["ssim"]),
        ]
        for name, row in (
            *((plain(str(row["name"])), numbers(row)) for row in scores.rows if len(scores.rows) <= MOST_ROWS),
            ("**mean**", numbers(scores.mean)),
        )
    ]
    header = ["picture", "blurry PSNR", "restored PSNR", "gain", "blurry SSIM", "restored SSIM"]
    return table(header, lines)


def least_gain(scores: Scores) -> tuple[str, float]:
    """The picture that restoring helped least, and by how many decibels."""
    worst = min(scores.rows, key=lambda row: gain(numbers(row)))
    return str(worst["name"]), gain(numbers(worst))


def gain(row: Mapping[str, float]) -> float:
    """In decibels; 0 where the picture was perfect before and after."""
    return 0.0 if row["psnr"] == row["blurred_psnr"] else row["psnr"] - row["blurred_psnr"]


def numbers(row: Mapping[str, float | str]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not isinstance(value, str)}
