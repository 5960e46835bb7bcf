"""Point spread functions that are the same all over the picture, and convolution with them."""

import itertools

import numpy as np
import torch
from torch import Tensor

FINE = 8  # samples a pixel and axis for the rim of a disc


def trajectory_kernel(trajectory: np.ndarray) -> Tensor:
    """The time that a trajectory (T, 2), in pixels around the origin, spends at each pixel, bilinearly shared.

    Returns:
        (K, K) float32, K odd and as small as the trajectory allows; sums to one.
    """
    radius = int(np.ceil(np.abs(trajectory).max())) + 1
    size = 2 * radius + 1
    at = trajectory + radius
    corner = np.floor(at).astype(int)
    part = at - corner
    kernel = np.zeros((size, size))
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            np.add.at(kernel, (corner[:, 1] + dy, corner[:, 0] + dx), share)
    return torch.from_numpy(kernel / kernel.sum()).float()


def disc_kernel(radius: float) -> Tensor:
    """The point spread function of a lens out of focus: an even disc, each pixel by the part of it that is covered.

    Returns:
        (K, K) float32, K odd; sums to one.
    """
    reach = int(np.ceil(radius + 0.5))
    fine = (np.arange((2 * reach + 1) * FINE) + 0.5) / FINE - reach - 0.5
    inside = (fine[:, None] ** 2 + fine[None, :] ** 2 <= max(radius, 0.5 / FINE) ** 2).astype(float)
    kernel = inside.reshape(2 * reach + 1, FINE, 2 * reach + 1, FINE).sum(axis=(1, 3))
    if not kernel.any():
        kernel[reach, reach] = 1
    return torch.from_numpy(kernel / kernel.sum()).float()


def joined(kernel: Tensor, other: Tensor) -> Tensor:
    """The kernel that does what two do one after the other: (K, K) and (L, L) to (K + L - 1, K + L - 1)."""
    turned = kernel.flip(0, 1)[None, None]
    both = torch.nn.functional.conv2d(turned, other[None, None], padding=other.shape[-1] - 1)
    return both[0, 0].flip(0, 1)


def convolve(light: Tensor, kernel: Tensor) -> Tensor:
    """(..., H, W) and kernels (K, K) or (..., K, K), wholly inside, to (..., H - K + 1, W - K + 1)."""
    height, width = light.shape[-2:]
    size = kernel.shape[-1]
    room = fast_length(height), fast_length(width)  # what wraps around the ends falls outside of what is returned
    spectrum = torch.fft.rfft2(light, s=room) * torch.fft.rfft2(kernel, s=room)
    whole: Tensor = torch.fft.irfft2(spectrum, s=room)
    return whole[..., size - 1 : height, size - 1 : width]


def fast_length(least: int) -> int:
    """The next length without prime factors over 5, which a Fourier transform takes several times as fast."""
    lengths = itertools.count(least + least % 2, step=2)
    return next(length for length in lengths if 30 ** length.bit_length() % length == 0)  # 30 = 2 * 3 * 5
