"""Restoration without learning, so that a model's gain means something.

`identity` returns the picture; `unsharp` raises its edges; `richardson-lucy` assumes one straight motion of the whole
frame, estimates it from the picture's cepstrum, and deconvolves. Where the blur is such a motion, or plain camera
shake, it gains decibels; where the blur varies from place to place it gains little or harms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DeblurHubError

UNSHARP_SIGMA, UNSHARP_AMOUNT = 1.0, 1.0  # the defaults of scikit-image's unsharp_mask
ITERATIONS = 15  # of Richardson-Lucy; more bring out ripples and noise
SHORTEST, LONGEST = 5, 64  # pixels, of a motion that is searched for
BLOCK = 256  # side of the windows whose log spectra are averaged
PLAIN = 1e-3  # of the brightest sample: a window with a smaller standard deviation carries no information
CLEAR = 8.0  # robust standard deviations by which the cepstrum's dip of a motion must stand out


class BaselineError(DeblurHubError):
    """A baseline that cannot be computed here."""


@dataclass(frozen=True)
class Baseline:
    """A restorer like a generator, but without weights. It computes on the CPU."""

    name: str
    title: str
    function: Callable[[Tensor], Tensor]

    def restore(
        self,
        blurred: Tensor,
        *,
        tile: int | None = None,
        precision: str = "float32",
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same, in float32; `tile` and `precision`, a generator's, have no effect."""
        restored = []
        for number, picture in enumerate(blurred.detach().float().cpu().split(1), start=1):
            restored.append(self.function(picture).clamp(-1, 1))
            if progress:
                progress(number, len(blurred))
        return torch.cat(restored).to(blurred.device)


@dataclass(frozen=True)
class Motion:
    """A straight, steady motion during the exposure: `length` in pixels, `angle` in degrees in [0, 180), anticlockwise
    from the horizontal as one sees the picture."""

    length: float
    angle: float


def unsharp_mask(picture: Tensor) -> Tensor:
    """(N, C, H, W) plus its difference from a Gaussian-smoothed copy."""
    radius = math.ceil(4 * UNSHARP_SIGMA)
    at = torch.arange(-radius, radius + 1, dtype=picture.dtype)
    window = torch.exp(-(at**2) / (2 * UNSHARP_SIGMA**2))
    window /= window.sum()
    flat = F.pad(picture.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    smooth = F.conv2d(F.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1)).view_as(picture)
    return picture + UNSHARP_AMOUNT * (picture - smooth)


def richardson_lucy(picture: Tensor) -> Tensor:
    """(1, 3, H, W) in [-1, 1], deconvolved channel by channel with the motion that `estimate_motion` finds in it.

    On the samples as they are coded, not in linear light: GoPro's `blur` pictures are averages of coded frames. A
    picture in which no motion is found is returned unchanged. BaselineError if scikit-image is not installed.
    """
    try:
        from skimage.restoration import richardson_lucy as deconvolve
    except ImportError:
        raise BaselineError(
            "the baseline 'richardson-lucy' needs scikit-image; install it with: pip install 'deblur-hub[eval]'"
        ) from None
    unit = (picture[0].double().numpy() + 1) / 2
    motion = estimate_motion(unit.mean(axis=0))
    if motion is None:
        return picture
    kernel = motion_kernel(motion)
    margin = [2 * side for side in kernel.shape]  # the frame's edge rings into it
    edges = [(min(m, side - 1),) * 2 for m, side in zip(margin, unit.shape[1:], strict=True)]
    inside = tuple(slice(edge[0], edge[0] + side) for edge, side in zip(edges, unit.shape[1:], strict=True))
    restored = [
        deconvolve(np.pad(channel, edges, mode="reflect"), kernel, num_iter=ITERATIONS, filter_epsilon=1e-3)[inside]
        for channel in unit
    ]
    return torch.from_numpy(np.stack(restored) * 2 - 1).float()[None]


def estimate_motion(grey: np.ndarray) -> Motion | None:
    """The straight motion that a grey picture (H, W), of any scale, was blurred by, or None if none stands out.

    A motion's spectrum is a sinc with zeros at equal distances. In the cepstrum, which is the transform of the log
    spectrum, they make a dip at the motion's end (Cannon, "Blind deconvolution of spatially invariant image blurs with
    phase", IEEE TASSP 1976). Log spectra of overlapping windows are averaged as there. A regular texture can be
    mistaken for a motion.
    """
    side = min(BLOCK, *grey.shape)
    if side < 4 * SHORTEST:
        return None
    window = np.hanning(side + 2)[1:-1]
    window = window[:, None] * window
    log_power, windows = np.zeros((side, side)), 0
    for top, left in product(*(starts(length, side) for length in grey.shape)):
        part = grey[top : top + side, left : left + side]
        if part.std() > PLAIN * np.abs(grey).max():
            power = np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2
            log_power += np.log(power + 1e-9 * power.max())
            windows += 1
    if not windows:
        return None
    cepstrum = np.fft.fftshift(np.fft.ifft2(log_power).real) / windows
    middle = side // 2
    y, x = np.mgrid[:side, :side] - middle
    radius = np.hypot(y, x)
    searched = (radius >= SHORTEST) & (radius <= min(LONGEST, middle - 2))
    if not searched.any():
        return None
    values = cepstrum[searched]
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    row, column = np.unravel_index(np.argmin(np.where(searched, cepstrum, np.inf)), cepstrum.shape)
    if not cepstrum[row, column] < np.median(values) - CLEAR * spread:
        return None
    patch = np.s_[row - 1 : row + 2, column - 1 : column + 2]
    weight = np.maximum(np.median(values) - cepstrum[patch], 0)
    dy, dx = (float((weight * offset[patch]).sum() / weight.sum()) for offset in (y, x))
    return Motion(math.hypot(dy, dx), math.degrees(math.atan2(-dy, dx)) % 180)


def starts(length: int, side: int) -> list[int]:
    """The starts of windows of `side` that cover `length` and overlap by half."""
    count = max(1, math.ceil((length - side) / (side / 2)) + 1)
    return [round(at) for at in np.linspace(0, length - side, count)]


def motion_kernel(motion: Motion) -> np.ndarray:
    """The motion as a kernel of sum 1 and odd sides: a segment of its length, laid down bilinearly in small steps."""
    angle = math.radians(motion.angle)
    half = motion.length / 2
    reach_y, reach_x = (math.ceil(abs(part) * half) + 1 for part in (math.sin(angle), math.cos(angle)))
    kernel: np.ndarray = np.zeros((2 * reach_y + 1, 2 * reach_x + 1))
    steps = np.linspace(-half, half, 16 * math.ceil(motion.length) + 1)
    rows, columns = reach_y - steps * math.sin(angle), reach_x + steps * math.cos(angle)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    for y, x in product((0, 1), repeat=2):
        np.add.at(kernel, (top + y, left + x), np.abs(1 - y - down) * np.abs(1 - x - right))
    kernel /= kernel.sum()
    return kernel


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline("identity", "the blurry picture as it is", lambda picture: picture),
        Baseline("unsharp", "unsharp mask, radius 1, amount 1", unsharp_mask),
        Baseline("richardson-lucy", f"Richardson-Lucy, {ITERATIONS} steps, one straight motion", richardson_lucy),
    )
}
