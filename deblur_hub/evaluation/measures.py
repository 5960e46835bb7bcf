"""What is measured of a restored picture, and how the numbers are written: one table; and pixels."""

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
    """One column.

    Attributes:
        label: for people.
        function: of `metrics`.
        unit, digits: as printed.
        kept: decimals in files. What lies below depends on the order in which a sum is taken, and so on the number of
            threads; equal pixels are to give equal rows.
        better: 1 if more is better, -1 if less is, 0 if neither.
        smallest: side of a picture in pixels, of which it can be computed.
    """

    label: str
    function: Callable[..., Tensor | np.ndarray | float]
    unit: str = ""
    digits: int = 4
    kept: int = 8
    better: int = 1
    smallest: int = 1

    def written(self, value: float, *, signed: bool = False) -> str:
        return f"{value:{'+' if signed else ''}.{self.digits}f}{self.unit}"


METRICS: dict[str, Measure] = {
    "psnr": Measure("PSNR", metrics.psnr, " dB", 2),
    "ssim": Measure("SSIM", metrics.ssim, smallest=11),
    "ssim_matlab": Measure("SSIM (MATLAB)", metrics.ssim_matlab),
    "cw_ssim": Measure("CW-SSIM", metrics.cw_ssim),
    "psnr_y": Measure("PSNR of luma", metrics.psnr_y, " dB", 2),
    "ssim_y": Measure("SSIM of luma", metrics.ssim_y, smallest=11),
    "lpips": Measure("LPIPS", metrics.lpips, kept=5, better=-1, smallest=32),
    "features": Measure("feature distance", metrics.feature_distance, kept=5, better=-1, smallest=16),
    "edges": Measure("edge strength", metrics.edge_strength, digits=3, better=0),
}
DEFAULT_METRICS = ("psnr", "ssim", "ssim_matlab")
UNALIGNED = "_unaligned"  # behind the name of a column: of the pictures as they are, under a protocol that aligns them
BLURRED = "blurred_"  # before the name of a column: of the blurry input in place of the restored picture


def measure_of(column: str) -> Measure:
    """The measure that a column of the restored picture holds."""
    return METRICS[column.removesuffix(UNALIGNED)]


def chosen_metrics(protocol: Protocol, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The default metrics and further ones, in the order of the table, that are defined under a protocol.

    Raises:
        DatasetError: if a further one is not known, or not defined there.
        MetricError: if one needs a package or weights that are not there.
    """
    for name in extra:
        if name not in METRICS:
            raise DatasetError(f"no metric is called '{name}'{did_you_mean(name, METRICS)}; take {', '.join(METRICS)}")
        if name not in protocol.metrics:
            raise DatasetError(
                f"{name} is not defined under '{protocol.name}', which scores a part of the frame; leave it out"
            )
    for name in {"lpips", "features"} & set(extra):  # whose weights may be missing: better known before a picture
        METRICS[name].function(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    return tuple(name for name in METRICS if name in protocol.metrics and (name in DEFAULT_METRICS or name in extra))


def score(
    protocol: Protocol, names: Sequence[str], restored: np.ndarray, sharp: np.ndarray, *, device: str = "cpu"
) -> dict[str, float]:
    """The columns of one picture.

    Args:
        names: of the metrics.
        restored, sharp: uint8 (H, W, 3).
        device: to compute on.

    Returns:
        By metric; under a protocol that aligns also, with `_unaligned` behind, of the pictures as they are.
    """
    scores = columns(names, *prepare(protocol, restored, sharp), device=device)
    if protocol.align:
        plain = columns(names, restored, sharp, None, device=device)
        scores |= {f"{name}{UNALIGNED}": value for name, value in plain.items()}
    return scores


def columns(
    names: Sequence[str], restored: np.ndarray, sharp: np.ndarray, mask: np.ndarray | None, *, device: str
) -> dict[str, float]:
    one, other = on_device(restored, device), on_device(sharp, device)
    masked = {} if mask is None else {"mask": on_device(mask, device)}
    return {
        name: round(float(METRICS[name].function(one, other, data_range=255, **masked)), METRICS[name].kept)
        for name in names
    }


def on_device(picture: np.ndarray, device: str) -> Tensor:
    """(H, W, C) to (1, C, H, W), of the same type."""
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None]


def to_8_bits(picture: Tensor) -> Tensor:
    """[-1, 1] to the values in [0, 1] that a file of 8 bits holds: rounded, not cut off."""
    return ((picture + 1) * 127.5 + 0.5).floor().clamp(0, 255) / 255


def to_pixels(picture: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] to what a file of 8 bits holds, uint8 (H, W, 3): rounded, not cut off."""
    levels = ((picture[0] + 1) * 127.5 + 0.5).floor().clamp(0, 255)
    return levels.byte().permute(1, 2, 0).contiguous().cpu().numpy()


def from_pixels(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
