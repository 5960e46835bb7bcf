"""Three threads: one decodes the next file, one restores, one writes the last; what is wrong with one costs itself."""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError, reason_of
from ..generator import DeblurGenerator
from ..pictures import Original, Samples, upright_size
from ..remote import is_remote
from ..restoration.together import BATCH
from .journal import Journals
from .nearby import Nearby
from .sizes import Job

MOST_PIXELS = 50e6  # of the pictures that wait or are worked on at once; a larger one is there alone
MOST_PICTURES = 4 * BATCH  # one is read, one gathered, one restored and one written


class Stopped(Exception):
    """Whoever asked for the outcomes wants no more of them."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: written, skipped as it was done before, or an error."""

    job: Job
    error: Exception | None = None
    skipped: bool = False
    pixels: int = 0  # restored
    seconds: float = 0.0  # that the network took for them


@dataclass
class Page:
    """A picture of a file on its way from thread to thread. The last message of a file has none."""

    job: int
    number: int = 0
    count: int = 1  # of pictures in its file
    pixels: int = 0
    samples: Samples | None = None  # until it is restored
    restored: np.ndarray | None = None
    original: Original | None = None
    error: Exception | None = None  # which ends the file
    skipped: bool = False
    seconds: float = 0.0  # that the network took


WAITING = Page(-1)  # of no file: whoever decodes waits for a place


