"""Every command of the shell, its arguments and their help."""

import argparse
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from ..evaluation.measures import METRICS
from . import options as shared
from .benchmarking import run_benchmark
from .doctor import run_doctor
from .evaluating import run_compare, run_evaluate, run_score
from .models import run_card, run_convert, run_networks, run_publish, run_release, run_verify
from .page import run_demo
from .restoring import run_deblur


def parser() -> ArgumentParser:
    top = ArgumentParser(prog="deblur-hub", description="Sharpens blurry photos.")
    top.add_argument("--version", action="version", version=f"deblur-hub {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(
        name: str,
        run: Callable[[argparse.Namespace], int],
        summary: str,
        add_arguments: Callable[[ArgumentParser], None] | None = None,
    ) -> None:
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(run=run)
        if add_arguments:
            add_arguments(made)

    command("deblur", run_deblur, "Restores photos, and all photos in folders.", deblur)
    command("evaluate", run_evaluate, "Scores a model on pairs of blurry and sharp pictures.", evaluate)
    command("compare", run_compare, "Prints by how much two evaluations differ, the worst pictures first.", compare)
    command("score", run_score, "Scores pictures that any program restored against sharp ones.", score)
    command("benchmark", run_benchmark, "Measures speed against ResNet-9, or memory on a large photo.", benchmark)
    command("networks", run_networks, "Lists the networks that can be built and trained by name.", networks)
    command("convert", run_convert, "Converts an author's checkpoint to our format.", convert)
    command("release", run_release, "Scores a trained model and adds it to the released ones.", release)
    command("card", run_card, "Writes the card of a model folder again, from an evaluation of it.", card)
    command("publish", run_publish, "Uploads a model folder to a hub repository; can be repeated.", publish)
    command("verify", run_verify, "Checks that a model gives the output that it gave when it was saved.", verify)
    command("demo", run_demo, "Opens the page in the browser.", demo)
    command("doctor", run_doctor, "Prints versions, device and models, to be pasted into a bug report.")
    return top


def deblur(made: ArgumentParser) -> None:
    made.add_argument("inputs", nargs="+", type=Path, metavar="photo", help="a picture, or a folder of them")
    made.add_argument(
        "-o",
        "--output",
        type=Path,
        help="a folder, or for one photo a file (default: photo-deblurred.jpg beside photo.jpg)",
    )
    made.add_argument("--model", help="a bundled model, a folder, or a hub repository owner/name (default: maxim)")
    shared.add_quality(made, "the best that is estimated to take at most a minute here")
    made.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="from 0, the photo as it was, to 1, the restored picture: a blend of the two (%(default)s)",
    )
    shared.add_crispness(made)
    made.add_argument("--format", choices=("png", "jpg", "tif", "webp"), help="of the output (default: the photo's)")
    shared.add_overwrite(made, "files that exist")
    shared.add_tile(made)
    made.add_argument(
        "--max-megapixels", type=shared.megapixels, default=100, help="refuse larger pictures (%(default)s)"
    )
    shared.add_precision(made)
    shared.add_device(made)
    shared.add_quiet(made)


def evaluate(made: ArgumentParser) -> None:
    model = made.add_argument(
        "model", help="a bundled model, a folder, a hub repository owner/name, or identity, unsharp, richardson-lucy"
    )
    dataset = made.add_argument(
        "dataset", type=Path, help="a folder with 'blur' and 'sharp' in it, at any depth; GoPro as it unpacks"
    )
    for name, what in (
        ("--sharp", "sharp photographs, which the model is to leave alone"),
        ("--synthetic", "sharp photographs, which are blurred by synthetic camera shake"),
    ):
        made.add_argument(
            name,
            action=shared.InsteadOf,
            positionals=(dataset,),
            type=Path,
            metavar="FOLDER",
            help=f"in place of a dataset: {what}",
        )
    made.add_argument("--seed", type=shared.whole_number, help="of the synthetic camera shake (0)")
    made.add_argument("--upload", action="store_true", help="with --synthetic: add noise and JPEG, as uploads have")
    made.add_argument(
        "--published",
        action=shared.InsteadOf,
        positionals=(model, dataset),
        nargs=0,
        const=True,
        default=False,
        help="print the scores of papers and reports, and which of ours they can be compared with",
    )
    shared.add_quality(made, "the best, however long it takes")
    shared.add_crispness(made)
    shared.add_protocol(made)
    made.add_argument("-o", "--output", type=Path, metavar="DIR", help="write results.json there, and resume from it")
    made.add_argument("--save", action="store_true", help="with --output: write the restored pictures as well")
    made.add_argument("--html", type=Path, metavar="FILE", help="write a page with the best and worst pictures")
    shared.add_tile(made)
    shared.add_overwrite(made, "what another run left in the output folder")
    shared.add_precision(made)
    shared.add_device(made)
    shared.add_quiet(made)


