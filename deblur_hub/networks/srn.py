"""SRN-DeblurNet: one encoder-decoder that goes over the picture at every scale, coarse to fine."""

from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Generator, Stage, residual_blocks, zero_bias
from .deepdeblur import halved

GRID = 3  # what strided layers add to a reach, in pixels of their scale: it depends on the place between strides
BILINEAR = (1 / 8, 3 / 8, 3 / 8, 1 / 8)  # a bilinear resize to half the side that smooths, as Pillow's does


class Variant(NamedTuple):
    """What sets the published SRNs apart."""

    channels: int  # 3, or 1 for a network that sees red, green and blue one by one
    cell: int  # kernel of the ConvLSTM between encoder and decoder; 0 for none
    up: int  # kernel of the transposed convolutions
    guess: Literal["blurred", "zeros"]  # what the coarsest scale gets in place of a result before it
    signed: bool  # pictures are in [-1, 1] inside, else in [0, 1]
    tensorflow: bool  # borders of strided layers and resizes are TensorFlow 1's, else PyTorch's


VARIANTS = {
    "color": Variant(channels=3, cell=0, up=4, guess="blurred", signed=False, tensorflow=True),
    "lstm": Variant(channels=1, cell=3, up=4, guess="blurred", signed=False, tensorflow=True),
    "lstm-color": Variant(channels=3, cell=5, up=5, guess="zeros", signed=True, tensorflow=False),
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

    "color" and "lstm" compute what the authors' TensorFlow 1 code computes: "same" padding of a strided 5x5 convolution
    is 1 before and 2 behind, the pyramid takes every second and fourth pixel, and enlarging keeps the samples and puts
    means of neighbours between them. "lstm-color" has PyTorch's rules: padding alike on both sides, enlarging with
    half-pixel centres, and halves step by step with smoothing.
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
        down = SameConv if self.variant.tensorflow else partial(nn.Conv2d, kernel_size=5, stride=2, padding=2)
        self.encoders = nn.ModuleList(
            [
                encoder(nn.Conv2d(2 * channels, width, 5, padding=2), blocks),
                encoder(down(width, 2 * width), blocks),
                encoder(down(2 * width, 4 * width), blocks),
            ]
        )
        self.cell = ConvLstm(4 * width, cell) if cell else None
        self.decoders = nn.ModuleList(decoder(wide, blocks, kernel=up) for wide in (4 * width, 2 * width))
        self.head = nn.Sequential(*residual_blocks(width, blocks, kernel=5), nn.Conv2d(width, channels, 5, padding=2))

        self.steps = [2**scale for scale in reversed(range(scales))]  # pixels of the picture per pixel, scale by scale
        self.size_multiple = 4 * self.steps[0]
        self.seen = 16 + 56 * blocks + 4 * (cell // 2)  # stem and head 4, strides and enlarging 12, blocks, cell
        if self.variant.tensorflow:
            self.receptive_field = sum(self.stage_reach(step) for step in self.steps)
        else:
            self.receptive_field = recurrent_radius(self.seen, scales)
        # The pictures; for each of the colours or for all, what the head starts from and a block's input, middle and
        # output at the finest scale, and the cell's state before and behind it.
        self.values_per_pixel = 11 + (5 if cell else 4) * width * (3 // channels)
        start_plainly(self)
        if self.cell is not None:
            self.cell.start()

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        results: list[Tensor] = []
        before: Tensor | None = None
        state: Tensor | None = None
        for step in self.steps:
            before, state = self.at_scale(self.picture(blurred, step), before, state)
            if self.training:
                results.append(self.shown(before))
                before = before.detach()
        return results if self.training else self.shown(cast(Tensor, before))

    def at_scale(self, picture: Tensor, before: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One scale: its result and the ConvLSTM's state, from those of the scale before, None at the coarsest."""
        enlarged = doubled_between if self.variant.tensorflow else doubled
        first = picture if self.variant.guess == "blurred" else torch.zeros_like(picture)
        guess = first if before is None else enlarged(before)
        return self.restore(torch.cat([picture, guess], dim=1), None if state is None else enlarged(state))

    def stages(self) -> list[Stage]:
        """Scale by scale; each but the last hands on its result and the ConvLSTM's state, as one tensor."""
        way: list[Stage] = []
        for step in self.steps:
            reads = ("blurred", *(stage.writes for stage in way[-1:]))
            writes = f"scale{step}" if step > 1 else "restored"
            way.append(Stage(partial(self.run, step), reads, writes, self.stage_reach(step)))
        return way

    def stage_reach(self, step: int) -> int:
        """How far the scale of `step` sees, in pixels of the picture; no farther in the state, behind the encoders."""
        if self.variant.tensorflow:
            return step * (self.seen + (step < self.steps[0]))  # enlarging looks one pixel ahead
        return step * (self.seen + GRID + 2)  # and two by half-pixel centres, as halving does

    def run(self, step: int, blurred: Tensor, before: Tensor | None = None) -> Tensor:
        result, state = self.at_scale(self.picture(blurred, step), *self.unpacked(before))
        return self.packed(result, state) if step > 1 else self.shown(result)

    def packed(self, result: Tensor, state: Tensor | None) -> Tensor:
        """A scale's result and state as one tensor of every frame's own, at the state's size if there is one."""
        result = result.reshape(-1, 3, *result.shape[-2:])
        if state is None:
            return result
        state = state.reshape(len(result), -1, *state.shape[-2:])
        return torch.cat([F.pixel_unshuffle(result, 4), state], dim=1)

    def unpacked(self, handed: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What `packed` was given."""
        if handed is None:
            return None, None
        if self.cell is None:
            return self.apart(handed), None
        result, state = handed[:, : 3 * 16], handed[:, 3 * 16 :]
        parts = len(handed) * 3 // self.variant.channels
        return self.apart(F.pixel_shuffle(result, 4)), state.reshape(parts, -1, *state.shape[-2:])

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

    def picture(self, blurred: Tensor, step: int) -> Tensor:
        """The blurred picture as a scale of the network sees it."""
        blurred = self.apart(blurred if self.variant.signed else (blurred + 1) / 2)
        if self.variant.tensorflow:
            return blurred[..., ::step, ::step]
        return bilinear_pyramid(blurred, step.bit_length())[0]

    def apart(self, pictures: Tensor) -> Tensor:
        """Pictures with the colours that the network sees at a time."""
        return pictures.reshape(-1, self.variant.channels, *pictures.shape[-2:])

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


class SameConv(nn.Conv2d):
    """5x5 of stride 2 with TensorFlow's "same" padding, which for even sides is 1 before and 2 behind."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 5, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.pad(features, [1, 2, 1, 2]))


def encoder(convolution: nn.Conv2d, blocks: int) -> nn.Sequential:
    inner = residual_blocks(convolution.out_channels, blocks, kernel=5)
    return nn.Sequential(convolution, nn.ReLU(inplace=True), *inner)


def decoder(width: int, blocks: int, *, kernel: int) -> nn.Sequential:
    padding, odd = (kernel - 1) // 2, kernel % 2
    up = nn.ConvTranspose2d(width, width // 2, kernel, stride=2, padding=padding, output_padding=odd)
    return nn.Sequential(*residual_blocks(width, blocks, kernel=5), up, nn.ReLU(inplace=True))


def start_plainly(network: nn.Module) -> None:
    """Weights by Glorot and no bias: the authors' code of SRN and PSS-NSC."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            zero_bias(module)


def bilinear_pyramid(picture: Tensor, scales: int) -> list[Tensor]:
    """The picture and its halves, coarse to fine, as Pillow resizes bilinearly, but that we mirror at the borders."""
    pyramid = [picture]
    for _ in range(scales - 1):
        pyramid.insert(0, halved(pyramid[0], BILINEAR))
    return pyramid


def doubled(features: Tensor) -> Tensor:
    """Bilinearly, with half-pixel centres."""
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def doubled_between(features: Tensor) -> Tensor:
    """As TensorFlow 1 resizes bilinearly: samples stay, means of neighbours go between, the last one is repeated."""
    for axis in (-2, -1):
        last = features.shape[axis] - 1
        following = torch.cat([features.narrow(axis, 1, last), features.narrow(axis, last, 1)], dim=axis)
        features = torch.stack([features, (features + following) / 2], dim=axis).flatten(axis - 1, axis)
    return features


def recurrent_radius(seen: int, scales: int) -> int:
    """The receptive field of encoder-decoders of two strides, one at each scale, which see `seen` of its pixels."""
    resizes = 4  # doubling, of coarser pixels, and halving at each step
    return (2**scales - 1) * (seen + GRID) + resizes * (2 ** (scales - 1) - 1)
