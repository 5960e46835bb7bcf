"""The classifiers whose features a perceptual loss compares: their layers by name, and their weights.

All are torchvision's networks, in its layout of keys. A layer has a name of ours and, where people know it from Keras,
its name there:

| network     | layer               | in torchvision      | in Keras                                                   |
|-------------|---------------------|---------------------|------------------------------------------------------------|
| vgg16 and   | `conv3_3`           | `features.14`       | - (before its ReLU)                                        |
| vgg19       | `relu3_3`           | `features.15`       | `block3_conv3`, which has its ReLU inside                  |
|             | `pool3`             | `features.16`, `18` | `block3_pool`                                              |
| mobilenetv2 | `conv1`             | `features.0`        | `Conv1_relu`                                               |
|             | `block1`            | `features.1`        | `expanded_conv_project_BN`                                 |
|             | `block3`            | `features.3`        | `block_2_add` (or `..._project_BN` where nothing is added) |
|             | `conv2`             | `features.18`       | `out_relu`                                                 |
| resnet50    | `relu1`             | `relu`              | `conv1_relu`                                               |
|             | `layer1_1`          | `layer1.0`          | `conv2_block1_out`                                         |

The index of `conv3_3` is 14 in VGG16 and in VGG19; from there on VGG19 has one convolution more in each block. Keras's
VGG16, VGG19 and ResNet50 have weights from Caffe, for blue-green-red pictures in [-128, 128] about their mean, and its
ResNet50 halves the size in other convolutions: a layer of the same name there sees the same part of the picture, not
the same values.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..recipe import RecipeError


@dataclass(frozen=True)
class Backbone:
    """A classifier of torchvision as a sequence of steps, some of which are layers to look at."""

    title: str  # for sentences
    constructor: str  # its name in `torchvision.models`
    steps: tuple[str, ...]  # torchvision's names of the modules that a picture passes, in order
    layers: dict[str, str]  # our names -> the step behind which one looks
    keras: dict[str, str]  # Keras's names of layers -> ours

    def known(self) -> list[str]:
        return [*self.layers, *self.keras]

    def layer(self, name: str) -> str:
        """Our name of a layer; `name` must be one of `known`."""
        return self.keras.get(name, name)

    def name_of(self, step: str) -> str:
        """Of a step: of the layer that it is, else torchvision's."""
        return next((name for name, place in self.layers.items() if place == step), step)


def vgg(title: str, depths: tuple[int, ...]) -> Backbone:
    """Blocks of 3x3 convolutions, each with its ReLU, and a pooling behind each block."""
    layers, keras, index = {}, {}, 0
    for block, depth in enumerate(depths, start=1):
        for number in range(1, depth + 1):
            layers[f"conv{block}_{number}"] = f"features.{index}"
            layers[f"relu{block}_{number}"] = f"features.{index + 1}"
            keras[f"block{block}_conv{number}"] = f"relu{block}_{number}"
            index += 2
        layers[f"pool{block}"] = f"features.{index}"
        keras[f"block{block}_pool"] = f"pool{block}"
        index += 1
    return Backbone(title, title.lower(), tuple(f"features.{step}" for step in range(index)), layers, keras)


def mobilenetv2() -> Backbone:
    """A convolution, seventeen inverted residuals, a convolution."""
    blocks = range(1, 18)
    steps = tuple(f"features.{step}" for step in range(19))
    layers = {"conv1": steps[0]} | {f"block{block}": steps[block] for block in blocks} | {"conv2": steps[18]}
    keras = {"Conv1_relu": "conv1", "expanded_conv_project_BN": "block1", "out_relu": "conv2"}
    for block in blocks[1:]:
        ends_in = "project_BN" if block in (2, 4, 7, 11, 14, 17) else "add"  # those change size or width
        keras[f"block_{block - 1}_{ends_in}"] = f"block{block}"
    return Backbone("MobileNetV2", "mobilenet_v2", steps, layers, keras)


def resnet50() -> Backbone:
    """A convolution, a pooling, four layers of residual blocks."""
    blocks = [(layer, block) for layer, depth in enumerate((3, 4, 6, 3), start=1) for block in range(1, depth + 1)]
    layers = {f"layer{layer}_{block}": f"layer{layer}.{block - 1}" for layer, block in blocks}
    steps = ("conv1", "bn1", "relu", "maxpool", *layers.values())
    keras = {f"conv{layer + 1}_block{block}_out": f"layer{layer}_{block}" for layer, block in blocks}
    return Backbone("ResNet50", "resnet50", steps, {"relu1": "relu"} | layers, keras | {"conv1_relu": "relu1"})


