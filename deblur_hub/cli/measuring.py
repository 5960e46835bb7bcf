"""`deblur-hub evaluate`, `compare`, `score` and `benchmark`."""

import argparse
import os
import sys
from pathlib import Path

from .outcomes import OK, UsageError

LOADS_PER_RUN = 10  # a load takes a tenth of a second, and one alone says little
PACKAGE = Path(__file__).resolve().parents[1]


def run_evaluate(options: argparse.Namespace) -> int:
    from . import evaluating as shell

    return shell.run_evaluate(options)


def run_compare(options: argparse.Namespace) -> int:
    from . import evaluating as shell

    return shell.run_compare(options)


def run_score(options: argparse.Namespace) -> int:
    from . import evaluating as shell

    return shell.run_score(options)


def run_benchmark(options: argparse.Namespace) -> int:
    from ..evaluation.benchmark import (
        loading_table,
        measure_loading,
        measure_memory,
        measure_rates,
        measure_speed,
        rate_table,
        speed_table,
    )
    from ..hub import DEFAULT_MODEL

    if options.train:
        return run_training_benchmark(options)
    models = options.models or [DEFAULT_MODEL]
    if options.load:
        loads = LOADS_PER_RUN * options.runs
        print(
            f"loading on the CPU, with every check, against reading the file and building the module with none; median "
            f"of {loads} interleaved loads\n"
        )
        print(loading_table([measure_loading(model, loads=loads) for model in models]))
        return OK
    if options.photo:
        for model in models:
            runs = measure_memory(
                model, photo=options.photo, tiles=(None, 0) if options.whole else (None,), precision=options.precision
            )
            for run in runs:
                print(
                    f"deblur-hub deblur --model {model}{' --tile 0' if run.tile == 0 else ''}, "
                    f"{photo_name(options.photo)}: "
                    f"{run.peak:.2f} GiB at the peak, {run.seconds:.1f} s from start to end"
                )
            if options.whole:
                print(f"largest difference: {runs[1].difference} of 255 levels")
        return OK
    width, height = options.size
    if options.rate:
        print(
            f"one photo of {width}x{height} from file to file on {options.device or 'cpu'}, median of {options.runs} "
            "runs, with matrix products between them\n"
        )
        rates = measure_rates(
            models,
            width=width,
            height=height,
            runs=options.runs,
            device=options.device or "cpu",
            precisions=("float32", "auto") if options.precision == "auto" else (options.precision,),
        )
        print(rate_table(rates))
        return OK
    print(
        f"one picture of {width}x{height} on {options.device or 'cpu'}, median of {options.runs} interleaved runs; "
        "deblurgan is ResNet-9 in float32\n"
    )
    speeds = measure_speed(
        models,
        width=width,
        height=height,
        runs=options.runs,
        device=options.device or "cpu",
        precision=options.precision,
    )
    print(speed_table(speeds))
    return OK


def run_training_benchmark(options: argparse.Namespace) -> int:
    """Hands over to the training program, which stands beside the package in a checkout and can measure itself."""
    import importlib.util
    import subprocess

    program = PACKAGE.parent / "train"
    if not (program / "__main__.py").is_file() or not (program / "recipes").is_dir():
        raise UsageError("training is not part of the installed package; take a checkout of the repository for --train")
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError("training needs accelerate; install it with: pip install -e '.[train]'")
    command = [sys.executable, str(program), "--recipe", options.train, "--benchmark", "--rounds", str(options.runs)]
    command += ["--data", str(options.data)] if options.data else []
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if options.device == "cpu" else {})
    return subprocess.run(command, env=environment, check=False).returncode


def photo_name(photo: Path | tuple[int, int]) -> str:
    return photo.name if isinstance(photo, Path) else f"a picture of {photo[0]}x{photo[1]}"
