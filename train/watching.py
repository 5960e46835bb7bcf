"""What a terminal shows of a run while it goes: how far it is, how fast, and how long it will take."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Meter:
    """Pictures a second, and the share of the steps' time in which the networks waited for them.

    Validation and checkpoints are left out: only what happens inside `step` counts. `all_steps`, `all_seconds` and
    `all_waited` are of the whole session.

    Args:
        pictures: of one step, on all processes together.
    """

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.all_steps, self.all_seconds, self.all_waited = 0, 0.0, 0.0
        self.forget()

    def forget(self) -> None:
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.seconds, self.all_seconds = self.seconds + took, self.all_seconds + took
        self.steps, self.all_steps = self.steps + 1, self.all_steps + 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.waited, self.all_waited = self.waited + took, self.all_waited + took

    def read(self) -> dict[str, float]:
        """Scalars for the log, of the steps since the last reading; nothing before the first step."""
        if not self.steps:
            return {}
        found = {
            "time/pictures_per_second": self.steps * self.pictures / self.seconds,
            "time/data_wait": self.waited / self.seconds,
        }
        self.forget()
        return found


class ProgressBar:
    """A bar over the steps or, where time ends the run, over its seconds; with throughput, loss and time left.

        compact  42%|████▏     | 2520/6000 steps, 43 pictures/s, loss 0.0312 [12:01<16:36]

    The time left is judged by the whole session, its validations included. Into a file it writes a line now and then.

    Args:
        steps: of the run; 0 where time ends it.
        share: of the run that is done already.
    """

    def __init__(self, name: str, *, steps: int, share: float, shown: bool) -> None:
        self.steps, self.speed, self.loss = steps, "", ""
        self.bar = tqdm(
            total=1.0,
            initial=min(share, 1.0),
            desc=name,
            disable=not shown,
            mininterval=1 if sys.stderr.isatty() else 30,
            maxinterval=60,
            smoothing=0,
            dynamic_ncols=True,
            unit="",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {unit} [{elapsed}<{remaining}]",
        )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it is, so that what is printed next has a line of its own."""
        self.bar.close()

    def read(self, scalars: dict[str, float]) -> None:
        """Takes throughput and loss from scalars of the log."""
        if speed := scalars.get("time/pictures_per_second"):
            self.speed = f", {speed:.{0 if speed >= 10 else 1}f} pictures/s"
        if (loss := scalars.get("loss/generator")) is not None:
            self.loss = f", loss {loss:.4g}"

    def show(self, step: int, share: float) -> None:
        done = f"{step}/{self.steps} steps" if self.steps else f"{step} steps"
        # The unit is printed as it is, where a postfix comes with a comma before it.
        self.bar.unit = f"{done}{self.speed}{self.loss}"
        self.bar.update(min(share, 1.0) - self.bar.n)
