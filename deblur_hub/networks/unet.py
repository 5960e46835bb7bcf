"""The shallow U-Net that deblurring reports take for a baseline."""

from typing import Literal

import torch
from torch import Tensor, nn

from .base import Generator

Norm = Literal["none", "batch"]


class UnetGenerator(Generator):
    """A U-Net (Ronneberger et al., MICCAI 2015, fig. 1) of three encoder blocks, three decoder blocks and three skips.

    The reports only describe theirs; this definition is ours. Convolutions are padded by zeros, and the last gives the
    picture itself, not its difference from the blurred one.

    Args:
        width: channels at full resolution, doubled with each halving: 64, 128, 256 and 512 at the bottom, which
            make 7,697,475 parameters.
        norm: "none", or "batch" for batch normalisation behind each 3x3 convolution, with remembered statistics in
            evaluation.
    """

    size_multiple = 8
    receptive_field = 51  # blocks 2 + 4 + 8, bottom 16, blocks 8 + 4 + 2, the grid of the bottom 7
    source = "baseline of reports, defined by us; U-Net: Ronneberger et al., MICCAI 2015, arXiv 1505.04597"
    licence = "Apache-2.0"

    def __init__(self, *, width: int = 64, norm: Norm = "none") -> None:
        super().__init__()
        first, second, third, bottom = (width * 2**level for level in range(4))
        ways = ((3, first), (first, second), (second, third))
        self.encoder = nn.ModuleList(double_conv(channels, wider, norm) for channels, wider in ways)
        self.halve = nn.MaxPool2d(2)
        self.bottom = double_conv(third, bottom, norm)
        upwards = (third, second, first)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in upwards)
        self.decoder = nn.ModuleList(double_conv(2 * width, width, norm) for width in upwards)
        self.head = nn.Conv2d(first, 3, 1)
        self.values_per_pixel = 9 * width // 2 + 6  # at full resolution: a skip, what comes up, and both side by side

    def compute(self, blurred: Tensor) -> Tensor:
        features, skips = (blurred + 1) / 2, []  # the reports' range: [0, 1]
        for block in self.encoder:
            skips.append(block(features))
            features = self.halve(skips[-1])
        features = self.bottom(features)
        for up, block in zip(self.up, self.decoder, strict=True):
            features = block(torch.cat([skips.pop(), up(features)], 1))
        return 2 * self.head(features) - 1


def double_conv(channels: int, width: int, norm: Norm) -> nn.Sequential:
    layers = nn.Sequential()
    for inputs in (channels, width):
        layers.append(nn.Conv2d(inputs, width, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(width))  # which has the bias
        layers.append(nn.ReLU(inplace=True))
    return layers
