"""Critics: networks that judge pictures, for the adversarial losses."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class PatchCritic(nn.Module):
    """PatchGAN (Isola et al., CVPR 2017) as DeblurGAN uses it: it sees the picture alone, not the blurred input.

    Args:
        layers: convolutions of stride 2; DeblurGAN takes 3.
        width: channels of the first convolution.

    `forward` maps (N, 3, H, W) in [-1, 1] to a map of scores (N, 1, h, w); instance norm behind all but the first
    and the last convolution, so that the score of a picture does not depend on its batch, which a gradient penalty
    needs. H and W at least 32 for 3 layers. It computes in float32 whatever the precision around it: accelerate turns
    autocast on inside the forward of all that it prepares, and half precision would not carry the second derivative
    that a gradient penalty takes.
    """

    def __init__(self, *, layers: int = 3, width: int = 64) -> None:
        super().__init__()
        channels = [width * min(2**level, 8) for level in range(layers + 1)]
        # Padding 2 for a kernel of 4 is the authors' choice; it makes a map of 35x35 for 256x256.
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
        for level, (narrow, wide) in enumerate(pairwise(channels), start=1):
            parts += [
                nn.Conv2d(narrow, wide, 4, stride=2 if level < layers else 1, padding=2),
                nn.InstanceNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
        parts.append(nn.Conv2d(channels[-1], 1, 4, padding=2))
        self.body = nn.Sequential(*parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, picture: Tensor) -> Tensor:
        with torch.autocast(picture.device.type, enabled=False):
            return self.body(picture.float())


CRITICS = {"patchgan": PatchCritic}
