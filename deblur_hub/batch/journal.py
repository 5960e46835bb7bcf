"""Journals: which results below a folder are done, of which photo and with which settings.

A line of JSON is added before a result is written and another one after, so that a run that is killed at any moment
leaves no result that the next one does not know. Several processes write a file each, and read all.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import __version__
from ..generator import DeblurGenerator

NAME = ".deblur-hub"  # of the files, with the rank of a process behind it, and ".jsonl"


@dataclass(frozen=True)
class Entry:
    """A result: of what it was made, and once it is there, its size in bytes and the time of its last change."""

    source: str  # SHA-256 of the photo's file
    settings: str  # as `fingerprint` gives it
    size: int | None = None
    changed: int | None = None


class Journals:
    """One for all results below an output folder, or one in each folder that results are written to.

    Args:
        settings: what every result of this run is made with.
        output: the folder, if it is one.
        rank: of this process among those that share the work.
    """

    def __init__(self, settings: str, output: Path | None = None, rank: int = 0) -> None:
        self.settings, self.output = settings, output
        self.name = f"{NAME}{f'.{rank}' if rank else ''}.jsonl"
        self._folders: dict[Path, dict[str, Entry]] = {}

    def is_ours(self, target: Path) -> bool:
        """Whether an earlier run wrote this file, or was about to, and nobody has changed it since."""
        entry = self._entry(target)
        return entry is not None and (entry.size is None or (entry.size, entry.changed) == state_of(target))

    def is_done(self, source: Path, target: Path) -> bool:
        """Whether the target holds this photo, restored with these settings; OSError if a file cannot be read."""
        entry = self._entry(target)
        return (
            entry is not None
            and entry.settings == self.settings
            and entry.size is not None
            and (entry.size, entry.changed) == state_of(target)
            and entry.source == digest(source)
        )

    def begin(self, source: Path, target: Path) -> Entry:
        entry = Entry(digest(source), self.settings)
        self._add(target, entry)
        return entry

    def finish(self, target: Path, begun: Entry) -> None:
        self._add(target, Entry(begun.source, begun.settings, *state_of(target)))

    def give_up(self, target: Path) -> None:
        """Nothing was written, so that a file which lies there, or may one day, is not ours."""
        self._add(target, Entry("", "", 0, 0))

    def _add(self, target: Path, entry: Entry) -> None:
        folder, name = self._place(target)
        self._entries(folder)[name] = entry
        line = json.dumps({"result": name, **vars(entry)})
        with (folder / self.name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _entry(self, target: Path) -> Entry | None:
        folder, name = self._place(target)
        return self._entries(folder).get(name)

    def _place(self, target: Path) -> tuple[Path, str]:
        """The folder of a result's journal, and the name of the result in it."""
        if self.output is not None and target != self.output and target.is_relative_to(self.output):
            return self.output, target.relative_to(self.output).as_posix()
        return target.parent, target.name

    def _entries(self, folder: Path) -> dict[str, Entry]:
        if folder not in self._folders:
            self._folders[folder] = {}
            for file in sorted(folder.glob(f"{NAME}*.jsonl"), key=lambda file: file.stat().st_mtime_ns):
                self._folders[folder].update(read(file))
        return self._folders[folder]


def read(file: Path) -> dict[str, Entry]:
    """The last entry of each result; a line that a power cut left unfinished is passed over."""
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            held = json.loads(line)
            result = str(held.pop("result"))
            found[result] = Entry(**held)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


def state_of(target: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        found = target.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def digest(source: Path) -> str:
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(generator: DeblurGenerator, settings: Mapping[str, object]) -> str:
    """A digest of all that a result depends on besides its photo: the version, the weights and the settings."""
    made = hashlib.sha256(json.dumps([__version__, vars(generator.config), settings], default=str).encode())
    for name, tensor in sorted(generator.network.state_dict().items()):
        made.update(name.encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return made.hexdigest()
