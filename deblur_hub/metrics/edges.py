"""Strength of edges, right or wrong: what adversarial training is to add, and PSNR does not measure."""

import torch
from torch import Tensor

from .pictures import Pictures, Scores, prepared


def edge_strength(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """Edge strength of each picture, as a share of the sharp one's: 1 if it is as crisp.

    The mean absolute difference between neighbouring pixels along rows and columns, which is the anisotropic total
    variation by the pixel (after Rudin, Osher and Fatemi, Physica D 1992), divided by that of the sharp picture. Blur
    lowers it and sharpening raises it, and so do noise, grids and edges that are not those of the scene: it is printed
    beside a distance, never alone.

    Args:
        restored, sharp: tensors (N, C, H, W), or arrays (H, W), (H, W, C) or (N, H, W, C).
        data_range: has no effect on the share; accepted as by the other metrics.

    Returns:
        Float64, one for each picture; 1 where neither has an edge, +inf where only the restored one has. See the
        package for their kind.

    Raises:
        ValueError: if the shapes differ.
    """
    x, y, _, answer = prepared(restored, sharp, data_range)
    found, wanted = total_variation(x), total_variation(y)
    return answer(torch.where(found == wanted, 1.0, found / wanted))


def total_variation(pictures: Tensor) -> Tensor:
    """Sum of absolute differences between neighbours, of (N, C, H, W), as (N,)."""
    rows, columns = (pictures.diff(dim=dim).abs().sum(dim=(1, 2, 3)) for dim in (2, 3))
    return rows + columns
