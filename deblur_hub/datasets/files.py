"""Picture files and the folders that hold them."""

import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..errors import DatasetError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


def folders_below(root: Path) -> Iterator[Path]:
    """`root` and every folder below it, in the order of their names; links are followed, no folder is met twice."""
    met = set()
    for folder, inner, _ in os.walk(root, followlinks=True):
        inner.sort()
        place = os.path.realpath(folder)
        if place in met:
            inner.clear()
        else:
            met.add(place)
            yield Path(folder)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name; hidden files are passed over."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )


def by_stem(folder: Path, prefix: str = "") -> dict[str, Path]:
    """The pictures of a folder and of those below it, by their path in it without suffix and without `prefix`.

    Raises:
        DatasetError: where two would be one.
    """
    pictures: dict[str, Path] = {}
    for inner in folders_below(folder):
        for path in pictures_in(inner):
            stem = (inner.relative_to(folder) / path.stem.removeprefix(prefix)).as_posix()
            if stem in pictures:
                raise DatasetError(
                    f"{path}: has the name of {pictures[stem].name} beside it, so that its partner is "
                    "not clear; take one of the two out"
                )
            pictures[stem] = path
    return pictures


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) from the header alone.

    Raises:
        DatasetError: if the file is no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.size
    except Exception as reason:
        raise DatasetError(f"{path}: not a picture that can be read ({type(reason).__name__}); replace it") from reason
