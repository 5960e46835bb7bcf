"""The columns of an evaluation: which metric each holds, how its numbers are printed, and the scores of one picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import metrics
from ..errors import DatasetError, did_you_mean
from .protocols import Protocol, prepare


@dataclass(frozen=True)
class Measure:
    """One column."""

    label: str
    function: Callable[..., Tensor | np.ndarray | float]  # of `metrics`
    unit: str = ""
    digits: int = 4  # as printed
    # In files. Those beyond depend on the order in which sums are taken, and so on the number of threads; equal pixels
    # are to give equal rows.
    decimals: int = 8
    better: int = 1  # if more is better, -1 if less is, 0 if neither
    min_side: int = 1  # of a picture, in pixels

    def format(self, value: float, *, signed: bool = False) -> str:
        return f"{value:{'+' if signed else ''}.{self.digits}f}{self.unit}"


METRICS: dict[str, Measure] = {
    "psnr": Measure("PSNR", metrics.psnr, " dB", 2),
    "ssim": Measure("SSIM", metrics.ssim, min_side=11),
    "ssim_matlab": Measure("SSIM (MATLAB)", metrics.ssim_matlab),
    "cw_ssim": Measure("CW-SSIM", metrics.cw_ssim),
    "psnr_y": Measure("PSNR of luma", metrics.psnr_y, " dB", 2),
    "ssim_y": Measure("SSIM of luma", metrics.ssim_y, min_side=11),
    "lpips": Measure("LPIPS", metrics.lpips, decimals=5, better=-1, min_side=32),
    "features": Measure("feature distance", metrics.feature_distance, decimals=5, better=-1, min_side=16),
    "edges": Measure("edge strength", metrics.edge_strength, digits=3, better=0),
}
DEFAULT_METRICS = ("psnr", "ssim", "ssim_matlab")
UNALIGNED = "_unaligned"  # suffix of a column: before alignment, under a protocol that aligns
BLURRED = "blurred_"  # prefix of a column: of the blurry input


def measure_of(column: str) -> Measure:
    """The measure of a column of the restored picture."""
    return METRICS[column.removesuffix(UNALIGNED)]


def label_of(column: str) -> str:
    return measure_of(column).label + (", not aligned" if column.endswith(UNALIGNED) else "")


def chosen_metrics(protocol: Protocol, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The default metrics that are defined under a protocol, and extra ones, in the order of the table.

    DatasetError if an extra one is not known, or not defined there; MetricError if its package or weights are missing.
    """
    for name in extra:
        if name not in METRICS:
            raise DatasetError(f"no metric is called '{name}'{did_you_mean(name, METRICS)}; take {', '.join(METRICS)}")
        if name not in protocol.metrics:
            where = f"'{protocol.name}', which scores a part of the frame"
            raise DatasetError(f"{name} is not defined under {where}; omit it")
    for name in {"lpips", "features"} & set(extra):  # their weights may be missing: fail before any picture
        METRICS[name].function(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    return tuple(name for name in METRICS if name in protocol.metrics and (name in DEFAULT_METRICS or name in extra))


def score(
    protocol: Protocol,
    names: Sequence[str],
    restored: np.ndarray,
    sharp: np.ndarray,
    blurred: np.ndarray | None,
    *,
    device: str = "cpu",
) -> dict[str, float]:
    """The columns of one row, from uint8 pictures (H, W, 3): the restored one's, then the blurry one's."""
    found: dict[str, float] = {}

    def add(column: str, one: np.ndarray, other: np.ndarray, mask: np.ndarray | None) -> None:
        pair = on_device(one, device), on_device(other, device)
        options = {} if mask is None else {"mask": on_device(mask, device)}
        for name in names:
            value = float(METRICS[name].function(*pair, data_range=255, **options))
            found[column.format(name)] = round(value, METRICS[name].decimals)

    for prefix, picture in (("", restored), (BLURRED, blurred)):
        if picture is not None:
            add(prefix + "{}", *prepare(protocol, picture, sharp))
            if protocol.align:
                add(prefix + "{}" + UNALIGNED, picture, sharp, None)
    return found


def on_device(picture: np.ndarray, device: str) -> Tensor:
    """(H, W, C) to (1, C, H, W), of the same type."""
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None]


def to_8_bits(picture: Tensor) -> Tensor:
    """[-1, 1] to the values in [0, 1] that a file of 8 bits holds: rounded, not truncated."""
    return ((picture + 1) * 127.5 + 0.5).floor().clamp(0, 255) / 255


def to_pixels(picture: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] to what a file of 8 bits holds, uint8 (H, W, 3): rounded, not truncated."""
    return (to_8_bits(picture[0]) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def from_pixels(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
