"""The pictures that a model is scored on, checked before any scoring starts: pairs, or sharp pictures alone."""

import hashlib
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..blur import add_sensor_noise, convolve, jpeg, shake_trajectory, to_display, to_linear, trajectory_kernel
from ..datasets import SHARP, Pair, by_stem, find_pairs, picture_size, require_one_size
from ..errors import DatasetError, PictureError
from ..pictures import check, read
from .measures import METRICS, from_pixels, to_8_bits, to_pixels
from .protocols import Protocol, check_protocol, resized

log = logging.getLogger("deblur_hub")
TEST, TRAIN = "test", "train"
SCORED = (TEST, "val")  # the split of a published set that is scored; REDS publishes sharp pictures for `val` alone
SHAKE_LENGTHS = (5.0, 40.0)  # pixels that the hand moves while the shutter is open, uniformly distributed
MAX_SHOT, MAX_READ = 0.03, 0.01  # of the noise, uniformly distributed from 0
JPEG_QUALITIES = (70, 95)  # uniformly distributed

SHARP_INPUT = Protocol(name="sharp", title="sharp photographs, to be left as they are: the output against the input")
SHAKEN = "sharp photographs under synthetic camera shake of {:g} to {:g} pixels in linear light".format(*SHAKE_LENGTHS)
SYNTHETIC_SHAKE = Protocol(name="synthetic-shake", title=f"{SHAKEN}, without noise")
SYNTHETIC_UPLOAD = Protocol(
    name="synthetic-upload",
    title=f"{SHAKEN}, with a sensor's noise (shot up to {MAX_SHOT:g}, read up to {MAX_READ:g}, of values in [0, 1]) "
    f"and JPEG of quality {JPEG_QUALITIES[0]} to {JPEG_QUALITIES[1]}",
)


@dataclass(frozen=True)
class Sample:
    """A picture to score: its name in all tables, its size (width, height), and its files."""

    name: str
    size: tuple[int, int]
    sharp: Path
    blurred: Path | None = None  # None where the blurry input is made from the sharp picture, or there is none
    restored: Path | None = None  # only where another program restored it


