"""NAFNet's own key layout (megvii-research/NAFNet), which its windowed twin NAFNetLocal shares."""

from torch import Tensor

from ..errors import ModelError
from .layout import Converted, keys_of, numbers_after, renamed, unlike

LAYOUT = "NAFNet (megvii-research)"
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
    """NAFNet of any width and depth; not its relatives with further parts."""
    if not all(mark in tensors and tensors[mark].ndim == 4 for mark in MARKS):
        return None
    encoder, decoder = (
        [numbers_after(tensors, f"{part}.{level}.") for level in range(numbers_after(tensors, f"{part}."))]
        for part in ("encoders", "decoders")
    )
    middle = numbers_after(tensors, "middle_blks.")
    wanted = names(encoder, middle, decoder)
    if not tensors.keys() <= wanted.keys():
        return None
    converted = renamed(LAYOUT, wanted, tensors)
    if len(encoder) != len(decoder):
        raise ModelError("this NAFNet lacks levels on the way up or down; give the file as it was published")
    for key, axis in (("intro.weight", 1), ("ending.weight", 0)):
        if tensors[key].shape[axis] != 3:
            raise ModelError(
                f"this NAFNet is for pictures of {tensors[key].shape[axis]} channels ('{key}'); ours are of 3, RGB"
            )
    width = tensors["intro.weight"].shape[0]
    options = unlike("nafnet", width=width, encoder_blocks=encoder, middle_blocks=middle, decoder_blocks=decoder)
    return Converted(LAYOUT, "nafnet", options, converted)


def names(encoder: list[int], middle: int, decoder: list[int]) -> dict[str, str]:
    """The authors' keys -> ours."""
    blocks = {f"middle_blks.{number}": f"middle.{number}" for number in range(middle)}
    for part, depths in (("encoder", encoder), ("decoder", decoder)):
        for level, depth in enumerate(depths):
            blocks |= {f"{part}s.{level}.{number}": f"{part}.{level}.{number}" for number in range(depth)}
    modules = {"intro": "intro", "ending": "ending"}
    modules |= {f"downs.{level}": f"down.{level}" for level in range(len(encoder))}
    modules |= {f"{theirs}.{a}": f"{ours}.{b}" for theirs, ours in blocks.items() for a, b in LAYERS.items()}
    ups = {f"ups.{level}.0.weight": f"up.{level}.widen.weight" for level in range(len(decoder))}
    return keys_of(modules) | keys_of(blocks, ("beta", "gamma")) | ups
