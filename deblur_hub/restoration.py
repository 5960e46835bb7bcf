"""Tensor in, tensor out: padding to the network's multiple, tiles that leave no trace, precision, memory."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .errors import RestorationError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Progress = Callable[[int, int], None]  # tiles done, tiles in all

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST_TILE = 64
LARGEST_TILE = 2048  # bounds the memory (1.5 GiB in all for 24 megapixels) however much is free
MEMORY_SHARE = 0.5  # of what is free: the rest is for the picture itself and for others


@torch.inference_mode()
def restore(
    network: nn.Module,
    blurred: Tensor,
    *,
    tile: int | None = None,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Tensor:
    """Runs a network over pictures of any size, whole or in tiles; the two differ by 1/255 at the most.

    A tile is cut with a margin as wide as the network can see, of which only the inside is kept. A network without a
    bounded receptive field takes each frame whole. Where memory runs out the tile is halved and the work goes on.

    Args:
        network: maps (1, 3, h, w) in [-1, 1] to the same for h, w multiples of its `size_multiple`.
        blurred: (N, 3, H, W) float32 in [-1, 1], any H and W from 1 up; pictures are taken one by one.
        tile: side of a tile in pixels, 0 for the whole frame; None chooses by the memory at hand.
        precision: of the arithmetic; "auto" takes bfloat16 or float16 where the device computes in it faster, and the
            weights' own type where that is not float32.
        progress: called after each tile.

    Returns:
        (N, 3, H, W) float32 in [-1, 1], on the device of `blurred`.

    Raises:
        RestorationError: if memory does not suffice for the smallest tile, or the precision is not to be had.
    """
    if blurred.ndim != 4 or blurred.shape[1] != 3 or blurred.numel() == 0:
        raise ValueError(f"pictures must be (N, 3, H, W) and not empty, not {tuple(blurred.shape)}")
    if tile is not None and tile != 0 and tile < SMALLEST_TILE:
        raise RestorationError(f"a tile of {tile} pixels is too small; give at least {SMALLEST_TILE}, or 0 for none")
    device, stored = next((weights.device, weights.dtype) for weights in network.parameters())
    if stored == torch.float32:
        dtype = dtype_for(precision, device)
    elif precision == "auto" or DTYPES.get(precision) == stored:
        dtype = stored
    else:
        raise RestorationError(
            f"precision '{precision}' needs weights in float32, and these are in {str(stored)[6:]}; "
            "take 'auto', or load the model without a dtype"
        )
    multiple = network.size_multiple
    if tile is None:
        tile = choose_tile(network, blurred.shape[-2:], device, dtype)
    if network.receptive_field is None:
        tile = 0
    restored = torch.empty_like(blurred)
    while True:
        try:
            run_tiles(network, blurred, restored, tile, multiple, device, dtype, progress)
            return restored
        except RuntimeError as reason:
            if not is_out_of_memory(reason):
                raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        longest = max(blurred.shape[-2:])
        smaller = min(tile or longest, longest) // 2
        if network.receptive_field is None or smaller < SMALLEST_TILE:
            raise RestorationError(
                f"a picture of {blurred.shape[-1]}x{blurred.shape[-2]} pixels does not fit in the "
                f"memory of {device}; free some, take a smaller picture or the model 'compact'"
            )
        tile = smaller


def run_tiles(
    network: nn.Module,
    blurred: Tensor,
    restored: Tensor,
    tile: int,
    multiple: int,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress | None,
) -> None:
    """Fills `restored`, picture by picture and tile by tile."""
    stored = next(network.parameters()).dtype
    margin = -(-(network.receptive_field or 0) // multiple) * multiple
    tiles = list(cut(blurred.shape[-2:], tile, margin, multiple))
    for number, picture in enumerate(blurred):
        for place, part in enumerate(tiles):
            piece = reflect(picture[None], part.rows, part.columns).to(device, stored)
            with nullcontext() if dtype == stored else torch.autocast(device.type, dtype):
                output = network(piece.contiguous(memory_format=torch.channels_last)).float().clamp_(-1, 1)
            inside = output[0, :, part.inner_rows, part.inner_columns]
            restored[number, :, part.out_rows, part.out_columns] = inside.to(restored.device)
            if progress:
                progress(number * len(tiles) + place + 1, len(blurred) * len(tiles))


@dataclass(frozen=True)
class Tile:
    """Rows and columns to read (with margins, beyond the picture by reflection), to keep of them, and to write to."""

    rows: range
    columns: range
    inner_rows: slice
    inner_columns: slice
    out_rows: slice
    out_columns: slice


def cut(size: tuple[int, int], tile: int, margin: int, multiple: int) -> Iterator[Tile]:
    """The tiles of a frame of (height, width); one for the whole frame where `tile` is 0 or no smaller than it.

    Tiles lie on the grid of the network's multiple, and margins end where the padded frame ends: a network sees at
    the border what it would see in the whole frame.
    """
    vertical, horizontal = (list(spans(length, tile, margin, multiple)) for length in size)
    for rows, inner_rows, out_rows in vertical:
        for columns, inner_columns, out_columns in horizontal:
            yield Tile(rows, columns, inner_rows, inner_columns, out_rows, out_columns)


def spans(length: int, tile: int, margin: int, multiple: int) -> Iterator[tuple[range, slice, slice]]:
    """Along one axis: what each tile reads, keeps and writes."""
    padded = -(-length // multiple) * multiple
    step = padded if tile == 0 else min(padded, max(multiple, tile // multiple * multiple))
    count = -(-padded // step)
    step = -(-padded // count // multiple) * multiple  # tiles of about one size rather than a sliver at the end
    for start in range(0, length, step):
        stop = min(start + step, padded)
        first, last = max(0, start - margin), min(padded, stop + margin)
        written = min(stop, length)
        yield range(first, last), slice(start - first, written - first), slice(start, written)


def reflect(picture: Tensor, rows: range, columns: range) -> Tensor:
    """(..., H, W) read at rows and columns that may lie beyond it, where it is reflected as often as needed."""
    for axis, wanted in ((-2, rows), (-1, columns)):
        length = picture.shape[axis]
        if wanted.start >= 0 and wanted.stop <= length:
            picture = picture.narrow(axis, wanted.start, len(wanted))
            continue
        period = max(1, 2 * (length - 1))
        at = torch.arange(wanted.start, wanted.stop, device=picture.device).remainder(period)
        picture = picture.index_select(axis, torch.minimum(at, period - at).clamp_(max=length - 1))
    return picture


def choose_tile(network: nn.Module, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> int:
    """The side of the largest tile whose activations fit in a share of the memory at hand; 0 for the whole frame."""
    per_pixel = network.values_per_pixel * dtype.itemsize
    pixels = MEMORY_SHARE * free_memory(device) / per_pixel
    margin = network.receptive_field or 0
    side = min(LARGEST_TILE, max(SMALLEST_TILE, int(math.sqrt(pixels)) - 2 * margin))
    return 0 if max(size) <= side else side


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (ValueError, OSError, AttributeError):
        return 2 * 2**30


def is_out_of_memory(reason: RuntimeError) -> bool:
    # On a CPU PyTorch raises a plain RuntimeError from its allocator.
    return (
        isinstance(reason, torch.OutOfMemoryError)
        or "not enough memory" in str(reason)
        or "can't allocate memory" in str(reason)
    )


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """The type to compute in."""
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
    """Whether the CPU multiplies bfloat16 in hardware; elsewhere it is emulated, many times slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
