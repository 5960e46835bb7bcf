"""Journals: which results below a folder are done, of which photo and with which settings.

A line of JSON is added before a result is written and another one after, so that a run that is killed at any moment
leaves no result that the next one does not know. Several processes write a file each, and read all.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from .. import __version__, remote
from ..generator import DeblurGenerator
from ..remote import is_remote

NAME = ".deblur-hub"  # of the files, with the rank of a process behind it, and ".jsonl"
State = tuple[int, int | str] | tuple[None, None]  # size in bytes and last change; None of a file that is not there


@dataclass(frozen=True)
class Entry:
    """A result: of what it was made, and once it is there, its size in bytes and the time of its last change."""

    source: str  # the photo's `identity`
    settings: str  # as `fingerprint` gives it
    size: int | None = None
    changed: int | str | None = None


class Journal:
    """Of the results in one folder: a file of lines for each process, in the folder itself."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.file = folder, folder / f"{NAME}{f'.{rank}' if rank else ''}.jsonl"

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """As they were when they were first asked for."""
        found: dict[str, Entry] = {}
        for file in sorted(self.folder.glob(f"{NAME}*.jsonl"), key=lambda file: file.stat().st_mtime_ns):
            found |= entries_of(file.read_text(encoding="utf-8", errors="replace"))
        return found

    def add(self, name: str, entry: Entry) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line_of(name, entry))

    def state(self, name: str) -> State:
        return state_of(self.folder / name)


class RemoteJournal(Journal):
    """An object for each result, below `.deblur-hub/`: object stores have no files that lines can be added to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def found(self) -> dict[str, dict[str, Any]]:
        return remote.files_below(self.folder)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        records = [name for name in self.found if name.startswith(f"{NAME}/")]
        read = remote.read_all(self.folder, records).values()
        return entries_of("\n".join(text.decode(errors="replace") for text in read))

    def add(self, name: str, entry: Entry) -> None:
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "record"
            record.write_text(line_of(name, entry), encoding="utf-8")
            remote.upload(record, self.folder / NAME / f"{name}.json")

    def state(self, name: str) -> State:
        return remote.state_told(self.found[name]) if name in self.found else (None, None)


class Journals:
    """One for all results below an output folder, or one in each folder that results are written to.

    Args:
        settings: what every result of this run is made with.
        output: the folder, if it is one.
        rank: of this process among those that share the work.
    """

    def __init__(self, settings: str, output: Path | None = None, rank: int = 0) -> None:
        self.settings, self.output, self.rank = settings, output, rank
        self._journals: dict[Path, Journal] = {}

    def is_ours(self, target: Path) -> bool:
        """Whether an earlier run wrote this file, or was about to, and nobody has changed it since."""
        journal, name = self._place(target)
        entry = journal.entries.get(name)
        return entry is not None and (entry.size is None or (entry.size, entry.changed) == journal.state(name))

    def is_done(self, source: Path, target: Path) -> bool:
        """Whether the target holds this photo, restored with these settings; an error if a file cannot be read."""
        journal, name = self._place(target)
        entry = journal.entries.get(name)
        return (
            entry is not None
            and entry.settings == self.settings
            and entry.size is not None
            and (entry.size, entry.changed) == journal.state(name)
            and entry.source == identity(source)
        )

    def begin(self, source: Path, target: Path) -> Entry:
        entry = Entry(identity(source), self.settings)
        self._add(target, entry)
        return entry

    def finish(self, target: Path, begun: Entry) -> None:
        self._add(target, Entry(begun.source, begun.settings, *state_of(target)))

    def give_up(self, target: Path) -> None:
        """Nothing was written, so that a file which lies there, or may one day, is not ours."""
        self._add(target, Entry("", "", 0, 0))

    def _add(self, target: Path, entry: Entry) -> None:
        journal, name = self._place(target)
        journal.add(name, entry)

    def _place(self, target: Path) -> tuple[Journal, str]:
        """The journal of a result, and the name of the result in it."""
        folder, name = target.parent, target.name
        if self.output is not None and target != self.output and remote.is_below(target, self.output):
            folder, name = self.output, remote.relative(target, self.output).as_posix()
        if folder not in self._journals:
            self._journals[folder] = RemoteJournal(folder) if is_remote(folder) else Journal(folder, self.rank)
        return self._journals[folder], name


def line_of(name: str, entry: Entry) -> str:
    return f"{json.dumps({'result': name, **vars(entry)})}\n"


def entries_of(text: str) -> dict[str, Entry]:
    """The last entry of each result; a line that a power cut left unfinished is passed over."""
    found = {}
    for line in text.splitlines():
        try:
            held = json.loads(line)
            result = str(held.pop("result"))
            found[result] = Entry(**held)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


def state_of(target: Path) -> State:
    if is_remote(target):
        return remote.state_of(target)
    try:
        found = target.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def identity(source: Path) -> str:
    """SHA-256 of a file's content. Behind a URI it is what is told of the file: nothing is fetched to be skipped."""
    if is_remote(source):
        return " ".join(map(str, remote.state_of(source)))
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(generator: DeblurGenerator, settings: Mapping[str, object]) -> str:
    """A digest of all that a result depends on besides its photo: the version, the weights and the settings."""
    made = hashlib.sha256(json.dumps([__version__, vars(generator.config), settings], default=str).encode())
    for name, tensor in sorted(generator.network.state_dict().items()):
        made.update(name.encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return made.hexdigest()
