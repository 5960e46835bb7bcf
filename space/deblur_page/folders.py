"""Where the page keeps visitors' files: a folder of its own, in which nothing grows older than an hour."""

import atexit
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOUR = 3600.0
EVERY = 300.0  # seconds between two looks at the ages
LEAST_FREE = 2**30  # bytes of the disk, below which the oldest go before their time

if "GRADIO_TEMP_DIR" not in os.environ:  # Gradio reads it for each upload
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="deblur-hub-")
    atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)


def kept_files() -> Path:
    """The folder; what lies in it is served to whoever knows its name."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_folder() -> Path:
    """An empty folder with a name that nobody guesses."""
    folder = kept_files() / secrets.token_urlsafe(18)
    folder.mkdir()
    return folder


@contextmanager
def new_folder() -> Iterator[Path]:
    """The same; it vanishes again if the work in it fails."""
    folder = make_folder()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sweep(
    folder: Path, age: float = HOUR, least_free: int = LEAST_FREE, ours: frozenset[Path] | set[Path] = frozenset()
) -> None:
    """Deletes what was made more than `age` seconds ago, and the oldest where the disk is nearly full; never `ours`."""
    entries = sorted((changed(path), path) for path in folder.iterdir() if path not in ours)
    for time_of_change, path in entries:
        if time.time() - time_of_change > age or shutil.disk_usage(folder).free < least_free:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def changed(path: Path) -> float:
    """When a file, or the newest in a folder, was written; 0 if it is gone."""
    try:
        inside = path.rglob("*") if path.is_dir() else iter(())
        return max([path.stat().st_mtime, *(other.stat().st_mtime for other in inside)])
    except OSError:
        return 0.0


def keep_sweeping() -> None:
    """Starts a thread that sweeps for as long as the process lives, all but what is there now: the page's own files."""
    ours = set(kept_files().iterdir())

    def run() -> None:
        while True:
            time.sleep(EVERY)
            sweep(kept_files(), ours=ours)

    threading.Thread(target=run, name="sweeper", daemon=True).start()
