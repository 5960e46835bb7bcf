"""Samples to tensors and back, in bands of rows: floats of a whole picture exist as the tensor alone."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .opening import binary_file, opened, read_header
from .original import Original, describe

BAND_SAMPLES = 1 << 21  # of the rows that are computed at once


def read(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray,
    *,
    max_megapixels: float = 100,
    page: int | None = None,
) -> tuple[Tensor, Original]:
    """Reads a picture, upright, with its header checked before its pixels are decoded.

    Args:
        source: a path, a file's bytes, a binary file, a Pillow picture of any mode, or an array: (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4); uint8, uint16, or floating point in [0, 1].
        max_megapixels: the largest picture accepted.
        page: of a TIFF, counted from 0; None for the first, with a note where there are more.

    Returns:
        (P, 3, H, W) float32 in [-1, 1]: the colours (grey three times), then (P = 2) as a grey picture of its own, as
        light, the black ink of CMYK; and what `to_image`, `to_array` and `write` need to turn the restored tensor back.

    Raises:
        PictureError: if there is no picture, or it is damaged, too large, or not in range.
    """
    with opened(source, max_megapixels=max_megapixels, page=page) as picture:
        samples, original = describe(picture)
        return to_tensor(samples, original), original


def read_8_bits(source: str | os.PathLike[str] | bytes | BinaryIO) -> np.ndarray:
    """Reads a picture of any size, upright, as (H, W, 3) uint8, for those who learn from it: alpha is left out.

    Raises:
        PictureError: as `read` does.
    """
    with opened(source, max_megapixels=math.inf) as picture:
        samples, original = describe(picture)
        if isinstance(samples, Image.Image) and original.dtype == np.uint8:
            return np.asarray(samples.convert("RGB"))  # without floats of a picture that may be very large
        unit = to_tensor(samples, original)[0].add_(1).mul_(127.5).add_(0.5).floor_().clamp_(0, 255)
        return unit.byte().permute(1, 2, 0).numpy()


def check(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[str, ...]:
    """Finds out whether a picture can be read, faster than by reading it.

    Returns:
        Sentences for the user on what of the file is missing or not restored.

    Raises:
        PictureError: as `read` does.
    """
    with binary_file(source) as (file, name):
        png, _, _, header = read_header(file, name)
        with suppress(Exception):  # what is wrong here may be no reason to refuse it, which is found out below
            if png is not None and header is not None:
                header.verify()  # by its checksums alone
                return png.notes
            if header is not None and header.format == "JPEG":
                header.draft("RGB", (max(1, header.width // 8), max(1, header.height // 8)))  # an eighth of it
                header.load()
                return ()
    with opened(source, max_megapixels=math.inf) as picture:
        return describe(picture)[1].notes


def to_tensor(samples: Image.Image | np.ndarray, original: Original) -> Tensor:
    """(P, 3, H, W) in [-1, 1], filled in bands of rows."""
    width, height = original.size
    low, high = original.span
    tensor = torch.empty(original.pictures, 3, height, width)
    for top, bottom in band_rows(original):
        rows = rows_of(samples, top, bottom)
        exact: type = np.float32 if rows.dtype.itemsize <= 2 else np.float64  # float32 counts up to 16 bits exactly
        unit = (rows.astype(exact) - low) / (high - low) * 2 - 1
        planes = torch.from_numpy(unit).permute(2, 0, 1).float()
        tensor[0, :, top:bottom] = planes[: 1 if original.channels in ("L", "LA") else 3]
        if original.pictures == 2:
            tensor[1, :, top:bottom] = planes[-1:]
    return tensor


def to_bands(
    restored: Tensor, original: Original, source: Image.Image | np.ndarray | None
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, (h, W, C) in the original's dtype), downwards.

    Args:
        source: the samples that were read, of which alpha and the colours that it hides come back as they were.
    """
    shape = (original.pictures, 3, *original.size[::-1])
    if restored.shape != shape:
        raise ValueError(f"restored is {tuple(restored.shape)}, but {original.name} was {shape}")
    low, high = original.span
    for top, bottom in band_rows(original):
        precision = torch.float64 if original.dtype.itemsize > 2 else torch.float32
        part = restored[:, :, top:bottom].detach().to("cpu", precision)
        colours = part[0].mean(0, keepdim=True) if original.channels in ("L", "LA") else part[0]
        planes = torch.cat([colours, part[1].mean(0, keepdim=True)]) if original.pictures == 2 else colours
        values = (planes.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) / 2 * (high - low) + low
        band = (np.floor(values + 0.5) if original.dtype.kind in "ui" else values).astype(original.dtype)
        if original.channels.endswith("A"):
            if source is None:  # opaque all over
                opacity = np.full((*band.shape[:2], 1), original.alpha, band.dtype)
                band = np.concatenate([band, opacity], axis=2)
            else:
                before = rows_of(source, top, bottom)
                band = np.concatenate([band, before[..., -1:]], axis=2)
                hidden = before[..., -1] == 0
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
