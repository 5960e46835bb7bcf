"""Runs a network's stages one after another over a frame's tiles, so that the result equals the whole frame's."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..networks.base import Generator, Piece, Read, Stage, unread
from ..networks.frame import Part, Tiles, statistics

Progress = Callable[[int, int], None]  # tiles done, tiles in all


def part_of(progress: Progress, number: int, count: int) -> Progress:
    """Progress within part `number`, from 0, of `count` equal ones."""
    return lambda done, total: progress(number * total + done, count * total)


@dataclass(frozen=True)
class Tile(Part):
    """A part of a picture, which reads beyond it by reflection."""

    size: tuple[int, int]  # height and width of the picture, at which the frame's padding begins

    @property
    def inner(self) -> tuple[slice, slice]:
        """Its own part of the picture within what it reads."""
        height, width = self.size
        return within(self.own_rows, height, self.rows.start), within(self.own_columns, width, self.columns.start)


def within(own: range, length: int, start: int = 0) -> slice:
    """A range cut off at `length`, counted from `start`."""
    return slice(own.start - start, min(own.stop, length) - start)


def cut(size: tuple[int, int], tile: int, margin: int, multiple: int, smallest: int = 1) -> Iterator[Tile]:
    """The tiles of a frame of (height, width); one for the whole frame where `tile` is 0 or no smaller than it.

    Tiles lie on the grid of the network's multiple, and margins end where the padded frame ends, so that a network sees
    at the border what it would see in the whole frame.
    """
    vertical, horizontal = (spans(length, tile, margin, multiple, smallest) for length in size)
    for (rows, own_rows), (columns, own_columns) in product(vertical, horizontal):
        yield Tile(rows, columns, own_rows, own_columns, size)


def spans(length: int, tile: int, margin: int, multiple: int, smallest: int) -> Iterator[tuple[range, range]]:
    """Along one axis: what each tile reads, and what is its own."""
    padded = -(-max(length, smallest) // multiple) * multiple
    step = padded if tile == 0 else min(padded, max(multiple, tile // multiple * multiple))
    count = -(-padded // step)
    step = -(-padded // count // multiple) * multiple  # tiles of about one size, no sliver at the end
    for start in range(0, padded, step):
        stop = min(start + step, padded)
        yield range(max(0, start - margin), min(padded, stop + margin)), range(start, stop)


def restore_tiles(
    network: Generator,
    size: tuple[int, int],
    read_picture: Read,
    *,
    tile: int,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> Iterator[Piece]:
    """Computes one frame of (height, width), whole or in tiles of the given side, to pieces, float32 in [-1, 1].

    Statistics of the frame are computed over all its tiles, stage by stage; between stages the features of the whole
    frame stay on the device. A network without such statistics has a single stage, and no features stay.
    """
    stored = next(network.parameters()).dtype
    padded = [network.padded(side) for side in size]
    whole = list(cut(size, tile, 0, network.size_multiple, network.smallest_side))
    *earlier, last = stages = network.stages()
    done, total = 0, (len(stages) + statistics(network)) * len(whole)
    held: dict[str, Tensor] = {}

    def precision() -> AbstractContextManager[object]:
        return nullcontext() if dtype == stored else torch.autocast(device.type, dtype)

    def read(name: str, part: Tile) -> Tensor:
        if name == "blurred":
            piece = read_picture(part.rows, part.columns).to(device, stored)
        else:
            piece = window(held[name], part.rows, part.columns, padded[0])
        return piece.contiguous(memory_format=torch.channels_last)  # in another layout half precision rounds otherwise

    def outputs(stage: Stage) -> Iterator[tuple[Tensor, Tile]]:
        nonlocal done
        margin = -(-(stage.reach or 0) // network.size_multiple) * network.size_multiple
        parts = list(cut(size, tile, margin, network.size_multiple, network.smallest_side))
        tiles = Tiles()
        while not tiles.complete:
            for part in parts:
                with precision():
                    output = tiles.run(stage.run, [read(name, part) for name in stage.reads], part)
                done = min(done + 1, total)
                if progress:
                    progress(done, total)
                if output is not None:
                    yield output, part
            tiles.end_pass()

    if len(whole) == 1:
        with precision():
            output = network(read("blurred", whole[0]))
        if progress:
            progress(1, 1)
        yield piece_of(output, whole[0])
        return
    for number, stage in enumerate(earlier):
        result = None
        for output, part in outputs(stage):
            result = empty_frame(output, part, padded) if result is None else result
            paste(output, part, result, padded[0])
        del output
        if result is not None:
            held[stage.writes] = result
        for name in unread(held, stages[number + 1 :]):
            del held[name]
    for output, part in outputs(last):
        yield piece_of(output, part)


def piece_of(output: Tensor, part: Tile) -> Piece:
    """A tile's own part of what came of it."""
    return part.own_rows.start, part.own_columns.start, output[..., *part.inner].float().clamp_(-1, 1)


def window(features: Tensor, rows: range, columns: range, height: int) -> Tensor:
    """The part of features (..., H / s, W / s) at rows and columns of their frame, whose height is H."""
    scale = height // features.shape[-2]
    for axis, wanted in ((-2, rows), (-1, columns)):
        features = features.narrow(axis, wanted.start // scale, len(wanted) // scale)
    return features


def paste(output: Tensor, part: Tile, result: Tensor, height: int) -> None:
    """Puts a tile's own part into the features of the whole frame."""
    rows, columns = (
        range(own.start - read.start, own.stop - read.start)
        for own, read in ((part.own_rows, part.rows), (part.own_columns, part.columns))
    )
    place = window(result, part.own_rows, part.own_columns, height)
    place.copy_(window(output, rows, columns, len(part.rows)))


def empty_frame(output: Tensor, part: Tile, padded: list[int]) -> Tensor:
    """An empty tensor for the features of the whole frame, of which `output` is a tile's."""
    scale = len(part.rows) // output.shape[-2]
    shape = (*output.shape[:2], padded[0] // scale, padded[1] // scale)
    return torch.empty(shape, dtype=output.dtype, device=output.device, memory_format=torch.channels_last)