def compare(made: ArgumentParser) -> None:
    made.add_argument("a", type=Path, metavar="a.json", help="a results.json, or the folder that holds it")
    made.add_argument("b", type=Path, metavar="b.json", help="the one to compare with it")
    sortable = [name for name, measure in METRICS.items() if measure.better]
    made.add_argument("--sort", choices=sortable, default="psnr", help="metric to sort by (%(default)s)")
    made.add_argument("--force", action="store_true", help="compare even if protocol or pictures differ")


def score(made: ArgumentParser) -> None:
    made.add_argument("restored", type=Path, help="a folder of restored pictures, at any depth")
    made.add_argument("sharp", type=Path, help="a folder of sharp ones of the same names")
    made.add_argument("--blurred", type=Path, metavar="DIR", help="the blurry input, for its own scores and the gain")
    shared.add_protocol(made)
    made.add_argument("-o", "--output", type=Path, metavar="DIR", help="write results.json there")
    shared.add_overwrite(made, "what another run left in the output folder")
    shared.add_quiet(made)


def benchmark(made: ArgumentParser) -> None:
    made.add_argument("models", nargs="*", help="bundled models, folders or presets (default: the default model)")
    shared.add_size(made, "of the picture")
    made.add_argument("--runs", type=int, choices=range(1, 100), metavar="N", default=3, help="counted (%(default)s)")
    made.add_argument(
        "--photo", type=shared.photo, metavar="WxH|FILE", help="instead: the memory that 'deblur' takes for a picture"
    )
    made.add_argument("--whole", action="store_true", help="with --photo: measure it without tiles as well")
    made.add_argument("--train", metavar="RECIPE", help="instead: the steps of a training recipe, in several ways")
    made.add_argument("--data", type=Path, help="with --train: a data folder (default: made-up pictures)")
    made.add_argument("--load", action="store_true", help="instead: loading, against reading and building alone")
    made.add_argument(
        "--rate",
        action="store_true",
        help="instead: from file to file at each quality and precision, against this machine's matrix product",
    )
    shared.add_precision(made)
    shared.add_device(made, "cpu")


def networks(made: ArgumentParser) -> None:
    shared.add_size(made, "of the picture that multiply-adds are counted for")


def convert(made: ArgumentParser) -> None:
    made.add_argument(
        "source",
        type=Path,
        metavar="checkpoint",
        help="such as latest_net_G.pth, generator.h5, deblur.model.index, a folder with model.json",
    )
    made.add_argument("-o", "--output", type=Path, required=True, metavar="folder", help="the model folder to write")
    made.add_argument("--name", default="", help="of the model (default: its architecture)")
    shared.add_overwrite(made, "the model that is in the folder")


def release(made: ArgumentParser) -> None:
    made.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="model",
        help="the folder that training wrote, such as runs/compact/model; several are averaged weight by weight",
    )
    made.add_argument("--name", required=True, help="of the released model, such as compact")
    made.add_argument("--pairs", type=Path, required=True, help="the pairs to score it on")
    made.add_argument(
        "--to", type=Path, default=Path("deblur_hub/weights"), help="folder of released models (%(default)s)"
    )
    shared.add_metrics(made)
    made.add_argument("--training", default="", help="how it was trained, for its card")
    shared.add_about(made)
    shared.add_quiet(made)


def card(made: ArgumentParser) -> None:
    made.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    made.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        help="a results.json of 'evaluate --output', or its folder; one for each quality",
    )
    shared.add_about(made)


def publish(made: ArgumentParser) -> None:
    made.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    made.add_argument("repo", metavar="owner/name", help="the repository, which is created if need be")
    made.add_argument("--tag", default="", help="a name for this version, such as step-1000")
    made.add_argument("--private", action="store_true", help="make the repository private, if it is created")
    made.add_argument("--revision", help="the branch, which is created if need be (default: the main one)")
    made.add_argument("--create-pr", action="store_true", help="propose the commit in a pull request")
    made.add_argument("--message", default="", help="of the commit")


def verify(made: ArgumentParser) -> None:
    made.add_argument("model", nargs="?", help="a bundled model, a folder, or owner/name (default: maxim)")
    made.add_argument("--revision", help="branch, tag or commit of a hub repository")
    made.add_argument("--variant", help="of the weights, such as fp16")
    shared.add_device(made)
    shared.add_precision(made, "float32")


def demo(made: ArgumentParser) -> None:
    made.add_argument("--host", default="127.0.0.1", help="to listen on (%(default)s)")
    made.add_argument("--port", type=int, default=7860, help="to listen on (%(default)s)")
    made.add_argument("--no-browser", action="store_true", help="do not open a browser window")
