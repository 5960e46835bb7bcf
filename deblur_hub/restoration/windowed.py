"""Networks that restore in windows, run as fast as the device allows.

On a CPU several windows are computed at once, each folded (`fused`) and by a thread of its own: threads that share a
window wait for each other at every layer. Elsewhere windows go through the network in batches.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..networks.base import Quality
from ..networks.maxim import MaximGenerator
from ..networks.windows import Run, WindowedGenerator
from .fused.maxim import FusedMaxim
from .tiles import Progress

STEPS = 1000  # that progress is told in
MOST_WORKERS = 6  # Python, which starts every operation of every thread, keeps no more of them busy
PATIENCE = 0.2  # seconds between looks at the progress
BATCH_PIXELS = 2**20  # of a batch of windows on a GPU

Work = Callable[[Tensor], Tensor]  # a window to its result
Key = tuple[torch.dtype, tuple[tuple[int, int], ...]]
FOLDED: WeakKeyDictionary[MaximGenerator, tuple[Key, FusedMaxim]] = WeakKeyDictionary()


def restore_windows(
    network: WindowedGenerator,
    blurred: Tensor,
    quality: Quality,
    *,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> Tensor:
    """(1, 3, H, W) float32 in [-1, 1] to the same; the result does not depend on how the windows are run.

    Args:
        network: in evaluation mode, on `device`.
        dtype: to compute in.
        progress: called in this thread with steps done and steps in all, at least every second and every 2 % of the
            work; what it raises ends the work within moments and passes on.
    """
    count = len(network.plan((blurred.shape[-2], blurred.shape[-1]), quality))
    told = Told(progress)
    run = runner(network, quality, count, device=device, dtype=dtype, told=told)
    restored = network.restore(blurred, quality, run)
    told.finish()
    return restored.clamp_(-1, 1)


def runner(
    network: WindowedGenerator,
    quality: Quality,
    count: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    told: "Told",
) -> Run:
    """What restores so many windows, (1, 3, H, W) float32 each, one after another or together."""
    if isinstance(network, MaximGenerator) and device.type == "cpu" and dtype in (torch.float32, torch.bfloat16):
        folded = folded_for(network, dtype)
        told.total = folded.prepare(quality.depth) * count

        def compute(window: Tensor, depth: int) -> Tensor:
            with torch.autocast("cpu", enabled=False):  # it has a precision of its own for each of its sums
                return folded.restore(window, depth, told.tick)

        def work(window: Tensor) -> Tensor:
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return network.restore_window(window, quality, compute)

        return lambda windows: in_threads(work, windows, count, told)
    told.total = count
    return lambda windows: in_batches(network, windows, quality, device, dtype, told)


class Abandoned(Exception):
    """Ends a window whose result nobody waits for."""


class Told:
    """The work done by all threads, and who is told of it."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.total, self.done, self.shown = 1.0, 0.0, -1
        self.abandoned = False
        self.lock = threading.Lock()

    def tick(self, work: float) -> None:
        """Called by any thread.

        Raises:
            Abandoned: if the work is to end.
        """
        if self.abandoned:
            raise Abandoned
        with self.lock:
            self.done += work

    def show(self) -> None:
        """Called by the thread that the work was asked for in."""
        steps = min(STEPS - 1, int(STEPS * self.done / self.total))
        if self.progress and steps > self.shown:
            self.shown = steps
            self.progress(steps, STEPS)

    def finish(self) -> None:
        if self.progress:
            self.progress(STEPS, STEPS)


# On a CPU --------------------------------------------------------------------------------------------------------


def folded_for(network: MaximGenerator, dtype: torch.dtype) -> FusedMaxim:
    """The folded network, made once for as long as its weights stay what they are."""
    key = dtype, tuple((weight.data_ptr(), weight._version) for weight in network.unets.parameters())
    held = FOLDED.get(network)
    if held is None or held[0] != key:
        FOLDED[network] = held = key, FusedMaxim(network, dtype)
    return held[1]


def in_threads(work: Work, windows: Iterator[Tensor], count: int, told: Told) -> Iterator[Tensor]:
    """As many windows at a time as there are threads; the last ones, if they are fewer, with several threads each."""
    threads = torch.get_num_threads()
    workers = min(threads, MOST_WORKERS, count)
    together = count - count % workers
    for share in (together, count - together):
        if share:
            yield from in_workers(
                work,
                islice(windows, share),
                workers=min(workers, share),
                threads=threads,
                told=told,
            )


def in_workers(work: Work, windows: Iterable[Tensor], *, workers: int, threads: int, told: Told) -> Iterator[Tensor]:
    """The results in their order, computed by some threads of Python with a share of PyTorch's threads each."""
    ready = threading.Barrier(workers + 1)
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)) as pool:
        for _ in range(workers):
            pool.submit(ready.wait)
        ready.wait()
        torch.set_num_threads(threads)  # with which threads of others, too, will begin
        try:
            for window in windows:
                waiting.append(pool.submit(work, window))
                if len(waiting) > workers:
                    yield result(waiting, told)
            while waiting:
                yield result(waiting, told)
        except BaseException:
            told.abandoned = True
            raise


def result(waiting: deque[Future[Tensor]], told: Told) -> Tensor:
    """That of the first, once it is there."""
    while not waiting[0].done():
        wait([waiting[0]], timeout=PATIENCE)
        told.show()
    return waiting.popleft().result()


# Elsewhere -------------------------------------------------------------------------------------------------------


def in_batches(
    network: WindowedGenerator,
    windows: Iterator[Tensor],
    quality: Quality,
    device: torch.device,
    dtype: torch.dtype,
    told: Told,
) -> Iterator[Tensor]:
    """Through the network itself, so many windows at a time as make a batch of `BATCH_PIXELS`; on a CPU one."""
    stored = next(network.parameters()).dtype
    for first in windows:
        most = max(1, BATCH_PIXELS // first[0, 0].numel()) if device.type == "cuda" else 1
        batch = torch.cat([first, *islice(windows, most - 1)]).to(device, stored)
        with torch.autocast(device.type, dtype, enabled=dtype != stored):
            restored = network.restore_window(batch, quality)
        yield from restored.to(first.device, torch.float32).split(1)
        told.tick(len(batch))
        told.show()
