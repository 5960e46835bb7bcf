"""The structural similarities that tables print under the one name of SSIM."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .pictures import Pictures, Scores, luma, mask_weights, prepared

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al., TIP 2004, section III.B
SSIM_K1, SSIM_K2 = 0.01, 0.03
RADIUS = SSIM_WINDOW // 2


def ssim(
    restored: Pictures, sharp: Pictures, *, data_range: float | None = None, mask: Pictures | None = None
) -> Scores:
    """Structural similarity of each picture, the mean of its channels' (Wang et al., TIP 2004).

    Gaussian window 11, sigma 1.5, population covariance, mean over the positions where the whole window lies in the
    picture. It is the number of scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis=..., data_range=...)`, which DeepDeblur and RealBlur print: that one
    filters the reflected picture, then leaves out a border of 5 pixels, and so averages the same positions. MATLAB's
    `ssim` of an RGB picture, which SRN, MPRNet and NAFNet print, is `ssim_matlab`, and higher: by about 0.02 for good
    restorations, and by more the worse they are.

    Arguments, result and errors as of `psnr`; ValueError also if a side is shorter than the window, or the mask holds
    no position. As RealBlur does it, both pictures are black outside of the mask, and the similarities of the positions
    inside are averaged.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs pictures of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, not {x.shape[-1]}x{x.shape[-2]}"
        )
    weights = mask_weights(mask, x)
    if weights is None:
        return answer(similarity(x, y, local_mean, data_range).mean(dim=(1, 2, 3)))
    found = similarity(x.where(weights > 0, 0), y.where(weights > 0, 0), local_mean, data_range)
    inner = weights[..., RADIUS:-RADIUS, RADIUS:-RADIUS]
    positions = inner.sum(dim=(2, 3))
    if not positions.all():
        raise ValueError("the mask leaves no position for SSIM's window")
    return answer(((found * inner).sum(dim=(2, 3)) / positions).mean(dim=1))


def ssim_y(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """`ssim` of the luma alone (BT.601 in studio swing, not rounded, data range 255), as super-resolution prints it.

    Arguments, result and errors as of `ssim`, of three channels.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    return answer(torch.as_tensor(ssim(luma(x, data_range), luma(y, data_range), data_range=255)))


def ssim_matlab(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """What MATLAB's `ssim` says of an RGB picture, which it takes for a volume of three layers.

    The window is an 11x11x11 Gaussian of sigma 1.5, so that the channels are mixed; the border is replicated, in depth
    as well, and every position counts. This is the SSIM column of SRN, MPRNet, Restormer and NAFNet (whose own code
    computes it in float32, and so agrees to about 1e-5). Arguments and result as of `ssim`, for pictures of any size.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    return answer(similarity(x, y, volume_mean, data_range).mean(dim=(1, 2, 3)))


def similarity(x: Tensor, y: Tensor, mean: Callable[[Tensor], Tensor], data_range: float) -> Tensor:
    """The map of similarities of (N, C, H, W), whose local mean is `mean`; of the size that `mean` gives."""
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return above / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))


def local_mean(x: Tensor) -> Tensor:
    """Mean of (N, C, H, W) under the Gaussian window, at the positions where it lies wholly inside."""
    window = gaussian()
    for axis in (-2, -1):  # sums of shifted pictures, several times as fast as a convolution in float64
        inside = x.shape[axis] - SSIM_WINDOW + 1
        smooth = x.narrow(axis, 0, inside) * window[0]
        for at in range(1, SSIM_WINDOW):
            smooth.add_(x.narrow(axis, at, inside), alpha=window[at])
        x = smooth
    return x


def volume_mean(x: Tensor) -> Tensor:
    """Mean of (N, C, H, W) under the three-dimensional Gaussian window, at every position, the border replicated."""
    channels = x.shape[1]
    mixed = x.new_zeros(channels, channels)  # along the depth, where most of the window lies beyond the border
    for layer in range(channels):
        for offset, weight in enumerate(gaussian(), start=-RADIUS):
            mixed[layer, min(max(layer + offset, 0), channels - 1)] += weight
    return local_mean(F.pad(torch.einsum("kc,nchw->nkhw", mixed, x), (RADIUS,) * 4, mode="replicate"))


def gaussian() -> list[float]:
    """The window along one axis, 11 weights of sum 1."""
    weights = [math.exp(-(at**2) / (2 * SSIM_SIGMA**2)) for at in range(-RADIUS, RADIUS + 1)]
    return [weight / sum(weights) for weight in weights]
