"""SRN's best-known layout in PyTorch (iwtw/SRN-DeblurNet, `SRNDeblurNet_epoch*.pth`).

The authors themselves published TensorFlow files alone. This re-implementation differs from theirs: a ConvLSTM of 5x5
on all colours at once, transposed convolutions of 5x5, zeros as the coarsest scale's first guess, values in [-1, 1];
our "lstm-color". Its pyramid is of 8-bit pictures that Pillow resized, ours is not rounded.
"""

import re

import torch
from torch import Tensor

from ..config import Option
from ..errors import ModelError
from .layout import Converted

LAYOUT = "SRN (iwtw, PyTorch)"
THEIR_GATES, OUR_GATES = ("input", "forget", "output", "candidate"), ("input", "candidate", "forget", "output")


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """The network with ConvLSTM of any width and number of blocks; None if it is something else.

    Raises:
        ModelError: if it is cut down or altered.
    """
    stem, cell = tensors.get("inblock.conv.0.weight"), tensors.get("convlstm.conv.weight")
    if stem is None or cell is None or stem.ndim != 4 or cell.ndim != 4:
        return None
    if tuple(stem.shape[1:]) != (6, 5, 5) or tuple(cell.shape[2:]) != (5, 5) or cell.shape[0] % len(OUR_GATES):
        raise ModelError(
            f"looks like SRN as iwtw/SRN-DeblurNet has it, but its first convolution is {list(stem.shape)} and that of "
            f"its ConvLSTM {list(cell.shape)}; convert takes 6 channels and 5x5 kernels"
        )
    first = re.compile(r"inblock\.resblock_stack\.\d+\.conv1\.0\.weight")
    width, blocks = stem.shape[0], sum(first.fullmatch(key) is not None for key in tensors)
    names = layer_names(blocks)
    wanted = {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in names.items() for kind in ("weight", "bias")}
    strange = sorted(wanted.keys() ^ tensors.keys())
    if strange:
        state = "lacks" if strange[0] in wanted else "has besides"
        raise ModelError(f"is SRN as iwtw/SRN-DeblurNet has it, but {state} '{strange[0]}'")
    if tensors["convlstm.conv.bias"].shape != cell.shape[:1]:
        raise ModelError(f"is SRN as iwtw/SRN-DeblurNet has it, but 'convlstm.conv.bias' is not {list(cell.shape[:1])}")
    found, published = {"width": width, "blocks": blocks}, {"width": 32, "blocks": 3}
    options: dict[str, Option] = {"variant": "lstm-color"}
    options |= {key: value for key, value in found.items() if value != published[key]}
    return Converted(
        LAYOUT,
        "srn",
        options,
        {
            ours: reordered(tensors[theirs]) if theirs.startswith("convlstm.") else tensors[theirs]
            for theirs, ours in wanted.items()
        },
    )


def layer_names(blocks: int) -> dict[str, str]:
    """Author's name of each convolution -> ours."""
    names = {"convlstm.conv": "cell.gates"}
    for theirs, ours in {"inblock": "encoders.0", "eblock1": "encoders.1", "eblock2": "encoders.2"}.items():
        names[f"{theirs}.conv.0"] = f"{ours}.0"
        names |= block_names(theirs, ours, range(2, 2 + blocks))
    for theirs, ours in {"dblock1": "decoders.0", "dblock2": "decoders.1", "outblock": "head"}.items():
        last = "conv" if theirs == "outblock" else "deconv"
        names |= block_names(theirs, ours, range(blocks))
        names[f"{theirs}.{last}.0"] = f"{ours}.{blocks}"
    return names


def block_names(theirs: str, ours: str, places: range) -> dict[str, str]:
    names = {}
    for number, place in enumerate(places):
        names[f"{theirs}.resblock_stack.{number}.conv1.0"] = f"{ours}.{place}.first"
        names[f"{theirs}.resblock_stack.{number}.conv2.0"] = f"{ours}.{place}.second"
    return names


def reordered(gates: Tensor) -> Tensor:
    """The ConvLSTM's weight or bias with the gates in our order."""
    parts = dict(zip(THEIR_GATES, gates.chunk(len(THEIR_GATES)), strict=True))
    return torch.cat([parts[gate] for gate in OUR_GATES])
