"""Runs networks that restore in windows as fast as the device allows.

On a CPU each thread computes a window of its own with the folded network (`fused`), since threads that share a window
wait for each other at every layer. On other devices the network takes windows in batches.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import groupby, islice
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..networks.base import Piece, Quality, Read
from ..networks.maxim import MaximGenerator
from ..networks.windows import Run, WindowedGenerator
from .fused.maxim import FusedMaxim
from .tiles import Progress

STEPS = 1000  # of the progress that is reported
MOST_WORKERS = 6  # Python starts every operation of every thread, and keeps no more of them busy
POLL_SECONDS = 0.05  # between reports of the progress
BATCH_PIXELS = 2**20  # of a batch of windows on a GPU

Work = Callable[[Tensor], Tensor]  # from a window to its result
Key = tuple[torch.dtype, tuple[tuple[int, int], ...]]
FOLDED: WeakKeyDictionary[MaximGenerator, tuple[Key, FusedMaxim]] = WeakKeyDictionary()


def restore_windows(
    network: WindowedGenerator,
    size: tuple[int, int],
    read: Read,
    quality: Quality,
    *,
    device: torch.device,
    dtype: torch.dtype,
    budget: float,
    progress: Progress | None = None,
) -> Iterator[Piece]:
    """Pictures of (height, width), float32 in [-1, 1], in pieces; the result does not depend on how windows are run.

    Args:
        network: in evaluation mode, on `device`.
        budget: bytes that the windows at work may take; one is computed however little that is.
        progress: called in this thread with steps done and steps in all, many times a second; an exception that it
            raises ends the work at once.
    """
    plan, pictures = network.plan(size, quality), len(read(range(1), range(1)))
    work, most = WorkDone(progress), workers_within(network, quality, budget, dtype)
    each = runner(network, quality, len(plan) * pictures, device=device, dtype=dtype, work=work, most=most)
    run = each if pictures == 1 else apart(each, pictures)
    for top, left, piece in network.restore_pieces(size, read, quality, run):
        yield top, left, piece.clamp(-1, 1)
    if progress:
        progress(STEPS, STEPS)


def apart(run: Run, pictures: int) -> Run:
    """Runs windows of several pictures, (N, 3, H, W), as windows of one each, side by side."""

    def each(windows: Iterator[Tensor]) -> Iterator[Tensor]:
        results = iter(run(one for window in windows for one in window.split(1)))
        while together := list(islice(results, pictures)):
            yield torch.cat(together)

    return each


def runner(
    network: WindowedGenerator,
    quality: Quality,
    count: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    work: "WorkDone",
    most: int = MOST_WORKERS,
) -> Run:
    """A function that restores `count` windows, (1, 3, H, W) float32 each, at most so many at a time."""
    if isinstance(network, MaximGenerator) and device.type == "cpu" and dtype in (torch.float32, torch.bfloat16):
        folded = folded_for(network, dtype)
        work.total = folded.prepare(quality.depth) * count

        def compute(window: Tensor, depth: int) -> Tensor:
            with torch.autocast("cpu", enabled=False):  # it sets the precision of each sum itself
                return folded.restore(window, depth, work.add)

        def restore_window(window: Tensor) -> Tensor:
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return network.restore_window(window, quality, compute)

        return lambda windows: in_threads(restore_window, windows, count, work, most)
    work.total = count
    return lambda windows: in_batches(network, windows, quality, device, dtype, work)


def workers_within(network: WindowedGenerator, quality: Quality, budget: float, dtype: torch.dtype) -> int:
    """How many windows of a quality can be computed side by side in a budget of bytes; at least one."""
    each = network.window_values(quality) * dtype.itemsize
    return max(1, min(MOST_WORKERS, int(budget / each)))


class Cancelled(Exception):
    """Ends a thread whose result is no longer needed."""


class WorkDone:
    """The work that all threads have done, reported by the thread that waits for them."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.total, self.done = 1.0, 0.0
        self.cancelled = False
        self.lock = threading.Lock()

    def add(self, work: float) -> None:
        """Called by any thread; raises Cancelled if it is to end."""
        if self.cancelled:
            raise Cancelled
        if work:
            with self.lock:
                self.done += work

    def report(self) -> None:
        """Called by the thread that waits."""
        if self.progress:
            self.progress(min(STEPS - 1, int(STEPS * self.done / self.total)), STEPS)


def folded_for(network: MaximGenerator, dtype: torch.dtype) -> FusedMaxim:
    """The folded network, made again only when the weights have changed."""
    key = dtype, tuple((weight.data_ptr(), weight._version) for weight in network.unets.parameters())
    held = FOLDED.get(network)
    if held is None or held[0] != key:
        FOLDED[network] = held = key, FusedMaxim(network, dtype)
    return held[1]


def in_threads(
    restore: Work, windows: Iterator[Tensor], count: int, work: WorkDone, most: int = MOST_WORKERS
) -> Iterator[Tensor]:
    """A window for each thread at a time; the last ones, if they are fewer, have several threads each."""
    workers = min(torch.get_num_threads(), most, count)
    for share in (count - count % workers, count % workers):
        if share:
            yield from in_workers(restore, islice(windows, share), min(workers, share), work)


def in_workers(restore: Work, windows: Iterable[Tensor], workers: int, work: WorkDone) -> Iterator[Tensor]:
    """The results in order, computed by Python threads that share PyTorch's threads evenly."""
    threads = torch.get_num_threads()
    ready = threading.Barrier(workers + 1)
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)) as pool:
        for _ in range(workers):
            pool.submit(ready.wait)
        ready.wait()
        torch.set_num_threads(threads)  # the workers have set it for the threads that start after them, too
        try:
            for window in windows:
                waiting.append(pool.submit(restore, window))
                if len(waiting) > workers:
                    yield first_result(waiting, work)
            while waiting:
                yield first_result(waiting, work)
        except BaseException:
            work.cancelled = True
            raise


def first_result(waiting: deque[Future[Tensor]], work: WorkDone) -> Tensor:
    """Waits for the first result, and reports the progress meanwhile."""
    while not waiting[0].done():
        wait([waiting[0]], timeout=POLL_SECONDS)
        work.report()
    return waiting.popleft().result()


def in_batches(
    network: WindowedGenerator,
    windows: Iterator[Tensor],
    quality: Quality,
    device: torch.device,
    dtype: torch.dtype,
    work: WorkDone,
) -> Iterator[Tensor]:
    """The network's own results, in batches of `BATCH_PIXELS` on a GPU and one by one on a CPU."""
    stored = next(network.parameters()).dtype
    for shape, alike in groupby(windows, lambda window: window.shape):
        most = max(1, BATCH_PIXELS // shape[-2:].numel()) if device.type == "cuda" else 1
        while batch := list(islice(alike, most)):
            with torch.autocast(device.type, dtype, enabled=dtype != stored):
                restored = network.restore_window(torch.cat(batch).to(device, stored), quality)
            yield from restored.to(batch[0].device, torch.float32).split(1)
            work.add(len(batch))
            work.report()
