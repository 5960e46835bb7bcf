"""Muon: momentum whose steps are orthogonalised, for networks of matrices and convolutions.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): the momentum of a weight matrix U S V'
is replaced by about U V', so that a step moves all directions alike, and not the few alone that gradients are largest
in. The filters of a convolution count as one matrix, (outputs, inputs x height x width).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al.: singular values of 0 to 1 go near 1, fast rather than exactly
ITERATIONS = 5
LIKE_ADAM = 0.2  # root mean square of AdamW's steps, by which Muon's are scaled: Liu et al., arXiv 2502.16982, eq. 4
EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two and more dimensions, AdamW for the others; one learning rate fits both.

    Args:
        betas: of AdamW's moments; the first is Muon's momentum, too, with Nesterov's look ahead.
        weight_decay: decoupled, as AdamW has it.

    Like torch's fused optimizers it leaves weights and moments as they are where `found_inf`, set from outside, is 1.
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
            for parameter, step in zip(parameters, steps, strict=True):
                change = step + group["weight_decay"] * parameter
                parameter.sub_(self.unless_spoilt(group["lr"] * change, torch.zeros_like(parameter)))

    def matrix_steps(self, parameters: list[Parameter], group: dict[str, Any]) -> list[Tensor]:
        """Matrices of one shape are orthogonalised together."""
        beta = group["betas"][0]
        aims, shapes = [], {}
        for place, parameter in enumerate(parameters):
            momentum = self.moved(parameter, "momentum", parameter.grad, beta)
            aims.append(parameter.grad.lerp(momentum, beta).flatten(1))
            shapes.setdefault(aims[-1].shape, []).append(place)
        steps = list(aims)
        for shape, places in shapes.items():
            scale = LIKE_ADAM * max(shape) ** 0.5
            together = orthogonalised(torch.stack([aims[place] for place in places])) * scale
            for place, step in zip(places, together, strict=True):
                steps[place] = step.view(parameters[place].shape)
        return steps

    def vector_steps(self, parameters: list[Parameter], group: dict[str, Any]) -> list[Tensor]:
        steps = []
        for parameter in parameters:
            mean = self.moved(parameter, "exp_avg", parameter.grad, group["betas"][0])
            square = self.moved(parameter, "exp_avg_sq", parameter.grad.square(), group["betas"][1])
            count = self.state[parameter].setdefault("step", torch.zeros((), device=parameter.device))
            count.add_(self.unless_spoilt(torch.ones_like(count), torch.zeros_like(count)))
            first, second = (1 - beta**count for beta in group["betas"])
            steps.append(mean / first / ((square / second).sqrt() + EPSILON))
        return steps

    def moved(self, parameter: Parameter, name: str, value: Tensor, beta: float) -> Tensor:
        """A moving mean of a parameter's, one step on."""
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        mean: Tensor = state[name]
        return mean.copy_(self.unless_spoilt(mean.lerp(value, 1 - beta), mean))

    def unless_spoilt(self, new: Tensor, old: Tensor) -> Tensor:
        return new if self.found_inf is None else torch.where(self.found_inf.bool(), old, new)


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U V' of each matrix U S V', (N, rows, columns): singular values come between 0.7 and 1.2.

    Newton-Schulz iterations in float32, of polynomials in the small Gram matrix X X' that are multiplied with X once at
    the end: for wide matrices a third of the arithmetic of iterating X itself.
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
