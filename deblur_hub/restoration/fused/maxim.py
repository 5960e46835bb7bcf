"""MAXIM folded for a CPU: the same function as `networks.maxim`, for one window at a time and without gradients.

Dense layers that follow each other are multiplied out: layer norms' scales into the layers behind them, rescaled skips
and transposed convolutions into the projections that read them, and the ways out of the gated MLPs. The rest runs in
pieces that stay in a core's cache, laid out tokens first, so that a token mixer is one matrix product.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...networks import maxim
from ...networks.base import of_kind
from ...networks.maxim import LAYER_NORM_EPS, LEAKY_SLOPE, LEVELS
from .kernels import gate_, gelu, gelu_and_norm, norm, norm_of_gelu, scatter, shrink

ROWS = 4096  # of the inputs that weights are put in order for
PIECE = 2**18  # values of a piece's features: larger ones leave a core's cache, smaller ones wait for Python
Tick = Callable[[float], None]  # told of the work done, in units of `Stage.cost`
GROUP_COST, BOTTLENECK_COST, GATING_COST = 0.5, 0.1, 0.35  # of a block at one level, roughly, by multiply-adds


class PerThread(threading.local):
    """What the thread at work is to tell of its progress to, whatever it computes."""

    tick: Tick = staticmethod(lambda work: None)


THREAD = PerThread()


class FusedMaxim:
    """A network in float32 or bfloat16; stages are folded when first needed, and later changes of weights not seen."""

    def __init__(self, network: maxim.MaximGenerator, dtype: torch.dtype) -> None:
        self.unets, self.dtype = of_kind(maxim.Stage, network.unets), dtype
        self.stages: list[Stage] = []

    @torch.inference_mode()
    def prepare(self, depth: int) -> float:
        """Folds the first `depth` stages; returns the cost of a window, in the units that `restore` tells of."""
        for unet in self.unets[len(self.stages) : depth]:
            self.stages.append(Stage(unet, self.dtype))
        return sum(stage.cost for stage in self.stages[:depth])

    @torch.inference_mode()
    def restore(self, blurred: Tensor, depth: int, tick: Tick) -> Tensor:
        """(1, 3, H, W) float32 in [-1, 1], H and W multiples of 64, through the first `depth` stages, to the same.

        `tick` is told of no work every few milliseconds, too, so that it can end the work by an exception.
        """
        THREAD.tick = tick
        pictures = [level[0] for level in maxim.pyramid((blurred + 1) / 2)]
        handover = None
        for number, stage in enumerate(self.stages[:depth]):
            restored, handover = stage(pictures, handover, final=number == depth - 1, tick=tick)
        return restored.permute(2, 0, 1)[None] * 2 - 1


# Layers over (H, W, C), or (rows, C) -----------------------------------------------------------------------------


class Dense:
    """A dense layer, with its weight in the order that oneDNN reads it where PyTorch offers that."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        plain = weight.to(dtype).contiguous()
        self.bias = None if bias is None else bias.to(dtype).contiguous()
        self.packed = packed(plain)
        self.weight = plain if self.packed is None else self.packed

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], ""))
        return F.linear(x, self.weight, self.bias)


class Addition:
    """A dense layer whose result is added to what is there."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.transposed = weight.to(dtype).t().contiguous()

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        """`y`, (rows, C'), plus the product of `x`, (rows, C), in place."""
        return y.addmm_(x, self.transposed)


def packed(weight: Tensor) -> Tensor | None:
    """The weight for `mkldnn._linear_pointwise`, which PyTorch has for its compiler; None where it has not."""
    return reordered(weight) if packing_works(weight.dtype) else None


@cache
def packing_works(dtype: torch.dtype) -> bool:
    """Tried on one small layer: trying each takes as long as folding all."""
    weight = torch.zeros(32, 32, dtype=dtype)
    try:
        torch.ops.mkldnn._linear_pointwise(weight.new_zeros(ROWS, 32), reordered(weight), None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return True


def reordered(weight: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, ROWS))


def folded(
    layer: nn.Linear, dtype: torch.dtype, *, behind: nn.LayerNorm | None = None, rows: slice = slice(None)
) -> Dense:
    """A layer, or some of its outputs, with the scale and shift of the layer norm before it; folded in float64."""
    weight, bias = layer.weight.double()[rows], layer.bias.double()[rows]
    if behind is not None:
        bias = bias + weight @ behind.bias.double()
        weight = weight * behind.weight.double()
    return Dense(weight, bias, dtype)


class Conv:
    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype) -> None:
        self.weight = layer.weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = cast(Tensor, layer.bias).to(dtype)
        self.stride, self.padding = layer.stride, layer.padding

    def __call__(self, x: Tensor) -> Tensor:
        return channels_last(F.conv2d(channels_first(x), self.weight, self.bias, self.stride, self.padding))


