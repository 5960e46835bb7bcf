"""What the browser shows of a picture: files that any browser reads, beside the full-size result."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from deblur_hub.pictures import Original

FITTING = 2000  # pixels of the longer side; more than a window shows, little enough for a slow line
LOSSLESS = 1_500_000  # pixels up to which a view is a PNG
LARGEST = 40_000_000  # pixels of a full-size view; telephones show no more
SPOT = (420, 240)  # width and height of the magnifiers, in pixels
GRAIN = 8  # pixels: changes are averaged over so many before the most changed region is looked for


@dataclass(frozen=True)
class Spot:
    """The most changed region, and files of both sides of it."""

    x: int
    y: int
    width: int
    height: int
    before: str
    after: str


@dataclass(frozen=True)
class View:
    """Both sides of a slider. The full-size ones are loaded when somebody looks closer than the fitting ones reach."""

    width: int
    height: int
    before: str
    after: str
    full_before: str = ""
    full_after: str = ""
    labels: tuple[str, str] = ("Blurry", "Restored")
    spot: Spot | None = None
    start: float = 0.5  # of the width, where the slider stands at first
    preview: bool = False

    def as_data(self) -> str:
        """JSON for the viewer of viewer.js."""
        return json.dumps(asdict(self))

    def at(self, start: float) -> "View":
        return replace(self, start=start)


def make_view(
    sides: Sequence[Tensor],
    original: Original,
    folder: Path,
    *,
    labels: tuple[str, str] = ("Blurry", "Restored"),
    size: tuple[int, int] | None = None,
    closer: bool = True,
) -> View:
    """Writes the files of a view of two pictures (P, 3, H, W) in [-1, 1].

    Args:
        size: width and height that the view stands for, if it is of a smaller copy.
        closer: whether full-size files and magnifiers are made as well.
    """
    before, after = sides
    height, width = before.shape[-2:]
    fitting = [write_view(fit(side, FITTING), original, folder / name) for side, name in zip(sides, "ba", strict=True)]
    view = View(*(size or (width, height)), *fitting, labels=labels, preview=size is not None)
    if not closer:
        return view
    if max(width, height) > FITTING:
        most = int(max(width, height) * min(1.0, (LARGEST / (width * height)) ** 0.5))
        full = [
            write_view(fit(side, most), original, folder / f"{name}-full")
            for side, name in zip(sides, "ba", strict=True)
        ]
        view = replace(view, full_before=full[0], full_after=full[1])
    x, y, wide, high = most_changed(before, after)
    cuts = [side[..., y : y + high, x : x + wide] for side in sides]
    files = [
        write_view(cut, original, folder / f"{name}-spot", box=(x, y, x + wide, y + high))
        for cut, name in zip(cuts, "ba", strict=True)
    ]
    return replace(view, spot=Spot(x, y, wide, high, *files))


def fit(picture: Tensor, longest: int) -> Tensor:
    """Reduced so that no side is longer."""
    height, width = picture.shape[-2:]
    shrink = max(height, width) / longest
    if shrink <= 1:
        return picture
    return F.interpolate(picture, size=(max(1, round(height / shrink)), max(1, round(width / shrink))), mode="area")


def write_view(
    picture: Tensor, original: Original, target: Path, *, box: tuple[int, int, int, int] | None = None
) -> str:
    """Writes (P, 3, H, W) in [-1, 1] as an 8-bit file that browsers show in its colours; its address on the page.

    Args:
        target: without a suffix.
        box: the part of the original that it is, for its alpha; None for all of it.
    """
    colours = picture[0]
    if original.channels == "CMYK":
        colours = (colours + 1) * (picture[1] + 1) / 2 - 1
    pixels = ((colours + 1) * 127.5).round_().clamp_(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels)
    if original.channels.endswith("A") and isinstance(original.kept, Image.Image):
        alpha = original.kept.convert("RGBA").getchannel("A")
        image.putalpha(alpha.crop(box) if box else alpha.resize(image.size, Image.Resampling.BOX))
    profile = original.metadata.icc_profile if original.channels.startswith("RGB") else None
    if image.mode == "RGBA" or image.width * image.height <= LOSSLESS:
        path = target.with_suffix(".png")
        image.save(path, compress_level=3, icc_profile=profile)
    else:
        path = target.with_suffix(".jpg")
        image.save(path, quality=94, subsampling=0, icc_profile=profile)
    return address(path)


def address(path: Path) -> str:
    """Of a file that the page may show, below the page's own address."""
    return f"gradio_api/file={quote(str(path))}"


def most_changed(before: Tensor, after: Tensor) -> tuple[int, int, int, int]:
    """x, y, width and height of the region of `SPOT`'s size, or less, in which two pictures differ most."""
    height, width = before.shape[-2:]
    wide, high = min(SPOT[0], width), min(SPOT[1], height)
    if min(height, width) < 2 * GRAIN or (wide, high) == (width, height):
        return (width - wide) // 2, (height - high) // 2, wide, high
    rows = [  # a strip at a time: the difference of a large picture is not needed as a whole
        (after[..., top : top + GRAIN, :] - before[..., top : top + GRAIN, :]).abs().mean((0, 1, 2))
        for top in range(0, height - GRAIN + 1, GRAIN)
    ]
    grid = F.avg_pool1d(torch.stack(rows), GRAIN)
    window = (max(1, min(high // GRAIN, grid.shape[-2])), max(1, min(wide // GRAIN, grid.shape[-1])))
    means = F.avg_pool2d(grid[None], window, stride=1)[0]
    place = int(means.argmax())
    row, column = divmod(place, means.shape[-1])
    return min(column * GRAIN, width - wide), min(row * GRAIN, height - high), wide, high
