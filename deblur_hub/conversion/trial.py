"""One picture through a model that was just converted: weights in wrong places fit all shapes and restore nothing."""

import numpy as np
import torch
from torch import Tensor

from ..blur import convolve, trajectory_kernel
from ..generator import DeblurGenerator
from ..metrics import psnr

HEIGHT, WIDTH, SHAPES = 192, 256, 60
MOTION, SLOPE = 9.0, 0.4  # pixels, and how much of that is down
WORST_LOSS = 1.0  # dB that a network that restores does not lose, on such a picture
LEAST_CHANGE = 0.1  # levels


def trial(generator: DeblurGenerator) -> str:
    """How a made-up picture under a straight motion comes back, at the best quality, in float32: a sentence."""
    along = np.linspace(-MOTION / 2, MOTION / 2, 64)
    kernel = trajectory_kernel(np.stack([along, along * SLOPE], axis=1) / np.hypot(1, SLOPE))
    wide, rim = scene(), len(kernel) // 2
    blurred = convolve(wide, kernel).clamp(0, 1)
    sharp = wide[..., rim:-rim, rim:-rim]
    restored = (generator.restore(blurred * 2 - 1, quality="best", precision="float32") + 1) / 2
    before, after = (float(psnr(picture.clamp(0, 1), sharp)) for picture in (blurred, restored))
    change = float((restored - blurred).abs().mean() * 255)
    told = (
        f"tried on a made-up picture under a motion of {MOTION:g} pixels: {before:.1f} dB before, "
        f"{after:.1f} dB after, changed by {change:.1f} of 255 levels on average"
    )
    if not after >= before - WORST_LOSS:
        return f"{told}; it came back worse, which trained weights in their places hardly do: look at a photo of yours"
    if change < LEAST_CHANGE:
        return f"{told}; it came back as it was, as from a network that was not trained: look at a photo of yours"
    return told


def scene() -> Tensor:
    """(1, 3, H, W) in [0, 1]: boards of many sizes and colours over each other, on a slope of light."""
    draw = np.random.default_rng(0)
    picture = np.linspace(0.2, 0.8, WIDTH)[None, :, None] * np.ones((HEIGHT, 1, 3))
    for size in np.geomspace(90, 4, SHAPES):
        height, width = (max(2, round(size * share)) for share in draw.uniform(0.4, 1.6, 2))
        top, left = draw.integers(0, HEIGHT - 2), draw.integers(0, WIDTH - 2)
        picture[top : top + height, left : left + width] = draw.uniform(0, 1, 3)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float()
