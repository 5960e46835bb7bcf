"""Exit codes, errors and progress of the commands."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ..errors import DeblurHubError, reason_of

OK, SOME_FAILED, FAILED, INTERRUPTED = 0, 1, 2, 130


class UsageError(DeblurHubError):
    """Arguments that contradict each other or the files on disk."""


def print_error(mistake: DeblurHubError) -> int:
    print(f"deblur-hub: {mistake}", file=sys.stderr)
    return FAILED


@contextmanager
def counting(what: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calls of (done, total)."""
    with tqdm(desc=what, unit=unit, disable=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


@contextmanager
def logging_to(write: Callable[[str, int], None]) -> Iterator[None]:
    """Passes on what the package logs, such as the quality that it chooses, with its level."""
    log, handler = logging.getLogger("deblur_hub"), logging.Handler()
    handler.emit = lambda record: write(record.getMessage(), record.levelno)  # type: ignore[method-assign]
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def printable(text: str) -> str:
    """Text whose bytes no terminal takes for commands: names of files may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def complaint(source: Path, error: Exception) -> str:
    """What is told of a file that came to nothing."""
    if isinstance(error, DeblurHubError):
        return str(error)
    # A mistake of ours, or of a library; the other photos are none the worse for it.
    return f"{source}: cannot be restored ({type(error).__name__}: {reason_of(error)}); --debug shows where it failed"
