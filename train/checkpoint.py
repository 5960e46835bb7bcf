"""The state of a run on disk: written aside, flushed, then renamed, so that a kill at any moment leaves a whole one."""

import os
from pathlib import Path
from typing import Any

import torch

from .recipe import RecipeError

SCHEMA_VERSION = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and texts in nested dicts and lists.

    Raises:
        RecipeError: if the disk refuses; what `path` held before is untouched.
    """
    aside = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            torch.save({"schema_version": SCHEMA_VERSION} | state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, RuntimeError, KeyboardInterrupt) as caught:
        aside.unlink(missing_ok=True)
        # What stops torch's writer comes out of it as a RuntimeError about a position in the file.
        reason = caught.__context__ if isinstance(caught, RuntimeError) and caught.__context__ else caught
        if isinstance(reason, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise RecipeError(
            f"{path}: the checkpoint cannot be written ({reason}); free some space, then go on with "
            "--resume from the one before"
        ) from caught


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote, onto the CPU, and nothing that needs unpickling.

    Raises:
        RecipeError: if there is none, or it is not one of ours.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: there is no checkpoint to resume from; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:
        raise RecipeError(
            f"{path}: not a checkpoint that can be read ({type(reason).__name__}); "
            "take another or start without --resume"
        ) from reason
    if not isinstance(state, dict) or state.get("schema_version") != SCHEMA_VERSION:
        raise RecipeError(f"{path}: not a checkpoint of this version; start without --resume")
    return state
