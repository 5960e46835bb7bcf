"""Places behind URIs, such as s3://bucket/in/: found, fetched and written through fsspec (extra `remote`).

A place is a `UPath` of universal_pathlib, which has what is used of a `pathlib.Path` and is typed as one here. What is
worked on is a copy on this machine, so that whoever reads or writes pictures needs to know nothing of it.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from .errors import DeblurHubError, PictureError, reason_of

URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# A file of theirs is there once it is whole. Elsewhere it is written under another name and moved.
WHOLE_FILES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "hf", "memory"}
# What a file system tells of a file that changes with it: the first that it has.
CHANGES = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified", "Last-Modified", "created")


def place(text: str) -> Path:
    """A path on this machine, or that of a URI, whose file system nobody has spoken to yet.

    Raises:
        DeblurHubError: if the package for URIs is missing, or fsspec knows no such file system.
    """
    if not URI.match(text):
        return Path(text)
    if text.lower().startswith("file://"):
        from urllib.request import url2pathname  # which takes as long as all else that help needs

        return Path(url2pathname(urlsplit(text).path))
    try:
        from upath import UPath
    except ImportError:
        raise DeblurHubError(f"{text}: URIs need another package; pip install 'deblur-hub[remote]'") from None
    try:
        found: Path = UPath(text)
    except ImportError as error:
        raise DeblurHubError(f"{text}: cannot be reached without another package ({reason_of(error)})") from None
    except ValueError as error:
        raise DeblurHubError(f"{text}: no file system that fsspec knows ({reason_of(error)}); check the URI") from None
    return found


def is_remote(path: Path) -> bool:
    return not isinstance(path, PurePath)


def files_of(place: Any) -> Any:
    """The file system of a place, for this thread: over SSH, two threads break each other's connection."""
    import fsspec

    return fsspec.filesystem(place.protocol, **place.storage_options)


@contextmanager
def reaching(path: Path, done: str) -> Iterator[None]:
    """Turns what file systems and their packages raise, each its own way, into a PictureError: 'cannot be <done>'."""
    try:
        yield
    except DeblurHubError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{path}: cannot be {done} (not found); check the URI") from error
    except Exception as error:
        reason = " ".join(reason_of(error).split())
        raise PictureError(f"{path}: cannot be {done} ({reason})") from error


def files_below(folder: Any) -> dict[str, dict[str, Any]]:
    """What is told of each file at any depth, by its path in the folder; {} if there is no such folder."""
    with reaching(folder, "listed"):
        files = files_of(folder)
        files.invalidate_cache()
        found = files.find(folder.path, detail=True)
    above = len(folder.path.rstrip("/")) + 1
    return {path[above:]: told for path, told in sorted(found.items())}


def is_below(path: Any, folder: Any) -> bool:
    return is_remote(path) == is_remote(folder) and bool(path.is_relative_to(folder))


def relative(path: Any, folder: Any) -> Path:
    """The path of a file in a folder that it is below."""
    inner = path.path[len(folder.path.rstrip("/")) + 1 :] if is_remote(path) else path.relative_to(folder)
    return Path(inner)


def read_all(folder: Any, names: list[str]) -> dict[str, bytes]:
    """The contents of files in a folder, fetched side by side where the file system can."""
    paths = {(folder / name).path: name for name in names}
    with reaching(folder, "read"):
        return {paths[path]: content for path, content in files_of(folder).cat(list(paths)).items()} if paths else {}


def fetch(source: Any, folder: Path) -> Path:
    """A copy in a folder of this machine, under the source's name."""
    with reaching(source, "fetched"):
        files_of(source).get_file(source.path, str(folder / source.name))
    return folder / str(source.name)


def upload(made: Path, target: Any) -> None:
    """Puts a file of this machine in a place, whole or not at all."""
    with reaching(target, "written"):
        files = files_of(target)
        if target.protocol in WHOLE_FILES:
            files.put_file(str(made), target.path)
            return
        make_folder(files, target.parent.path)
        part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.part").path
        try:
            files.put_file(str(made), part)
            files.mv(part, target.path)
        except BaseException:
            with suppress(Exception):
                files.rm_file(part)
            raise


def make_folder(files: Any, folder: str) -> None:
    if not files.isdir(folder):
        try:
            files.makedirs(folder, exist_ok=True)
        except Exception:
            if not files.isdir(folder):  # nor did another process make it meanwhile
                raise


def state_of(place: Any) -> tuple[int, str] | tuple[None, None]:
    """As `state_told` gives it; (None, None) if there is no such file."""
    with reaching(place, "read"):
        try:
            return state_told(files_of(place).info(place.path))
        except FileNotFoundError:
            return None, None


def state_told(told: Mapping[str, Any]) -> tuple[int, str]:
    """A file's size in bytes, and a text that changes with the file, of what its file system tells."""
    changed = next((told[key] for key in CHANGES if told.get(key)), "")
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    return told["size"], str(int(changed) if isinstance(changed, float) else changed)
