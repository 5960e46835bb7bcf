"""PSNR and SSIM of restored pictures, each under its own name and as exactly as its definition."""

import torch
from torch import Tensor
from torch.nn import functional as F

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al., TIP 2004, section III.B
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(restored: Tensor, sharp: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio of each picture, in decibels.

    Args:
        restored, sharp: (N, C, H, W), in [0, data_range].

    Returns:
        (N,), float64; +inf where the two are equal.

    Raises:
        ValueError: if the shapes differ.
    """
    require_same_shape(restored, sharp)
    error = (restored.double() - sharp.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / error)


def ssim(restored: Tensor, sharp: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each picture, the mean of its channels' (Wang et al., TIP 2004).

    Gaussian window 11, sigma 1.5, population covariance, mean over the positions where the whole window lies in the
    picture. It is the number of scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis=..., data_range=...)`, which DeepDeblur and RealBlur print: that one
    filters the reflected picture, then leaves out a border of 5 pixels, and so averages the same positions. MATLAB's
    `ssim` of an RGB picture, which SRN, MPRNet and NAFNet print, is another thing and about 0.02 higher.

    Args:
        restored, sharp: (N, C, H, W), in [0, data_range]; H and W at least 11.

    Returns:
        (N,), float64.

    Raises:
        ValueError: if the shapes differ, or a side is shorter than the window.
    """
    require_same_shape(restored, sharp)
    if min(restored.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs pictures of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, "
            f"not {restored.shape[-1]}x{restored.shape[-2]}"
        )
    x, y = restored.double().flatten(0, 1)[:, None], sharp.double().flatten(0, 1)[:, None]
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    similarity = (
        (2 * mean_x * mean_y + c1)
        * (2 * covariance + c2)
        / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    )
    return similarity.mean(dim=(1, 2, 3)).unflatten(0, restored.shape[:2]).mean(dim=1)


def local_mean(x: Tensor) -> Tensor:
    """Mean of (N, 1, H, W) under the Gaussian window, at the positions where it lies wholly inside."""
    at = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    window = torch.exp(-(at**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def require_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures of one size are needed, not {tuple(a.shape)} and {tuple(b.shape)}")