class Double:
    """A 2x2 transposed convolution and a dense layer behind it, as a dense layer and a shuffle of pixels."""

    def __init__(self, up: nn.ConvTranspose2d, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        merged = torch.einsum("iokl,po->klpi", up.weight.double(), weight)
        self.outputs = merged.shape[2]
        shift = weight @ cast(Tensor, up.bias).double()
        shift = shift if bias is None else shift + bias
        self.dense = Dense(merged.reshape(-1, merged.shape[-1]), shift.repeat(4), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape
        y = self.dense(x.view(-1, channels)).view(height, width, 2, 2, self.outputs)
        return y.permute(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, self.outputs)


class Gather:
    """Signals of all levels side by side at the size of one and projected, as a sum of rescaled, projected signals."""

    def __init__(
        self, rescales: list[maxim.Rescale], level: int, weight: Tensor, bias: Tensor, dtype: torch.dtype
    ) -> None:
        self.level = level
        parts = []
        for part, rescale in zip(weight.chunk(len(rescales), dim=1), rescales, strict=True):
            parts.append(part @ rescale.project.weight.double())
            bias = bias + part @ rescale.project.bias.double()
        self.finer = [Addition(part, dtype) for part in parts[:level]]
        self.own = Dense(parts[level], bias, dtype)
        self.coarser = [Dense(part, None, dtype) for part in parts[level + 1 :]]

    def __call__(self, signals: Sequence[Tensor]) -> Tensor:
        """Signals by level, full size first."""
        own = signals[self.level]
        total = self.own(rows(own))
        for add, signal in zip(self.finer, signals, strict=False):
            add(total, rows(shrink(signal, signal.shape[0] // own.shape[0])))
        for dense, signal in zip(self.coarser, signals[self.level + 1 :], strict=True):
            small = channels_first(dense(rows(signal)).view(*signal.shape[:2], -1))
            total.add_(rows(channels_last(F.interpolate(small, size=own.shape[:2], mode="bilinear"))))
        return total.view(*own.shape[:2], -1)


def channels_first(x: Tensor) -> Tensor:
    """(H, W, C) as (1, C, H, W), in the order of memory that PyTorch calls channels-last."""
    return x[None].permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """(1, C, H, W) as (H, W, C)."""
    return x[0].permute(1, 2, 0)


def rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


# Mixing over space -----------------------------------------------------------------------------------------------


def tokens_first(tokens: int, x: Tensor, *, grid: bool) -> Tensor:
    """(H, W, C) as (tokens, tokens, a, b, C): the pixels of every cell of the grid, or of every block."""
    height, width, channels = x.shape
    if grid:
        return x.view(tokens, height // tokens, tokens, width // tokens, channels).permute(0, 2, 1, 3, 4)
    return x.view(height // tokens, tokens, width // tokens, tokens, channels).permute(1, 3, 0, 2, 4)


def pieces(tokens: int, *tensors: Tensor, grid: bool) -> Iterator[list[Tensor]]:
    """Views (tokens, tokens, a, b, C) of (H, W, C), cut along a and b to about `PIECE` values."""
    views = [tokens_first(tokens, x, grid=grid) for x in tensors]
    *_, down, across, channels = views[0].shape
    most = max(1, PIECE // (tokens**2 * channels))
    step_across = min(across, most)
    step_across = -(-across // -(-across // step_across))  # of about one length
    step_down = max(1, most // across) if step_across == across else 1
    for top in range(0, down, step_down):
        for left in range(0, across, step_across):
            THREAD.tick(0)
            yield [x[:, :, top : top + step_down, left : left + step_across] for x in views]


def flat_pieces(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """The same runs of pixels of several tensors, as (rows, C)."""
    flat = [rows(x) for x in tensors]
    step = max(1, PIECE // flat[0].shape[1])
    for at in range(0, flat[0].shape[0], step):
        THREAD.tick(0)
        yield [x[at : at + step] for x in flat]


class MlpBranch:
    """The grid's or the blocks' half of a multi-axis MLP, from its norm to its share of the way out."""

    def __init__(self, layer: maxim.MultiAxis, mlp: maxim.GatedMlp, *, second: bool, dtype: torch.dtype) -> None:
        channels = mlp.contract.weight.shape[0]
        half = slice(channels, None) if second else slice(channels)
        out = layer.contract.weight.double()[:, half]
        bias = out @ mlp.contract.bias.double()
        self.channels, self.tokens = channels, mlp.gate.tokens
        self.enter = folded(layer.expand, dtype, behind=layer.norm, rows=half)
        self.expand = folded(mlp.expand, dtype, behind=mlp.norm)
        self.gate_scale, self.gate_shift = mlp.gate_norm.weight.float(), mlp.gate_norm.bias.float()
        self.mixer, self.mixer_bias = mlp.gate.weight.to(dtype), (mlp.gate.bias + 1).float()
        self.straight = Dense(out, bias + layer.contract.bias.double() if second else bias, dtype)
        self.gated = Addition(out @ mlp.contract.weight.double(), dtype)

    def __call__(self, piece: Tensor) -> Tensor:
        hidden, normed = gelu_and_norm(self.enter(norm(piece, LAYER_NORM_EPS)), LAYER_NORM_EPS)
        both = self.expand(normed)
        gates = norm_of_gelu(both[:, self.channels :], LAYER_NORM_EPS, self.gate_scale, self.gate_shift)
        mixed = torch.mm(self.mixer, gates.view(self.mixer.shape[0], -1))
        mixed = gate_(mixed, both[:, : self.channels], self.mixer_bias)
        return self.gated(self.straight(hidden), mixed.view(hidden.shape))


class GateBranch:
    """The grid's or the blocks' half of a spatial gate, from its norm to its share of the way out."""

    def __init__(self, layer: maxim.MultiAxis, mixer: maxim.TokenMixer, *, second: bool, dtype: torch.dtype) -> None:
        channels = layer.contract.weight.shape[0]
        half = slice(channels, None) if second else slice(channels)
        self.tokens = mixer.tokens
        self.enter = folded(layer.expand, dtype, behind=layer.norm, rows=half)
        self.mixer, self.mixer_bias = mixer.weight.to(dtype), mixer.bias.to(dtype)[:, None]
        out = layer.contract.weight.double()[:, half]
        self.leave = Dense(out, layer.contract.bias.double() if second else None, dtype)

    def __call__(self, piece: Tensor) -> Tensor:
        hidden = gelu(self.enter(norm(piece, LAYER_NORM_EPS)))
        mixed = torch.addmm(self.mixer_bias, self.mixer, hidden.view(self.mixer.shape[0], -1))
        return self.leave(mixed.view(hidden.shape))


class MultiAxis:
    """Both halves of a multi-axis MLP, with its residual, or of a spatial gate, which has none."""

    def __init__(self, layer: maxim.MultiAxis, dtype: torch.dtype) -> None:
        mixers = cast(list[maxim.GatedMlp | maxim.TokenMixer], [layer.grid, layer.block])
        self.grid, self.block = (
            MlpBranch(layer, mixer, second=second, dtype=dtype)
            if isinstance(mixer, maxim.GatedMlp)
            else GateBranch(layer, mixer, second=second, dtype=dtype)
            for second, mixer in zip((False, True), mixers, strict=True)
        )
        self.residual = isinstance(layer.grid, maxim.GatedMlp)

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for piece, target in pieces(self.grid.tokens, x, out, grid=True):
            scatter(self.grid(piece), target, piece if self.residual else None)
        for piece, target in pieces(self.block.tokens, x, out, grid=False):
            scatter(self.block(piece), target, target)
        return out


class CrossGating:
    """A cross gating behind its projections."""

    def __init__(self, layer: maxim.CrossGating, dtype: torch.dtype) -> None:
        sides = {"x": layer.x, "y": layer.y}
        self.enter = {name: folded(side.enter, dtype, behind=side.norm) for name, side in sides.items()}
        self.gate = {name: MultiAxis(side.gate, dtype) for name, side in sides.items()}
        self.leave = {name: folded(side.leave, dtype) for name, side in sides.items()}

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both are overwritten, with their sum and the second."""
        of_x, of_y = self.entered("x", x), self.entered("y", y)
        gates = self.gate["x"](of_x)
        for target, features, gate in flat_pieces(y, of_y, gates):
            target.add_(self.leave["y"](gate.mul_(features)))
        gates = self.gate["y"](of_y)
        del of_y
        for target, features, gate, other in flat_pieces(x, of_x, gates, y):
            target.add_(self.leave["x"](gate.mul_(features))).add_(other)
        return x, y

    def entered(self, side: str, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for source, target in flat_pieces(x, out):
            gelu(self.enter[side](norm(source[None, None, None], LAYER_NORM_EPS)), target)
        return out


class Attention:
    """A residual with channel attention, behind its layers."""

    def __init__(self, layer: maxim.ChannelAttention, dtype: torch.dtype) -> None:
        self.squeeze, self.excite = folded(layer.squeeze, dtype), folded(layer.excite, dtype)

    def __call__(self, shortcut: Tensor, y: Tensor) -> Tensor:
        flat = rows(y)
        mean = torch.mm(flat.new_ones(1, flat.shape[0]), flat) / flat.shape[0]  # mean() makes a copy of bfloat16
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
        return torch.addcmul(shortcut, y, scale, out=y)


class ConvAttention:
    def __init__(self, layer: maxim.ConvAttention, dtype: torch.dtype) -> None:
        self.scale, self.shift = layer.norm.weight.float(), layer.norm.bias.float()
        self.conv1, self.conv2 = Conv(layer.conv1, dtype), Conv(layer.conv2, dtype)
        self.attention = Attention(layer.attention, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        normed = torch.empty_like(x)
        norm(x[None, None], LAYER_NORM_EPS, self.scale, self.shift, rows(normed))
        hidden = F.leaky_relu_(self.conv1(normed), LEAKY_SLOPE)
        del normed
        return self.attention(x, self.conv2(hidden))


class MlpAttention:
    def __init__(self, layer: maxim.MlpAttention, dtype: torch.dtype) -> None:
        self.dense1, self.dense2 = folded(layer.dense1, dtype, behind=layer.norm), folded(layer.dense2, dtype)
        self.attention = Attention(layer.attention, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        for source, target in flat_pieces(x, y):
            target.copy_(self.dense2(gelu(self.dense1(norm(source[None, None, None], LAYER_NORM_EPS)))))
        return self.attention(x, y)


class Groups:
    """A block behind its projection."""

    def __init__(self, block: maxim.Block, cost: float, dtype: torch.dtype) -> None:
        self.cost = cost
        self.mixers = [MultiAxis(mixer, dtype) for mixer in of_kind(maxim.MultiAxis, block.mixers)]
        self.attentions = [
            ConvAttention(layer, dtype) if isinstance(layer, maxim.ConvAttention) else MlpAttention(layer, dtype)
            for layer in cast(list[maxim.ConvAttention | maxim.MlpAttention], list(block.attentions))
        ]

    def __call__(self, projected: Tensor, tick: Tick) -> Tensor:
        x = projected
        for mixer, attention in zip(self.mixers, self.attentions, strict=True):
            x = attention(mixer(x))
            tick(self.cost)
        return x.add_(projected)


class Fuse:
    """A cross gating of two signals of one size."""

    def __init__(self, layer: maxim.CrossGating, dtype: torch.dtype) -> None:
        self.x, self.y = folded(layer.x_project, dtype), folded(layer.y_project, dtype)
        self.cross = CrossGating(layer, dtype)

    def __call__(self, x: Tensor, y: Tensor, tick: Tick) -> Tensor:
        fused = self.cross(self.x(x), self.y(y))[0]
        tick(GATING_COST)
        return fused


class Stage:
    def __init__(self, stage: maxim.Stage, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.inputs = [Conv(conv, dtype) for conv in of_kind(maxim.Conv, stage.inputs)]
        fused = ((), ()) if stage.first else (stage.fuse_inputs, stage.fuse_encoders)
        self.fuse_inputs, self.fuse_encoders = (
            [Fuse(layer, dtype) for layer in of_kind(maxim.CrossGating, layers)] for layers in fused
        )
        encoders = of_kind(maxim.Block, stage.encoders)
        self.enter_below: list[Addition | None] = []
        self.enter_own: list[Dense] = []
        for level, block in enumerate(encoders):
            weight, bias = block.project.weight.double(), block.project.bias.double()
            below, own = weight.split([weight.shape[1] - weight.shape[0], weight.shape[0]], dim=1)
            # The first sees its input twice.
            self.enter_below.append(Addition(below, dtype) if level else None)
            self.enter_own.append(Dense(own if level else below + own, bias, dtype))
        self.encoders = [Groups(block, GROUP_COST, dtype) for block in encoders]
        self.downs = [Conv(conv, dtype) for conv in of_kind(maxim.Conv, stage.downs)]
        bottlenecks = of_kind(maxim.Block, stage.bottlenecks)
        self.bottleneck_enter = [folded(block.project, dtype) for block in bottlenecks]
        self.bottlenecks = [Groups(block, BOTTLENECK_COST / 2, dtype) for block in bottlenecks]

        gates = of_kind(maxim.CrossGating, stage.gates)
        self.gate_signals, self.gate_ups, self.decode_ups, self.decode_skips = [], [], [], []
        decoders = of_kind(maxim.Block, stage.decoders)
        ups = of_kind(maxim.Double, stage.ups)
        for level, (gate, up, block) in enumerate(zip(gates, ups, decoders, strict=True)):
            x, y = ((layer.weight.double(), layer.bias.double()) for layer in (gate.x_project, gate.y_project))
            self.gate_signals.append(Gather(stage.rescales("gates", level), level, *x, dtype))
            self.gate_ups.append(Double(cast(maxim.Double, gate.enlarge), *y, dtype))
            weight, bias = block.project.weight.double(), block.project.bias.double()
            below, skips = weight.split([weight.shape[0], weight.shape[1] - weight.shape[0]], dim=1)
            self.decode_ups.append(Double(up, below, None, dtype))
            fine_first = torch.cat(skips.chunk(LEVELS, dim=1)[::-1], dim=1)
            self.decode_skips.append(Gather(stage.rescales("decoders", level), level, fine_first, bias, dtype))
        self.gates = [CrossGating(gate, dtype) for gate in gates]
        self.decoders = [Groups(block, GROUP_COST, dtype) for block in decoders]
        if stage.last:
            self.outputs = [Conv(conv, dtype) for conv in of_kind(maxim.Conv, stage.outputs)]
        else:
            heads = of_kind(maxim.SupervisedAttention, stage.attentions)
            self.outputs = [Conv(head.picture, dtype) for head in heads]
            self.features = [Conv(head.features, dtype) for head in heads]
            self.attend = [Conv(head.attend, dtype) for head in heads]
        parts = [group.cost * len(group.mixers) for group in (*self.encoders, *self.bottlenecks, *self.decoders)]
        gatings = len(self.gates) + len(self.fuse_inputs) + len(self.fuse_encoders)
        self.cost = sum(parts) + GATING_COST * gatings

    def __call__(
        self, pictures: list[Tensor], before: maxim.Handover | None, *, final: bool, tick: Tick
    ) -> tuple[Tensor, maxim.Handover | None]:
        """From (H, W, 3) in [0, 1] by level, full size first, to the restored full-size picture and, unless this is the
        final stage, what to hand on; `before` is emptied.
        """
        levels = range(LEVELS)
        entered = [conv(picture.to(self.dtype)) for conv, picture in zip(self.inputs, pictures, strict=True)]
        if before is not None:
            for level, fuse in enumerate(self.fuse_inputs):
                entered[level] = fuse(entered[level], before.attended.pop(0), tick)

        encoded: list[Tensor] = []
        x = pictures[0]  # which the first level does not look at: it sees what entered, twice
        for level in levels:
            y = self.enter_own[level](entered.pop(0))
            if (below := self.enter_below[level]) is not None:
                below(rows(y), rows(x))
            x = self.encoders[level](y, tick)
            if before is not None:
                x = self.fuse_encoders[level](x, before.encoded.pop(0).add_(before.decoded.pop(0)), tick)
            encoded.append(x)
            x = self.downs[level](x)
        for enter, block in zip(self.bottleneck_enter, self.bottlenecks, strict=True):
            x = block(enter(x), tick)

        skips: list[Tensor] = []  # finest first
        y = x
        for level in reversed(levels):
            skip, y = self.gates[level](self.gate_signals[level](encoded), self.gate_ups[level](y))
            skips.insert(0, skip)
            tick(GATING_COST)
        if final:
            encoded.clear()

        decoded: list[Tensor] = []
        for level in reversed(levels):
            signal = self.decode_skips[level](skips).add_(self.decode_ups[level](x))
            x = self.decoders[level](signal, tick)
            decoded.insert(0, x)

        restored = [
            self.outputs[level](decoded[level]).float() + pictures[level] for level in levels[: 1 if final else None]
        ]
        if final:
            return restored[0], None
        attended = []
        for level in levels:
            gate = self.attend[level](restored[level].to(self.dtype)).sigmoid_()
            attended.append(torch.addcmul(decoded[level], self.features[level](decoded[level]), gate))
        return restored[0], maxim.Handover(attended, encoded, decoded)
