"""Weights that are spread over several files, and the index that says which file holds which tensor.

The layout is huggingface_hub's: `model.safetensors.index.json` holds {"weight_map": {tensor: file}}, and the files lie
beside it.
"""

import json
import re
from pathlib import Path
from typing import Any

from ..errors import ModelError, shown
from .files import first_line

LONGEST_INDEX = 2**24  # bytes; a hundred for each tensor
BESIDE = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)  # the name of a file, which cannot lead to another folder


def read_index(called: str, path: Path) -> dict[str, str]:
    """The name of the file beside the index that holds each tensor; which are there.

    Args:
        called: the model, for messages.

    Raises:
        ModelError: if the index cannot be read or is none, or names a file that is elsewhere or missing.
    """
    what = f"{called}: {path.name}"
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_INDEX + 1)
        content: Any = json.loads(text) if len(text) <= LONGEST_INDEX else None
    except (OSError, ValueError, RecursionError) as reason:
        raise ModelError(f"{what} cannot be read ({first_line(reason)}); download or save the model again") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{what} has no 'weight_map' of tensors to files; download or save the model again")
    for name in places.values():
        if not isinstance(name, str) or not BESIDE.fullmatch(name):
            raise ModelError(
                f"{what} names {shown(name)}, which is not a safetensors file beside it; nothing else is opened"
            )
    for name in sorted(set(places.values())):
        if not (path.parent / name).is_file():
            raise ModelError(f"{called}: has no {name}, which {path.name} names; download or save the model again")
    return places
