"""Windows: a picture cut by a plan that depends on its size alone, for networks whose result depends on the frame's.

They overlap, and where they do, results are blended by linear ramps that add up to one.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Generator, Piece, Quality, Read, gathered, reflect
from .description import Description, counted

Run = Callable[[Iterator[Tensor]], Iterable[Tensor]]  # windows to their results, in the same order
Compute = Callable[[Tensor, int], Tensor]  # of a window, by so much of a network
MOST_EQUAL = 3  # windows along a side, of which all are of one size


@dataclass(frozen=True)
class Span:
    """A window along one axis: what it reads, beyond the picture by reflection, and the weight of what it gives."""

    read: range  # pixels of the picture; may begin before it and end behind
    own: range  # those of them that lie in the picture
    fade_in: int  # pixels over which it takes over from the window before
    fade_out: int  # and gives over to the one behind

    @property
    def place(self) -> slice:
        return slice(self.own.start, self.own.stop)

    def weights(self) -> Tensor:
        """(len(own),) in (0, 1]; with those of the neighbours they add up to one."""
        weights = torch.ones(len(self.own))
        weights[: self.fade_in] = ramp(self.fade_in)
        weights[len(weights) - self.fade_out :] = ramp(self.fade_out).flip(0)
        return weights


@dataclass(frozen=True)
class Window:
    """A window of a picture."""

    rows: Span
    columns: Span

    def inside(self, result: Tensor) -> Tensor:
        """The part of its result, (..., H, W), that lies in the picture."""
        for axis, span in ((-2, self.rows), (-1, self.columns)):
            result = result.narrow(axis, span.own.start - span.read.start, len(span.own))
        return result

    def weights(self) -> Tensor:
        """(H, W) of the part that lies in the picture."""
        return self.rows.weights()[:, None] * self.columns.weights()


@dataclass(frozen=True)
class Windows:
    """How pictures are cut; in pixels."""

    side: int  # the longest of a window
    overlap: int  # the least that neighbours share
    multiple: int  # of which all sides are

    def plan(self, size: tuple[int, int]) -> list[Window]:
        """The windows of a picture of (height, width), row by row."""
        return [Window(*spans) for spans in itertools.product(*map(self.spans, size))]

    def doubled(self) -> "Windows":
        return Windows(2 * self.side, 2 * self.overlap, 2 * self.multiple)

    def spans(self, length: int) -> Iterator[Span]:
        """As few as reach, no longer than they need to be, and evenly spread.

        Of a long side the first may be longer than the others by a multiple, which saves up to a seventh of a photo's
        work. Of a short one all are of one size, so that threads which take one each end together.
        """
        count = 1 if length <= self.side else -(-(length - self.overlap) // (self.side - self.overlap))
        units = -(-(length + (count - 1) * self.overlap) // self.multiple)
        if count <= MOST_EQUAL:
            units = -(-units // count) * count
        sides = [self.multiple * (units // count + (number < units % count)) for number in range(count)]
        if count == 1:
            start = -((sides[0] - length) // 2)
            yield Span(range(start, start + sides[0]), range(length), 0, 0)
            return
        twice = sum(sides) - length  # pixels that two windows compute
        starts = [sum(sides[:number]) + -twice * number // (count - 1) for number in range(count)]
        stops = [start + side for start, side in zip(starts, sides, strict=True)]
        shared = [0, *(stop - start for stop, start in zip(stops, starts[1:], strict=False)), 0]
        for number, read in enumerate(map(range, starts, stops)):
            yield Span(read, read, shared[number], shared[number + 1])


def ramp(length: int) -> Tensor:
    """(length,) rising from above 0 to below 1, the same from either end."""
    return (torch.arange(length) + 0.5) / length


class WindowedGenerator(Generator):
    """Base of networks that restore a picture in windows of a fixed plan, at one of several qualities.

    In training a picture is taken whole; in evaluation `forward` restores it at the best quality. A subclass defines
    `compute`, `compute_window`, and `refine` if it has refined steps.
    """

    windows: Windows  # how pictures are cut
    qualities: dict[str, Quality]  # by name, the quickest first

    @property
    def best(self) -> Quality:
        return list(self.qualities.values())[-1]

    def forward(self, blurred: Tensor) -> Tensor | list[Tensor]:
        return super().forward(blurred) if self.training else self.restore(blurred, self.best)

    def compute_window(self, blurred: Tensor, depth: int) -> Tensor:
        """(N, 3, H, W) in [-1, 1], of sides that `windows` plans, to the same, by so much of the network."""
        raise NotImplementedError

    def refine(self, blurred: Tensor, restored: Tensor, quality: Quality) -> Tensor:
        """The last word of a refined step: (N, 3, H, W) in [-1, 1] each."""
        raise NotImplementedError

    def restore_window(self, blurred: Tensor, quality: Quality, compute: Compute | None = None) -> Tensor:
        """(N, 3, H, W) in [-1, 1], as large as the step's windows, to the same; `compute` replaces `compute_window`."""
        each = compute or self.compute_window
        if quality.halved:
            size = (blurred.shape[-2], blurred.shape[-1])
            half = resized(blurred, half_of(size))
            restored = blurred + resized(each(half, quality.depth).to(half) - half, size)
        else:
            restored = each(blurred, quality.depth)
        return self.refine(blurred, restored, quality) if quality.refined else restored

    def restore(self, blurred: Tensor, quality: Quality, run: Run | None = None) -> Tensor:
        """(N, 3, H, W) in [-1, 1], of any size, to the same; `run` restores the windows, None one after another."""
        size = blurred.shape[-2], blurred.shape[-1]
        return gathered(self.restore_pieces(size, partial(reflect, blurred), quality, run), blurred)

    def restore_pieces(
        self, size: tuple[int, int], read: Read, quality: Quality, run: Run | None = None
    ) -> Iterator[Piece]:
        """The same of a picture of (height, width) that is read window by window, in bands of rows, downwards."""
        each = run or (lambda windows: (self.restore_window(window, quality) for window in windows))
        plan = self.plan(size, quality)
        results = iter(each(read(window.rows.read, window.columns.read) for window in plan))
        like = read(range(1), range(1))
        top, held = 0, like.new_zeros(*like.shape[:-2], 0, size[1])  # rows that windows farther down may add to
        for rows, line in itertools.groupby(plan, lambda window: window.rows):
            held = F.pad(held, (0, 0, 0, rows.own.stop - top - held.shape[-2]))
            for window, result in zip(line, results, strict=False):
                inside = window.inside(result).to(like)
                place = held[..., rows.own.start - top : rows.own.stop - top, window.columns.place]
                place += inside * window.weights().to(like) if len(plan) > 1 else inside
            done = rows.own.stop - rows.fade_out - top
            yield top, 0, held[..., :done, :]
            top, held = top + done, held[..., done:, :]

    def plan(self, size: tuple[int, int], quality: Quality) -> list[Window]:
        """The windows of a picture of (height, width); those of a halved step are twice as large."""
        return (self.windows.doubled() if quality.halved else self.windows).plan(size)

    def window_values(self, quality: Quality) -> int:
        """Activation values that a window of a quality costs at the peak."""
        return self.values_per_pixel * self.windows.side**2

    def multiply_adds(self, size: tuple[int, int], quality: Quality) -> int:
        """Of restoring a picture of (height, width), counting what overlapping windows compute twice."""
        return round(self.pixels_computed(size, quality) * self.multiply_adds_per_pixel(quality))

    def pixels_computed(self, size: tuple[int, int], quality: Quality) -> int:
        """Of all windows of a picture of (height, width)."""
        return sum(len(window.rows.read) * len(window.columns.read) for window in self.plan(size, quality))

    def multiply_adds_per_pixel(self, quality: Quality) -> float:
        """Of a window; counted once, and on real numbers, which takes PyTorch a third of the time of meta tensors."""
        known: dict[Quality, float] = self.__dict__.setdefault("counted", {})
        if quality not in known:
            side = self.windows.multiple * (2 if quality.halved else 1)
            window = next(self.parameters()).new_zeros(1, 3, side, side)
            known[quality] = counted(self, lambda: self.restore_window(window, quality)) / side**2
        return known[quality]

    def describe(self, size: tuple[int, int] = (1280, 720)) -> Description:
        return replace(super().describe(size), tiles=True, windows=self.windows.side)

    def cost(self, size: tuple[int, int]) -> int:
        return self.multiply_adds((size[1], size[0]), self.best)


def half_of(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubically, smoothed where it shrinks."""
    shrinks = size[0] < picture.shape[-2] or size[1] < picture.shape[-1]
    return F.interpolate(picture, size=size, mode="bicubic", antialias=shrinks)
