"""Operations that PyTorch lacks, in one pass over memory: `kernels.c`, compiled when first needed.

The library is kept in the cache folder. Where it cannot be compiled or loaded, PyTorch's own operations do the same.
"""

import ctypes
import hashlib
import math
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...atomic import replacing
from ...machine import cache_folder, processor

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")
LONGEST_COMPILATION = 60  # seconds; it takes one
MOST_CHANNELS = 256  # a row that `kernels.c` holds
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

Pointer, Size, Real = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_float
FUNCTIONS = {
    "norm": (Pointer, Pointer, Pointer, Pointer, Size, Pointer, Pointer, Real),
    "gelu_norm": (Pointer, Pointer, Pointer, Size, Size, Size, Pointer, Pointer, Real),
    "gate": (Pointer, Pointer, Size, Size, Size, Size, Pointer),
    "scatter": (Pointer, Pointer, Pointer, Pointer, Pointer, Size),
    "shrink": (Pointer, Pointer, Pointer, Size, Size, Size, Size, Pointer),
}
FourSizes = Size * 4


def norm(
    x: Tensor, eps: float, scale: Tensor | None = None, shift: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Layer norm of (a, b, c, d, C), however it lies in memory, to (a * b * c * d, C), which may be given."""
    call = function("norm", x)
    if call is None:
        rows = x.reshape(-1, x.shape[-1])
        made = F.layer_norm(rows, rows.shape[-1:], as_type(scale, x), as_type(shift, x), eps)
        return made if out is None else out.copy_(made)
    if out is None:
        out = torch.empty((math.prod(x.shape[:-1]), x.shape[-1]), dtype=x.dtype)
    sizes, strides = FourSizes(*x.shape[:-1]), FourSizes(*x.stride()[:-1])
    call(x.data_ptr(), out.data_ptr(), sizes, strides, x.shape[-1], address(scale), address(shift), eps)
    return out


def gelu(x: Tensor, out: Tensor | None = None) -> Tensor:
    """GELU's tanh form of (rows, C)."""
    call = function("gelu_norm", x)
    if call is None:
        return plain_gelu(x) if out is None else out.copy_(plain_gelu(x))
    if out is None:
        out = torch.empty_like(x)
    call(x.data_ptr(), out.data_ptr(), None, x.shape[0], x.stride(0), x.shape[1], None, None, 0.0)
    return out


def gelu_and_norm(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """GELU of (rows, C), and the layer norm of that."""
    call = function("gelu_norm", x)
    if call is None:
        activated = plain_gelu(x)
        return activated, F.layer_norm(activated, activated.shape[-1:], eps=eps)
    activated, normed = torch.empty_like(x), torch.empty_like(x)
    call(x.data_ptr(), activated.data_ptr(), normed.data_ptr(), x.shape[0], x.stride(0), x.shape[1], None, None, eps)
    return activated, normed


def norm_of_gelu(x: Tensor, eps: float, scale: Tensor, shift: Tensor) -> Tensor:
    """The layer norm of the GELU of (rows, C), whose rows may lie apart."""
    call = function("gelu_norm", x)
    if call is None:
        return F.layer_norm(plain_gelu(x), x.shape[-1:], as_type(scale, x), as_type(shift, x), eps)
    out = torch.empty(x.shape, dtype=x.dtype)
    call(x.data_ptr(), None, out.data_ptr(), x.shape[0], x.stride(0), x.shape[1], address(scale), address(shift), eps)
    return out


def gate_(mixed: Tensor, x: Tensor, bias: Tensor) -> Tensor:
    """`mixed`, (tokens, rows * C), becomes (mixed + bias of the token) * GELU(x), for `x` (tokens * rows, C)."""
    call = function("gate", x)
    channels = x.shape[1]
    if call is None:
        gates = plain_gelu(x).view(mixed.shape)
        return mixed.add_(bias.to(mixed.dtype)[:, None]).mul_(gates)
    rows = mixed.shape[1] // channels
    call(mixed.data_ptr(), x.data_ptr(), mixed.shape[0], rows, x.stride(0), channels, bias.data_ptr())
    return mixed


def scatter(rows: Tensor, target: Tensor, base: Tensor | None = None) -> None:
    """Rows, (a * b * c * d, C), plus `base`, a view with the strides of `target`, into a view (a, b, c, d, C)."""
    call = function("scatter", rows)
    if call is None:
        shaped = rows.view(target.shape)
        target.copy_(shaped) if base is None else torch.add(base, shaped, out=target)
        return
    sizes, strides = FourSizes(*target.shape[:-1]), FourSizes(*target.stride()[:-1])
    call(rows.data_ptr(), address(base), target.data_ptr(), sizes, strides, target.shape[-1])


def shrink(x: Tensor, factor: int) -> Tensor:
    """(H, W, C) to (H / factor, W / factor, C): bilinearly and anti-aliased, as torch's `interpolate` does it."""
    tap = torch.arange(2 * factor, dtype=torch.float32)
    weights = torch.minimum(2 * tap + 1, 4 * factor - 2 * tap - 1) / (2 * factor**2)
    height, width, channels = x.shape
    call = function("shrink", x)
    if call is None:
        kernel = weights.outer(weights).to(x.dtype).expand(channels, 1, 2 * factor, 2 * factor)
        first = x[None].permute(0, 3, 1, 2)
        out = F.conv2d(first, kernel, stride=factor, padding=factor // 2, groups=channels)[0].permute(1, 2, 0)
        lost = 1 / (1 - float(weights[: factor // 2].sum()))  # what lies beyond the border
        for edge in (out[0], out[-1], out[:, 0], out[:, -1]):
            edge.mul_(lost)
        return out
    out = torch.empty((height // factor, width // factor, channels), dtype=x.dtype)
    row = torch.empty(width * channels, dtype=torch.float32)
    call(x.data_ptr(), out.data_ptr(), row.data_ptr(), height, width, channels, factor, weights.data_ptr())
    return out


def plain_gelu(x: Tensor) -> Tensor:
    """As x * sigmoid(2k(x + 0.044715 x^3)) with k = sqrt(2 / pi): PyTorch's sigmoid is far cheaper than its tanh."""
    twice_k = 2 * math.sqrt(2 / math.pi)
    slope = torch.tensor(twice_k, dtype=x.dtype)
    return torch.addcmul(slope, x, x, value=twice_k * 0.044715).mul_(x).sigmoid_().mul_(x)


def as_type(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.to(x.dtype)


def address(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


# The library -----------------------------------------------------------------------------------------------------


def function(name: str, x: Tensor) -> "ctypes._NamedFuncPointer | None":
    """The compiled function for the type of `x`; None where PyTorch is to do it."""
    library = compiled()
    if library is None or x.dtype not in TYPES or x.shape[-1] > MOST_CHANNELS:
        return None
    return library[f"{name}_{TYPES[x.dtype]}"]


@cache
def compiled() -> "dict[str, ctypes._NamedFuncPointer] | None":
    """The functions of `kernels.c` by name; None if they cannot be had. DEBLUR_HUB_KERNELS=0 leaves them out."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get("DEBLUR_HUB_KERNELS") == "0" or compiler is None:
        return None
    identity = "\n".join([compiler, platform.machine(), processor("flags"), *FLAGS]).encode() + SOURCE.read_bytes()
    file = cache_folder() / f"kernels-{hashlib.sha256(identity).hexdigest()[:20]}.so"
    try:
        if not file.exists():
            build(compiler, file)
        library = ctypes.CDLL(str(file))
        found = {f"{name}_{kind}": library[f"{name}_{kind}"] for name in FUNCTIONS for kind in TYPES.values()}
        for name, function in found.items():
            function.argtypes, function.restype = FUNCTIONS[name.rpartition("_")[0]], None
        return found
    except (OSError, subprocess.SubprocessError, AttributeError):
        return None


def build(compiler: str, file: Path) -> None:
    """Compiles the library; several processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        command = [compiler, *FLAGS, "-o", str(part), str(SOURCE), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_COMPILATION)