@dataclass(frozen=True)
class EvaluationSet:
    """Samples, sorted by name, and the protocol that they are scored under."""

    protocol: Protocol
    folder: Path  # as it was given
    samples: tuple[Sample, ...]
    seed: int | None = None  # of the synthetic blur

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sorted names and sizes, by which two people can tell that they scored the same set."""
        lines = sorted(f"{sample.name} {sample.size[0]}x{sample.size[1]}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def load(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """The blurry picture, as the network is to see it, and the sharp one: (1, 3, H, W) float32 in [-1, 1].

        DatasetError if the two differ in size once upright; PictureError if one cannot be decoded.
        """
        sharp = read(sample.sharp)[0][:1]
        if self.seed is not None:
            return shake(sharp, sample.name, self.seed, upload=self.protocol == SYNTHETIC_UPLOAD)
        blurred = sharp if sample.blurred is None else read(sample.blurred)[0][:1]
        if blurred.shape != sharp.shape:
            raise DatasetError(
                f"{sample.blurred}: has another orientation than its sharp partner {sample.sharp}; rotate one of them"
            )
        if self.protocol.resize:
            blurred, sharp = (from_pixels(resized(self.protocol, to_pixels(one))) for one in (blurred, sharp))
        return blurred, sharp

    def require_size_for(self, metrics: Sequence[str]) -> None:
        """Raises DatasetError if a picture is smaller than a metric's window."""
        for sample in self.samples:
            size = self.protocol.resize or sample.size
            if self.seed is not None:
                size = (size[0] // 2 - 4, size[1] // 2 - 4)  # what a long shake leaves of a small picture
            for name in metrics:
                if min(size) < (least := METRICS[name].min_side):
                    lack = f"{size[0]}x{size[1]} pixels, but {name} needs at least {least}x{least}"
                    raise DatasetError(f"{sample.sharp}: {lack}; take it out")


def pairs_in(folder: Path, protocol: Protocol) -> EvaluationSet:
    """The pairs below a folder; of a set with splits, those of `test`, or of `val` where there is no `test`.

    DatasetError if there are none, they are not the protocol's, one lacks its partner, is of another size or damaged.
    """
    pairs = find_pairs(scored_folder(folder), blur=protocol.blur_folder)
    if not pairs:
        both = f"'{protocol.blur_folder}' and '{SHARP}'"
        raise DatasetError(f"{folder}: holds no folder with both {both} in it; give a set of pairs")
    splits = {pair.split for pair in pairs}
    if TRAIN in splits:
        scored = next((split for split in SCORED if split in splits), TRAIN)
        pairs = [pair for pair in pairs if pair.split == scored]
    check_protocol(protocol, pairs)
    # A set has one fingerprint, whether the given folder is the set or its `test`.
    samples = [
        Sample(pair.name.removeprefix(f"{TEST}/"), picture_size(pair.sharp), pair.sharp, pair.blurred) for pair in pairs
    ]
    return readable(protocol, folder, samples)


def sharp_pictures(folder: Path, *, seed: int | None = None, upload: bool = False) -> EvaluationSet:
    """The sharp pictures below a folder, to be scored as they are or, with a seed, under synthetic camera shake.

    `upload` adds noise and JPEG to the shake. DatasetError if there are no pictures, or one cannot be read.
    """
    found = by_stem(scored_folder(folder), kinds=(SHARP,))
    if not found:
        raise DatasetError(f"{folder}: holds no pictures; give a folder of sharp photographs")
    samples = [Sample(f"{stem}{path.suffix}", picture_size(path), path) for stem, path in found.items()]
    shaken = SYNTHETIC_UPLOAD if upload else SYNTHETIC_SHAKE
    return readable(SHARP_INPUT if seed is None else shaken, folder, samples, seed)


def restored_pictures(restored: Path, sharp: Path, blurred: Path | None, protocol: Protocol) -> EvaluationSet:
    """The pictures that any program restored, with their partners of the same names; errors as of `pairs_in`."""
    scored_folder(restored)
    sharps = by_stem(scored_folder(sharp), kinds=(SHARP,))
    blurs = by_stem(scored_folder(blurred), kinds=(protocol.blur_folder,)) if blurred else {}
    results = by_stem(restored)
    if not results:
        raise DatasetError(f"{restored}: holds no pictures; give the folder of restored ones")
    for kind, folder, found in (("sharp", sharp, sharps), ("blurry", blurred, blurs)):
        for stem in sorted(results.keys() ^ found.keys()) if folder else ():
            if stem in results:
                raise DatasetError(f"{results[stem]}: has no {kind} partner '{stem}' in {folder}")
            raise DatasetError(f"{found[stem]}: has no restored partner '{stem}' in {restored}; restore it as well")
    samples = []
    for stem, path in results.items():
        partner, before = sharps[stem], blurs.get(stem)
        for other in filter(None, (None if protocol.resize else path, before)):
            require_one_size(other, partner)
        name = f"{stem}{(before or partner).suffix}"
        samples.append(Sample(name, picture_size(partner), partner, before, path))
    check_protocol(protocol, [Pair(sample.sharp, sample.sharp, "") for sample in samples])
    return readable(protocol, sharp, samples)


def scored_folder(folder: Path) -> Path:
    """The `test` folder inside a set that has one; else the folder itself."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder that holds the pictures")
    # HIDE keeps the partners of `test` beside it.
    return folder / TEST if (folder / TEST).is_dir() and not (folder / "GT").is_dir() else folder


def readable(protocol: Protocol, folder: Path, samples: Sequence[Sample], seed: int | None = None) -> EvaluationSet:
    """The set, once every picture is known to be whole."""
    notes: dict[str, list[Path]] = {}
    for sample in samples:
        for path in filter(None, (sample.restored, sample.blurred, sample.sharp)):
            try:
                for note in check(path):
                    notes.setdefault(note, []).append(path)
            except PictureError as error:
                raise DatasetError(error.of(path)) from error
    for note, paths in notes.items():
        log.warning("%s%s: %s", paths[0], f" and {len(paths) - 1} more" if len(paths) > 1 else "", note)
    return EvaluationSet(protocol, folder, tuple(sorted(samples, key=lambda sample: sample.name)), seed)


def shake(sharp: Tensor, name: str, seed: int, *, upload: bool = False) -> tuple[Tensor, Tensor]:
    """A picture (1, 3, H, W) in [-1, 1] under camera shake that depends on the seed and its name alone.

    Both the blurry one, of 8 bits, and the sharp one are smaller by the extent of the shake: no border is made up.
    """
    rng = np.random.default_rng([seed, zlib.crc32(Path(name).with_suffix("").as_posix().encode())])
    # In a small picture a long shake would leave nothing to score.
    length = min(rng.uniform(*SHAKE_LENGTHS), min(sharp.shape[-2:]) / 4)
    kernel = trajectory_kernel(shake_trajectory(rng, length=length))
    light = to_linear((sharp.double() + 1) / 2)
    blurred = to_display(convolve(light, kernel.double())).float()
    if upload:
        shot, read = rng.uniform(0, MAX_SHOT), rng.uniform(0, MAX_READ)
        blurred = add_sensor_noise(blurred, rng, shot=shot, read=read)
        blurred = jpeg(blurred, torch.tensor([rng.uniform(*JPEG_QUALITIES)]).round())
    radius = kernel.shape[-1] // 2
    return to_8_bits(blurred * 2 - 1) * 2 - 1, sharp[..., radius:-radius, radius:-radius].contiguous()
