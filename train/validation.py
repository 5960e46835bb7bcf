"""Scores on held-out pairs at full size, restored just as a user's photo would be; and a sheet of samples to see."""

import math
from dataclasses import dataclass, fields

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from deblur_hub.datasets import Pair
from deblur_hub.evaluation import to_8_bits
from deblur_hub.metrics import psnr, ssim
from deblur_hub.restoration.restore import restore

from .data.cache import decode
from .data.sources import as_values
from .sheets import SampleSheet


@dataclass(frozen=True)
class Score:
    """Of one picture, restored and as it came: in decibels, SSIM, and the mean absolute error of values in [0, 1]."""

    name: str
    psnr: float
    ssim: float
    l1: float
    blurred_psnr: float
    blurred_ssim: float
    blurred_l1: float


def validate(
    network: nn.Module,
    pairs: list[Pair],
    resize: tuple[int, ...],
    accelerator: Accelerator,
    *,
    sheet: SampleSheet | None = None,
) -> list[Score]:
    """Scores of all pairs, in their order, on every process; each restores its part, and shows it to `sheet`."""
    rows = []
    for number in range(accelerator.process_index, len(pairs), accelerator.num_processes):
        blurred, sharp = load(pairs[number], resize)
        restored = restore(network, blurred, precision="float32")
        restored, blurred, sharp = to_8_bits(restored), to_8_bits(blurred), to_8_bits(sharp)
        values = [float(metric(picture, sharp)) for picture in (restored, blurred) for metric in (psnr, ssim, l1)]
        rows.append((number, score := Score(pairs[number].name, *values)))
        if sheet:
            labels = [f"blurred {score.blurred_psnr:.2f} dB", f"restored {score.psnr:.2f} dB", f"sharp  {score.name}"]
            sheet.add(number, labels, [blurred, restored, sharp])
    return [score for _, score in sorted(gather_object(rows), key=lambda row: row[0])]


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    return (restored - sharp).abs().mean()


def mean_score(scores: list[Score]) -> dict[str, float]:
    keys = [field.name for field in fields(Score) if field.name != "name"]
    return {key: float(np.mean([getattr(score, key) for score in scores])) for key in keys}


def merit(select: str, mean: dict[str, float]) -> float:
    """What the best model has most of, by the mean scores of a validation; -inf where they lack what it takes.

    Args:
        select: "psnr"; "l1", of which less is better; "psnr+ssim", the PSNR plus the SSIM in decibels,
            -10 log10(1 - SSIM), as video encoders print it: to halve the mean square error weighs as much as to halve
            what the SSIM lacks to 1. It asks nothing about earlier validations, as a sum of ranks would, so that the
            choice between two models stays what it was.
    """
    wanted = select.split("+")
    if not mean.keys() >= set(wanted):
        return float("-inf")
    goodness = {
        "psnr": lambda psnr: psnr,
        "ssim": lambda ssim: -10 * math.log10(max(1e-9, 1 - ssim)),
        "l1": lambda l1: -l1,
    }
    return sum(goodness[key](mean[key]) for key in wanted)


def load(pair: Pair, resize: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return tuple(as_values(decode(path, resize))[None] for path in (pair.blurred, pair.sharp))
