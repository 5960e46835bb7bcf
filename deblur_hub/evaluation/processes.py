"""Several processes that score one set, started by torchrun or `accelerate launch`; one process needs neither.

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 -m deblur_hub.evaluation compact pairs/ -o out/

They talk through torch.distributed with gloo, on GPUs as well: what they exchange is rows, not tensors.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import distributed

from ..errors import DeblurHubError

Result = TypeVar("Result")

PATIENCE = timedelta(days=7)  # that the first to finish waits for the last; a dead process is the launcher's to notice
# One thread sums in another order than several do: of 2.8 million samples of a restored GoPro picture 5 came out one
# level apart. From two threads on they are the same, and torchrun would give each process one.
LEAST_THREADS = 2


class ToldElsewhere(DeblurHubError):
    """The first process has met an error, and says it."""


@dataclass(frozen=True)
class Processes:
    """This process among its like."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    def agreed(self, decide: Callable[[], Result]) -> Result:
        """What the first process decides; it alone reads the disk for it, and says what is wrong.

        Raises:
            DeblurHubError: the first process's; in the others, `ToldElsewhere`.
        """
        if self.count == 1:
            return decide()
        told: list[Result | None] = [None]
        mistake: DeblurHubError | None = None
        if self.rank == 0:
            try:
                told[0] = decide()
            except DeblurHubError as reason:
                mistake = reason
        stopped = [mistake is not None]
        distributed.broadcast_object_list(stopped)
        if mistake is not None:
            raise mistake
        if stopped[0]:
            raise ToldElsewhere("stopped; the first process says why")
        distributed.broadcast_object_list(told)
        return cast(Result, told[0])

    def mine(self, items: Sequence[Result]) -> list[Result]:
        """This process's part; every item is some process's, and of no two."""
        return list(items[self.rank :: self.count])

    def gathered(self, part: Result) -> list[Result]:
        """Every process's part, in all of them."""
        if self.count == 1:
            return [part]
        parts: list[Result | None] = [None] * self.count
        distributed.all_gather_object(parts, part)
        return cast(list[Result], parts)

    def device(self, asked: str | None) -> str:
        """The device of this process: of several GPUs its own."""
        on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y")
        chosen = asked or ("cuda" if torch.cuda.is_available() and not (on_cpu and self.count > 1) else "cpu")
        if chosen == "cuda" and self.count > 1 and torch.cuda.device_count():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return chosen


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes that a launcher started, by its environment; one alone where there was none.

    Raises:
        DeblurHubError: if they cannot find each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    try:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as reason:
        raise DeblurHubError(
            f"the processes cannot find each other ({str(reason).splitlines()[0]}); "
            "start them with torchrun or accelerate launch"
        ) from None
    try:
        rank = distributed.get_rank()
        yield Processes(rank, distributed.get_world_size(), int(os.environ.get("LOCAL_RANK", rank)))
    finally:
        distributed.destroy_process_group()


@contextmanager
def enough_threads() -> Iterator[int]:
    """At least `LEAST_THREADS`, for a while, so that any number of processes gives the same pixels."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before, LEAST_THREADS))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