class Load:
    """The pictures in memory, of which there are only so many at once."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._change = threading.Condition()
        self._stopped = False

    def take_in(self, pixels: int, waiting: Callable[[], None]) -> None:
        """Waits for a place, which it tells before; raises Stopped if there will be none."""

        def has_place() -> bool:
            few = len(self._held) < MOST_PICTURES and sum(self._held) + pixels <= MOST_PIXELS
            return self._stopped or not self._held or few

        with self._change:
            if not has_place():
                waiting()
                self._change.wait_for(has_place)
            if self._stopped:
                raise Stopped
            self._held.append(pixels)

    def let_go(self, pixels: int) -> None:
        with self._change:
            self._held.remove(pixels)
            self._change.notify_all()

    def stop(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()


def restore_files(
    generator: DeblurGenerator,
    jobs: Sequence[Job],
    *,
    journals: Journals | None = None,
    resume: bool = False,
    together: Collection[Path] = (),
    progress: Callable[[int, float], None] | None = None,
    **options: Any,
) -> Iterator[Outcome]:
    """Restores files in their order; a result is there, whole, before its outcome is yielded.

    Args:
        jobs: with targets that differ. A folder that a target needs is made.
        journals: where to take down what is done.
        resume: skip what the journals say is done.
        together: sources of small pictures that are restored in batches with those of their size next to them.
        progress: called with the number of a job and the share of it that is restored.
        options: as `DeblurGenerator.deblur_file` takes them, whose errors of wrong options it raises.

    Yields:
        The outcome of each job, with any exception that it came to.
    """
    steps = generator.file_steps(**options)
    load, nearby = Load(), Nearby(jobs)
    decoded, restored = queue.SimpleQueue[Page | None](), queue.SimpleQueue[Page | None]()
    outcomes = queue.SimpleQueue[Outcome | None]()
    made: list[Path] = []  # folders, of which those that stay empty go again

    def decode() -> None:
        for job, (source, target) in enumerate(jobs):
            last = Page(job)
            try:
                if resume and journals and journals.is_done(source, target):
                    last.skipped = True
                else:
                    if not is_remote(target) and not target.parent.exists():
                        make_folder(target.parent)
                        made.append(target.parent)
                    decode_file(job, nearby.fetched(job, source), nearby.place(job, target))
            except Stopped:
                return
            except Exception as error:
                last.error = error
            decoded.put(last)
        decoded.put(None)

    def decode_file(job: int, source: Path, target: Path) -> None:
        width, height = upright_size(source)
        pages, more = steps.read(source, target), True
        while more:
            load.take_in(width * height, lambda: decoded.put(WAITING))
            try:
                number, count, samples = next(pages)
            except BaseException:
                load.let_go(width * height)
                raise
            more = number + 1 < count
            if not more:
                del pages  # which holds the picture as long as it waits
            decoded.put(Page(job, number, count, width * height, samples))
            del samples

    def write() -> None:
        while (page := restored.get()) is not None:
            outcome = outcome_of(page)
            nearby.drop(page.job)
            outcomes.put(outcome)
        outcomes.put(None)

    def following(page: Page) -> Page:
        if (found := restored.get()) is not None:
            return found
        restored.put(None)  # which ends `write` as well
        return Page(page.job, error=Stopped())

    def outcome_of(page: Page) -> Outcome:
        source, target = job = jobs[page.job]
        last, pixels, seconds = page, 0, 0.0

        def pages() -> Iterator[tuple[np.ndarray, Original]]:
            nonlocal last, pixels, seconds
            while last.restored is not None and last.original is not None:
                yield last.restored, last.original
                pixels, seconds = pixels + last.pixels, seconds + last.seconds
                load.let_go(last.pixels)
                last = following(page)
            if last.error:
                raise last.error

        if page.restored is None:
            return Outcome(job, page.error, page.skipped)
        try:
            entry = journals.begin(source, target) if journals else None
            try:
                steps.write(pages(), nearby.place(page.job, target))
                nearby.deliver(page.job, target)
            except BaseException:
                if journals:
                    journals.give_up(target)
                raise
            if journals and entry:
                journals.finish(target, entry)
        except Exception as error:
            while last.restored is not None:  # what else comes of this file
                load.let_go(last.pixels)
                last = following(page)
            return Outcome(job, error)
        return Outcome(job, pixels=pixels, seconds=seconds)

    threads = [threading.Thread(target=each, name=each.__name__, daemon=True) for each in (decode, write)]
    for thread in threads:
        thread.start()
    failed: set[int] = set()  # jobs of which nothing more is to be restored

    def goes_together(page: Page) -> bool:
        single = page.count == 1 and page.samples is not None and page.samples.original.pictures == 1
        return single and jobs[page.job][0] in together

    def restore(pages: list[Page]) -> Exception | None:
        """Restores the pictures among the messages, which go together if there are several."""
        first, *_ = at_work = [page for page in pages if page.samples is not None]
        if progress:
            progress(first.job, first.number / first.count)
        begun = time.perf_counter()
        try:
            samples = [page.samples for page in at_work if page.samples is not None]
            if goes_together(first):
                results = steps.restore_together(samples, share_of(progress, at_work))
            else:
                results = [steps.restore(samples[0], share_of(progress, at_work))]
        except Exception as error:
            failed.update(page.job for page in at_work)
            return error
        seconds = (time.perf_counter() - begun) / len(at_work)
        for page, each, result in zip(at_work, samples, results, strict=True):
            page.restored, page.original, page.samples, page.seconds = result, each.original, None, seconds
        return None

    try:
        for pages in in_batches(decoded, goes_together):
            error = None
            if any(page.samples is not None and page.job not in failed for page in pages):
                error = restore(pages)
            for page in pages:
                if page.samples is not None:  # it could not be restored, or one before it in its file
                    load.let_go(page.pixels)
                    if error:
                        restored.put(Page(page.job, error=error))
                elif page.job not in failed:
                    restored.put(page)
            del pages, page
            while not outcomes.empty():
                yield outcomes.get()  # type: ignore[misc]
        restored.put(None)
        while (outcome := outcomes.get()) is not None:
            yield outcome
    finally:
        load.stop()
        restored.put(None)
        threads[1].join()
        nearby.close()
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def in_batches(messages: queue.SimpleQueue[Page | None], goes_together: Callable[[Page], bool]) -> Iterator[list[Page]]:
    """The messages in their order, one by one, or as many as hold a batch of pictures of one size that go together."""
    held: list[Page] = []
    sizes: list[tuple[int, int]] = []

    def taken() -> list[Page]:  # none is kept here while it is worked on
        pages = held[:]
        held.clear()
        sizes.clear()
        return pages

    for page in iter(messages.get, None):
        if page is WAITING:
            if held and messages.empty():  # perhaps for the places of those that are held
                yield taken()
            continue
        size = page.samples.size if page.samples is not None and goes_together(page) else None
        if page.samples is not None and sizes and (size != sizes[0] or len(sizes) == BATCH):
            yield taken()
        held.append(page)
        del page
        if size is not None:
            sizes.append(size)
        if not sizes:
            yield taken()
    if held:
        yield taken()


def share_of(progress: Callable[[int, float], None] | None, pages: list[Page]) -> Callable[[int, int], None] | None:
    """The progress of pictures that are restored together, as that of one after another."""

    def tell(done: int, total: int) -> None:
        number, share = divmod(done * len(pages) / total, 1)
        page = pages[min(int(number), len(pages) - 1)]
        if progress:
            progress(page.job, (page.number + (share if number < len(pages) else 1)) / page.count)

    return progress and tell


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = reason_of(error)
        raise PictureError(f"{folder}: cannot be written ({reason}); name another folder for the results") from error
