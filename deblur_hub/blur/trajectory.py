"""Paths over the sensor while the shutter is open: of a hand that shakes, and of an object that passes by."""

import cmath

import numpy as np


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
    velocity = pace * cmath.exp(2j * np.pi * rng.uniform())
    jumps, turns = rng.uniform(size=samples).tolist(), rng.uniform(-0.5, 0.5, size=samples).tolist()
    kicks = (rng.standard_normal((samples, 2)) @ np.array([1, 1j])).tolist()  # plain numbers: the loop is in Python
    place, path = 0j, [0j]
    for t in range(samples - 1):
        change = 2 * velocity * cmath.exp(1j * (np.pi + turns[t])) if jumps[t] < big_shake * impulse * 20 else 0
        change += impulse * 20 * (gaussian_shake * kicks[t] * pace - inertia * place * pace)
        velocity += change
        velocity *= pace / max(abs(velocity), 1e-12)
        place += velocity
        path.append(place)
    points = np.array(path)
    points -= points.mean()
    return np.stack([points.real, points.imag], axis=1)


def object_path(rng: np.random.Generator, *, length: float, samples: int = 512) -> np.ndarray:
    """The path of something that passes by: steadily, along an arc of up to a sixth of a circle.

    Args:
        length: of the path, in pixels.

    Returns:
        (samples, 2) float64, pixels, its mean at the origin.
    """
    heading, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-np.pi / 3, np.pi / 3)
    directions = heading + bend * np.linspace(-0.5, 0.5, samples - 1)
    steps = length / (samples - 1) * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    path: np.ndarray = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    path -= path.mean(axis=0)
    return path
