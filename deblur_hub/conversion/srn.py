"""SRN's two layouts: the authors' TensorFlow checkpoints, and its best-known one in PyTorch.

The authors (jiangsutx/SRN-Deblur, `deblur.model-523000.*`) name the layers after their place, `g_net/enc1_1` to
`g_net/dec1_0`; our "color" and "lstm".

The re-implementation (iwtw/SRN-DeblurNet, `SRNDeblurNet_epoch*.pth`) differs from theirs: a ConvLSTM of 5x5 on all
colours at once, transposed convolutions of 5x5, zeros as the coarsest scale's first guess, values in [-1, 1]; our
"lstm-color". Its pyramid is of 8-bit pictures that Pillow resized, ours is not rounded.
"""

import re

import torch
from torch import Tensor

from ..errors import ModelError
from .layout import Converted, keys_of, renamed, require_keys, unlike

AUTHORS, LAYOUT = "SRN (jiangsutx, TensorFlow)", "SRN (iwtw, PyTorch)"
THEIR_GATES, OUR_GATES = ("input", "forget", "output", "candidate"), ("input", "candidate", "forget", "output")
AUTHORS_CELL = "g_net/convLSTM/LSTM_conv"
FORGET_BIAS = 1.0  # which the authors' cell adds to the forget gate; ours has it in the bias
OF_TRAINING = re.compile(r"(.+/)?(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step)|Variable(_\d+)?")


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """Either layout, of any width and number of blocks."""
    if "g_net/enc1_1/weights" in tensors:
        return of_authors(tensors)
    return of_reimplementation(tensors)


