"""Where crops come from: pairs, averages of high-speed frames, sharp photographs under synthetic blur.

A source draws where in its pictures a sample lies and how it is blurred (`place`), as a pure function of the generator
that it is given. From that it makes the sample itself (`crop`), or a `CropSpec` for the training device (`spec`).
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_hub import blur
from deblur_hub.blur import Exposure
from deblur_hub.datasets import Pair, picture_size
from deblur_hub.errors import DatasetError

from ..recipe import Blur, Frames
from .cache import PictureCache
from .device_pictures import CropSpec, Window
from .synthesis import KERNEL_ROOM, PendingBlur, apply_blur, check_blur, collate, draw_exposure

Crop = tuple[Tensor, Tensor]  # blurry and sharp, (3, crop, crop) float32 in [-1, 1]
Slices = tuple[slice, slice]
Symmetry = tuple[bool, int]  # one of the eight of the square: mirrored or not, then turned by quarters
Numbers = dict[Path, int]  # of the pictures that the training device holds


class PairSource:
    """Blurry pictures that have a sharp partner."""

    def __init__(self, pairs: list[Pair], candidates: int, crop: int, cache: PictureCache) -> None:
        self.pairs, self.candidates, self.cache = pairs, candidates, cache
        for pair in pairs:
            require_size(pair.blurred, cache.resize, crop, crop)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def paths(self) -> list[Path]:
        return [path for pair in self.pairs for path in (pair.blurred, pair.sharp)]

    def place(self, item: int, size: int, rng: np.random.Generator) -> tuple[Pair, Slices]:
        pair = self.pairs[item]
        return pair, detailed_window(self.cache(pair.sharp), size, rng, self.candidates)

    def spec(self, item: int, size: int, rng: np.random.Generator, numbers: Numbers) -> CropSpec:
        pair, window = self.place(item, size, rng)
        return CropSpec((numbers[pair.blurred], numbers[pair.sharp]), Window.of(window, *draw_symmetry(rng)))

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        pair, window = self.place(item, size, rng)
        blurred, sharp = (self.cache(path)[window] for path in (pair.blurred, pair.sharp))
        return augment(as_values(blurred), as_values(sharp), rng)


class FrameSource:
    """Averages of consecutive frames; the middle one is the sharp partner (Nah et al., CVPR 2017, section 2)."""

    def __init__(
        self, runs: list[list[Path]], options: Frames, candidates: int, crop: int, cache: PictureCache
    ) -> None:
        self.starts = [(run, first) for run in range(len(runs)) for first in range(len(runs[run]) - options.most + 1)]
        self.runs, self.options, self.candidates, self.cache = runs, options, candidates, cache
        for run in runs:
            first = require_size(run[0], cache.resize, crop, crop)
            for path in run:
                if require_size(path, cache.resize, crop, crop) != first:
                    raise DatasetError(f"{path}: is of another size than {run[0].name}; frames of a run must have one")

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def paths(self) -> list[Path]:
        return [path for run in self.runs for path in run]

    def place(self, item: int, size: int, rng: np.random.Generator) -> tuple[list[Path], float, Slices]:
        run, first = self.starts[item]
        # An odd number of frames has one in the middle.
        count = int(rng.choice(np.arange(self.options.least | 1, self.options.most + 1, 2)))
        paths = self.runs[run][first : first + count]
        gamma = float(rng.choice(self.options.gammas))
        return paths, gamma, detailed_window(self.cache(paths[count // 2]), size, rng, self.candidates)

    def spec(self, item: int, size: int, rng: np.random.Generator, numbers: Numbers) -> CropSpec:
        paths, gamma, window = self.place(item, size, rng)
        return CropSpec(tuple(numbers[path] for path in paths), Window.of(window, *draw_symmetry(rng)), gamma=gamma)

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        paths, gamma, window = self.place(item, size, rng)
        frames = np.stack([self.cache(path)[window] for path in paths])
        # To 8 bits like a file: a network must not learn from a precision that real pictures lack.
        blurred = np.floor(blur.average_frames(frames, gamma=gamma) * 255 + 0.5).astype(np.uint8)
        return augment(as_values(blurred), as_values(frames[len(paths) // 2]), rng)


class SharpSource:
    """Sharp photographs under synthetic blur."""

    def __init__(self, paths: list[Path], options: Blur, crop: int, cache: PictureCache) -> None:
        self.paths, self.options, self.cache = paths, options, cache
        if paths:
            check_blur(options)
        least = crop + 2 * math.ceil(options.shortest + KERNEL_ROOM / 2)
        # Pixels around a crop of each picture that its blur may draw from.
        self.room = [(min(require_size(path, cache.resize, least, crop)) - crop) // 2 for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def place(self, item: int, size: int, rng: np.random.Generator) -> tuple[Exposure, Slices, Symmetry]:
        """The exposure of a photograph, the window that it draws from, and how that is turned."""
        height, width = self.cache(self.paths[item]).shape[:2]
        free = np.array([height, width]) - size
        at = rng.uniform(size=2)
        exposure, margin = draw_exposure(
            self.options,
            rng,
            crop=size,
            room=self.room[item],
            frame=(width, height),
            place=tuple(((at - 0.5) * free)[::-1]),
        )
        top, left = (int(part) for part in at * (free - 2 * margin + 1))
        side = size + 2 * margin
        return exposure, (slice(top, top + side), slice(left, left + side)), draw_symmetry(rng)

    def spec(self, item: int, size: int, rng: np.random.Generator, numbers: Numbers) -> CropSpec:
        exposure, window, symmetry = self.place(item, size, rng)
        return CropSpec((numbers[self.paths[item]],), Window.of(window, *symmetry), exposure=exposure)

    def draw(self, item: int, size: int, rng: np.random.Generator) -> PendingBlur:
        """A window of the photograph, turned at random, and the exposure that will blur it."""
        exposure, window, symmetry = self.place(item, size, rng)
        picture = torch.from_numpy(np.array(self.cache(self.paths[item])[window])).permute(2, 0, 1)
        return PendingBlur(turned(picture, *symmetry).contiguous(), exposure, size)

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        return tuple(picture[0] for picture in apply_blur(collate([self.draw(item, size, rng)]), "cpu"))


def require_size(path: Path, resize: tuple[int, ...], least: int, crop: int) -> tuple[int, ...]:
    """(width, height) after resizing; raises `DatasetError` if a side is shorter than `least`."""
    size = resize or picture_size(path)
    if min(size) < least:
        raise DatasetError(
            f"{path}: {size[0]}x{size[1]} pixels are too few for a crop of {crop}"
            f"{f' with its blur ({least} are needed)' if least > crop else ''}; "
            "take it out or set a smaller data.crop, or data.pool_side of a pool"
        )
    return size


def random_window(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> tuple[slice, slice]:
    height, width = shape[:2]
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    return slice(top, top + size), slice(left, left + size)


def detailed_window(sharp: np.ndarray, size: int, rng: np.random.Generator, candidates: int) -> tuple[slice, slice]:
    """The most detailed of a few random windows: flat walls and skies teach a deblurrer nothing."""
    windows = [random_window(sharp.shape, size, rng) for _ in range(candidates)]
    return max(windows, key=lambda window: detail(sharp[window])) if candidates > 1 else windows[0]


def detail(picture: np.ndarray) -> float:
    """Mean absolute step between neighbours, of the green channel."""
    green = picture[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def as_values(picture: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div_(127.5).sub_(1)


def draw_symmetry(rng: np.random.Generator) -> Symmetry:
    return bool(rng.uniform() < 0.5), int(rng.integers(4))


def turned(picture: Tensor, flip: bool, turns: int) -> Tensor:
    """(..., H, W), mirrored or not and then turned."""
    return (picture.flip(-1) if flip else picture).rot90(turns, (-2, -1))


def augment(blurred: Tensor, sharp: Tensor, rng: np.random.Generator) -> Crop:
    """Both under one random symmetry."""
    both = turned(torch.stack([blurred, sharp]), *draw_symmetry(rng)).contiguous()
    return both[0], both[1]
