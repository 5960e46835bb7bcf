"""The Keras port of DeblurGAN (RaphaelMeudec/deblur-gan, `generator*.h5`): HDF5 as Keras 2 writes it.

Keras numbers layers by all that a process has made before, so a layer is known by its place in the file's own list and
by its shapes. The file is read as arrays and texts; the model's description inside, which may hold code, is not.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError, shown
from ..networks import PRESETS
from .layout import Converted, unlike

if TYPE_CHECKING:
    import h5py

LAYOUT = "DeblurGAN (RaphaelMeudec, Keras)"
MODEL, LAYERS, WEIGHTS, LOOSE = "model_weights", "layer_names", "weight_names", "top_level_model_weights"
SUFFIX = ":0"  # of every weight's name
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
KERAS_EPSILON, OUR_EPSILON = 1e-3, 1e-5  # of batch normalisation
GIVE = "give the port's generator*.h5, as save_weights or save of Keras 2 wrote it"

Layer = dict[str, Tensor]


def load(source: Path) -> dict[str, Any]:
    """The weights of a Keras file by "layer/weight's own name:0", in its order, in float32 and as Keras lays them out;
    of a whole model, under `MODEL` and beside what else is in it."""
    try:
        import h5py
    except ImportError:
        raise ModelError(
            f"{source}: is an HDF5 file, as Keras writes, which takes h5py to read; run pip install "
            "'deblur-hub[convert]'"
        ) from None
    try:
        with h5py.File(source, "r") as file:
            if MODEL not in file:
                return weights(file)
            if not isinstance(file.get(MODEL, getlink=True), h5py.HardLink):
                raise ModelError(f"its '{MODEL}' lies in another file or place; {GIVE}")
            beside = {name: None for name in file if name != MODEL}
            return {MODEL: weights(file[MODEL]), **beside}
    except ModelError as reason:
        raise ModelError(f"{source}: {reason}") from None
    except (TypeError, OverflowError, MemoryError) as reason:  # others, `checkpoint_file` makes a sentence of
        raise ModelError(f"{source}: cannot be read ({reason!s:.200}); download it again") from None


def weights(group: "h5py.Group") -> dict[str, Tensor]:
    """What a group with a list of layers holds; `ModelError` if that is more or less than is listed."""
    import h5py

    layers = names(group.attrs, LAYERS)
    if layers is None:
        if "layers" in group or "_layer_checkpoint_dependencies" in group:
            raise ModelError(
                "is in the layout of Keras 3 (.weights.h5), which does not keep the order of layers; load it into the "
                "port's generator in Keras 2 and save it with save_weights('generator.h5')"
            )
        raise ModelError(f"is an HDF5 file without a list of layers, so none of Keras 2; {GIVE}")
    items: list[tuple[str, Any]] = []
    group.visititems(lambda *item: items.append(item))  # it follows no links, which could lead to other files
    arrays = {path: item for path, item in items if isinstance(item, h5py.Dataset)}
    groups = {path: item for path, item in items if isinstance(item, h5py.Group)}
    found = {}
    for layer in (*layers, *({LOOSE} & groups.keys())):
        if layer not in groups:
            raise ModelError(f"lists the layer {shown(layer)}, but does not hold it; the file may be cut or altered")
        for name in names(groups[layer].attrs, WEIGHTS) or ():
            path = f"{layer}/{name}"
            if path not in arrays:
                raise ModelError(f"lists {shown(path)}, but does not hold it; the file may be cut or altered")
            found[path.removesuffix(SUFFIX) + SUFFIX] = values(arrays.pop(path), path)
    if arrays:
        raise ModelError(f"holds {shown(min(arrays))}, but does not list it; the file may be altered")
    return found


def names(attributes: "h5py.AttributeManager", name: str) -> list[str] | None:
    """A list of names, which Keras cuts into numbered parts where it is long; None if there is none."""
    parts = [attributes[name]] if name in attributes else []
    while name not in attributes and f"{name}{len(parts)}" in attributes:
        parts.append(attributes[f"{name}{len(parts)}"])
    entries = [entry.decode() if isinstance(entry, bytes) else str(entry) for part in parts for entry in part]
    return entries if parts else None


def values(array: "h5py.Dataset", path: str) -> Tensor:
    """An array that lies in the file itself, and whole; a few bytes could claim any size otherwise."""
    if array.external or array.is_virtual or array.id.get_storage_size() != array.nbytes:
        raise ModelError(f"{shown(path)} does not lie whole and uncompressed in the file; {GIVE}")
    if array.dtype.kind != "f":
        raise ModelError(f"{shown(path)} holds {array.dtype!s:.40} where weights are floats; {GIVE}")
    return torch.from_numpy(np.asarray(array[()], dtype=np.float32))


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """The port's generator of any width and number of blocks, alone or inside the whole GAN.

    Keras adds 0.001 to a variance and PyTorch 0.00001: the difference is added to the remembered variance, so that the
    network computes the same in evaluation; trained on, it adds PyTorch's to its batches.
    """
    if not tensors or not all(key.endswith(SUFFIX) and "/" in key for key in tensors):
        return None
    models: dict[str, dict[str, Layer]] = {}
    for key, tensor in tensors.items():
        layer, _, kind = key.removesuffix(SUFFIX).rpartition("/")
        models.setdefault(key.partition("/")[0], {}).setdefault(layer, {})[kind] = tensor
    if all(len(layers) == 1 for layers in models.values()):
        return converted([pair for layers in models.values() for pair in layers.items()])
    generators = {}
    for name, layers in models.items():
        try:
            generators[name] = converted(list(layers.items()))
        except ModelError:
            continue
    if len(generators) != 1:
        held = ", ".join(shown(name) for name in list(models)[:4])
        raise ModelError(
            f"is a Keras file of several networks ({held}), {len(generators)} of which fit the generator of "
            f"DeblurGAN's Keras port; {GIVE}"
        )
    ((name, generator),) = generators.items()
    reason = f"of another network, beside the generator {shown(name)}"
    return replace(generator, dropped={key: reason for key in tensors if not key.startswith(f"{name}/")})


def converted(layers: Sequence[tuple[str, Layer]]) -> Converted:
    """The layers, which come in the order in which a picture meets them, in our terms."""
    name, first = layers[0]
    stem = first.get("kernel")
    if stem is None or stem.ndim != 4 or tuple(stem.shape[:3]) != (7, 7, 3):
        raise ModelError(
            f"is a Keras file of {len(layers)} layers, the first of which, {shown(name)}, has {told(first)} where the "
            "generator of DeblurGAN's Keras port has kernel [7, 7, 3, 64], so it may be the discriminator or VGG; "
            f"{GIVE}"
        )
    width = stem.shape[3]
    fixed, each = len(places(width, 0)), len(places(width, 1)) - len(places(width, 0))
    blocks, odd = divmod(len(layers) - fixed, each)
    if blocks < 1 or odd:
        raise ModelError(
            f"begins like the generator of DeblurGAN's Keras port, but has {len(layers)} layers with weights, where "
            f"that has {fixed} and {each} for each residual block; the file may be cut or altered"
        )
    tensors = {}
    for (name, layer), (place, shapes) in zip(layers, places(width, blocks), strict=True):
        if {kind: tuple(tensor.shape) for kind, tensor in layer.items()} != shapes:
            wanted = ", ".join(f"{kind} {list(shape)}" for kind, shape in shapes.items())
            raise ModelError(
                f"begins like the generator of DeblurGAN's Keras port, but {shown(name)} has {told(layer)} where that "
                f"has {wanted}; the file may be altered"
            )
        if "kernel" in layer:
            tensors[f"{place}.weight"] = layer["kernel"].permute(3, 2, 0, 1).contiguous()
            tensors[f"{place}.bias"] = layer["bias"]
            continue
        tensors |= {f"{place}.{ours}": layer[kind] for kind, ours in NORM.items()}
        tensors[f"{place}.running_var"] = layer["moving_variance"] + (KERAS_EPSILON - OUR_EPSILON)
        tensors[f"{place}.num_batches_tracked"] = torch.tensor(0)
    options = PRESETS["deblurgan-keras"][1] | {"downsampling": "same"} | unlike("resnet", blocks=blocks, width=width)
    return Converted(LAYOUT, "resnet", options, tensors)


def told(layer: Layer) -> str:
    return ", ".join(f"{shown(kind)[1:-1]} {list(tensor.shape)}" for kind, tensor in list(layer.items())[:4])


def places(width: int, blocks: int) -> list[tuple[str, dict[str, tuple[int, ...]]]]:
    """Our name of each layer that has weights, in the port's order, and the shapes of these by Keras's name."""
    found: list[tuple[str, dict[str, tuple[int, ...]]]] = []

    def add(convolution: str, side: int, given: int, made: int, norm: str = "") -> None:
        found.append((convolution, {"kernel": (side, side, given, made), "bias": (made,)}))
        if norm:
            found.append((norm, dict.fromkeys(NORM, (made,))))

    add("stem.1", 7, 3, width, "stem.2")
    add("stem.4", 3, width, 2 * width, "down.0")
    add("down.2", 3, 2 * width, 4 * width, "bridge.0")
    for number in range(blocks):
        add(f"blocks.{number}.first.1", 3, 4 * width, 4 * width, f"blocks.{number}.second.0")
        add(f"blocks.{number}.second.4", 3, 4 * width, 4 * width, f"blocks.{number}.last")
    add("up.1", 3, 4 * width, 2 * width, "finish.0")
    add("finish.3", 3, 2 * width, width, "finish.4")
    add("finish.7", 7, width, 3)
    return found
