"""DeblurGAN's generator and its relatives in the Keras port and the BCE + L1 reports."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from .base import Generator, Stage, follow, of_kind, zero_bias
from .frame import FrameNorm

Norm = Literal["instance", "batch", "none"]
Upsampling = Literal["transposed3", "transposed4", "nearest"]


class ResnetGenerator(Generator):
    """DeblurGAN's generator (Kupyn et al., CVPR 2018, fig. 3): encoder, residual blocks, decoder, global residual.

    Args:
        width: channels of the first convolution; the residual blocks have four times as many.
        blocks: residual blocks: 9 in the paper, 6 in the BCE + L1 reports.
        norm: "instance" in the paper, over the whole frame in training and in evaluation; "batch" in the Keras port
            and the reports, with remembered statistics in evaluation; "none".
        downsampling: what the convolutions of stride 2 pad with zeros: "centred", one row or column on each side, the
            paper; "same", one at the bottom and one at the right, as TensorFlow's "same" is for even sides and the
            Keras port has it. Weights fit the one alone that they were trained with.
        upsampling: "transposed3" (3x3, the paper), "transposed4" (4x4, reports), "nearest" (nearest upsampling and a
            3x3 convolution, the Keras port's answer to checkerboards).
        residual: "clamp" for clamp(x + y, -1, 1), the paper; "half" for (x + y) / 2, the Keras port; "none" for y.
        dropout: probability of zeroing a value inside each residual block while training; the authors train with
            0.5. It is off in evaluation (their released code leaves it on).

    Results are in [-1, 1].
    """

    size_multiple = 4
    smallest_side = 8
    source = "DeblurGAN: Kupyn et al., CVPR 2018, arXiv 1711.07064"
    licence = "BSD-2-Clause"

    def __init__(
        self,
        *,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        downsampling: Literal["centred", "same"] = "centred",
        upsampling: Upsampling = "transposed3",
        residual: Literal["clamp", "half", "none"] = "clamp",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm, self.residual = norm, residual
        self.values_per_pixel = (4 if upsampling == "nearest" else 3) * width
        if norm != "instance":
            # Stem 3, strides 1 + 2, blocks, upsampling 4 + 2, head 3, the grid 4.
            self.receptive_field = 19 + 8 * blocks
        enter = nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *normed(norm, width)
        self.stem = nn.Sequential(*enter, halved(downsampling, width, 2 * width))
        self.down = nn.Sequential(*normed(norm, 2 * width), halved(downsampling, 2 * width, 4 * width))
        self.bridge = nn.Sequential(*normed(norm, 4 * width))
        self.blocks = nn.ModuleList(ResnetBlock(4 * width, norm, dropout) for _ in range(blocks))
        self.up = doubled(upsampling, 4 * width, 2 * width)
        self.finish = nn.Sequential(
            *normed(norm, 2 * width),
            *doubled(upsampling, 2 * width, width),
            *normed(norm, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)  # authors' options; the paper does not say
                zero_bias(module)

    def compute(self, blurred: Tensor) -> Tensor:
        return follow(self.way(), blurred)

    def stages(self) -> list[Stage]:
        return self.way() if self.norm == "instance" else super().stages()

    def way(self) -> list[Stage]:
        """Stages that begin with a normalisation where they can: its statistics then cost no computing twice."""
        way = [
            Stage(self.stem, ("blurred",), "half", 8),
            Stage(self.down, ("half",), "quarter", 8),
            Stage(self.bridge, ("quarter",), "features", 0),
        ]
        for block in of_kind(ResnetBlock, self.blocks):
            way += [
                Stage(block.first, ("features",), "inside", 8),
                Stage(block.second, ("inside",), "inside", 8),
                Stage(block.join, ("features", "inside"), "features", 0),
            ]
        up = Stage(self.up, ("features",), "half", 8)
        return [*way, up, Stage(self.add, ("blurred", "half"), "restored", 12)]

    def add(self, blurred: Tensor, half: Tensor) -> Tensor:
        difference = self.finish(half)
        if self.residual == "clamp":
            return (blurred + difference).clamp(-1, 1)
        return (blurred + difference) / 2 if self.residual == "half" else difference


class ResnetBlock(nn.Module):
    """x + norm(Conv3(Dropout(ReLU(norm(Conv3(x)))))), padded by reflection."""

    def __init__(self, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3))
        self.second = nn.Sequential(
            *normed(norm, width), nn.Dropout(dropout), nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3)
        )
        self.last = norm_layer(norm, width)

    def join(self, features: Tensor, inside: Tensor) -> Tensor:
        return features + self.last(inside)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    return {"instance": FrameNorm, "batch": nn.BatchNorm2d, "none": nn.Identity}[norm](channels)


def normed(norm: Norm, channels: int) -> list[nn.Module]:
    return [norm_layer(norm, channels), nn.ReLU(inplace=norm != "none")]  # a held result is not to be written into


def halved(downsampling: str, channels: int, wider: int) -> nn.Conv2d:
    """Half the height and width, twice the channels."""
    if downsampling == "same":
        return SameConv2d(channels, wider, 3, stride=2)
    return nn.Conv2d(channels, wider, 3, stride=2, padding=1)


class SameConv2d(nn.Conv2d):
    """TensorFlow's 3x3 convolution of stride 2 with padding "same", for even sides."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.pad(features, (0, 1, 0, 1)))


def doubled(upsampling: Upsampling, channels: int, narrower: int) -> nn.Sequential:
    """Twice the height and width, half the channels."""
    if upsampling == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, narrower, 3, padding=1))
    kernel, more = (3, 1) if upsampling == "transposed3" else (4, 0)
    return nn.Sequential(nn.ConvTranspose2d(channels, narrower, kernel, stride=2, padding=1, output_padding=more))
