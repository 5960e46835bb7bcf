"""Input and output of every metric: tensors or arrays, checked, in float64."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Pictures = Tensor | np.ndarray
Scores = Tensor | np.ndarray | float


def prepared(
    restored: Pictures, sharp: Pictures, data_range: float | None
) -> tuple[Tensor, Tensor, float, Callable[[Tensor], Scores]]:
    """Both as (N, C, H, W) in float64, the data range, and a function from scores (N,) to the kind that was given."""
    if isinstance(restored, np.ndarray) != isinstance(sharp, np.ndarray):
        raise ValueError("two tensors or two arrays are needed, not one of each")
    one, other = planes(restored), planes(sharp)
    if one.shape != other.shape:
        raise ValueError(f"pictures of one size are needed, not {tuple(one.shape)} and {tuple(other.shape)}")
    if data_range is None:
        data_range = default_range(restored)
        if default_range(sharp) != data_range:
            raise ValueError(
                f"pictures of one type are needed, not {restored.dtype} and {sharp.dtype}; or give data_range"
            )
    if isinstance(restored, Tensor):
        return one, other, data_range, lambda scores: scores
    if restored.ndim == 4:
        return one, other, data_range, lambda scores: scores.numpy()
    return one, other, data_range, lambda scores: float(scores[0])


def planes(pictures: Pictures) -> Tensor:
    """(N, C, H, W) in float64, on the CPU where the device has no float64."""
    if isinstance(pictures, Tensor):
        if pictures.ndim != 4:
            raise ValueError(f"tensors (N, C, H, W) are needed, not {tuple(pictures.shape)}")
        return (pictures.cpu() if pictures.device.type == "mps" else pictures).double()
    if pictures.ndim not in (2, 3, 4) or (pictures.ndim > 2 and pictures.shape[-1] > 4):
        raise ValueError(
            f"arrays (H, W), (H, W, C) or (N, H, W, C) of at most 4 channels are needed, not {pictures.shape}"
        )
    pixels = pictures[..., None] if pictures.ndim == 2 else pictures
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1), dtype=np.float64))


def mask_weights(mask: Pictures | None, like: Tensor) -> Tensor | None:
    """A mask as (N, C, H, W) of 0 and 1 in float64, as large as the pictures."""
    if mask is None:
        return None
    weights = (planes(mask) != 0).double().to(like.device)
    if weights.shape[-2:] != like.shape[-2:] or len(weights) not in (1, len(like)):
        raise ValueError(f"a mask of {tuple(weights.shape)} does not cover pictures of {tuple(like.shape)}")
    weights = weights.expand_as(like)
    if not weights.flatten(1).any(dim=1).all():
        raise ValueError("the mask leaves no pixel to score")
    return weights


def default_range(pictures: Pictures) -> float:
    """From black to white: 1 for floats, the largest value for whole numbers; truth values are not pictures."""
    if isinstance(pictures, Tensor):
        if pictures.dtype.is_floating_point:
            return 1.0
        if pictures.dtype is not torch.bool and not pictures.dtype.is_complex:
            return float(torch.iinfo(pictures.dtype).max)
    elif pictures.dtype.kind == "f":
        return 1.0
    elif pictures.dtype.kind in "iu":
        return float(np.iinfo(pictures.dtype).max)
    raise ValueError(f"pictures of whole numbers or floats are needed, not {pictures.dtype}")


def luma(pictures: Tensor, data_range: float) -> Tensor:
    """Luma of ITU-R BT.601 in its studio swing, of (N, 3, H, W), as (N, 1, H, W) from 16 to 235 of 255, unrounded.

    It is the Y of MATLAB's and scikit-image's `rgb2ycbcr`.
    """
    require_colour(pictures)
    weights = pictures.new_tensor([65.481, 128.553, 24.966])
    return 16 + torch.einsum("nchw,c->nhw", pictures, weights)[:, None] / data_range


def require_colour(pictures: Tensor) -> None:
    if pictures.shape[1] != 3:
        raise ValueError(f"pictures of three channels, red, green and blue, are needed, not of {pictures.shape[1]}")
