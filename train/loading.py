"""Batches of training samples, loaded in this process or by workers beside it."""

import atexit
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from types import FrameType, TracebackType

from accelerate import Accelerator
from torch.utils.data import DataLoader

from deblur_hub.errors import DatasetError

from . import resident
from .data import PositionSampler, TrainingSet
from .recipe import Recipe
from .run import StepError
from .synthesis import Batch, collate
from .together import WARNINGS


def draw_from(
    samples: TrainingSet, recipe: Recipe, accelerator: Accelerator, *, first_batch: int = 0, batches: int = 2**40
) -> Iterator[Batch]:
    """This process's part of the batches, in their order; each is for `Trainer.step`."""
    sampler = PositionSampler(
        first_batch=first_batch,
        batches=batches,
        batch_size=recipe.data.batch_size,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    return iter(
        DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=recipe.data.workers,
            pin_memory=accelerator.device.type == "cuda",
            worker_init_fn=functools.partial(leave_interrupts_to_main, ended=the_end()),
            collate_fn=functools.partial(resident.collate, crop=recipe.data.crop) if samples.numbers else collate,
        )
    )


def draw(loader: Iterator[Batch]) -> Batch:
    """The next batch.

    Raises:
        StepError: with the sentence of a `DatasetError`, which arrives from a worker wrapped in its traceback.
    """
    try:
        return next(loader)
    except DatasetError as reason:
        # Torch's way of raising it here leaves it in a circle with the loader, which would outlive the run.
        reason.with_traceback(None)
        raise StepError(str(reason).rpartition("DatasetError: ")[2].strip()) from None


@functools.cache
def the_end() -> Event:
    """Set once this process is about to end, and by then waits for its workers."""
    ended = multiprocessing.Event()
    atexit.register(ended.set)  # after multiprocessing's own, and so called before it
    return ended


def leave_interrupts_to_main(_worker: int, *, ended: Event) -> None:
    """Signals reach every process of a terminal or a job: workers end with the main one, which may still need them."""

    def end_with_main(_number: int, _frame: FrameType | None) -> None:
        if ended.is_set():
            os._exit(0)

    for number in (signal.SIGINT, *WARNINGS):
        signal.signal(number, end_with_main)
    sys.excepthook = pass_over_hang_ups


def pass_over_hang_ups(kind: type[BaseException], reason: BaseException, trace: TracebackType | None) -> None:
    """A worker's thread that hands over batches may find the main process gone in mid-transfer, which is no news."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, reason, trace)
