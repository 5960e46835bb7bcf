"""Losses of generators and discriminators. Pictures are (N, 3, H, W) in [-1, 1]; every loss is a scalar tensor."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CELL, WINDOW = 4, 8  # of `grid_loss`: pixels, and cells
ENOUGH = 40.0  # of `harm_loss`, in decibels: nearer to the sharp picture than that need not be


def pixel_loss(kind: str, restored: Tensor, sharp: Tensor) -> Tensor:
    """Distance of the values: L1, MSE, Charbonnier (sqrt(d^2 + 0.001^2), Lai et al., CVPR 2017), or minus the PSNR.

    The last is NAFNet's (Chen et al., ECCV 2022), in decibels of values in [0, 1], where its code adds 1e-8 to the mean
    square: the mean over the pictures of -PSNR, which is negative and at least -80.
    """
    if kind == "l1":
        return F.l1_loss(restored, sharp)
    if kind == "mse":
        return F.mse_loss(restored, sharp)
    if kind == "charbonnier":
        return ((restored - sharp).square() + 1e-6).sqrt().mean()
    if kind == "psnr":
        return -decibels(restored, sharp).mean()
    raise ValueError(f"pixel loss '{kind}' is not known")


def decibels(restored: Tensor, sharp: Tensor) -> Tensor:
    """(N,): the PSNR of each picture, of values in [0, 1], where 1e-8 is added to the mean square."""
    return -10 * (((restored - sharp) / 2).square().mean(dim=(1, 2, 3)) + 1e-8).log10()


def harm_loss(restored: Tensor, sharp: Tensor, given: Sequence[Tensor]) -> Tensor:
    """By how many decibels a restored picture is worse than the best of what the network was given, on average.

    For a refiner, which is given the blurry picture and the result of a frozen network and is to make neither worse:
    a mean of decibels alone lets it pay for much gained on one picture with a little lost on each of many. What was
    given counts as `ENOUGH` at most. Ours.
    """
    with torch.no_grad():
        best = torch.stack([decibels(picture, sharp) for picture in given]).amax(dim=0).clamp(max=ENOUGH)
    return F.relu(best - decibels(restored, sharp)).mean()


def frequency_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of the spectra's real and imaginary parts (MIMO-UNet, Cho et al., ICCV 2021, eq. 8)."""
    difference = torch.fft.rfft2(restored.float() - sharp.float())
    return torch.view_as_real(difference).abs().mean()


def grid_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """How much of the error repeats every `CELL` pixels: the grid that perceptual and adversarial losses leave.

    A generator that works at a quarter of the resolution, as `compact` and the ResNets do, computes each of the 16
    pixels of a cell by different weights. The error of each is averaged over `WINDOW` by `WINDOW` cells; the loss is
    the mean square of what these averages differ by from their own mean. Ours.

    Pictures have at least one whole cell; incomplete ones at the right and lower border are left out.
    """
    height, width = (side - side % CELL for side in sharp.shape[-2:])
    cells = F.pixel_unshuffle((restored - sharp)[..., :height, :width], CELL)
    local = F.avg_pool2d(cells, min(WINDOW, *cells.shape[-2:]), ceil_mode=True).unflatten(1, (-1, CELL**2))
    return (local - local.mean(dim=2, keepdim=True)).square().mean()


def at_every_scale(loss: Callable[[Tensor, Tensor], Tensor], outputs: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """The sum over a generator's outputs, each against the sharp picture averaged down to its size.

    As MIMO-UNet (Cho et al., ICCV 2021, eq. 7-9) and DeepDeblur (Nah et al., CVPR 2017) train their scales.
    """
    return sum(loss(output, averaged_to(output.shape[-2:], sharp)) for output in outputs)


def averaged_to(size: torch.Size, sharp: Tensor) -> Tensor:
    """Asked for its own size, `interpolate` would take its time to change nothing."""
    return sharp if sharp.shape[-2:] == size else F.interpolate(sharp, size=size, mode="area")


def relativistic_least_squares(
    better: Tensor, worse: Tensor, *, mean_of_better: Tensor | None = None, mean_of_worse: Tensor | None = None
) -> Tensor:
    """RaGAN-LS: E[(D(better) - E[D(worse)] - 1)^2] + E[(D(worse) - E[D(better)] + 1)^2] of scores of any shape.

    Jolicoeur-Martineau (ICLR 2019), as DeblurGAN-v2 takes it (Kupyn et al., ICCV 2019, eq. 1; the released code halves
    it). The sharp pictures are the better ones for the discriminator, the restored ones for the generator. The inner
    means are those of this batch, which gradients flow through, or the ones given.
    """
    mean_of_better = better.mean() if mean_of_better is None else mean_of_better
    mean_of_worse = worse.mean() if mean_of_worse is None else mean_of_worse
    return (better - mean_of_worse - 1).square().mean() + (worse - mean_of_better + 1).square().mean()


def cross_entropy(logits: Tensor, wanted: float) -> Tensor:
    """Mean binary cross-entropy of logits of any shape with one probability: 1 for sharp and 0 for restored."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))
