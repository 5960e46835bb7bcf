"""Muon (Jordan et al., 2024): the momentum U S V' of a weight matrix is replaced by about U V' in each step.

The filters of a convolution are one matrix, (outputs, inputs x height x width). `torch.optim.Muon` takes 2-D parameters
only, one after another and in bfloat16, and ignores `found_inf`, by which steps that are not finite are skipped.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al.: singular values of 0 to 1 go near 1, fast rather than exactly
ITERATIONS = 5
ADAM_RMS = 0.2  # of AdamW's steps, to which Muon's are scaled: Liu et al., arXiv 2502.16982, eq. 4
EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two and more dimensions, AdamW for the others; one learning rate fits both.

    Args:
        betas: of AdamW's moments; the first is Muon's Nesterov momentum, too.
        weight_decay: decoupled, as in AdamW.

    Like torch's fused optimizers it leaves weights and moments as they are if `found_inf`, set from outside, is 1.
    """

    _step_supports_amp_scaling = True  # tells gradient scalers so
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self, parameters: Iterable[Parameter], lr: float, betas: tuple[float, ...], weight_decay: float = 0.0
    ) -> None:
        parameters = list(parameters)
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in parameters if parameter.ndim < 2]
        groups = [{"params": matrices, "matrices": True}, {"params": vectors, "matrices": False}]
        options = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            steps = self.matrix_steps(parameters, group) if group["matrices"] else self.vector_steps(parameters, group)
            if group["weight_decay"]:
                torch._foreach_add_(steps, parameters, alpha=group["weight_decay"])
            if self.found_inf is not None:
                steps = [torch.where(self.found_inf.bool(), 0.0, step) for step in steps]
            torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def matrix_steps(self, parameters: list[Parameter], group: dict[str, Any]) -> list[Tensor]:
        """Orthogonalises matrices of one shape in one batch."""
        beta = group["betas"][0]
        momenta = self.moving_means(parameters, "momentum", [parameter.grad for parameter in parameters], beta)
        targets = torch._foreach_lerp([parameter.grad for parameter in parameters], momenta, beta)
        steps, shapes = list(targets), {}
        for place, target in enumerate(targets):
            shapes.setdefault(target.flatten(1).shape, []).append(place)
        for shape, places in shapes.items():
            batch = orthogonalised(torch.stack([targets[place].flatten(1) for place in places]))
            batch.mul_(ADAM_RMS * max(shape) ** 0.5)
            for place, step in zip(places, batch, strict=True):
                steps[place] = step.view(parameters[place].shape)
        return steps

    def vector_steps(self, parameters: list[Parameter], group: dict[str, Any]) -> list[Tensor]:
        gradients = [parameter.grad for parameter in parameters]
        means = self.moving_means(parameters, "exp_avg", gradients, group["betas"][0])
        squares = self.moving_means(
            parameters, "exp_avg_sq", torch._foreach_mul(gradients, gradients), group["betas"][1]
        )
        steps = []
        for parameter, mean, square in zip(parameters, means, squares, strict=True):
            count = self.state[parameter].setdefault("step", torch.zeros((), device=parameter.device))
            count.add_(1.0 if self.found_inf is None else 1.0 - self.found_inf)
            first, second = (1 - beta**count for beta in group["betas"])
            steps.append(mean / first / ((square / second).sqrt() + EPSILON))
        return steps

    def moving_means(self, parameters: list[Parameter], name: str, values: list[Tensor], beta: float) -> list[Tensor]:
        """Updates the parameters' moving means of a name by these values, and returns them."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        means = [self.state[parameter][name] for parameter in parameters]
        if self.found_inf is not None:
            values = [torch.where(self.found_inf.bool(), *pair) for pair in zip(means, values, strict=True)]
        torch._foreach_lerp_(means, values, 1 - beta)
        return means


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U V' of each matrix U S V', (N, rows, columns): its singular values lie between 0.7 and 1.2.

    Newton-Schulz iterations of the small Gram matrix X X', multiplied with X once at the end: for wide matrices a third
    of the arithmetic of iterating X. In float32, as rounding to bfloat16 would give the Gram matrix negative
    eigenvalues, which grow without bounds.
    """
    wide = matrices.float() if matrices.shape[1] <= matrices.shape[2] else matrices.float().mT
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + EPSILON)
    gram = wide @ wide.mT
    a, b, c = COEFFICIENTS
    identity = torch.eye(gram.shape[1], device=gram.device)
    product = None
    for iteration in range(ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor if product is None else factor @ product
        if iteration < ITERATIONS - 1:
            gram = factor @ gram @ factor
    result = product @ wide
    return (result if matrices.shape[1] <= matrices.shape[2] else result.mT).to(matrices.dtype)
