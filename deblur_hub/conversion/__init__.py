"""Published checkpoints of the peers into our format: recognised by keys and shapes alone, and strictly.

Every tensor of a file is either used or listed as dropped with the reason. One module a layout; `checkpoint_file`
opens the files.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import GeneratorConfig
from ..errors import ModelError
from ..generator import DeblurGenerator
from ..hub.reading import build_configured as build
from ..model_card import converted_card
from ..networks import PRESETS
from ..networks.state import cast_floats
from . import deblurgan, deblurgan_v2, deepdeblur, dmphn, keras, maxim, mimo_unet, nafnet, srn, tensorflow_js
from .checkpoint_file import load, load_folder, state_dict
from .layout import Converted
from .tensorflow_checkpoint import is_checkpoint
from .tensorflow_checkpoint import load as load_tensorflow
from .trial import trial

# The `recognise` of each is None for tensors of another layout; those that are cut down or altered it refuses.
LAYOUTS = (deblurgan, deblurgan_v2, mimo_unet, nafnet, deepdeblur, srn, dmphn, maxim, keras)
AVERAGE = "average"  # of the weights, in what our own training keeps


def convert(source: Path, folder: Path, *, name: str = "", overwrite: bool = False) -> Converted:
    """Writes a model folder, as `save_pretrained` does, from an author's checkpoint.

    Args:
        source: a file of tensors (.pth, .pt, .pkl, .h5 of PyTorch or Keras 2, .safetensors, MAXIM's .npz), the folder
            of a TensorFlow.js graph model, a TensorFlow checkpoint's prefix or any of its files, or DMPHN's folder of
            parts.
        name: of the model; the architecture's by default.

    Raises:
        ModelError: if the file needs more than tensors to be unpickled, is of no known layout, or does not fit the
            network that it looks like; nothing is then written.
    """
    if (folder / "config.json").exists() and not overwrite:
        raise ModelError(f"{folder}: holds a model already; give --overwrite to replace it, or name another folder")
    if (source / "config.json").exists():
        raise ModelError(f"{source}: is a model folder already; give it to from_pretrained or --model as it is")
    converted = read(source)
    generator = assembled(converted, source, name)
    generator.save_pretrained(folder, card=converted_card(generator.config, converted.layout, source.name))
    return replace(converted, tried=trial(generator))


def read(source: Path) -> Converted:
    """What a checkpoint is; `ModelError` as `convert`."""
    if tensorflow_js.is_model(source):
        return recognise(maxim.from_graph(tensorflow_js.read(source), source), source)
    if source.suffix == ".npz":
        tensors, passed_over = maxim.from_npz(source)
    elif is_checkpoint(source):
        tensors, passed_over = load_tensorflow(source)
    else:
        content = load_folder(source) if source.is_dir() else load(source)
        if isinstance(content, dict) and {"schema_version", "recipe", AVERAGE} <= content.keys():
            return from_run(content)
        tensors, passed_over = state_dict(content, source)
    converted = recognise(tensors, source)
    return replace(converted, dropped=passed_over | converted.dropped)


def from_run(state: dict[str, Any]) -> Converted:
    """The averaged generator in `checkpoints/last.pt` of our own training."""
    recipe = json.loads(state["recipe"])
    architecture, options = PRESETS.get(recipe["generator"], (recipe["generator"], {}))
    options = {key: value for key, value in (options | recipe["network"]).items() if key != "dropout"}
    dropped = {key: "of the run, not of the model" for key in state if key != AVERAGE}
    return Converted(f"training state of recipe '{recipe['name']}'", architecture, options, state[AVERAGE], dropped)


def recognise(tensors: dict[str, Tensor], source: Path) -> Converted:
    """What a file's tensors are; `ModelError` if no layout is theirs, or one is neither used nor dropped."""
    for layout in LAYOUTS:
        try:
            converted: Converted | None = layout.recognise(tensors)
        except ModelError as reason:
            raise ModelError(f"{source}: {reason}") from None
        if converted is not None:
            return converted
    example = ", ".join(f"'{key:.60}' {list(tensor.shape)}" for key, tensor in list(tensors.items())[:2])
    raise ModelError(
        f"{source}: {len(tensors)} tensors ({example} ...) of a layout that is not known; it must be a generator of "
        "DeblurGAN (PyTorch, Keras), DeblurGAN-v2, MIMO-UNet, NAFNet, DeepDeblur, SRN, DMPHN, MAXIM, "
        "and our own training's"
    )


def assembled(converted: Converted, source: Path, name: str) -> DeblurGenerator:
    """The generator with the converted tensors, every one in its place."""
    config = GeneratorConfig(converted.architecture, dict(converted.options), name)
    with torch.device("meta"):
        network = build(config, str(source))
    wanted = network.state_dict()
    for key in wanted.keys() | converted.tensors.keys():
        found, place = converted.tensors.get(key), wanted.get(key)
        if found is None or place is None or found.shape != place.shape:
            raise ModelError(
                f"{source}: looks like {converted.layout}, but does not fit it: '{key}' is "
                f"{'missing' if found is None else list(found.shape)} where the network has "
                f"{'nothing' if place is None else list(place.shape)}; the file may be cut or altered"
            )
        if found.is_floating_point() and not torch.isfinite(found).all():
            raise ModelError(f"{source}: '{key}' holds values that are not finite; take an earlier checkpoint")
    floats = cast_floats(converted.tensors, torch.float32)
    network.load_state_dict({key: tensor.detach().clone() for key, tensor in floats.items()}, strict=True, assign=True)
    return DeblurGenerator(config, network).eval()
