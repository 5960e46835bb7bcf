"""What a model is scored on, checked before any scoring starts: pairs, sharp pictures, and sharp pictures blurred here.

material = pairs_in(Path("GOPRO_Large"), find_protocol("gopro"))
blurred, sharp = load(material, material.samples[0])
"""

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import images
from ..blur import (
    add_sensor_noise,
    convolve,
    jpeg,
    shake_trajectory,
    to_display,
    to_linear,
    trajectory_kernel,
)
from ..datasets import SHARP, Pair, find_pairs, folders_below, picture_size, pictures_in
from ..errors import DatasetError
from .measures import METRICS, from_pixels, to_8_bits, to_pixels
from .protocols import Protocol, check_protocol, resized

TEST, TRAIN = "test", "train"
SCORED = (TEST, "val")  # the part of a published set that is scored; REDS gives the truth for `val` alone
SHAKE_LENGTHS = (5.0, 40.0)  # pixels that the hand moves while the shutter is open, drawn evenly
MOST_SHOT, MOST_READ = 0.03, 0.01  # of the noise, drawn evenly from 0
JPEG_QUALITY = (70, 95)  # of the JPEG, drawn evenly

SHARP_INPUT = Protocol(
    name="sharp",
    title="sharp photographs, to be left as they are: what is restored against what went in",
)
SYNTHETIC_SHAKE = Protocol(
    name="synthetic-shake",
    title=f"sharp photographs under synthetic camera shake of {SHAKE_LENGTHS[0]:.0f} to {SHAKE_LENGTHS[1]:.0f} pixels "
    "in linear light, without noise",
)
SYNTHETIC_UPLOAD = Protocol(
    name="synthetic-upload",
    title=f"sharp photographs under synthetic camera shake of {SHAKE_LENGTHS[0]:.0f} to {SHAKE_LENGTHS[1]:.0f} pixels "
    f"in linear light, with a sensor's noise (shot up to {MOST_SHOT:g}, read up to {MOST_READ:g}, of values in [0, 1]) "
    f"and JPEG of quality {JPEG_QUALITY[0]} to {JPEG_QUALITY[1]}",
)


@dataclass(frozen=True)
class Sample:
    """A picture to score: its name in all tables, its size (width, height), and where it is."""

    name: str
    size: tuple[int, int]
    sharp: Path
    blurred: Path | None = None


@dataclass(frozen=True)
class Material:
    """Samples, sorted by name, and the protocol they are scored under.

    Attributes:
        folder: as it was given.
        seed: of the blur, where it is made here.
    """

    protocol: Protocol
    folder: Path
    samples: tuple[Sample, ...]
    seed: int | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sorted names and sizes, by which two people know that they have scored the same set."""
        lines = sorted(f"{sample.name} {sample.size[0]}x{sample.size[1]}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def pairs_in(folder: Path, protocol: Protocol) -> Material:
    """The pairs below a folder; of a set that comes in parts, those of `test`, or of `val` where there is no `test`.

    Raises:
        DatasetError: if there are none, they are not the protocol's, one lacks its partner, the two differ in size, or
            one cannot be read.
    """
    root = official(folder)
    pairs = find_pairs(root, blur=protocol.blur_folder)
    if not pairs:
        raise DatasetError(
            f"{folder}: holds no folder with both '{protocol.blur_folder}' and '{SHARP}' in it; give a set of pairs"
        )
    parts = {pair.split for pair in pairs}
    if TRAIN in parts:
        scored = next((part for part in SCORED if part in parts), TRAIN)
        pairs = [pair for pair in pairs if pair.split == scored]
    protocol = check_protocol(protocol, pairs)
    # One set has one fingerprint, whether the folder that is given is the set or its `test`.
    samples = [
        Sample(pair.name.removeprefix(f"{TEST}/"), picture_size(pair.sharp), pair.sharp, pair.blurred) for pair in pairs
    ]
    return checked(Material(protocol, folder, tuple(samples)))


def sharp_pictures(folder: Path, *, seed: int | None = None, upload: bool = False) -> Material:
    """The sharp pictures below a folder, to be scored as they are or, with a seed, under synthetic camera shake.

    Args:
        upload: with noise and JPEG, too.

    Raises:
        DatasetError: if there are none, or one cannot be read.
    """
    found = pictures_below(official(folder), (SHARP,))
    if not found:
        raise DatasetError(f"{folder}: holds no pictures; give a folder of sharp photographs")
    samples = [Sample(f"{key}{path.suffix}", picture_size(path), path) for key, path in found.items()]
    shake = SYNTHETIC_UPLOAD if upload else SYNTHETIC_SHAKE
    return checked(Material(SHARP_INPUT if seed is None else shake, folder, tuple(samples), seed))


def official(folder: Path) -> Path:
    """Where to look for the pictures: in the `test` folder, if the set comes with one."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder that holds the pictures")
    # HIDE keeps the partners of `test` beside it.
    return folder / TEST if (folder / TEST).is_dir() and not (folder / "GT").is_dir() else folder


