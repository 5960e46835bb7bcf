"""Files that appear whole or not at all: written beside the target under another name, then renamed.

with replacing(target) as part:
    picture.save(part, "PNG")

Errors pass through as they are; their wording is the caller's.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(target: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a path beside the target that becomes the target on success and is removed on failure.

    Until then a file that was there stays as it was. The path, `.<target's name>.<random>.part`, is unique to the call,
    so threads and processes may write one target at once: the last one wins.

    Args:
        target: in a folder that exists.
        durable: flushes the file to the disk before it is renamed, so that it is whole after a power cut, too.
    """
    name = target.name[:40]  # a long name and what is added to it might together be too long for the file system
    part = target.with_name(f".{name}.{secrets.token_hex(6)}.part")
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_text(target: Path, text: str) -> None:
    """Writes UTF-8 text durably, and makes the target's folder if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, durable=True) as part:
        part.write_text(text, encoding="utf-8")
