"""Several processes that share one task, started by torchrun or `accelerate launch`; a single one needs no launcher.

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 -m deblur_hub.evaluation compact pairs/ -o out/

They communicate through torch.distributed with gloo, on GPUs as well: they exchange rows, not tensors.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import distributed

from .errors import DeblurHubError

Result = TypeVar("Result")

TIMEOUT = timedelta(days=7)  # the first to finish waits for the last; noticing a dead process is the launcher's task
# One thread sums in another order than several do: of 2.8 million samples of a restored GoPro picture 5 came out one
# level apart. From two threads on they are the same, and torchrun would give each process one.
MIN_THREADS = 2


class MainProcessFailed(DeblurHubError):
    """An error in the main process, which reports it."""


@dataclass(frozen=True)
class Processes:
    """The rank of this process among all."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    def run_on_main(self, function: Callable[[], Result]) -> Result:
        """The result of a function that only the main process calls; MainProcessFailed in the others if it fails."""
        if self.count == 1:
            return function()
        outcome: list[list[Result]] = [[]]
        mistake: DeblurHubError | None = None
        if self.rank == 0:
            try:
                outcome[0].append(function())
            except DeblurHubError as reason:
                mistake = reason
        distributed.broadcast_object_list(outcome)
        if mistake is not None:
            raise mistake
        if not outcome[0]:
            raise MainProcessFailed("stopped; the main process says why")
        return outcome[0][0]

    def shard(self, items: Sequence[Result]) -> list[Result]:
        """The items of this process; each item belongs to exactly one process."""
        return list(items[self.rank :: self.count])

    def gather(self, part: Result) -> list[Result]:
        """The parts of all processes, in all processes."""
        if self.count == 1:
            return [part]
        parts: list[Result | None] = [None] * self.count
        distributed.all_gather_object(parts, part)
        return cast(list[Result], parts)

    def device(self, asked: str | None) -> str:
        """The device of this process; with several GPUs, one for each process."""
        on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y")
        chosen = asked or ("cuda" if torch.cuda.is_available() and not (on_cpu and self.count > 1) else "cpu")
        if chosen == "cuda" and self.count > 1 and torch.cuda.device_count():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return chosen


@contextmanager
def process_group() -> Iterator[Processes]:
    """The processes that a launcher started; DeblurHubError if they cannot find each other. One without a launcher."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    try:
        distributed.init_process_group("gloo", timeout=TIMEOUT)
    except (ValueError, RuntimeError) as reason:
        why = str(reason).splitlines()[0]
        raise DeblurHubError(
            f"the processes cannot find each other ({why}); start them with torchrun or accelerate launch"
        ) from None
    try:
        rank = distributed.get_rank()
        yield Processes(rank, distributed.get_world_size(), int(os.environ.get("LOCAL_RANK", rank)))
    finally:
        distributed.destroy_process_group()


@contextmanager
def min_threads() -> Iterator[int]:
    """At least `MIN_THREADS` inside the block, so that any number of processes gives the same pixels."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before, MIN_THREADS))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
