"""Publishes a run's models: each best one in the background, the last at the end, without ever failing the run."""

import shutil
import sys
import tempfile
import threading
from pathlib import Path

from tqdm import tqdm

from deblur_hub.errors import DeblurHubError
from deblur_hub.hub.publishing import publish, require_access

from .recipe import RecipeError


class Publisher:
    """Publishes models of a run as `repo`, each tagged with its step; lives on the main process.

    Errors become a sentence that says how to publish later; the run goes on.

    Args:
        private: makes the repository private where it is created.
        every_best: publishes each best model as soon as it is measured. Uploads happen in a thread, one at a time; if
            several models become the best meanwhile, only the newest is uploaded.
    """

    def __init__(self, repo: str, *, private: bool = False, every_best: bool = False) -> None:
        self.repo, self.private, self.every_best = repo, private, every_best
        self.chosen: tuple[Path, int] | None = None
        self.lock, self.thread = threading.Lock(), None
        self.waiting: tuple[Path, int, Path] | None = None  # the copy, its step, and the folder that it is of

    def check(self) -> None:
        """Raises `RecipeError` if this process could not publish."""
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # the run has its own
        try:
            if warning := require_access(self.repo):
                print(f"train: --push-to-hub {warning}", file=sys.stderr)
        except DeblurHubError as reason:
            raise RecipeError(f"--push-to-hub {reason}, or omit --push-to-hub") from None

    def offer(self, folder: Path, step: int) -> None:
        """Uploads a copy of the best model so far in the background, if every best one is to be published."""
        if not self.every_best:
            return
        try:
            copy = Path(tempfile.mkdtemp(prefix="deblur-hub-publishing-"))
            shutil.copytree(folder, copy, dirs_exist_ok=True)
        except OSError as reason:
            self.tell(folder, step, f"{self.repo}: {folder} cannot be copied ({reason.strerror})")
            return
        with self.lock:
            if self.waiting:
                shutil.rmtree(self.waiting[0], ignore_errors=True)
            self.waiting = (copy, step, folder)
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, daemon=True)
                self.thread.start()

    def work(self) -> None:
        while True:
            with self.lock:
                job, self.waiting = self.waiting, None
                if job is None:
                    self.thread = None
                    return
            copy, step, folder = job
            self.upload(copy, step, folder)
            shutil.rmtree(copy, ignore_errors=True)

    def choose(self, folder: Path, step: int) -> None:
        """Sets the model to publish at the end."""
        self.chosen = (folder, step)

    def finish(self) -> bool:
        """Waits for uploads, then publishes the chosen model; returns whether that went well."""
        if thread := self.thread:
            thread.join()
        if self.chosen is None:
            return True
        folder, step = self.chosen
        return self.upload(folder, step, folder)

    def upload(self, source: Path, step: int, folder: Path) -> bool:
        try:
            address = publish(source, self.repo, private=self.private or None, tag=f"step-{step}")
        except Exception as reason:  # the model is on the disk, and the run matters more
            known = isinstance(reason, DeblurHubError)
            self.tell(folder, step, str(reason) if known else f"{self.repo}: {type(reason).__name__}: {reason}")
            return False
        tqdm.write(f"published {address}, tagged step-{step}")
        return True

    def tell(self, folder: Path, step: int, reason: str) -> None:
        private = " --private" if self.private else ""
        tqdm.write(
            f"train: {reason}. The model is in {folder}; publish it with: "
            f"deblur-hub publish {folder} {self.repo} --tag step-{step}{private}",
            file=sys.stderr,
        )
