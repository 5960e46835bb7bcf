"""What a model's files are called, where it came from, and what is computed of its tensors."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

CONFIG, CARD, GOLDEN = "config.json", "README.md", "golden.safetensors"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Source:
    """Where a model comes from: what messages call it, the folder of its files, and the hub's commit if it has one."""

    name: str
    folder: Path
    commit: str = ""


def weights_file(variant: str | None) -> str:
    """`model.safetensors`, or `model.<variant>.safetensors`."""
    return f"model.{variant}.safetensors" if variant else "model.safetensors"


def index_file(variant: str | None) -> str:
    """The list of the files over which weights are spread, where one would be too large."""
    return f"{weights_file(variant)}.index.json"


def golden_file(variant: str | None) -> str:
    """`golden.safetensors`, or `golden.<variant>.safetensors`: rounded weights give an output of their own."""
    return f"golden.{variant}.safetensors" if variant else GOLDEN


def finite(tensor: Tensor) -> bool:
    """Whether every value is a finite number; counts always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def first_line(reason: Exception) -> str:
    """What an error of a library says, short enough for a sentence of ours."""
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0].rstrip(".")
