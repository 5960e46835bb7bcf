"""How much memory is free: of a GPU, of this machine, and within the control group that a container is held to."""

import os
import re
from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# What version 2 and version 1 call the limit, what is used, and that part of it which is given back when it is wanted.
FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    within = free_in_cgroups()
    return free_in_machine() if within is None else min(within, free_in_machine())


def free_in_machine() -> int:
    meminfo = Path("/proc/meminfo")
    available = re.search(r"^MemAvailable:\s*(\d+)", meminfo.read_text(), re.M) if meminfo.exists() else None
    if available:
        return int(available[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (ValueError, OSError, AttributeError):
        return 2 * 2**30


def free_in_cgroups() -> int | None:
    """Bytes that the tightest of this process' control groups leaves it; None where none limits it."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return None
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        version, root = (1, CGROUPS / "memory") if controllers else (2, CGROUPS)
        group = root / path.lstrip("/")
        # A container sees its own group at the root, whatever it is called outside.
        found += [free_in(each, version) for each in (group, *group.parents) if each.is_relative_to(root)]
    return min((free for free in found if free is not None), default=None)


def free_in(group: Path, version: int) -> int | None:
    limit, used, given_back = FILES[version]
    try:
        most = int((group / limit).read_text())
        held = int((group / used).read_text())
        cached = re.search(rf"^{given_back} (\d+)", (group / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
    return max(0, most - held + (int(cached[1]) if cached else 0))


def is_out_of_memory(reason: RuntimeError) -> bool:
    """Whether an allocation failed, for which PyTorch raises a plain RuntimeError on a CPU."""
    words = ("not enough memory", "can't allocate memory")
    return isinstance(reason, torch.OutOfMemoryError) or any(some in str(reason) for some in words)
