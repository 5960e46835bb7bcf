"""Synthetic blur for training: what a shaken camera does to a sharp photograph, computed in linear light."""

import numpy as np
import torch
from torch import Tensor

DISPLAY_GAMMA = 2.2


def shake_trajectory(rng: np.random.Generator, *, length: float, samples: int = 512) -> np.ndarray:
    """The path of a point over the sensor while the shutter is open.

    Boracchi and Foi's random walk (TIP 2012) in the form of DeblurGAN (Kupyn et al., CVPR 2018, algorithm 1): a
    velocity with inertia, a Gaussian perturbation, and rare impulses that nearly reverse it.

    Args:
        length: of the path, in pixels.
        samples: points on the path.

    Returns:
        (samples, 2) float64, pixels, its mean at the origin.
    """
    inertia, big_shake, gaussian_shake = rng.uniform(0, 0.7), rng.uniform(0, 0.2), rng.uniform(0, 0.7)
    impulse = 0.005  # the paper's 0.001 is for 2000 samples
    pace = length / (samples - 1)
    velocity = pace * np.exp(2j * np.pi * rng.uniform())
    jumps, turns = rng.uniform(size=samples), rng.uniform(-0.5, 0.5, size=samples)
    kicks = rng.standard_normal((samples, 2)) @ np.array([1, 1j])
    path = np.zeros(samples, complex)
    for t in range(samples - 1):
        change = 2 * velocity * np.exp(1j * (np.pi + turns[t])) if jumps[t] < big_shake * impulse * 20 else 0
        change += impulse * 20 * (gaussian_shake * kicks[t] * pace - inertia * path[t] * pace)
        velocity += change
        velocity *= pace / max(abs(velocity), 1e-12)
        path[t + 1] = path[t] + velocity
    path -= path.mean()
    return np.stack([path.real, path.imag], axis=1)


def trajectory_kernel(trajectory: np.ndarray) -> Tensor:
    """The point spread function of a trajectory: the time spent at each pixel, bilinearly shared among neighbours.

    Args:
        trajectory: (T, 2), pixels, around the origin.

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


def to_linear(picture: Tensor) -> Tensor:
    """Display values in [0, 1] to linear light (a pure power of 2.2, as GoPro's `blur_gamma` takes it)."""
    return picture.clamp(0, 1) ** DISPLAY_GAMMA


def to_display(light: Tensor) -> Tensor:
    """Linear light to display values in [0, 1]; what is brighter than the sensor's full well clips to 1."""
    return light.clamp(0, 1) ** (1 / DISPLAY_GAMMA)


def convolve(light: Tensor, kernel: Tensor) -> Tensor:
    """(C, H, W) convolved with a (K, K) kernel where the kernel lies wholly inside: (C, H - K + 1, W - K + 1)."""
    height, width = light.shape[-2:]
    size = kernel.shape[-1]
    spectrum = torch.fft.rfft2(light) * torch.fft.rfft2(kernel, s=(height, width))
    return torch.fft.irfft2(spectrum, s=(height, width))[..., size - 1 :, size - 1 :]


def average_frames(frames: np.ndarray, *, gamma: float) -> np.ndarray:
    """The frame that a longer exposure over consecutive sharp frames would have taken.

    Args:
        frames: (T, H, W, 3) uint8.
        gamma: of the camera's curve: 2.2 averages linear light (GoPro's `blur_gamma`), 1 the values as they are
            (GoPro's `blur`).

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    curve = (np.arange(256, dtype=np.float32) / 255) ** gamma
    total = np.zeros(frames.shape[1:], np.float32)
    for frame in frames:
        total += curve[frame]
    return (total / len(frames)) ** (1 / gamma)


def add_sensor_noise(picture: Tensor, rng: np.random.Generator, *, shot: float, read: float) -> Tensor:
    """Adds noise whose variance grows with the signal: sigma^2 = read^2 + shot^2 * value, values in [0, 1], clipped."""
    noise = torch.from_numpy(rng.standard_normal(picture.shape, dtype=np.float32))
    return (picture + noise * (read**2 + shot**2 * picture).sqrt()).clamp(0, 1)
