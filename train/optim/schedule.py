"""Learning rates over a run, and the moving average of its weights."""

import copy
import math

import torch
from torch import nn

from ..recipe import Schedule


def rate_factor(schedule: Schedule, progress: float, step: int) -> float:
    """What the learning rate is multiplied by.

    Args:
        progress: the share of the run that is done, in [0, 1].
        step: for the linear warm-up over the first `schedule.warmup` steps.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    return warmup * (schedule.final + (1 - schedule.final) * fall(schedule, progress))


def fall(schedule: Schedule, progress: float) -> float:
    """From 1 to 0, but for "step", which ends at a power of `gamma`."""
    if schedule.shape == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if schedule.shape == "flat-linear":
        return 1 - max(0.0, progress - schedule.flat) / max(1e-9, 1 - schedule.flat)
    if schedule.shape == "step":
        return schedule.gamma ** sum(progress >= milestone for milestone in schedule.milestones)
    return (1 - progress) ** schedule.power


class WeightAverage:
    """Exponential moving average of a network's weights; the average is a network of its own.

    Remembered statistics, as batch normalisation has them, are averaged like the weights that they belong to; counts
    are copied.

    The decay grows with the steps, min(decay, (1 + step) / (10 + step)), so that a short run is not held back by
    its random start. A decay of 0 keeps the last weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, currents = self.network.state_dict().values(), network.state_dict().values()
        pairs = list(zip(averages, currents, strict=True))
        weights = [(average, current) for average, current in pairs if average.dtype.is_floating_point]
        if weights:
            torch._foreach_lerp_(*map(list, zip(*weights, strict=True)), 1 - decay)
        for average, current in pairs:
            if not average.dtype.is_floating_point:
                average.copy_(current)
