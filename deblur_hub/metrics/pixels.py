"""PSNR, how far the samples are off; and the strength of edges, right or wrong, which PSNR does not measure."""

import torch
from torch import Tensor

from .pictures import Pictures, Scores, luma, mask_weights, prepared


def psnr(
    restored: Pictures, sharp: Pictures, *, data_range: float | None = None, mask: Pictures | None = None
) -> Scores:
    """Peak signal-to-noise ratio of each picture, in decibels, over all its samples.

    Args:
        restored, sharp: tensors (N, C, H, W), or arrays (H, W), (H, W, C) or (N, H, W, C).
        data_range: from black to white; None takes 1 for floats, and 255 for uint8.
        mask: of the same height and width, of one channel or all; only where it is not 0 is scored, as RealBlur does.

    Returns:
        Float64, one for each picture; +inf where the two are equal. See the package for their kind.

    Raises:
        ValueError: if the shapes differ.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    weights = mask_weights(mask, x)
    errors = (x - y).square()
    if weights is None:
        error = errors.mean(dim=(1, 2, 3))
    else:
        error = torch.where(weights > 0, errors, 0).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))
    return answer(10 * torch.log10(data_range**2 / error))


def psnr_y(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """PSNR of the luma alone, as tables of super-resolution print it: BT.601 in studio swing, not rounded, peak 255.

    It reads higher than `psnr`, for greys by 20 log10(255 / 219) = 1.32 dB: the swing is 219 levels, the peak 255.
    Arguments, result and errors as of `psnr`, of three channels.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    return answer(torch.as_tensor(psnr(luma(x, data_range), luma(y, data_range), data_range=255)))


def edge_strength(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """Edge strength of each picture, as a share of the sharp one's: 1 if it is as crisp, +inf where only it has edges.

    The mean absolute difference between neighbouring pixels along rows and columns, which is the anisotropic total
    variation by the pixel (after Rudin, Osher and Fatemi, Physica D 1992), divided by that of the sharp picture. Blur
    lowers it and sharpening raises it, and so do noise, grids and edges that are not those of the scene: it is printed
    beside a distance, never alone. Arguments, result and errors as of `psnr`; `data_range` has no effect.
    """
    x, y, _, answer = prepared(restored, sharp, data_range)
    found, wanted = total_variation(x), total_variation(y)
    return answer(torch.where(found == wanted, 1.0, found / wanted))


def total_variation(pictures: Tensor) -> Tensor:
    rows, columns = (pictures.diff(dim=dim).abs().sum(dim=(1, 2, 3)) for dim in (2, 3))
    return rows + columns
