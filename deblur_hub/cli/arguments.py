"""Every command of the shell, its arguments and their help.

What a command works with, PyTorch above all, is imported once its arguments are found right: help is there at once.
"""

import argparse
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__, remote
from ..config import MOST_MEGAPIXELS, QUALITIES
from ..errors import DeblurHubError

SEVERAL = "of a model that has several, from fast to slow"


def size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 1280x720")
    return int(width), int(height)


def place(text: str) -> Path:
    try:
        return remote.place(text)
    except DeblurHubError as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None


def photo(text: str) -> Path | tuple[int, int]:
    return Path(text) if Path(text).is_file() else size(text)


def whole_number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)


def percent(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to 100")
    return int(text)


def quality(text: str) -> str | int:
    if text in QUALITIES:
        return text
    try:
        return percent(text)
    except argparse.ArgumentTypeError:
        words = ", ".join(QUALITIES)
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a quality of the model ({words}) nor one of the JPEG (a whole number from 1 to 100)"
        ) from None


def megapixels(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of megapixels above 0")
    return number


def memory(text: str) -> float:
    """Bytes, of "1.5G" or "800M"; a plain number is bytes."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    word = text.upper().removesuffix("IB").removesuffix("B")
    try:
        number = float(word.rstrip("KMGT")) * units.get(word[-1:], 1)
    except ValueError:
        number = 0.0
    if not 0 < number < 2**60:
        raise argparse.ArgumentTypeError(f"'{text}' is no amount of memory; give one such as 1.5G or 800M")
    return number


class InsteadOf(argparse.Action):
    """An option that stands in for positional arguments, which argparse otherwise requires."""

    def __init__(self, *, positionals: tuple[argparse.Action, ...], **settings: Any) -> None:
        super().__init__(**settings)
        self.positionals = positionals

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None) -> None:
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)
        for positional in self.positionals:
            positional.required = False


class Quality(argparse.Action):
    """`--quality`: a word is the model's, a number the JPEG's, and both may be given."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None) -> None:
        setattr(namespace, "quality_number" if isinstance(values, int) else self.dest, values)


SHARED: dict[str, dict[str, Any]] = {  # what several commands take
    "--crispness": {
        "type": float,
        "default": 0.0,
        "metavar": "SHARE",
        "help": "from 0, true to the photo, to 1, crisp: the share of the model's crisp partner (%(default)s)",
    },
    "--crisp-model": {
        "metavar": "MODEL",
        "help": "the crisp partner of a model of your own (default: the bundled one)",
    },
    "--about": {
        "type": Path,
        "metavar": "FILE.toml",
        "help": "what cannot be measured: training, data, where it fails; such as docs/cards/compact.toml",
    },
    "--pictures": {
        "type": Path,
        "metavar": "DIR",
        "help": "pairs that may be published; the card shows those that --about names",
    },
    "--tile": {
        "type": whole_number,
        "metavar": "PIXELS",
        "help": "side of the tiles, 0 for whole frames (default: as large as memory allows)",
    },
    "--precision": {
        "choices": ("auto", "float32", "bfloat16", "float16"),
        "default": "auto",
        "help": "of the arithmetic; auto is the fastest that the device supports (%(default)s)",
    },
    "--device": {"help": "cpu, cuda, cuda:1, mps (default: a GPU if there is one)"},
    "--quiet": {"action": "store_true", "help": "no progress bar"},
}


def add(made: ArgumentParser, *names: str, **changes: Any) -> None:
    """Adds options of `SHARED`; the changes are to all of them."""
    for name in names:
        flags = ("-q", name) if name == "--quiet" else (name,)
        made.add_argument(*flags, **SHARED[name] | changes)


def add_metrics(made: ArgumentParser) -> None:
    from ..evaluation.measures import DEFAULT_METRICS, METRICS

    others = sorted(METRICS.keys() - set(DEFAULT_METRICS))
    made.add_argument(
        "--metrics",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=(),
        metavar="NAME,...",
        help=f"besides {', '.join(DEFAULT_METRICS)}: {', '.join(others)}",
    )


def add_protocol(made: ArgumentParser) -> None:
    from ..evaluation.protocols import BLUR_FOLDERS, PROTOCOLS

    made.add_argument("--protocol", metavar="NAME", help=f"{', '.join(PROTOCOLS)} (default: pairs)")
    made.add_argument("--blur", choices=tuple(BLUR_FOLDERS), help="which of GoPro's blurry pictures (linear)")


class Command(ArgumentParser):
    """The parser of one command, which gets its arguments once it is called."""

    add_arguments: Callable[[ArgumentParser], None] | None = None

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        self.fill()
        return super().parse_known_args(*arguments, **options)

    def format_help(self) -> str:
        self.fill()
        return super().format_help()

    def fill(self) -> None:
        add_arguments, self.add_arguments = self.add_arguments, None
        if add_arguments:
            add_arguments(self)


def run(module: str, function: str, options: argparse.Namespace) -> int:
    return int(getattr(import_module(f".{module}", __package__), function)(options))


def parser() -> ArgumentParser:
    top = ArgumentParser(prog="deblur-hub", description="Sharpens blurry photos.")
    top.add_argument("--version", action="version", version=f"deblur-hub {__version__}")
    commands = top.add_subparsers(required=True, metavar="command", parser_class=Command)

    for name, module, add_arguments, summary in (
        ("deblur", "restoring", deblur, "Restores photos, and all photos in folders."),
        ("evaluate", "evaluating", evaluate, "Scores a model on pairs of blurry and sharp pictures."),
        ("compare", "evaluating", compare, "Prints by how much two evaluations differ, the worst pictures first."),
        ("score", "evaluating", score, "Scores pictures that any program restored against sharp ones."),
        ("benchmark", "benchmarking", benchmark, "Measures speed against ResNet-9, or memory on a large photo."),
        ("networks", "models", networks, "Lists the networks that can be built and trained by name."),
        ("convert", "models", convert, "Converts an author's checkpoint to our format."),
        ("release", "models", release, "Scores a trained model and adds it to the released ones."),
        ("card", "models", card, "Writes the card of a model folder again, from an evaluation of it."),
        ("publish", "models", publish, "Uploads a model folder to a hub repository; can be repeated."),
        ("export", "export", export, "Writes a model for ONNX Runtime, torch.export or the browser."),
        ("publish-space", "page", publish_space, "Makes or updates a Hugging Face Space with the page."),
        ("verify", "models", verify, "Checks that a model gives the output that it gave when it was saved."),
        ("demo", "page", demo, "Opens the page in the browser."),
        ("doctor", "doctor", None, "Prints versions, device and models, to be pasted into a bug report."),
    ):
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(run=partial(run, module, f"run_{name.replace('-', '_')}"))
        made.add_arguments = add_arguments
    return top


def deblur(made: ArgumentParser) -> None:
    inputs = made.add_argument(
        "inputs",
        nargs="+",
        type=place,
        default=[],
        metavar="photo",
        help="a picture, or a folder of them; a path or a URI such as s3://bucket/folder/",
    )
    made.add_argument(
        "--list",
        dest="listed",
        action=InsteadOf,
        positionals=(inputs,),
        metavar="FILE",
        help="a file that lists such paths and URIs, one a line; - for the standard input",
    )
    made.add_argument(
        "-o",
        "--output",
        type=place,
        help="a folder, or for one photo a file; a path or a URI (default: photo-deblurred.jpg beside photo.jpg)",
    )
    made.add_argument("--model", help="a bundled model, a folder, or a hub repository owner/name (default: maxim)")
    made.add_argument(
        "--quality",
        type=quality,
        action=Quality,
        metavar="WORD|NUMBER",
        help=f"a word, {', '.join(QUALITIES)}: {SEVERAL} (default: the best that is estimated to take at most a minute "
        "here); a number: the same as --jpeg-quality",
    )
    made.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="from 0, the photo as it was, to 1, the restored picture: a blend of the two (%(default)s)",
    )
    add(made, "--crispness", "--crisp-model")
    made.add_argument("--format", choices=("png", "jpg", "tif", "webp"), help="of the output (default: the photo's)")
    made.add_argument(
        "--jpeg-quality",
        type=percent,
        metavar="NUMBER",
        help="of JPEG, WebP and AVIF, from 1 to 100 (default: that of the photo, or 95 if it has none)",
    )
    made.set_defaults(quality_number=None)
    for name, what in (("gps", "where the photo was taken"), ("metadata", "all metadata but what colours mean")):
        made.add_argument(f"--strip-{name}", dest="strip", action="store_const", const=name, help=f"leave out {what}")
    either = made.add_mutually_exclusive_group()
    either.add_argument("--overwrite", action="store_true", help="replace files that exist")
    either.add_argument("--resume", action="store_true", help="go on with an earlier run: skip what it has done")
    add(made, "--tile")
    made.add_argument(
        "--memory-budget",
        type=memory,
        metavar="SIZE",
        help="what the network's work may take, such as 1.5G (default: half of what is free)",
    )
    made.add_argument(
        "--max-megapixels", type=megapixels, default=MOST_MEGAPIXELS, help="refuse larger pictures (%(default)s)"
    )
    add(made, "--precision", "--device", "--quiet")
    made.add_argument("--debug", action="store_true", help="show where an unexpected error comes from")


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
            action=InsteadOf,
            positionals=(dataset,),
            type=Path,
            metavar="FOLDER",
            help=f"in place of a dataset: {what}",
        )
    made.add_argument("--seed", type=whole_number, help="of the synthetic camera shake (0)")
    made.add_argument("--upload", action="store_true", help="with --synthetic: add noise and JPEG, as uploads have")
    made.add_argument(
        "--published",
        action=InsteadOf,
        positionals=(model, dataset),
        nargs=0,
        const=True,
        default=False,
        help="print the scores of papers and reports, and which of ours they can be compared with",
    )
    made.add_argument("--quality", choices=QUALITIES, help=f"{SEVERAL} (default: the best, however long it takes)")
    add(made, "--crispness", "--crisp-model")
    add_protocol(made)
    add_metrics(made)
    made.add_argument("-o", "--output", type=Path, metavar="DIR", help="write results.json there, and resume from it")
    made.add_argument("--save", action="store_true", help="with --output: write the restored pictures as well")
    made.add_argument("--html", type=Path, metavar="FILE", help="write a page with the best and worst pictures")
    add(made, "--tile")
    made.add_argument("--overwrite", action="store_true", help="replace what another run left in the output folder")
    add(made, "--precision", "--device", "--quiet")


