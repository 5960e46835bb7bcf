"""Samples to tensors and back, in bands of rows: floats of a whole picture exist as the tensor alone."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .original import Original

BAND_SAMPLES = 1 << 21  # of the rows that are computed at once


def to_tensor(samples: Image.Image | np.ndarray, original: Original) -> Tensor:
    """(P, 3, H, W) in [-1, 1], filled in bands of rows."""
    width, height = original.size
    low, high = original.span
    tensor = torch.empty(original.pictures, 3, height, width)
    for top, bottom in band_rows(original):
        rows = rows_of(samples, top, bottom)
        unit = (rows.astype(arithmetic(rows.dtype)) - low) / (high - low) * 2 - 1
        planes = torch.from_numpy(unit).permute(2, 0, 1).float()
        tensor[0, :, top:bottom] = planes[: 1 if original.channels in ("L", "LA") else 3]
        if original.pictures == 2:
            tensor[1, :, top:bottom] = planes[-1:]
    return tensor


def to_bands(
    restored: Tensor, original: Original, source: Image.Image | np.ndarray | None
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, (h, W, C) in the original's dtype), from top to bottom.

    `source` holds the samples that were read, for the colours that full transparency hides.
    """
    width, height = original.size
    if restored.shape != (original.pictures, 3, height, width):
        raise ValueError(
            f"restored is {tuple(restored.shape)}, but {original.name} was {(original.pictures, 3, height, width)}"
        )
    low, high = original.span
    for top, bottom in band_rows(original):
        precision = torch.float64 if original.dtype.itemsize > 2 else torch.float32
        part = restored[:, :, top:bottom].detach().to("cpu", precision)
        colours = part[0].mean(0, keepdim=True) if original.channels in ("L", "LA") else part[0]
        planes = torch.cat([colours, part[1].mean(0, keepdim=True)]) if original.pictures == 2 else colours
        values = (planes.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) / 2 * (high - low) + low
        band = (np.floor(values + 0.5) if original.dtype.kind in "ui" else values).astype(original.dtype)
        if original.alpha is not None:
            opacity = np.full((*band.shape[:2], 1), original.alpha, band.dtype)
            band = np.concatenate([band, opacity], axis=2)
        if source is not None and original.channels.endswith("A"):
            before = rows_of(source, top, bottom)
            hidden = (before[..., -1] == 0) & (band[..., -1] == 0)
            band[hidden] = before[hidden]
        yield top, band


def rows_of(samples: Image.Image | np.ndarray, top: int, bottom: int) -> np.ndarray:
    """(bottom - top, W, C)"""
    if isinstance(samples, np.ndarray):
        return samples[top:bottom]
    rows = np.asarray(samples.crop((0, top, samples.width, bottom)))
    return rows.reshape(*rows.shape[:2], -1)


def band_rows(original: Original) -> Iterator[tuple[int, int]]:
    width, height = original.size
    step = max(1, BAND_SAMPLES // (width * len(original.channels)))
    for top in range(0, height, step):
        yield top, min(top + step, height)


def arithmetic(dtype: np.dtype) -> type:
    """float32 counts 16-bit samples exactly; longer ones need more."""
    return np.float32 if dtype.itemsize <= 2 else np.float64
