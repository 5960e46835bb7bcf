"""What is done to any network from outside: built without weights, its weights cast and placed, its mode switched."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelError

FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.tensor, torch.arange}
WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class EmptyWeights(TorchFunctionMode):
    """Builds networks on the meta device, as `torch.device("meta")` does, and skips their slow initialisation."""

    def __torch_function__(
        self, function: Any, kinds: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        if function in FACTORIES:
            options = {"device": "meta"} | {key: value for key, value in options.items() if value is not None}
        return function(*arguments, **options)


def require_weight_dtype(dtype: torch.dtype) -> None:
    """Raises ModelError unless weights can have the type."""
    if dtype not in WEIGHT_DTYPES:
        raise ModelError(
            f"dtype {dtype} is not one that weights can have; take one of {', '.join(map(str, WEIGHT_DTYPES))}"
        )


def cast_floats(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The floats in another type; counts, such as batch normalisation's number of batches, as they are."""
    return {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def place_weights(tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights on a device, floats in a type, and those of convolutions channels-last; faster than `Module.to`."""
    placed = {key: tensor.to(device) for key, tensor in cast_floats(tensors, dtype).items()}
    return {
        key: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for key, tensor in placed.items()
    }


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) for a while, whatever the mode was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
