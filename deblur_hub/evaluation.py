"""A model times a set of pairs: what it scores on each picture, beside what the blurry input scores."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import images
from .datasets import Pair, find_pairs
from .errors import DatasetError
from .generator import DeblurGenerator
from .metrics import psnr, ssim
from .restoration import Precision, dtype_for


@dataclass(frozen=True)
class Row:
    """One picture: PSNR in decibels and SSIM of the restored and of the blurred one, and the time it took."""

    name: str
    psnr: float
    ssim: float
    blurred_psnr: float
    blurred_ssim: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The rows of a set, in the order of their names, and how they were made."""

    model: str
    dataset: str
    precision: str
    rows: tuple[Row, ...]

    def mean(self, column: str) -> float:
        """The mean of the per-picture values, as all papers on deblurring average."""
        return sum(getattr(row, column) for row in self.rows) / len(self.rows)


def evaluate(
    generator: DeblurGenerator,
    dataset: Path,
    *,
    precision: Precision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores a model on all pairs below a folder, at full size.

    Pictures are restored as `deblur` does it, rounded to 8 bits and compared over the whole frame in RGB.

    Args:
        dataset: searched as `datasets.find_pairs` does.
        progress: called with (pictures done, pictures in all).

    Raises:
        DatasetError: if there are no pairs, or one of them is broken; before any scoring starts.
        PictureError: if a picture cannot be decoded.
    """
    pairs = find_pairs(dataset)
    if not pairs:
        raise DatasetError(f"{dataset}: holds no folder with both 'blur' and 'sharp' in it; give a set of pairs")
    device = next(generator.parameters()).device
    rows = []
    for number, pair in enumerate(pairs, start=1):
        rows.append(score(generator, pair, precision, device))
        if progress:
            progress(number, len(pairs))
    name = generator.config.name or generator.config.architecture
    return Evaluation(name, str(dataset), str(dtype_for(precision, device)).removeprefix("torch."), tuple(rows))


def score(generator: DeblurGenerator, pair: Pair, precision: Precision, device: torch.device) -> Row:
    blurred, sharp = (images.read(path)[0][:1] for path in (pair.blurred, pair.sharp))
    synchronise(device)
    started = time.perf_counter()
    restored = generator.restore(blurred, precision=precision)
    synchronise(device)
    seconds = time.perf_counter() - started
    blurred, sharp, restored = (to_8_bits(picture) for picture in (blurred, sharp, restored))
    return Row(
        pair.name,
        float(psnr(restored, sharp)),
        float(ssim(restored, sharp)),
        float(psnr(blurred, sharp)),
        float(ssim(blurred, sharp)),
        seconds,
    )


def synchronise(device: torch.device) -> None:
    """Waits for the device, without which a GPU's time is that of asking it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def to_8_bits(picture: Tensor) -> Tensor:
    """[-1, 1] to the values in [0, 1] that a file of 8 bits holds: rounded, not cut off."""
    return ((picture + 1) * 127.5 + 0.5).floor().clamp(0, 255) / 255


def table(evaluation: Evaluation) -> str:
    """The rows and their mean as a Markdown table, which reads well in a terminal as well."""
    lines = [
        f"| {'picture':<40} | blurred PSNR | restored PSNR |   gain   | blurred SSIM | restored SSIM | seconds |",
        f"|{'-' * 42}|{'-' * 14}|{'-' * 15}|{'-' * 10}|{'-' * 14}|{'-' * 15}|{'-' * 9}|",
    ]
    mean = Row(
        "mean", *(evaluation.mean(column) for column in ("psnr", "ssim", "blurred_psnr", "blurred_ssim", "seconds"))
    )
    for row in (*evaluation.rows, mean):
        lines.append(
            f"| {row.name:<40} | {row.blurred_psnr:9.2f} dB | {row.psnr:10.2f} dB | "
            f"{row.psnr - row.blurred_psnr:+5.2f} dB | {row.blurred_ssim:12.4f} | {row.ssim:13.4f} | "
            f"{row.seconds:7.2f} |"
        )
    return "\n".join(lines)
