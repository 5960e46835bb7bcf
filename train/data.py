"""Training samples: every one a pure function of (seed, position), whatever the workers, processes or resumes."""

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from deblur_hub import blur
from deblur_hub.datasets import SHARP, Pair, find_pairs, folders_below, picture_size, pictures_in
from deblur_hub.errors import DatasetError

from .recipe import Blur, Data, Frames, Validation

KERNEL_ROOM = 6  # pixels that a blur kernel's square needs beside twice its path's length
Crop = tuple[Tensor, Tensor]  # blurred and sharp, (3, crop, crop) float32 in [-1, 1]


@dataclass(frozen=True)
class Material:
    """What a data folder holds: pairs to train on, pairs held out, runs of high-speed frames, sharp photographs."""

    pairs: list[Pair]
    held_out: list[Pair]
    frames: list[list[Path]]
    sharp: list[Path]


def find_material(root: Path, data: Data, validation: Validation) -> Material:
    """Sorts what lies below `root`: see `train/__main__.py` for the layouts.

    Raises:
        DatasetError: if a pair is broken, or there is nothing to train on.
    """
    pairs = find_pairs(root, blur=data.blur_folder)
    held_out = [pair for pair in pairs if Path(pair.scene).name in validation.scenes]
    if not held_out and len(pairs) > 1 and validation.pairs:
        # Evenly spread, and never more than a tenth, so that a small set keeps something to train on.
        count = min(validation.pairs, max(1, len(pairs) // 10))
        held_out = [pairs[i * len(pairs) // count] for i in range(count)]
    frames, sharp = [], []
    for folder in folders_below(root):
        relative = folder.relative_to(root).parts
        if set(validation.scenes) & set(relative):
            continue
        if any(part.endswith("fps") for part in relative):
            frames.append(pictures_in(folder))
        elif SHARP in relative and not (folder.parent / data.blur_folder).is_dir():
            sharp += pictures_in(folder)
    kept_back = set(held_out)
    material = Material(
        [pair for pair in pairs if pair not in kept_back],
        held_out,
        [run for run in frames if len(run) >= data.frames.most],
        sharp,
    )
    if not (material.pairs or material.frames or material.sharp):
        raise DatasetError(
            f"{root}: nothing to train on; it needs folders '{data.blur_folder}' and '{SHARP}' with "
            f"partners of one name, a folder of frames whose name ends in 'fps', or photographs in "
            f"'{SHARP}'"
        )
    return material


class PictureCache:
    """Decoded pictures as memory-mapped arrays in a folder: each is decoded once for all workers, runs, processes."""

    def __init__(self, folder: Path, *, resize: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.resize = resize

    def __call__(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, read-only.

        Raises:
            DatasetError: if the picture cannot be decoded, or the cache cannot be written.
        """
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{self.resize}"
        cached = self.folder / f"{hashlib.sha1(key.encode()).hexdigest()}.npy"
        if not cached.exists():
            aside = cached.with_suffix(f".{os.getpid()}.part")
            picture = decode(path, self.resize)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with aside.open("wb") as file:
                    np.save(file, picture)
                aside.replace(cached)
            except OSError as reason:
                if self.folder.is_dir():
                    aside.unlink(missing_ok=True)
                raise DatasetError(
                    f"{cached}: the cache of decoded pictures cannot be written "
                    f"({reason.strerror or reason}); free some space or name another folder with "
                    "--cache"
                ) from reason
        return np.load(cached, mmap_mode="r")


def decode(path: Path, resize: tuple[int, ...]) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
            return np.asarray(picture.resize(resize, Image.Resampling.BICUBIC) if resize else picture)
    except Exception as reason:
        raise DatasetError(f"{path}: cannot be decoded ({reason}); replace it or take it out") from reason


class PairSource:
    """Blurred pictures that have a sharp partner."""

    def __init__(self, pairs: list[Pair], candidates: int, crop: int, cache: PictureCache) -> None:
        self.pairs, self.candidates, self.cache = pairs, candidates, cache
        for pair in pairs:
            require_size(pair.blurred, cache.resize, crop, crop)

    def __len__(self) -> int:
        return len(self.pairs)

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        pair = self.pairs[item]
        blurred, sharp = self.cache(pair.blurred), self.cache(pair.sharp)
        window = detailed_window(sharp, size, rng, self.candidates)
        return as_values(blurred[window]), as_values(sharp[window])


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

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        run, first = self.starts[item]
        # An odd number of frames has one in the middle.
        count = int(rng.choice(np.arange(self.options.least | 1, self.options.most + 1, 2)))
        paths = self.runs[run][first : first + count]
        gamma = float(rng.choice(self.options.gammas))
        window = detailed_window(self.cache(paths[count // 2]), size, rng, self.candidates)
        frames = np.stack([self.cache(path)[window] for path in paths])
        # To 8 bits like a file: a network must not learn from a precision that real pictures lack.
        blurred = np.floor(blur.average_frames(frames, gamma=gamma) * 255 + 0.5).astype(np.uint8)
        return as_values(blurred), as_values(frames[count // 2])


class SharpSource:
    """Sharp photographs under synthetic camera shake."""

    def __init__(self, paths: list[Path], options: Blur, crop: int, cache: PictureCache) -> None:
        self.paths, self.options, self.cache = paths, options, cache
        # The longest path whose kernel still fits around a crop of each picture.
        least = math.ceil(crop + 2 * options.shortest + KERNEL_ROOM)
        self.room = [(min(require_size(path, cache.resize, least, crop)) - crop - KERNEL_ROOM) / 2 for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        options = self.options
        kernel = torch.ones(1, 1)
        if rng.uniform() >= options.none:
            length = rng.uniform(options.shortest, min(options.longest, self.room[item]))
            kernel = blur.trajectory_kernel(blur.shake_trajectory(rng, length=length))
        radius = kernel.shape[-1] // 2
        picture = self.cache(self.paths[item])
        window = random_window(picture.shape, size + 2 * radius, rng)
        values = (as_values(picture[window]) + 1) / 2
        blurred = blur.to_display(blur.convolve(blur.to_linear(values), kernel)) if radius else values.clone()
        if rng.uniform() < options.noise:
            blurred = blur.add_sensor_noise(
                blurred, rng, shot=rng.uniform(0, options.most_shot_noise), read=rng.uniform(0, options.most_read_noise)
            )
        sharp = values[:, radius : radius + size, radius : radius + size]
        return (blurred * 255 + 0.5).floor().div(127.5) - 1, sharp * 2 - 1


class TrainingSet(Dataset):
    """Positions -> crops. Position p is sample p % epoch_length of epoch p // epoch_length.

    Within an epoch each source is drawn from by its weight; a source gives all its items once before any comes again.
    """

    def __init__(self, material: Material, data: Data, *, seed: int, cache: PictureCache) -> None:
        mix = data.mix
        # What the recipe does not draw from is not looked at either: its pictures may be too small.
        sources = [
            (PairSource(material.pairs if mix.pairs else [], data.candidates, data.crop, cache), mix.pairs),
            (
                FrameSource(material.frames if mix.frames else [], data.frames, data.candidates, data.crop, cache),
                mix.frames,
            ),
            (SharpSource(material.sharp if mix.sharp else [], data.blur, data.crop, cache), mix.sharp),
        ]
        self.sources = [source for source, _ in sources if len(source)]
        weights = np.array([weight for source, weight in sources if len(source)])
        if not self.sources:
            raise DatasetError(
                "none of the kinds of pictures that the recipe draws from is in the data folder; "
                "set data.mix.pairs, data.mix.frames or data.mix.sharp"
            )
        self.length = data.epoch_length or max(len(source) for source in self.sources)
        shares = np.floor(self.length * weights / weights.sum()).astype(int)
        shares[0] += self.length - shares.sum()
        self.shares, self.size, self.seed = shares, data.crop, seed

    def __len__(self) -> int:
        return self.length

    @lru_cache(maxsize=2)  # noqa: B019 - one training set lives as long as its process
    def plan(self, epoch: int) -> np.ndarray:
        """(length, 2): the source and the item of each sample of an epoch."""
        rows = []
        for number, (source, share) in enumerate(zip(self.sources, self.shares, strict=True)):
            first = epoch * share
            for place in range(first, first + share):
                order = self.permutation(number, place // len(source), len(source))
                rows.append((number, order[place % len(source)]))
        return np.random.default_rng([self.seed, 1, epoch]).permutation(np.array(rows))

    @lru_cache(maxsize=16)  # noqa: B019
    def permutation(self, source: int, lap: int, length: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 2, source, lap]).permutation(length)

    def __getitem__(self, position: int) -> Crop:
        epoch, index = divmod(position, self.length)
        source, item = self.plan(epoch)[index]
        rng = np.random.default_rng([self.seed, 3, epoch, index])
        blurred, sharp = self.sources[source].crop(int(item), self.size, rng)
        return augment(blurred, sharp, rng)


class PositionSampler(Sampler[list[int]]):
    """Batches of positions for one process: each global batch is dealt out in equal parts, in order of rank."""

    def __init__(self, *, first_batch: int, batches: int, batch_size: int, rank: int, world: int) -> None:
        self.first_batch, self.batches, self.batch_size = first_batch, batches, batch_size
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.batches - self.first_batch

    def __iter__(self) -> Iterator[list[int]]:
        part = self.batch_size // self.world
        for batch in range(self.first_batch, self.batches):
            first = batch * self.batch_size + self.rank * part
            yield list(range(first, first + part))


def require_size(path: Path, resize: tuple[int, ...], least: int, crop: int) -> tuple[int, ...]:
    """(width, height) as it will be trained on; raises `DatasetError` where a side is shorter than `least`."""
    size = resize or picture_size(path)
    if min(size) < least:
        raise DatasetError(
            f"{path}: {size[0]}x{size[1]} pixels are too few for a crop of {crop}"
            f"{f' with its blur ({least} are needed)' if least > crop else ''}; "
            "take it out or set a smaller data.crop"
        )
    return size


def random_window(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> tuple[slice, slice]:
    height, width = shape[:2]
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    return slice(top, top + size), slice(left, left + size)


def detailed_window(sharp: np.ndarray, size: int, rng: np.random.Generator, candidates: int) -> tuple[slice, slice]:
    """Of a few random windows the one with the most detail: flat walls and skies teach a deblurrer nothing."""
    windows = [random_window(sharp.shape, size, rng) for _ in range(candidates)]
    return max(windows, key=lambda window: detail(sharp[window])) if candidates > 1 else windows[0]


def detail(picture: np.ndarray) -> float:
    """Mean absolute step between neighbours, of the green channel."""
    green = picture[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def as_values(picture: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div_(127.5).sub_(1)


def augment(blurred: Tensor, sharp: Tensor, rng: np.random.Generator) -> Crop:
    """One of the eight symmetries of the square, the same for both."""
    both = torch.stack([blurred, sharp])
    if rng.uniform() < 0.5:
        both = both.flip(-1)
    both = both.rot90(int(rng.integers(4)), (-2, -1)).contiguous()
    return both[0], both[1]