def compare(made: ArgumentParser) -> None:
    from ..evaluation.measures import METRICS

    made.add_argument("a", type=Path, metavar="a.json", help="a results.json, or the folder that holds it")
    made.add_argument("b", type=Path, metavar="b.json", help="the one to compare with it")
    sortable = [name for name, measure in METRICS.items() if measure.better]
    made.add_argument("--sort", choices=sortable, default="psnr", help="metric to sort by (%(default)s)")
    made.add_argument("--force", action="store_true", help="compare even if protocol or pictures differ")


def score(made: ArgumentParser) -> None:
    made.add_argument("restored", type=Path, help="a folder of restored pictures, at any depth")
    made.add_argument("sharp", type=Path, help="a folder of sharp ones of the same names")
    made.add_argument("--blurred", type=Path, metavar="DIR", help="the blurry input, for its own scores and the gain")
    add_protocol(made)
    add_metrics(made)
    made.add_argument("-o", "--output", type=Path, metavar="DIR", help="write results.json there")
    made.add_argument("--overwrite", action="store_true", help="replace what another run left in the output folder")
    add(made, "--quiet")


def benchmark(made: ArgumentParser) -> None:
    made.add_argument("models", nargs="*", help="bundled models, folders or presets (default: the default model)")
    made.add_argument("--size", type=size, default=(1280, 720), help="of the picture (1280x720)")
    made.add_argument("--runs", type=int, choices=range(1, 100), metavar="N", default=3, help="counted (%(default)s)")
    made.add_argument(
        "--photo", type=photo, metavar="WxH|FILE", help="instead: the memory that 'deblur' takes for a picture"
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
    made.add_argument(
        "--runtimes",
        nargs="+",
        choices=("eager", "compiled", "onnx", "openvino"),
        help="instead: each model, quality, precision, size and runtime in a process of its own, with its memory",
    )
    made.add_argument(
        "--sizes", nargs="+", type=size, metavar="WxH", help="with --runtimes: of the pictures (1280x720)"
    )
    made.add_argument("--qualities", nargs="+", choices=QUALITIES, help="with --runtimes: some of the models' (all)")
    made.add_argument("--json", type=Path, metavar="FILE", help="with --runtimes: write all figures there")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="with --runtimes: write the table there")
    add(made, "--precision")
    add(made, "--device", help="cpu, cuda, cuda:1, mps (default: cpu)")


