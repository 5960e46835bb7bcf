"""Trains the generators of deblur-hub. This page is the manual.

    accelerate launch train/ --recipe compact --data DATA --output runs/compact        one CPU or one GPU
    accelerate launch --multi_gpu --num_processes 8 train/ --recipe ...                 eight GPUs
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 train/ --recipe ...
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ --recipe ...    two CPU processes

DATA is searched to any depth for
    <scene>/blur and <scene>/sharp     pairs, partners of one name: GoPro as it is unpacked, or two folders of your own,
                                       which --set data.blur_folder=NAME and data.sharp_folder=NAME may name otherwise
    HIDE, RealBlur-J and -R, REDS      pairs in the layouts that these unpack to, RealBlur's lists included
    <anything>fps/<run>                consecutive frames of a high-speed camera, averaged to blurry pictures,
                                       as are those of GOPRO_Large_all
    sharp/... without a blur/ beside   sharp photographs, which are blurred synthetically; DATA itself may hold them too

Folders called test or val are not trained on. --set data.sets.GoPro=3 --set data.sets.REDS=1 mixes sets by weight.
Pictures are decoded once, into memory-mapped arrays in the folder --cache, which all runs and processes share. A recipe
with a pool (data.pool) keeps samples in OUTPUT while it runs, and uses each several times.

    train/ --recipe NAME --data DATA --dry-run              the recipe and its cost, from two measured steps
    train/ --recipe NAME --benchmark [--data DATA]          how fast its steps are in several precisions
    train/ --compare runs/*                                 several runs in one plot, and a table of them

A run leaves metrics.jsonl, tensorboard/ (`tensorboard --logdir runs`), samples/ and at its end curves.png in OUTPUT.
--push-to-hub owner/name publishes the model at the end, --push-every-best each best one too, tagged with their steps;
if that fails, the run ends with exit code 3 and prints the `deblur-hub publish` command to do it later.

    train/ --output RUN --keep-state STATE                  its newest checkpoint, halved, in files below 16 MB
    train/ --recipe NAME ... --resume-from STATE            goes on from that, in a new OUTPUT

A run can be stopped at any moment and goes on from its newest whole checkpoint with --resume. SIGTERM and SIGUSR1, to
any of its processes, end the step, save a checkpoint and exit with code 75, so that a job script may queue it again;
the README has one for Slurm. Other codes: 0 done, 2 a mistake of the user's, 3 not published, 4 another process is
gone, 130 Ctrl-C. The recipes are train/recipes/*.toml.
"""

import argparse
import errno
import os
import sys
from dataclasses import fields
from pathlib import Path

if not __package__:  # `accelerate launch train/` runs this file as a plain script from inside the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

