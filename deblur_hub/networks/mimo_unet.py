"""MIMO-UNet: one U-Net that takes and gives the picture at three scales."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Generator, residual_blocks


class MimoUnetGenerator(Generator):
    """Multi-input multi-output U-Net (Cho et al., ICCV 2021), of residual blocks at three resolutions.

    The picture itself joins the encoder at halves and quarters of its size, every decoder sees the features of all
    encoders, and each scale has an output of its own, to which the picture of that size is added.

    Args:
        width: channels at full resolution; 2 and 4 times as many at halves and quarters.
        blocks: residual blocks of each encoder and each decoder: 8, and 20 in MIMO-UNet+.
        dropout: probability of zeroing a fused feature map while training: 0.1 in the authors' code of MIMO-UNet+.

    Raises:
        ValueError: if the width is below 2, which leaves no channels beside those of the picture.
    """

    size_multiple = 4
    source = "MIMO-UNet: Cho et al., ICCV 2021, arXiv 2108.05054"
    licence = "none stated"

    def __init__(self, *, width: int = 32, blocks: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"mimo_unet: width {width} is below 2")
        full, half, quarter = width, 2 * width, 4 * width
        self.stem = nn.Sequential(nn.Conv2d(3, full, 3, padding=1), nn.ReLU(inplace=True))
        self.encoder_full = residual_blocks(full, blocks)
        self.down_half = halved(full, half)
        self.enter_half = Entrance(half)
        self.encoder_half = residual_blocks(half, blocks)
        self.down_quarter = halved(half, quarter)
        self.enter_quarter = Entrance(quarter)
        self.encoder_quarter = residual_blocks(quarter, blocks)
        self.fuse_half = Fusion([full, half, quarter], half)
        self.fuse_full = Fusion([full, half, quarter], full)
        self.dropout = nn.Dropout2d(dropout)

        self.decoder_quarter = residual_blocks(quarter, blocks)
        self.leave_quarter = nn.Conv2d(quarter, 3, 3, padding=1)
        self.up_half = doubled(quarter, half)
        self.join_half = nn.Sequential(nn.Conv2d(2 * half, half, 1), nn.ReLU(inplace=True))
        self.decoder_half = residual_blocks(half, blocks)
        self.leave_half = nn.Conv2d(half, 3, 3, padding=1)
        self.up_full = doubled(half, full)
        self.join_full = nn.Sequential(nn.Conv2d(2 * full, full, 1), nn.ReLU(inplace=True))
        self.decoder_full = residual_blocks(full, blocks)
        self.leave_full = nn.Conv2d(full, 3, 3, padding=1)

        # Two pixels a block at the scales 1, 2, 4, 4, 2, 1; stem and head 1 + 1, ways down 1 + 2, entrances 2 + 4,
        # ways up 4 + 2; the grid of the quarters.
        self.receptive_field = 28 * blocks + 17 + self.size_multiple
        # Where the last decoder begins: the fused skip, the features from below, both side by side, the coarser levels.
        self.values_per_pixel = 6 + 21 * width // 4

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        pictures = [blurred, blurred[..., ::2, ::2], blurred[..., ::4, ::4]]

        full = self.encoder_full(self.stem((blurred + 1) / 2))  # the authors' values are in [0, 1]
        half = self.encoder_half(self.enter_half(self.down_half(full), pictures[1]))
        features = self.encoder_quarter(self.enter_quarter(self.down_quarter(half), pictures[2]))
        levels = [full, half, features]
        half, full = self.dropout(self.fuse_half(levels)), self.dropout(self.fuse_full(levels))
        del levels

        outputs = []
        features = self.decoder_quarter(features)
        if self.training:
            outputs.append(pictures[2] + 2 * self.leave_quarter(features))
        features = self.decoder_half(self.join_half(torch.cat([self.up_half(features), half], 1)))
        if self.training:
            outputs.append(pictures[1] + 2 * self.leave_half(features))
        features = self.decoder_full(self.join_full(torch.cat([self.up_full(features), full], 1)))
        outputs.append(blurred + 2 * self.leave_full(features))
        return outputs if self.training else outputs[-1]


class Entrance(nn.Module):
    """A smaller picture's own features (the paper's SCM), and where they join those from above (its FAM)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        plan = (
            (3, width // 4, 3),
            (width // 4, width // 2, 1),
            (width // 2, width // 2, 3),
            (width // 2, width - 3, 1),
        )
        self.extract = nn.Sequential()
        for inputs, outputs, kernel in plan:
            self.extract.extend([nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)])
        self.mix = nn.Conv2d(width, width, 1)
        self.merge = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        picture = (picture + 1) / 2
        own = self.mix(torch.cat([picture, self.extract(picture)], 1))
        return features + self.merge(features * own)


class Fusion(nn.Module):
    """The features of all levels brought to the size of one (the paper's AFF).

    Its 1x1 convolution of all of them side by side is done level by level, each at its own size or at this one if
    that is smaller: with nearest resizing the outcome is the same, in less memory.
    """

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.level = widths.index(width)
        self.parts = nn.ModuleList(nn.Conv2d(own, width, 1, bias=own == width) for own in widths)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        fused = self.parts[-1](levels[-1])
        for level in range(len(levels) - 2, -1, -1):
            if level >= self.level:
                fused = F.interpolate(fused, scale_factor=2)
            step = 2 ** max(0, self.level - level)
            fused = fused + self.parts[level](levels[level][..., ::step, ::step])
        return self.smooth(fused.relu_())


def halved(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU(inplace=True))


def doubled(channels: int, narrower: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(channels, narrower, 4, stride=2, padding=1), nn.ReLU(inplace=True))
