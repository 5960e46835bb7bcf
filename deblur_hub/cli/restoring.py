"""`deblur-hub deblur`: files and folders of photos."""

import argparse
import logging
import os
import sys
import time
import traceback
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..batch import Journals, Outcome, fingerprint, grouped, restore_files
from ..errors import DeblurHubError, reason_of
from ..generator import DeblurGenerator
from ..processes import Processes, min_threads, process_group
from ..remote import is_remote, place
from ..restoration.crispness import require_use
from ..restoration.quality import require_strength
from ..restoration.together import most_pixels
from .jobs import Plan, is_video, plan
from .outcomes import FAILED, OK, SOME_FAILED, UsageError, complaint, logging_to, printable
from .videos import run_videos


def run_deblur(options: argparse.Namespace) -> int:
    require_use(options.crisp_model, options.crispness)
    require_strength(options.strength)
    options.jpeg_quality = one_jpeg_quality(options)
    with process_group() as processes:
        if options.listed:
            options.inputs = [*options.inputs, *processes.run_on_main(lambda: listed(options.listed))]
        videos = [path for path in options.inputs if is_video(path)]
        options.inputs = [path for path in options.inputs if path not in videos]
        if videos and options.output is not None and is_remote(options.output):
            raise UsageError(f"{videos[0]}: videos are written to this machine only; name a folder of it with -o")
        codes = [run_share(options, processes)] if options.inputs else []
        codes += [run_videos(videos, options, processes)] if videos else []
    return max(codes)


def listed(file: str) -> list[Path]:
    """What the lines of a file name, or those of the standard input."""
    try:
        lines = os.fsdecode(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).splitlines()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({reason_of(error)}); check the path") from error
    if not any(lines):
        raise UsageError(f"{file}: lists no photos; write one path or URI a line")
    return [place(line) for line in lines if line]


def run_share(options: argparse.Namespace, processes: Processes) -> int:
    """Restores what falls to this process; the main one says what is to be said of all."""
    may_replace = Journals("", options.output).is_ours if options.resume else lambda target: bool(options.overwrite)
    made = processes.run_on_main(lambda: plan(options.inputs, options.output, options.format, may_replace))
    if processes.rank == 0:
        for mistake in made.mistakes:
            print(f"deblur-hub: {printable(str(mistake))}", file=sys.stderr)
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    if made.jobs:
        device = processes.device(options.device)
        generator = DeblurGenerator.from_pretrained(options.model, device=device, crisp=options.crisp_model)
        generator = generator.with_crispness(options.crispness)
        pixels = 0 if options.tile else most_pixels(generator.network, options.memory_budget)
        made.jobs, together = processes.run_on_main(lambda: grouped(made.jobs, pixels))
        with min_threads() if processes.count > 1 else nullcontext():
            started = time.perf_counter()
            outcomes = run_jobs(generator, processes.shard(made.jobs), together, options, processes)
    seconds = time.perf_counter() - started
    everyones = [outcome for part in processes.gather([told(each) for each in outcomes]) for outcome in part]
    if processes.rank > 0:
        return OK
    pixels, busy = sum(each.pixels for each in everyones), sum(each.seconds for each in everyones)
    if sum(each.pixels > 0 for each in everyones) > 1 and not options.quiet:
        speed, share = pixels / 1e6 / seconds, busy / seconds / processes.count
        print(
            f"{pixels / 1e6:.1f} megapixels in {seconds:.0f} s, {speed:.2f} a second; the network worked {share:.0%} "
            "of the time"
        )
    return summed_up(made, everyones, options)


def told(outcome: Outcome) -> Outcome:
    """As one process tells another, which may not know the class of the error."""
    return replace(outcome, error=outcome.error and Exception())


def summed_up(made: Plan, outcomes: list[Outcome], options: argparse.Namespace) -> int:
    """The last words, and the exit code."""
    for note in made.notes():
        print(f"deblur-hub: {printable(note)}", file=sys.stderr)
    if not made.jobs:
        return FAILED
    written = [each.job[1] for each in outcomes if not each.error and not each.skipped]
    skipped = sum(each.skipped for each in outcomes)
    mistakes = len(made.mistakes) + len(outcomes) - len(written) - skipped
    where = written[0] if len(written) == 1 else options.output or "beside the originals"
    words = f"{len(written)} restored{f' ({printable(str(where))})' if written else ''}"
    words += f", {skipped} done before" if skipped else ""
    words += f", {mistakes} failed" if mistakes else ""
    words += f", {len(made.passed_over)} passed over" if made.passed_over else ""
    print(words)
    if not written and not skipped:
        return FAILED
    return SOME_FAILED if mistakes or made.passed_over else OK


def one_jpeg_quality(options: argparse.Namespace) -> int | None:
    """The number that `--quality` and `--jpeg-quality` give, which must be one."""
    numbers = {options.quality_number, options.jpeg_quality} - {None}
    if len(numbers) > 1:
        raise UsageError(
            f"--quality {options.quality_number} and --jpeg-quality {options.jpeg_quality} ask for two qualities of "
            "the JPEG; give one of them"
        )
    return numbers.pop() if numbers else None


def run_jobs(
    generator: DeblurGenerator,
    jobs: list[tuple[Path, Path]],
    together: set[Path],
    options: argparse.Namespace,
    processes: Processes,
) -> list[Outcome]:
    """Restores the files, and says what was wrong with each that could not be."""
    settings = {name: getattr(options, name) for name in ("quality", "strength", "tile", "precision", "jpeg_quality")}
    settings["strip"] = options.strip
    journals = None
    if options.resume or len(jobs) > 1:
        journals = Journals(fingerprint(generator, settings), options.output, processes.rank)
    outcomes: list[Outcome] = []
    with tqdm(
        total=len(jobs),
        unit="photo",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
        disable=options.quiet or processes.rank > 0,
        dynamic_ncols=True,
    ) as bar:
        at = [""]  # the photo that is restored now

        def show(job: int, share: float) -> None:
            at[0] = printable(jobs[job][0].name)
            bar.set_description_str(at[0], refresh=False)
            bar.update(max(0.0, job + share - bar.n))

        def write(text: str, level: int) -> None:
            if level >= logging.WARNING:
                bar.write(f"deblur-hub: {printable(text)}", file=sys.stderr)
            elif not options.quiet:
                bar.write(f"{at[0]}: {text}", file=sys.stderr)

        more = {"max_megapixels": options.max_megapixels, "memory_budget": options.memory_budget}
        more |= {"journals": journals, "resume": options.resume, "together": together}
        with logging_to(write):
            for outcome in restore_files(generator, jobs, progress=show, **more, **settings):
                outcomes.append(outcome)
                bar.update(max(0.0, len(outcomes) - bar.n))
                if outcome.error:
                    bar.write(f"deblur-hub: {printable(complaint(outcome.job[0], outcome.error))}", file=sys.stderr)
                    if options.debug and not isinstance(outcome.error, DeblurHubError):
                        bar.write("".join(traceback.format_exception(outcome.error)), file=sys.stderr)
    return outcomes
