"""PSS-NSC: SRN's encoder-decoder with some weights for each scale and the others for all, used twice."""

from typing import Literal

import torch
from torch import Tensor, nn

from .base import Generator, ResidualBlock, of_kind, residual_blocks
from .srn import bilinear_pyramid, doubled, recurrent_radius, start_plainly


class PssNscGenerator(Generator):
    """Parameter selective sharing and nested skip connections (Gao et al., CVPR 2019), as in the authors' test code.

    That has 3.87 M parameters, where the paper names 2.84 M. It restores red, green and blue one by one. At each scale
    it sees the blurred picture and the result of the scale before, enlarged bilinearly, through which no gradient
    flows; the output is a residual to the blurred picture. What extracts features and what changes their size or number
    belongs to one scale; the nested-skip modules are shared by all.

    Each unit of a nested-skip module sees its input plus the outputs of the units before: they are residual blocks.

    Args:
        width: channels at full resolution; at a half and a quarter there are two and four times as many.
        blocks: units of a nested-skip module.
        iterations: how often a module is used, one time behind another.
        scales: sizes at which the picture is restored, each half as high and wide as the one before.

    Borders and resizes are PyTorch's, not TensorFlow's: see `srn`.
    """

    source = "PSS-NSC: Gao et al., CVPR 2019"
    licence = "none stated"
    note = "as in the authors' test code; the paper names 2.84 M"

    def __init__(
        self, *, width: int = 32, blocks: int = 4, iterations: int = 2, scales: Literal[1, 2, 3, 4] = 3
    ) -> None:
        super().__init__()
        self.own = nn.ModuleList(OwnLayers(width) for _ in range(scales))
        self.encoders = nn.ModuleList(residual_blocks(width * times, blocks) for times in (1, 2, 4))
        self.decoders = nn.ModuleList(residual_blocks(width * times, blocks) for times in (4, 2, 1))
        self.iterations = iterations

        self.size_multiple = 4 * 2 ** (scales - 1)
        seen = 11 + 28 * blocks * iterations  # stem and head 2, strides and enlarging 9, modules
        self.receptive_field = recurrent_radius(seen, scales)
        # The pictures; for each of the colours what a module starts from and a block's input, middle and output at the
        # finest scale, and the output of the half scale.
        self.values_per_pixel = 11 + 3 * (4 * width + width // 2)
        start_plainly(self)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                # Ours: Glorot alone, as the test code has it, starts with results of 1e8. How they trained is not
                # published.
                nn.init.xavier_uniform_(module.second.weight, gain=0.1)

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        colours = (blurred + 1) / 2
        pyramid = bilinear_pyramid(colours.reshape(-1, 1, *colours.shape[-2:]), len(self.own))
        guess = pyramid[0]
        results: list[Tensor] = []
        for picture, own in zip(pyramid, of_kind(OwnLayers, self.own), strict=True):
            if results:
                guess = doubled(results[-1].detach() if self.training else results[-1])
            results.append(picture + self.restore(torch.cat([picture, guess], dim=1), own))
        restored = [2 * result.reshape(-1, 3, *result.shape[-2:]) - 1 for result in results]
        return restored if self.training else restored[-1]

    def restore(self, features: Tensor, own: "OwnLayers") -> Tensor:
        """One scale: the picture and the guess to what the picture lacks."""
        skips = []
        for enter, shared in zip(own.enter, self.encoders, strict=True):
            skips.append(features := self.repeated(shared, enter(features)))
        features = self.repeated(self.decoders[0], skips.pop())
        for leave, shared in zip(own.leave, self.decoders[1:], strict=True):
            features = self.repeated(shared, leave(features) + skips.pop())
        return own.head(features)

    def repeated(self, shared: nn.Module, features: Tensor) -> Tensor:
        for _ in range(self.iterations):
            features = shared(features)
        return features


class OwnLayers(nn.Module):
    """The layers that one scale does not share: into the encoders, out of the decoders, and to the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        plan = ((2, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2))
        self.enter = nn.ModuleList(activated(nn.Conv2d(c, wide, 3, step, padding=1)) for c, wide, step in plan)
        self.leave = nn.ModuleList(
            activated(nn.ConvTranspose2d(2 * fine, fine, 4, stride=2, padding=1)) for fine in (2 * width, width)
        )
        self.head = nn.Conv2d(width, 1, 3, padding=1)


def activated(convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, nn.ReLU(inplace=True))
