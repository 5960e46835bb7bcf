"""One network's way down its loss: gradients gathered in parts, clipped, and an update only where they are finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..recipe import Optimizer
from .muon import Muon


class Descent:
    """A network and its optimizer, both prepared by accelerate, which is not asked to count parts itself.

        descent.begin()
        for number, part in enumerate(parts):
            with descent.part(last=number == len(parts) - 1):
                descent.add(loss_of(part) / len(parts))
        descent.end(rate)

    Nothing here waits for the device: whether gradients are finite is decided where they are.

    Args:
        network: with its weights where the optimizer is to find them; others of its parameters stay as they are.
    """

    def __init__(self, network: nn.Module, options: Optimizer, lr: float, accelerator: Accelerator) -> None:
        self.accelerator, self.clip = accelerator, options.clip
        self.network, self.optimizer = accelerator.prepare(network, make_optimizer(network, options, lr))

    def begin(self) -> None:
        self.optimizer.zero_grad()

    @contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of a part of the batch; processes share gradients in the last alone."""
        if last:
            yield
        else:
            with self.accelerator.no_sync(self.network):
                yield

    def add(self, loss: Tensor) -> None:
        """Adds a loss's gradients. Of a loss that is not finite they are none either, whatever its formula.

        So gradients alone tell, and as processes share them, all of them come to the same verdict.
        """
        sound = torch.isfinite(loss.detach())
        self.accelerator.backward(loss * torch.where(sound, 1.0, torch.nan))

    def end(self, rate: float) -> tuple[Tensor, Tensor]:
        """Updates the weights at a learning rate, or leaves weights and moments as they are.

        Returns:
            On the device: the norm of the gradients before clipping, and whether it was not finite, which is when
            nothing was updated.
        """
        self.accelerator.unscale_gradients(self.optimizer)
        parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = laid_out_like(parameter, parameter.grad)
        norm = get_total_norm([parameter.grad for parameter in parameters])
        if self.clip:
            clip_grads_with_norm_(parameters, self.clip, norm)
        spoilt = ~torch.isfinite(norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # The fused kernels leave everything alone where this is 1; a gradient scaler sets it, by the same gradients.
        self.optimizer.optimizer.found_inf = spoilt.float()
        self.optimizer.step()
        return norm, spoilt

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts moments in place; learning rate, betas and weight decay stay the recipe's.

        Raises:
            ValueError: if they are of other networks.
        """
        own = self.optimizer.state_dict()["param_groups"]
        groups = [mine | {"params": theirs["params"]} for mine, theirs in zip(own, state["param_groups"], strict=True)]
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
        for parameter, moments in self.optimizer.state.items():
            for key in moments.keys() - {"step"}:
                moments[key] = laid_out_like(parameter, moments[key])


def laid_out_like(parameter: Tensor, values: Tensor) -> Tensor:
    """Fused kernels on CPUs take tensors as they lie in memory, whatever their strides, and mix them up unasked."""
    if values.stride() == parameter.stride():
        return values
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def make_optimizer(network: nn.Module, options: Optimizer, lr: float) -> torch.optim.Optimizer:
    if options.name == "muon":
        return Muon(network.parameters(), lr, options.betas, options.weight_decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
    return kind(network.parameters(), lr=lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)
