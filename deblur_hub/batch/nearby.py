"""Files on this machine that stand for those behind URIs while they are worked on; others stand for themselves."""

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..remote import fetch, is_remote, upload


class Nearby:
    """A folder of each job, which is there from when its source is fetched until it is dropped."""

    def __init__(self, jobs: Iterable[tuple[Path, Path]]) -> None:
        needed = any(is_remote(path) for job in jobs for path in job)
        self._root = Path(tempfile.mkdtemp(prefix="deblur-hub-")) if needed else None

    def fetched(self, job: int, source: Path) -> Path:
        """Where the source can be read; PictureError if it cannot be fetched."""
        return fetch(source, self._folder(job, "source")) if is_remote(source) else source

    def place(self, job: int, target: Path) -> Path:
        """Where the result is to be written, which `deliver` then takes to its target."""
        return self._folder(job, "target") / target.name if is_remote(target) else target

    def deliver(self, job: int, target: Path) -> None:
        """Raises PictureError if the result cannot be taken there; the target is then as it was."""
        if is_remote(target):
            upload(self.place(job, target), target)

    def drop(self, job: int) -> None:
        if self._root:
            shutil.rmtree(self._root / str(job), ignore_errors=True)

    def close(self) -> None:
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)

    def _folder(self, job: int, name: str) -> Path:
        assert self._root
        for folder in (self._root / str(job), self._root / str(job) / name):  # the root itself never again once closed
            with suppress(FileExistsError):
                folder.mkdir()
        return folder
