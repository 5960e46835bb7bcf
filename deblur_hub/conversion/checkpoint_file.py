"""Files of tensors, opened without running what is in them, and the wrappings that authors put around a state dict."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ModelError
from ..hub import first_line
from . import keras

# Where authors keep the generator's state dict inside a file, the one to take first: moving averages of the weights.
AVERAGES = ("params_ema", "ema")
WRAPPED = ("params", "state_dict", "model_state_dict", "model", keras.MODEL, "generator", "netG", "G", "weights")
PREFIXES = ("module.", "_orig_mod.", "netG.")  # of DataParallel, torch.compile, and a trainer's attribute
HDF5, SAFETENSORS = b"\x89HDF", ".safetensors"


def load_folder(folder: Path) -> dict[str, Any]:
    """The tensors of a network that is kept as several .pkl files, under the stems of these."""
    parts = sorted(folder.glob("*.pkl"))
    if not parts:
        raise ModelError(f"{folder}: a folder without .pkl parts; give the checkpoint file itself")
    return {f"{part.stem}.{key}": tensor for part in parts for key, tensor in state_dict(load(part), part)[0].items()}


def load(source: Path) -> Any:
    """What is in a file; `ModelError` if it cannot be read, or not without running code."""
    try:
        if source.suffix == SAFETENSORS:
            return load_file(source)
        with source.open("rb") as file:
            if file.read(4) == HDF5:
                return keras.load(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a pickle protocol that it may not read: it says if so
            return torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{source}: no such file; check the path") from None
    except pickle.UnpicklingError as reason:
        needs = str(reason).partition("GLOBAL ")[2].split(" ")[0]
        raise ModelError(
            f"{source}: needs more than tensors to be read{f' ({needs})' if needs else ''}, which could run code of "
            "the file's maker; ask for a file with the state dict alone"
        ) from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as reason:
        raise ModelError(f"{source}: cannot be read ({first_line(reason)}); download it again") from None


def state_dict(content: Any, source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The generator's tensors by name, without what authors wrap around them, and what is passed over and why."""
    passed_over: dict[str, str] = {}
    tensors = unwrapped(content, "", passed_over)
    if not tensors:
        raise ModelError(f"{source}: holds no tensors by name; give the file with the generator's state dict")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors, passed_over


def unwrapped(content: Any, path: str, passed_over: dict[str, str]) -> dict[str, Tensor]:
    """The state dict inside whatever is around it; what lies beside it is noted in `passed_over`."""
    if not isinstance(content, dict):
        return {}
    for name in AVERAGES + WRAPPED:
        inner = content.get(name)
        worth = isinstance(inner, dict) and any(isinstance(value, Tensor | dict) for value in inner.values())
        if worth and (found := unwrapped(inner, f"{path}{name}.", passed_over)):
            beside = f"beside '{name}', which holds the generator"
            passed_over |= {f"{path}{key}": beside for key in content if key != name}
            return found
    passed_over |= {f"{path}{key}": "no tensor" for key, value in content.items() if not isinstance(value, Tensor)}
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
