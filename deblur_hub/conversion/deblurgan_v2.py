"""DeblurGAN-v2's checkpoints: `fpn_inception.h5` and `fpn_mobilenet.h5`, and what the authors' training saves.

A file holds every tensor of the backbone twice, since the authors' pyramid registers the backbone's layers under names
of its own (`fpn.enc0` to `fpn.enc4`) besides, and the end of the classifier, which no picture ever passes.
"""

import re

import torch
from torch import Tensor

from ..errors import ModelError
from ..networks import build_network
from ..networks.backbones.mobilenet import PLAN
from .layout import Converted, renamed, unlike

LAYOUT = "DeblurGAN-v2 (VITA-Group)"
DEAD = re.compile(r"fpn\.(inception\.(repeat_2|block8|conv2d_7b|last_linear|classif)|features\.1[678])\.")
NORM_BUFFER = re.compile(r"(fpn\.td[123]|smooth2?)\.1\.(running_mean|running_var|num_batches_tracked)")

# The children of `fpn.enc0` to `fpn.enc4`, by their names in the backbone; Inception's `fpn.enc0` is a layer itself.
INCEPTION_PARTS = (
    ("conv2d_2a", "conv2d_2b", "maxpool_3a"),
    ("conv2d_3b", "conv2d_4a", "maxpool_5a"),
    ("mixed_5b", "repeat", "mixed_6a"),
    ("repeat_1", "mixed_7a"),
)
MOBILENET_PARTS = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9, 10), (11, 12, 13, 14, 15))
SECOND_NAMES = {"fpn.enc0": "fpn.inception.conv2d_1a"} | {
    f"fpn.enc{level}.{place}": f"fpn.inception.{part}"
    for level, parts in enumerate(INCEPTION_PARTS, start=1)
    for place, part in enumerate(parts)
}
MOBILENET_SECOND_NAMES = {
    f"fpn.enc{level}.{place}": f"fpn.features.{part}"
    for level, parts in enumerate(MOBILENET_PARTS)
    for place, part in enumerate(parts)
}

# Our prefix -> theirs.
NORMED = {"merges.0": "fpn.td1", "merges.1": "fpn.td2", "merges.2": "fpn.td3", "smooth": "smooth", "refine": "smooth2"}
PYRAMID = {
    **{f"laterals.{level}": f"fpn.lateral{level}" for level in range(5)},
    **{f"{ours}.conv": f"{theirs}.0" for ours, theirs in NORMED.items()},
    **{f"{ours}.norm": f"{theirs}.1" for ours, theirs in NORMED.items()},
    **{f"heads.{head}.{2 * place}": f"head{head + 1}.block{place}" for head in range(4) for place in range(2)},
    "final": "final",
}
INCEPTION_BLOCKS = {
    "stem.0": "conv2d_1a",
    "stem.1.0": "conv2d_2a",
    "stem.1.1": "conv2d_2b",
    "stem.2.0": "conv2d_3b",
    "stem.2.1": "conv2d_4a",
    "mixed": "mixed_5b",
    "blocks_a": "repeat",
    "reduction_a": "mixed_6a",
    "blocks_b": "repeat_1",
    "reduction_b": "mixed_7a",
}


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """The pyramid of any width, on either backbone; not one without top-down convolutions (`fpn_inception_simple`)."""
    if not {"fpn.lateral0.weight", "fpn.lateral4.weight", "smooth2.0.weight", "final.weight"} <= tensors.keys():
        return None
    backbone = backbone_of(tensors)
    if backbone is None:
        return None
    if "fpn.td1.0.weight" not in tensors:
        raise ModelError(
            f"{LAYOUT}: has no 'fpn.td1', the convolutions on the way down the pyramid; networks without them, such as "
            "fpn_inception_simple, are not offered"
        )
    width = tensors["fpn.lateral4.weight"].shape[0]
    if not 4 <= width <= 8192 or width % 4:
        raise ModelError(f"{LAYOUT}: a pyramid of {width} channels, which is no multiple of 4, cannot be built here")
    norm = "batch" if "smooth.1.weight" in tensors else "instance"
    options = unlike("fpn", backbone=backbone, width=width, norm=norm)
    left, dropped = once(tensors, backbone)
    for key in left:
        if DEAD.match(key):
            dropped[key] = "belongs to the end of the classifier, which is never run"
        elif NORM_BUFFER.fullmatch(key) and norm == "instance":
            dropped[key] = "a memory of instance normalisation, which goes by the frame itself"
    left = {key: tensor for key, tensor in left.items() if key not in dropped}
    with torch.device("meta"):
        keys = {theirs(ours, backbone): ours for ours in build_network("fpn", **options).state_dict()}
    counts = [key for key in keys if key.endswith("num_batches_tracked")]  # which PyTorch had not before 0.4.1
    left = {key: torch.zeros((), dtype=torch.int64) for key in counts} | left
    return Converted(LAYOUT, "fpn", options, renamed(LAYOUT, keys, left), dropped)


