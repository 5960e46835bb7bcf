"""`deblur-hub doctor`: what a bug report should say about a machine, without private paths."""

import argparse
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .. import __version__, machine
from ..config import GeneratorConfig
from ..errors import DeblurHubError
from ..hub import CONFIG, list_models
from ..restoration.fused.kernels import compiled
from ..restoration.memory import free_memory
from ..restoration.restore import dtype_for
from .outcomes import OK

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchvision", "pillow", "numpy", "safetensors", "huggingface_hub", "gradio", "accelerate")


def run_doctor(options: argparse.Namespace) -> int:
    print(report())
    return OK


def report() -> str:
    """All facts, one a line, with the home folder written as `~`."""
    facts: dict[str, Callable[[], str]] = {
        "deblur-hub": lambda: f"{__version__}, {'a checkout' if (ROOT / '.git').exists() else 'installed'}",
        "Python": lambda: f"{platform.python_version()} ({platform.python_implementation()})",
        **{name: lambda name=name: installed(name) for name in PACKAGES},  # type: ignore[misc]
        "platform": platform.platform,
        "processor": processor,
        "devices": devices,
        "precision": precision,
        "C kernels": kernels,
        "free memory": memory,
        "cache folder": lambda: str(machine.cache_folder()),
        "bundled models": lambda: ", ".join(list_models()) or "none",
        "hub cache": cached,
    }
    width = max(map(len, facts))
    text = "\n".join(f"{name:<{width}}  {answer(fact)}" for name, fact in facts.items())
    for home in (Path.home(), Path.home().resolve()):
        if home != Path(home.anchor):
            text = text.replace(str(home), "~")
    return text


def answer(fact: Callable[[], str]) -> str:
    """A fact, or the error in its place: a report is needed most where something is broken."""
    try:
        return fact()
    except Exception as reason:
        first = str(reason).partition("\n")[0]
        return f"unknown ({type(reason).__name__}: {first})"


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    return f"{machine.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def devices() -> str:
    cuda = [f"cuda:{place} {torch.cuda.get_device_name(place)}" for place in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ", ".join([*cuda, *mps, "cpu"])


def precision() -> str:
    taken = (f"{str(dtype_for('auto', torch.device(kind)))[6:]} on {kind}" for kind in kinds())
    return f"auto is {', '.join(taken)}"


def kinds() -> tuple[str, ...]:
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def kernels() -> str:
    if os.environ.get("DEBLUR_HUB_KERNELS") == "0":
        return "switched off by DEBLUR_HUB_KERNELS=0"
    return "not compiled; PyTorch's own operations take their place" if compiled() is None else "compiled"


def memory() -> str:
    return ", ".join(f"{free_memory(torch.device(kind)) / 2**30:.1f} GiB on {kind}" for kind in kinds())


def cached() -> str:
    """The models of ours in huggingface_hub's cache, known by their config.json."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    names = set()
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return "none"
    for repo in repos:
        configs = [revision.snapshot_path / CONFIG for revision in repo.revisions]
        try:
            for config in filter(Path.is_file, configs):
                GeneratorConfig.from_json(config.read_text(encoding="utf-8"))
                names.add(repo.repo_id)
        except (DeblurHubError, OSError, UnicodeDecodeError):
            continue  # another library's model
    return ", ".join(sorted(names)) or "none"
