"""Paths over the sensor while the shutter is open: of a hand that shakes, and of an object that passes by."""

import cmath

import numpy as np

KNOTS = 24  # of a velocity that changes smoothly, over the exposure


def shake_trajectory(rng: np.random.Generator, *, length: float, samples: int = 512) -> np.ndarray:
    """The path of a point over the sensor while the shutter is open.

    Boracchi and Foi's random walk (TIP 2012) in the form of DeblurGAN (Kupyn et al., CVPR 2018, algorithm 1): a
    velocity with inertia, a Gaussian perturbation, and rare impulses that nearly reverse it.

    Returns:
        (samples, 2) float64, pixels, its mean at the origin; the path is `length` pixels long.
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


def steady_trajectory(rng: np.random.Generator, *, length: float, samples: int = 512) -> np.ndarray:
    """The path of a hand that drifts while the shutter is open: smooth, faster and slower, mostly one way.

    In the 1/60 to 1/10 s of a usual exposure a hand hardly turns; a random walk of the same length winds up into a
    blob of a few pixels. The velocity is a constant plus a Gaussian process whose squared-exponential correlation
    reaches over 0.3 to 2 exposures and whose deviation is up to 0.8 of the constant; the distributions are ours, meant
    to be as narrow as the blur between GoPro's pairs, whose frames come from a hand-held camera.

    Returns:
        As of `shake_trajectory`, but the place at half of the exposure at the origin: that is the moment of the sharp
        partner in GoPro (Nah et al., CVPR 2017).
    """
    reach, unrest = np.exp(rng.uniform(np.log(0.3), np.log(2.0))), rng.uniform(0, 0.8)
    knots = np.linspace(0, 1, KNOTS)
    correlation = np.exp(-(((knots[:, None] - knots) / reach) ** 2) / 2) + 1e-9 * np.eye(KNOTS)
    wander = np.linalg.cholesky(correlation) @ rng.standard_normal((KNOTS, 2))
    heading = rng.uniform(0, 2 * np.pi)
    velocity = np.array([np.cos(heading), np.sin(heading)]) + unrest * wander
    times = (np.arange(samples - 1) + 0.5) / (samples - 1)
    steps = np.stack([np.interp(times, knots, part) for part in velocity.T], axis=1)
    path: np.ndarray = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    path *= length / np.linalg.norm(steps, axis=1).sum()
    half = (samples - 1) / 2
    path -= (path[int(np.floor(half))] + path[int(np.ceil(half))]) / 2
    return path


def object_path(rng: np.random.Generator, *, length: float, samples: int = 512) -> np.ndarray:
    """The path of something that passes by, as of `shake_trajectory`: steadily, along an arc of up to 60 degrees."""
    heading, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-np.pi / 3, np.pi / 3)
    directions = heading + bend * np.linspace(-0.5, 0.5, samples - 1)
    steps = length / (samples - 1) * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    path: np.ndarray = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    path -= path.mean(axis=0)
    return path