# Before PyTorch starts its threads, which would otherwise spin while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from deblur_hub.errors import DeblurHubError
from deblur_hub.hub import first_line
from train.checkpoint import Checkpoints
from train.distributed import StopRequest, check_launch, is_lost_process, make_accelerator, usable_cores, world_size
from train.loop import train
from train.publish import Publisher
from train.recipe import Recipe, RecipeError, known_recipes, load_recipe
from train.run import Run, StepError
from train.study.benchmark import benchmark, measure_one, report
from train.study.curves import METRICS, compare
from train.study.estimate import dry_run
from train.study.portable_state import pack

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR}
EXIT_REQUEUE = 75  # EX_TEMPFAIL: stopped by a signal, with a checkpoint to resume from; a job script queues it again
EXIT_LOST_PROCESS = 4  # another process of the run is gone
EXIT_NOT_PUBLISHED = 3  # the run went well, but its model is on the disk only
DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deblur-hub" / "pictures"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if options.compare:
            return show_comparison(options.compare, options.output)
        if options.keep_state:
            return keep_state(options.output, options.keep_state)
        recipe = load_recipe(options.recipe, options.set)
        if options.benchmark:
            return show_benchmark(recipe, options)
        # Before threads start, too: denormal momenta make every operation on them ten times as slow.
        torch.set_flush_denormal(True)
        accelerator = make_accelerator(recipe.precision, options.patience)
        check_launch(accelerator)
        if accelerator.device.type == "cpu":
            # accelerate launch leaves one thread to each process, however many cores there are.
            torch.set_num_threads(options.threads or max(1, usable_cores() // accelerator.num_processes))
        run = Run(**{each.name: getattr(options, each.name) for each in fields(Run) if each.name != "publisher"})
        if options.push_to_hub and not options.dry_run:
            publishing = {"private": options.push_private, "every_best": options.push_every_best}
            run.publisher = Publisher(options.push_to_hub, **publishing)
        if options.benchmark_one:
            measure_one(recipe, run, accelerator, seconds=options.benchmark_one)
        elif options.dry_run:
            dry_run(recipe, run, accelerator)
        else:
            train(recipe, run, accelerator)
        accelerator.end_training()
        if run.publisher and not run.publisher.finish():
            return EXIT_NOT_PUBLISHED
    except DeblurHubError as mistake:
        # All processes see a mistake in the recipe or the data folder; a broken picture perhaps one only.
        return ended(2, str(mistake), every=isinstance(mistake, StepError))
    except OSError as reason:
        if reason.errno not in UNWRITABLE:
            raise
        advice = "free some space and go on with --resume, or name another --output"
        return ended(2, f"{reason.filename or options.output}: cannot be written ({reason.strerror}); {advice}")
    except KeyboardInterrupt:
        # What was being made when it came is taken down half made, of which Python would tell.
        sys.unraisablehook = lambda _: None
        return ended(130, "stopped; go on with --resume")
    except StopRequest as request:
        code = ended(EXIT_REQUEUE, f"{request}; go on with --resume", every=False)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        return code
    except RuntimeError as reason:
        if not is_lost_process(reason):
            raise
        gone = f"another process of this run has ended or does not answer ({first_line(reason)})"
        return ended(EXIT_LOST_PROCESS, f"{gone}; look for its message, then go on with --resume")
    return 0


def ended(code: int, sentence: str, *, every: bool = True) -> int:
    """Prints why the program ends, on every process or the first alone, and returns its exit code."""
    if every or int(os.environ.get("RANK", 0)) == 0:
        print(f"train: {sentence}", file=sys.stderr)
    return code


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="accelerate launch train/", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--recipe", help=f"one of {', '.join(known_recipes())}, or a .toml file")
    add("--data", type=Path, help="folder with the pictures")
    add("--output", type=Path, help="folder of this run")
    add("--steps", type=positive, default=0, help="instead of the recipe's")
    text = "change one value of the recipe, such as optimizer.lr=2e-4"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    text = "stop after 90s, 9m or 2h of training in all; the schedule stretches over it"
    add("--time-budget", type=duration, default=0.0, metavar="TIME", help=text)
    text = "how long processes wait for each other before they give up (10m)"
    add("--patience", type=duration, default=600.0, metavar="TIME", help=text)
    add("--resume", action="store_true", help="go on from the output folder's last checkpoint")
    text = "go on from the state of another run that --keep-state wrote"
    add("--resume-from", type=Path, metavar="STATE", help=text)
    text = "write the output folder's newest checkpoint to this folder, in small files, and train nothing"
    add("--keep-state", type=Path, metavar="STATE", help=text)
    text = "start from the weights of a saved model, or a safetensors file of some of them; again for other parts"
    add("--init-from", action="append", default=[], metavar="MODEL", help=text)
    text = "the perceptual loss's network in torchvision's layout, as safetensors, instead of a download"
    add("--perceptual-weights", type=Path, metavar="FILE", help=text)
    add("--cache", type=Path, default=DEFAULT_CACHE, help="folder for decoded pictures (%(default)s)")
    add("--threads", type=positive, default=0, help="of each CPU process (all cores, shared evenly)")
    add("--dry-run", action="store_true", help="print what the run would cost, and do two steps of it")
    text = "publish the model at the end, tagged with its step"
    add("--push-to-hub", default="", metavar="OWNER/NAME", help=text)
    add("--push-every-best", action="store_true", help="publish each best model, not only the last")
    add("--push-private", action="store_true", help="make the repository private, if it is made")
    text = "draw the runs of these folders, and train nothing"
    add("--compare", nargs="+", type=Path, metavar="RUN", help=text)
    text = "measure the recipe's steps in several precisions, on --data or generated pictures"
    add("--benchmark", action="store_true", help=text)
    add("--rounds", type=positive, default=3, help="of --benchmark (%(default)s)")
    add("--seconds", type=float, default=10.0, help="of --benchmark: each variant in each round (%(default)s)")
    add("--benchmark-one", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    needed = ["recipe", "data", "output"]
    if options.dry_run or options.benchmark_one:
        needed = ["recipe", "data"]
    elif options.benchmark or options.compare:
        needed = ["recipe"] if options.benchmark else []
    elif options.keep_state:
        needed = ["output"]
    if missing := [f"--{name}" for name in needed if getattr(options, name) is None]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if (options.push_every_best or options.push_private) and not options.push_to_hub:
        parser.error("--push-every-best and --push-private say how to publish; name where with --push-to-hub")
    return options


def show_benchmark(recipe: Recipe, options: argparse.Namespace) -> int:
    if world_size() > 1:
        raise RecipeError("--benchmark measures one process; start it with 'python train/ --benchmark ...'")
    command = [sys.executable, str(Path(__file__).resolve().parent), "--recipe", options.recipe]
    command += [part for change in options.set for part in ("--set", change)]
    command += ["--threads", str(options.threads)] if options.threads else []
    command += ["--perceptual-weights", str(options.perceptual_weights)] if options.perceptual_weights else []
    rows = benchmark(recipe, command, data=options.data, rounds=options.rounds, seconds=options.seconds)
    device = "cuda" if torch.cuda.is_available() and not os.environ.get("ACCELERATE_USE_CPU") else "cpu"
    print(report(recipe, rows, device=device, rounds=options.rounds))
    return 0


def show_comparison(folders: list[Path], output: Path | None) -> int:
    """Draws the runs among the folders, and skips whatever else a shell's `runs/*` finds."""
    runs = [folder for folder in folders if (folder / METRICS).is_file()]
    for other in folders:
        if other not in runs:
            print(f"train: {other}: holds no {METRICS} and is skipped", file=sys.stderr)
    if not runs:
        raise RecipeError("--compare: none of these is the folder of a run; name what --output named")
    target = (output or Path()) / "compare.png"
    try:
        print(compare(runs, target))
    except ImportError:
        raise RecipeError("--compare: matplotlib is missing; install it with: pip install matplotlib") from None
    print(f"drew {target}")
    return 0


def keep_state(output: Path, folder: Path) -> int:
    path, state = Checkpoints(output / "checkpoints", keep=1).newest()
    files = pack(state, folder)
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"kept {path.name} in {len(files)} files of {folder}, {size:.1f} MB; --resume-from {folder} goes on from it")
    return 0


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 up")
    return int(text)


def duration(text: str) -> float:
    """Seconds in '90s', '9m' or '2h'."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 90s, 9m or 2h")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
