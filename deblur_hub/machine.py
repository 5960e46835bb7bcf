"""This machine: its processor, and the folder for what is made once on it: compiled kernels, measured speeds."""

import os
import platform
import sys
from pathlib import Path


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
