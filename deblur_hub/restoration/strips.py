"""Runs `compact` over a picture from top to bottom in strips of its full width.

Each layer keeps the few rows that the next strip needs again, so that nothing is computed twice, as the margins of
tiles are, the result is the whole frame's, and memory grows with the width alone.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.base import Piece, Read, ResidualBlock, of_kind
from ..networks.compact import CompactGenerator
from .tiles import Progress

Push = Callable[[Tensor, bool], Tensor]  # from the next rows, and whether they are the last, to rows that are ready


def restore_strips(
    network: CompactGenerator,
    size: tuple[int, int],
    read: Read,
    *,
    pixels: float,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> Iterator[Piece]:
    """Computes one frame of (height, width), float32 in [-1, 1], in strips of about so many pixels."""
    stored = next(network.parameters()).dtype
    height, width = map(network.padded, size)
    multiple = network.size_multiple
    step = max(1, int(pixels / width) // multiple) * multiple
    push, blurred, done = network_of(network), Rows(), 0
    for top in range(0, height, step):
        bottom = min(top + step, height)
        strip = read(range(top, bottom), range(width)).to(device, stored)
        blurred.add(strip)
        precision: AbstractContextManager[object] = (
            nullcontext() if dtype == stored else torch.autocast(device.type, dtype)
        )
        with precision:
            change = push(strip.contiguous(memory_format=torch.channels_last), bottom == height)
        if progress:
            progress(bottom, height)
        if change.shape[-2]:
            restored = (blurred.take(change.shape[-2]) + change).float().clamp_(-1, 1)
            yield done, 0, restored[..., : size[0] - done, : size[1]]
            done += change.shape[-2]


class Rows:
    """Rows that wait for their partners: first in, first out."""

    def __init__(self) -> None:
        self.held: Tensor | None = None

    @property
    def count(self) -> int:
        return 0 if self.held is None else self.held.shape[-2]

    def add(self, rows: Tensor) -> None:
        self.held = rows if self.held is None else torch.cat([self.held, rows], dim=-2)

    def take(self, count: int) -> Tensor:
        assert self.held is not None and count <= self.count
        taken, self.held = self.held[..., :count, :], self.held[..., count:, :]
        return taken


class Conv:
    """A 3x3 convolution with padding, which gives a row once it has the one below."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        self.held: Tensor | None = None  # the last two rows; above the first is the padding

    def push(self, rows: Tensor, last: bool) -> Tensor:
        padding = rows.new_zeros(*rows.shape[:2], 1, rows.shape[3])
        above = padding if self.held is None else self.held
        rows = torch.cat([above, rows, padding] if last else [above, rows], dim=-2)
        self.held = rows[..., max(0, rows.shape[-2] - 2) :, :].clone(memory_format=torch.channels_last)
        if rows.shape[-2] < 3:
            return rows.new_empty(1, self.layer.out_channels, 0, rows.shape[3])
        return F.conv2d(rows, self.layer.weight, self.layer.bias, padding=(0, 1))


class Block:
    """A residual block."""

    def __init__(self, block: ResidualBlock) -> None:
        self.first, self.second, self.activation = Conv(block.first), Conv(block.second), block.activation
        self.waiting = Rows()

    def push(self, rows: Tensor, last: bool) -> Tensor:
        self.waiting.add(rows)
        change = self.second.push(self.activation(self.first.push(rows, last)), last)
        return self.waiting.take(change.shape[-2]) + change


def chained(pushes: Iterable[Push]) -> Push:
    def push(rows: Tensor, last: bool) -> Tensor:
        for each in pushes:
            rows = each(rows, last)
        return rows

    return push


def blocks_of(layers: nn.Module) -> Push:
    blocks = [Block(block) for block in of_kind(ResidualBlock, layers.children())]
    return chained([block.push for block in blocks])


class Level:
    """A level of the U-Net around those below it."""

    def __init__(self, encoder: nn.Module, down: nn.Conv2d, below: Push, up: nn.Sequential, decoder: nn.Module) -> None:
        self.encode, self.below, self.decode = blocks_of(encoder), below, blocks_of(decoder)
        self.down, self.up = down, up
        self.odd, self.skips = Rows(), Rows()

    def push(self, rows: Tensor, last: bool) -> Tensor:
        skip = self.encode(rows, last)
        self.skips.add(skip)
        self.odd.add(skip)
        even = self.odd.take(self.odd.count // 2 * 2)
        deep = self.below(self.down(even) if even.shape[-2] else empty(even, self.down.out_channels, 2), last)
        coarse = cast(nn.Conv2d, self.up[0]).out_channels
        risen = self.up(deep) if deep.shape[-2] else empty(rows, coarse // 4)
        return self.decode(risen + self.skips.take(risen.shape[-2]), last)


def empty(rows: Tensor, channels: int, stride: int = 1) -> Tensor:
    return rows.new_empty(1, channels, 0, rows.shape[3] // stride)


def network_of(network: CompactGenerator) -> Push:
    """From strips of the picture to those of what is added to it."""
    push = blocks_of(network.middle)
    levels = zip(network.encoder, network.down, network.up, network.decoder, strict=True)
    for encoder, down, up, decoder in reversed(list(levels)):
        push = Level(encoder, cast(nn.Conv2d, down), push, cast(nn.Sequential, up), decoder).push
    unet = chained([Conv(network.stem).push, push, Conv(network.head).push])
    return lambda rows, last: network.unfold(unet(network.fold(rows), last))
