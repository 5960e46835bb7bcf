"""Where crops come from: pairs, averages of high-speed frames, sharp photographs under synthetic blur.

A source's `paths` are all its pictures. Its `draw` says where in them a sample of one of its `items` lies and how it is
blurred, as a pure function of the generator that it is given; `cut` makes pictures of that.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_hub import blur
from deblur_hub.datasets import Pair, picture_size
from deblur_hub.errors import DatasetError

from ..recipe import Blur, Frames
from .cache import PictureCache
from .device_pictures import CropSpec, Window, to_values
from .synthesis import KERNEL_ROOM, PendingBlur, Place, check_blur, draw_exposure

Crop = tuple[Tensor, Tensor]  # blurry and sharp, (3, crop, crop) float32 in [-1, 1]


class PairSource:
    """Blurry pictures that have a sharp partner."""

    def __init__(self, pairs: list[Pair], candidates: int, crop: int, cache: PictureCache) -> None:
        self.items, self.candidates, self.cache = pairs, candidates, cache
        self.paths = [path for pair in pairs for path in (pair.blurred, pair.sharp)]
        for pair in pairs:
            require_size(pair.blurred, cache.resize, crop, crop)

    def draw(self, item: int, size: int, rng: np.random.Generator) -> CropSpec:
        pair = self.items[item]
        corner = detailed_corner(self.cache(pair.sharp), size, rng, self.candidates)
        return CropSpec((pair.blurred, pair.sharp), Window(*corner, size, *draw_symmetry(rng)))


class FrameSource:
    """Averages of consecutive frames; the middle one is the sharp partner (Nah et al., CVPR 2017, section 2)."""

    def __init__(
        self, runs: list[list[Path]], options: Frames, candidates: int, crop: int, cache: PictureCache
    ) -> None:
        self.items = [(run, first) for run in runs for first in range(len(run) - options.most + 1)]
        self.options, self.candidates, self.cache = options, candidates, cache
        self.paths = [path for run in runs for path in run]
        for run in runs:
            first = require_size(run[0], cache.resize, crop, crop)
            for path in run:
                if require_size(path, cache.resize, crop, crop) != first:
                    raise DatasetError(f"{path}: is of another size than {run[0].name}; frames of a run must have one")

    def draw(self, item: int, size: int, rng: np.random.Generator) -> CropSpec:
        run, first = self.items[item]
        # An odd number of frames has one in the middle.
        count = int(rng.choice(np.arange(self.options.least | 1, self.options.most + 1, 2)))
        paths = run[first : first + count]
        gamma = float(rng.choice(self.options.gammas))
        corner = detailed_corner(self.cache(paths[count // 2]), size, rng, self.candidates)
        return CropSpec(tuple(paths), Window(*corner, size, *draw_symmetry(rng)), gamma=gamma)


class SharpSource:
    """Sharp photographs under synthetic blur."""

    def __init__(self, paths: list[Path], options: Blur, crop: int, cache: PictureCache) -> None:
        self.items = self.paths = paths
        self.options, self.cache = options, cache
        if paths:
            check_blur(options)
        least = crop + 2 * math.ceil(options.shortest + KERNEL_ROOM / 2)
        # Pixels around a crop of each picture that its blur may draw from.
        self.room = [(min(require_size(path, cache.resize, least, crop)) - crop) // 2 for path in paths]

    def draw(self, item: int, size: int, rng: np.random.Generator) -> CropSpec:
        height, width = self.cache(self.paths[item]).shape[:2]
        free = np.array([height, width]) - size
        at = rng.uniform(size=2)
        place = Place(size, self.room[item], frame=(width, height), centre=tuple(((at - 0.5) * free)[::-1]))
        exposure, margin = draw_exposure(self.options, rng, place)
        top, left = (int(part) for part in at * (free - 2 * margin + 1))
        window = Window(top, left, size + 2 * margin, *draw_symmetry(rng))
        return CropSpec((self.paths[item],), window, exposure=exposure)


def cut(spec: CropSpec, cache: PictureCache, size: int) -> Crop | PendingBlur:
    """A sample's pictures, (size, size) pixels of each; of a photograph, what its exposure takes to blur it."""
    top, left, side, *symmetry = spec.window
    pictures = [cache(path)[top : top + side, left : left + side] for path in spec.pictures]
    if spec.exposure:
        picture = torch.from_numpy(np.array(pictures[0])).permute(2, 0, 1)
        return PendingBlur(turned(picture, *symmetry).contiguous(), spec.exposure, size)
    if spec.gamma:
        # To 8 bits like a file: a network must not learn from a precision that real pictures lack.
        blurred = np.floor(blur.average_frames(np.stack(pictures), gamma=spec.gamma) * 255 + 0.5).astype(np.uint8)
        pictures = [blurred, pictures[len(pictures) // 2]]
    return tuple(turned(torch.stack([as_values(picture) for picture in pictures]), *symmetry).contiguous())


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


def detailed_corner(sharp: np.ndarray, size: int, rng: np.random.Generator, candidates: int) -> tuple[int, int]:
    """(top, left) of the most detailed of a few random windows: walls and skies teach a deblurrer nothing."""
    height, width = sharp.shape[:2]
    corners = [(int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))) for _ in range(candidates)]
    if candidates == 1:
        return corners[0]
    return max(corners, key=lambda corner: detail(sharp[corner[0] :, corner[1] :][:size, :size]))


def detail(picture: np.ndarray) -> float:
    """Mean absolute step between neighbours, of the green channel."""
    green = picture[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def as_values(picture: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    return to_values(torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def draw_symmetry(rng: np.random.Generator) -> tuple[bool, int]:
    """One of the eight of a square, for `turned`: mirrored or not, and the number of quarter turns."""
    return bool(rng.uniform() < 0.5), int(rng.integers(4))


def turned(picture: Tensor, flip: bool, turns: int) -> Tensor:
    """(..., H, W), mirrored or not and then turned."""
    return (picture.flip(-1) if flip else picture).rot90(turns, (-2, -1))
