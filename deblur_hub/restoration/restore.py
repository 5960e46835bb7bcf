"""Restores tensors: whole or in tiles by the free memory, in the precision that suits the device."""

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import RestorationError
from ..machine import processor, remembered
from ..networks.base import Generator, Piece, Quality, Read, fill, reflect
from ..networks.compact import CompactGenerator
from ..networks.windows import WindowedGenerator
from .memory import free_memory, is_out_of_memory
from .strips import restore_strips
from .tiles import Progress, restore_tiles
from .windowed import restore_windows

Precision = Literal["auto", "float32", "bfloat16", "float16"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST_TILE = 64
PROBE_SIDE = 512  # of the matrices that tell which precision is faster
LARGEST_TILE = 2048  # bounds the memory, to 1.5 GiB in all for 24 megapixels, however much is free
SHARED_TILE = 512  # of networks with statistics of the frame: narrow margins suffice, and the frame's features are kept
STRIP_PIXELS = (2**23, 2**18)  # that `compact` takes at a time, on a GPU and on a CPU
STRIP_BYTES = 2**30  # of the rows that it keeps, about
WHOLE_PIXELS = 2**21  # up to which it takes a picture whole
MEMORY_SHARE = 0.5  # of the free memory; the rest is for the picture itself and for others


def restore(
    network: Generator,
    blurred: Tensor,
    *,
    tile: int | None = None,
    precision: Precision = "auto",
    quality: Quality | None = None,
    memory_budget: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Runs a network over pictures of any size, whole or in tiles; the two differ by 1/255 at most.

    Args:
        network: in evaluation mode.
        blurred: (N, 3, H, W) float32 in [-1, 1], any H and W from 1 up; pictures are taken one by one.
        tile, precision, quality, memory_budget: as in `restore_pieces`.
        progress: called with steps done and steps in all, after each tile or in thousandths of the work.

    Returns:
        (N, 3, H, W) float32 in [-1, 1], on the device of `blurred`.

    Raises:
        RestorationError: if memory does not suffice for the smallest tile, or the precision is not available.
    """
    if blurred.ndim != 4 or blurred.shape[1] != 3 or blurred.numel() == 0:
        raise ValueError(f"pictures must be (N, 3, H, W) and not empty, not {tuple(blurred.shape)}")
    restored = torch.empty_like(blurred)
    for number, picture in enumerate(blurred.split(1)):
        pieces = restore_pieces(
            network,
            (blurred.shape[-2], blurred.shape[-1]),
            partial(reflect, picture),
            tile=tile,
            precision=precision,
            quality=quality,
            memory_budget=memory_budget,
            progress=progress_of_picture(progress, number, len(blurred)),
        )
        fill(restored[number : number + 1], pieces)
    return restored


@torch.inference_mode()
def restore_pieces(
    network: Generator,
    size: tuple[int, int],
    read: Read,
    *,
    tile: int | None = None,
    precision: Precision = "auto",
    quality: Quality | None = None,
    memory_budget: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Piece]:
    """Runs a network over a picture of (height, width) that is read part by part, float32 in [-1, 1].

    Networks whose layers depend on the place in the frame are not tiled. Where memory runs out, the tile is halved.

    Args:
        network: in evaluation mode.
        read: (1, 3, h, w) at rows and columns, beyond the picture by reflection.
        tile: side of a tile in pixels, 0 for the whole frame; None chooses by the memory.
        precision: of the arithmetic; "auto" takes bfloat16 or float16 where that is faster, and the weights' own type
            where that is not float32.
        quality: of a network that restores in windows; None for the best.
        memory_budget: bytes that the network's work may take, for which tiles and windows at a time are chosen; None
            for half of what is free.
        progress: as in `restore`.

    Yields:
        Pieces, downwards; from the top again where memory ran out.

    Raises:
        RestorationError: as `restore` does.
    """
    if tile is not None and tile != 0 and tile < SMALLEST_TILE:
        raise RestorationError(f"a tile of {tile} pixels is too small; give at least {SMALLEST_TILE}, or 0 for none")
    device, dtype = device_and_dtype(network, precision)
    budget = require_budget(memory_budget) or MEMORY_SHARE * free_memory(device)
    margin = None if isinstance(network, WindowedGenerator) else margin_of(network)
    strip: float = STRIP_PIXELS[device.type == "cpu"]
    if margin is None:
        tile = 0
    elif tile is None and suits_strips(network, size, budget, dtype):
        strip = min(strip, budget / (network.values_per_pixel * dtype.itemsize))
    elif tile is None:
        tile = choose_tile(network, size, budget, dtype)
    work: dict[str, Any]
    while True:
        try:
            if tile is None and isinstance(network, CompactGenerator):
                work = {"pixels": strip, "device": device, "dtype": dtype, "progress": progress}
                yield from restore_strips(network, size, read, **work)
            elif isinstance(network, WindowedGenerator):
                step = quality or network.best
                work = {"device": device, "dtype": dtype, "budget": budget, "progress": progress}
                yield from restore_windows(network, size, read, step, **work)
            else:
                work = {"tile": tile or 0, "device": device, "dtype": dtype, "progress": progress}
                yield from restore_tiles(network, size, read, **work)
            return
        except RuntimeError as reason:
            if not is_out_of_memory(reason):
                raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        tile = min(tile or max(size), max(size)) // 2
        if margin is None or tile < SMALLEST_TILE:
            raise RestorationError(
                f"a picture of {size[1]}x{size[0]} pixels does not fit in the memory of {device}; free some, take a "
                "smaller picture or the model 'compact'"
            )


def suits_strips(network: Generator, size: tuple[int, int], budget: float, dtype: torch.dtype) -> bool:
    """Whether a picture is large, and the rows of it that a network of strips keeps fit in a budget of bytes."""
    if not isinstance(network, CompactGenerator) or size[0] * size[1] <= WHOLE_PIXELS:
        return False
    kept = network.values_per_pixel * max(network.receptive_field or 0, network.size_multiple) * size[1]
    return kept * dtype.itemsize <= min(budget, STRIP_BYTES)


def require_budget(budget: float | None) -> float | None:
    """The budget in bytes; raises RestorationError unless it is a number above 0 or None."""
    if budget is not None and not 0 < budget < math.inf:
        raise RestorationError(f"a memory budget of {budget} bytes is none; give one such as 2e9, or omit it")
    return budget


def device_and_dtype(network: Generator, precision: Precision) -> tuple[torch.device, torch.dtype]:
    """Where a network is, and the type that it computes in; raises RestorationError if that is not available."""
    device, stored = next((weights.device, weights.dtype) for weights in network.parameters())
    if stored == torch.float32:
        return device, dtype_for(precision, device)
    if precision == "auto" or DTYPES.get(precision) == stored:
        return device, stored
    raise RestorationError(
        f"precision '{precision}' needs weights in float32, and these are in {str(stored)[6:]}; "
        "take 'auto', or load the model without a dtype"
    )


def progress_of_picture(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Reports one picture's progress as that of all."""
    return progress and (lambda done, total: progress(number * total + done, count * total))


def margin_of(network: Generator) -> int | None:
    """The widest receptive radius of a network's stages; None if it cannot be tiled."""
    stages = network.stages()
    reaches = [stage.reach for stage in stages if stage.reach is not None]
    return max(reaches) if len(reaches) == len(stages) else None


def choose_tile(network: Generator, size: tuple[int, int], budget: float, dtype: torch.dtype) -> int:
    """The side of the largest tile whose activations fit in a budget of bytes; 0 for the whole frame."""
    pixels = budget / (network.values_per_pixel * dtype.itemsize)
    side = min(LARGEST_TILE, max(SMALLEST_TILE, int(math.sqrt(pixels)) - 2 * (margin_of(network) or 0)))
    if max(size) <= side:
        return 0
    return side if network.receptive_field is not None else min(side, SHARED_TILE)


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """The type to compute in where weights are in float32; raises RestorationError if it is not available."""
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.bfloat16 if device.type == "cpu" and has_fast_bfloat16() else torch.float32
    if precision not in DTYPES:
        raise RestorationError(f"precision '{precision}' is not known; take one of auto, {', '.join(DTYPES)}")
    if precision == "float16" and device.type == "cpu":
        raise RestorationError("precision 'float16' needs a GPU; take 'bfloat16' or 'float32' on a CPU")
    return DTYPES[precision]


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware, and faster than float32, which is tried once a machine."""
    capabilities = torch.cpu.get_capabilities()
    if not any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        return False
    key = f"products in bfloat16, times as fast, {processor()}, torch {torch.__version__}"
    return remembered(key, bfloat16_gain) > 1


def bfloat16_gain() -> float:
    """How many times as fast a product of matrices is in bfloat16 as in float32."""
    seconds = {torch.float32: math.inf, torch.bfloat16: math.inf}
    matrices = {dtype: torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=dtype) for dtype in seconds}
    for _ in range(5):  # in turn; the first of each prepares
        for dtype, matrix in matrices.items():
            begun = time.perf_counter()
            torch.mm(matrix, matrix)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - begun)
    return seconds[torch.float32] / seconds[torch.bfloat16]
