"""Speed, loading time and memory, compared as ratios within one run: machines differ, and vary from hour to hour."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from ..config import GeneratorConfig, Option
from ..errors import DeblurHubError
from ..generator import DeblurGenerator
from ..hub import CONFIG, find, list_models, weights_file
from ..networks import PRESETS, build_network
from ..networks.base import Generator
from ..networks.windows import WindowedGenerator
from ..restoration.quality import step_of
from ..restoration.restore import Precision, dtype_for
from .tables import markdown

MATRIX = 4096  # side of the matrices whose product stands for the speed of a machine
REFERENCE = "deblurgan"  # ResNet-9 in float32


@dataclass(frozen=True)
class Memory:
    """Memory of one run of `deblur`: peak in GiB, seconds from start to end, largest difference from the first run."""

    tile: int | None
    peak: float
    seconds: float
    difference: int


@dataclass(frozen=True)
class Loading:
    """Loading of one model: median seconds, those of reading and building alone, and the median of their ratios."""

    seconds: float
    bare: float
    ratio: float


class BenchmarkError(DeblurHubError):
    """A model or command that cannot be measured."""


def interleaved(tasks: Mapping[str, Callable[[], float]], runs: int) -> dict[str, np.ndarray]:
    """The seconds that each task returns, in turn and run after run, so that drift affects all alike."""
    rounds = [[task() for task in tasks.values()] for _ in range(runs + 1)]
    return dict(zip(tasks, np.transpose(rounds[1:]), strict=True))  # the first round warms up


def seconds_of(function: Callable[..., object], *arguments: object, **options: object) -> float:
    started = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - started


def speed_table(
    models: list[str], *, size: tuple[int, int], runs: int, device: str, precision: Precision = "auto"
) -> str:
    """Speed of `restore` at (width, height): median seconds, and the median of each run's ratio to the reference's."""
    picture = torch.rand(1, 3, size[1], size[0]) * 2 - 1  # comes back on the CPU, so that a GPU is waited for
    generators = {REFERENCE: load(REFERENCE, device)} | {name: load(name, device) for name in models}
    precisions: dict[str, Precision] = dict.fromkeys(generators, precision) | {REFERENCE: "float32"}
    tasks = {
        name: partial(seconds_of, generator.restore, picture, precision=precisions[name])
        for name, generator in generators.items()
    }
    times = interleaved(tasks, runs)
    lines = []
    for name, generator in generators.items():
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        counts = [f"{parameters / 1e6:.2f} M", f"{generator.describe(size).multiply_adds / 1e9:.1f} G"]
        ratio = np.median(times[REFERENCE] / times[name])
        dtype = str(dtype_for(precisions[name], torch.device(device))).removeprefix("torch.")
        lines.append([name, dtype, *counts, f"{np.median(times[name]):.2f}", f"{ratio:.1f}"])
    return markdown(["model", "precision", "parameters", "multiply-adds", "seconds", "times as fast"], lines, left=2)


def rate_table(models: list[str], *, size: tuple[int, int], runs: int, device: str, precision: Precision) -> str:
    """Speed of `deblur_file` of one photo at each quality, beside a matrix product in the same precision."""
    lines, precisions = [], cast(list[Precision], ["float32", "auto"] if precision == "auto" else [precision])
    with tempfile.TemporaryDirectory() as folder:
        photo, target = made_up_photo(Path(folder) / "photo.jpg", *size), Path(folder) / "sharp.jpg"
        for name in models:
            generator = load(name, device)
            qualities = generator.qualities or ("",)
            for chosen in precisions:
                dtype = dtype_for(chosen, torch.device(device))
                deblur = partial(seconds_of, generator.deblur_file, photo, target, precision=chosen)
                tasks: dict[str, Callable[[], float]] = {"product": partial(product_seconds, device, dtype)}
                tasks |= {quality: partial(deblur, quality=quality or None) for quality in qualities}
                medians = {task: float(np.median(times)) for task, times in interleaved(tasks, runs).items()}
                product = MATRIX**3 / medians["product"]
                for quality in qualities:
                    work, seconds = work_of(generator.network, quality, size), medians[quality]
                    share = f"{work / seconds / product:.0%} of {product / 1e9:.1f} G/s"
                    counts = [f"{work / 1e9:.1f} G", f"{seconds:.2f}"]
                    lines.append([name, quality, str(dtype).removeprefix("torch."), *counts, share])
    header = ["model", "quality", "precision", "multiply-adds", "seconds", "of the matrix product's rate"]
    return markdown(header, lines, left=3)


def work_of(network: Generator, quality: str, size: tuple[int, int]) -> int:
    """Multiply-adds of a picture of (width, height), those of overlapping windows as often as they are computed."""
    step = step_of(network, quality)
    if isinstance(network, WindowedGenerator) and step is not None:
        return network.multiply_adds((size[1], size[0]), step)
    return network.cost(size)


def product_seconds(device: str, dtype: torch.dtype, side: int = MATRIX) -> float:
    """Seconds of a product of two square matrices, the best of three."""
    one, two = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return min(seconds_of(lambda: (one @ two)[0, 0].item()) for _ in range(3))  # `item` waits for a GPU


def load(name: str, device: str) -> DeblurGenerator:
    """A saved model, or a preset with fresh weights, which take as long."""
    if is_preset(name):
        return fresh(name, {}).to(torch.device(device))
    return DeblurGenerator.from_pretrained(name, device=device)


def is_preset(name: str) -> bool:
    return name in PRESETS and name not in list_models()


def fresh(preset: str, options: Mapping[str, Option]) -> DeblurGenerator:
    architecture, own = PRESETS[preset]
    made = DeblurGenerator(GeneratorConfig(architecture, own | dict(options), preset))
    return made.to(memory_format=torch.channels_last).eval()


def measure_loading(model: str, *, loads: int) -> Loading:
    """Times `from_pretrained` of a model that is on this machine, and reading and building it alone, in turn."""
    folder = find(model, local_files_only=True).folder
    if not (folder / weights_file(None)).is_file():
        raise BenchmarkError(f"{model}: its weights are spread over several files; name a model with one")
    whole = partial(seconds_of, DeblurGenerator.from_pretrained, model, device="cpu", local_files_only=True)
    times = interleaved({"whole": whole, "bare": partial(seconds_of, read_and_build, folder)}, loads)
    medians = (np.median(values) for values in (times["whole"], times["bare"], times["whole"] / times["bare"]))
    return Loading(*map(float, medians))


def read_and_build(folder: Path) -> None:
    """Reads and builds a model with PyTorch and safetensors alone, without any check."""
    config = GeneratorConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    network = build_network(config.architecture, **config.options)
    network.load_state_dict(load_file(folder / weights_file(None)))
    network.eval()


def loading_table(models: list[str], *, loads: int) -> str:
    lines = []
    for model in models:
        found = measure_loading(model, loads=loads)
        lines.append([model, f"{found.seconds * 1e3:.1f} ms", f"{found.bare * 1e3:.1f} ms", f"{found.ratio:.2f}"])
    return markdown(["model", "loading", "reading, building", "ratio"], lines)


def measure_memory(
    model: str,
    *,
    photo: Path | tuple[int, int],
    tiles: Sequence[int | None] = (None,),
    precision: str = "auto",
    options: Mapping[str, Option] | None = None,
) -> list[Memory]:
    """Runs `deblur-hub deblur` once for each tile size, each in a process of its own.

    Args:
        model: a saved model, or a preset, which gets fresh weights, and maybe other options.
        photo: a picture file, or width and height of one that is made up.
        tiles: the sides of the tiles; None is `deblur`'s own choice, 0 the whole frame.
    """
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(photo, tuple):
            photo = made_up_photo(Path(folder) / "photo.jpg", *photo)
        if options or is_preset(model):
            saved = Path(folder) / "model"
            without_zeros(fresh(model, options or {})).save_pretrained(saved)
            model = str(saved)
        found: list[Memory] = []
        pixels: list[np.ndarray] = []
        for number, tile in enumerate(tiles):
            target = Path(folder) / (f"sharp{number}.png" if len(tiles) > 1 else "sharp.jpg")  # to compare, or as usual
            command = [sys.executable, "-m", "deblur_hub.cli", "deblur", str(photo), "-o", str(target)]
            command += ["--model", model, "--precision", precision, "--quiet"]
            started = time.perf_counter()
            peak = peak_of(command if tile is None else [*command, "--tile", str(tile)])
            seconds = time.perf_counter() - started
            pixels.append(np.asarray(Image.open(target)).astype(np.int16))
            found.append(Memory(tile, peak, seconds, int(np.abs(pixels[-1] - pixels[0]).max())))
        return found


# A process counts the memory of its parent as its own peak, so a bare interpreter starts it.
STARTER = """
import os, resource, sys
status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)[1])
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_of(command: list[str]) -> float:
    """Peak memory of a command in GiB; raises BenchmarkError if it fails."""
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", STARTER, *command], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()[-1]
    status, peak = map(int, said.split())
    if status:
        raise BenchmarkError(f"'deblur' failed with exit code {status}, for the reason above")
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def made_up_photo(path: Path, width: int, height: int) -> Path:
    """A picture file of any size, smooth in places and busy in others."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.uint16)
    pixels = np.stack([rows * 3 + columns, rows ^ columns, columns * 5], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def without_zeros(generator: DeblurGenerator) -> DeblurGenerator:
    """Replaces zero weights, with which a fresh network leaves a picture as it is and nothing could be compared."""
    draw = torch.Generator().manual_seed(0)
    for parameter in generator.parameters():
        if not parameter.any():
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * 0.02)
    return generator
