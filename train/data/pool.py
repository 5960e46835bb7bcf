"""A pool of samples: made once, kept in a memory-mapped file, and used several times before newer ones replace them.

Making a sample takes a CPU longer than a small network takes to learn from it. So samples are larger than the crops,
and every use cuts another crop, turned, mirrored, and with its colours in another order. The output of a frozen part of
the network, if there is one, is kept with each sample.

A generation has one sample for each place in a process's part of the batch, and a place draws from its own samples
only, so a run is the same with one process or several. What a batch draws and cuts depends on the seed and its number
alone, so a run is the same resumed or not.
"""

import itertools
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..recipe import RecipeError
from .cache import DISK_RESERVE
from .device_pictures import to_values
from .sources import draw_symmetry, turned

COLOUR_ORDERS = list(itertools.permutations(range(3)))
FIRST_PART = 8  # the first batch waits for this part of the pool: one eighth
STREAM = 5  # of random numbers: a part of the seed, as 1 to 3 are in `samples`

Pictures = tuple[Tensor, ...]  # blurry, sharp, and the frozen part's output for the blurry ones, if there is one
Frozen = Callable[[Tensor, int], Tensor]  # (N, 3, H, W) float32 in [-1, 1], and their generation, to the same


class Pool:
    """Batches of crops, one after another.

    Args:
        generations: maps numbers of generations to their samples: (blurry, sharp), each (N, 3, side, side) float32
            in [-1, 1] of 8 bits.
        file: where they are kept; None keeps them in the memory of `device`.
        places: this process's places in the whole batch.
        depth: generations that a batch draws from.
        reuse: how often a sample is used, on average.
        oldest: the first generation; of a pool that begins at a batch, the batch's number // reuse.
        frozen: the frozen part of the network.

    Raises:
        RecipeError: if the disk has no room for the file.
    """

    def __init__(
        self,
        generations: Callable[[Iterator[int]], Iterator[Pictures]],
        *,
        file: Path | None,
        device: torch.device,
        places: range,
        side: int,
        crop: int,
        depth: int,
        reuse: int,
        seed: int,
        first_batch: int = 0,
        oldest: int = 0,
        frozen: Frozen | None = None,
    ) -> None:
        self.places, self.side, self.crop, self.depth, self.reuse, self.seed = places, side, crop, depth, reuse, seed
        self.batch, self.oldest, self.frozen, self.file = first_batch, oldest, frozen, file
        self.frozen_seconds = 0.0
        shape = (depth, len(places), 3, side, side)
        kinds = [torch.uint8, torch.uint8] + ([torch.float16] if frozen else [])
        if file:
            self.numbers, self.tensors = map_file(file, shape, kinds)
        else:
            self.numbers = torch.zeros(depth, 2, dtype=torch.int64)
            self.tensors = [torch.empty(shape, dtype=kind, device=device) for kind in kinds]
        span = self.span(first_batch)
        self.made = span.stop
        missing = [number for number in span if not self.holds(number)]
        self.samples = generations(itertools.chain(missing, itertools.count(span.stop)))
        for number in missing:
            self.put(number, next(self.samples))
        self.frozen_seconds = 0.0  # from here on, without filling the pool

    def __iter__(self) -> "Pool":
        return self

    def span(self, batch: int) -> range:
        """The generations that a batch draws from."""
        newest = max(1, self.depth // FIRST_PART) + batch // self.reuse
        return range(max(self.oldest, newest - self.depth), newest)

    def __next__(self) -> Pictures:
        """(blurry, sharp) and the frozen output, if any, each (N, 3, crop, crop) float32 in [-1, 1]."""
        span = self.span(self.batch)
        while self.made < span.stop:
            self.put(self.made, next(self.samples))
            self.made += 1
        cut = [self.cut(place, span) for place in range(len(self.places))]
        self.batch += 1
        return tuple(torch.stack(pictures) for pictures in zip(*cut, strict=True))

    def cut(self, place: int, span: range) -> Pictures:
        """A crop of one of a place's samples, turned, mirrored and with its colours in any order."""
        rng = np.random.default_rng([self.seed, STREAM, self.batch, self.places[place]])
        slot = int(rng.integers(span.start, span.stop)) % self.depth
        top, left = rng.integers(self.side - self.crop + 1, size=2)
        window = slice(top, top + self.crop), slice(left, left + self.crop)
        flip, turns = draw_symmetry(rng)
        order = list(COLOUR_ORDERS[rng.integers(len(COLOUR_ORDERS))])
        return tuple(turned(to_values(tensor[slot, place][:, *window][order]), flip, turns) for tensor in self.tensors)

    def put(self, number: int, pictures: Pictures) -> None:
        """Keeps a generation's samples in place of the oldest, and writes its number last, in case of a kill."""
        slot = number % self.depth
        self.numbers[slot] = 0
        # [-1, 1] to uint8; exactly, of values of 8 bits.
        kept = [(values + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8) for values in pictures[:2]]
        if self.frozen:
            started = time.perf_counter()
            kept.append(self.frozen(pictures[0], number))
            self.frozen_seconds += time.perf_counter() - started
        for tensor, values in zip(self.tensors, kept, strict=True):
            tensor[slot].copy_(values)
        self.numbers[slot, 0], self.numbers[slot, 1] = number + 1, self.checksum(slot)

    def holds(self, number: int) -> bool:
        slot = number % self.depth
        return int(self.numbers[slot, 0]) == number + 1 and int(self.numbers[slot, 1]) == self.checksum(slot)

    def checksum(self, slot: int) -> int:
        """Of a slot in a file; a pool in memory does not outlive its process."""
        if self.file is None:
            return 0
        return zlib.crc32(b"".join(tensor[slot].numpy().tobytes() for tensor in self.tensors))

    def remove(self) -> None:
        """Removes the file, if there is one; ends the use of the pool."""
        self.tensors, self.numbers = [], torch.empty(0)
        if self.file:
            with suppress(OSError):
                self.file.unlink()


def map_file(file: Path, shape: tuple[int, ...], kinds: list[torch.dtype]) -> tuple[Tensor, list[Tensor]]:
    """A file's generation numbers with checksums, and its tensors; a file of another size is replaced."""
    count = int(np.prod(shape))
    sizes = [16 * shape[0]] + [count * kind.itemsize for kind in kinds]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size != sum(sizes):
            file.unlink()
        if not file.exists():
            if shutil.disk_usage(file.parent).free < sum(sizes) + DISK_RESERVE:
                raise RecipeError(
                    f"{file}: the pool takes {sum(sizes) / 2**30:.1f} GiB, for which the disk has no room to spare; "
                    "free some space, name another --output, or set a smaller data.pool"
                )
            with file.open("wb") as new:
                new.truncate(sum(sizes))
        memory = np.memmap(file, dtype=np.uint8, mode="r+")
    except OSError as reason:
        raise RecipeError(
            f"{file}: the pool cannot be written ({reason.strerror}); free some space or name another --output"
        ) from reason
    numbers, *parts = torch.from_numpy(memory).split(sizes)
    tensors = [part.view(kind).view(shape) for part, kind in zip(parts, kinds, strict=True)]
    return numbers.view(torch.int64).view(shape[0], 2), tensors
