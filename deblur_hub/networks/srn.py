"""SRN-DeblurNet: one encoder-decoder that goes over the picture at every scale, coarse to fine."""

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Generator, zero_bias
from .deepdeblur import ResidualBlock, halved

BILINEAR = (1 / 8, 3 / 8, 3 / 8, 1 / 8)  # a bilinear resize to half the side that smooths, as Pillow's does


class Variant(NamedTuple):
    """What sets the published SRNs apart.

    Args:
        channels: 3, or 1 for a network that sees red, green and blue one by one.
        cell: kernel of the ConvLSTM between encoder and decoder; 0 for none.
        up: kernel of the transposed convolutions.
        guess: what the coarsest scale gets in place of a result before it: the blurred picture or zeros.
        signed: pictures are in [-1, 1] inside, else in [0, 1].
    """

    channels: int
    cell: int
    up: int
    guess: Literal["blurred", "zeros"]
    signed: bool


VARIANTS = {
    "color": Variant(channels=3, cell=0, up=4, guess="blurred", signed=False),
    "lstm": Variant(channels=1, cell=3, up=4, guess="blurred", signed=False),
    "lstm-color": Variant(channels=3, cell=5, up=5, guess="zeros", signed=True),
}


class SrnGenerator(Generator):
    """SRN-DeblurNet (Tao et al., CVPR 2018, fig. 3): an encoder-decoder with weights shared by all scales.

    At each scale it sees the blurred picture and the result of the scale before, enlarged bilinearly. No gradient flows
    from a scale into the result of the one before. With a ConvLSTM, its state goes from scale to scale, enlarged too.

    Args:
        variant: "color", the authors' network without recurrence; "lstm", theirs with a ConvLSTM, which restores red,
            green and blue one by one; "lstm-color", the PyTorch re-implementation iwtw/SRN-DeblurNet: a ConvLSTM with
            all colours at once, larger kernels there and in the decoder, and nothing for a first guess.
        width: channels of the first encoder; the second and third have two and four times as many.
        blocks: residual blocks of each encoder and decoder.
        scales: sizes at which the picture is restored, each half as high and wide as the one before.

    `forward` maps (N, 3, H, W) in [-1, 1] to the same (not clamped); in training to the list of all scales' results.

    The borders and the resizes are PyTorch's for all variants: strided convolutions are padded alike on both sides
    (TensorFlow's "same" pads an even side by 1 in front and 2 behind), enlarging is bilinear with half-pixel centres,
    and pictures are halved step by step with smoothing (TensorFlow 1 takes every second or fourth pixel). So weights
    of the authors' TensorFlow files would not fit "color" and "lstm" to the last digit.
    """

    source = "SRN-DeblurNet: Tao et al., CVPR 2018, arXiv 1802.01770"
    licence = "MIT"

    def __init__(
        self,
        *,
        variant: Literal["color", "lstm", "lstm-color"] = "color",
        width: int = 32,
        blocks: int = 3,
        scales: Literal[1, 2, 3, 4] = 3,
    ) -> None:
        super().__init__()
        self.variant, self.scales = VARIANTS[variant], scales
        channels, cell, up, *_ = self.variant
        self.encoders = nn.ModuleList(
            [
                encoder(2 * channels, width, blocks, stride=1),
                encoder(width, 2 * width, blocks, stride=2),
                encoder(2 * width, 4 * width, blocks, stride=2),
            ]
        )
        self.cell = ConvLstm(4 * width, cell) if cell else None
        self.decoders = nn.ModuleList(
            [decoder(4 * width, 2 * width, blocks, kernel=up), decoder(2 * width, width, blocks, kernel=up)]
        )
        self.head = nn.Sequential(*residual_blocks(width, blocks), nn.Conv2d(width, channels, 5, padding=2))

        self.size_multiple = 4 * 2 ** (scales - 1)
        seen = 16 + 56 * blocks + 4 * (cell // 2)  # stem and head 4, strides and enlarging 12, blocks, cell
        self.receptive_field = recurrent_radius(seen, scales)
        # The pictures; for each of the colours or for all, what the head starts from and a block's input, middle and
        # output at the finest scale, and the cell's state before and behind it.
        self.values_per_pixel = 11 + (5 if cell else 4) * width * (3 // channels)
        start_plainly(self)
        if self.cell is not None:
            self.cell.start()

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        pyramid = self.pyramid(blurred)
        guess = pyramid[0] if self.variant.guess == "blurred" else torch.zeros_like(pyramid[0])
        state: Tensor | None = None
        results: list[Tensor] = []
        for picture in pyramid:
            if results:
                guess = doubled(results[-1].detach() if self.training else results[-1])
                state = None if state is None else doubled(state)
            result, state = self.restore(torch.cat([picture, guess], dim=1), state)
            results.append(result)
        return [self.shown(result) for result in results] if self.training else self.shown(results[-1])

    def restore(self, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One scale: the picture and the guess to the result, and the ConvLSTM's state to its next."""
        skips = []
        for encode in self.encoders:
            skips.append(features := encode(features))
        features = skips.pop()
        if self.cell is not None:
            state = self.cell(features, state)
            features = state.chunk(2, dim=1)[1]
        for decode in self.decoders:
            features = decode(features) + skips.pop()
        return self.head(features), state

    def pyramid(self, blurred: Tensor) -> list[Tensor]:
        """The blurred picture as the network sees it, coarse to fine."""
        blurred = blurred if self.variant.signed else (blurred + 1) / 2
        return bilinear_pyramid(blurred.reshape(-1, self.variant.channels, *blurred.shape[-2:]), self.scales)

    def shown(self, result: Tensor) -> Tensor:
        """A result with its colours together again, in [-1, 1]."""
        result = result.reshape(-1, 3, *result.shape[-2:])
        return result if self.variant.signed else 2 * result - 1


class ConvLstm(nn.Module):
    """A convolutional LSTM cell (Shi et al., arXiv 1506.04214, without peepholes).

    Its state is (N, 2 * width, H, W), the memory and behind it the output, as the authors keep it.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * width, 4 * width, kernel, padding=kernel // 2)  # input, candidate, forget, output

    def forward(self, features: Tensor, state: Tensor | None) -> Tensor:
        if state is None:
            state = torch.cat([torch.zeros_like(features)] * 2, dim=1)
        memory, output = state.chunk(2, dim=1)
        accept, candidate, keep, emit = self.gates(torch.cat([features, output], dim=1)).chunk(4, dim=1)
        memory = memory * keep.sigmoid() + accept.sigmoid() * candidate.tanh()
        return torch.cat([memory, emit.sigmoid() * memory.tanh()], dim=1)

    def start(self) -> None:
        """As the authors' code does: small weights, and a bias that keeps the memory, which they add as a constant."""
        nn.init.normal_(self.gates.weight, std=1e-3)
        zero_bias(self.gates)
        with torch.no_grad():
            cast(Tensor, self.gates.bias).view(4, -1)[2] += 1


def encoder(channels: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 5, stride=stride, padding=2)
    return nn.Sequential(convolution, nn.ReLU(inplace=True), *residual_blocks(width, blocks))


def decoder(width: int, narrower: int, blocks: int, *, kernel: int) -> nn.Sequential:
    odd = kernel % 2
    up = nn.ConvTranspose2d(width, narrower, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=odd)
    return nn.Sequential(*residual_blocks(width, blocks), up, nn.ReLU(inplace=True))


def residual_blocks(width: int, blocks: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(blocks)]


def start_plainly(network: nn.Module) -> None:
    """Weights by Glorot and no bias: the authors' code of SRN and PSS-NSC."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            zero_bias(module)


def bilinear_pyramid(picture: Tensor, scales: int) -> list[Tensor]:
    """The picture and its halves, coarse to fine.

    Each is what Pillow's bilinear resize makes of the finer one, but for one pixel at the borders: we mirror there,
    and Pillow cuts the filter off.
    """
    pyramid = [picture]
    for _ in range(scales - 1):
        pyramid.insert(0, halved(pyramid[0], BILINEAR))
    return pyramid


def doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def recurrent_radius(seen: int, scales: int) -> int:
    """How far from a pixel the input can still change it, for encoder-decoders of two strides, one at each scale.

    Args:
        seen: how far the layers of one scale see, in its pixels.
    """
    grid, resizes = 3, 4  # a scale's own, in its pixels; doubling, of coarser pixels, and halving at each step
    return (2**scales - 1) * (seen + grid) + resizes * (2 ** (scales - 1) - 1)
