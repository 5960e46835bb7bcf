"""Validation: scores on held-out pairs, restored at full size as a user's photo would be, and a sheet of samples."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from deblur_hub.datasets import Pair
from deblur_hub.evaluation import to_8_bits
from deblur_hub.metrics import psnr, ssim
from deblur_hub.restoration.restore import restore

from .data.cache import decode
from .data.sources import as_values

SHEET_ROWS, SHEET_SIDE = 4, 360
LABEL, TEXT = 20, 13  # height of a row's label and of its letters, in pixels
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Score:
    """One picture's scores, restored and blurry: in decibels, SSIM, and the mean absolute error of values in [0, 1]."""

    name: str
    psnr: float
    ssim: float
    l1: float
    blurred_psnr: float
    blurred_ssim: float
    blurred_l1: float


def validate(
    network: nn.Module, pairs: list[Pair], resize: tuple[int, ...], accelerator: Accelerator
) -> tuple[list[Score], list[np.ndarray]]:
    """Scores of all pairs in their order, and rows of a sheet of the first; each process restores its part for all."""
    found = []
    for number in range(accelerator.process_index, len(pairs), accelerator.num_processes):
        restored, blurred, sharp = restore_pair(network, pairs[number], resize)
        values = [float(metric(picture, sharp)) for picture in (restored, blurred) for metric in (psnr, ssim, l1)]
        row = [centre(picture[0]) for picture in (blurred, restored, sharp)] if number < SHEET_ROWS else []
        found.append((number, Score(pairs[number].name, *values), row))
    found = sorted(gather_object(found), key=lambda each: each[0])
    return [score for _, score, _ in found], [np.concatenate(row, axis=1) for _, _, row in found if row]


def restore_pair(network: nn.Module, pair: Pair, resize: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """(restored, blurry, sharp), each (1, 3, H, W) in [0, 1] at 8 bits."""
    blurred, sharp = (as_values(decode(path, resize))[None] for path in (pair.blurred, pair.sharp))
    restored = restore(network, blurred, precision="float32")
    return to_8_bits(restored), to_8_bits(blurred), to_8_bits(sharp)


def save_sheet(path: Path, scores: list[Score], rows: list[np.ndarray]) -> None:
    """Writes rows of blurry | restored | sharp under labels as PNG: the centres of the first held-out pairs, at 1:1."""
    width = max(row.shape[1] for row in rows)
    sheet = Image.new("RGB", (width, sum(LABEL + row.shape[0] for row in rows)), PAPER)
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT), 0
    for score, row in zip(scores, rows, strict=False):  # there are more scores than rows
        labels = (f"blurry {score.blurred_psnr:.2f} dB", f"restored {score.psnr:.2f} dB", f"sharp  {score.name}")
        for column, label in enumerate(labels):
            left = column * row.shape[1] // len(labels)
            draw.text((left + 4, top + LABEL // 2), label, fill=INK, font=font, anchor="lm")
        sheet.paste(Image.fromarray(row), (0, top + LABEL))
        top += LABEL + row.shape[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def mean_score(scores: list[Score]) -> dict[str, float]:
    keys = [field.name for field in fields(Score) if field.name != "name"]
    return {key: float(np.mean([getattr(score, key) for score in scores])) for key in keys}


def selection_score(select: str, mean: dict[str, float]) -> float:
    """The number by which the best model is chosen, larger is better; -inf if a score that it needs is missing.

    "l1" is negated; "psnr+ssim" is the PSNR plus the SSIM in decibels, -10 log10(1 - SSIM), so that halving the mean
    square error weighs as much as halving the distance of the SSIM from 1.
    """
    wanted = select.split("+")
    if not mean.keys() >= set(wanted):
        return float("-inf")
    larger_is_better = {
        "psnr": lambda psnr: psnr,
        "ssim": lambda ssim: -10 * math.log10(max(1e-9, 1 - ssim)),
        "l1": lambda l1: -l1,
    }
    return sum(larger_is_better[key](mean[key]) for key in wanted)


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    return (restored - sharp).abs().mean()


def centre(picture: Tensor) -> np.ndarray:
    """The middle of a picture of (3, H, W) in [0, 1], as (H, W, 3) uint8."""
    top, left = (max(0, (side - SHEET_SIDE) // 2) for side in picture.shape[-2:])
    cut = picture[:, top : top + SHEET_SIDE, left : left + SHEET_SIDE]
    return cut.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
