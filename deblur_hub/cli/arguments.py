"""Every command of the shell, its arguments and their help."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from .measuring import run_benchmark, run_compare, run_evaluate, run_score
from .models import run_card, run_convert, run_networks, run_publish, run_release, run_verify
from .page import run_demo
from .restoring import run_deblur


def parser() -> argparse.ArgumentParser:
    from . import evaluating as shell

    top = argparse.ArgumentParser(prog="deblur-hub", description="Sharpens blurry photos.")
    top.add_argument("--version", action="version", version=f"deblur-hub {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(run=run)
        return made

    deblur = command("deblur", run_deblur, "Restores photos, and all photos in folders.")
    deblur.add_argument("inputs", nargs="+", type=Path, metavar="photo", help="a picture, or a folder of them")
    deblur.add_argument(
        "-o",
        "--output",
        type=Path,
        help="a folder, or for one photo a file (default: photo-deblurred.jpg beside photo.jpg)",
    )
    add_model(deblur)
    shell.add_quality(deblur, "the best that is estimated to take at most a minute here")
    deblur.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="from 0, the photo as it was, to 1, the restored picture: a blend of the two (%(default)s)",
    )
    shell.add_crispness(deblur)
    deblur.add_argument(
        "--format", choices=("png", "jpg", "tif", "webp"), help="of what is written (default: as it came)"
    )
    deblur.add_argument("--overwrite", action="store_true", help="replace files that exist")
    deblur.add_argument(
        "--tile",
        type=tile,
        metavar="PIXELS",
        help="side of the tiles, 0 for whole frames (default: by the memory at hand)",
    )
    deblur.add_argument("--max-megapixels", type=megapixels, default=100, help="refuse larger pictures (%(default)s)")

    scores = command("evaluate", run_evaluate, "Scores a model on pairs of blurred and sharp pictures.")
    shell.evaluate_arguments(scores)

    two = command("compare", run_compare, "Says by how much two evaluations differ, the worst pictures first.")
    shell.compare_arguments(two)

    others = command("score", run_score, "Scores pictures that any program restored against sharp ones.")
    shell.score_arguments(others)

    speed = command("benchmark", run_benchmark, "Measures speed against ResNet-9, or memory on a large photo.")
    speed.add_argument("models", nargs="*", help="bundled models, folders or presets (default: the default model)")
    speed.add_argument("--size", type=size, default=(1280, 720), help="of the picture (1280x720)")
    speed.add_argument("--runs", type=int, choices=range(1, 100), metavar="N", default=3, help="counted (%(default)s)")
    speed.add_argument(
        "--photo", type=photo, metavar="WxH|FILE", help="measure the memory of 'deblur' on such a picture instead"
    )
    speed.add_argument("--whole", action="store_true", help="with --photo: measure it without tiles as well")

    speed.add_argument(
        "--train", metavar="RECIPE", help="measure the steps of a training recipe instead, in several ways"
    )
    speed.add_argument("--data", type=Path, help="with --train: a data folder (default: made-up pictures)")

    speed.add_argument(
        "--load", action="store_true", help="measure loading against reading the file and building the module instead"
    )

    speed.add_argument(
        "--rate",
        action="store_true",
        help="measure from file to file, at each quality and precision, against this machine's matrix product instead",
    )

    for made in (deblur, speed):
        made.add_argument(
            "--precision",
            choices=("auto", "float32", "bfloat16", "float16"),
            default="auto",
            help="of the arithmetic (default: the fastest that the device has)",
        )
        made.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one; benchmark: cpu)")

    listed = command("networks", run_networks, "Lists the networks that can be built and trained by name.")
    listed.add_argument("--size", type=size, default=(1280, 720), help="of the picture to count for (1280x720)")

    other = command("convert", run_convert, "Brings an author's checkpoint into our format.")
    other.add_argument(
        "source",
        type=Path,
        metavar="checkpoint",
        help="such as latest_net_G.pth, generator.h5, deblur.model.index, a folder with model.json",
    )
    other.add_argument("-o", "--output", type=Path, required=True, metavar="folder", help="the model folder to write")
    other.add_argument("--name", default="", help="what the model is called (default: its architecture)")
    other.add_argument("--overwrite", action="store_true", help="replace the model that is in the folder")

    made = command("release", run_release, "Scores a trained model and puts it among the released ones.")
    made.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="model",
        help="the folder that training wrote, such as runs/compact/model; several are averaged weight by weight",
    )
    made.add_argument("--name", required=True, help="the name it gets, such as compact")
    made.add_argument("--pairs", type=Path, required=True, help="the pairs to score it on")
    made.add_argument(
        "--to", type=Path, default=Path("deblur_hub/weights"), help="folder of released models (%(default)s)"
    )
    shell.add_metrics(made)
    made.add_argument("--training", default="", help="how it was trained, for its card")
    add_about(made)

    again = command("card", run_card, "Writes the card of a model folder again, from an evaluation of it.")
    again.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    again.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        help="what 'evaluate --output' wrote: results.json, or its folder; one for each quality",
    )
    add_about(again)

    public = command("publish", run_publish, "Uploads a model folder to a hub repository; can be repeated.")
    public.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    public.add_argument("repo", metavar="owner/name", help="the repository, which is made if need be")
    public.add_argument("--tag", default="", help="a name for this version, such as step-1000")
    public.add_argument("--private", action="store_true", help="make the repository private, if it is made")
    public.add_argument("--revision", help="the branch, which is made if need be (default: the main one)")
    public.add_argument("--create-pr", action="store_true", help="propose the commit in a pull request")
    public.add_argument("--message", default="", help="of the commit")

    check = command("verify", run_verify, "Checks that a model gives the output that it gave when it was saved.")
    check.add_argument("model", nargs="?", help="a bundled model, a folder, or owner/name (default: maxim)")
    check.add_argument("--revision", help="branch, tag or commit of a hub repository")
    check.add_argument("--variant", help="of the weights, such as fp16")
    check.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    check.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="float32",
        help="of the arithmetic (%(default)s)",
    )

    demo = command("demo", run_demo, "Opens the page in the browser.")
    demo.add_argument("--host", default="127.0.0.1", help="to listen on (%(default)s)")
    demo.add_argument("--port", type=int, default=7860, help="to listen on (%(default)s)")
    demo.add_argument("--no-browser", action="store_true", help="do not open a browser window")

    for quiet in (deblur, scores, others, made):
        quiet.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    return top


def add_about(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--about",
        type=Path,
        metavar="FILE.toml",
        help="what cannot be measured: training, data, where it fails; such as docs/cards/compact.toml",
    )
    made.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="pairs that may be published; the card shows those that --about names",
    )


def add_model(made: argparse.ArgumentParser) -> None:
    made.add_argument("--model", help="a bundled model, a folder, or a hub repository owner/name (default: maxim)")


def size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 1280x720")
    return int(width), int(height)


def photo(text: str) -> Path | tuple[int, int]:
    return Path(text) if Path(text).is_file() else size(text)


def tile(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of pixels")
    return int(text)


def megapixels(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of megapixels above 0")
    return number
