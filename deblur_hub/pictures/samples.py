"""Samples to tensors and back, in bands of rows: floats of a whole picture exist as the tensor alone."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import MOST_MEGAPIXELS
from .modes import to_plain_mode
from .opening import binary_file, opened, read_header
from .original import Original, describe

Piece = tuple[int, int, Tensor]  # a picture's part: the first row, the first column, and (P, 3, h, w) from there on
BAND_SAMPLES = 1 << 21  # of the rows that are computed at once


@dataclass(frozen=True)
class Samples:
    """A decoded picture, of which parts become tensors when they are asked for."""

    stored: Image.Image | np.ndarray  # upright, in a plain mode or (H, W, C)
    original: Original

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        width, height = self.original.size
        return height, width

    def tensor(self) -> Tensor:
        """(P, 3, H, W) in [-1, 1], all of it."""
        height, width = self.size
        return self.read(range(height), range(width))

    def read(self, rows: range, columns: range) -> Tensor:
        """(P, 3, h, w) in [-1, 1] of rows and columns of it."""
        return to_tensor(self.stored, self.original, rows, columns)


def read(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray,
    *,
    max_megapixels: float = MOST_MEGAPIXELS,
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
    samples = read_samples(source, max_megapixels=max_megapixels, page=page)
    return samples.tensor(), samples.original


def read_samples(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray,
    *,
    max_megapixels: float = MOST_MEGAPIXELS,
    page: int | None = None,
) -> Samples:
    """The same without making all of it a tensor, which takes twelve bytes a pixel."""
    with opened(source, max_megapixels=max_megapixels, page=page) as picture:
        stored, original = describe(picture)
    del picture
    if original.kind == "file" and isinstance(stored, Image.Image):
        stored = to_rows(stored)  # Pillow holds colours in four bytes a pixel
    return Samples(stored, original)


def read_8_bits(source: str | os.PathLike[str] | bytes | BinaryIO) -> np.ndarray:
    """Reads a picture of any size, upright, as (H, W, 3) uint8, for those who learn from it: alpha is left out.

    Raises:
        PictureError: as `read` does.
    """
    with opened(source, max_megapixels=math.inf) as picture:
        samples = Samples(*describe(picture))
        if isinstance(samples.stored, Image.Image) and samples.original.dtype == np.uint8:
            return np.asarray(samples.stored.convert("RGB"))  # without floats of a picture that may be very large
        unit = samples.tensor()[0].add_(1).mul_(127.5).add_(0.5).floor_().clamp_(0, 255)
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


def to_tensor(samples: Image.Image | np.ndarray, original: Original, rows: range, columns: range) -> Tensor:
    """(P, 3, h, w) in [-1, 1], of rows and columns of the picture, filled in bands."""
    low, high = original.span
    tensor = torch.empty(original.pictures, 3, len(rows), len(columns))
    for band in in_bands(rows, len(columns) * len(original.channels)):
        part = part_of(samples, band, columns)
        exact: type = np.float32 if part.dtype.itemsize <= 2 else np.float64  # float32 counts up to 16 bits exactly
        unit = (part.astype(exact) - low) / (high - low) * 2 - 1
        planes = torch.from_numpy(unit).permute(2, 0, 1).float()
        place = tensor[:, :, band.start - rows.start : band.stop - rows.start]
        place[0] = planes[: 1 if original.channels in ("L", "LA") else 3]
        if original.pictures == 2:
            place[1] = planes[-1:]
    return tensor


def to_samples(restored: Tensor | Iterable[Piece], original: Original) -> np.ndarray:
    """(H, W, C) in the original's dtype, of (P, 3, H, W) or pieces of it.

    Alpha, and the colours that it hides, come back as they were.
    """
    width, height = original.size
    if isinstance(restored, Tensor):
        shape = (original.pictures, 3, height, width)
        if restored.shape != shape:
            raise ValueError(f"restored is {tuple(restored.shape)}, but {original.name} was {shape}")
        restored = [(0, 0, restored)]
    kept = original.kept
    before = to_plain_mode(kept) if isinstance(kept, Image.Image) else kept
    samples = np.empty((height, width, len(original.channels)), original.dtype)
    for top, left, piece in restored:
        columns = range(left, left + piece.shape[-1])
        for rows in in_bands(range(top, top + piece.shape[-2]), len(columns) * len(original.channels)):
            part = piece[:, :, rows.start - top : rows.stop - top]
            target = samples[rows.start : rows.stop, left : columns.stop]
            colours = colours_of(part, original)
            target[..., : colours.shape[-1]] = colours
            if original.channels.endswith("A"):
                add_alpha(target, original, before, rows, columns)
    return samples


def colours_of(restored: Tensor, original: Original) -> np.ndarray:
    """(h, w, C) without alpha, in the original's dtype, of (P, 3, h, w)."""
    low, high = original.span
    part = restored.detach().to("cpu", torch.float64 if original.dtype.itemsize > 2 else torch.float32)
    colours = part[0].mean(0, keepdim=True) if original.channels in ("L", "LA") else part[0]
    planes = torch.cat([colours, part[1].mean(0, keepdim=True)]) if original.pictures == 2 else colours
    values = (planes.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) / 2 * (high - low) + low
    return (np.floor(values + 0.5) if original.dtype.kind in "ui" else values).astype(original.dtype)


def add_alpha(
    target: np.ndarray, original: Original, before: Image.Image | np.ndarray | None, rows: range, columns: range
) -> None:
    """Fills in the alpha of (h, w, C) at rows and columns, and the colours under full transparency."""
    if before is None:  # opaque all over
        target[..., -1] = original.alpha
        return
    part = part_of(before, rows, columns)
    target[..., -1] = part[..., -1]
    hidden = part[..., -1] == 0
    target[hidden] = part[hidden]


def part_of(samples: Image.Image | np.ndarray, rows: range, columns: range) -> np.ndarray:
    """(h, w, C)"""
    if isinstance(samples, np.ndarray):
        return samples[rows.start : rows.stop, columns.start : columns.stop]
    part = np.asarray(samples.crop((columns.start, rows.start, columns.stop, rows.stop)))
    return part.reshape(*part.shape[:2], -1)


def to_rows(picture: Image.Image) -> np.ndarray:
    """(H, W, C), made in bands: Pillow's own way takes three times the memory."""
    columns = range(picture.width)
    samples = np.empty(
        (picture.height, picture.width, len(picture.getbands())), part_of(picture, range(1), range(1)).dtype
    )
    for rows in in_bands(range(picture.height), samples[0].size):
        samples[rows.start : rows.stop] = part_of(picture, rows, columns)
    return samples


def in_bands(rows: range, samples: int) -> Iterator[range]:
    """The rows, of so many samples each, as many at a time as are to be computed at once."""
    step = max(1, BAND_SAMPLES // samples)
    for top in range(rows.start, rows.stop, step):
        yield range(top, min(top + step, rows.stop))