def networks(made: ArgumentParser) -> None:
    made.add_argument(
        "--size", type=size, default=(1280, 720), help="of the picture that multiply-adds are counted for (1280x720)"
    )


def convert(made: ArgumentParser) -> None:
    made.add_argument(
        "source",
        type=Path,
        metavar="checkpoint",
        help="such as latest_net_G.pth, generator.h5, deblur.model.index, a folder with model.json",
    )
    made.add_argument("-o", "--output", type=Path, required=True, metavar="folder", help="the model folder to write")
    made.add_argument("--name", default="", help="of the model (default: its architecture)")
    made.add_argument("--overwrite", action="store_true", help="replace the model that is in the folder")


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
    add_metrics(made)
    made.add_argument("--training", default="", help="how it was trained, for its card")
    add(made, "--about", "--pictures", "--quiet")


def card(made: ArgumentParser) -> None:
    made.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    made.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        help="a results.json of 'evaluate --output', or its folder; one for each quality",
    )
    add(made, "--about", "--pictures")


def publish(made: ArgumentParser) -> None:
    made.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    made.add_argument("repo", metavar="owner/name", help="the repository, which is created if need be")
    made.add_argument("--tag", default="", help="a name for this version, such as step-1000")
    made.add_argument("--private", action="store_true", help="make the repository private, if it is created")
    made.add_argument("--revision", help="the branch, which is created if need be (default: the main one)")
    made.add_argument("--create-pr", action="store_true", help="propose the commit in a pull request")
    made.add_argument("--message", default="", help="of the commit")


