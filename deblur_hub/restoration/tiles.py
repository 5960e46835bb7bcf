"""A frame in tiles: how it is cut, and how a network goes through it stage by stage, leaving no trace of the cuts."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.base import Generator, Stage, reflect, unread
from ..networks.frame import Tiles, statistics

Progress = Callable[[int, int], None]  # tiles done, tiles in all


@dataclass(frozen=True)
class Tile:
    """What a tile reads (with margins, beyond the picture by reflection) and what of the frame it answers for."""

    rows: range
    columns: range
    own_rows: range
    own_columns: range
    size: tuple[int, int]  # of the picture, at which the frame's padding begins

    @property
    def inner_rows(self) -> slice:
        return within(self.rows, self.own_rows, self.size[0])

    @property
    def inner_columns(self) -> slice:
        return within(self.columns, self.own_columns, self.size[1])

    @property
    def out_rows(self) -> slice:
        return slice(self.own_rows.start, min(self.own_rows.stop, self.size[0]))

    @property
    def out_columns(self) -> slice:
        return slice(self.own_columns.start, min(self.own_columns.stop, self.size[1]))


def within(read: range, own: range, length: int) -> slice:
    return slice(own.start - read.start, min(own.stop, length) - read.start)


def cut(size: tuple[int, int], tile: int, margin: int, multiple: int, smallest: int = 1) -> Iterator[Tile]:
    """The tiles of a frame of (height, width); one for the whole frame where `tile` is 0 or no smaller than it.

    Tiles lie on the grid of the network's multiple, and margins end where the padded frame ends: a network sees at
    the border what it would see in the whole frame.
    """
    vertical, horizontal = (list(spans(length, tile, margin, multiple, smallest)) for length in size)
    for rows, own_rows in vertical:
        for columns, own_columns in horizontal:
            yield Tile(rows, columns, own_rows, own_columns, size)


def spans(length: int, tile: int, margin: int, multiple: int, smallest: int) -> Iterator[tuple[range, range]]:
    """Along one axis: what each tile reads, and what it answers for."""
    padded = -(-max(length, smallest) // multiple) * multiple
    step = padded if tile == 0 else min(padded, max(multiple, tile // multiple * multiple))
    count = -(-padded // step)
    step = -(-padded // count // multiple) * multiple  # tiles of about one size rather than a sliver at the end
    for start in range(0, padded, step):
        stop = min(start + step, padded)
        yield range(max(0, start - margin), min(padded, stop + margin)), range(start, stop)


def compute_frame(
    network: Generator,
    picture: Tensor,
    restored: Tensor,
    *,
    tile: int,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> None:
    """Computes one frame, whole or in tiles of the given side.

    Statistics of the frame are taken over all its tiles, stage by stage; between stages the features of the whole
    frame are kept on the device. A network without such statistics has a single stage, and keeps nothing.

    Args:
        network: in evaluation mode.
        picture: (1, 3, H, W) in [-1, 1].
        restored: of the same shape; is filled.
        dtype: to compute in, where it is not that of the weights.
    """
    stored = next(network.parameters()).dtype
    size = (picture.shape[-2], picture.shape[-1])

    def precise() -> AbstractContextManager[object]:
        return nullcontext() if dtype == stored else torch.autocast(device.type, dtype)

    def read(name: str, part: Tile) -> Tensor:
        if name == "blurred":
            piece = reflect(picture, part.rows, part.columns).to(device, stored)
            return piece.contiguous(memory_format=torch.channels_last)
        piece = window(held[name], part.rows, part.columns, network.padded(size[0]))
        return piece.contiguous(memory_format=torch.channels_last)  # else half precision rounds otherwise than whole

    def write(output: Tensor, part: Tile) -> None:
        inside = output[..., part.inner_rows, part.inner_columns].float().clamp_(-1, 1)
        restored[..., part.out_rows, part.out_columns] = inside.to(restored.device)

    whole = list(cut(size, tile, 0, network.size_multiple, network.smallest_side))
    held: dict[str, Tensor] = {}
    if len(whole) == 1:
        with precise():
            write(network(read("blurred", whole[0])), whole[0])
        if progress:
            progress(1, 1)
        return
    stages = network.stages()
    done, total = 0, (len(stages) + statistics(network)) * len(whole)
    for number, stage in enumerate(stages):
        parts = list(cut(size, tile, margin(stage, network), network.size_multiple, network.smallest_side))
        tiles, result = Tiles(), None
        while not tiles.complete:
            for part in parts:
                with precise():
                    output = tiles.run(stage.run, [read(name, part) for name in stage.reads], part)
                done = min(done + 1, total)
                if progress:
                    progress(done, total)
                if output is None:
                    continue
                if stage.writes == "restored":
                    write(output, part)
                    continue
                if result is None:
                    result = empty_frame(output, part, [network.padded(side) for side in size])
                paste(output, part, result, network.padded(size[0]))
            tiles.end_pass()
        output = None
        if result is not None:
            held[stage.writes] = result
        for name in unread(held, stages[number + 1 :]):
            del held[name]


def margin(stage: Stage, network: Generator) -> int:
    return -(-(stage.reach or 0) // network.size_multiple) * network.size_multiple


def window(features: Tensor, rows: range, columns: range, height: int) -> Tensor:
    """The part of features (..., H / s, W / s) of a frame (H high) that rows and columns of the frame name."""
    scale = height // features.shape[-2]
    return features.narrow(-2, rows.start // scale, len(rows) // scale).narrow(
        -1, columns.start // scale, len(columns) // scale
    )


def paste(output: Tensor, part: Tile, result: Tensor, height: int) -> None:
    """Puts what a tile answers for into the features of the whole frame."""
    rows, columns = (
        range(own.start - read.start, own.stop - read.start)
        for own, read in ((part.own_rows, part.rows), (part.own_columns, part.columns))
    )
    place = window(result, part.own_rows, part.own_columns, height)
    place.copy_(window(output, rows, columns, len(part.rows)))


def empty_frame(output: Tensor, part: Tile, padded: list[int]) -> Tensor:
    """Room for the features of the whole frame, of which `output` is a tile's."""
    scale = len(part.rows) // output.shape[-2]
    shape = (1, output.shape[1], padded[0] // scale, padded[1] // scale)
    return torch.empty(shape, dtype=output.dtype, device=output.device, memory_format=torch.channels_last)
