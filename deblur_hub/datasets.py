"""Finds the pictures of paired sets on disk, and says what is wrong with a set before any work on it starts."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .errors import DatasetError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
SHARP = "sharp"


@dataclass(frozen=True)
class Pair:
    """A blurred picture and its sharp partner, of one size; `scene` is the folder that holds both folders."""

    blurred: Path
    sharp: Path
    scene: str

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.blurred.name}" if self.scene else self.blurred.name


def find_pairs(root: Path, *, blur: str = "blur") -> list[Pair]:
    """All pairs below `root`, sorted: every folder that holds both a `blur` and a `sharp` folder is a scene.

    This reads two plain folders as well as GoPro's own layout (`train/GOPR0372_07_00/{blur,sharp}`). Partners have
    the same name, whatever their suffix.

    Args:
        blur: the name of the folder with the blurred pictures: `blur`, or GoPro's `blur_gamma`.

    Returns:
        The pairs; empty if there is no scene.

    Raises:
        DatasetError: if `root` is no folder, a picture lacks its partner or has two, or the sizes of the two differ.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that holds the pictures")
    pairs = []
    for folder in folders_below(root):
        if (folder / blur).is_dir() and (folder / SHARP).is_dir():
            scene = folder.relative_to(root).as_posix()
            pairs += pair_up(folder / blur, folder / SHARP, "" if scene == "." else scene)
    return pairs


def pair_up(blurred: Path, sharp: Path, scene: str) -> list[Pair]:
    """The pairs of two folders, sorted by name; errors as in `find_pairs`."""
    left, right = by_stem(blurred), by_stem(sharp)
    for name in sorted(left.keys() ^ right.keys()):
        have, lack = (left, sharp) if name in left else (right, blurred)
        raise DatasetError(f"{have[name]}: has no partner of that name in {lack}; add it or take this one out")
    pairs = [Pair(left[name], right[name], scene) for name in sorted(left)]
    for pair in pairs:
        sizes = picture_size(pair.blurred), picture_size(pair.sharp)
        if sizes[0] != sizes[1]:
            raise DatasetError(
                f"{pair.blurred}: {sizes[0][0]}x{sizes[0][1]} pixels, but its sharp partner "
                f"{pair.sharp} has {sizes[1][0]}x{sizes[1][1]}; partners must have one size"
            )
    return pairs


def by_stem(folder: Path) -> dict[str, Path]:
    """A folder's pictures by name without suffix; `DatasetError` where two would be one."""
    pictures: dict[str, Path] = {}
    for path in pictures_in(folder):
        if path.stem in pictures:
            raise DatasetError(
                f"{path}: has the name of {pictures[path.stem].name} beside it, so that its partner is "
                "not clear; take one of the two out"
            )
        pictures[path.stem] = path
    return pictures


def folders_below(root: Path) -> Iterator[Path]:
    """`root` and every folder below it, in the order of their names."""
    for folder, inner, _ in os.walk(root):
        inner.sort()
        yield Path(folder)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name; hidden files are passed over."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )


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
