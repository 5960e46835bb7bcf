"""Batches of training samples, loaded in this process or by workers beside it."""

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

from accelerate import Accelerator
from torch.utils.data import DataLoader

from deblur_hub.errors import DatasetError

from ..distributed import WARNINGS
from ..recipe import Data, Recipe
from ..run import StepError
from . import device_pictures as resident
from .pool import Frozen, Pictures, Pool
from .samples import PositionSampler, TrainingSet
from .synthesis import Batch, collate


def draw_from(
    samples: TrainingSet, recipe: Recipe, accelerator: Accelerator, numbers: Iterable[int]
) -> Iterator[Batch]:
    """This process's part of the batches of these numbers, in their order; each is for `Trainer.step`."""
    sampler = PositionSampler(
        numbers,
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
            collate_fn=functools.partial(resident.collate, crop=samples.size) if samples.numbers else collate,
        )
    )


def sample_side(data: Data) -> int:
    """Of what the loader draws: a crop, or a pool's sample."""
    return (data.pool_side or 2 * data.crop) if data.pool else data.crop


def make_pool(
    samples: TrainingSet,
    recipe: Recipe,
    accelerator: Accelerator,
    develop: Callable[[Batch], Pictures],
    *,
    file: Path | None,
    first_batch: int = 0,
    oldest: int = 0,
    frozen: Frozen | None = None,
) -> Pool:
    """The recipe's pool, on the device where the pictures are there, too.

    Args:
        develop: makes pictures of what the loader drew.
    """
    data = recipe.data
    part = data.batch_size // accelerator.num_processes
    first = accelerator.process_index * part

    def generations(numbers: Iterator[int]) -> Iterator[Pictures]:
        loader = draw_from(samples, recipe, accelerator, numbers)
        while True:
            yield develop(draw(loader))

    return Pool(
        generations,
        file=None if data.pictures == "device" else file,
        device=accelerator.device,
        places=range(first, first + part),
        side=sample_side(data),
        crop=data.crop,
        depth=data.pool // data.batch_size,
        reuse=data.reuse,
        seed=recipe.seed,
        first_batch=first_batch,
        oldest=oldest,
        frozen=frozen,
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
