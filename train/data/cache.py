"""A cache on disk of decoded pictures, so that each is decoded once for all workers, runs and processes."""

import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from deblur_hub.atomic import replacing
from deblur_hub.errors import DatasetError, PictureError
from deblur_hub.pictures import read_8_bits

DISK_RESERVE = 2 * 2**30  # bytes that the cache leaves free for checkpoints and others


class PictureCache:
    """Decoded pictures in a folder, each a memory-mapped `.npy` file that appears whole.

    Any number of processes may fill it at once. If the disk is nearly full, pictures are decoded again each time.
    """

    def __init__(self, folder: Path, *, resize: tuple[int, ...] = ()) -> None:
        self.folder, self.resize = folder, resize

    def __call__(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, read-only; raises `DatasetError` if it cannot be decoded, or the cache not be written."""
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{self.resize}|upright"
        cached = self.folder / f"{hashlib.sha1(key.encode()).hexdigest()}.npy"
        if not cached.exists():
            picture = decode(path, self.resize)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(self.folder).free < picture.nbytes + DISK_RESERVE:
                    warnings.warn(
                        f"{self.folder}: has under {DISK_RESERVE >> 30} GiB to spare, so that pictures are decoded "
                        "again and again; free some space or name another folder with --cache",
                        stacklevel=2,
                    )
                    return picture
                with replacing(cached) as part, part.open("wb") as file:
                    np.save(file, picture)
            except OSError as reason:
                raise DatasetError(
                    f"{cached}: the cache of decoded pictures cannot be written ({reason.strerror or reason}); "
                    "free some space or name another folder with --cache"
                ) from reason
        return np.load(cached, mmap_mode="r")


def decode(path: Path, resize: tuple[int, ...]) -> np.ndarray:
    """As the package reads every picture: upright, its whole range, rounded to 8 bits; alpha is left out."""
    try:
        picture = read_8_bits(path)
    except PictureError as error:
        raise DatasetError(error.of(path)) from error
    return np.asarray(Image.fromarray(picture).resize(resize, Image.Resampling.BICUBIC)) if resize else picture
