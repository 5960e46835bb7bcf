"""A network as one traced program of torch.export, for pictures of any size.

What a program takes and gives is (1, 3, H, W) float32 in [0, 1], as picture files have it.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from ..errors import ModelError, reason_of
from ..networks.base import Generator, Quality
from ..networks.frame import FrameBatchNorm, FrameNorm, FramePool
from ..networks.windows import WindowedGenerator

LARGEST_SIDE = 2**15  # pixels
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}  # of values in [0, 1]


@dataclass(frozen=True)
class Traced:
    """A network, at a quality and in a precision, as the program that was traced from it."""

    reference: Callable[[Tensor], Tensor]  # the network itself, in float32
    program: ExportedProgram
    sizes: tuple[tuple[int, int], ...]  # heights and widths at which a file is compared with it
    dtype: torch.dtype  # of the program's arithmetic

    def require_same(self, restored: Tensor, picture: Tensor, file: str) -> float:
        """The largest difference from the reference; raises ModelError if it is too large."""
        with torch.inference_mode():
            difference = float((restored - self.reference(picture)).abs().max())
        if not difference <= TOLERANCES[self.dtype]:
            size = f"{picture.shape[-1]}x{picture.shape[-2]}"
            raise ModelError(
                f"{file}: differs from PyTorch by {difference:.2g} at {size} pixels, allowed are "
                f"{TOLERANCES[self.dtype]:g}; nothing was written"
            )
        return difference


def trace(network: Generator, quality: Quality | None, *, half: bool = False) -> Traced:
    """Traces a network in evaluation mode: pictures of any size, or windows of one that restores in windows.

    Args:
        quality: of a network that restores in windows.
        half: arithmetic and weights in float16; what goes in and comes out stays float32.

    Raises:
        ModelError: if PyTorch cannot trace it.
    """
    dtype = torch.float16 if half else torch.float32
    if isinstance(network, WindowedGenerator):
        step = quality or network.best
        windows = network.windows.doubled() if step.halved else network.windows
        module: Whole | OneWindow = OneWindow(plain(network, dtype), step, dtype)
        reference: Callable[[Tensor], Tensor] = OneWindow(network, step, torch.float32)
        unit, most = windows.multiple, windows.side // windows.multiple
        axes = [{axis: unit * Dim(f"{name}_units", min=1, max=most) for axis, name in ((2, "height"), (3, "width"))}]
        sizes = ((unit, unit), (unit, 2 * unit), (2 * unit, unit))
        example = (2 * unit, 3 * unit)
    else:
        module, reference = Whole(plain(network, dtype), dtype), partial(restored_whole, network)
        unit = network.size_multiple
        # Of some networks PyTorch cannot prove that the trace holds for a picture of a single unit, either.
        axes = [
            {axis: Dim(name, min=least, max=LARGEST_SIDE) for axis, name in ((2, "height"), (3, "width"))}
            for least in (2, unit + 1)
        ]
        sizes = ((unit + 9, 2 * unit + 5), (64, 96), (131, 70))
        example = (4 * unit + 5, 5 * unit + 6)
    program = traced(module.eval(), torch.rand(1, 3, *example), axes)
    return Traced(reference, program, sizes, dtype)


def restored_whole(network: Generator, picture: Tensor) -> Tensor:
    return ((cast(Tensor, network(2 * picture - 1)) + 1) / 2).clamp(0, 1)


def plain(network: Generator, dtype: torch.dtype) -> Any:
    """A copy, of no layout in memory: of others PyTorch proves less."""
    copied = copy.deepcopy(network).to(dtype).to(memory_format=torch.contiguous_format)
    if dtype == torch.float16:
        for parent in list(copied.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, FrameNorm | FrameBatchNorm | FramePool):
                    setattr(parent, name, InFloat32(layer))
    return copied


def traced(module: "Whole | OneWindow", example: Tensor, axes: list[dict[int, Any]]) -> ExportedProgram:
    """The program of the first of several ranges of height and width that PyTorch proves it for."""
    reason: Exception = ModelError()
    for ranges in axes:
        # Sizes of one pixel, of whatever it is inside the network, are like all others.
        oblivious = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
        try:
            with warnings.catch_warnings(), torch.no_grad(), oblivious:
                warnings.simplefilter("ignore")
                return export(module, (example,), dynamic_shapes=({0: Dim.STATIC, 1: Dim.STATIC, **ranges},))
        except (torch._dynamo.exc.UserError, RuntimeError, ValueError, TypeError) as error:
            reason = error
    raise ModelError(
        f"{type(module.network).__name__} cannot be exported: PyTorch {torch.__version__} does not trace it "
        f"({reason_of(reason).splitlines()[0]})"
    )


class Whole(nn.Module):
    """A network over whole pictures of any size: padded by reflection, restored, cut back and clipped."""

    def __init__(self, network: Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        blurred = self.padded(self.padded(2 * picture - 1, -2), -1)
        restored = cast(Tensor, self.network.compute(blurred.to(self.dtype))).float()
        for axis, length in ((-2, height), (-1, width)):
            restored = restored.index_select(axis, torch.arange(length, device=picture.device))
        return ((restored + 1) / 2).clamp(0, 1)

    def padded(self, picture: Tensor, axis: int) -> Tensor:
        """As `networks.base.reflect`, in operations whose sizes may be unknown."""
        length, multiple = picture.shape[axis], self.network.size_multiple
        cells: int | torch.SymInt = (length + multiple - 1) // multiple
        if self.network.smallest_side > multiple:
            cells = torch.sym_max(cells, -(-self.network.smallest_side // multiple))
        last = torch.full((1,), length - 1, device=picture.device)
        at = torch.arange(cells * multiple, device=picture.device).remainder((2 * last).clamp(min=1))
        return picture.index_select(axis, torch.minimum(torch.minimum(at, 2 * last - at), last).clamp(min=0))


class OneWindow(nn.Module):
    """One window of a network that restores in windows; neither padded nor clipped, since windows are blended."""

    def __init__(self, network: WindowedGenerator, quality: Quality, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.quality, self.dtype = network, quality, dtype

    def forward(self, picture: Tensor) -> Tensor:
        blurred = (2 * picture - 1).to(self.dtype)
        return (self.network.restore_window(blurred, self.quality).float() + 1) / 2


class InFloat32(nn.Module):
    """A layer that looks at the whole frame, in a network of float16: a sum over so many values needs more digits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.layer(features.float())).to(features.dtype)
