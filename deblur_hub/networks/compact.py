"""Our own generator for CPUs and free Spaces: a residual U-Net that works at 1/4 of the resolution and below."""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from .base import Generator, residual_blocks, zero_bias


class CompactGenerator(Generator):
    """A residual U-Net behind a pixel-unshuffle, of dense 3x3 convolutions and ReLU alone.

    On a CPU, dense convolutions of many channels on few pixels reach the machine's arithmetic rate; depthwise
    convolutions, normalisation and gates do not.

    Args:
        widths: channels of each level, at 1/unshuffle of the resolution and then at half of the one before.
        blocks: residual blocks of each level; every level but the last has them twice, on the way down and up.
        unshuffle: pixels of a side that are folded into channels at the input and unfolded at the output.
    """

    source = "ours; residual blocks of EDSR: Lim et al., CVPRW 2017, arXiv 1707.02921"
    licence = "Apache-2.0"

    def __init__(
        self, *, widths: tuple[int, ...] = (64, 128, 256), blocks: tuple[int, ...] = (1, 2, 4), unshuffle: int = 4
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError(f"compact: widths {list(widths)} and blocks {list(blocks)} differ in length")
        *outer, inner = zip(widths, blocks, strict=True)
        self.fold = nn.PixelUnshuffle(unshuffle)
        self.stem = nn.Conv2d(3 * unshuffle**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(residual_blocks(width, depth) for width, depth in outer)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.middle = residual_blocks(*inner)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2)) for fine, coarse in pairwise(widths)
        )
        self.decoder = nn.ModuleList(residual_blocks(width, depth) for width, depth in outer)
        self.head = nn.Conv2d(widths[0], 3 * unshuffle**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(unshuffle)

        self.size_multiple = unshuffle * 2 ** len(outer)
        self.receptive_field = receptive_radius(blocks, unshuffle)
        # The picture, its fold and its copy in another type; at the finest level the stem's output or the skip, and a
        # block's input, middle and output.
        self.values_per_pixel = 9 + 4 * widths[0] // unshuffle**2
        nn.init.zeros_(self.head.weight)  # starts as the identity: the worst that an untrained one does is nothing
        zero_bias(self.head)

    def compute(self, blurred: Tensor) -> Tensor:
        return blurred + self.unfold(self.decode(self.stem(self.fold(blurred))))

    def decode(self, features: Tensor) -> Tensor:
        """From the stem's features to the head's, (N, C, H / unshuffle, W / unshuffle)."""
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            skips.append(blocks(features))
            features = down(skips[-1])
        features = self.middle(features)
        for blocks, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            features = blocks(up(features) + skips.pop())
        return cast(Tensor, self.head(features))


def receptive_radius(blocks: tuple[int, ...], unshuffle: int) -> int:
    """How far from a pixel the input can still change it: two 3x3 convolutions a block, at the scale of its level."""
    *outer, inner = blocks
    passes = [*(2 * depth for depth in outer), inner]
    radius = 2 + sum(2 * passed * 2**level for level, passed in enumerate(passes))  # with the stem and the head
    return unshuffle * (radius + 2 ** len(outer))  # and the grid of the coarsest level
