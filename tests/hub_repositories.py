"""What the loopback hub holds: repositories with branches, tags and commits, each commit a folder of files."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class Files(Mapping[str, bytes]):
    """The files in a folder by their paths in it, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, path: str) -> bytes:
        if path not in self:
            raise KeyError(path)
        return (self.folder / path).read_bytes()

    def __contains__(self, path: object) -> bool:
        return (self.folder / str(path)).is_file()

    def __iter__(self) -> Iterator[str]:
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return (str(path.relative_to(self.folder)) for path in found)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __or__(self, others: Mapping[str, bytes]) -> dict[str, bytes]:
        return {**self, **others}


class Commits(Mapping[str, Files]):
    """The files of each commit by its hash, oldest first; the first one is empty."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.order = folder, []
        self.add({})

    def add(self, files: Mapping[str, bytes]) -> str:
        names = [len(self.order), sorted((path, sha1(content)) for path, content in files.items())]
        made = sha1(json.dumps(names).encode())
        (self.folder / made).mkdir(parents=True)
        for path, content in files.items():
            (self.folder / made / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / made / path).write_bytes(content)
        self.order.append(made)
        return made

    def __getitem__(self, commit: str) -> Files:
        if commit not in self.order:
            raise KeyError(commit)
        return Files(self.folder / commit)

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


@dataclass
class Repository:
    """Commits, and the branches and tags that point to them; `gated`: seen by all, its files by those with a token."""

    folder: Path
    private: bool = False
    gated: bool = False
    commits: Commits = field(init=False)
    branches: dict[str, str] = field(init=False)
    tags: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commits = Commits(self.folder)
        self.branches = {"main": next(iter(self.commits))}

    def commit(self, branch: str, files: Mapping[str, bytes], title: str = "") -> str:
        self.branches[branch] = made = self.commits.add(files)
        self.titles[made] = title
        return made

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag or a hash stands for; the word itself where there is none."""
        return self.branches.get(revision) or self.tags.get(revision) or revision

    @property
    def head(self) -> Files:
        """The files of the main branch."""
        return self.commits[self.branches["main"]]


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_large(path: str) -> bool:
    """Whether a file goes through the LFS protocol, and not into the commit itself."""
    return path.endswith(".safetensors")


def git_name(content: bytes) -> str:
    """What git calls a file's content."""
    return sha1(b"blob %d\0" % len(content) + content)