def of_authors(tensors: dict[str, Tensor]) -> Converted:
    dropped = {key: "of the training, not of the network" for key in tensors if OF_TRAINING.fullmatch(key)}
    kept = {key: tensor for key, tensor in tensors.items() if key not in dropped}
    stem, cell = kept["g_net/enc1_1/weights"], kept.get(f"{AUTHORS_CELL}/weights")
    shape = list(stem.shape)
    if stem.ndim != 4 or shape[:2] != [5, 5] or shape[2] not in (2, 6):
        raise ModelError(
            f"looks like {AUTHORS}, but its first convolution is {shape}; convert takes [5, 5, 6, "
            "width], or [5, 5, 2, width] of the one with a ConvLSTM"
        )
    if (cell is None) != (shape[2] == 6):
        network = "'gray' network, without a ConvLSTM" if cell is None else "network of all colours, with a ConvLSTM"
        raise ModelError(f"is {AUTHORS}, but the {network}; convert takes 'color' and 'lstm'")
    first = re.compile(r"g_net/enc1_\d+/conv1/weights")
    width, blocks = shape[3], sum(first.fullmatch(key) is not None for key in kept)
    names = authors_names(blocks) | ({} if cell is None else {AUTHORS_CELL: "cell.gates"})
    require_keys(AUTHORS, [f"{name}/{part}" for name in names for part in ("weights", "biases")], kept)
    converted = {}
    for theirs, ours in names.items():
        kernel, bias = kept[f"{theirs}/weights"], kept[f"{theirs}/biases"]
        if kernel.ndim != 4:
            raise ModelError(f"is {AUTHORS}, but '{theirs}/weights' is {list(kernel.shape)}")
        # (height, width, in, out), and (height, width, out, in) of transposed ones; the same permutation turns both
        # into what PyTorch has: (out, in, height, width), and (in, out, height, width).
        converted[f"{ours}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        converted[f"{ours}.bias"] = bias
    if cell is not None:
        bias = converted["cell.gates.bias"]
        if bias.ndim != 1 or len(bias) % len(OUR_GATES):
            raise ModelError(f"is {AUTHORS}, but '{AUTHORS_CELL}/biases' is {list(bias.shape)}")
        gates = dict(zip(OUR_GATES, bias.float().chunk(len(OUR_GATES)), strict=True))
        gates["forget"] = gates["forget"] + FORGET_BIAS
        converted["cell.gates.bias"] = torch.cat([gates[name] for name in OUR_GATES])
    options = unlike("srn", variant="color" if cell is None else "lstm", width=width, blocks=blocks)
    return Converted(AUTHORS, "srn", options, converted, dropped)


def authors_names(blocks: int) -> dict[str, str]:
    """Author's name of each convolution -> ours; they count up through the encoders and down through the decoders."""
    names = {}
    for level in (1, 2, 3):
        names[f"g_net/enc{level}_1"] = f"encoders.{level - 1}.0"
        for block in range(blocks):
            names |= pair(f"g_net/enc{level}_{block + 2}/conv%d", f"encoders.{level - 1}.{block + 2}")
    for level, ours in ((3, "decoders.0"), (2, "decoders.1"), (1, "head")):
        for block in range(blocks):
            names |= pair(f"g_net/dec{level}_{blocks - block}/conv%d", f"{ours}.{block}")
        following = "dec1_0" if level == 1 else f"dec{level - 1}_{blocks + 1}"
        names[f"g_net/{following}"] = f"{ours}.{blocks}"
    return names


def pair(theirs: str, ours: str) -> dict[str, str]:
    """The two convolutions of a residual block, which the authors number."""
    return {theirs % 1: f"{ours}.first", theirs % 2: f"{ours}.second"}


def of_reimplementation(tensors: dict[str, Tensor]) -> Converted | None:
    stem, cell = tensors.get("inblock.conv.0.weight"), tensors.get("convlstm.conv.weight")
    if stem is None or cell is None or stem.ndim != 4 or cell.ndim != 4:
        return None
    if tuple(stem.shape[1:]) != (6, 5, 5) or tuple(cell.shape[2:]) != (5, 5) or cell.shape[0] % len(OUR_GATES):
        raise ModelError(
            f"looks like {LAYOUT}, but its first convolution is {list(stem.shape)} and that of "
            f"its ConvLSTM {list(cell.shape)}; convert takes 6 channels and 5x5 kernels"
        )
    first = re.compile(r"inblock\.resblock_stack\.\d+\.conv1\.0\.weight")
    width, blocks = stem.shape[0], sum(first.fullmatch(key) is not None for key in tensors)
    converted = renamed(LAYOUT, keys_of(layer_names(blocks)), tensors)
    if tensors["convlstm.conv.bias"].shape != cell.shape[:1]:
        raise ModelError(f"is {LAYOUT}, but 'convlstm.conv.bias' is not {list(cell.shape[:1])}")
    converted |= {key: reordered(tensor) for key, tensor in converted.items() if key.startswith("cell.")}
    options = unlike("srn", variant="lstm-color", width=width, blocks=blocks)
    return Converted(LAYOUT, "srn", options, converted)


def layer_names(blocks: int) -> dict[str, str]:
    """Author's name of each convolution -> ours."""
    names = {"convlstm.conv": "cell.gates"}
    for theirs, ours in {"inblock": "encoders.0", "eblock1": "encoders.1", "eblock2": "encoders.2"}.items():
        names[f"{theirs}.conv.0"] = f"{ours}.0"
        for block in range(blocks):
            names |= pair(f"{theirs}.resblock_stack.{block}.conv%d.0", f"{ours}.{block + 2}")
    for theirs, ours in {"dblock1": "decoders.0", "dblock2": "decoders.1", "outblock": "head"}.items():
        for block in range(blocks):
            names |= pair(f"{theirs}.resblock_stack.{block}.conv%d.0", f"{ours}.{block}")
        last = "conv" if theirs == "outblock" else "deconv"
        names[f"{theirs}.{last}.0"] = f"{ours}.{blocks}"
    return names


def reordered(gates: Tensor) -> Tensor:
    """The ConvLSTM's weight or bias with the gates in our order."""
    parts = dict(zip(THEIR_GATES, gates.chunk(len(THEIR_GATES)), strict=True))
    return torch.cat([parts[gate] for gate in OUR_GATES])
