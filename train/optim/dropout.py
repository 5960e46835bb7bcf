"""Dropout that is the same however a batch is dealt out: to one process or several, whole or in parts."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Chance:
    """What the masks of one forward pass are drawn from.

    Args:
        seed: numbers that name the pass: of the run, the step, and the update within it.
        first: the place of the pass's first sample in the whole batch.
    """

    seed: tuple[int, ...] = (0,)
    first: int = 0


class SampleDropout(nn.Module):
    """`nn.Dropout`, or with `channels` `nn.Dropout2d`, with a mask of its own for each sample's place in the batch.

    Args:
        number: of this layer, so that no two drop the same.
    """

    def __init__(self, p: float, number: int, chance: Chance, *, channels: bool) -> None:
        super().__init__()
        self.p, self.number, self.chance, self.channels = p, number, chance, channels

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p:
            return values
        return values * self.mask(values)

    @torch.compiler.disable  # it would be compiled anew for each seed
    def mask(self, values: Tensor) -> Tensor:
        """(N, C, H, W), or (N, C, 1, 1) for whole channels: 0 where dropped, 1 / (1 - p) where kept."""
        shape = (*values.shape[1:2], 1, 1) if self.channels else values.shape[1:]
        kept = []
        for place in range(self.chance.first, self.chance.first + len(values)):
            words = np.random.SeedSequence([*self.chance.seed, self.number, place]).generate_state(2)
            generator = torch.Generator(values.device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
            kept.append(torch.rand(shape, generator=generator, device=values.device) >= self.p)
        return torch.stack(kept).to(values.dtype) / (1 - self.p)


def draw_by_sample(network: nn.Module) -> Chance:
    """Puts `SampleDropout` in place of a network's dropout, which holds no state, and returns what it draws from."""
    chance, number = Chance(), 0
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) in (nn.Dropout, nn.Dropout2d):
                setattr(parent, name, SampleDropout(child.p, number, chance, channels=type(child) is nn.Dropout2d))
                number += 1
    return chance
