"""Runs `compact` over a picture from top to bottom in strips of its full width.

Each layer is a generator that takes the strips of the one before, and keeps the few rows that its next strip needs
again. So nothing is computed twice, as the margins of tiles are, the result is the whole frame's, and memory grows with
the width alone.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.base import Piece, Read, ResidualBlock, of_kind
from ..networks.compact import CompactGenerator
from .tiles import Progress

Strips = Iterator[Tensor]  # (1, C, h, W), downwards; h may change from one to the next


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
    # A single row at the coarsest level would take a sixth longer.
    step = max(2, int(pixels / width) // network.size_multiple) * network.size_multiple
    done = 0

    def folded() -> Strips:
        for top in range(0, height, step):
            strip = read(range(top, min(top + step, height)), range(width)).to(device, stored)
            if progress:
                progress(top, height)
            yield network.fold(strip.contiguous(memory_format=torch.channels_last))

    changes = unet(network, folded())
    while True:
        precision: AbstractContextManager[object] = (
            nullcontext() if dtype == stored else torch.autocast(device.type, dtype)
        )
        with precision:
            change = next(changes, None)
        if change is None or done >= size[0]:  # the rest is padding
            break
        # Read again, not kept: the rows that are on their way through the layers would take as much as a strip's work.
        blurred = read(range(done, done + change.shape[-2]), range(width)).to(device, stored)
        restored = (blurred + change).float().clamp_(-1, 1)
        yield done, 0, restored[..., : size[0] - done, : size[1]]
        done += restored.shape[-2]
        del change, blurred, restored
    if progress:
        progress(height, height)


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


# Layers: no strip stays in one while the layers behind it are at work, so each is deleted before another is asked for.


def unet(network: CompactGenerator, folded: Strips) -> Strips:
    """From strips of the folded picture to those of what is added to the picture."""
    strips = level(network, 0, conv(network.stem, folded))
    return map(network.unfold, conv(network.head, strips))


def level(network: CompactGenerator, number: int, strips: Strips) -> Strips:
    """A level of the U-Net and all below it."""
    if number == len(network.encoder):
        return blocks(network.middle, strips)
    encoder, decoder = network.encoder[number], network.decoder[number]
    down, up = cast(nn.Conv2d, network.down[number]), network.up[number]
    skips, odd = Rows(), Rows()

    def halved() -> Strips:
        for skip in blocks(encoder, strips):
            skips.add(skip)
            odd.add(skip)
            del skip
            if even := odd.count // 2 * 2:
                yield down(odd.take(even))

    def merged() -> Strips:
        for deep in level(network, number + 1, halved()):
            risen = [up(deep)]
            del deep
            yield risen[0] + skips.take(risen.pop().shape[-2])

    return blocks(decoder, merged())


def blocks(layers: nn.Module, strips: Strips) -> Strips:
    for layer in of_kind(ResidualBlock, layers.children()):
        strips = block(layer, strips)
    return strips


def block(layer: ResidualBlock, strips: Strips) -> Strips:
    waiting = Rows()

    def watched() -> Strips:
        for rows in strips:
            waiting.add(rows)
            held = [rows]
            del rows
            yield held.pop()

    for change in conv(layer.second, map(layer.activation, conv(layer.first, watched()))):
        held = [waiting.take(change.shape[-2]) + change]
        del change
        yield held.pop()


def conv(layer: nn.Conv2d, strips: Iterable[Tensor]) -> Strips:
    """A 3x3 convolution with padding, which gives a row once it has the one below."""
    above = None  # the last two rows; above the first is the padding
    for rows in strips:
        above = torch.cat([padding_of(rows) if above is None else above, rows], dim=-2)
        del rows
        ready = [F.conv2d(above, layer.weight, layer.bias, padding=(0, 1))] if above.shape[-2] > 2 else []
        above = above[..., max(0, above.shape[-2] - 2) :, :].clone(memory_format=torch.channels_last)
        if ready:
            yield ready.pop()
    if above is not None:
        yield F.conv2d(torch.cat([above, padding_of(above)], dim=-2), layer.weight, layer.bias, padding=(0, 1))


def padding_of(rows: Tensor) -> Tensor:
    return rows.new_zeros(*rows.shape[:2], 1, rows.shape[3])
