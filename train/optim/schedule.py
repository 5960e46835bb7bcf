"""The learning rate over a run, and the moving average of its weights."""

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..recipe import Schedule


def lr_multiplier(schedule: Schedule, progress: float, step: int) -> float:
    """The factor of the learning rate.

    Args:
        progress: the part of the run that is done, in [0, 1].
        step: for the linear warm-up over the first `schedule.warmup` steps.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    return warmup * (schedule.final + (1 - schedule.final) * decay(schedule, progress))


def decay(schedule: Schedule, progress: float) -> float:
    """From 1 at the start to 0 at the end, except for "step", which ends at a power of `gamma`."""
    if schedule.shape == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if schedule.shape == "flat-linear":
        return 1 - max(0.0, progress - schedule.flat) / max(1e-9, 1 - schedule.flat)
    if schedule.shape == "step":
        return schedule.gamma ** sum(progress >= milestone for milestone in schedule.milestones)
    return (1 - progress) ** schedule.power


class WeightAverage(AveragedModel):
    """Exponential moving average of a network's weights and float buffers; other buffers are copied.

    The decay grows with the steps, min(decay, (1 + step) / (10 + step)), so that a short run is not held back by its
    random start. A decay of 0 keeps the last weights. Checkpoints hold `module` only: nothing else depends on the past.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, multi_avg_fn=self.average, use_buffers=True)
        self.module.requires_grad_(False).eval()
        self.n_averaged.fill_(1)  # else the first update would copy the weights
        self.decay = self.step_decay = decay

    def update(self, network: nn.Module, step: int) -> None:
        self.step_decay = min(self.decay, (1 + step) / (10 + step))
        self.update_parameters(network)

    def average(self, averages: list[Tensor], currents: list[Tensor], _count: Tensor) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, 1 - self.step_decay)
        else:
            torch._foreach_copy_(averages, currents)
