"""Quality: which of a network's steps this machine computes in a minute; and strength, a blend with the photo."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..config import QUALITIES
from ..errors import RestorationError, did_you_mean, shown
from ..machine import processor, remembered
from ..networks.base import Generator, Quality, reflect
from ..networks.state import evaluating
from ..networks.windows import WindowedGenerator
from .tiles import restore_tiles
from .windowed import WorkDone, runner

AFFORDED = 60.0  # seconds that a picture may take where no quality is asked for
PROBE_SIDE = 256  # of the windows that measure the speed, in pixels

log = logging.getLogger("deblur_hub")


@dataclass(frozen=True)
class Choice:
    """A quality, one of `QUALITIES`, and the seconds that it is estimated to take; and those of the network's best."""

    name: str
    seconds: float
    best: str
    best_seconds: float

    def __str__(self) -> str:
        taken = f"quality '{self.name}', about {self.seconds:.0f} s"
        return taken if self.name == self.best else f"{taken}; '{self.best}' would take {self.best_seconds:.0f} s"


def require_quality(name: str | None) -> str | None:
    """The name; raises RestorationError unless it is one of `QUALITIES` or None."""
    if name is not None and name not in QUALITIES:
        raise RestorationError(
            f"quality {shown(name)} is not known{did_you_mean(str(name), QUALITIES)}; take one of "
            f"{', '.join(QUALITIES)}"
        )
    return name


def step_of(network: Generator, name: str) -> Quality | None:
    """The network's step of a quality, or the next lower one that it has; None if it has a single one."""
    if not isinstance(network, WindowedGenerator):
        return None
    below = [step for step in QUALITIES[: QUALITIES.index(name) + 1] if step in network.qualities]
    return network.qualities[below[-1] if below else next(iter(network.qualities))]


def require_strength(strength: float) -> float:
    """The strength; raises RestorationError unless it lies in [0, 1], which NaN does not."""
    if not 0 <= strength <= 1:
        raise RestorationError(
            f"strength {strength:g} is not between 0, the photo as it was, and 1, the restored picture; give 0.7"
        )
    return float(strength)


def with_strength(blurred: Tensor, restored: Tensor, strength: float) -> Tensor:
    """A blend of the blurry picture, at 0, and the restored one, at 1."""
    return restored if strength == 1 else torch.lerp(blurred, restored, strength)


def choose(
    network: Generator, size: Sequence[int], pictures: int = 1, *, device: torch.device, dtype: torch.dtype
) -> Choice | None:
    """The best quality that takes an estimated `AFFORDED` seconds at most for pictures of (height, width), else the
    fastest; None if there is only one.
    """
    if not isinstance(network, WindowedGenerator):
        return None
    seconds = {name: pictures * each for name, each in seconds_for(network, size, device, dtype).items()}
    names = list(seconds)
    best = names[-1]
    name = next((name for name in reversed(names) if seconds[name] <= AFFORDED), names[0])
    return Choice(name, seconds[name], best, seconds[best])


def seconds_for(network: Generator, size: Sequence[int], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Estimated seconds for a picture of (height, width) at each quality, the fastest first; of a single one, as ""."""
    rate = speed(network, device, dtype)
    if not isinstance(network, WindowedGenerator):
        return {"": size[0] * size[1] / rate}
    place = (size[0], size[1])
    return {
        name: network.pixels_computed(place, step) * work_per_pixel(network, step) / rate
        for name, step in network.qualities.items()
    }


def speed(network: Generator, device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a network's windows, or pixels of one that has none."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()}"
    name = type(network).__name__ if isinstance(network, WindowedGenerator) else named(network)
    key = f"{name}, {str(dtype)[6:]}, {kind}, torch {torch.__version__}"

    def measure() -> float:
        with evaluating(network):
            return measure_speed(network, device, dtype)

    return remembered(key, measure)


def work_per_pixel(network: WindowedGenerator, step: Quality) -> float:
    """Multiply-adds, which take seconds to count."""
    key = f"{named(network)}, multiply-adds a pixel of {tuple(step)}"
    return remembered(key, lambda: network.multiply_adds_per_pixel(step))


NAMES: WeakKeyDictionary[Generator, str] = WeakKeyDictionary()  # counting parameters takes a page's menu too long


def named(network: Generator) -> str:
    if network not in NAMES:
        NAMES[network] = f"{type(network).__name__} of {sum(parameter.numel() for parameter in network.parameters())}"
    return NAMES[network]


def measure_speed(network: Generator, device: torch.device, dtype: torch.dtype) -> float:
    if not isinstance(network, WindowedGenerator):
        return measure_pixels(network, device, dtype)
    count = torch.get_num_threads() if device.type == "cpu" else 8
    windows = torch.rand(count, 3, PROBE_SIDE, PROBE_SIDE) * 2 - 1
    step = network.qualities["balanced"]

    def once() -> float:
        started = time.perf_counter()
        run = runner(network, step, count, device=device, dtype=dtype, work=WorkDone(None))
        for _ in run(iter(windows.split(1))):
            pass
        return time.perf_counter() - started

    once()
    work = count * PROBE_SIDE**2 * work_per_pixel(network, step)
    return work / min(once(), once())


def measure_pixels(network: Generator, device: torch.device, dtype: torch.dtype) -> float:
    frame = torch.rand(1, 3, 2 * PROBE_SIDE, 2 * PROBE_SIDE) * 2 - 1

    def once() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            size = frame.shape[-2], frame.shape[-1]
            deque(restore_tiles(network, size, partial(reflect, frame), tile=0, device=device, dtype=dtype), maxlen=0)
        return time.perf_counter() - started

    once()
    return frame[0, 0].numel() / min(once(), once())
