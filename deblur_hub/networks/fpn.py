"""DeblurGAN-v2's generator: a feature pyramid over a classifier."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backbones import Backbone, Statistics, unvoid
from .backbones.inception import InceptionResnetV2
from .backbones.mobilenet import MobileNetV2
from .base import Generator, Stage, follow, of_kind
from .frame import FrameBatchNorm, FrameNorm

Norm = Literal["instance", "batch"]


class FpnGenerator(Generator):
    """DeblurGAN-v2's generator (Kupyn et al., ICCV 2019, arXiv 1908.03826, fig. 2).

    A classifier shows the picture at 1/2 to 1/32 of its size; a pyramid carries what is seen there back up, level by
    level; one head for each of the levels 1/4 to 1/32, all of them enlarged to 1/4 and joined, then smoothed on the way
    to full size, where the difference to the sharp picture comes out.

    Args:
        backbone: "mobilenetv2" and "inception-resnet-v2", the authors'. "mobilenet-dsc", which they describe but never
            released, is our reading of the paper: MobileNetV2, and in the pyramid depthwise separable convolutions
            (a 3x3 for each channel, a 1x1 across the channels, nothing in between) in place of all others.
        width: channels of the pyramid, a multiple of 4; 128 over MobileNetV2 and 256 over Inception-ResNet-v2.
        norm: of the pyramid: "instance" in the released weights; "batch".
        statistics: that batch normalisation goes by in evaluation: those of the "frame", as the authors do, who test
            in training mode, or those "stored" in training.

    Results are clamped. `backbone` is the part to be frozen while the rest warms up.

    Table 1 prints 411, 43.75 and 14.83 G for 1280x736, where 274, 38.9 and, in our reading, 9.6 G multiply-adds are
    done; to count the backbone twice and two operations for each normalised value gives 410.4, 43.74 and 14.4.

    Raises:
        ValueError: for a width that is no multiple of 4.
    """

    size_multiple = 32
    source = "DeblurGAN-v2: Kupyn et al., ICCV 2019, arXiv 1908.03826"
    licence = "BSD-2-Clause"

    def __init__(
        self,
        *,
        backbone: Literal["mobilenetv2", "inception-resnet-v2", "mobilenet-dsc"] = "mobilenetv2",
        width: int = 128,
        norm: Norm = "instance",
        statistics: Statistics = "frame",
    ) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"fpn: width {width} is not a multiple of 4")
        classifier = InceptionResnetV2 if backbone == "inception-resnet-v2" else MobileNetV2
        self.backbone: Backbone = classifier(statistics=statistics)
        half = width // 2
        convolution = separable if backbone == "mobilenet-dsc" else partial(nn.Conv2d, kernel_size=3, padding=1)
        normed = partial(NormedConvolution, convolution, norm_layer(norm, statistics))
        widths = (half, width, width, width, width)
        self.laterals = nn.ModuleList(
            nn.Conv2d(seen, kept, 1, bias=False) for seen, kept in zip(self.backbone.channels, widths, strict=True)
        )
        self.merges = nn.ModuleList(normed(width, width) for _ in range(3))  # of 1/16, 1/8 and 1/4
        self.heads = nn.ModuleList(
            nn.Sequential(
                convolution(width, half, bias=False), nn.ReLU(True), convolution(half, half, bias=False), nn.ReLU(True)
            )
            for _ in range(4)  # of 1/4 to 1/32
        )
        self.smooth = normed(4 * half, half)
        self.refine = normed(half, half // 2)
        self.final = convolution(half // 2, 3)

        self.note = {
            "mobilenetv2": "3.31 M in the authors' file, 1.2 M of which never run; the paper prints 43.75 G",
            "inception-resnet-v2": "60.93 M in the authors' file, 25.1 M of which never run; the paper prints 411 G",
            "mobilenet-dsc": "never released, our reading; the paper prints 14.83 G, counting the backbone twice",
        }[backbone]
        self.smallest_side = self.backbone.smallest_side
        # To the last tap, through its head, and three convolutions on the way up; and the grid of the last tap.
        self.reach = self.backbone.radius + 2 * 32 + (4 + 2 + 1) + 31
        if norm == "batch" and statistics == "stored":
            self.receptive_field = self.reach
        # On the way to 1/2, tap0 and three of `half` channels at once; or, separable, two enlarged ones at full size.
        unfolding = 3 + self.backbone.channels[0] // 4 + 13 * width // 32
        finishing = 6 + 9 * width // 16 if backbone == "mobilenet-dsc" else 0
        self.values_per_pixel = max(self.backbone.values_per_pixel, unfolding, finishing)

    def stages(self) -> list[Stage]:
        return self.way() if self.receptive_field is None else super().stages()

    def compute(self, blurred: Tensor) -> Tensor:
        return follow(self.way(), blurred)

    def way(self) -> list[Stage]:
        """The backbone block by block; of the pyramid, stages that begin with a normalisation."""
        void = self.backbone.void
        top = 32 * (void[4] + 1)  # reflecting takes two cells that are not void, even at the frame's end
        way = [*self.backbone.stages(), Stage(partial(self.lateral, 4), ("tap4",), "map4", top)]
        for level, merge in zip((3, 2, 1), of_kind(NormedConvolution, self.merges), strict=True):
            run, reads = partial(self.descend, level, merge), (f"tap{level}", f"map{level + 1}")
            way.append(Stage(run, reads, f"map{level}", 2 ** (level + 1) * (void[level] + 1)))
            way.append(Stage(merge.finish, (f"map{level}",), f"map{level}", 0))
        return [
            *way,
            Stage(self.join, ("map1", "map2", "map3", "map4"), "smoothed", 2 * 32 + 4),
            Stage(self.unfold, ("tap0", "smoothed"), "half", 2 * (void[0] + 1)),
            Stage(self.add, ("blurred", "half"), "restored", 1),
        ]

    def lateral(self, level: int, tap: Tensor) -> Tensor:
        """A tap in the pyramid's width, with its void parted to both sides and filled by reflection."""
        void = self.backbone.void[level]
        across = self.laterals[level](unvoid(tap, void))
        return F.pad(across, (void // 2, void - void // 2) * 2, mode="reflect") if void else across

    def descend(self, level: int, merge: "NormedConvolution", tap: Tensor, coarser: Tensor) -> Tensor:
        return merge.conv(self.lateral(level, tap) + enlarged(coarser))

    def join(self, *maps: Tensor) -> Tensor:
        seen = [enlarged(head(one), 2**up) for up, (head, one) in enumerate(zip(self.heads, maps, strict=True))]
        return self.smooth.conv(torch.cat(seen[::-1], dim=1))

    def unfold(self, tap: Tensor, smoothed: Tensor) -> Tensor:
        return self.refine.conv(enlarged(self.smooth.finish(smoothed)) + self.lateral(0, tap))

    def add(self, blurred: Tensor, half: Tensor) -> Tensor:
        difference = self.final(enlarged(self.refine.finish(half))).tanh()
        return (difference + blurred).clamp(-1, 1)


class NormedConvolution(nn.Module):
    """Conv3, and what comes behind it, in a stage of its own: normalisation and ReLU."""

    def __init__(
        self, convolution: Callable[..., nn.Module], norm: Callable[[int], nn.Module], inputs: int, channels: int
    ) -> None:
        super().__init__()
        self.conv = convolution(inputs, channels)
        self.norm = norm(channels)

    def finish(self, convolved: Tensor) -> Tensor:
        return self.norm(convolved).relu_()


def separable(inputs: int, channels: int, bias: bool = True) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then a 1x1 across them."""
    each = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(OrderedDict(each=each, across=nn.Conv2d(inputs, channels, 1, bias=bias)))


def norm_layer(norm: Norm, statistics: Statistics) -> Callable[[int], nn.Module]:
    if norm == "instance":
        return FrameNorm
    return FrameBatchNorm if statistics == "frame" else nn.BatchNorm2d


def enlarged(features: Tensor, times: int = 2) -> Tensor:
    return F.interpolate(features, scale_factor=times, mode="nearest") if times > 1 else features
