"""Scores on held-out pairs at full size, restored just as a user's photo would be; and a sheet of samples to see."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor, nn

from deblur_hub.datasets import Pair
from deblur_hub.evaluation import to_8_bits
from deblur_hub.metrics import psnr, ssim
from deblur_hub.restoration import restore

from .data import as_values, decode

SHEET_ROWS, SHEET_SIDE = 4, 360


@dataclass(frozen=True)
class Score:
    """Of one picture: in decibels and SSIM, restored and as it came."""

    name: str
    psnr: float
    ssim: float
    blurred_psnr: float
    blurred_ssim: float


def validate(network: nn.Module, pairs: list[Pair], resize: tuple[int, ...], accelerator: Accelerator) -> list[Score]:
    """Scores of all pairs, in their order, on every process; each process restores its part."""
    rows = []
    for number in range(accelerator.process_index, len(pairs), accelerator.num_processes):
        blurred, sharp = load(pairs[number], resize)
        restored = restore(network, blurred, precision="float32")
        restored, blurred, sharp = to_8_bits(restored), to_8_bits(blurred), to_8_bits(sharp)
        values = [float(metric(picture, sharp)) for picture in (restored, blurred) for metric in (psnr, ssim)]
        rows.append((number, Score(pairs[number].name, *values)))
    return [score for _, score in sorted(gather_object(rows), key=lambda row: row[0])]


def mean_score(scores: list[Score]) -> dict[str, float]:
    return {
        key: float(np.mean([getattr(score, key) for score in scores]))
        for key in ("psnr", "ssim", "blurred_psnr", "blurred_ssim")
    }


def sample_sheet(network: nn.Module, pairs: list[Pair], resize: tuple[int, ...], path: Path) -> None:
    """Writes a PNG of rows blurred | restored | sharp: the centres of a few held-out pairs, at 1:1."""
    rows = []
    for pair in pairs[:SHEET_ROWS]:
        blurred, sharp = load(pair, resize)
        restored = restore(network, blurred, precision="float32")
        columns = [centre(to_8_bits(picture)[0]) for picture in (blurred, restored, sharp)]
        rows.append(torch.cat(columns, dim=-1))
    widest = max(row.shape[-1] for row in rows)
    sheet = torch.cat([torch.nn.functional.pad(row, (0, widest - row.shape[-1])) for row in rows], dim=-2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.mul(255).round().byte().permute(1, 2, 0).numpy()).save(path)


def load(pair: Pair, resize: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return tuple(as_values(decode(path, resize))[None] for path in (pair.blurred, pair.sharp))


def centre(picture: Tensor) -> Tensor:
    top, left = (max(0, (side - SHEET_SIDE) // 2) for side in picture.shape[-2:])
    return picture[:, top : top + SHEET_SIDE, left : left + SHEET_SIDE]
