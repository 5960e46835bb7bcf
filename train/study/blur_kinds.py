"""Where the weights of `deblur_hub.metrics.blur_kind` are from, and how often it is right.

    python train/study/blur_kinds.py PHOTOS --shaken FOLDER [FOLDER ...]           the table of docs/evaluation.md
    python train/study/blur_kinds.py PHOTOS --shaken FOLDER [FOLDER ...] --fit     new weights

PHOTOS are sharp; each is blurred here in several ways, resized, and saved with noise, sharpening and JPEG or without.
Weights are fitted on one half of them, and the table is of the other. FOLDERs hold really shaken pictures, which should
not be the same for both.
"""

import argparse
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from deblur_hub.blur import (
    add_sensor_noise,
    convolve,
    disc_kernel,
    joined,
    jpeg,
    shake_trajectory,
    steady_trajectory,
    to_display,
    to_linear,
    trajectory_kernel,
)
from deblur_hub.datasets import by_stem
from deblur_hub.evaluation.tables import markdown
from deblur_hub.metrics.no_reference import LEAST_SIDE, blur_kind, drowned, figures
from deblur_hub.pictures import read

SHARP, UPSCALED, SHAKEN, REALLY_SHAKEN = "sharp", "sharp, enlarged", "shaken", "really shaken"
MOVING, DEFOCUSED, BOTH = "a part in motion", "out of focus", "shaken and out of focus"
DRAWS = (SHARP, SHARP, UPSCALED, SHAKEN, SHAKEN, SHAKEN, SHAKEN, MOVING, DEFOCUSED, DEFOCUSED, BOTH)
ORDER = SHARP, UPSCALED, SHAKEN, REALLY_SHAKEN, MOVING, DEFOCUSED, BOTH  # in the table
KINDS = "sharp", "motion", "defocus", "unsure"
SIZES = {True: "by at least {:g} pixels", False: "by less"}
PLAIN = {SHAKEN: 5.0, MOVING: 5.0, BOTH: 5.0, DEFOCUSED: 2.0}  # pixels of path or radius that nobody takes for sharp
STRONG = 8.0  # pixels of path that motion is to be known by
MEGAPIXELS = 0.3, 12.0
MOST_WRONG = {"sharp": 0.01, "motion": 0.05, "defocus": 0.01}  # share of those that a kind must not be said of


@dataclass(frozen=True)
class Case:
    """A picture (1, 3, H, W) in [-1, 1], what was done to it, and by how many pixels."""

    truth: str
    extent: float
    picture: Tensor


