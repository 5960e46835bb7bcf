"""NAFNet: a U-Net of blocks without activation functions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Generator, Stage, of_kind
from .frame import FramePool


class NafnetGenerator(Generator):
    """Nonlinear activation free network (Chen et al., ECCV 2022): U-Net, gated blocks, global residual.

    Each block weighs its channels by their means over the frame. The authors' published scores are with these means
    taken over windows of 384 pixels at test time (TLC: Chu et al., ECCV 2022, arXiv 2112.04491), which we do not: the
    GoPro PSNR of width 64, 33.71 dB, is 33.08 dB without. The windows leave mosaics of colour in some photographs.

    Args:
        width: channels at full resolution; every level down has twice as many. 32 or 64 in the paper.
        encoder_blocks: blocks of each level on the way down, finest first.
        middle_blocks: blocks of the coarsest level.
        decoder_blocks: blocks of each level on the way up, coarsest first; as many levels as on the way down.

    Raises:
        ValueError: if the ways down and up differ in length.
    """

    source = "NAFNet: Chen et al., ECCV 2022, arXiv 2204.04676"
    licence = "MIT"

    def __init__(
        self,
        *,
        width: int = 32,
        encoder_blocks: tuple[int, ...] = (1, 1, 1, 28),
        middle_blocks: int = 1,
        decoder_blocks: tuple[int, ...] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(encoder_blocks) != len(decoder_blocks):
            ways = f"encoder_blocks {list(encoder_blocks)} and decoder_blocks {list(decoder_blocks)}"
            raise ValueError(f"nafnet: {ways} differ in length")
        widths = [width * 2**level for level in range(len(encoder_blocks) + 1)]
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.encoder = nn.ModuleList(naf_blocks(*of) for of in zip(widths[:-1], encoder_blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, 2 * fine, 2, stride=2) for fine in widths[:-1])
        self.middle = naf_blocks(widths[-1], middle_blocks)
        self.up = nn.ModuleList(Up(coarse) for coarse in reversed(widths[1:]))
        self.decoder = nn.ModuleList(naf_blocks(*of) for of in zip(reversed(widths[:-1]), decoder_blocks, strict=True))
        self.ending = nn.Conv2d(width, 3, 3, padding=1)

        self.size_multiple = 2 ** len(encoder_blocks)
        self.reach = self.size_multiple + sum(stage.reach or 0 for stage in self.stages())  # with the coarsest grid
        # At full resolution, in the last block, 7.5 widths: the skip, the features from below (half a width), the
        # block's input, gated half and middle, and that normalised and expanded. Some to spare: under autocast the sums
        # along the residuals stay in float32.
        self.values_per_pixel = 3 + 10 * width

    def stages(self) -> list[Stage]:
        """Two stages a block, of which the second begins with the mean over the frame; at full size one, where the
        first half of a block is cheaper to compute again than to keep. The ways down and up need no margin.
        """
        encoder = [of_kind(NafBlock, blocks) for blocks in of_kind(nn.Sequential, self.encoder)]
        decoder = [of_kind(NafBlock, blocks) for blocks in of_kind(nn.Sequential, self.decoder)]
        first, *others = encoder[0]
        below = [*encoder[1:], of_kind(NafBlock, self.middle)]
        way = [Stage(lambda blurred: first(self.enter(blurred)), ("blurred",), "level 0", 2), *in_one(others)]
        for level, (down, blocks) in enumerate(zip(self.down, below, strict=True), 1):
            way += [Stage(down, (f"level {level - 1}",), f"level {level}", 0), *in_two(blocks, level)]
        *coarser, finest = zip(of_kind(Up, self.up), decoder, strict=True)
        for level, (up, blocks) in zip(range(len(coarser), 0, -1), coarser, strict=True):
            way += [climb(up, level), *in_two(blocks, level)]
        up, (*others, last) = finest
        if others:
            way += [climb(up, 0), *in_one(others)]
            return [*way, Stage(lambda x, blurred: self.leave(last(x), blurred), ("level 0", "blurred"), "restored", 2)]
        reads = ("level 1", "level 0", "blurred")
        return [*way, Stage(lambda x, skip, blurred: self.leave(last(up(x, skip)), blurred), reads, "restored", 2)]

    def enter(self, blurred: Tensor) -> Tensor:
        return self.intro((blurred + 1) / 2)  # the authors' values are in [0, 1]

    def leave(self, features: Tensor, blurred: Tensor) -> Tensor:
        return blurred + 2 * self.ending(features)


class NafBlock(nn.Module):
    """Gated convolution with channel attention, then a gated feed-forward part, each scaled and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Sequential(
            LayerNorm2d(width, eps=1e-6),
            nn.Conv2d(width, 2 * width, 1),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width),
        )
        self.attention = nn.Sequential(FramePool(), nn.Conv2d(width, width, 1))
        self.mix = nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.expand = nn.Sequential(LayerNorm2d(width, eps=1e-6), nn.Conv2d(width, 2 * width, 1))
        self.shrink = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.second(features, self.first(features))

    def first(self, features: Tensor) -> Tensor:
        """Up to the first gate: all of the block that looks around."""
        return gate(self.spread(features))

    def second(self, features: Tensor, gated: Tensor) -> Tensor:
        features = features + self.beta * self.mix(gated * self.attention(gated))
        return features + self.gamma * self.shrink(gate(self.expand(features)))


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (N, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        last = F.layer_norm(features.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.movedim(-1, 1)


class Up(nn.Module):
    """Twice the height and width, half the channels, plus the skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return F.pixel_shuffle(self.widen(coarse), 2) + skip


def gate(features: Tensor) -> Tensor:
    """The paper's SimpleGate: one half of the channels times the other."""
    one, other = features.chunk(2, dim=1)
    return one * other


def naf_blocks(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(NafBlock(width) for _ in range(depth)))


def climb(up: Up, level: int) -> Stage:
    return Stage(up, (f"level {level + 1}", f"level {level}"), f"level {level}", 0)


def in_one(blocks: Sequence[NafBlock]) -> list[Stage]:
    """Blocks of full resolution."""
    return [Stage(block, ("level 0",), "level 0", 1) for block in blocks]


def in_two(blocks: Sequence[NafBlock], level: int) -> list[Stage]:
    features, reach = f"level {level}", 2**level
    way = []
    for block in blocks:
        way.append(Stage(block.first, (features,), "gated", reach))
        way.append(Stage(block.second, (features, "gated"), features, 0))
    return way