def pictures_below(folder: Path, kinds: tuple[str, ...] = ()) -> dict[str, Path]:
    """The pictures at any depth, by their path below `folder` without suffix and without the folders of `kinds`.

    Where some of them lie in a folder called as one of `kinds`, such as `sharp`, only those are taken, so that a set
    in GoPro's own layout can be named as well as a plain folder.

    Raises:
        DatasetError: if two would have one name.
    """
    found = [(path.relative_to(folder), path) for inner in folders_below(folder) for path in pictures_in(inner)]
    found = [(below, path) for below, path in found if not any(part.startswith(".") for part in below.parts)]
    kept = [(below, path) for below, path in found if set(below.parts[:-1]) & set(kinds)] or found
    pictures: dict[str, Path] = {}
    for below, path in kept:
        key = "/".join([*(part for part in below.parts[:-1] if part not in kinds), below.stem])
        if key in pictures:
            raise DatasetError(f"{path}: has the name of {pictures[key]}; take one of the two out")
        pictures[key] = path
    return dict(sorted(pictures.items()))


def restored_pictures(
    restored: Path, sharp: Path, blurred: Path | None, protocol: Protocol
) -> tuple[Material, list[Path]]:
    """The pictures that any program restored, and their partners of the same names.

    Returns:
        The material, and for each of its samples the restored picture.

    Raises:
        DatasetError: as `pairs_in`.
    """
    for folder in filter(None, (restored, sharp, blurred)):
        official(folder)
    results = pictures_below(restored)
    partners = {SHARP: pictures_below(official(sharp), (SHARP,))}
    if blurred is not None:
        partners["blurred"] = pictures_below(official(blurred), (protocol.blur_folder,))
    if not results:
        raise DatasetError(f"{restored}: holds no pictures; give the folder of restored ones")
    for kind, found in partners.items():
        for key in sorted(results.keys() ^ found.keys()):
            if key in results:
                raise DatasetError(
                    f"{results[key]}: has no {kind} partner '{key}' in {sharp if kind == SHARP else blurred}"
                )
            raise DatasetError(f"{found[key]}: has no restored partner '{key}' in {restored}; restore it as well")
    samples, paths = [], []
    for key, path in results.items():
        sharp_path, blurred_path = partners[SHARP][key], partners.get("blurred", {}).get(key)
        size = picture_size(sharp_path)
        for other in filter(None, (None if protocol.resize else path, blurred_path)):
            if (found_size := picture_size(other)) != size:
                raise DatasetError(
                    f"{other}: {found_size[0]}x{found_size[1]} pixels, but its sharp partner {sharp_path} has "
                    f"{size[0]}x{size[1]}; partners must have one size"
                )
        samples.append(Sample(f"{key}{(blurred_path or sharp_path).suffix}", size, sharp_path, blurred_path))
        paths.append(path)
    for path in paths:
        require_readable(path)
    protocol = check_protocol(protocol, [Pair(sample.sharp, sample.sharp, "") for sample in samples])
    return checked(Material(protocol, restored, tuple(samples))), paths


