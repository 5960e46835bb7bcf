"""A report's autoencoder: a deepening encoder, a dilated bottleneck, a residual decoder with attention."""

from itertools import pairwise

from torch import Tensor, nn

from .base import Generator, ResidualBlock, residual_blocks
from .frame import FramePool

MOST_LEVELS = 6
REDUCTION = 8


class AutoencoderGenerator(Generator):
    """An autoencoder that sees far at its bottleneck, by dilation, and has no skips around it.

    The report only describes its network, of about 10.3 M parameters; this definition is ours and has 10,340,459. The
    bottleneck is one residual block for each dilation (Yu and Koltun, ICLR 2016); the decoder's have channel attention
    (RCAN: Zhang et al., ECCV 2018, fig. 4). It gives the picture itself, not its difference from the blurred one.

    Args:
        width: channels at full resolution, doubled with each halving.
        blocks: residual blocks of each level, finest first, encoder and decoder alike; the last is the encoder's alone.
        dilations: of the 3x3 convolutions of each block of the bottleneck.

    Raises:
        ValueError: for more than six levels.
    """

    source = "a report's, defined by us; attention of RCAN: Zhang et al., ECCV 2018, arXiv 1807.02758"
    licence = "Apache-2.0"

    def __init__(
        self,
        *,
        width: int = 64,
        blocks: tuple[int, ...] = (1, 2, 3),
        dilations: tuple[int, ...] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        if len(blocks) > MOST_LEVELS:
            raise ValueError(f"autoencoder: blocks {list(blocks)} are {len(blocks)} levels, more than {MOST_LEVELS}")
        widths = [width * 2**level for level in range(len(blocks))]
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.encoder = nn.ModuleList(residual_blocks(*level) for level in zip(widths, blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths))
        self.bottleneck = nn.Sequential(*(ResidualBlock(widths[-1], dilation=dilation) for dilation in dilations))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(coarse, fine, 3, padding=1))
            for fine, coarse in pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(*(AttentiveBlock(fine) for _ in range(depth)))
            for fine, depth in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.head = nn.Conv2d(width, 3, 3, padding=1)

        self.size_multiple = 2 ** (len(blocks) - 1)
        self.reach = radius(blocks, dilations)
        self.values_per_pixel = 9 * width // 2 + 6  # at full resolution: a block, its change and its scaled change

    def compute(self, blurred: Tensor) -> Tensor:
        features = self.encoder[0](self.stem((blurred + 1) / 2))  # the report's range: [0, 1]
        for down, blocks in zip(self.down, self.encoder[1:], strict=True):
            features = blocks(down(features))
        features = self.bottleneck(features)
        for up, blocks in zip(reversed(self.up), reversed(self.decoder), strict=True):
            features = blocks(up(features))
        return 2 * self.head(features) - 1


class AttentiveBlock(nn.Module):
    """x + y times its channels' attention, where y = Conv3(ReLU(Conv3(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(1, width // REDUCTION)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )
        self.attention = nn.Sequential(
            FramePool(), nn.Conv2d(width, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        change = self.body(features)
        return features + change * self.attention(change)


def radius(blocks: tuple[int, ...], dilations: tuple[int, ...]) -> int:
    """How far from a pixel the input can still change it while the channels' attention stays as it is."""
    *outer, inner = blocks
    coarsest = 2 ** len(outer)
    finer = sum((4 * depth + 2) * 2**level for level, depth in enumerate(outer))  # blocks and resizing, down and up
    return 2 + coarsest - 1 + finer + 2 * (inner + sum(dilations)) * coarsest  # with stem, head and the coarsest grid
