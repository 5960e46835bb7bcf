"""Runs `compact` over a picture from top to bottom in strips of its full width.

Each layer takes the strips of the one before as they come, and keeps the few rows that its next strip needs again. So
nothing is computed twice, as the margins of tiles are, the result is the whole frame's, and memory grows with the width
alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.base import Piece, Read, ResidualBlock, of_kind
from ..networks.compact import CompactGenerator
from .tiles import Progress


class Strip(NamedTuple):
    """Rows that are still to be computed, so that they can be put right where the next layer wants them."""

    like: Tensor  # of their shape (1, C, h, W) and type
    write: Callable[[Tensor], object]  # puts them into a tensor


Strips = Iterator[Strip]  # downwards; h may change from one to the next


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

    def folded(top: int) -> Strip:
        strip = read(range(top, min(top + step, height)), range(width)).to(device, stored)
        if progress:
            progress(top, height)
        return copy_of(network.fold(strip.contiguous(memory_format=torch.channels_last)))

    changes = unet(network, map(folded, range(0, height, step)))
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
        self.held: list[Tensor] = []

    def take(self, count: int) -> list[Tensor]:
        """So many rows, in as many tensors as they came in."""
        taken = []
        while count:
            first = self.held.pop(0)
            taken.append(first[..., :count, :])
            if first.shape[-2] > count:
                self.held.insert(0, own(first[..., count:, :]))
            count -= taken[-1].shape[-2]
        return taken


# No strip stays in a layer while those behind it are at work, so generators delete one before they ask for another.


def unet(network: CompactGenerator, folded: Strips) -> Iterator[Tensor]:
    """From strips of the folded picture to those of what is added to the picture."""
    strips = level(network, 0, map(output_of, conv(network.stem, folded)))
    return (network.unfold(change) for _, change in conv(network.head, strips))


def level(network: CompactGenerator, number: int, strips: Strips) -> Strips:
    """A level of the U-Net and all below it."""
    if number == len(network.encoder):
        return blocks(network.middle, strips)
    encoder, decoder = network.encoder[number], network.decoder[number]
    down, up = cast(nn.Conv2d, network.down[number]), network.up[number]
    skips = Rows()

    def halved() -> Strips:
        odd = None  # a row that has no partner yet
        for strip in blocks(encoder, strips):
            rows = below(odd, strip)
            skips.held.append(rows[..., 0 if odd is None else odd.shape[-2] :, :])
            del strip
            even = rows.shape[-2] // 2 * 2
            odd = own(rows[..., even:, :])
            ready = [copy_of(down(rows[..., :even, :]))] if even else []
            del rows
            if ready:
                yield ready.pop()

    def merged(deep: Strip) -> Strip:
        risen = up(below(None, deep))
        return sum_of(skips.take(risen.shape[-2]), risen)

    return blocks(decoder, map(merged, level(network, number + 1, halved())))


def blocks(layers: nn.Module, strips: Strips) -> Strips:
    for layer in of_kind(ResidualBlock, layers.children()):
        strips = block(layer, strips)
    return strips


def block(layer: ResidualBlock, strips: Strips) -> Strips:
    waiting = Rows()

    def activated(convolved: tuple[Tensor, Tensor]) -> Strip:
        waiting.held.append(convolved[0])
        return Strip(convolved[1], partial(rectify, convolved[1]))

    def added(convolved: tuple[Tensor, Tensor]) -> Strip:
        return sum_of(waiting.take(convolved[1].shape[-2]), convolved[1])

    return map(added, conv(layer.second, map(activated, conv(layer.first, strips))))


def conv(layer: nn.Conv2d, strips: Strips) -> Iterator[tuple[Tensor, Tensor]]:
    """A 3x3 convolution with padding, which gives a row once it has the one below: rows, and what came of them."""
    above = None  # the last two rows; above the first is the padding
    for strip in strips:
        rows = below(padding_of(strip.like) if above is None else above, strip)
        del strip
        above = own(rows[..., -2:, :])
        ready = [(rows[..., 1:-1, :], convolve(layer, rows))] if rows.shape[-2] > 2 else []
        del rows
        if ready:
            yield ready.pop()
    if above is not None:
        rows = torch.cat([above, padding_of(above)], dim=-2)
        yield rows[..., 1:-1, :], convolve(layer, rows)


def convolve(layer: nn.Conv2d, rows: Tensor) -> Tensor:
    return F.conv2d(rows, layer.weight, layer.bias, padding=(0, 1))


def below(above: Tensor | None, strip: Strip) -> Tensor:
    """Rows, and computed right below them a strip."""
    count = 0 if above is None else above.shape[-2]
    _, channels, height, width = strip.like.shape
    rows = strip.like.new_empty(1, count + height, width, channels).permute(0, 3, 1, 2)
    if above is not None:
        rows[..., :count, :] = above
    strip.write(rows[..., count:, :])
    return rows


def copy_of(rows: Tensor) -> Strip:
    return Strip(rows, lambda place: place.copy_(rows))


def output_of(convolved: tuple[Tensor, Tensor]) -> Strip:
    return copy_of(convolved[1])


def sum_of(parts: list[Tensor], change: Tensor) -> Strip:
    """What was added up to a change of the rows that come in parts."""

    def write(place: Tensor) -> None:
        top = 0
        for part in parts:
            rows = slice(top, top + part.shape[-2])
            torch.add(part, change[..., rows, :], out=place[..., rows, :])
            top = rows.stop

    return Strip(change, write)


def rectify(rows: Tensor, place: Tensor) -> None:
    torch.clamp(rows, min=0, out=place)


def padding_of(rows: Tensor) -> Tensor:
    return rows.new_zeros(*rows.shape[:2], 1, rows.shape[3])


def own(rows: Tensor) -> Tensor:
    """A copy of a view, which lets go of the rest."""
    return rows.clone(memory_format=torch.channels_last)