def checked(material: Material) -> Material:
    """The same, sorted, once every picture is known to be whole."""
    for sample in material.samples:
        for path in filter(None, (sample.blurred, sample.sharp)):
            require_readable(path)
    samples = tuple(sorted(material.samples, key=lambda sample: sample.name))
    return Material(material.protocol, material.folder, samples, material.seed)


def require_large_enough(material: Material, metrics: tuple[str, ...]) -> None:
    """Raises `DatasetError` if a picture is smaller than a metric's window."""
    for sample in material.samples:
        size = material.protocol.resize or sample.size
        if material.seed is not None:
            size = (size[0] // 2 - 4, size[1] // 2 - 4)  # what a long shake leaves of a small picture
        for name in metrics:
            if min(size) < METRICS[name].smallest:
                least = METRICS[name].smallest
                raise DatasetError(
                    f"{sample.sharp}: {size[0]}x{size[1]} pixels, but {name} needs at least {least}x{least}; "
                    "take it out"
                )


def require_readable(path: Path) -> None:
    """Raises `DatasetError` if a picture is cut off or damaged.

    Of a PNG the checksums are read and nothing is unpacked; a JPEG is unpacked at an eighth of its size.
    """
    try:
        with Image.open(path) as picture:
            if picture.format == "PNG":
                picture.verify()
            else:
                picture.draft("RGB", (max(1, picture.width // 8), max(1, picture.height // 8)))
                picture.load()
    except Exception as reason:
        raise DatasetError(f"{path}: damaged or cut off ({str(reason) or type(reason).__name__}); replace it") from None


def load(material: Material, sample: Sample) -> tuple[Tensor, Tensor]:
    """The blurred picture, as the network is to see it, and the sharp one: (1, 3, H, W) float32 in [-1, 1].

    Raises:
        DatasetError: if the two are not of one size, once upright.
        PictureError: if one cannot be decoded.
    """
    sharp = images.read(sample.sharp)[0][:1]
    if material.seed is not None:
        return shaken(sharp, sample.name, material.seed, upload=material.protocol == SYNTHETIC_UPLOAD)
    blurred = sharp if sample.blurred is None else images.read(sample.blurred)[0][:1]
    if blurred.shape != sharp.shape:
        raise DatasetError(
            f"{sample.blurred}: is turned otherwise than its sharp partner {sample.sharp}; turn one of them"
        )
    if material.protocol.resize:
        blurred, sharp = (from_pixels(resized(material.protocol, to_pixels(picture))) for picture in (blurred, sharp))
    return blurred, sharp


def shaken(sharp: Tensor, name: str, seed: int, *, upload: bool = False) -> tuple[Tensor, Tensor]:
    """A sharp picture under camera shake that depends on the seed and its name alone; both cut to what is known.

    Args:
        sharp: (1, 3, H, W) in [-1, 1].
        upload: adds noise, and passes through JPEG.

    Returns:
        Blurred, of 8 bits, and sharp, smaller than before by the reach of the shake: nothing is made up at the rim.
    """
    rng = np.random.default_rng([seed, zlib.crc32(Path(name).with_suffix("").as_posix().encode())])
    shortest, longest = SHAKE_LENGTHS
    # In a small picture a long shake would leave nothing to score.
    length = min(rng.uniform(shortest, longest), min(sharp.shape[-2:]) / 4)
    kernel = trajectory_kernel(shake_trajectory(rng, length=length))
    light = to_linear((sharp.double() + 1) / 2)
    blurred = to_display(convolve(light, kernel.double())).float()
    if upload:
        shot, read = rng.uniform(0, MOST_SHOT), rng.uniform(0, MOST_READ)
        blurred = add_sensor_noise(blurred, rng, shot=shot, read=read)
        blurred = jpeg(blurred, torch.tensor([rng.uniform(*JPEG_QUALITY)]).round())
    radius = kernel.shape[-1] // 2
    return to_8_bits(blurred * 2 - 1) * 2 - 1, sharp[..., radius:-radius, radius:-radius].contiguous()
