"""DMPHN: a hierarchy of ever smaller patches of the frame, each level of which helps the coarser one."""

from typing import Literal

import torch
from torch import Tensor, nn

from .base import Generator, residual_blocks, zero_bias

Grid = tuple[int, int]  # patches down and across

GRIDS: tuple[Grid, ...] = ((1, 1), (2, 1), (2, 2), (4, 2))  # of the levels, whole frame first


class DmphnGenerator(Generator):
    """Deep multi-patch hierarchical network (Zhang et al., CVPR 2019, fig. 2), one encoder and decoder a level.

    The finest level sees the smallest patches. What its decoder makes of two neighbours together is added to the
    picture that the coarser level encodes, and its features to those of the coarser level. A patch ends where the
    frame is cut, with zeros around it: what becomes of a pixel depends on its place in the frame, so that no tile can
    stand for a part of it.

    Args:
        patches: of the levels: "1-2-4-8" (7.23 M parameters) or "1-2-4" (5.42 M), the two that the authors released.
        width: channels at full resolution; twice and four times as many at 1/2 and 1/4.
    """

    source = "DMPHN: Zhang et al., CVPR 2019, arXiv 1904.03468"
    licence = "none stated"
    note = "tables that print 21.7 M mean the megabytes of its file"

    def __init__(self, *, patches: Literal["1-2-4-8", "1-2-4"] = "1-2-4-8", width: int = 32) -> None:
        super().__init__()
        self.grids = GRIDS[: len(patches.split("-"))]
        self.size_multiple = 4 * max(down for down, _ in self.grids)  # each patch is halved twice
        self.values_per_pixel = 9 * width // 2 + 12  # at full resolution: a block and the feature maps beside it
        self.encoders = nn.ModuleList(encoder(width) for _ in self.grids)
        self.decoders = nn.ModuleList(decoder(width) for _ in self.grids)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, std=0.5 * (2 / fan_out) ** 0.5)  # authors' code
                zero_bias(module)

    def compute(self, blurred: Tensor) -> Tensor:
        picture = blurred / 2  # the authors' range: [0, 1] minus 0.5
        restored, features = torch.zeros_like(picture), None
        wider = ((1, 1), *self.grids)  # a level decodes the patches of the coarser one; the whole frame stays whole
        for level in reversed(range(len(self.grids))):
            seen = join(self.encoders[level](cut(picture + restored, self.grids[level])), self.grids[level])
            features = seen if features is None else seen + features
            restored = join(self.decoders[level](cut(features, wider[level])), wider[level])
        return 2 * restored


def encoder(width: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), residual_blocks(width, 2))
    for fine in (width, 2 * width):
        layers.extend([nn.Conv2d(fine, 2 * fine, 3, stride=2, padding=1), residual_blocks(2 * fine, 2)])
    return layers


def decoder(width: int) -> nn.Sequential:
    layers = nn.Sequential(residual_blocks(4 * width, 2))
    for fine in (2 * width, width):
        layers.extend([nn.ConvTranspose2d(2 * fine, fine, 4, stride=2, padding=1), residual_blocks(fine, 2)])
    return layers.append(nn.Conv2d(width, 3, 3, padding=1))


def cut(frames: Tensor, grid: Grid) -> Tensor:
    """(N, C, H, W) to its patches, row by row: (N x down x across, C, H / down, W / across)."""
    down, across = grid
    patches = frames.unflatten(3, (across, -1)).unflatten(2, (down, -1))  # (N, C, down, h, across, w)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join(patches: Tensor, grid: Grid) -> Tensor:
    """What `cut` cut."""
    frames = patches.unflatten(0, (-1, *grid))  # (N, down, across, C, h, w)
    return frames.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
