"""One network's optimizer step: gradients accumulated over parts of a batch, clipped, and applied only if finite."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..recipe import Optimizer
from .muon import Muon


class OptimizerStep:
    """A network and its optimizer, both prepared by accelerate, whose own gradient accumulation is not used.

        step.zero_grad()
        for number, part in enumerate(parts):
            with step.accumulate(last=number == len(parts) - 1):
                step.backward(loss_of(part) / len(parts))
        step.apply(lr)

    Nothing here waits for the device, which decides by itself whether gradients are finite.

    Args:
        network: with the memory format that it will keep, as the optimizer takes its weights.
    """

    def __init__(self, network: nn.Module, options: Optimizer, lr: float, accelerator: Accelerator) -> None:
        self.accelerator, self.clip = accelerator, options.clip
        self.network, self.optimizer = accelerator.prepare(network, make_optimizer(network, options, lr))

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Wraps forward and backward of a part of the batch; processes share gradients in the last part only."""
        return nullcontext() if last else self.accelerator.no_sync(self.network)

    def backward(self, loss: Tensor) -> None:
        """Adds a loss's gradients, which are not finite if the loss is not.

        So gradients alone tell, and as processes share them, all of them decide alike.
        """
        finite = torch.isfinite(loss.detach())
        self.accelerator.backward(loss * torch.where(finite, 1.0, torch.nan))

    def apply(self, lr: float) -> tuple[Tensor, Tensor]:
        """Updates the weights, or leaves weights and moments as they are if a gradient is not finite.

        Returns:
            On the device: the norm of the gradients before clipping, and whether it was not finite.
        """
        self.accelerator.unscale_gradients(self.optimizer)
        parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = with_strides_of(parameter, parameter.grad)
        norm = get_total_norm([parameter.grad for parameter in parameters])
        if self.clip:
            clip_grads_with_norm_(parameters, self.clip, norm)
        non_finite = ~torch.isfinite(norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Fused kernels change nothing where this is 1; a gradient scaler sets it by the same gradients.
        self.optimizer.optimizer.found_inf = non_finite.float()
        self.optimizer.step()
        return norm, non_finite

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Loads moments; learning rate, betas and weight decay stay the recipe's.

        Raises `ValueError` if the state is of another network.
        """
        own = self.optimizer.state_dict()["param_groups"]
        groups = [mine | {"params": theirs["params"]} for mine, theirs in zip(own, state["param_groups"], strict=True)]
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
        for parameter, moments in self.optimizer.state.items():
            for key in moments.keys() - {"step"}:
                moments[key] = with_strides_of(parameter, moments[key])


def with_strides_of(parameter: Tensor, values: Tensor) -> Tensor:
    """The values in the parameter's memory layout: fused CPU kernels ignore strides and would mix them up."""
    if values.stride() == parameter.stride():
        return values
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def make_optimizer(network: nn.Module, options: Optimizer, lr: float) -> torch.optim.Optimizer:
    if options.name == "muon":
        return Muon(network.parameters(), lr, options.betas, options.weight_decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
    return kind(network.parameters(), lr=lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)
