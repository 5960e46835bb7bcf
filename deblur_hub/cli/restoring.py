"""`deblur-hub deblur`: files and folders of photos."""

import argparse
import logging
import sys
import traceback
from pathlib import Path

from tqdm import tqdm

from ..errors import DeblurHubError, reason_of
from ..generator import DeblurGenerator
from ..restoration.crispness import require_use
from ..restoration.quality import require_strength
from .jobs import plan
from .outcomes import FAILED, OK, SOME_FAILED, UsageError, logging_to


def run_deblur(options: argparse.Namespace) -> int:
    require_use(options.crisp_model, options.crispness)
    require_strength(options.strength)
    options.jpeg_quality = one_jpeg_quality(options)
    made = plan(options.inputs, options.output, options.format, options.overwrite)
    mistakes = len(made.mistakes)
    for mistake in made.mistakes:
        print(f"deblur-hub: {printable(str(mistake))}", file=sys.stderr)
    written: list[Path] = []
    if made.jobs:
        generator = DeblurGenerator.from_pretrained(options.model, device=options.device, crisp=options.crisp_model)
        generator = generator.with_crispness(options.crispness)
        written = run_jobs(generator, made.jobs, options)
        mistakes += len(made.jobs) - len(written)
    for note in made.notes():
        print(f"deblur-hub: {printable(note)}", file=sys.stderr)
    if not made.jobs:
        return FAILED
    where = written[0] if len(written) == 1 else options.output or "beside the originals"
    failed = f", {mistakes} failed" if mistakes else ""
    missed = f", {len(made.passed_over)} passed over" if made.passed_over else ""
    print(f"{len(written)} restored{f' ({printable(str(where))})' if written else ''}{failed}{missed}")
    if not written:
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


def run_jobs(generator: DeblurGenerator, jobs: list[tuple[Path, Path]], options: argparse.Namespace) -> list[Path]:
    """Restores one file after another, and says what was wrong with each that could not be; the files written."""
    settings = {name: getattr(options, name) for name in ("quality", "strength", "tile", "precision", "max_megapixels")}
    settings |= {"jpeg_quality": options.jpeg_quality, "strip": options.strip}
    written = []
    with tqdm(
        total=len(jobs),
        unit="photo",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
        disable=options.quiet,
        dynamic_ncols=True,
    ) as bar:
        for number, (source, target) in enumerate(jobs):
            bar.set_description_str(printable(source.name))

            def show(done: int, total: int, number: int = number) -> None:
                bar.update(number + done / total - bar.n)

            def write(text: str, level: int, photo: str = source.name) -> None:
                if level >= logging.WARNING:
                    bar.write(f"deblur-hub: {printable(text)}", file=sys.stderr)
                elif not options.quiet:
                    bar.write(f"{printable(photo)}: {text}", file=sys.stderr)

            try:
                with logging_to(write):
                    restore_file(generator, source, target, progress=show, **settings)
                written.append(target)
            except DeblurHubError as mistake:
                bar.write(f"deblur-hub: {printable(str(mistake))}", file=sys.stderr)
            except Exception as error:  # a mistake of ours, or of a library; the other photos are none the worse for it
                kind = type(error).__name__
                text = f"{source}: cannot be restored ({kind}: {reason_of(error)}); --debug shows where it failed"
                bar.write(f"deblur-hub: {printable(text)}", file=sys.stderr)
                if options.debug:
                    bar.write(traceback.format_exc(), file=sys.stderr)
            show(1, 1)
    return written


def restore_file(generator: DeblurGenerator, source: Path, target: Path, **settings: object) -> None:
    """Makes the target's folder, which goes again if the photo cannot be restored."""
    folder = target.parent
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = reason_of(error)
        raise UsageError(f"{folder}: cannot be written ({reason}); name another folder with -o") from error
    try:
        generator.deblur_file(source, target, **settings)  # type: ignore[arg-type]
    finally:
        if fresh and not any(folder.iterdir()):
            folder.rmdir()


def printable(text: str) -> str:
    """Text whose bytes no terminal takes for commands: names of files may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
