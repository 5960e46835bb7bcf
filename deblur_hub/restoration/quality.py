"""Quality: how much of a network restores a picture, and which step of it a machine can afford in a minute."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..config import QUALITIES
from ..errors import RestorationError, did_you_mean, shown
from ..machine import cache_folder, processor
from ..networks.base import Generator, Quality
from ..networks.windows import WindowedGenerator
from .windowed import Told, runner

AFFORDED = 60.0  # seconds that `choose` lets a picture take
PROBE_SIDE = 256  # pixels of the windows that a machine's speed is measured with

log = logging.getLogger("deblur_hub")


@dataclass(frozen=True)
class Choice:
    """A step of a network, and what a picture is estimated to take at it.

    Attributes:
        name: of `QUALITIES`.
        seconds: estimated, from the measured speed of this machine.
        best, best_seconds: the network's best step, and what that would take.
    """

    name: str
    seconds: float
    best: str
    best_seconds: float

    def __str__(self) -> str:
        taken = f"quality '{self.name}', about {self.seconds:.0f} s"
        return taken if self.name == self.best else f"{taken}; '{self.best}' would take {self.best_seconds:.0f} s"


def require_quality(name: str | None) -> str | None:
    """The name, if it is one of `QUALITIES` or None.

    Raises:
        RestorationError: if it is another.
    """
    if name is not None and name not in QUALITIES:
        raise RestorationError(
            f"quality {shown(name)} is not known{did_you_mean(str(name), QUALITIES)}; take one of "
            f"{', '.join(QUALITIES)}"
        )
    return name


def step_of(network: Generator, name: str) -> Quality | None:
    """The step of that name, or the best below it where there is none of it; None of a network that has but one."""
    if not isinstance(network, WindowedGenerator):
        return None
    below = [step for step in QUALITIES[: QUALITIES.index(name) + 1] if step in network.qualities]
    return network.qualities[below[-1] if below else next(iter(network.qualities))]


def require_strength(strength: float) -> float:
    """The strength, if it lies in [0, 1]; not a number does not.

    Raises:
        RestorationError: if it does not.
    """
    if not 0 <= strength <= 1:
        raise RestorationError(
            f"strength {strength:g} is not between 0, the photo as it was, and 1, the restored picture; give 0.7"
        )
    return float(strength)


def with_strength(blurred: Tensor, restored: Tensor, strength: float) -> Tensor:
    """A blend of the photo and what became of it, of one shape: `restored` itself at a strength of 1."""
    return restored if strength == 1 else torch.lerp(blurred, restored, strength)


def choose(
    network: Generator, size: Sequence[int], pictures: int = 1, *, device: torch.device, dtype: torch.dtype
) -> Choice | None:
    """The best step that is estimated to take at most `AFFORDED` seconds, else the quickest; None if there is but one.

    Args:
        size: height and width of the picture.
        pictures: how many of them.
        device, dtype: where and in what it is to be computed.
    """
    if not isinstance(network, WindowedGenerator):
        return None
    seconds = estimates(network, size, pictures, device=device, dtype=dtype)
    best = list(seconds)[-1]
    name = next((name for name in reversed(seconds) if seconds[name] <= AFFORDED), next(iter(seconds)))
    return Choice(name, seconds[name], best, seconds[best])


def estimates(
    network: WindowedGenerator, size: Sequence[int], pictures: int = 1, *, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Seconds that pictures of (height, width) take at each step, the quickest first."""
    rate = speed(network, device, dtype)
    height, width = size
    return {
        name: pictures * network.multiply_adds((height, width), step) / rate for name, step in network.qualities.items()
    }


# The speed of this machine ---------------------------------------------------------------------------------------

SPEEDS: dict[str, float] = {}  # as the file has them, for as long as the process runs


def speed(network: WindowedGenerator, device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a network's windows, measured once on a machine and kept in the cache folder."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()}"
    key = f"{type(network).__name__}, {str(dtype)[6:]}, {kind}, torch {torch.__version__}"
    file = cache_folder() / "speeds.json"
    if key not in SPEEDS:
        SPEEDS.update(read(file))
    if key not in SPEEDS:
        SPEEDS[key] = measured(network, device, dtype)
        write(file, read(file) | {key: SPEEDS[key]})
    return SPEEDS[key]


def measured(network: WindowedGenerator, device: torch.device, dtype: torch.dtype) -> float:
    count = torch.get_num_threads() if device.type == "cpu" else 8
    windows = torch.rand(count, 3, PROBE_SIDE, PROBE_SIDE) * 2 - 1
    step = network.qualities["balanced"]

    def once() -> float:
        started = time.perf_counter()
        run = runner(network, step, count, device=device, dtype=dtype, told=Told(None))
        for _ in run(iter(windows.split(1))):
            pass
        return time.perf_counter() - started

    once()
    work = count * PROBE_SIDE**2 * network.multiply_adds_per_pixel(step)
    return work / min(once(), once())


def read(file: Path) -> dict[str, float]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): float(value) for key, value in held.items() if float(value) > 0}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write(file: Path, speeds: dict[str, float]) -> None:
    """Aside, then renamed; a folder that cannot be written only means measuring again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=file.parent, suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as made:
            json.dump(speeds, made, indent=2)
        Path(aside).replace(file)
    except OSError as reason:
        log.info("the speed of this machine is not kept: %s", reason)
