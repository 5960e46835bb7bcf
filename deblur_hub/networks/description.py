"""What a network is, for a reader: its size, its cost, how far it sees, and where the design is from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .state import evaluating


@dataclass(frozen=True)
class Description:
    """Of one network at one picture size."""

    parameters: int
    multiply_adds: int  # of one pass in evaluation, as PyTorch counts them: of convolutions and matrix products
    size: tuple[int, int]  # width and height of the picture, in pixels
    size_multiple: int
    receptive_field: int | None  # in pixels; None where it is the whole frame
    tiles: bool  # whether large frames can be cut into tiles that leave no trace
    source: str
    licence: str  # of the authors' code
    note: str = ""  # where what is printed elsewhere differs, which count is meant
    windows: int | None = None  # the longest side of the windows that it restores a frame in, in pixels, if it does

    @property
    def field(self) -> str:
        """How far it sees, in words."""
        if self.windows is not None:
            return f"windows of {self.windows} px"
        return "whole frame" if self.receptive_field is None else f"{self.receptive_field} px"

    def __str__(self) -> str:
        width, height = self.size
        return (
            f"{self.parameters / 1e6:.2f} M parameters, {self.multiply_adds / 1e9:.0f} G multiply-adds at "
            f"{width}x{height}, size multiple {self.size_multiple}, receptive field {self.field}; "
            f"{self.source} ({self.licence}){f'; {self.note}' if self.note else ''}"
        )


def multiply_adds(network: nn.Module, size: tuple[int, int]) -> int:
    """Of one pass over a picture of (width, height) in evaluation, counted by PyTorch on the meta device."""
    shadows = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    picture = torch.empty(1, 3, size[1], size[0], device="meta")
    return counted(network, lambda: functional_call(network, shadows, picture))


def counted(network: nn.Module, run: Callable[[], object]) -> int:
    """Multiply-adds of whatever runs the network in evaluation."""
    with evaluating(network), torch.no_grad(), Tally() as tally:
        run()
    return tally.operations // 2  # a multiply-add counts as two


class Tally(TorchDispatchMode):
    """Adds up operations by PyTorch's formulas, as its FlopCounterMode does, which takes twice as long for a tree of
    modules that nobody asks for here.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self, function: Any, kinds: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.operations += formula(*arguments, **options, out_val=result)
        return result