BACKBONES: dict[str, Backbone] = {
    "vgg19": vgg("VGG19", (2, 2, 4, 4, 4)),
    "vgg16": vgg("VGG16", (2, 2, 3, 3, 3)),
    "mobilenetv2": mobilenetv2(),
    "resnet50": resnet50(),
}


class Features(nn.Module):
    """A backbone up to the deepest of the wanted layers, frozen and in evaluation mode.

    Args:
        wanted: our names of layers, in any order.
        tensors: by torchvision's keys; what lies behind the deepest layer may be missing.
        source, option: for the errors: where they are from, and what to `--set`, with a place for a layer's name.

    `forward` maps pictures (N, 3, H, W) to {layer: (N, C, h, w)}. Raises `RecipeError` if the tensors end too early, or
    are not those of the network.
    """

    def __init__(
        self, backbone: Backbone, wanted: list[str], tensors: dict[str, Tensor], *, source: str, option: str
    ) -> None:
        super().__init__()
        places = {backbone.layers[layer]: layer for layer in wanted}
        last = max(backbone.steps.index(step) for step in places)
        network, reached = torchvision_network(backbone), []
        self.steps, self.seen = nn.ModuleList(), []
        for step in backbone.steps[: last + 1]:
            module = network.get_submodule(step)
            shapes = {key: t.shape for key, t in module.state_dict().items() if not key.endswith("num_batches_tracked")}
            found = {key: tensors.get(f"{step}.{key}") for key in shapes}
            if reached and shapes and all(tensor is None for tensor in found.values()):
                raise RecipeError(
                    f"{source}: ends before {backbone.name_of(backbone.steps[last])}; take an earlier layer, such as "
                    f"--set {option.format(reached[-1])}, or the whole {backbone.title}"
                )
            for key, tensor in found.items():
                if tensor is None or tensor.shape != shapes[key]:
                    raise RecipeError(
                        f"{source}: its '{step}.{key}' is not {backbone.title}'s {backbone.name_of(step)}; "
                        f"--perceptual-weights takes {backbone.title} in torchvision's layout"
                    )
            if isinstance(module, nn.ReLU) and self.seen:
                module.inplace = self.seen[-1] is None  # else it would overwrite a wanted layer
            module = module.to_empty(device="cpu")
            module.load_state_dict({key: tensor.float() for key, tensor in found.items()}, strict=False)
            self.steps.append(module)
            self.seen.append(places.get(step))
            if not isinstance(module, nn.MaxPool2d) and step in backbone.layers.values():
                reached.append(backbone.name_of(step))
        self.requires_grad_(False).eval()
        self.to(memory_format=torch.channels_last)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        layers = {}
        for step, layer in zip(self.steps, self.seen, strict=True):
            picture = step(picture)
            if layer:
                layers[layer] = picture
        return layers


def torchvision_network(backbone: Backbone) -> nn.Module:
    """Without weights: on the meta device, where nothing is allocated, and no random number drawn."""
    with torch.device("meta"):
        return torchvision_models().get_model(backbone.constructor, weights=None)


def read_weights(backbone: Backbone, path: Path | None) -> tuple[dict[str, Tensor], str, str]:
    """Tensors by torchvision's keys, the SHA-256 of the file that holds them, and where it is.

    The file is in safetensors, or torchvision's own, downloaded once. Raises `RecipeError` if it cannot be had.
    """
    if path is None:
        path = downloaded(backbone)
        return torch.load(path, map_location="cpu", weights_only=True), sha256(path), str(path)
    try:
        return load_file(path), sha256(path), str(path)
    except (OSError, SafetensorError) as reason:
        raise RecipeError(
            f"{path}: not a safetensors file that can be read ({reason}); "
            f"--perceptual-weights takes {backbone.title} in torchvision's layout"
        ) from reason


def downloaded(backbone: Backbone) -> Path:
    """torchvision's file in torch's own cache, of which the hash, a part of its name, is right."""
    url = torchvision_models().get_model_weights(backbone.constructor).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    expected = path.stem.rpartition("-")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=expected, progress=False)
        except (OSError, RuntimeError) as reason:  # no network; a download that fails its checksum
            raise RecipeError(
                f"the {backbone.title} weights of the perceptual loss cannot be downloaded ({reason}); fetch {url} "
                f"where there is a network and put it into {path.parent}, or name a safetensors file in torchvision's "
                "layout with --perceptual-weights"
            ) from reason
    if not sha256(path).startswith(expected):
        raise RecipeError(f"{path}: is not the file of its name, or broken; remove it, and it is downloaded anew")
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def torchvision_models() -> ModuleType:
    try:
        from torchvision import models
    except ImportError as reason:
        raise RecipeError(
            f"the perceptual loss takes its networks from torchvision, which cannot be imported ({reason}); "
            "pip install 'deblur-hub[train]'"
        ) from reason
    return models
