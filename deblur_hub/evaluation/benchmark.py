"""Speed, loading time and memory, compared as ratios within one run: machines differ, and vary from hour to hour."""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

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
class Speed:
    """Speed of one model at one picture size: the median of the runs, and how many times as fast as the reference."""

    model: str
    precision: str
    parameters: int
    multiply_adds: int
    seconds: float
    ratio: float


@dataclass(frozen=True)
class Rate:
    """Speed of one model at one quality, from file to file, beside the machine's matrix product.

    Attributes:
        multiply_adds: of the photo, those of overlapping windows counted as often as they are computed.
        seconds: the median of the runs.
        product: multiply-adds a second of a matrix product in this precision, the median of the same runs.
    """

    model: str
    quality: str
    precision: str
    multiply_adds: int
    seconds: float
    product: float

    @property
    def share(self) -> float:
        return self.multiply_adds / self.seconds / self.product


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

    model: str
    seconds: float
    bare: float
    ratio: float


class BenchmarkError(DeblurHubError):
    """A model or command that cannot be measured."""


def measure_speed(
    models: list[str], *, width: int, height: int, runs: int, device: str, precision: Precision = "auto"
) -> list[Speed]:
    """Times `restore` of one picture with each model in turn, run after run, so that drift affects all alike.

    Every model computes in `precision`, the reference in float32. Ratios are medians of the ratios of each run.
    """
    picture = torch.rand(1, 3, height, width) * 2 - 1
    generators = {REFERENCE: load(REFERENCE, device)} | {name: load(name, device) for name in models}
    precisions = {name: "float32" if name == REFERENCE else precision for name in generators}
    times: dict[str, list[float]] = {name: [] for name in generators}
    for run in range(runs + 1):
        for name, generator in generators.items():
            started = time.perf_counter()
            generator.restore(picture, precision=precisions[name])  # back on the CPU when it returns: synchronised
            if run:  # the first warms up
                times[name].append(time.perf_counter() - started)
    return [
        Speed(
            name,
            str(dtype_for(precisions[name], torch.device(device))).removeprefix("torch."),
            sum(parameter.numel() for parameter in generator.parameters()),
            generator.describe((width, height)).multiply_adds,
            float(np.median(times[name])),
            float(np.median(np.divide(times[REFERENCE], times[name]))),
        )
        for name, generator in generators.items()
    ]


def measure_rates(
    models: list[str], *, width: int, height: int, runs: int, device: str, precisions: Sequence[Precision]
) -> list[Rate]:
    """Times `deblur_file` of one photo with each model at each of its qualities, and matrix products between them."""
    where = torch.device(device)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        photo = made_up_photo(Path(folder) / "photo.jpg", width, height)
        for name in models:
            generator = load(name, device)
            for precision in precisions:
                dtype = dtype_for(precision, where)
                times: dict[str, list[float]] = {quality: [] for quality in generator.qualities or ("",)}
                products = []
                for run in range(runs + 1):
                    products.append(matrix_rate(where, dtype))
                    for quality, taken in times.items():
                        started = time.perf_counter()
                        target = Path(folder) / "sharp.jpg"
                        generator.deblur_file(photo, target, quality=quality or None, precision=precision)
                        if run:  # the first warms up
                            taken.append(time.perf_counter() - started)
                for quality, taken in times.items():
                    work = work_of(generator.network, quality, (width, height))
                    seconds = float(np.median(taken))
                    found.append(Rate(name, quality, str(dtype)[6:], work, seconds, float(np.median(products))))
    return found


def work_of(network: Generator, quality: str, size: tuple[int, int]) -> int:
    """Multiply-adds of a picture of (width, height)."""
    step = step_of(network, quality)
    if isinstance(network, WindowedGenerator) and step is not None:
        return network.multiply_adds((size[1], size[0]), step)
    return network.cost(size)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a product of two square matrices, the best of three."""
    one, two = (torch.randn(MATRIX, MATRIX, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        (one @ two)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - started)
    return MATRIX**3 / best


def rate_table(rates: list[Rate]) -> str:
    lines = []
    for rate in rates:
        share = f"{rate.share:.0%} of {rate.product / 1e9:.1f} G/s"
        work = [f"{rate.multiply_adds / 1e9:.1f} G", f"{rate.seconds:.2f}"]
        lines.append([rate.model, rate.quality, rate.precision, *work, share])
    header = ["model", "quality", "precision", "multiply-adds", "seconds", "of the matrix product's rate"]
    return markdown(header, lines, left=3)


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
    """Times `from_pretrained` of a saved model, and reading its file and building its module alone, in turn.

    Args:
        model: a bundled one, a folder, or one in the hub's cache; the hub is not contacted.
    """
    folder = find(model, local_files_only=True).folder
    if not (folder / weights_file(None)).is_file():
        raise BenchmarkError(f"{model}: its weights are spread over several files; name a model with one")
    times: list[tuple[float, float]] = []
    for _ in range(loads + 1):
        started = time.perf_counter()
        DeblurGenerator.from_pretrained(model, device="cpu", local_files_only=True)
        loaded = time.perf_counter()
        read_and_build(folder)
        times.append((loaded - started, time.perf_counter() - loaded))
    seconds, bare = np.transpose(times[1:])  # the first warms up
    return Loading(model, float(np.median(seconds)), float(np.median(bare)), float(np.median(seconds / bare)))


def read_and_build(folder: Path) -> nn.Module:
    """Reads and builds a model with PyTorch and safetensors alone, without any check."""
    config = GeneratorConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    network = build_network(config.architecture, **config.options)
    network.load_state_dict(load_file(folder / weights_file(None)))
    return network.eval()


def loading_table(loadings: list[Loading]) -> str:
    lines = [
        [one.model, f"{one.seconds * 1e3:.1f} ms", f"{one.bare * 1e3:.1f} ms", f"{one.ratio:.2f}"] for one in loadings
    ]
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
        model: a saved model, or a preset, which gets fresh weights.
        photo: a picture file, or width and height of one that is made up.
        tiles: the sides of the tiles; None is `deblur`'s own choice, 0 the whole frame.
        options: of a network with fresh weights, in place of a saved model.
    """
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(photo, tuple):
            photo = made_up_photo(Path(folder) / "photo.jpg", *photo)
        if options or is_preset(model):
            saved = Path(folder) / "model"
            without_zeros(fresh(model, options or {})).save_pretrained(saved)
            model = str(saved)
        found: list[Memory] = []
        first = None
        for number, tile in enumerate(tiles):
            target = Path(folder) / (f"sharp{number}.png" if len(tiles) > 1 else "sharp.jpg")  # to compare, or as usual
            command = [sys.executable, "-m", "deblur_hub.cli", "deblur", str(photo), "-o", str(target)]
            command += ["--model", model, "--precision", precision, "--quiet"]
            started = time.perf_counter()
            peak = peak_of(command if tile is None else [*command, "--tile", str(tile)])
            seconds = time.perf_counter() - started
            restored = np.asarray(Image.open(target)).astype(np.int16)
            first = restored if first is None else first
            found.append(Memory(tile, peak, seconds, int(np.abs(restored - first).max())))
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


def speed_table(speeds: list[Speed]) -> str:
    lines = []
    for speed in speeds:
        counts = [f"{speed.parameters / 1e6:.2f} M", f"{speed.multiply_adds / 1e9:.1f} G"]
        lines.append([speed.model, speed.precision, *counts, f"{speed.seconds:.2f}", f"{speed.ratio:.1f}"])
    return markdown(["model", "precision", "parameters", "multiply-adds", "seconds", "times as fast"], lines, left=2)
