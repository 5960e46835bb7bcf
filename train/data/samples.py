"""Training samples: each a pure function of (seed, position), whatever the workers, processes or resumes."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from deblur_hub.datasets import Pair, count_notes, find_pairs, folders_below, missed_note, pictures_in
from deblur_hub.errors import DatasetError

from ..recipe import Data, RecipeError, Validation
from .cache import PictureCache
from .device_pictures import CropSpec
from .sources import Crop, FrameSource, PairSource, SharpSource, cut
from .synthesis import PendingBlur, apply_blur, collate

ALL_FRAMES = "GOPRO_Large_all"  # the frames that GoPro was averaged from: <this>/train/<scene>/000001.png


@dataclass(frozen=True)
class TrainingData:
    """What a data folder holds."""

    pairs: list[Pair]  # to train on
    held_out: list[Pair]
    frames: list[list[Path]]  # runs of high-speed ones
    sharp: list[Path]
    notes: tuple[str, ...] = ()  # sentences for the user


def find_training_data(root: Path, data: Data, validation: Validation) -> TrainingData:
    """Sorts what lies below `root`: see `train/__main__.py` for the layouts.

    Test and validation parts, by the layout or a folder's name, are not trained on, unless one is the root itself. They
    are held out only if `validation.scenes` names them: a test set that chooses the model is no test set.

    Raises:
        DatasetError: if a pair is broken, or there is nothing to train on.
    """
    pairs = find_pairs(root, blur=data.blur_folder, sharp=data.sharp_folder)
    scenes, splits = set(validation.scenes), {"test", "val"} - {root.name}
    held_out = [pair for pair in pairs if scenes & set(Path(pair.scene).parts)]
    rest = [pair for pair in pairs if pair not in set(held_out)]
    apart = [pair for pair in rest if pair.split in splits]
    trained = [pair for pair in rest if pair.split not in splits]
    if not held_out and len(trained) > 1 and validation.pairs:
        # Evenly spread, and never more than a tenth, so that a small set keeps something to train on.
        count = min(validation.pairs, max(1, len(trained) // 10))
        held_out = [trained[i * len(trained) // count] for i in range(count)]
        trained = [pair for pair in trained if pair not in set(held_out)]
    partners = {path for pair in pairs for path in (pair.blurred, pair.sharp)}
    frames, sharp = find_singles(root, partners, data, omit=scenes | splits)
    notes = [*count_notes(pairs), *missed_note(root)]
    if apart:
        names = " and ".join(repr(split) for split in sorted({pair.split for pair in apart}))
        notes.append(f"{len(apart)} pairs of {names} are not trained on")
    if not (trained or frames or sharp):
        left = f" ({notes[-1]}; give that folder itself if you must)" if apart else ""
        raise DatasetError(
            f"{root}: nothing to train on{left}; it needs folders '{data.blur_folder}' and '{data.sharp_folder}' with "
            f"partners of one name, a folder of frames whose name ends in 'fps', or photographs in "
            f"'{data.sharp_folder}' or in itself"
        )
    return TrainingData(trained, held_out, frames, sharp, tuple(notes))


def find_singles(root: Path, partners: set[Path], data: Data, *, omit: set[str]) -> tuple[list[list[Path]], list[Path]]:
    """Runs of frames, and sharp photographs that have no partner; omits folders of these names."""
    frames, sharp = [], []
    for folder in folders_below(root):
        below = folder.relative_to(root).parts
        if omit & set(below):
            continue
        pictures = [path for path in pictures_in(folder) if path not in partners]
        if any(part.endswith("fps") or part == ALL_FRAMES for part in (root.name, *below)):
            frames.append(pictures)
        elif data.sharp_folder in (root.name, *below) or not (partners or below):
            sharp += pictures
    return [run for run in frames if len(run) >= data.frames.most], sharp


class TrainingSet(Dataset):
    """Positions -> crops. Position p is sample p % epoch_length of epoch p // epoch_length.

    Within an epoch each source is drawn from by its weight; a source gives all its items once before any comes again.

    Args:
        on_device: leaves synthetic blur to the training device, see `synthesis.apply_blur`.
        resident: leaves the pictures to the device as well, see `DevicePictures`; samples are then of `CropSpec`.
    """

    def __init__(
        self,
        found: TrainingData,
        data: Data,
        *,
        seed: int,
        cache: PictureCache,
        on_device: bool = False,
        resident: bool = False,
    ) -> None:
        mix, candidates, crop = data.mix, data.candidates, data.crop
        # Kinds that the recipe does not draw from are not checked either: their pictures may be too small.
        sets = split_by_set(found.pairs, data.sets) if mix.pairs else []
        frames, sharp = (found.frames if mix.frames else []), (found.sharp if mix.sharp else [])
        sources = [
            *((PairSource(pairs, candidates, crop, cache), mix.pairs * part) for pairs, part in sets),
            (FrameSource(frames, data.frames, candidates, crop, cache), mix.frames),
            (SharpSource(sharp, data.blur, crop, cache), mix.sharp),
        ]
        self.sources = [source for source, _ in sources if source.items]
        weights = np.array([weight for source, weight in sources if source.items])
        if not self.sources:
            raise DatasetError(
                "none of the kinds of pictures that the recipe draws from is in the data folder; "
                "set data.mix.pairs, data.mix.frames or data.mix.sharp"
            )
        self.length = data.epoch_length or max(len(source.items) for source in self.sources)
        shares = np.floor(self.length * weights / weights.sum()).astype(int)
        shares[0] += self.length - shares.sum()
        self.shares, self.size, self.seed, self.cache, self.on_device = shares, data.crop, seed, cache, on_device
        # Every picture that samples are made of, once.
        self.paths = list(dict.fromkeys(path for source in self.sources for path in source.paths))
        self.numbers = {path: number for number, path in enumerate(self.paths)} if resident else {}

    def __len__(self) -> int:
        return self.length

    @lru_cache(maxsize=2)  # noqa: B019 - one training set lives as long as its process
    def plan(self, epoch: int) -> np.ndarray:
        """(length, 2): the source and the item of each sample of an epoch."""
        rows = []
        for number, (source, share) in enumerate(zip(self.sources, self.shares, strict=True)):
            first = epoch * share
            for place in range(first, first + share):
                lap, item = divmod(place, len(source.items))
                rows.append((number, self.permutation(number, lap, len(source.items))[item]))
        return np.random.default_rng([self.seed, 1, epoch]).permutation(np.array(rows))

    @lru_cache(maxsize=16)  # noqa: B019
    def permutation(self, source: int, lap: int, length: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 2, source, lap]).permutation(length)

    def __getitem__(self, position: int) -> Crop | PendingBlur | CropSpec:
        epoch, index = divmod(position, self.length)
        number, item = (int(part) for part in self.plan(epoch)[index])
        rng = np.random.default_rng([self.seed, 3, epoch, index])
        spec = self.sources[number].draw(item, self.size, rng)
        if self.numbers:
            return spec
        sample = cut(spec, self.cache, self.size)
        if isinstance(sample, PendingBlur) and not self.on_device:
            return tuple(picture[0] for picture in apply_blur(collate([sample]), "cpu"))
        return sample


def split_by_set(pairs: list[Pair], weights: dict[str, Any]) -> list[tuple[list[Pair], float]]:
    """Pairs split by set, each with its weight, which sum to 1; omits pairs of no named set.

    A name is that of a published set or of a folder on the path to the pairs; the first match counts. Raises
    `RecipeError` if a weight is not a number above 0, `DatasetError` if there is nothing of that name.
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


def positions(numbers: Iterable[int], *, batch_size: int, rank: int, world: int) -> Iterator[list[int]]:
    """One process's positions in each batch of these numbers: it is dealt out in equal parts, in order of rank."""
    part = batch_size // world
    for batch in numbers:
        first = batch * batch_size + rank * part
        yield list(range(first, first + part))