def backbone_of(tensors: dict[str, Tensor]) -> str | None:
    """By the first convolution, under either of its names; None for another, such as that of fpn_densenet."""
    first = {
        "fpn.inception.conv2d_1a.conv.weight": "inception-resnet-v2",
        "fpn.enc0.conv.weight": "inception-resnet-v2",
        "fpn.features.0.0.weight": "mobilenetv2",
        "fpn.enc0.0.0.weight": "mobilenetv2",
    }
    return next((first[key] for key in first if key in tensors and tensors[key].shape == (32, 3, 3, 3)), None)


def once(tensors: dict[str, Tensor], backbone: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor under the backbone's own name for it, and which keys were second names."""
    names = {key: own_name(key, backbone) for key in tensors}
    left = {key: tensors[key] for key, name in names.items() if name == key}
    dropped = {}
    for key, name in names.items():
        if name == key:
            continue
        if not torch.equal(left.setdefault(name, tensors[key]), tensors[key]):
            raise ModelError(
                f"{LAYOUT}: '{key}' and '{name}' are two names of one tensor, but differ; the file is damaged"
            )
        if name in tensors:
            dropped[key] = f"the same tensor as '{name}'"
    return left, dropped


def own_name(key: str, backbone: str) -> str:
    """'fpn.enc1.0.bn.bias' -> 'fpn.inception.conv2d_2a.bn.bias'; other keys as they are."""
    names = SECOND_NAMES if backbone == "inception-resnet-v2" else MOBILENET_SECOND_NAMES
    second = next((name for name in names if key.startswith(f"{name}.")), None)
    return names[second] + key.removeprefix(second) if second else key


def theirs(ours: str, backbone: str) -> str:
    """The authors' key for a key of our network."""
    layer, _, leaf = ours.rpartition(".")
    if not layer.startswith("backbone."):
        return f"{PYRAMID[layer]}.{leaf}"
    inside = inception_layer if backbone == "inception-resnet-v2" else mobilenet_layer
    return f"fpn.{inside(layer.removeprefix('backbone.'))}.{leaf}"


def inception_layer(ours: str) -> str:
    """'blocks_a.3.branches.1.0.norm' -> 'inception.repeat.3.branch1.0.bn'."""
    start = next(prefix for prefix in INCEPTION_BLOCKS if ours.startswith(f"{prefix}."))
    rest = ours.removeprefix(f"{start}.")
    if start in ("blocks_a", "blocks_b"):
        rest = rest.replace("branches.", "branch").replace("project", "conv2d")
    elif not start.startswith("stem"):
        rest = f"branch{rest}"
    return f"inception.{INCEPTION_BLOCKS[start]}.{re.sub('norm$', 'bn', rest)}"


def mobilenet_layer(ours: str) -> str:
    """'blocks.3.filter.norm' -> 'features.4.conv.4'."""
    place = {"conv": 0, "norm": 1}[ours.rpartition(".")[2]]
    if ours.startswith("stem."):
        return f"features.0.{place}"
    _, block, part, _ = ours.split(".")
    expansions = [expansion for expansion, _, repeats, _ in PLAN for _ in range(repeats)]
    before = {"expand": 0, "filter": 3, "project": 6} if expansions[int(block)] > 1 else {"filter": 0, "project": 3}
    return f"features.{int(block) + 1}.conv.{before[part] + place}"
