"""Dropout that does not depend on how a batch is split among processes and accumulated parts."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class DropoutSeed:
    """The seed of one forward pass's masks."""

    seed: tuple[int, ...] = (0,)  # numbers of the run, the step, and the update within it
    first: int = 0  # the place of the pass's first sample in the whole batch


class SampleDropout(nn.Module):
    """`nn.Dropout`, or with `channels` `nn.Dropout2d`, whose mask depends on a sample's place in the whole batch.

    Args:
        number: of this layer, so that no two layers have one mask.
    """

    def __init__(self, p: float, number: int, seed: DropoutSeed, *, channels: bool) -> None:
        super().__init__()
        self.p, self.number, self.seed, self.channels = p, number, seed, channels

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p:
            return values
        return values * self.mask(values)

    @torch.compiler.disable  # it would be recompiled for each seed
    def mask(self, values: Tensor) -> Tensor:
        """(N, C, H, W), or (N, C, 1, 1) for whole channels: 0 where dropped, 1 / (1 - p) where kept."""
        shape = (*values.shape[1:2], 1, 1) if self.channels else values.shape[1:]
        kept = []
        for place in range(self.seed.first, self.seed.first + len(values)):
            words = np.random.SeedSequence([*self.seed.seed, self.number, place]).generate_state(2)
            generator = torch.Generator(values.device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
            kept.append(torch.rand(shape, generator=generator, device=values.device) >= self.p)
        return torch.stack(kept).to(values.dtype) / (1 - self.p)


def use_sample_dropout(network: nn.Module) -> DropoutSeed:
    """Replaces a network's dropout layers, which hold no state, by `SampleDropout`; returns their seed."""
    seed, number = DropoutSeed(), 0
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) in (nn.Dropout, nn.Dropout2d):
                setattr(parent, name, SampleDropout(child.p, number, seed, channels=type(child) is nn.Dropout2d))
                number += 1
    return seed
