"""A photo's way: read, judged, restored, shown, and written in the format that it came in."""

import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_hub import DeblurHubError, pictures
from deblur_hub.config import MOST_MEGAPIXELS
from deblur_hub.errors import PictureError
from deblur_hub.metrics import blur_kind
from deblur_hub.pictures import Original, Strip
from deblur_hub.pictures.formats import format_of
from deblur_hub.pictures.suffixes import result_suffix
from deblur_hub.restoration.quality import require_strength, with_strength
from deblur_hub.restoration.tiles import Progress

from .choices import Choice, chosen, spoken
from .folders import make_folder, new_folder
from .line import Job
from .views import View, fit, make_view
from .zero_gpu import on_zero_gpu

MAX_MEGAPIXELS = MOST_MEGAPIXELS
LONG = 10.0  # seconds from which on a small preview comes first
PREVIEW_SECONDS = 0.4
SMALLEST_PREVIEW = 96  # pixels
LARGEST_KEPT = 40e6  # pixels of a result that is kept for another strength
RESTORED = "restored.npy"
AS_UPLOADED = "As uploaded"
FORMATS = {AS_UPLOADED: None, "PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WebP": ".webp"}


@dataclass(frozen=True)
class Request:
    """What a visitor asks for."""

    source: Path
    choice: str
    crispness: float = 0.0
    strength: float = 1.0
    file_format: str = AS_UPLOADED
    keep_place: bool = False  # where the photo was taken


@dataclass(frozen=True)
class Run:
    """What came of it, all of it in a folder that is deleted after an hour."""

    request: Request
    choice: Choice
    folder: Path
    file: Path  # the result at full size
    name: str
    size: tuple[int, int]  # width and height
    seconds: float
    notes: tuple[str, ...]
    view: View


@dataclass(frozen=True)
class Plan:
    """A photo whose header was read: its size and what it takes."""

    request: Request
    size: tuple[int, int]  # height and width
    choice: Choice

    @property
    def seconds(self) -> float:
        return self.choice.expected_seconds(self.size)


def plan(request: Request) -> Plan:
    """Reads the header alone, so that nobody stands in line for what is refused.

    Raises:
        DeblurHubError: if the file is no picture or too large, or an option is not known.
    """
    require_strength(request.strength)
    if request.file_format not in FORMATS:
        raise DeblurHubError(f"the format '{request.file_format}' is not known; take one of {', '.join(FORMATS)}")
    width, height = pictures.upright_size(request.source)
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise PictureError(
            f"{request.source.name}: {width}x{height} are {width * height / 1e6:.0f} megapixels, and this page takes "
            f"{MAX_MEGAPIXELS}; make it smaller, or use deblur-hub's command"
        )
    choice = chosen(request.choice, (height, width))
    if request.crispness and not choice.can_be_crisp:
        choice = chosen("fast", (height, width))
    return Plan(request, (height, width), choice)


def restored(plan: Plan, job: Job, *, closer: bool = True) -> Run:
    """Restores the photo of a plan; the preview and the share done go to the job.

    Args:
        closer: whether the view can be looked at closely, and the strength be changed later.

    Raises:
        DeblurHubError: if it cannot be read, restored or written.
        Cancelled: if nobody waits any more.
    """
    request = plan.request
    started = time.perf_counter()
    with new_folder() as folder:
        blurred, original = pictures.read(request.source, max_megapixels=MAX_MEGAPIXELS)
        if closer and plan.seconds > LONG:
            job.preview = previewed(blurred, original, plan)
        result = computed(plan, blurred, job)
        view = make_view([blurred, result], original, folder, closer=closer)
        file, notes = written(blurred, result, original, folder, request)
        if closer and result[0, 0].numel() <= LARGEST_KEPT:
            keep(result, original, folder)
    seconds = time.perf_counter() - started
    notes = (*original.notes, *notes, *slower_choices(plan), *expectations(blurred))
    return Run(request, plan.choice, folder, file, request.source.name, original.size, seconds, notes, view)


def restored_file(plan: Plan, job: Job) -> Path:
    """The download alone, for a program that looks at nothing; raises as `restored` does."""
    with new_folder() as folder:
        blurred, original = pictures.read(plan.request.source, max_megapixels=MAX_MEGAPIXELS)
        return written(blurred, computed(plan, blurred, job), original, folder, plan.request)[0]


def computed(plan: Plan, blurred: Tensor, job: Job) -> Tensor:
    begun = time.perf_counter()
    result = compute(plan.choice, plan.request.crispness, blurred, progress=job.report)
    plan.choice.learn(plan.size, time.perf_counter() - begun)
    return result


