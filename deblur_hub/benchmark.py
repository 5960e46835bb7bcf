"""Speed and memory, compared as ratios within one run: machines differ, and so do their hours."""

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from .config import GeneratorConfig
from .generator import DeblurGenerator
from .hub import list_models
from .networks import PRESETS
from .restoration import dtype_for

REFERENCE = "deblurgan"  # ResNet-9 in float32, what everything else is measured against


@dataclass(frozen=True)
class Speed:
    """Of one model on one picture size: the median over the runs, and how many times faster than the reference."""

    model: str
    precision: str
    parameters: int
    multiply_adds: int
    seconds: float
    ratio: float


def measure_speed(models: list[str], *, width: int, height: int, runs: int, device: str) -> list[Speed]:
    """Times `restore` of one picture with each model, in turn, run after run, so that drift hits all alike.

    Every model computes in its own precision; the reference in float32. Ratios are medians of the ratios of each run.
    """
    picture = torch.rand(1, 3, height, width) * 2 - 1
    generators = {REFERENCE: load(REFERENCE, device)} | {name: load(name, device) for name in models}
    precisions = {name: "float32" if name == REFERENCE else "auto" for name in generators}
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
            multiply_adds(generator, width, height),
            float(np.median(times[name])),
            float(np.median(np.divide(times[REFERENCE], times[name]))),
        )
        for name, generator in generators.items()
    ]


def load(name: str, device: str) -> DeblurGenerator:
    """A saved model, or a preset with fresh weights, which are no slower."""
    if name in PRESETS and name not in list_models():
        architecture, options = PRESETS[name]
        return (
            DeblurGenerator(GeneratorConfig(architecture, dict(options), name))
            .to(device, memory_format=torch.channels_last)
            .eval()
        )
    return DeblurGenerator.from_pretrained(name, device=device)


def multiply_adds(generator: DeblurGenerator, width: int, height: int) -> int:
    """Of one forward pass, counted by PyTorch on the meta device; it counts a multiply-add as two operations."""
    with torch.device("meta"):
        network = DeblurGenerator(generator.config)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, height, width))
    return counter.get_total_flops() // 2


def measure_memory(model: str, *, width: int, height: int) -> tuple[float, float]:
    """Peak memory in GiB and wall seconds of `deblur-hub deblur` on a JPEG of that size, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "photo.jpg", Path(folder) / "sharp.jpg"
        rows, columns = np.mgrid[0:height, 0:width].astype(np.uint16)
        Image.fromarray(np.stack([rows * 3 + columns, rows ^ columns, columns * 5], axis=-1).astype(np.uint8)).save(
            source
        )
        del rows, columns
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "deblur_hub.cli", "deblur", str(source), "-o", str(target), "--model", model],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20), seconds


def speed_table(speeds: list[Speed]) -> str:
    lines = [
        "| model        | precision | parameters | multiply-adds | seconds | times as fast |",
        "|--------------|-----------|------------|---------------|---------|---------------|",
    ]
    for speed in speeds:
        lines.append(
            f"| {speed.model:<12} | {speed.precision:<9} | {speed.parameters / 1e6:8.2f} M | "
            f"{speed.multiply_adds / 1e9:11.1f} G | {speed.seconds:7.2f} | {speed.ratio:13.1f} |"
        )
    return "\n".join(lines)
