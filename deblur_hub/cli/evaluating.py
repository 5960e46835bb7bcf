"""`deblur-hub evaluate`, `compare` and `score`."""

import argparse
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ..datasets import missed_note
from ..errors import DatasetError
from ..evaluation import published
from ..evaluation.comparison import compare, comparison_text
from ..evaluation.protocols import find_protocol
from ..evaluation.report import require_writable, write_report
from ..evaluation.results import RESTORED, Evaluation
from ..evaluation.scoring import evaluate, load_model, score_pictures
from ..evaluation.sets import EvaluationSet, pairs_in, sharp_pictures
from ..evaluation.tables import costs, heading, table
from ..processes import MainProcessFailed, Processes, process_group
from .outcomes import FAILED, OK, counting


def run_evaluate(options: argparse.Namespace) -> int:
    if options.published:
        print(published.table())
        return OK
    with process_group() as processes:
        try:
            return evaluate_on(options, processes)
        except MainProcessFailed:
            return FAILED


def evaluate_on(options: argparse.Namespace, processes: Processes) -> int:
    pictures = processes.run_on_main(lambda: pictures_of(options))
    if options.save and options.output is None:
        raise DatasetError("--save writes the restored pictures into the output folder; give --output as well")
    how = {"quality": options.quality, "crispness": options.crispness, "crisp": options.crisp_model}
    model = load_model(options.model, processes.device(options.device), **how)
    with ExitStack() as stack:
        output = options.output
        if options.html and output is None:  # the page shows restored pictures
            if processes.count > 1:
                raise DatasetError("--html of several processes needs a folder that they share; give --output")
            output = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        show = stack.enter_context(counting("evaluate", "picture", options.quiet or processes.rank > 0))
        evaluation = evaluate(
            model,
            pictures,
            metrics=options.metrics,
            precision=options.precision,
            tile=options.tile,
            output=output,
            save=options.save or bool(options.html),
            overwrite=options.overwrite,
            command=f"deblur-hub {shlex.join(options.typed)}",
            processes=processes,
            progress=show,
        )
        if processes.rank == 0:
            present(evaluation)
            if options.html:
                write_report(evaluation, options.html, pictures=pictures, restored=output / RESTORED)
                print(f"written: {options.html}")
            if options.output:
                print(f"written: {options.output}")
    return OK


def pictures_of(options: argparse.Namespace) -> EvaluationSet:
    """The set that the arguments name.

    Raises:
        DatasetError: if the arguments contradict each other, or the pictures cannot be scored.
    """
    if options.html:
        require_writable(options.html)
    sources = [source for source in (options.dataset, options.sharp, options.synthetic) if source is not None]
    if len(sources) > 1:
        raise DatasetError(f"{sources[0]} and {sources[1]}: only one set at a time can be scored; omit one of them")
    for note in missed_note(sources[0]) if sources else ():
        print(f"deblur-hub: {note}", file=sys.stderr)
    if options.synthetic is None and (options.upload or options.seed is not None):
        raise DatasetError("--seed and --upload belong to --synthetic; omit them, or give sharp photographs to it")
    if options.dataset is not None:
        return pairs_in(options.dataset, find_protocol(options.protocol or "pairs", blur=options.blur or "linear"))
    if options.protocol or options.blur:
        raise DatasetError("--protocol and --blur are for pairs; omit them with --sharp and --synthetic")
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
    with counting("score", "picture", options.quiet) as show:
        evaluation = score_pictures(
            options.restored,
            options.sharp,
            blurred=options.blurred,
            protocol=find_protocol(options.protocol or "pairs", blur=options.blur or "linear"),
            metrics=options.metrics,
            output=options.output,
            overwrite=options.overwrite,
            command=f"deblur-hub {shlex.join(options.typed)}",
            progress=show,
        )
    present(evaluation)
    if options.output:
        print(f"written: {options.output}")
    return OK


def present(evaluation: Evaluation) -> None:
    print(f"{heading(evaluation)}\n\n{table(evaluation)}")
    if any(evaluation.values("seconds")):
        print(f"\n{costs(evaluation)}")
