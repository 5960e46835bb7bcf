"""Training samples: every one a pure function of (seed, position), whatever the workers, processes or resumes."""

import hashlib
import math
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from deblur_hub import blur
from deblur_hub.datasets import Pair, count_notes, find_pairs, folders_below, picture_size, pictures_in
from deblur_hub.errors import DatasetError

from .recipe import Blur, Data, Frames, RecipeError, Validation
from .synthesis import KERNEL_ROOM, Undeveloped, check_blur, collate, develop, draw_exposure

DISK_RESERVE = 2 * 2**30  # bytes that the cache leaves to checkpoints and others
ALL_FRAMES = "GOPRO_Large_all"  # as the frames that GoPro was averaged from unpack: <this>/train/<scene>/000001.png
Crop = tuple[Tensor, Tensor]  # blurred and sharp, (3, crop, crop) float32 in [-1, 1]


@dataclass(frozen=True)
class Material:
    """What a data folder holds: pairs to train on, pairs held out, runs of high-speed frames, sharp photographs.

    `notes` are sentences about it that a user should read.
    """

    pairs: list[Pair]
    held_out: list[Pair]
    frames: list[list[Path]]
    sharp: list[Path]
    notes: tuple[str, ...] = ()


def find_material(root: Path, data: Data, validation: Validation) -> Material:
    """Sorts what lies below `root`: see `train/__main__.py` for the layouts.

    What the layout, or a folder of the name, gives as test or validation part is not trained on, unless it is the root
    itself. It is held out only where `validation.scenes` names it, for whoever chooses a model by the test set has no
    test set.

    Raises:
        DatasetError: if a pair is broken, or there is nothing to train on.
    """
    pairs = find_pairs(root, blur=data.blur_folder, sharp=data.sharp_folder)
    scenes, kept_apart = set(validation.scenes), {"test", "val"} - {root.name}
    held_out = [pair for pair in pairs if scenes & set(Path(pair.scene).parts)]
    kept_back = set(held_out)
    apart = [pair for pair in pairs if pair not in kept_back and pair.split in kept_apart]
    kept_back |= set(apart)
    trained = [pair for pair in pairs if pair not in kept_back]
    if not held_out and len(trained) > 1 and validation.pairs:
        # Evenly spread, and never more than a tenth, so that a small set keeps something to train on.
        count = min(validation.pairs, max(1, len(trained) // 10))
        held_out = [trained[i * len(trained) // count] for i in range(count)]
        trained = [pair for pair in trained if pair not in set(held_out)]
    partners = {path for pair in pairs for path in (pair.blurred, pair.sharp)}
    frames, sharp = find_singles(root, partners, data, leave=scenes | kept_apart)
    notes = count_notes(pairs)
    if apart:
        splits = " and ".join(repr(split) for split in sorted({pair.split for pair in apart}))
        notes.append(f"{len(apart)} pairs of {splits} are not trained on")
    if not (trained or frames or sharp):
        left = f" ({notes[-1]}; give that folder itself if you must)" if apart else ""
        raise DatasetError(
            f"{root}: nothing to train on{left}; it needs folders '{data.blur_folder}' and '{data.sharp_folder}' with "
            f"partners of one name, a folder of frames whose name ends in 'fps', or photographs in "
            f"'{data.sharp_folder}' or in itself"
        )
    return Material(trained, held_out, frames, sharp, tuple(notes))


def find_singles(
    root: Path, partners: set[Path], data: Data, *, leave: set[str]
) -> tuple[list[list[Path]], list[Path]]:
    """Runs of frames, and sharp photographs that are no partners; nothing from below folders whose names are left."""
    frames, sharp = [], []
    for folder in folders_below(root):
        below = folder.relative_to(root).parts
        if leave & set(below):
            continue
        pictures = [path for path in pictures_in(folder) if path not in partners]
        if any(part.endswith("fps") or part == ALL_FRAMES for part in (root.name, *below)):
            frames.append(pictures)
        elif data.sharp_folder in (root.name, *below) or not (partners or below):
            sharp += pictures
    return [run for run in frames if len(run) >= data.frames.most], sharp


class PictureCache:
    """Decoded pictures as memory-mapped arrays in a folder: each is decoded once for all workers, runs, processes.

    Each is a `.npy` file that is put in place whole, so that any number of processes may build the cache at once, and
    a kill leaves none that is cut short. Where the disk has no room to spare, pictures are decoded again each time.
    """

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
            aside = cached.with_suffix(f".{secrets.token_hex(8)}.part")
            picture = decode(path, self.resize)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(self.folder).free < picture.nbytes + DISK_RESERVE:
                    warnings.warn(
                        f"{self.folder}: has under {DISK_RESERVE >> 30} GiB to spare, so that pictures are decoded "
                        "again and again; free some space or name another folder with --cache",
                        stacklevel=2,
                    )
                    return picture
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

    def draw(self, item: int, size: int, rng: np.random.Generator) -> Undeveloped:
        """A window of the photograph, turned at random, and the exposure that it waits for."""
        picture = self.cache(self.paths[item])
        free = np.array(picture.shape[:2]) - size
        at = rng.uniform(size=2)
        exposure, margin = draw_exposure(
            self.options,
            rng,
            crop=size,
            room=self.room[item],
            frame=picture.shape[1::-1],
            place=tuple(((at - 0.5) * free)[::-1]),
        )
        top, left = (int(part) for part in at * (free - 2 * margin + 1))
        side = size + 2 * margin
        window = torch.from_numpy(np.array(picture[top : top + side, left : left + side])).permute(2, 0, 1)
        return Undeveloped(symmetry(rng)(window).contiguous(), exposure, size)

    def crop(self, item: int, size: int, rng: np.random.Generator) -> Crop:
        return tuple(picture[0] for picture in develop(collate([self.draw(item, size, rng)]), "cpu"))


class TrainingSet(Dataset):
    """Positions -> crops. Position p is sample p % epoch_length of epoch p // epoch_length.

    Within an epoch each source is drawn from by its weight; a source gives all its items once before any comes again.

    Args:
        on_device: leave synthetic blur to the training device; batches must then pass through `synthesis.collate`, and
            on the device through `synthesis.develop`.
    """

    def __init__(
        self, material: Material, data: Data, *, seed: int, cache: PictureCache, on_device: bool = False
    ) -> None:
        mix = data.mix
        # What the recipe does not draw from is not looked at either: its pictures may be too small.
        sets = by_set(material.pairs, data.sets) if mix.pairs else []
        sources = [
            *((PairSource(pairs, data.candidates, data.crop, cache), mix.pairs * part) for pairs, part in sets),
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
        self.shares, self.size, self.seed, self.on_device = shares, data.crop, seed, on_device

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

    def __getitem__(self, position: int) -> Crop | Undeveloped:
        epoch, index = divmod(position, self.length)
        source, item = self.plan(epoch)[index]
        rng = np.random.default_rng([self.seed, 3, epoch, index])
        source = self.sources[source]
        if isinstance(source, SharpSource):
            return (source.draw if self.on_device else source.crop)(int(item), self.size, rng)
        return augment(*source.crop(int(item), self.size, rng), rng)


def by_set(pairs: list[Pair], weights: dict[str, Any]) -> list[tuple[list[Pair], float]]:
    """Pairs apart by set, each with the part that is drawn from it; pairs of no named set are left out.

    A name is that of a published set or of a folder on the way to the pairs; the first that fits counts.

    Raises:
        RecipeError: if a weight is not a number above 0.
        DatasetError: if there is nothing of that name.
    """
    if not weights or not pairs:
        return [(pairs, 1.0)]
    chosen: dict[str, list[Pair]] = {name: [] for name in weights}
    for pair in pairs:
        names = {pair.source, *Path(pair.scene).parts}
        if name := next((name for name in weights if name in names), ""):
            chosen[name].append(pair)
    for name, weight in weights.items():
        if type(weight) not in (int, float) or not 0 < weight < math.inf:
            raise RecipeError(f"data.sets.{name} is a weight and must be a number above 0, not {weight!r}")
        if not chosen[name]:
            known = sorted({part for pair in pairs for part in (pair.source, *Path(pair.scene).parts[:1]) if part})
            raise DatasetError(
                f"data.sets names '{name}', but no pairs to train on are of that set or below a folder of that name "
                f"(there are: {', '.join(known) or 'pairs without a folder of their own'})"
            )
    return [(chosen[name], weight / sum(weights.values())) for name, weight in weights.items()]


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


def symmetry(rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """One of the eight symmetries of the square, for (..., H, W)."""
    flip, turns = rng.uniform() < 0.5, int(rng.integers(4))
    return lambda picture: (picture.flip(-1) if flip else picture).rot90(turns, (-2, -1))


def augment(blurred: Tensor, sharp: Tensor, rng: np.random.Generator) -> Crop:
    """One symmetry for both."""
    both = symmetry(rng)(torch.stack([blurred, sharp])).contiguous()
    return both[0], both[1]
