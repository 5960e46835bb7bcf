"""How a command ends, and what it says on the way."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import DeblurHubError

OK, SOME_FAILED, FAILED, INTERRUPTED = 0, 1, 2, 130


class UsageError(DeblurHubError):
    """Arguments that do not fit each other or the files that are there."""


def complain(mistake: DeblurHubError) -> int:
    print(f"deblur-hub: {mistake}", file=sys.stderr)
    return FAILED


@contextmanager
def counting(what: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calls of (done, total)."""
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, disable=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """What the package tells by the way, such as the quality that it takes, to whoever is to hear it."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(record.getMessage())

    log, ear = logging.getLogger("deblur_hub"), Ear()
    before = log.level
    log.addHandler(ear)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(ear)
        log.setLevel(before)
