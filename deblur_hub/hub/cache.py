"""Files in huggingface_hub's cache that are not what the hub said they are: found, and dropped, so that they come anew.

The client compares a download's length and not its content. In the cache a file is a link to a blob whose name is the
hub's checksum: SHA-256 of large files, git's SHA-1 of small ones.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ..errors import ModelError
from .files import Source

Given = ParamSpec("Given")
Result = TypeVar("Result")

SHA256, SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


def is_damaged(file: Path) -> bool:
    """Whether a file in the cache is known to differ from the hub's: of large files alone, as mirrors name small ones
    in ways of their own."""
    blob = file.resolve()
    return bool(SHA256.fullmatch(blob.name)) and digest(blob, "sha256") != blob.name


def drop(file: Path) -> None:
    """Takes a file out of the cache, its blob and the link to it."""
    for path in {file.resolve(), file}:
        path.unlink(missing_ok=True)


def dropping_what_is_damaged(
    read: Callable[Concatenate[Source, Given], Result],
) -> Callable[Concatenate[Source, Given], Result]:
    """A reading of a model that, where it refuses one, takes those of its files out of the cache that are not proved to
    be the hub's own, so that the next load fetches them anew. To fetch the hub's own again would change nothing."""

    @functools.wraps(read)
    def reading(source: Source, /, *arguments: Given.args, **options: Given.kwargs) -> Result:
        try:
            return read(source, *arguments, **options)
        except ModelError:
            if source.commit:
                for file in source.folder.iterdir():
                    if file.is_file() and not is_proved(file):
                        drop(file)
            raise

    return reading


def is_proved(file: Path) -> bool:
    blob = file.resolve()
    if SHA256.fullmatch(blob.name):
        return digest(blob, "sha256") == blob.name
    return bool(SHA1.fullmatch(blob.name)) and blob.name in (
        digest(blob, "sha1", b"blob %d\0" % blob.stat().st_size),
        digest(blob, "sha1"),
    )


def digest(path: Path, kind: str, before: bytes = b"") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, before, usedforsecurity=False)).hexdigest()
