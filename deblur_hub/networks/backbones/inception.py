"""Inception-ResNet-v2 up to the last layer that DeblurGAN-v2's pyramid looks at.

Its stem and its reductions convolve without padding: at a scale s the features have 1 to 4 void rows and columns.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import Stage
from ..frame import CURRENT, FrameBatchNorm, moments, normalised_by
from . import Backbone, Statistics, unvoid

EPS = 1e-3  # TensorFlow's, with which the published weights were trained
BLOCKS_A, BLOCKS_B = 10, 20  # of TensorFlow's released network, which has twice as many as fig. 15


class InceptionResnetV2(Backbone):
    """Inception-ResNet-v2 (Szegedy et al., AAAI 2017, arXiv 1602.07261), as in its released weights.

    That is: with the stem of Inception-v3, a mixed block before the residual ones, and the residuals scaled down. The
    ten blocks C, the last convolution and the classifier, which DeblurGAN-v2 carries along but never runs, are left
    out: 30.8 of 55.8 million parameters stay.
    """

    channels = (32, 64, 192, 1088, 2080)
    void = (1, 2, 3, 2, 2)
    smallest_side = 128
    radius = 2 + 8 * (2 + 2 * BLOCKS_A + 1) + 16 * (3 * BLOCKS_B + 1) + 32  # padded filters, and the tap's shift
    values_per_pixel = 50

    def __init__(self, *, statistics: Statistics = "frame") -> None:
        super().__init__()
        unit = partial(Unit, statistics=statistics)
        self.stem = nn.ModuleList(
            [
                unit(3, 32, 3, stride=2, void=1, padded=False),
                nn.Sequential(unit(32, 32, 3, void=3, padded=False), unit(32, 64, 3, void=3), nn.MaxPool2d(3, 2)),
                nn.Sequential(unit(64, 80, 1, void=2), unit(80, 192, 3, void=4, padded=False), nn.MaxPool2d(3, 2)),
            ]
        )

        unit = partial(Unit, statistics=statistics, void=3)
        self.mixed = Branches(
            unit(192, 96, 1),
            nn.Sequential(unit(192, 48, 1), unit(48, 64, 5)),
            nn.Sequential(unit(192, 64, 1), unit(64, 96, 3), unit(96, 96, 3)),
            nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), unit(192, 64, 1)),
        )
        self.blocks_a = nn.ModuleList(
            Residual(
                unit(320, 32, 1),
                nn.Sequential(unit(320, 32, 1), unit(32, 32, 3)),
                nn.Sequential(unit(320, 32, 1), unit(32, 48, 3), unit(48, 64, 3)),
                inside=128,
                channels=320,
                scale=0.17,
            )
            for _ in range(BLOCKS_A)
        )
        half = partial(Unit, statistics=statistics, stride=2, void=2, padded=False)
        self.reduction_a = Branches(
            half(320, 384, 3),
            nn.Sequential(unit(320, 256, 1), unit(256, 256, 3), half(256, 384, 3)),
            nn.MaxPool2d(3, 2),
        )

        unit = partial(Unit, statistics=statistics, void=2)
        self.blocks_b = nn.ModuleList(
            Residual(
                unit(1088, 192, 1),
                nn.Sequential(unit(1088, 128, 1), unit(128, 160, (1, 7)), unit(160, 192, (7, 1))),
                inside=384,
                channels=1088,
                scale=0.10,
            )
            for _ in range(BLOCKS_B)
        )
        self.reduction_b = Branches(
            nn.Sequential(unit(1088, 256, 1), half(256, 384, 3)),
            nn.Sequential(unit(1088, 256, 1), half(256, 288, 3)),
            nn.Sequential(unit(1088, 256, 1), unit(256, 288, 3), half(288, 320, 3)),
            nn.MaxPool2d(3, 2),
        )

    def stages(self) -> list[Stage]:
        """A block a stage, of at most seven statistics; each sees its filters' radius beyond the void that it reads."""
        legs = [
            (self.stem[0], "tap0", 0, 1, 8),
            (self.stem[1], "tap1", 1, 2, 16),
            (self.stem[2], "tap2", 2, 3, 32),
            (self.mixed, "features", 3, 3, 8 * (3 + 2)),
            *((block, "features", 3, 3, 8 * (3 + 2)) for block in self.blocks_a),
            (self.reduction_a, "tap3", 3, 2, 64),
            *((block, "features", 2, 2, 16 * (2 + 3)) for block in self.blocks_b),
            (self.reduction_b, "tap4", 2, 2, 96),
        ]
        stages, name = [], "blurred"
        for block, result, before, behind, reach in legs:
            stages.append(Stage(partial(on_grid, block, before, behind), (name,), result, reach))
            name = result
        return stages


def on_grid(block: nn.Module, before: int, behind: int, features: Tensor) -> Tensor:
    """The block on features of which `before` rows and columns are void; `behind` of the result's are."""
    return F.pad(block(unvoid(features, before)), (0, behind, 0, behind))


class Branches(nn.ModuleList):
    """Several ways from the same features, and what they find, one behind the other in the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__(branches)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([branch(features) for branch in self], dim=1)


class Residual(nn.Module):
    """ReLU(x + scale * Conv1(branches of x)), figs. 16 and 17; the scale keeps deep stacks from blowing up (3.3)."""

    def __init__(self, *branches: nn.Module, inside: int, channels: int, scale: float) -> None:
        super().__init__()
        self.branches = Branches(*branches)
        self.project = nn.Conv2d(inside, channels, 1)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return (features + self.scale * self.project(self.branches(features))).relu_()


class Unit(nn.Sequential):
    """A convolution, padded or not, batch normalisation and ReLU; the result is `void` rows and columns short."""

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel: int | tuple[int, int],
        *,
        statistics: Statistics,
        void: int,
        stride: int = 1,
        padded: bool = True,
    ) -> None:
        super().__init__()
        tall, broad = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (tall // 2, broad // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, padding=padding, bias=False)
        self.norm = ShortBatchNorm(channels, void) if statistics == "frame" else nn.BatchNorm2d(channels, eps=EPS)
        self.activation = nn.ReLU(inplace=True)


class ShortBatchNorm(FrameBatchNorm):
    """`FrameBatchNorm` of features that are `void` rows and columns short of the frame's grid.

    Where tiles share statistics, they share those of features with zeros in the place of what is missing and of a
    channel of ones that becomes zeros there too; from both follow the statistics of what is there.
    """

    def __init__(self, channels: int, void: int) -> None:
        super().__init__(channels, eps=EPS)
        self.void = void

    def forward(self, features: Tensor) -> Tensor:
        if self.training or (CURRENT.get() is None and features.dtype in (torch.float32, torch.float64)):
            return super().forward(features)
        marked = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        found = moments(F.pad(marked, (0, self.void, 0, self.void)))
        if found is None:
            return super().forward(features)
        (mean, variance), channels = found, self.num_features
        share = mean[:, channels:].double()
        mean, variance = mean[:, :channels].double() / share, variance[:, :channels].double() / share
        variance = (variance - (1 - share) * mean.square()).clamp(min=0)
        return normalised_by(mean.float(), variance.float(), features, self.weight, self.bias, self.eps)
