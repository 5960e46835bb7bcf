"""The line before the model: one picture at a time, first come, first served, each with its place and a way out."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from deblur_hub import DeblurHubError

LONGEST = 40  # jobs of single pictures that may wait
TRUSTED = 0.1  # share of the work after which its own pace tells more than the speed of the machine


class BusyError(DeblurHubError):
    """The line is full."""


class Cancelled(Exception):
    """Ends the work on a picture that nobody waits for any more."""


class Job:
    """A picture in the line.

    Attributes:
        owner: the visitor, whose earlier job a new one replaces; None for a program, which may have several.
        turn: which of the owner's requests it is, as `Line.begin` counts them.
        expected: seconds that the work is estimated to take.
        share: of the work that is done, from 0 to 1.
        preview: what can be shown already.
        replaced: whether the same visitor has begun something else.
    """

    def __init__(self, work: Callable[["Job"], Any], expected: float, owner: str | None = None, turn: int = 0) -> None:
        self.work, self.expected, self.owner, self.turn = work, expected, owner, turn
        self.share = 0.0
        self.preview: Any = None
        self.cancelled = self.replaced = False
        self.started: float | None = None
        self.first: tuple[float, float] | None = None  # when the first progress was reported, and how much
        self.future: Future[Any] = Future()

    def report(self, done: int, total: int) -> None:
        """Takes the progress; raises Cancelled if the work is to end."""
        if self.cancelled:
            raise Cancelled
        self.share = done / total
        if self.first is None and done:
            self.first = time.monotonic(), self.share

    def run(self) -> Any:
        self.report(0, 1)
        self.started = time.monotonic()
        return self.work(self)

    def seconds_passed(self) -> float:
        return 0.0 if self.started is None else time.monotonic() - self.started

    def seconds_left(self) -> float:
        """By its own pace since the first progress once a tenth is done, and by the estimate before."""
        if self.first is None or self.share < max(TRUSTED, self.first[1] + TRUSTED / 2):
            return max(self.expected - self.seconds_passed(), 0.0)
        since, share = self.first
        return (time.monotonic() - since) * (1 - self.share) / (self.share - share)


class Line:
    """Who waits for the model. One thread works, so that one picture's memory is the most that is needed."""

    def __init__(self, longest: int = LONGEST) -> None:
        self.longest = longest
        self._jobs: list[Job] = []  # the first is at work
        self._turns: dict[str, int] = {}  # of each owner's last request
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "model")

    def begin(self, owner: str | None) -> int:
        """Counts a request of the owner, and ends the work on earlier ones; its turn, for the job that comes of it."""
        if owner is None:
            return 0
        self.leave_all(owner, replaced=True)
        with self._lock:
            self._turns[owner] = self._turns.get(owner, 0) + 1
            return self._turns[owner]

    def forget(self, owner: str) -> None:
        """Ends all that is done for an owner who has gone."""
        self.leave_all(owner)
        with self._lock:
            self._turns.pop(owner, None)

    def join(self, job: Job) -> Job:
        """Puts the job at the end.

        Raises:
            BusyError: if the line is full.
            Cancelled: if its owner has asked for something else meanwhile, or is gone.
        """
        with self._lock:
            if job.owner is not None and job.turn != self._turns.get(job.owner):
                job.replaced = job.owner in self._turns
                raise Cancelled
            if len(self._jobs) > self.longest:
                minutes = math.ceil(sum(other.seconds_left() for other in self._jobs) / 60)
                raise BusyError(f"{len(self._jobs)} pictures wait already; come back in about {minutes} min")
            self._jobs.append(job)
            job.future = self._worker.submit(job.run)
        job.future.add_done_callback(lambda _: self._remove(job))
        return job

    def before(self, job: Job) -> tuple[int, float]:
        """How many are before it, and the seconds that they need."""
        with self._lock:
            ahead = self._jobs[: self._jobs.index(job)] if job in self._jobs else []
        return len(ahead), sum(other.seconds_left() for other in ahead)

    def leave(self, job: Job, *, replaced: bool = False) -> None:
        """Takes it out, or ends its work at the next report of its progress."""
        job.replaced = job.replaced or replaced
        job.cancelled = True
        job.future.cancel()

    def leave_all(self, owner: str, *, replaced: bool = False) -> None:
        with self._lock:
            owned = [job for job in self._jobs if job.owner == owner]
        for job in owned:
            self.leave(job, replaced=replaced)

    def close(self) -> None:
        """Ends all work; the picture at hand within a tile."""
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            self.leave(job)
        self._worker.shutdown(wait=True)

    def _remove(self, job: Job) -> None:
        with self._lock:
            self._jobs.remove(job)
