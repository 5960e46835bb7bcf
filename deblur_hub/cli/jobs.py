"""Which files a command is to restore, into which, and what of a folder is passed over."""

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import remote
from ..datasets import folders_below, named, passed_over
from ..errors import DeblurHubError, PictureError, reason_of
from ..pictures.formats import format_of
from ..pictures.opening import readable_suffixes
from ..pictures.suffixes import MISSED, PICTURE_SUFFIXES, VIDEOS, missing_extras, picture_suffixes, result_suffix
from ..remote import is_remote, reaching
from .outcomes import UsageError

RESULT = "-deblurred"  # suffix of a result that lies beside its photo
FILE_ENDING = re.compile(r"\.[A-Za-z]{2,5}")  # a folder named so can be made first
Question = Callable[[Path], bool]
THUMBNAILS = "@eaDir"  # folders in which a NAS keeps small copies of the photos beside them


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: (source, target), one for each picture.
        mistakes: of each input that nothing can be written for.
        passed_over: what else lies in the folders and somebody may miss.
        earlier: results of earlier runs, which are not restored again.
        twins: pictures that may be such results as well, by their names, but are restored.
    """

    jobs: list[tuple[Path, Path]] = field(default_factory=list)
    mistakes: list[DeblurHubError] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    earlier: list[Path] = field(default_factory=list)
    twins: list[Path] = field(default_factory=list)

    def notes(self) -> Iterator[str]:
        """A sentence on each kind of file that was passed over."""
        readable = readable_suffixes() if self.passed_over else set()
        lacking = missing_extras()
        kinds = {f"not read here (pip install 'deblur-hub[{extra}]' reads them)": lacking[extra] for extra in lacking}
        kinds["not read here (convert them to JPEG or PNG first)"] = MISSED.difference(readable, *lacking.values())
        kinds |= {"not written here (--format jpg restores them)": readable, "videos (name one to restore it)": VIDEOS}
        for kind, suffixes in kinds.items():
            files = [path for path in self.passed_over if path.suffix.lower() in suffixes]
            if files:
                yield f"{passed_over(files)}, {kind}: {named(files)}"
        if self.earlier:
            yield f"{passed_over(self.earlier)}, results of earlier runs: {named(self.earlier)}"
        if self.twins:
            yield f"restored though named like others further up, as results of earlier runs are: {named(self.twins)}"


def plan(inputs: list[Path], output: Path | None, suffix: str | None, may_replace: Question) -> Plan:
    """The plan; what is wrong with one input costs that input alone.

    Args:
        may_replace: whether a file that exists may be replaced.

    Raises:
        UsageError: if `output` names one picture, and there are several to write, or one of a format that is not
            written.
    """
    to_file = output is not None and not is_folder(output) and (is_picture_name(output) or is_mistyped(inputs, output))
    if to_file and output is not None:
        try:
            format_of(output)
        except PictureError as error:
            raise UsageError(str(error)) from error
        if len(inputs) > 1 or is_folder(inputs[0]):
            raise UsageError(f"{output}: is the name of one picture, but there are several to write; name a folder")
    made = Plan()
    targets: dict[Path, list[tuple[Path, Path]]] = {}
    seen = set()
    exists: Question = is_taken
    if output is not None and is_remote(output) and not to_file:
        exists = {output / name for name in remote.files_below(output)}.__contains__  # one question for all
    for source, relative in found(inputs, output, suffix, made):
        place = resolved(source)
        if place in seen:
            continue  # a folder and a file in it, or two patterns that match one file
        seen.add(place)
        name = relative.with_suffix(f".{suffix}" if suffix else result_suffix(relative.suffix))
        if output is None:
            target = source.with_name(f"{source.stem}{RESULT}{name.suffix}")
        else:
            target = output if to_file else output / name
        targets.setdefault(resolved(target), []).append((source, target))
    for place, jobs in targets.items():
        for source, target in jobs:
            wrong = complaint(
                source, target, place, [other for other, _ in jobs if other != source], exists, may_replace
            )
            if wrong is None:
                made.jobs.append((source, target))
            else:
                made.mistakes.append(wrong)
    return made


def complaint(
    source: Path, target: Path, place: Path, others: list[Path], exists: Question, may_replace: Question
) -> DeblurHubError | None:
    """What is wrong with restoring `source` into `target`, as far as names tell."""
    if place == resolved(source):
        return UsageError(f"{source}: would be written over itself; name another folder with -o")
    if others:
        return UsageError(
            f"{source} and {others[0]} would both be written to {target}; restore them one after the other, into two "
            "folders"
        )
    if not target.suffix:
        return UsageError(f"{source}: has no suffix that says its format; name the result with -o, or give --format")
    try:
        format_of(target)
        if exists(target) and not may_replace(target):
            return UsageError(f"{target}: exists already; give --overwrite to replace it")
    except PictureError as error:
        return error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return UsageError(f"{source}: its name is too long for a result beside it; name the result with -o")
        return UsageError(f"{source}: {target.name} cannot be written ({reason_of(error)}); name the result with -o")
    return None


def found(inputs: list[Path], output: Path | None, to: str | None, made: Plan) -> Iterator[tuple[Path, Path]]:
    """Each picture, and its path below the output folder; mistakes and what is passed over go into `made`."""
    for given in inputs:
        try:
            inside = list(pictures_below(given, output, to, made)) if is_folder(given) else None
        except PictureError as error:  # of a URI
            made.mistakes.append(error)
            continue
        if inside is not None:
            if not inside:
                made.mistakes.append(UsageError(f"{given}: holds no pictures that are read here; name another folder"))
            yield from ((path, remote.relative(path, given)) for path in inside)
        elif is_there(given, made):
            yield given, Path(given.name)


def pictures_below(folder: Path, output: Path | None, to: str | None, made: Plan) -> Iterator[Path]:
    """The pictures at any depth: files of their own, not hidden, no thumbnails, no results of earlier runs.

    Where `to` names another format, also those of formats that are read and not written.
    """
    taken = picture_suffixes() | (readable_suffixes() if to else set())
    inside = resolved(output) if output is not None and resolved(output) != resolved(folder) else None
    if is_remote(folder):  # which has nothing but files, and tells of all at once
        files: Iterable[Path] = [folder / name for name in remote.files_below(folder)]
        is_file: Question = set(files).__contains__
    else:
        files = (path for below in folders_below(folder) for path in sorted(below.iterdir()))
        is_file = lies_there
    for path in files:
        parts = remote.relative(path, folder).parts
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in parts) or THUMBNAILS in parts:
            continue
        if suffix in taken and not is_remote(path) and path.is_symlink() and not asked(path.exists):
            made.mistakes.append(UsageError(f"{path}: a link to a file that is not there; mend it or take it out"))
        if not is_file(path):
            continue
        if inside is not None and remote.is_below(resolved(path), inside):
            continue
        if suffix in taken and path.stem.endswith(RESULT):
            made.earlier.append(path)
        elif suffix in taken:
            if output is not None and len(parts) > 1 and is_file(folder.joinpath(*parts[1:])):
                made.twins.append(path)
            yield path
        elif suffix in MISSED | VIDEOS:
            made.passed_over.append(path)


def is_there(path: Path, made: Plan) -> bool:
    if is_remote(path) and is_picture_name(path):
        return True  # or it cannot be fetched: one question fewer
    try:
        if path.exists():
            return True
        made.mistakes.append(UsageError(f"{path}: no such file or folder; check the path"))
    except OSError as error:
        made.mistakes.append(UsageError(f"{path}: cannot be opened ({reason_of(error)})"))
    return False


def is_taken(path: Path) -> bool:
    if not is_remote(path):
        return path.exists()
    with reaching(path, "found"):
        return path.exists()


def is_picture_name(path: Path) -> bool:
    """Whether a name is that of a picture, be it of a format that is written or not; else it is a folder's."""
    return path.suffix.lower() in PICTURE_SUFFIXES | MISSED


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and not is_remote(path) and lies_there(path)


def lies_there(path: Path) -> bool:
    return asked(path.is_file)


def is_mistyped(inputs: list[Path], output: Path) -> bool:
    """Whether the name of a result for one photo ends as the name of a file does, though of none that is known."""
    return len(inputs) == 1 and not is_folder(inputs[0]) and bool(FILE_ENDING.fullmatch(output.suffix))


def is_folder(path: Path) -> bool:
    if not is_remote(path):
        return asked(path.is_dir)
    with reaching(path, "found"):
        return not is_picture_name(path) and path.is_dir()


def asked(question: Callable[[], bool]) -> bool:
    """The answer of the file system; no if it cannot tell, as of a name that is too long."""
    try:
        return question()
    except OSError:
        return False


def resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path.absolute()
