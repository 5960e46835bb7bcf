"""MAXIM: a U-Net of multi-axis gated MLPs, in up to three stages that each hand their features to the next.

Features travel as (N, H, W, C): most layers are dense ones over the channels, and convolutions see the same memory as
channels-last. What the paper calls "multi-axis" mixes pixels twice, side by side: over a grid that spans the window
(global, dilated) and within blocks of neighbours (local).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Quality, of_kind
from .windows import WindowedGenerator, Windows

LAYER_NORM_EPS = 1e-6
LEAKY_SLOPE = 0.2
REDUCTION = 4  # of the channels inside channel attention
TOKENS = (16, 16, 8)  # cells of the grid, and pixels of a block, along a side, at each level
GROUPS = 2  # pairs of spatial and channel mixing in a block
BOTTLENECKS = 2
LEVELS = len(TOKENS)

Norm = partial(nn.LayerNorm, eps=LAYER_NORM_EPS)  # over the channels of each pixel
gelu = partial(F.gelu, approximate="tanh")


class MaximGenerator(WindowedGenerator):
    """MAXIM (Tu et al., "MAXIM: Multi-Axis MLP for Image Processing", CVPR 2022, fig. 2 and 3); by default MAXIM-3S.

    Each stage is a U-Net of three levels that restores the picture at full, half and quarter size. The next stage sees
    the blurred picture again, and the features and pictures of the stage before.

    Args:
        width: channels at full size; 2 and 4 times as many at halves and quarters.
        stages: how many U-Nets follow each other.
        coarse_outputs: whether the last stage restores the halves and quarters as well, which only training needs. The
            published graph has no weights for them.

    The grid's cells and the attention's means depend on the frame's size, and the network was trained at 256x256. So in
    evaluation a picture is restored in `windows` of a fixed plan and blended; in training it is taken whole, and all
    stages' results are returned, at a quarter, then at half, then at full size.

    Of its qualities "draft" runs the first stage at half size, "balanced" the first stage, "best" all of them.
    """

    size_multiple = 64
    source = "MAXIM: Tu et al., CVPR 2022, arXiv 2201.02973"
    licence = "Apache-2.0"
    note = "multiply-adds include what overlapping windows compute twice"
    windows = Windows(side=512, overlap=64, multiple=64)

    def __init__(self, *, width: int = 32, stages: Literal[1, 2, 3] = 3, coarse_outputs: bool = True) -> None:
        super().__init__()
        widths = [width << level for level in range(LEVELS)]
        self.unets = nn.ModuleList(
            Stage(widths, first=number == 0, outputs=0 if number < stages - 1 else LEVELS if coarse_outputs else 1)
            for number in range(stages)
        )
        self.values_per_pixel = 10 * width  # measured on its folded form, of a stage
        self.qualities = {"draft": Quality(1, halved=True), "balanced": Quality(1)}
        if stages > 1:
            self.qualities["best"] = Quality(stages)

    def window_values(self, quality: Quality) -> int:
        handed_on = 4 * self.values_per_pixel // 10 if quality.depth > 1 else 0  # from stage to stage
        return (self.values_per_pixel + handed_on) * self.windows.side**2

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        results = self.restore_levels(blurred, len(self.unets))
        if not self.training:
            return results[-1][0]
        return [stage[level] for level in reversed(range(LEVELS)) for stage in results if level < len(stage)]

    def restore_levels(self, blurred: Tensor, stages: int) -> list[list[Tensor]]:
        """What each of the first stages restores, by level, full size first: (N, 3, H / s, W / s) in [-1, 1]."""
        pictures = pyramid((blurred + 1) / 2)
        results, handover = [], None
        for stage in of_kind(Stage, self.unets)[:stages]:
            restored, handover = stage(pictures, handover)
            results.append([2 * picture.permute(0, 3, 1, 2) - 1 for picture in restored])
        return results

    def compute_window(self, blurred: Tensor, depth: int) -> Tensor:
        return self.restore_levels(blurred, depth)[-1][0]


def pyramid(picture: Tensor) -> list[Tensor]:
    """(N, 3, H, W) to (N, H / s, W / s, 3) at full, half and quarter size.

    By the nearest pixel as JAX takes it: the odd rows and columns, and every fourth from the third.
    """
    picture = picture.permute(0, 2, 3, 1)
    return [picture[:, step // 2 :: step, step // 2 :: step].contiguous() for step in (1, 2, 4)]


# Layers over (N, H, W, C) ----------------------------------------------------------------------------------------


class Conv(nn.Conv2d):
    """A convolution padded so that stride 1 keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Double(nn.ConvTranspose2d):
    """Each pixel becomes a 2x2 patch."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Rescale(nn.Module):
    """Brings features to another level's size and width; bilinearly, smoothed where they shrink."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        if size[0] > x.shape[1]:  # the two commute: the cheaper first
            return resized(self.project(x), size)
        return self.project(resized(x, size))


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[1:3] == tuple(size):
        return x
    shrinks = size[0] < x.shape[1]  # for which PyTorch has no kernel in half precision
    wide = (x.float() if shrinks else x).permute(0, 3, 1, 2)
    return F.interpolate(wide, size=list(size), mode="bilinear", antialias=shrinks).permute(0, 2, 3, 1).to(x.dtype)


