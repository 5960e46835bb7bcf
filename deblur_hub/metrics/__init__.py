"""Metrics of a restored picture against the sharp one, each exactly as it is defined.

    psnr(restored, sharp)             # tensors (N, C, H, W) in [0, 1]: a tensor (N,)
    psnr(restored, sharp)             # uint8 arrays (H, W, 3): a float; (N, H, W, 3): an array (N,)

All compute in float64 (learned features in float32) and score each picture of a batch by itself. `data_range`, from
black to white, defaults to 1 for floats and 255 for uint8.

`psnr`, `ssim`          what `deblur-hub evaluate` prints; both take a `mask`
`ssim_matlab`           the SSIM column of SRN, MPRNet, Restormer and NAFNet
`cw_ssim`               the SSIM column of DeblurGAN
`psnr_y`, `ssim_y`      of the luma, as super-resolution prints them
`lpips`                 needs its package and weights
`feature_distance`      of a classifier that no loss in `train/` uses; needs the package with its weights
`edge_strength`         as a share of the sharp picture's: crispness, right or wrong

`blur_kind` needs no sharp picture: it says whether one is sharp, shaken or out of focus, for people.
"""

from .no_reference import BlurKind, blur_kind
from .perceptual import MetricError, feature_distance, lpips
from .pixels import edge_strength, psnr, psnr_y
from .similarity import ssim, ssim_matlab, ssim_y
from .wavelet import cw_ssim

__all__ = [
    "BlurKind",
    "MetricError",
    "blur_kind",
    "cw_ssim",
    "edge_strength",
    "feature_distance",
    "lpips",
    "psnr",
    "psnr_y",
    "ssim",
    "ssim_matlab",
    "ssim_y",
]
