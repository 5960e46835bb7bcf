"""Arguments that several commands share, and the types of arguments."""

import argparse
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from ..config import QUALITIES
from ..evaluation.measures import DEFAULT_METRICS, METRICS
from ..evaluation.protocols import BLUR_FOLDERS, PROTOCOLS

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class InsteadOf(argparse.Action):
    """An option that stands in for positional arguments, which argparse otherwise requires."""

    def __init__(self, *, positionals: tuple[argparse.Action, ...], **settings: Any) -> None:
        super().__init__(**settings)
        self.positionals = positionals

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None) -> None:
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)
        for positional in self.positionals:
            positional.required = False


def add_quality(made: ArgumentParser, default: str) -> None:
    made.add_argument(
        "--quality", choices=QUALITIES, help=f"of a model that has several, from fast to slow (default: {default})"
    )


def add_crispness(made: ArgumentParser) -> None:
    made.add_argument(
        "--crispness",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="from 0, true to the photo, to 1, crisp: the share of the model's crisp partner (%(default)s)",
    )
    made.add_argument(
        "--crisp-model", metavar="MODEL", help="the crisp partner of a model of your own (default: the bundled one)"
    )


def add_protocol(made: ArgumentParser) -> None:
    made.add_argument("--protocol", metavar="NAME", help=f"{', '.join(PROTOCOLS)} (default: pairs)")
    made.add_argument("--blur", choices=tuple(BLUR_FOLDERS), help="which of GoPro's blurry pictures (linear)")
    add_metrics(made)


def add_metrics(made: ArgumentParser) -> None:
    made.add_argument(
        "--metrics",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=(),
        metavar="NAME,...",
        help=f"besides {', '.join(DEFAULT_METRICS)}: {', '.join(sorted(METRICS.keys() - set(DEFAULT_METRICS)))}",
    )


def add_about(made: ArgumentParser) -> None:
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


def add_tile(made: ArgumentParser) -> None:
    made.add_argument(
        "--tile",
        type=whole_number,
        metavar="PIXELS",
        help="side of the tiles, 0 for whole frames (default: as large as memory allows)",
    )


def add_device(made: ArgumentParser, default: str = "a GPU if there is one") -> None:
    made.add_argument("--device", help=f"cpu, cuda, cuda:1, mps (default: {default})")


def add_precision(made: ArgumentParser, default: str = "auto") -> None:
    made.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=default,
        help="of the arithmetic; auto is the fastest that the device supports (%(default)s)",
    )


def add_overwrite(made: ArgumentParser, what: str) -> None:
    made.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def add_quiet(made: ArgumentParser) -> None:
    made.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def add_size(made: ArgumentParser, what: str) -> None:
    made.add_argument("--size", type=size, default=(1280, 720), help=f"{what} (1280x720)")


def size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 1280x720")
    return int(width), int(height)


def photo(text: str) -> Path | tuple[int, int]:
    return Path(text) if Path(text).is_file() else size(text)


def whole_number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)


def megapixels(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of megapixels above 0")
    return number
