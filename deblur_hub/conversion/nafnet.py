"""NAFNet's own key layout (megvii-research/NAFNet), which its windowed twin NAFNetLocal shares."""

from torch import Tensor

from ..config import Option
from ..errors import ModelError
from .layout import Converted

LAYOUT = "NAFNet (megvii-research)"
DEFAULTS = {"width": 32, "encoder_blocks": [1, 1, 1, 28], "middle_blocks": 1, "decoder_blocks": [1, 1, 1, 1]}
MARKS = ("intro.weight", "ending.weight", "middle_blks.0.sca.1.weight", "encoders.0.0.sca.1.weight", "ups.0.0.weight")

# A block's layers as the authors number them, and ours.
LAYERS = {
    "norm1": "spread.0",
    "conv1": "spread.1",
    "conv2": "spread.2",
    "sca.1": "attention.1",
    "conv3": "mix",
    "norm2": "expand.0",
    "conv4": "expand.1",
    "conv5": "shrink",
}


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """NAFNet of any width and depth; None if this is something else, relatives with further parts among it.

    Raises:
        ModelError: if a part is missing, or if it is not for colour pictures.
    """
    if not all(mark in tensors and tensors[mark].ndim == 4 for mark in MARKS):
        return None
    blocks = {
        part: [count(tensors, f"{part}.{level}") for level in range(count(tensors, part))]
        for part in ("encoders", "decoders")
    }
    middle = count(tensors, "middle_blks")
    options: dict[str, Option] = {
        "width": tensors["intro.weight"].shape[0],
        "encoder_blocks": blocks["encoders"],
        "middle_blocks": middle,
        "decoder_blocks": blocks["decoders"],
    }
    wanted = names(blocks["encoders"], middle, blocks["decoders"])
    if not tensors.keys() <= wanted.keys():
        return None
    absent = [key for key in wanted if key not in tensors]
    if absent or len(blocks["encoders"]) != len(blocks["decoders"]):
        lack = f"the tensor '{absent[0]}'" if absent else "levels on the way up or down"
        raise ModelError(f"this NAFNet lacks {lack}; the file may be cut, take the authors' whole one")
    for key, axis in (("intro.weight", 1), ("ending.weight", 0)):
        if tensors[key].shape[axis] != 3:
            raise ModelError(
                f"this NAFNet is for pictures of {tensors[key].shape[axis]} channels ('{key}'); ours are of 3, RGB"
            )
    return Converted(
        LAYOUT,
        "nafnet",
        {name: value for name, value in options.items() if value != DEFAULTS[name]},
        {ours: tensors[theirs] for theirs, ours in wanted.items()},
    )


def count(tensors: dict[str, Tensor], part: str) -> int:
    """How many `part`.0, `part`.1 and so on there are, counting gaps but never beyond the number of tensors."""
    numbers = {key.removeprefix(f"{part}.").partition(".")[0] for key in tensors if key.startswith(f"{part}.")}
    highest = max((int(number) for number in numbers if number.isdecimal() and len(number) < 4), default=-1)
    return min(highest + 1, len(tensors))


def names(encoder: list[int], middle: int, decoder: list[int]) -> dict[str, str]:
    """The authors' keys -> ours."""
    modules = {"intro": "intro", "ending": "ending"}
    chains = {"middle_blks": ("middle", middle)}
    for level, depth in enumerate(encoder):
        chains[f"encoders.{level}"] = f"encoder.{level}", depth
        modules[f"downs.{level}"] = f"down.{level}"
    for level, depth in enumerate(decoder):
        chains[f"decoders.{level}"] = f"decoder.{level}", depth
    blocks = {
        f"{theirs}.{number}": f"{ours}.{number}" for theirs, (ours, depth) in chains.items() for number in range(depth)
    }
    modules |= {f"{theirs}.{a}": f"{ours}.{b}" for theirs, ours in blocks.items() for a, b in LAYERS.items()}
    wanted = {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules.items() for kind in ("weight", "bias")}
    wanted |= {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in blocks.items() for kind in ("beta", "gamma")}
    return wanted | {f"ups.{level}.0.weight": f"up.{level}.widen.weight" for level in range(len(decoder))}
