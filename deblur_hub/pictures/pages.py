"""The pictures of one file on their way into another: all pages of a TIFF into a TIFF, else the first."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..config import MOST_MEGAPIXELS
from .formats import format_of
from .metadata import profile_fits
from .samples import Samples, read_samples
from .writing import require_target

Strip = Literal["gps", "metadata"]  # what is left out of the result: where it was taken, or all but what colours mean


def read_pages(
    source: str | os.PathLike[str], target: Path, strip: Strip | None = None, *, max_megapixels: float = MOST_MEGAPIXELS
) -> Iterator[tuple[int, int, Samples]]:
    """(number, pages in all, samples) of each picture that goes into the target, which is known to hold it.

    Raises:
        PictureError: as `read` and `require_target` do.
    """
    format_name = format_of(target)
    number, count = 0, 1
    while number < count:
        samples = read_samples(source, max_megapixels=max_megapixels, page=number)
        original = samples.original
        mode = require_target(original, target)
        notes = list(original.notes)
        if format_name == "TIFF":
            count = original.pages
        elif original.pages > 1:
            notes.append(f"{original.pages} pages; only the first is restored (write .tif for all)")
        metadata = original.metadata
        if strip is not None:
            metadata = metadata.without_position() if strip == "gps" else metadata.colours_only()
        if metadata.icc_profile and not profile_fits(metadata.icc_profile, mode):
            notes.append("its colour profile does not describe such samples and was left out")
            metadata = replace(metadata, icc_profile=None)
        left = metadata.left_out(format_name)
        if left:
            notes.append(f"left out, as {target.suffix} has no place for it: {', '.join(left)}")
        held = [replace(samples, original=replace(original, metadata=metadata, notes=tuple(notes)))]
        del samples, original
        yield number, count, held.pop()  # its pixels are the receiver's alone
        number += 1
