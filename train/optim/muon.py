"""Muon (Jordan et al., 2024): the momentum U S V' of a weight matrix is replaced by about U V' in each step.

The filters of a convolution are one matrix, (outputs, inputs x height x width). `torch.optim.Muon` takes 2-D parameters
only, one after another and in bfloat16, and ignores `found_inf`, by which steps that are not finite are skipped.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al.: singular values of 0 to 1 go near 1, fast rather than exactly
ITERATIONS = 5
ADAM_RMS = 0.2  # of AdamW's steps, to which Muon's are scaled: Liu et al., arXiv 2502.16982, eq. 4
EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two and more dimensions, fused AdamW for the others; one learning rate fits both.

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
        groups = [{"params": [], "matrices": True}, {"params": [], "matrices": False}]
        for parameter in parameters:
            groups[parameter.ndim < 2]["params"].append(parameter)
        options = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters and group["matrices"]:
                self.step_matrices(parameters, group)
            elif parameters:
                self.step_vectors(parameters, group)

    def step_matrices(self, parameters: list[Parameter], group: dict[str, Any]) -> None:
        """Orthogonalises matrices of one shape in one batch."""
        beta, gradients = group["betas"][0], [parameter.grad for parameter in parameters]
        momenta = self.moments(parameters, "momentum")
        if self.found_inf is not None:
            gradients = [torch.where(self.found_inf.bool(), *pair) for pair in zip(momenta, gradients, strict=True)]
        torch._foreach_lerp_(momenta, gradients, 1 - beta)
        steps, shapes = torch._foreach_lerp(gradients, momenta, beta), {}
        for place, step in enumerate(steps):
            shapes.setdefault(step.flatten(1).shape, []).append(place)
        for shape, places in shapes.items():
            batch = orthogonalised(torch.stack([steps[place].flatten(1) for place in places]))
            for place, step in zip(places, batch.mul_(ADAM_RMS * max(shape) ** 0.5), strict=True):
                steps[place].copy_(step.view(parameters[place].shape))
        if group["weight_decay"]:
            torch._foreach_add_(steps, parameters, alpha=group["weight_decay"])
        if self.found_inf is not None:
            steps = [torch.where(self.found_inf.bool(), 0.0, step) for step in steps]
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def step_vectors(self, parameters: list[Parameter], group: dict[str, Any]) -> None:
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            self.moments(parameters, "exp_avg"),
            self.moments(parameters, "exp_avg_sq"),
            [],
            [self.state[p].setdefault("step", torch.zeros((), device=p.device)) for p in parameters],
            fused=True,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )

    def moments(self, parameters: list[Parameter], name: str) -> list[Tensor]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


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
