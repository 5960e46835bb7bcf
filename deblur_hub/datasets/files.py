"""Picture files and the folders that hold them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DatasetError, PictureError
from ..pictures import upright_size
from ..pictures.suffixes import MISSED, RAW_SUFFIXES, picture_suffixes

NAMED = 3  # files that a sentence names


def folders_below(root: Path) -> Iterator[Path]:
    """`root` and every folder below it, in the order of their names; links are followed, no folder is visited twice."""
    visited = set()
    for folder, inner, _ in os.walk(root, followlinks=True):
        inner.sort()
        place = os.path.realpath(folder)
        if place in visited:
            inner.clear()
        else:
            visited.add(place)
            yield Path(folder)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name; hidden files are passed over."""
    taken = picture_suffixes() - RAW_SUFFIXES  # which lie beside their JPEGs, under the same name
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in taken and not path.name.startswith(".") and path.is_file()
    )


def missed_note(root: Path) -> list[str]:
    """A sentence on pictures below a folder that are of a kind not read here, if there are any."""
    missed = MISSED - (picture_suffixes() - RAW_SUFFIXES)
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in missed and path.is_file()]
    return [f"{passed_over(files)}, not read here (convert them to JPEG or PNG first): {named(files)}"] if files else []


def passed_over(files: Sequence[Path]) -> str:
    return f"{len(files)} file{'' if len(files) == 1 else 's'} passed over"


def named(files: Sequence[Path]) -> str:
    """The first names, and how many more of which suffix."""
    more = Counter(path.suffix.lower() for path in files[NAMED:])
    return ", ".join(path.name for path in files[:NAMED]) + "".join(
        f", {n} more {suffix}" for suffix, n in more.items()
    )


def by_stem(folder: Path, *, prefix: str = "", kinds: tuple[str, ...] = ()) -> dict[str, Path]:
    """The pictures at any depth below a folder, by their path in it without suffix; hidden folders are passed over.

    Args:
        prefix: removed from the names of the files.
        kinds: names of folders, such as `sharp`, that are removed from the paths. If any pictures lie in such folders,
            only those are taken, so that a set in GoPro's own layout can be named as well as a plain folder.

    Raises:
        DatasetError: if two pictures would have one name.
    """
    found = [path for inner in folders_below(folder) for path in pictures_in(inner)]
    below = {path: path.relative_to(folder).parts[:-1] for path in found}
    found = [path for path in found if not any(part.startswith(".") for part in below[path])]
    pictures: dict[str, Path] = {}
    for path in [path for path in found if set(below[path]) & set(kinds)] or found:
        stem = "/".join([*(part for part in below[path] if part not in kinds), path.stem.removeprefix(prefix)])
        if stem in pictures:
            raise DatasetError(
                f"{path}: has the name of {pictures[stem]}, so that its partner is not clear; take one of the two out"
            )
        pictures[stem] = path
    return dict(sorted(pictures.items()))


def require_one_size(path: Path, sharp: Path) -> None:
    """Raises DatasetError if a picture and its sharp partner differ in size."""
    (width, height), wanted = picture_size(path), picture_size(sharp)
    if (width, height) != wanted:
        raise DatasetError(
            f"{path}: {width}x{height} pixels, but its sharp partner {sharp} has {wanted[0]}x{wanted[1]}; "
            "partners must have one size"
        )


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as the picture is shown, from the header alone; DatasetError if the file is no picture."""
    try:
        return upright_size(path)
    except PictureError as error:
        raise DatasetError(error.of(path)) from error
