"""Noise of a sensor, whose variance grows with the signal."""

import math

import numpy as np
import torch
from torch import Tensor

ODD = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # multipliers that mix the bits of 32-bit numbers well
MASK = 0xFFFFFFFF


def add_sensor_noise(
    picture: Tensor, noise: Tensor | np.random.Generator, *, shot: float | Tensor, read: float | Tensor
) -> Tensor:
    """Adds noise whose variance grows with the signal: sigma^2 = read^2 + shot^2 * value, values in [0, 1], clipped.

    `noise` has the picture's shape and is standard normal, or is a generator to draw it from.
    """
    if isinstance(noise, np.random.Generator):
        noise = torch.from_numpy(noise.standard_normal(picture.shape, dtype=np.float32))
    return (picture + noise * (read**2 + shot**2 * picture.clamp(min=0)).sqrt()).clamp(0, 1)


def standard_normal(seeds: Tensor, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Normal deviates that depend on nothing but the seed and the place, and so are the same on every device.

    Integer arithmetic on a counter, which is exact everywhere, and Box and Muller's transform: seeds (N,) int64, each
    in [0, 2^31), to (N, *shape) float32, equal on all devices but for rounding.
    """
    count = math.prod(shape)
    half = (count + 1) // 2
    counter = torch.arange(half, device=device)
    key = mixed(seeds.to(device, non_blocking=True))[:, None]
    first, second = mixed(counter ^ key), mixed((counter + half) ^ mixed(key + 1))
    # 24 bits are what a float32 holds; the half keeps the logarithm away from 0.
    radius = (-2 * (((first >> 8) + 0.5) / 2**24).log()).sqrt()
    angle = (second >> 8) * (2 * math.pi / 2**24)
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :count].reshape(len(seeds), *shape)


def mixed(bits: Tensor) -> Tensor:
    """Scrambles 32-bit numbers, held in int64, one to one."""
    bits = (bits * ODD[0]) & MASK
    bits = ((bits ^ (bits >> 15)) * ODD[1]) & MASK
    bits = ((bits ^ (bits >> 13)) * ODD[2]) & MASK
    return bits ^ (bits >> 16)
