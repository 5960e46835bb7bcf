"""DeblurGAN's own layout (KupynOrest/DeblurGAN, `latest_net_G.pth`): one nn.Sequential called `model`.

Convolutions stand at model.1, .4, .7; blocks at model.10 and on, with their convolutions at conv_block.1 and .5, or
.6 where a dropout stands between; transposed ones behind the blocks, three apart; the last one four behind those.
"""

import re

from torch import Tensor

from ..errors import ModelError
from .layout import Converted, keys_of, renamed, unlike

LAYOUT = "DeblurGAN (KupynOrest)"
FIRST_BLOCK = 10
MEMORY = (".running_mean", ".running_var", ".num_batches_tracked")
RUNNING = "running statistics of instance norm, which the authors do not use: they test in training mode"


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """The ResNet generator of any number of blocks, with instance norm."""
    inside = {match for key in tensors if (match := re.fullmatch(r"model\.(\d+)\.conv_block\.(\d+)\.weight", key))}
    stem = tensors.get("model.1.weight")
    if not inside or stem is None or stem.ndim != 4 or tuple(stem.shape[1:]) != (3, 7, 7):
        return None
    numbers = sorted({int(match[1]) for match in inside})
    places = sorted({int(match[2]) for match in inside if tensors[match[0]].ndim == 4})
    if numbers != list(range(FIRST_BLOCK, FIRST_BLOCK + len(numbers))):
        return None
    if places == [1]:
        raise ModelError(
            "is from DeblurGAN's later master, whose residual blocks lost their second convolution by mistake "
            "(6.07 M parameters where the paper's network has 11.38 M), so it is not DeblurGAN; "
            "take weights made with the code up to 2018"
        )
    if "model.2.weight" in tensors:
        raise ModelError(
            "is DeblurGAN's generator with batch norm and convolutions without bias, which no published weights "
            "have; convert takes the one with instance norm"
        )
    if places not in ([1, 5], [1, 6]):
        raise ModelError(
            f"is DeblurGAN's generator with convolutions at places {places} of a block, so not padded by reflection; "
            "convert takes the published padding"
        )
    blocks, width = len(numbers), stem.shape[0]
    behind = FIRST_BLOCK + blocks
    names = {"model.1": "stem.1", "model.4": "stem.4", "model.7": "down.2"}
    names |= {f"model.{behind}": "up.0", f"model.{behind + 3}": "finish.2", f"model.{behind + 7}": "finish.6"}
    for number in range(blocks):
        first, second = (f"model.{FIRST_BLOCK + number}.conv_block.{place}" for place in places)
        names |= {first: f"blocks.{number}.first.1", second: f"blocks.{number}.second.4"}
    dropped = {key: RUNNING for key in tensors if key.endswith(MEMORY)}
    kept = {key: tensor for key, tensor in tensors.items() if key not in dropped}
    options = unlike("resnet", blocks=blocks, width=width, dropout=0.5 if places == [1, 6] else 0.0)
    return Converted(LAYOUT, "resnet", options, renamed(LAYOUT, keys_of(names), kept), dropped)
