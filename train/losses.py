"""The losses of generators and critics. Pictures are (N, 3, H, W) in [-1, 1]; every loss is a scalar tensor."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_hub.errors import did_you_mean

from .recipe import Perceptual, RecipeError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# torchvision's layout of VGG19.features: convolution -> index; its ReLU is the next one.
VGG19_CONVOLUTIONS = {
    "conv1_1": 0,
    "conv1_2": 2,
    "conv2_1": 5,
    "conv2_2": 7,
    "conv3_1": 10,
    "conv3_2": 12,
    "conv3_3": 14,
    "conv3_4": 16,
}
VGG19_CHANNELS = {
    "conv1_1": (3, 64),
    "conv1_2": (64, 64),
    "conv2_1": (64, 128),
    "conv2_2": (128, 128),
    "conv3_1": (128, 256),
    "conv3_2": (256, 256),
    "conv3_3": (256, 256),
    "conv3_4": (256, 256),
}


def pixel_loss(kind: str, restored: Tensor, sharp: Tensor) -> Tensor:
    """L1, MSE or Charbonnier (sqrt(d^2 + 0.001^2), Lai et al., CVPR 2017) distance of the values."""
    if kind == "l1":
        return F.l1_loss(restored, sharp)
    if kind == "mse":
        return F.mse_loss(restored, sharp)
    if kind == "charbonnier":
        return ((restored - sharp).square() + 1e-6).sqrt().mean()
    raise ValueError(f"pixel loss '{kind}' is not known")


def frequency_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of the spectra's real and imaginary parts (MIMO-UNet, Cho et al., ICCV 2021, eq. 8)."""
    difference = torch.fft.rfft2(restored.float() - sharp.float())
    return torch.view_as_real(difference).abs().mean()


def at_every_scale(loss: Callable[[Tensor, Tensor], Tensor], outputs: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """The sum over a generator's outputs, each against the sharp picture averaged down to its size.

    So MIMO-UNet (Cho et al., ICCV 2021, eq. 7-9) and DeepDeblur (Nah et al., CVPR 2017) train their scales; the loss of
    each is a mean over its own pixels.
    """
    return sum(loss(output, F.interpolate(sharp, size=output.shape[-2:], mode="area")) for output in outputs)


class PerceptualLoss(nn.Module):
    """Mean squared difference of VGG19 features (Johnson et al., ECCV 2016; DeblurGAN, eq. 4).

    Args:
        options: `layer` is `conv3_3` (before its ReLU) or `relu3_3`; `imagenet_normalised` shifts and scales the
            input as torchvision's weights expect it, instead of handing over [-1, 1].
        weights: a safetensors file in torchvision's key layout, or None for torchvision's own download.

    Raises:
        RecipeError: for an unknown layer, or weights that cannot be had or do not reach it.
    """

    def __init__(self, options: Perceptual, weights: Path | None) -> None:
        super().__init__()
        convolution = options.layer.replace("relu", "conv")
        if convolution not in VGG19_CONVOLUTIONS:
            known = [*VGG19_CONVOLUTIONS, *(name.replace("conv", "relu") for name in VGG19_CONVOLUTIONS)]
            raise RecipeError(
                f"loss.perceptual.layer '{options.layer}' is not known"
                f"{did_you_mean(options.layer, known)}; take one of {', '.join(known)}"
            )
        tensors = read_vgg19(weights)
        parts, reached = [], []
        for name, index in VGG19_CONVOLUTIONS.items():
            weight, bias = (tensors.get(f"features.{index}.{key}") for key in ("weight", "bias"))
            if reached and weight is None:
                raise RecipeError(
                    f"{weights}: ends before {convolution}; take an earlier layer, such as "
                    f"--set loss.perceptual.layer={reached[-1].replace('conv', 'relu')}, "
                    "or the whole VGG19"
                )
            if name in ("conv2_1", "conv3_1"):
                parts.append(nn.MaxPool2d(2))
            parts.append(nn.Conv2d(*VGG19_CHANNELS[name], 3, padding=1))
            reached.append(name)
            for key, found in (("weight", weight), ("bias", bias)):
                wanted = getattr(parts[-1], key)
                if found is None or found.shape != wanted.shape:
                    raise RecipeError(
                        f"{weights}: its 'features.{index}.{key}' is not VGG19's {name}; "
                        "--perceptual-weights takes VGG19 in torchvision's layout"
                    )
                wanted.data.copy_(found)
            if name == convolution:
                break
            parts.append(nn.ReLU(inplace=True))
        if options.layer.startswith("relu"):
            parts.append(nn.ReLU(inplace=True))
        self.features = nn.Sequential(*parts).requires_grad_(False).eval()
        self.normalised = options.imagenet_normalised
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.describe(sharp)
        return F.mse_loss(self.describe(restored), target)

    def describe(self, picture: Tensor) -> Tensor:
        return self.features(((picture + 1) / 2 - self.mean) / self.std if self.normalised else picture)


def read_vgg19(weights: Path | None) -> dict[str, Tensor]:
    if weights is None:
        from torchvision.models import VGG19_Weights

        try:
            return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as reason:  # no network; a download that fails its checksum
            raise RecipeError(
                f"the VGG19 weights of the perceptual loss cannot be downloaded ({reason}); name a local "
                "safetensors file in torchvision's layout with --perceptual-weights"
            ) from reason
    try:
        return load_file(weights)
    except (OSError, SafetensorError) as reason:
        raise RecipeError(
            f"{weights}: not a safetensors file that can be read ({reason}); "
            "--perceptual-weights takes VGG19 in torchvision's layout"
        ) from reason


def wasserstein(of_restored: Tensor, of_sharp: Tensor) -> Tensor:
    """E[D(restored)] - E[D(sharp)] of scores of any shape (WGAN, Arjovsky et al., ICML 2017, eq. 2), for the critic."""
    return of_restored.mean() - of_sharp.mean()


def relativistic_least_squares(better: Tensor, worse: Tensor) -> Tensor:
    """RaGAN-LS: E[(D(better) - E[D(worse)] - 1)^2] + E[(D(worse) - E[D(better)] + 1)^2] of scores of any shape.

    Jolicoeur-Martineau (ICLR 2019), as DeblurGAN-v2 takes it (Kupyn et al., ICCV 2019, eq. 1; the released code halves
    it). The sharp pictures are the better ones for the critic, the restored ones for the generator. The means are
    those of this batch, where the released code remembers 50 batches.
    """
    return (better - worse.mean() - 1).square().mean() + (worse - better.mean() + 1).square().mean()


def cross_entropy(logits: Tensor, wanted: float) -> Tensor:
    """Mean binary cross-entropy of logits of any shape with one probability: 1 for sharp and 0 for restored."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))
