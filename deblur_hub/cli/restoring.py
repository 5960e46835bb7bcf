"""`deblur-hub deblur`: files and folders of photos."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ..datasets import PICTURE_SUFFIXES
from ..errors import DeblurHubError
from ..generator import DeblurGenerator
from ..restoration.crispness import require_use
from ..restoration.quality import require_strength
from .outcomes import FAILED, OK, SOME_FAILED, UsageError, logging_to, print_error

RESULT = "-deblurred"  # suffix of a result that lies beside its photo


def run_deblur(options: argparse.Namespace) -> int:
    require_use(options.crisp_model, options.crispness)
    require_strength(options.strength)
    jobs, mistakes = plan(options.inputs, options.output, options.format, options.overwrite)
    for mistake in mistakes:
        print_error(mistake)
    if not jobs:
        return FAILED
    generator = DeblurGenerator.from_pretrained(options.model, device=options.device, crisp=options.crisp_model)
    generator = generator.with_crispness(options.crispness)
    settings = {name: getattr(options, name) for name in ("quality", "strength", "tile", "precision", "max_megapixels")}
    written = []
    with tqdm(
        total=len(jobs),
        unit="photo",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
        disable=options.quiet,
        dynamic_ncols=True,
    ) as bar:
        for number, (source, target) in enumerate(jobs):
            bar.set_description_str(source.name)

            def show(done: int, total: int, number: int = number) -> None:
                bar.update(number + done / total - bar.n)

            def write(text: str, photo: str = source.name) -> None:
                if not options.quiet:
                    bar.write(f"{photo}: {text}", file=sys.stderr)

            fresh = not target.parent.exists()
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with logging_to(write):
                    generator.deblur_file(source, target, progress=show, **settings)
                written.append(target)
            except (OSError, DeblurHubError) as mistake:
                if isinstance(mistake, OSError):
                    folder, reason = target.parent, mistake.strerror
                    mistake = UsageError(f"{folder}: cannot be written ({reason}); name another folder with -o")
                mistakes.append(mistake)
                bar.write(f"deblur-hub: {mistake}", file=sys.stderr)
            if fresh and target.parent.is_dir() and not any(target.parent.iterdir()):
                target.parent.rmdir()  # made for a picture that could not be restored
            show(1, 1)
    where = written[0] if len(written) == 1 else options.output or "beside the originals"
    failed = f", {len(mistakes)} failed" if mistakes else ""
    print(f"{len(written)} restored{f' ({where})' if written else ''}{failed}")
    return OK if not mistakes else SOME_FAILED if written else FAILED


def plan(
    inputs: list[Path], output: Path | None, suffix: str | None, overwrite: bool
) -> tuple[list[tuple[Path, Path]], list[DeblurHubError]]:
    """The jobs, from a file to another, and an error for each input that nothing can be written for.

    Raises:
        UsageError: if two inputs would be written to the same file, or one over itself.
    """
    to_file = output is not None and output.suffix.lower() in PICTURE_SUFFIXES and not output.is_dir()
    if to_file and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError(f"{output}: is the name of one picture, but there are several to write; name a folder")
    found: list[tuple[Path, Path]] = []
    mistakes: list[DeblurHubError] = []
    for given in inputs:
        if given.is_dir():
            inside = pictures_below(given, output)
            if not inside:
                kinds = ", ".join(sorted(PICTURE_SUFFIXES))
                mistakes.append(UsageError(f"{given}: holds no pictures ({kinds}); name another folder"))
            found += [(path, path.relative_to(given)) for path in inside]
        elif given.is_file():
            found.append((given, Path(given.name)))
        else:
            mistakes.append(UsageError(f"{given}: no such file or folder; check the path"))
    jobs = []
    taken: dict[Path, Path] = {}
    for source, relative in found:
        name = relative.with_suffix(f".{suffix}") if suffix else relative
        if output is None:
            target = source.with_name(f"{source.stem}{RESULT}{name.suffix}")
        else:
            target = output if to_file else output / name
        if target.resolve() == source.resolve():
            raise UsageError(f"{source}: would be written over itself; name another folder with -o")
        if target.resolve() in taken:
            raise UsageError(
                f"{source} and {taken[target.resolve()]} would both be written to {target}; "
                "restore them one after the other, into two folders"
            )
        taken[target.resolve()] = source
        if target.exists() and not overwrite:
            mistakes.append(UsageError(f"{target}: exists already; give --overwrite to replace it"))
        else:
            jobs.append((source, target))
    return jobs, mistakes


def pictures_below(folder: Path, output: Path | None) -> list[Path]:
    """The pictures at any depth, without hidden ones and without the results of earlier runs."""
    inside = output.resolve() if output is not None and output.resolve() != folder.resolve() else None
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (output is None and path.stem.endswith(RESULT))
        and not (inside and path.resolve().is_relative_to(inside))
    ]
