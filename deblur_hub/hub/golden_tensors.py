"""Makes golden tensors: a small input, a network's output for it, and how far rounding may move that output."""

import math
from typing import cast

import torch
from torch import Tensor

from ..config import GeneratorConfig
from ..networks.base import Generator
from ..networks.state import cast_floats
from .reading import build_configured
from .verifying import SHAPE, checksum

MARGIN = 4  # between what rounding is measured to change and what it may
FLOORS = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1.6e-2}  # tolerances that no network is too good for

Made = tuple[dict[str, Tensor], dict[str, float]]
latest: dict[tuple[str, str, str], Made] = {}  # by architecture, options and the weights' checksum; one at most


def golden_of(config: GeneratorConfig, weights: dict[str, Tensor]) -> Made:
    """What `make_golden` makes; for the model of the call before, that again, as training saves one in several folders.

    It takes a dozen passes through the network.
    """
    key = (config.architecture, repr(sorted(config.options.items())), checksum(weights))
    found = latest.get(key)
    if found is None:
        with torch.device("meta"):
            empty = build_configured(config, "golden").eval()
        found = make_golden(empty, weights)
        latest.clear()
        latest[key] = found
    return found


def make_golden(network: Generator, weights: dict[str, Tensor]) -> Made:
    """A small input and the output that weights give for it in float32 on a CPU, to check loaded models against; and by
    how much the output may differ elsewhere, for each precision. The network, in evaluation mode, is given the weights.
    """
    wave = torch.linspace(0, 12, SHAPE[-1])
    picture = torch.stack([torch.sin(wave[:, None] * (1 + k) + wave[None] ** 1.5) for k in range(3)])[None] * 0.9
    weights = {key: tensor.cpu() for key, tensor in cast_floats(weights, torch.float32).items()}
    network.load_state_dict(weights, assign=True)
    output = whole_frame(network, picture)
    tolerances = {}
    for precision, floor in FLOORS.items():
        change = change_by_rounding(network, weights, picture, output, getattr(torch, precision))
        if math.isfinite(change):
            tolerances[precision] = min(2.0, max(floor, MARGIN * change))
    return {"input": picture, "output": output}, tolerances


def change_by_rounding(
    network: Generator, weights: dict[str, Tensor], picture: Tensor, output: Tensor, dtype: torch.dtype
) -> float:
    """The largest change of an output if all weights and layers' results are off by as much as a type rounds them.

    It is computed in float32: arithmetic in half precision is slow on a CPU, or not available.
    """
    draw, error = torch.Generator().manual_seed(0), torch.finfo(dtype).eps / 2

    def rounded(value: Tensor) -> Tensor:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        return value * (1 + error * (2 * torch.rand(value.shape, generator=draw) - 1))

    network.load_state_dict({key: rounded(tensor) for key, tensor in weights.items()}, assign=True)
    layers = [part for part in network.modules() if not any(part.children())]
    hooks = [layer.register_forward_hook(lambda _, __, result: rounded(result)) for layer in layers]
    try:
        return float((whole_frame(network, picture) - output).abs().max())
    finally:
        for hook in hooks:
            hook.remove()
        network.load_state_dict(weights, assign=True)


@torch.inference_mode()
def whole_frame(network: Generator, picture: Tensor) -> Tensor:
    """The network's own result for a whole picture in float32, nothing of it folded or fused."""
    return cast(Tensor, network(picture)).clamp(-1, 1).contiguous()
