"""MIMO-UNet's own key layout (chosj95/MIMO-UNet); MIMO-UNet+ has the same with more blocks."""

import torch
from torch import Tensor

from ..errors import ModelError
from .layout import PARTS, Converted, numbers_after, require_keys, unlike

LAYOUT = "MIMO-UNet (chosj95)"
MARKS = ("Encoder.0.layers.0.main.0.main.0.weight", "AFFs.0.conv.0.main.0.weight", "SCM1.conv.main.0.weight")
PLUS_BLOCKS, PLUS_DROPOUT = 20, 0.1  # dropout leaves no trace in a file; only further training needs it

MODULES = {
    "feat_extract.0": "stem.0",
    "feat_extract.1": "down_half.0",
    "feat_extract.2": "down_quarter.0",
    "feat_extract.3": "up_half.0",
    "feat_extract.4": "up_full.0",
    "feat_extract.5": "leave_full",
    "Convs.0": "join_half.0",
    "Convs.1": "join_full.0",
    "ConvsOut.0": "leave_quarter",
    "ConvsOut.1": "leave_half",
    "AFFs.0.conv.1": "fuse_full.smooth",
    "AFFs.1.conv.1": "fuse_half.smooth",
}
for number, entry in ((1, "enter_quarter"), (2, "enter_half")):
    MODULES |= {f"SCM{number}.main.{place}": f"{entry}.extract.{2 * place}" for place in range(4)}
    MODULES |= {f"SCM{number}.conv": f"{entry}.mix", f"FAM{number}.merge": f"{entry}.merge"}
LEVELS = ("full", "half", "quarter")
CHAINS = {f"Encoder.{place}": f"encoder_{level}" for place, level in enumerate(LEVELS)}
CHAINS |= {f"Decoder.{place}": f"decoder_{level}" for place, level in enumerate(reversed(LEVELS))}
# The 1x1 convolutions of all levels side by side, which we keep level by level; the bias goes with the level's own.
FUSIONS = {"AFFs.0.conv.0": ("fuse_full", 0), "AFFs.1.conv.0": ("fuse_half", 1)}


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """MIMO-UNet of any width and depth; not its relatives with further parts."""
    if not all(mark in tensors for mark in MARKS):
        return None
    blocks = numbers_after(tensors, "Encoder.0.layers.")
    names = MODULES | {
        f"{theirs}.layers.{number}.main.{conv}": f"{ours}.{number}.{name}"
        for theirs, ours in CHAINS.items()
        for number in range(blocks)
        for conv, name in enumerate(("first", "second"))
    }
    wanted = {f"{module}.main.0.{part}" for module in (*names, *FUSIONS) for part in PARTS}
    if not tensors.keys() <= wanted:
        return None
    require_keys(LAYOUT, wanted, tensors)
    converted = {
        f"{ours}.{part}": tensors[f"{theirs}.main.0.{part}"] for theirs, ours in names.items() for part in PARTS
    }
    width = tensors["feat_extract.0.main.0.bias"].numel()
    for theirs, (ours, own) in FUSIONS.items():
        weight = tensors[f"{theirs}.main.0.weight"]
        if weight.ndim != 4 or weight.shape[1] != 7 * width:
            raise ModelError(
                f"this MIMO-UNet's levels are not of 1, 2 and 4 times the width {width}: '{theirs}.main.0.weight' is "
                f"{list(weight.shape)}"
            )
        for level, part in enumerate(torch.split(weight, [width, 2 * width, 4 * width], dim=1)):
            converted[f"{ours}.parts.{level}.weight"] = part
        converted[f"{ours}.parts.{own}.bias"] = tensors[f"{theirs}.main.0.bias"]
    dropout = PLUS_DROPOUT if blocks == PLUS_BLOCKS else 0.0
    return Converted(LAYOUT, "mimo_unet", unlike("mimo_unet", width=width, blocks=blocks, dropout=dropout), converted)
