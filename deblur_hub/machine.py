"""This machine: its processor, and the folder for what is made once on it: compiled kernels, measured figures."""

import json
import logging
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from .atomic import replacing

log = logging.getLogger("deblur_hub")


def cache_folder() -> Path:
    """Where it is, whether or not it is there: $DEBLUR_HUB_CACHE, else a folder where the system keeps such things."""
    if named := os.environ.get("DEBLUR_HUB_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "deblur-hub"


def processor(field: str = "model name") -> str:
    """What the processor is called, or another line of Linux's description of it, such as its "flags"."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
    return named or platform.processor() or platform.machine()


FIGURES: dict[str, float] = {}  # what the file in the cache folder holds, read once by a process


def remembered(key: str, measure: Callable[[], float]) -> float:
    """A figure of this machine, measured once and kept in the cache folder."""
    file = cache_folder() / "speeds.json"
    if key not in FIGURES:
        FIGURES.update(read_figures(file))
    if key not in FIGURES:
        FIGURES[key] = measure()
        write_figures(file, read_figures(file) | {key: FIGURES[key]})
    return FIGURES[key]


def read_figures(file: Path) -> dict[str, float]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): float(value) for key, value in held.items() if float(value) > 0}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_figures(file: Path, figures: dict[str, float]) -> None:
    """Keeps the figures; a folder that cannot be written only means measuring again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    except OSError as reason:
        log.info("the speed of this machine is not kept: %s", reason)
