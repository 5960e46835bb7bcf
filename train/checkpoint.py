"""Checkpoints of a run: a kill at any moment leaves a whole one."""

import contextlib
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from deblur_hub.atomic import replacing

from .recipe import RecipeError

SCHEMA_VERSION = 1


class Checkpoints:
    """The `keep` newest checkpoints of a run, `step-0001000.pt` and so on; older ones go once a new one is whole.

    `last.pt` is a hard link to the newest; on file systems without hard links there is none.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.last = folder / "last.pt"

    def paths(self) -> list[Path]:
        """Newest first; `last.pt` is at the end if it is a file of its own, as earlier versions wrote it."""
        found = sorted(self.folder.glob("step-*.pt"), reverse=True)
        if self.last.is_file() and not any(self.last.samefile(path) for path in found):
            found.append(self.last)
        return found

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Writes the state at a step; raises `RecipeError` if the disk refuses, with the folder as before."""
        path = self.folder / f"step-{step:07d}.pt"
        save_checkpoint(path, state)
        link(path, self.last)
        for old in (*self.paths()[self.keep :], *self.folder.glob("*.part")):  # the latter of sessions that were killed
            if old != path:
                old.unlink(missing_ok=True)

    def newest(self) -> tuple[Path, dict[str, Any]]:
        """The newest whole checkpoint, else `RecipeError`; prints a sentence for each newer one that is broken."""
        paths = self.paths()
        for path in paths:
            try:
                return path, load_checkpoint(path)
            except RecipeError as reason:
                if path is paths[-1]:
                    raise
                print(f"train: {str(reason).partition(';')[0]}; going on from the one before", file=sys.stderr)
        raise RecipeError(f"{self.last}: there is no checkpoint to resume from; start without --resume")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and texts in nested dicts and lists.

    Raises `RecipeError` if the disk refuses; what `path` held before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=True) as part, part.open("wb") as file:
            torch.save({"schema_version": SCHEMA_VERSION} | state, file)
    except (OSError, RuntimeError) as caught:
        # What stops torch's writer comes out of it as a RuntimeError about a position in the file.
        reason = caught.__context__ if isinstance(caught, RuntimeError) and caught.__context__ else caught
        if isinstance(reason, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise RecipeError(
            f"{path}: the checkpoint cannot be written ({reason}); free some space, then go on with "
            "--resume from the one before"
        ) from caught


def link(path: Path, name: Path) -> None:
    """Gives a file a second name in its folder, in place of a file of that name."""
    new = name.with_suffix(".link")
    new.unlink(missing_ok=True)
    try:
        os.link(path, new)
        new.replace(name)
    except OSError:  # a file system without links: the newest is found by its own name
        with contextlib.suppress(OSError):
            name.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote, onto the CPU, without unpickling objects.

    Raises `RecipeError` if there is none, or it is not one of ours, or its checksums do not match.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: there is no checkpoint to resume from; start without --resume")
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch does not check
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:
        advice = "take another or start without --resume"
        raise RecipeError(f"{path}: not a checkpoint that can be read ({type(reason).__name__}); {advice}") from reason
    if not isinstance(state, dict) or state.get("schema_version") != SCHEMA_VERSION:
        raise RecipeError(f"{path}: not a checkpoint of this version; start without --resume")
    return state
