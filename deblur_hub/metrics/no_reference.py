"""What kind of blur a photo has, judged without a sharp one beside it, so that people can be told what to expect.

Blur takes the fine detail of a picture away. How far the power of natural pictures falls from one band of spatial
frequencies to the next is about the same for all of them and all directions (Field, "Relations between the statistics
of natural images and the response properties of cortical cells", JOSA A 1987). So a fall that is steeper tells of blur;
one that is as steep in all directions, of defocus; one that is steeper in some of them, of motion. Liu, Li and Jia,
"Image partial blur detection and classification" (CVPR 2008), tell patches from each other by these two signs.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["sharp", "motion", "defocus", "unsure"]

WINDOW = 192  # pixels of a side
GRID = 4  # windows along each side of the picture
LEAST_SIDE = 128  # pixels, from which each band of a window's spectrum has frequencies in each direction
STEP = 8  # pixels between those that are looked at to find windows with texture
STRIDE = 4  # of these, between windows that are compared
DIRECTIONS = 12
EDGES = (1 / 32, 1 / 16, 1 / 8, 2**-2.5, 1 / 4, 2**-1.5, 1 / 2)  # cycles a pixel, of the bands
COARSE, MIDDLE, FINE, FINEST = 0, 3, 4, 5  # bands that have a use of their own
LEAST_FALL = 2.0  # from the coarse band to the finest, of a window with more than noise in it
LEAST_STEEP = -0.6  # from one fine band to the next: a fall less steep in all directions is that of noise
DARKEST = 1e-8  # power that is added before logarithms are taken

# Rows: sharp, motion, defocus. Columns: the figures of `figures`, and a constant. From train/study/blur_kinds.py.
WEIGHTS = (
    (1.08, -0.501, -7.73, -8.36, 0.249, 3.85, 7.74),  # sharp
    (-0.477, 0.132, 14.4, 10.6, 0.128, -0.17, -6.99),  # motion
    (-0.829, 0.174, -13.3, -5.78, -0.91, 1.05, -6.7),  # defocus
)


@dataclass(frozen=True)
class BlurKind:
    """A judgement, and what it rests on: log-odds less the threshold of each kind, so that above 0 it is likely."""

    kind: Kind
    sharp: float
    motion: float
    defocus: float


def blur_kind(picture: Tensor) -> BlurKind:
    """Tells whether a photo is sharp, shaken or out of focus, from up to 16 windows at its full resolution.

    The thresholds are cautious: "unsure" is the answer where a photo might as well be of another kind, has hardly any
    texture or is smaller than 128 pixels. docs/evaluation.md says how often it is right.

    Args:
        picture: (1, C, H, W), in [-1, 1].

    Raises:
        ValueError: if it is not one picture.
    """
    if picture.ndim != 4 or len(picture) != 1:
        raise ValueError(f"one picture (1, C, H, W) is needed, not {tuple(picture.shape)}")
    found = figures(picture)
    if found is None:
        return BlurKind("unsure", -math.inf, -math.inf, -math.inf)
    scores = (torch.tensor(WEIGHTS) @ torch.cat([found, torch.ones(1)])).tolist()
    if drowned(found):
        scores[0] = -math.inf
    kinds: tuple[Kind, ...] = ("sharp", "motion", "defocus")
    score, kind = max(zip(scores, kinds, strict=True))
    return BlurKind(kind if score > 0 else "unsure", *scores)


def figures(picture: Tensor) -> Tensor | None:
    """The six figures of (1, C, H, W) that tell kinds of blur apart, (6,), all in nepers; None without texture.

    The power of fine detail; that of noise; how the fall of the finest detail depends on the direction, over all
    windows; how that of middle detail does within windows; what the best direction keeps of middle detail in the best
    windows; and how far fine detail falls in the steepest directions.
    """
    if min(picture.shape[-2:]) < LEAST_SIDE:
        return None
    windows = textured_windows(picture)
    power = (directional_power(windows) + DARKEST).log()
    told = power[:, COARSE].mean(dim=1) - power[:, FINEST].mean(dim=1) > LEAST_FALL
    if not told.any():
        return None
    windows, power = windows[told], power[told]
    falls = power.diff(dim=1)
    steepest = falls[:, FINE - 1].mean(dim=0).sort().values[: DIRECTIONS // 4]
    kept = (power[:, MIDDLE] - power[:, COARSE]).amax(dim=1)
    return torch.stack(
        [
            power[:, FINE].logsumexp(dim=1).median() - math.log(DIRECTIONS),
            (noise_power(windows) + DARKEST).log().mean(),
            anisotropy(falls[:, FINE].mean(dim=0)),
            anisotropy(falls[:, MIDDLE - 1]).mean(),
            kept.quantile(0.75),
            steepest.mean(),
        ]
    )


def drowned(found: Tensor) -> bool:
    """Whether noise hides the finest detail of the picture of these figures, and so could pass for it."""
    return float(found[-1]) > LEAST_STEEP


def textured_windows(picture: Tensor) -> Tensor:
    """The part with the most contrast of each cell of a grid, in grey: (1, C, H, W) to (N, h, w) on the CPU."""
    height, width = (min(WINDOW, side) for side in picture.shape[-2:])
    few = picture[0, :, ::STEP, ::STEP].mean(dim=0)
    contrast = F.pad(few.diff(dim=0).abs(), (0, 0, 0, 1)) + F.pad(few.diff(dim=1).abs(), (0, 1))
    contrast = F.avg_pool2d(contrast[None], (height // STEP, width // STEP), STRIDE)[0].cpu()
    corners = set()
    for rows, columns in itertools.product(*map(parts, contrast.shape)):
        row, column = divmod(int(contrast[rows, columns].argmax()), columns.stop - columns.start)
        y, x = (rows.start + row) * STRIDE * STEP, (columns.start + column) * STRIDE * STEP
        corners.add((min(y, picture.shape[-2] - height), min(x, picture.shape[-1] - width)))
    windows = [picture[0, :, y : y + height, x : x + width].mean(dim=0) for y, x in sorted(corners)]
    return torch.stack(windows).float().cpu() / 2


def parts(length: int) -> list[slice]:
    """A length cut into `GRID` parts, or as many as there are places."""
    count = min(GRID, length)
    ends = [part * length // count for part in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def directional_power(windows: Tensor) -> Tensor:
    """Mean power by band and direction of spatial frequency, (N, h, w) to (N, bands, directions)."""
    height, width = windows.shape[-2:]
    taper = torch.hann_window(height)[:, None] * torch.hann_window(width)
    level = (windows * taper).sum(dim=(1, 2), keepdim=True) / taper.sum()
    power = torch.fft.rfft2((windows - level) * taper).abs().square() / taper.square().sum()
    means: Tensor = power.flatten(1) @ cells(height, width)
    return means.view(-1, len(EDGES) - 1, DIRECTIONS)


@lru_cache(maxsize=4)
def cells(height: int, width: int) -> Tensor:
    """The weight of each frequency of `rfft2` in the mean of each band and direction, (F, bands * directions)."""
    y, x = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.rfftfreq(width), indexing="ij")
    direction = (torch.atan2(y, x) / math.pi * DIRECTIONS).round().long() % DIRECTIONS
    band = torch.bucketize(torch.hypot(x, y), torch.tensor(EDGES)) - 1
    inside = (band >= 0) & (band < len(EDGES) - 1)
    cell = torch.where(inside, band * DIRECTIONS + direction, (len(EDGES) - 1) * DIRECTIONS).flatten()
    members = F.one_hot(cell)[:, :-1].float()
    return members / members.sum(dim=0)


def anisotropy(falls: Tensor) -> Tensor:
    """How much (..., directions) is like a cosine of twice the angle: the modulus of the second harmonic, (...)."""
    angles = torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    return torch.hypot((falls * angles.cos()).mean(dim=-1), (falls * angles.sin()).mean(dim=-1))


def noise_power(windows: Tensor) -> Tensor:
    """The variance of the noise, from the smoothest blocks of each window, (N, h, w) to (N,).

    As in Immerkaer, "Fast noise variance estimation" (CVIU 1996), the picture's own detail is mostly left out by a
    Laplacian, and here as well by blocks of 8x8: of these, 5 % are smoother than the one that counts.
    """
    laplacian = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    detail = F.conv2d(windows[:, None], laplacian[None, None]).square() / laplacian.square().sum()
    return F.avg_pool2d(detail, 8).flatten(1).quantile(0.05, dim=1)
