"""DeepDeblur's multi-scale residual network, and the Gaussian pyramid that it looks at."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

from .base import Generator, residual_blocks

# A Gaussian, then the mean of two neighbours: what a bilinear resize to exactly half the side comes to. skimage's
# pyramid has a sigma of 2 * downscale / 6 = 2 / 3, and SciPy cuts it off behind 4 sigma.
BELL = [math.exp(-(at**2) / (2 * (2 / 3) ** 2)) for at in range(-3, 4)]
GAUSSIAN = [(one + other) / (2 * sum(BELL)) for one, other in pairwise([0.0, *BELL, 0.0])]
HALF_RANGE = 127.5  # the authors' networks see 0 to 255 with this taken off: [-1, 1] times it


class DeepDeblurGenerator(Generator):
    """DeepDeblur (Nah et al., CVPR 2017, fig. 3): one residual network a scale, coarse to fine, none of it shared.

    Each scale's network sees the blurred picture at its scale and, but for the coarsest, the result of the scale
    before it, enlarged by a convolution and a pixel shuffle. There is no residual to the input.

    Args:
        width: channels inside.
        blocks: residual blocks of each scale.
        scales: pictures of the pyramid, each half as high and wide as the one before.

    The pyramid is the authors', skimage.transform.pyramid_gaussian, but for rounding and but for being built from the
    padded picture: where a side is no multiple of `size_multiple`, the last rows or columns can differ.
    """

    source = "DeepDeblur: Nah et al., CVPR 2017, arXiv 1612.02177"
    licence = "MIT"

    def __init__(self, *, width: int = 64, blocks: int = 19, scales: Literal[1, 2, 3, 4] = 3) -> None:
        super().__init__()
        self.restore = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(6 if scale else 3, width, 5, padding=2),
                *residual_blocks(width, blocks, kernel=5),
                nn.Conv2d(width, 3, 5, padding=2),
            )
            for scale in range(scales)
        )
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 12, 5, padding=2), nn.PixelShuffle(2)) for _ in range(scales - 1)
        )
        self.size_multiple = 2 ** (scales - 1)
        self.smallest_side = 2**scales  # the pyramid's filter mirrors three pixels
        self.receptive_field = receptive_radius(blocks, scales)
        self.values_per_pixel = 10 + 3 * width  # the pictures; a block's input, middle and output

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        pyramid = gaussian_pyramid(blurred * HALF_RANGE, len(self.restore))
        results = [self.restore[0](pyramid.pop())]
        for enlarge, restore in zip(self.enlarge, self.restore[1:], strict=True):
            results.append(restore(torch.cat([pyramid.pop(), enlarge(results[-1])], dim=1)))
        if self.training:
            return [result / HALF_RANGE for result in results]
        return results[-1] / HALF_RANGE


def receptive_radius(blocks: int, scales: int) -> int:
    """How far from a pixel the input can still change it: all that the scales see, and the pyramid's filters."""
    network, enlarging, smoothing = 4 + 4 * blocks, 2, 4
    finer = 2 ** (scales - 1) - 1  # 1 + 2 + 4 ...: of all scales but the coarsest
    return network * (2 * finer + 1) + enlarging * 2 * finer + smoothing * finer


def gaussian_pyramid(picture: Tensor, scales: int) -> list[Tensor]:
    """The picture and its halves, fine to coarse, as skimage.transform.pyramid_gaussian with a downscale of 2."""
    pyramid = [picture]
    for _ in range(scales - 1):
        pyramid.append(halved(pyramid[-1], GAUSSIAN))
    return pyramid


def halved(picture: Tensor, taps: Sequence[float]) -> Tensor:
    """(N, C, H, W), even, to (N, C, H / 2, W / 2): smoothed, read between every two pixels, mirrored at the borders.

    Sums rather than a convolution, which would run in half precision under autocast and lose the picture's last bits.

    Args:
        taps: of the filter in each direction, of even number and with a sum of 1.
    """
    margin = len(taps) // 2 - 1
    for _ in range(2):  # along the columns, turned; and once more
        side = picture.shape[-1]
        left, right = picture[..., :margin], picture[..., side - margin :]
        framed = torch.cat([left.flip(-1), picture, right.flip(-1)], dim=-1)
        picture = cast(Tensor, sum(tap * framed[..., at : at + side : 2] for at, tap in enumerate(taps))).mT
    return picture
