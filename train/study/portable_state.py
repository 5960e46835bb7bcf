"""The state of a run in a few small files of half precision, for moving it to another machine.

    python train/ --output runs/compact --keep-state state/
    accelerate launch train/ --recipe compact --data DATA --output runs/more --resume-from state/

Weights are kept as float16, the moments of optimizers, whose squares are zero in float16, as bfloat16, counts and small
tensors as they are: half of a checkpoint's size.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..recipe import RecipeError

SCHEMA_VERSION = 1
CONTENTS, PATTERN = "state.json", "state{suffix}.safetensors"
MOST_BYTES = 15_500_000  # of a file: below the limits of mail and code forges
LEAST_HALVED = 1024  # values; smaller tensors are kept as they are
OPTIMIZERS = ("optimizer/", "critic_optimizer/")


def pack(state: dict[str, Any], folder: Path) -> list[Path]:
    """Writes a checkpoint, nested dicts and lists of tensors, numbers and texts, to a folder of its own.

    Its files, which are returned, are no larger than `MOST_BYTES` unless a single tensor is.

    Raises:
        RecipeError: if the folder holds other files than an earlier state, or cannot be written; it is then as before.
    """
    if folder.exists() and not (folder / CONTENTS).is_file() and any(folder.iterdir()):
        raise RecipeError(f"{folder}: holds other files; name a new folder for the state")
    tensors: dict[str, Tensor] = {}
    tree = flatten(state, "", tensors)
    kept = {name: halved(name, tensor) for name, tensor in tensors.items()}
    new, former = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    try:
        for old in (new, former):
            shutil.rmtree(old, ignore_errors=True)
        new.mkdir(parents=True)
        files = {}
        shards = split_torch_state_dict_into_shards(kept, filename_pattern=PATTERN, max_shard_size=MOST_BYTES)
        for file, names in shards.filename_to_tensors.items():
            content = save({name: kept[name] for name in names})
            (new / file).write_bytes(content)
            files[file] = hashlib.sha256(content).hexdigest()
        types = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
        contents = {"schema_version": SCHEMA_VERSION, "files": files, "types": types, "state": tree}
        (new / CONTENTS).write_text(json.dumps(contents) + "\n")
        if folder.exists():
            folder.rename(former)
        new.rename(folder)
        shutil.rmtree(former, ignore_errors=True)
    except OSError as reason:
        shutil.rmtree(new, ignore_errors=True)
        raise RecipeError(f"{folder}: the state cannot be written ({reason.strerror}); free some space") from reason
    return [folder / CONTENTS, *(folder / file for file in files)]


def unpack(folder: Path) -> dict[str, Any]:
    """The state that `pack` wrote, rounded to half precision, in its former types.

    Raises `RecipeError` if there is no such state, or a file of it is missing or damaged.
    """
    try:
        contents = json.loads((folder / CONTENTS).read_text())
        if contents["schema_version"] != SCHEMA_VERSION:
            raise RecipeError(f"{folder}: a state of another version ({contents['schema_version']}); update deblur-hub")
        tensors = {}
        for file, checksum in contents["files"].items():
            content = (folder / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != checksum:
                raise RecipeError(f"{folder / file}: is damaged; copy it again from where the state was kept")
            tensors |= load(content)
        restored = {name: tensors[name].to(getattr(torch, kind)) for name, kind in contents["types"].items()}
        state: dict[str, Any] = unflatten(contents["state"], restored)
    except OSError as reason:
        advice = "--resume-from takes a folder that --keep-state wrote"
        raise RecipeError(f"{reason.filename}: cannot be read ({reason.strerror}); {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as reason:
        kind = type(reason).__name__
        raise RecipeError(f"{folder}: not a state that --keep-state wrote ({kind}); copy it again") from reason
    return state


def flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON, with names in place of tensors, which are added to `tensors`.

    A dict becomes a list of pairs, as the keys of optimizers' states are numbers, which JSON would make strings.
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[key, flatten(part, f"{name}/{key}".strip("/"), tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [flatten(part, f"{name}/{place}", tensors) for place, part in enumerate(value)]
    return value


def unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [unflatten(part, tensors) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    return {key: unflatten(part, tensors) for key, part in tree["pairs"]}


def halved(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or tensor.numel() < LEAST_HALVED:
        return tensor.contiguous()
    if name.startswith(OPTIMIZERS) or tensor.abs().max() > torch.finfo(torch.float16).max:
        return tensor.bfloat16().contiguous()
    return tensor.half().contiguous()
