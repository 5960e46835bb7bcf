"""Layers that look at the whole frame, and how the tiles of a frame come to share what they see.

Where a frame is computed in tiles, each statistic is taken over all tiles in a pass of its own before a tile may go
on behind it. `restoration` drives the passes; a layer only says which statistic it wants.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sums = tuple[int, Tensor, Tensor]  # of how many values, their sum and that of their squares, each (N, C) in float64


@dataclass(frozen=True)
class Part:
    """Rows and columns of the frame: what a tile reads, and what of it is its own, the rest being margin."""

    rows: range
    columns: range
    own_rows: range
    own_columns: range


class Measured(Exception):
    """Ends a tile's pass at the first statistic that is not known yet."""


class Tiles:
    """The statistics of one stage of one frame (N = 1), in the order in which the stage asks for them.

    A pass runs the stage on every tile; it ends with one more statistic known or, with none missing, `complete`.
    """

    def __init__(self) -> None:
        self.complete = False
        self.known: list[tuple[Tensor, Tensor]] = []
        self.gathered: list[Sums] = []
        self.asked = 0

    def run(self, stage: Callable[..., Tensor], pieces: list[Tensor], part: Part) -> Tensor | None:
        """The stage's output for a tile, or None if the tile only added to a statistic."""
        self.part, self.asked = part, 0
        token = CURRENT.set(self)
        try:
            return stage(*pieces)
        except Measured:
            return None
        finally:
            CURRENT.reset(token)

    def end_pass(self) -> None:
        self.complete = not self.gathered
        if self.gathered:
            self.known.append(merged(self.gathered))
            self.gathered.clear()

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) means and variances over the frame of which `features` (N, C, H, W) are a tile's."""
        number, self.asked = self.asked, self.asked + 1
        if number < len(self.known):
            return self.known[number]
        inside = features
        part = self.part
        for axis, read, own in ((-2, part.rows, part.own_rows), (-1, part.columns, part.own_columns)):
            scale = len(read) // features.shape[axis]
            inside = inside.narrow(axis, (own.start - read.start) // scale, len(own) // scale)
        self.gathered.append(sums(inside))
        raise Measured


CURRENT: ContextVar[Tiles | None] = ContextVar("tiles of the frame being computed", default=None)


def sums(features: Tensor) -> Sums:
    """In slices of rows: a copy of all in float64 would be the largest tensor of a pass."""
    total = features.new_zeros(features.shape[:2], dtype=torch.float64)
    squares = total.clone()
    for rows in features.split(max(1, 2**20 // (features.shape[1] * features.shape[-1])), dim=-2):
        # Added up in place: small tensors that stay would lie in the gaps that the large ones leave, and keep
        # these from being used again.
        wide = rows.to(torch.float64, copy=True)
        total += wide.sum(dim=(2, 3))
        squares += wide.square_().sum(dim=(2, 3))
        del wide
    return features.shape[-2] * features.shape[-1], total, squares


def merged(parts: list[Sums]) -> tuple[Tensor, Tensor]:
    """Mean and variance; sums of half-precision values are exact in float64, so the same however a frame was cut."""
    count, total, squares = (sum(column) for column in zip(*parts, strict=True))
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_(min=0).float()


def moments(features: Tensor) -> tuple[Tensor, Tensor] | None:
    """(N, C) means and variances over the frame, or None where PyTorch's own, quicker, will do.

    In half precision a last digit flips roundings, which networks amplify: tiles and frame have to agree on every bit.
    """
    tiles = CURRENT.get()
    if tiles is not None:
        return tiles.moments(features)
    if features.requires_grad or features.dtype in (torch.float32, torch.float64):
        return None
    return merged([sums(features)])


def normalise(features: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(N, C, H, W) with each channel of each frame brought to mean 0 and variance 1, times weight plus bias (C)."""
    found = moments(features)
    if found is None and len(features) == 1 and features.requires_grad:
        # The same; but of one frame PyTorch's instance_norm has a wrong gradient on CPUs where it comes channels-last.
        return F.batch_norm(features, None, None, weight, bias, training=True, eps=eps)
    if found is None:
        return F.instance_norm(features, weight=weight, bias=bias, eps=eps)
    return normalised_by(*found, features, weight, bias, eps)


def normalised_by(
    means: Tensor, variances: Tensor, features: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Each frame normalised by its own (C) of the means and variances, (N, C)."""
    frames = zip(features.split(1), means, variances, strict=True)
    return torch.cat([F.batch_norm(one, m, v, weight, bias, training=False, eps=eps) for one, m, v in frames])


class FrameNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al., arXiv 1607.08022), over the whole frame in training and evaluation."""

    def forward(self, features: Tensor) -> Tensor:
        return normalise(features, self.weight, self.bias, self.eps)


class FrameBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes the frame's own statistics in evaluation, as authors do who test in train mode."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            return super().forward(features)
        return normalise(features, self.weight, self.bias, self.eps)


class FramePool(nn.Module):
    """(N, C, H, W) to (N, C, 1, 1): the mean over the frame, in place of AdaptiveAvgPool2d(1)."""

    def forward(self, features: Tensor) -> Tensor:
        found = moments(features)
        if found is None:
            return features.mean(dim=(2, 3), keepdim=True)
        return found[0][..., None, None].to(features.dtype)


def statistics(network: nn.Module) -> int:
    """How many statistics of the frame a pass through the network takes."""
    return sum(isinstance(layer, FrameNorm | FrameBatchNorm | FramePool) for layer in network.modules())
