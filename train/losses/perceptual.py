"""The perceptual loss: the distance of two pictures in the features of a classifier."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_hub.errors import did_you_mean

from ..recipe import Perceptual, RecipeError
from .backbones import BACKBONES, Backbone, Features, read_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CALIBRATION_SHAPE = (4, 3, 128, 128)


class PerceptualLoss(nn.Module):
    """Distance of a classifier's features (Johnson et al., ECCV 2016; DeblurGAN, eq. 4), at one layer or at several.

    Args:
        options: of the recipe. `network` and its layers are names in `backbones`. `imagenet_normalised` shifts and
            scales the picture as torchvision's weights expect it, instead of handing over [-1, 1]. `calibrated` divides
            a layer's distance by the mean square ("mse") or mean absolute value ("l1") of its features of noise that
            has the spectrum of photographs, so that files whose filters are scaled differently give losses of the same
            order; "unit" needs none.
        weights: a safetensors file in torchvision's key layout, or None for torchvision's own download.

    `forward` takes (N, 3, H, W) restored and sharp, in [-1, 1], and returns a scalar in float32. Gradients flow into
    the restored pictures alone. Under autocast the features are computed in half precision, their distance is not.

    Attributes:
        sha256: of the file with the weights, in hexadecimal.

    Raises:
        RecipeError: for an unknown layer; for weights that cannot be had, do not reach it, or have another SHA-256.
    """

    def __init__(self, options: Perceptual, weights: Path | None) -> None:
        super().__init__()
        backbone = BACKBONES[options.network]
        self.factors = factors_of(options, backbone)
        tensors, self.sha256, source = read_weights(backbone, weights)
        if options.sha256 and options.sha256.lower() != self.sha256:
            raise RecipeError(
                f"{source}: has the SHA-256 {self.sha256}, and the recipe's loss.perceptual.sha256 wants "
                f"{options.sha256}; name that file with --perceptual-weights, or set loss.perceptual.sha256="
            )
        option = "\"loss.perceptual.layers=['{}']\"" if options.layers else "loss.perceptual.layer={}"
        self.features = Features(backbone, list(self.factors), tensors, source=source, option=option)
        self.distance = DISTANCES[options.distance]
        self.normalised = options.imagenet_normalised
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        if options.calibrated and options.distance != "unit":
            with torch.no_grad():
                sizes = self.describe(photograph_like_noise())
            for layer, size in sizes.items():
                self.factors[layer] /= self.distance(size, torch.zeros_like(size)).item()

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.describe(sharp)
        found = self.describe(restored)
        factors = self.factors.items()
        return sum(factor * self.distance(found[layer].float(), wanted[layer].float()) for layer, factor in factors)

    def describe(self, picture: Tensor) -> dict[str, Tensor]:
        return self.features(((picture + 1) / 2 - self.mean) / self.std if self.normalised else picture)

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Stays in evaluation mode: batch normalisation keeps the statistics of its weights."""
        return super().train(False)


def factors_of(options: Perceptual, backbone: Backbone) -> dict[str, float]:
    """Our names of the layers, each with the factor of its distance."""
    names = options.layers or (options.layer,)
    key = "layers" if options.layers else "layer"
    for name in names:
        if name not in backbone.known():
            raise RecipeError(
                f"loss.perceptual.{key} '{name}' is not known{did_you_mean(name, backbone.known())}; "
                f"{backbone.title} has {', '.join(backbone.layers)}, and Keras's names of them"
            )
    weights = options.layer_weights or (1.0,) * len(names)
    if len(weights) != len(names):
        raise RecipeError(
            f"loss.perceptual.layer_weights are {len(weights)} numbers for {len(names)} layers; give one for each of "
            "loss.perceptual.layers, or none"
        )
    if not sum(weights):
        raise RecipeError("loss.perceptual.layer_weights are all 0; set loss.perceptual.weight=0 instead")
    total = sum(weights) if options.mean_over_layers else 1.0
    factors = {}
    for name, weight in zip(names, weights, strict=True):
        layer = backbone.layer(name)
        factors[layer] = factors.get(layer, 0.0) + weight / total
    return factors


def unit_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of (N, C, H, W) features whose vector in each pixel is scaled to length 1; in [0, 4].

    LPIPS before anything is learned (Zhang et al., CVPR 2018, eq. 1 with w = 1): it asks which features are there, not
    how strong they are, so that pale textures count as much as hard edges.
    """
    # Vectors shorter than this are left shorter than 1: their gradient would have no bound.
    found, wanted = (F.normalize(features, eps=1e-4) for features in (found, wanted))
    return (found - wanted).square().sum(dim=1).mean()


DISTANCES = {"mse": F.mse_loss, "l1": F.l1_loss, "unit": unit_distance}


def photograph_like_noise() -> Tensor:
    """Four fixed pictures in [-1, 1] whose amplitudes fall with 1 / frequency, as those of photographs do.

    Their channels are nearly alike, as photographs are nearly grey (Field, 1987; Ruderman et al., 1998).
    """
    generator = torch.Generator().manual_seed(0)
    number, _, height, width = CALIBRATION_SHAPE
    grey = torch.randn(number, 1, height, width, generator=generator)
    noise = grey + 0.3 * torch.randn(CALIBRATION_SHAPE, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / height
    shaped = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
    return (shaped / shaped.std(dim=(1, 2, 3), keepdim=True) * 0.5).clamp(-1, 1)
