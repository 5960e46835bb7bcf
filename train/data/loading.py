"""Batches of training samples, loaded in this process or by worker processes."""

import atexit
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from deblur_hub.errors import DatasetError

from ..distributed import STOP_SIGNALS
from ..recipe import Data
from ..run import StepError
from . import device_pictures
from .pool import Pictures, Pool
from .samples import TrainingSet, positions
from .synthesis import Batch, collate


def load_batches(samples: TrainingSet, data: Data, accelerator: Accelerator, numbers: Iterable[int]) -> Iterator[Batch]:
    """This process's part of the batches of these numbers, in their order; each is for `Trainer.step`."""
    rank, world = accelerator.process_index, accelerator.num_processes
    to_table = functools.partial(device_pictures.collate, crop=samples.size, numbers=samples.numbers)
    loader = DataLoader(
        samples,
        batch_sampler=positions(numbers, batch_size=data.batch_size, rank=rank, world=world),
        num_workers=data.workers,
        pin_memory=accelerator.device.type == "cuda",
        worker_init_fn=functools.partial(ignore_stop_signals, ended=main_exiting()),
        collate_fn=to_table if samples.numbers else collate,
    )
    return iter(loader)


def sample_side(data: Data) -> int:
    """Pixels of what the loader draws: a crop, or a pool's sample."""
    return (data.pool_side or 2 * data.crop) if data.pool else data.crop


def make_pool(
    samples: TrainingSet,
    data: Data,
    accelerator: Accelerator,
    apply_blur: Callable[[Batch], Pictures],
    *,
    file: Path | None,
    **options: Any,
) -> Pool:
    """The recipe's pool, on the device if the pictures are there, too; `options` are further ones of `Pool`."""
    part = data.batch_size // accelerator.num_processes
    first = accelerator.process_index * part

    def generations(numbers: Iterator[int]) -> Iterator[Pictures]:
        loader = load_batches(samples, data, accelerator, numbers)
        while True:
            yield apply_blur(next_batch(loader))

    return Pool(
        generations,
        file=None if data.pictures == "device" else file,
        device=accelerator.device,
        places=range(first, first + part),
        side=sample_side(data),
        crop=data.crop,
        depth=data.pool // data.batch_size,
        reuse=data.reuse,
        seed=samples.seed,
        **options,
    )


def next_batch(loader: Iterator[Batch]) -> Batch:
    """The next batch; raises `StepError` with the sentence of a `DatasetError`, which workers wrap in a traceback."""
    try:
        return next(loader)
    except DatasetError as reason:
        # Torch's way of raising it here leaves it in a cycle with the loader, which would outlive the run.
        reason.with_traceback(None)
        raise StepError(str(reason).rpartition("DatasetError: ")[2].strip()) from None


@functools.cache
def main_exiting() -> Event:
    """An event that is set once this process is about to exit and waits for its workers."""
    ended = multiprocessing.Event()
    atexit.register(ended.set)  # after multiprocessing's own, and so called before it
    return ended


def ignore_stop_signals(_worker: int, *, ended: Event) -> None:
    """Makes a worker outlive signals, which reach every process of a job, until the main process exits."""

    def end_with_main(_number: int, _frame: FrameType | None) -> None:
        if ended.is_set():
            os._exit(0)

    for number in (signal.SIGINT, *STOP_SIGNALS):
        signal.signal(number, end_with_main)
    sys.excepthook = ignore_disconnects


def ignore_disconnects(kind: type[BaseException], reason: BaseException, trace: TracebackType | None) -> None:
    """Prints no traceback if the main process exits while a worker sends it a batch."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, reason, trace)
