"""The shell commands `evaluate`, `compare` and `score`: their arguments, and what they print."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..config import QUALITIES
from ..errors import DatasetError
from ..evaluation.comparison import compare, comparison_text
from ..evaluation.measures import DEFAULT_METRICS, METRICS
from ..evaluation.processes import Processes, ToldElsewhere, launched
from ..evaluation.protocols import BLUR_FOLDERS, PROTOCOLS, find_protocol
from ..evaluation.results import RESTORED, Evaluation
from ..evaluation.scoring import evaluate, load_model, score_pictures
from ..evaluation.sets import Material, pairs_in, sharp_pictures
from ..evaluation.tables import costs, heading, rows_table, spread_table

OK, FAILED = 0, 2
SORTABLE = tuple(name for name, measure in METRICS.items() if measure.better)
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class InPlaceOf(argparse.Action):
    """An option that makes positional arguments unnecessary, without which argparse must know them all beforehand."""

    def __init__(self, *, spares: tuple[argparse.Action, ...], constant: object = None, **settings: Any) -> None:
        if constant is not None:
            settings |= {"nargs": 0}
        super().__init__(**settings)
        self.spares, self.constant = spares, constant

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values if self.constant is None else self.constant)
        for spared in self.spares:
            spared.required = False


def evaluate_arguments(made: argparse.ArgumentParser) -> None:
    model = made.add_argument(
        "model", help="a bundled model, a folder, a hub repository owner/name, or identity, unsharp, richardson-lucy"
    )
    dataset = made.add_argument(
        "dataset", type=Path, help="a folder with 'blur' and 'sharp' in it, at any depth; GoPro as it unpacks"
    )
    made.add_argument(
        "--sharp",
        action=InPlaceOf,
        spares=(dataset,),
        type=Path,
        metavar="FOLDER",
        help="in place of a dataset: sharp photographs, to see that they are left alone",
    )
    made.add_argument(
        "--synthetic",
        action=InPlaceOf,
        spares=(dataset,),
        type=Path,
        metavar="FOLDER",
        help="in place of a dataset: sharp photographs, to be blurred by synthetic camera shake",
    )
    made.add_argument("--seed", type=seed, help="of the synthetic camera shake (0)")
    made.add_argument(
        "--upload", action="store_true", help="with --synthetic: with noise and JPEG, too, as uploads have"
    )
    made.add_argument(
        "--published",
        action=InPlaceOf,
        spares=(model, dataset),
        constant=True,
        default=False,
        help="print what papers and reports published, and what may stand beside what",
    )
    add_quality(made, "the best, whatever it takes")
    add_crispness(made)
    add_protocol(made)
    made.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write results.json there, and the rows as they come"
    )
    made.add_argument("--save", action="store_true", help="with --output: write the restored pictures as well")
    made.add_argument("--html", type=Path, metavar="FILE", help="write a page with the best and worst pictures")
    made.add_argument(
        "--tile", type=tile, metavar="PIXELS", help="side of the tiles, 0 for whole frames (default: by memory)"
    )
    add_overwrite(made)
    made.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="of the arithmetic (default: the device's fastest)"
    )
    made.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")


def compare_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("a", type=Path, metavar="a.json", help="a results.json, or the folder that holds it")
    made.add_argument("b", type=Path, metavar="b.json", help="the one to compare with it")
    made.add_argument("--sort", choices=SORTABLE, default="psnr", help="metric to sort by (%(default)s)")
    made.add_argument("--force", action="store_true", help="compare what differs in protocol or pictures")


def score_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("restored", type=Path, help="a folder of restored pictures, at any depth")
    made.add_argument("sharp", type=Path, help="a folder of sharp ones of the same names")
    made.add_argument("--blurred", type=Path, metavar="DIR", help="the blurry input, for its own scores and the gain")
    add_protocol(made)
    made.add_argument("-o", "--output", type=Path, metavar="DIR", help="write results.json there")
    add_overwrite(made)


def add_protocol(made: argparse.ArgumentParser) -> None:
    made.add_argument("--protocol", metavar="NAME", help=f"{', '.join(PROTOCOLS)} (default: pairs)")
    made.add_argument("--blur", choices=tuple(BLUR_FOLDERS), help="which of GoPro's blurred pictures (linear)")
    add_metrics(made)


def add_metrics(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--metrics",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=(),
        metavar="NAME,...",
        help=f"beside {', '.join(DEFAULT_METRICS)}: {', '.join(sorted(METRICS.keys() - set(DEFAULT_METRICS)))}",
    )


def add_quality(made: argparse.ArgumentParser, default: str) -> None:
    made.add_argument(
        "--quality", choices=QUALITIES, help=f"how much of a model that has such steps is run (default: {default})"
    )


def add_crispness(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--crispness",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="from 0, true to the photo, to 1, crisp: the share of the model's crisp partner (%(default)s)",
    )
    made.add_argument(
        "--crisp-model", metavar="MODEL", help="the crisp partner of a model of your own (default: the bundled one's)"
    )


def add_overwrite(made: argparse.ArgumentParser) -> None:
    made.add_argument("--overwrite", action="store_true", help="replace what another run left in the output folder")


def run_evaluate(options: argparse.Namespace, *, program: str = "deblur-hub") -> int:
    if options.published:
        from ..evaluation.published import table

        print(table())
        return OK
    with launched() as processes:
        try:
            return evaluate_on(options, processes, program)
        except ToldElsewhere:
            return FAILED


def evaluate_on(options: argparse.Namespace, processes: Processes, program: str) -> int:
    material = processes.agreed(lambda: chosen_material(options))
    if options.save and options.output is None:
        raise DatasetError("--save writes the restored pictures into the output folder; give --output as well")
    device = processes.device(options.device)
    model = load_model(
        options.model, device, quality=options.quality, crispness=options.crispness, crisp=options.crisp_model
    )
    with ExitStack() as stack:
        output, save = options.output, options.save
        if options.html and not save:  # the page shows restored pictures
            if output is None:
                if processes.count > 1:
                    raise DatasetError("--html of several processes needs a folder that they share; give --output")
                output = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            save = True
        with counting("evaluate", options.quiet or processes.rank > 0) as show:
            evaluation = evaluate(
                model,
                material,
                metrics=options.metrics,
                precision=options.precision,
                tile=options.tile,
                output=output,
                save=save,
                overwrite=options.overwrite,
                command=command_line(program, options),
                processes=processes,
                progress=show,
            )
        if processes.rank == 0:
            present(evaluation)
            if options.html:
                from ..evaluation.report import write_report

                write_report(evaluation, options.html, material=material, restored=output / RESTORED)
                print(f"written: {options.html}")
            if options.output:
                print(f"written: {options.output}")
    return OK


def chosen_material(options: argparse.Namespace) -> Material:
    """What to score, by the arguments.

    Raises:
        DatasetError: if they do not fit each other, or the pictures do not do.
    """
    if options.html:
        from ..evaluation.report import require_place

        require_place(options.html)
    sources = [source for source in (options.dataset, options.sharp, options.synthetic) if source is not None]
    if len(sources) > 1:
        raise DatasetError(f"{sources[0]} and {sources[1]}: one set at a time can be scored; leave one of them out")
    if options.seed is not None and options.synthetic is None:
        raise DatasetError("--seed is that of --synthetic; leave it out")
    if options.upload and options.synthetic is None:
        raise DatasetError("--upload is about --synthetic; leave it out")
    if options.dataset is not None:
        return pairs_in(options.dataset, find_protocol(options.protocol or "pairs", blur=options.blur or "linear"))
    if options.protocol or options.blur:
        raise DatasetError("--protocol and --blur are about pairs; leave them out with --sharp and --synthetic")
    if options.sharp is not None:
        return sharp_pictures(options.sharp)
    return sharp_pictures(options.synthetic, seed=options.seed or 0, upload=options.upload)


def run_compare(options: argparse.Namespace) -> int:
    comparison = compare(Evaluation.read(options.a), Evaluation.read(options.b), by=options.sort, force=options.force)
    if comparison.warning:
        print(f"deblur-hub: the two were not made to be compared: {comparison.warning}", file=sys.stderr)
    print(comparison_text(comparison))
    return OK


def run_score(options: argparse.Namespace) -> int:
    protocol = find_protocol(options.protocol or "pairs", blur=options.blur or "linear")
    with counting("score", options.quiet) as show:
        evaluation = score_pictures(
            options.restored,
            options.sharp,
            blurred=options.blurred,
            protocol=protocol,
            metrics=options.metrics,
            output=options.output,
            overwrite=options.overwrite,
            command=command_line("deblur-hub", options),
            progress=show,
        )
    present(evaluation)
    if options.output:
        print(f"written: {options.output}")
    return OK


def present(evaluation: Evaluation) -> None:
    print(f"{heading(evaluation)}\n\n{rows_table(evaluation)}\n\n{spread_table(evaluation)}")
    if any(evaluation.values("seconds")):
        print(f"\n{costs(evaluation)}")


def command_line(program: str, options: argparse.Namespace) -> str:
    """What was typed."""
    return f"{program} {shlex.join(options.typed)}"


def seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 up")
    return int(text)


def tile(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of pixels")
    return int(text)


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calls of (done, total)."""
    from tqdm import tqdm

    with tqdm(desc=what, unit="picture", disable=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