def main() -> None:
    """Prints the table, or the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of sharp photographs")
    parser.add_argument("--shaken", type=Path, nargs="*", default=[], metavar="FOLDER", help="of really shaken ones")
    parser.add_argument(
        "--fit", action="store_true", help="print weights fitted on one half, not the table of the other"
    )
    options = parser.parse_args()
    with torch.inference_mode():
        found = cases(options.photos, options.shaken, half=int(options.fit))
        print(fitted(found) if options.fit else table(found))


def cases(photos: Path, shaken: list[Path], *, half: int) -> Iterator[Case]:
    """All of one half of the photographs, each with its own chance, which depends on its name alone."""
    for folder in shaken:
        for path in by_stem(folder).values():
            yield Case(REALLY_SHAKEN, np.inf, read(path)[0][:1])
    for name, path in tqdm(by_stem(photos).items(), disable=None):
        seed = zlib.crc32(name.encode())
        if seed % 2 == half:
            rng, photo = np.random.default_rng(seed), (read(path)[0][:1] + 1) / 2
            yield from (case for truth in DRAWS if (case := drawn(photo, truth, rng)))


def drawn(photo: Tensor, truth: str, rng: np.random.Generator) -> Case | None:
    """A photograph (1, 3, H, W) in [0, 1], resized and then blurred; None if hardly anything of it is left."""
    picture = resized(
        photo, log_uniform(rng, *((1.25, 2) if truth == UPSCALED else (0.4, 1 if truth == SHARP else 1.6)))
    )
    radius = log_uniform(rng, 1, 7) if truth == DEFOCUSED else log_uniform(rng, 0.7, 4)
    length = log_uniform(rng, 3, 40)
    path = (shake_trajectory, steady_trajectory)[rng.integers(2)](rng, length=length)
    disc, motion = disc_kernel(radius), trajectory_kernel(path)
    kernels = {SHAKEN: motion, MOVING: motion, DEFOCUSED: disc, BOTH: joined(motion, disc)}
    if truth in kernels:
        rim = kernels[truth].shape[-1] // 2
        if min(picture.shape[-2:]) < 2 * rim + LEAST_SIDE:
            return None
        light = to_linear(picture)
        blurred = convolve(light, kernels[truth])
        if truth == MOVING:
            blurred = torch.lerp(light[..., rim:-rim, rim:-rim], blurred, spot(blurred, rng))
        picture = to_display(blurred)
    extent = {SHARP: 0.0, UPSCALED: 0.0, DEFOCUSED: radius}.get(truth, length)
    return Case(truth, extent, finished(picture, rng) * 2 - 1)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def resized(photo: Tensor, scale: float) -> Tensor:
    pixels = photo.shape[-2] * photo.shape[-1]
    least, most = (np.sqrt(megapixels * 1e6 / pixels) for megapixels in MEGAPIXELS)
    size = [round(side * np.clip(scale, min(least, 1), most)) for side in photo.shape[-2:]]
    return F.interpolate(photo, size, mode="bicubic", antialias=True).clamp(0, 1)


def spot(like: Tensor, rng: np.random.Generator) -> Tensor:
    """A round part of 0.3 to 0.8 of the picture, 1 inside and 0 outside: (H, W)."""
    y, x = (torch.linspace(-1, 1, side) for side in like.shape[-2:])
    x0, y0 = rng.uniform(-0.5, 0.5, 2)
    radius = np.sqrt(rng.uniform(0.3, 0.8) * 4 / np.pi)
    return (torch.hypot(y[:, None] - y0, x - x0) < radius).float()


def finished(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """As it comes out of a camera, values in [0, 1]: at times sharpened, noisy, as JPEG."""
    if rng.uniform() < 0.3:
        side = int(rng.integers(1, 3)) * 2 + 1
        soft = F.avg_pool2d(F.pad(picture, (side // 2,) * 4, mode="reflect"), side, 1)
        picture = (picture + rng.uniform(0.3, 1) * (picture - soft)).clamp(0, 1)
    if rng.uniform() < 0.65:
        worse = 3 if rng.uniform() < 0.25 else 1
        picture = add_sensor_noise(picture, rng, shot=worse * rng.uniform(0, 0.03), read=worse * rng.uniform(0, 0.01))
    picture = (picture * 255).round() / 255
    return jpeg(picture, torch.tensor([rng.uniform(50, 95)])) if rng.uniform() < 0.6 else picture


def table(found: Iterator[Case]) -> str:
    """How often pictures of each truth are called what, in percent."""
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    for case in found:
        limit = PLAIN.get(case.truth)
        size = SIZES[case.extent >= limit].format(limit) if limit else ""
        row = counts.setdefault((case.truth, size), dict.fromkeys(KINDS, 0))
        row[blur_kind(case.picture).kind] += 1
    lines = []
    for key, row in sorted(counts.items(), key=lambda item: (ORDER.index(item[0][0]), item[0])):
        total = sum(row.values())
        lines.append([", ".join(filter(None, key)), str(total), *(f"{100 * row[kind] / total:.1f}" for kind in KINDS)])
    return markdown(["the picture is", "pictures", *KINDS], lines)


def fitted(found: Iterator[Case]) -> str:
    """`WEIGHTS`, by logistic regression of each kind against those that it must not be confused with."""
    known = [(case.truth, case.extent, row) for case in found if (row := figures(case.picture)) is not None]
    rows = np.stack([np.append(row.numpy(), 1.0) for _, _, row in known])
    truth, extent = np.array([truth for truth, _, _ in known]), np.array([extent for _, extent, _ in known])
    shaken = np.isin(truth, (SHAKEN, REALLY_SHAKEN)) & (extent >= PLAIN[SHAKEN])
    moving = shaken | ((truth == MOVING) & (extent >= PLAIN[MOVING]))
    still = np.isin(truth, (SHARP, UPSCALED, DEFOCUSED))
    clear = np.array([not drowned(row) for _, _, row in known])
    wanted = {  # those to find, those to be told from them, and those to be hardly ever taken for them
        "sharp": (clear & (truth == SHARP), clear & moving, clear & shaken),
        "motion": (shaken & (extent >= STRONG), still, still),
        "defocus": ((truth == DEFOCUSED) & (extent >= PLAIN[DEFOCUSED]), moving, shaken),
    }
    lines = []
    for kind, (those, others, strict) in wanted.items():
        weights = logistic(rows[those], rows[others])
        weights[-1] -= np.quantile(rows[strict] @ weights, 1 - MOST_WRONG[kind])
        right = (rows[those] @ weights > 0).mean()
        lines.append(f"    ({', '.join(f'{weight:.3g}' for weight in weights)}),  # {kind}: {right:.0%} found")
    return "\n".join(["WEIGHTS = (", *lines, ")"])


def logistic(those: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Weights (C,) for rows (N, C) whose last column is 1, by Newton's method; both kinds count the same."""
    rows = np.concatenate([those, others])
    target = np.repeat([1.0, 0.0], (len(those), len(others)))
    share = np.repeat([0.5 / len(those), 0.5 / len(others)], (len(those), len(others)))
    weights = np.zeros(rows.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (share * (chance - target)) + 1e-5 * weights
        curvature = (rows.T * (share * chance * (1 - chance))) @ rows + 1e-5 * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, slope)
    return weights


if __name__ == "__main__":
    main()
