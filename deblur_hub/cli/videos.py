"""`deblur-hub deblur clip.mp4`."""

import argparse
import sys
import traceback
from pathlib import Path

from tqdm import tqdm

from ..batch import Journals, fingerprint
from ..errors import DeblurHubError
from ..generator import DeblurGenerator
from ..pictures.suffixes import VIDEOS
from ..processes import Processes
from ..video import container_of, require_av, restore_video
from .jobs import RESULT
from .outcomes import FAILED, OK, SOME_FAILED, UsageError, complaint, printable


def run_videos(videos: list[Path], options: argparse.Namespace, processes: Processes) -> int:
    """Restores videos one after another, of which each process takes its share."""
    require_av(videos[0])
    generator = DeblurGenerator.from_pretrained(
        options.model, device=processes.device(options.device), crisp=options.crisp_model
    ).with_crispness(options.crispness)
    settings = {name: getattr(options, name) for name in ("strength", "tile", "precision")}
    settings |= {"quality": options.quality} if options.quality else {}
    journals = None
    if options.resume or len(videos) > 1:
        told = fingerprint(generator, settings | {"strip": options.strip})
        journals = Journals(told, options.output, processes.rank)
    written, failed, skipped = [], 0, 0
    for source in processes.shard(videos):
        try:
            target = target_of(source, options.output, alone=len(videos) == 1)
            if options.resume and journals and journals.is_done(source, target):
                skipped += 1
                continue
            may_replace = options.overwrite or (options.resume and journals and journals.is_ours(target))
            if target.exists() and not may_replace:
                raise UsageError(f"{target}: exists already; give --overwrite to replace it")
            restore(generator, source, target, journals, options, settings)
            written.append(target)
        except Exception as error:  # the other videos are none the worse for it
            failed += 1
            print(f"deblur-hub: {printable(complaint(source, error))}", file=sys.stderr)
            if options.debug and not isinstance(error, DeblurHubError):
                traceback.print_exc()
    where = printable(str(written[0] if len(written) == 1 else options.output or "beside the originals"))
    words = f"{len(written)} restored{f' ({where})' if written else ''}"
    print(words + (f", {skipped} done before" if skipped else "") + (f", {failed} failed" if failed else ""))
    return OK if not failed else SOME_FAILED if written or skipped else FAILED


def target_of(source: Path, output: Path | None, *, alone: bool) -> Path:
    if output is None:
        target = source.with_name(f"{source.stem}{RESULT}{source.suffix}")
    elif output.suffix.lower() in VIDEOS:
        if not alone:
            raise UsageError(f"{output}: is the name of one video, but there are several to write; name a folder")
        target = output
    else:
        target = output / source.name
    container_of(target)
    if target.resolve() == source.resolve():
        raise UsageError(f"{source}: would be written over itself; name another file with -o")
    return target


def restore(
    generator: DeblurGenerator,
    source: Path,
    target: Path,
    journals: Journals | None,
    options: argparse.Namespace,
    settings: dict[str, object],
) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        entry = journals.begin(source, target) if journals else None
    except OSError as reason:
        raise UsageError(f"{target.parent}: cannot be written ({reason.strerror}); name another folder") from None
    layout = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
    with tqdm(total=1.0, desc=printable(source.name), bar_format=layout, disable=options.quiet) as bar:
        try:
            report = restore_video(
                generator,
                source,
                target,
                strip=options.strip,
                progress=lambda share: bar.update(share - bar.n) and None,
                **settings,
            )
        except BaseException:
            if journals:
                journals.give_up(target)
            raise
        for note in report.notes:
            bar.write(f"deblur-hub: {printable(source.name)}: {note}", file=sys.stderr)
    if journals and entry:
        journals.finish(target, entry)
