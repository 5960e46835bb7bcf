"""Decoded pictures on the disk: each is decoded once for all workers, runs and processes."""

import hashlib
import secrets
import shutil
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from deblur_hub.errors import DatasetError

DISK_RESERVE = 2 * 2**30  # bytes that the cache leaves to checkpoints and others


class PictureCache:
    """Decoded pictures as memory-mapped arrays in a folder: each is decoded once for all workers, runs, processes.

    Each is a `.npy` file that is put in place whole, so that any number of processes may build the cache at once, and
    a kill leaves none that is cut short. Where the disk has no room to spare, pictures are decoded again each time.
    """

    def __init__(self, folder: Path, *, resize: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.resize = resize

    def __call__(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, read-only.

        Raises:
            DatasetError: if the picture cannot be decoded, or the cache cannot be written.
        """
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{self.resize}"
        cached = self.folder / f"{hashlib.sha1(key.encode()).hexdigest()}.npy"
        if not cached.exists():
            aside = cached.with_suffix(f".{secrets.token_hex(8)}.part")
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
                with aside.open("wb") as file:
                    np.save(file, picture)
                aside.replace(cached)
            except OSError as reason:
                raise DatasetError(
                    f"{cached}: the cache of decoded pictures cannot be written "
                    f"({reason.strerror or reason}); free some space or name another folder with "
                    "--cache"
                ) from reason
            finally:
                if self.folder.is_dir():
                    aside.unlink(missing_ok=True)
        return np.load(cached, mmap_mode="r")


def decode(path: Path, resize: tuple[int, ...]) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
            return np.asarray(picture.resize(resize, Image.Resampling.BICUBIC) if resize else picture)
    except Exception as reason:
        raise DatasetError(f"{path}: cannot be decoded ({reason}); replace it or take it out") from reason
