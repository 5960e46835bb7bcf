"""`deblur-hub benchmark`."""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from ..atomic import replacing
from ..evaluation import benchmark, matrix
from ..hub import DEFAULT_MODEL
from .outcomes import FAILED, OK, UsageError

LOADS_PER_RUN = 10  # a load takes a tenth of a second, and a single one says little
PACKAGE = Path(__file__).resolve().parents[1]


def run_benchmark(options: argparse.Namespace) -> int:
    if options.train:
        return run_training_benchmark(options)
    models, device, runs = options.models or [DEFAULT_MODEL], options.device or "cpu", options.runs
    size = "{}x{}".format(*options.size)
    if options.runtimes:
        return run_matrix(models, options)
    if options.photo:
        for model in models:
            print_memory(model, options)
    elif options.load:
        loads = LOADS_PER_RUN * runs
        print(
            "loading on the CPU, with every check, against reading the file and building the module with none; median "
            f"of {loads} interleaved loads\n"
        )
        print(benchmark.loading_table(models, loads=loads))
    elif options.rate:
        print(f"one photo of {size} from file to file on {device}, median of {runs} runs beside matrix products\n")
        print(benchmark.rate_table(models, size=options.size, runs=runs, device=device, precision=options.precision))
    else:
        print(
            f"one picture of {size} on {device}, median of {runs} interleaved runs; deblurgan is ResNet-9 in float32\n"
        )
        print(benchmark.speed_table(models, size=options.size, runs=runs, device=device, precision=options.precision))
    return OK


def run_matrix(models: list[str], options: argparse.Namespace) -> int:
    if options.device not in (None, "cpu"):
        raise UsageError("--runtimes compares what runs on a CPU; omit --device")
    precisions = ["float32", "bfloat16"] if options.precision == "auto" else [options.precision]
    sizes = options.sizes or [options.size]
    wanted = list(matrix.cells(models, options.qualities or (), precisions, sizes, options.runtimes))
    if not wanted:
        raise UsageError("nothing of that can be measured here; name other precisions, qualities or runtimes")
    measured = matrix.measured(wanted, runs=options.runs)
    results = list(tqdm(measured, total=len(wanted), unit="measurement", disable=None))
    print(f"on {torch.get_num_threads()} threads of the CPU, median of {options.runs} runs beside matrix products\n")
    print(matrix.matrix_table(results))
    for file, text in ((options.json, matrix.as_json), (options.markdown, matrix.matrix_table)):
        if file:
            write_whole(file, text(results))
    return OK if any(not each.problem for each in results) else FAILED


def write_whole(file: Path, text: str) -> None:
    try:
        with replacing(file) as part:
            part.write_text(text.rstrip() + "\n", encoding="utf-8")
    except OSError as reason:
        raise UsageError(f"{file}: cannot be written ({reason.strerror}); name another file") from None


def print_memory(model: str, options: argparse.Namespace) -> None:
    photo = options.photo.name if isinstance(options.photo, Path) else "a picture of {}x{}".format(*options.photo)
    tiles = (None, 0) if options.whole else (None,)
    runs = benchmark.measure_memory(model, photo=options.photo, tiles=tiles, precision=options.precision)
    for run in runs:
        print(
            f"deblur-hub deblur --model {model}{' --tile 0' if run.tile == 0 else ''}, {photo}: "
            f"{run.peak:.2f} GiB at the peak, {run.seconds:.1f} s from start to end"
        )
    if options.whole:
        print(f"largest difference: {runs[1].difference} of 255 levels")


def run_training_benchmark(options: argparse.Namespace) -> int:
    """Starts the training program, which lies beside the package in a checkout and can measure itself."""
    program = PACKAGE.parent / "train"
    if not (program / "__main__.py").is_file() or not (program / "recipes").is_dir():
        raise UsageError("training is not part of the installed package; take a checkout of the repository for --train")
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError("training needs accelerate; install it with: pip install -e '.[train]'")
    command = [sys.executable, str(program), "--recipe", options.train, "--benchmark", "--rounds", str(options.runs)]
    command += ["--data", str(options.data)] if options.data else []
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if options.device == "cpu" else {})
    return subprocess.run(command, env=environment, check=False).returncode
