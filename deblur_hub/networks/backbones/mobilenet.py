"""MobileNetV2 up to the last layer that DeblurGAN-v2's pyramid looks at."""

from typing import Any

from torch import Tensor, nn

from ..base import Stage, of_kind
from ..frame import FrameBatchNorm
from . import Backbone, Statistics

# Expansion, channels, blocks and the stride of the first of them: table 2 of the paper, up to the second block of 160.
PLAN = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 2, 2))
TAPS = {0: "tap0", 2: "tap1", 5: "tap2", 9: "tap3", 14: "tap4"}  # block -> what it ends in


class MobileNetV2(Backbone):
    """MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381): inverted residuals with linear bottlenecks."""

    channels = (16, 24, 32, 64, 160)
    void = (0, 0, 0, 0, 0)
    smallest_side = 64
    radius = 1 + 2 * 2 + 4 * 2 + 8 * 3 + 16 * 7 + 32 * 1  # a cell for each 3x3 convolution, at the scale that it reads
    values_per_pixel = 55  # where it is widest: 96 channels at 1/2, filtered

    def __init__(self, *, statistics: Statistics = "frame") -> None:
        super().__init__()
        self.stem = convolved(3, 32, kernel=3, stride=2, statistics=statistics)
        blocks, inputs = [], 32
        for expansion, channels, repeats, stride in PLAN:
            for number in range(repeats):
                first = 1 if number else stride
                blocks.append(InvertedResidual(inputs, channels, expansion, stride=first, statistics=statistics))
                inputs = channels
        self.blocks = nn.ModuleList(blocks)

    def stages(self) -> list[Stage]:
        """A block a stage."""
        stages, name, scale = [Stage(self.stem, ("blurred",), "features", 2)], "features", 2
        for number, block in enumerate(of_kind(InvertedResidual, self.blocks)):
            scale *= block.stride
            stages.append(Stage(block, (name,), TAPS.get(number, "features"), scale))
            name = stages[-1].writes
        return stages


class InvertedResidual(nn.Module):
    """x + Conv1(Conv3, depthwise(Conv1(x))), wide in the middle, with nothing behind the narrow end (fig. 4d).

    x is added where it has the shape of the result.
    """

    def __init__(self, inputs: int, channels: int, expansion: int, *, stride: int, statistics: Statistics) -> None:
        super().__init__()
        wide = inputs * expansion
        self.stride, self.adds = stride, stride == 1 and inputs == channels
        self.expand = convolved(inputs, wide, statistics=statistics) if expansion > 1 else nn.Identity()
        self.filter = convolved(wide, wide, kernel=3, stride=stride, groups=wide, statistics=statistics)
        self.project = convolved(wide, channels, statistics=statistics, active=False)

    def forward(self, features: Tensor) -> Tensor:
        found = self.project(self.filter(self.expand(features)))
        return features + found if self.adds else found


def convolved(
    inputs: int, channels: int, *, statistics: Statistics, kernel: int = 1, active: bool = True, **options: Any
) -> nn.Sequential:
    """A convolution with these options, batch normalisation, and ReLU6 where it is to be active."""
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(inputs, channels, kernel, padding=kernel // 2, bias=False, **options))
    layers.add_module("norm", (FrameBatchNorm if statistics == "frame" else nn.BatchNorm2d)(channels))
    if active:
        layers.add_module("activation", nn.ReLU6(inplace=True))
    return layers