def export(made: ArgumentParser) -> None:
    made.add_argument("model", help="a bundled model, a folder, or a hub repository owner/name")
    made.add_argument(
        "--format",
        choices=("onnx", "torch-export", "web"),
        required=True,
        help="a file for ONNX Runtime and others (extra: onnx), one that torch.export.load reads, or a folder with a "
        "page that restores photos in the browser",
    )
    made.add_argument("-o", "--output", type=Path, required=True, help="the file, or for 'web' the folder, to write")
    made.add_argument("--quality", choices=QUALITIES, help=f"{SEVERAL} (default: the best; for 'web' fast)")
    made.add_argument("--half", action="store_true", help="arithmetic in float16, for GPUs")
    add_runtime(made)
    made.add_argument("--overwrite", action="store_true", help="replace what is there")


def add_runtime(made: ArgumentParser) -> None:
    made.add_argument(
        "--runtime",
        type=Path,
        metavar="PATH",
        help="for the web: onnxruntime-web as npm packs it, a .tgz or unpacked (default: downloaded once from npm)",
    )


def publish_space(made: ArgumentParser) -> None:
    made.add_argument("repo", metavar="owner/name", help="the Space, which is created if need be")
    made.add_argument(
        "--static",
        action="store_true",
        help="upload a page that restores photos in the visitor's browser, as 'export --format web' writes it",
    )
    add_runtime(made)
    made.add_argument("--model", help="which it offers first: a bundled model, or a hub repository owner/model")
    made.add_argument("--private", action="store_true", help="make the Space private, if it is created")
    made.add_argument("--hardware", help="of a Space that is created: cpu-basic, zero-a10g, t4-small ...")


def verify(made: ArgumentParser) -> None:
    made.add_argument("model", nargs="?", help="a bundled model, a folder, or owner/name (default: maxim)")
    made.add_argument("--revision", help="branch, tag or commit of a hub repository")
    made.add_argument("--variant", help="of the weights, such as fp16")
    add(made, "--device")
    add(made, "--precision", default="float32")


def demo(made: ArgumentParser) -> None:
    made.add_argument("--host", default="127.0.0.1", help="to listen on (%(default)s)")
    made.add_argument("--port", type=int, default=7860, help="to listen on (%(default)s)")
    made.add_argument("--no-browser", action="store_true", help="do not open a browser window")
