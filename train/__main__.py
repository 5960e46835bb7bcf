"""Trains the generators of deblur-hub. This page is the manual.

    accelerate launch train/ --recipe compact --data DATA --output runs/compact        one CPU or one GPU
    accelerate launch --multi_gpu --num_processes 8 train/ --recipe ...                 eight GPUs
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 train/ --recipe ...
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ --recipe ...    two CPU processes

DATA is searched to any depth for
    <scene>/blur and <scene>/sharp     pairs, partners of one name: GoPro as it is unpacked, or two folders of your own
    <anything>fps/<run>                consecutive frames of a high-speed camera, which are averaged to blurred pictures
    sharp/... without a blur/ beside   sharp photographs, which are blurred synthetically

A run can be stopped at any moment and goes on from its last checkpoint with --resume. The recipes are
train/recipes/*.toml.
"""

import argparse
import errno
import os
import sys
from pathlib import Path

if not __package__:  # `accelerate launch train/` runs this file as a plain script from inside the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from accelerate import Accelerator

from deblur_hub.errors import DeblurHubError
from deblur_hub.restoration import has_fast_bfloat16
from train.loop import Run, StepError, train
from train.recipe import Recipe, RecipeError, known_recipes, load_recipe

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR}
DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deblur-hub" / "pictures"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        recipe = load_recipe(options.recipe, options.set)
        accelerator = make_accelerator(recipe)
        if int(os.environ.get("WORLD_SIZE", 1)) > 1 and accelerator.num_processes == 1:
            raise RecipeError(
                "several processes were launched, but each believes that it is alone; for CPUs launch "
                "with 'ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ ...'"
            )
        if accelerator.device.type == "cpu":
            # accelerate launch leaves one thread to each process, however many cores there are.
            torch.set_num_threads(options.threads or max(1, usable_cores() // accelerator.num_processes))
        run = Run(
            options.data,
            options.output,
            options.cache,
            options.steps,
            options.time_budget,
            options.resume,
            options.init_from,
            options.perceptual_weights,
        )
        train(recipe, run, accelerator)
        accelerator.end_training()
    except DeblurHubError as mistake:
        # All processes see a mistake in the recipe or the data folder, but maybe only one the picture that is broken.
        if int(os.environ.get("RANK", 0)) == 0 or isinstance(mistake, StepError):
            print(f"train: {mistake}", file=sys.stderr)
        return 2
    except OSError as reason:
        if reason.errno not in UNWRITABLE:
            raise
        print(
            f"train: {reason.filename or options.output}: cannot be written ({reason.strerror}); free some space and "
            "go on with --resume, or name another --output",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("train: stopped; go on with --resume", file=sys.stderr)
        return 130
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="accelerate launch train/", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", required=True, help=f"one of {', '.join(known_recipes())}, or a .toml file")
    parser.add_argument("--data", required=True, type=Path, help="folder with the pictures")
    parser.add_argument("--output", required=True, type=Path, help="folder of this run")
    parser.add_argument("--steps", type=positive, default=0, help="instead of the recipe's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the recipe, such as optimizer.lr=2e-4",
    )
    parser.add_argument(
        "--time-budget",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="stop after 90s, 9m or 2h of training in all; the schedule stretches over it",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's last checkpoint")
    parser.add_argument("--init-from", default="", metavar="MODEL", help="start from the weights of a saved model")
    parser.add_argument(
        "--perceptual-weights",
        type=Path,
        metavar="FILE",
        help="VGG19 in torchvision's layout, as safetensors, instead of a download",
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder for decoded pictures (%(default)s)")
    parser.add_argument("--threads", type=positive, default=0, help="of each CPU process (all cores, shared evenly)")
    return parser.parse_args(arguments)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 up")
    return int(text)


def duration(text: str) -> float:
    """Seconds from '90s', '9m', '2h'."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 90s, 9m or 2h")
    return seconds


def make_accelerator(recipe: Recipe) -> Accelerator:
    """accelerate's view of this process and the others; raises `RecipeError` where it refuses."""
    try:
        accelerator = Accelerator(mixed_precision=precision(recipe.precision))
    except ValueError as reason:
        raise RecipeError(
            f"accelerate cannot start here ({str(reason).rstrip('.')}); check the recipe's precision "
            f"'{recipe.precision}' and the line that launched this"
        ) from None
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise RecipeError(f"recipe '{recipe.name}': precision 'fp16' needs a GPU; take 'auto', 'bf16' or 'no' on a CPU")
    return accelerator


def precision(wanted: str) -> str:
    """What accelerate computes in: bf16 where the hardware does."""
    if wanted != "auto":
        return wanted
    fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast or (not torch.cuda.is_available() and has_fast_bfloat16()) else "no"


if __name__ == "__main__":
    sys.exit(main())
