"""DeepDeblur's PyTorch layout (SeungjunNah/DeepDeblur-PyTorch, `model-1000.pt`): MSResNet, and beside it a critic.

`body_models.0` is the finest scale's network: its first convolution at body.0, blocks from body.1, the last
convolution behind them. `conv_end_models.1` enlarges what scale 1 restored for scale 0. The file holds the generator
under G and, where one was trained, the critic under D. The values that it saw go from 0 to 255, the authors' default,
which a file does not tell.
"""

import re

from torch import Tensor

from ..errors import ModelError
from .layout import Converted, keys_of, renamed, unlike

LAYOUT = "DeepDeblur (SeungjunNah, PyTorch)"
STEM = "body_models.0.body.0.weight"
CRITIC = "of the critic, which restores nothing"


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """The multi-scale network of any width and number of blocks."""
    root = next((key.removesuffix(STEM) for key in tensors if key.endswith(STEM)), None)
    if root is None or tensors[root + STEM].ndim != 4 or tensors[root + STEM].shape[1] not in (3, 6):
        return None
    dropped = {key: CRITIC for key in tensors if re.match(r"(model\.)?D\.", key)}
    mine = {key: tensor for key, tensor in tensors.items() if key not in dropped}
    rest = [key.removeprefix(root) for key in mine]
    scales = len([key for key in rest if re.fullmatch(r"body_models\.\d+\.body\.0\.weight", key)])
    blocks = len([key for key in rest if re.fullmatch(r"body_models\.0\.body\.\d+\.body\.0\.weight", key)])
    width, _, *kernel = tensors[root + STEM].shape
    if kernel != [5, 5]:
        raise ModelError(f"is DeepDeblur's network with {'x'.join(map(str, kernel))} kernels; convert takes 5x5")
    if scales > 4:
        raise ModelError(f"is DeepDeblur's network with {scales} scales; convert takes 1 to 4")

    options = unlike("deepdeblur", width=width, blocks=blocks, scales=scales)
    keys = keys_of({root + theirs: ours for theirs, ours in layer_names(scales, blocks).items()})
    return Converted(LAYOUT, "deepdeblur", options, renamed(LAYOUT, keys, mine), dropped)


def layer_names(scales: int, blocks: int) -> dict[str, str]:
    """Author's name of each convolution -> ours: they count the scales from the finest, we from the coarsest."""
    names = {}
    for scale in range(scales):
        theirs, ours = f"body_models.{scales - 1 - scale}.body", f"restore.{scale}"
        names[f"{theirs}.0"] = f"{ours}.0"
        for block in range(1, blocks + 1):
            names[f"{theirs}.{block}.body.0"] = f"{ours}.{block}.first"
            names[f"{theirs}.{block}.body.2"] = f"{ours}.{block}.second"
        names[f"{theirs}.{blocks + 1}"] = f"{ours}.{blocks + 1}"
        if scale:
            names[f"conv_end_models.{scales - scale}.uppath.0"] = f"enlarge.{scale - 1}.0"
    return names