# Mixing over space -----------------------------------------------------------------------------------------------


class TokenMixer(nn.Linear):
    """A dense layer over t x t tokens: the pixels at one place of every cell of a grid, or the pixels of a block."""

    def __init__(self, tokens: int, *, grid: bool) -> None:
        super().__init__(tokens**2, tokens**2)
        self.tokens, self.grid = tokens, grid

    def forward(self, x: Tensor) -> Tensor:
        (count, height, width, channels), t = x.shape, self.tokens
        if self.grid:
            cut, tokens_last = (count, t, height // t, t, width // t, channels), (0, 2, 4, 5, 1, 3)
        else:
            cut, tokens_last = (count, height // t, t, width // t, t, channels), (0, 1, 3, 5, 2, 4)
        places = x.reshape(cut).permute(tokens_last)
        mixed = super().forward(places.flatten(-2)).view(places.shape)
        back = [tokens_last.index(axis) for axis in range(6)]
        return mixed.permute(back).reshape(x.shape)


class GatedMlp(nn.Module):
    """A residual gMLP: one half of the hidden channels, mixed over space, gates the other."""

    def __init__(self, channels: int, tokens: int, *, grid: bool) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.gate_norm = Norm(channels)
        self.gate = TokenMixer(tokens, grid=grid)
        self.contract = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        passed, gate = gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        return x + self.contract(passed * (self.gate(self.gate_norm(gate)) + 1))


class MultiAxis(nn.Module):
    """Half of the hidden channels mix over the grid, half within blocks (the paper's fig. 3); `mixer` makes either."""

    def __init__(self, channels: int, mixer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.grid = mixer(grid=True)
        self.block = mixer(grid=False)
        self.contract = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        far, near = gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        return self.contract(torch.cat([self.grid(far), self.block(near)], dim=-1))


class GatedSide(nn.Module):
    """One of the two signals of a cross gating: its features, the gate it gives to the other, its way out."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.enter = nn.Linear(channels, channels)
        self.gate = MultiAxis(channels, partial(TokenMixer, tokens))
        self.leave = nn.Linear(channels, channels)


class CrossGating(nn.Module):
    """Two signals, each gated by the other (fig. 2c), to the sum of both and the second, which may be doubled first."""

    def __init__(self, channels: int, x_inputs: int, y_inputs: int, tokens: int, *, doubles: bool = False) -> None:
        super().__init__()
        self.enlarge = Double(y_inputs, channels, 2, 2) if doubles else None
        self.x_project = nn.Linear(x_inputs, channels)
        self.y_project = nn.Linear(channels if doubles else y_inputs, channels)
        self.x = GatedSide(channels, tokens)
        self.y = GatedSide(channels, tokens)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.enlarge is not None:
            y = self.enlarge(y)
        x, y = self.x_project(x), self.y_project(y)
        of_x = gelu(self.x.enter(self.x.norm(x)))
        of_y = gelu(self.y.enter(self.y.norm(y)))
        y = y + self.y.leave(of_y * self.x.gate(of_x))
        return x + self.x.leave(of_x * self.y.gate(of_y)) + y, y


# Mixing over channels --------------------------------------------------------------------------------------------


class ChannelAttention(nn.Module):
    """Channels weighed by what their means over the window say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // REDUCTION)
        self.excite = nn.Linear(channels // REDUCTION, channels)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2), keepdim=True)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))


class ConvAttention(nn.Module):
    """Residual: two 3x3 convolutions and channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.conv1 = Conv(channels, channels, 3)
        self.conv2 = Conv(channels, channels, 3)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.conv2(F.leaky_relu(self.conv1(self.norm(x)), LEAKY_SLOPE)))


class MlpAttention(nn.Module):
    """Residual: two dense layers and channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.dense1 = nn.Linear(channels, channels)
        self.dense2 = nn.Linear(channels, channels)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.dense2(gelu(self.dense1(self.norm(x)))))


class Block(nn.Module):
    """A projection to the level's width, then groups of spatial and channel mixing; residual behind the projection."""

    def __init__(
        self, inputs: int, channels: int, tokens: int, attention: Callable[[int], ConvAttention | MlpAttention]
    ) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, channels)
        self.mixers = nn.ModuleList(MultiAxis(channels, partial(GatedMlp, channels, tokens)) for _ in range(GROUPS))
        self.attentions = nn.ModuleList(attention(channels) for _ in range(GROUPS))

    def forward(self, *inputs: Tensor) -> Tensor:
        projected = x = self.project(torch.cat(inputs, dim=-1))
        for mixer, attention in zip(self.mixers, self.attentions, strict=True):
            x = attention(x + mixer(x))
        return x + projected


class SupervisedAttention(nn.Module):
    """A stage's picture at one level, and the features that it hands to the next stage."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = Conv(channels, channels, 3)
        self.picture = Conv(channels, 3, 3)
        self.attend = Conv(3, channels, 3)

    def forward(self, x: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor]:
        picture = self.picture(x) + blurred
        return picture, x + self.features(x) * torch.sigmoid(self.attend(picture))


class Handover(NamedTuple):
    """What a stage leaves for the next, by level."""

    attended: list[Tensor]
    encoded: list[Tensor]
    decoded: list[Tensor]


class Stage(nn.Module):
    """One U-Net (fig. 2a): encoders, bottlenecks, skips gated by what comes from below, decoders.

    Args:
        widths: channels of each level, full size first.
        outputs: at how many levels, from the full size down, it restores as the last stage; 0 if another follows.
    """

    def __init__(self, widths: Sequence[int], *, first: bool, outputs: int) -> None:
        super().__init__()
        levels = range(LEVELS)
        below = [widths[min(level + 1, LEVELS - 1)] for level in levels]  # channels of what comes up to a level
        sizes = list(zip(widths, TOKENS, strict=True))
        self.inputs = nn.ModuleList(Conv(3, width, 3) for width in widths)
        if not first:
            self.fuse_inputs = nn.ModuleList(CrossGating(width, width, width, tokens) for width, tokens in sizes)
            self.fuse_encoders = nn.ModuleList(CrossGating(width, width, width, tokens) for width, tokens in sizes)
        self.encoders = nn.ModuleList(
            Block(widths[max(level - 1, 0)] + width, width, tokens, ConvAttention)
            for level, (width, tokens) in enumerate(sizes)
        )
        self.downs = nn.ModuleList(Conv(width, width, 4, 2) for width in widths)
        self.bottlenecks = nn.ModuleList(
            Block(widths[-1], widths[-1], TOKENS[-1], MlpAttention) for _ in range(BOTTLENECKS)
        )
        self.to_gates = nn.ModuleList(nn.ModuleList(Rescale(other, width) for other in widths) for width in widths)
        self.gates = nn.ModuleList(
            CrossGating(width, LEVELS * width, lower, tokens, doubles=True)
            for (width, tokens), lower in zip(sizes, below, strict=True)
        )
        self.to_decoders = nn.ModuleList(nn.ModuleList(Rescale(other, width) for other in widths) for width in widths)
        self.ups = nn.ModuleList(Double(lower, width, 2, 2) for width, lower in zip(widths, below, strict=True))
        self.decoders = nn.ModuleList(
            Block((1 + LEVELS) * width, width, tokens, ConvAttention) for width, tokens in sizes
        )
        if outputs:
            self.outputs = nn.ModuleList(Conv(width, 3, 3) for width in widths[:outputs])
        else:
            self.attentions = nn.ModuleList(SupervisedAttention(width) for width in widths)
        self.first, self.last = first, bool(outputs)

    def forward(self, pictures: list[Tensor], before: Handover | None) -> tuple[list[Tensor], Handover | None]:
        """Blurred pictures by level, full size first, to restored ones and, but for the last stage, what to hand on."""
        levels = range(LEVELS)
        sizes = [picture.shape[1:3] for picture in pictures]

        entered = [conv(picture) for conv, picture in zip(self.inputs, pictures, strict=True)]
        if before is not None:
            entered = [fuse(x, y)[0] for fuse, x, y in zip(self.fuse_inputs, entered, before.attended, strict=True)]

        encoded: list[Tensor] = []
        x = entered[0]  # which the first encoder sees twice: so it was trained
        for level in levels:
            x = self.encoders[level](x, entered[level])
            if before is not None:
                x, _ = self.fuse_encoders[level](x, before.encoded[level] + before.decoded[level])
            encoded.append(x)
            x = self.downs[level](x)
        for block in self.bottlenecks:
            x = block(x)

        skips: dict[int, Tensor] = {}
        y = x
        for level in reversed(levels):
            pairs = zip(self.rescales("gates", level), encoded, strict=True)
            signal = torch.cat([fit(features, sizes[level]) for fit, features in pairs], dim=-1)
            skips[level], y = self.gates[level](signal, y)

        decoded: dict[int, Tensor] = {}
        for level in reversed(levels):
            fits = self.rescales("decoders", level)
            coarse_first = [fits[other](skips[other], sizes[level]) for other in reversed(levels)]
            x = decoded[level] = self.decoders[level](self.ups[level](x), *coarse_first)

        if self.last:
            return [conv(decoded[level]) + pictures[level] for level, conv in enumerate(self.outputs)], None
        given = [attention(decoded[level], pictures[level]) for level, attention in enumerate(self.attentions)]
        handover = Handover([attended for _, attended in given], encoded, [decoded[level] for level in levels])
        return [picture for picture, _ in given], handover

    def rescales(self, where: Literal["gates", "decoders"], level: int) -> list[Rescale]:
        """Those that bring each level's features to this one's size."""
        return of_kind(Rescale, cast(nn.ModuleList, (self.to_gates if where == "gates" else self.to_decoders)[level]))