@on_zero_gpu
def compute(choice: Choice, crispness: float, blurred: Tensor, progress: Progress | None = None) -> Tensor:
    """The restored tensor, (P, 3, H, W) in [-1, 1]."""
    return choice.generator.with_crispness(crispness).restore(blurred, quality=choice.quality, progress=progress)


def previewed(blurred: Tensor, original: Original, plan: Plan) -> View:
    """A view of a copy so small that it is restored within a second; it stays if the run is cancelled."""
    times = plan.choice.generator.expected_seconds(plan.size)
    fastest = "fast" if "fast" in times else next(iter(times))
    share = min(1.0, PREVIEW_SECONDS / times[fastest]) ** 0.5
    small = fit(blurred, max(SMALLEST_PREVIEW, int(share * max(plan.size))))
    result = compute(replace(plan.choice, quality=fastest or None), 0.0, small)
    return make_view([small, result], original, make_folder(), size=original.size, closer=False)


def expectations(blurred: Tensor) -> tuple[str, ...]:
    """What somebody may expect of a photo that is not shaken."""
    match blur_kind(blurred[:1]).kind:
        case "sharp":
            return ("Most of this photo looks sharp already, so that little changes.",)
        case "defocus":
            return ("This photo may be out of focus rather than shaken, which these models hardly help.",)
    return ()


def slower_choices(plan: Plan) -> tuple[str, ...]:
    if plan.request.choice == plan.choice.key:
        return ()
    best = chosen("best", plan.size) if plan.choice.quality not in (None, "best") else None
    return (f"'Best' would take about {spoken(best.expected_seconds(plan.size))} here.",) if best else ()


def written(
    blurred: Tensor, result: Tensor, original: Original, folder: Path, request: Request
) -> tuple[Path, tuple[str, ...]]:
    """The download, in the asked format or the next that holds the picture, and what is to be said about it."""
    stripped: Strip | None = None if request.keep_place else "gps"
    metadata = original.metadata if stripped is None else original.metadata.without_position()
    original = replace(original, metadata=metadata)
    asked = FORMATS[request.file_format] or result_suffix(request.source.suffix.lower())
    suffix, reason = holding(original, asked)
    notes = [f"The download is {suffix[1:].upper()}, since {reason}."] if reason else []
    if left := metadata.left_out(format_of(Path(f"x{suffix}"))):
        notes.append(f"Left out of the download, as {suffix} has no place for it: {', '.join(left)}.")
    if original.pages > 1:
        notes.append(f"Only the first of {original.pages} pages; the command deblur-hub takes them all.")
    inside = folder / secrets.token_urlsafe(6)  # a new address each time, so that no browser shows an older one
    inside.mkdir()
    target = inside / f"{request.source.stem}-deblurred{suffix}"
    pictures.write(with_strength(blurred, result, request.strength), original, target)
    return target, tuple(notes)


def holding(original: Original, suffix: str) -> tuple[str, str]:
    """A suffix whose format holds the picture, and why it is not the one that was asked for."""
    reason = ""
    for tried in (suffix, ".png", ".tif"):
        try:
            pictures.require_target(original, Path(f"x{tried}"))
            return tried, reason
        except PictureError:
            reason = reason or (f"{suffix} cannot hold it" if suffix else "its name says no format")
    raise PictureError(f"{original.name}: no format here holds it; convert it to PNG or TIFF first")


def keep(result: Tensor, original: Original, folder: Path) -> None:
    """Keeps the samples for another strength: in 16 bits, or as they are where the picture has more."""
    if original.dtype.itemsize > 2:
        np.save(folder / RESTORED, result.numpy())
    else:
        np.save(folder / RESTORED, ((result + 1) * 32767.5).round_().clamp_(0, 65535).to(torch.uint16).numpy())


def rewritten(run: Run, request: Request) -> tuple[Path, tuple[str, ...]]:
    """The download at another strength or in another format, without a second run.

    Raises:
        DeblurHubError: if the hour is over, the picture was too large to be kept, or it cannot be written.
    """
    kept = run.folder / RESTORED
    if not kept.is_file() or not request.source.is_file():
        raise DeblurHubError("this result is not kept any more; press Deblur to make it again")
    samples = np.load(kept)
    result = torch.from_numpy(samples)
    if samples.dtype == np.uint16:
        result = result.float() / 32767.5 - 1
    blurred, original = pictures.read(request.source, max_megapixels=MAX_MEGAPIXELS)
    return written(blurred, result, original, run.folder, request)
