"""Discriminators, which recipes call critics: networks that score pictures, for the losses in `adversarial`.

Each maps (N, 3, H, W) in [-1, 1] to scores (N, 1, h, w), larger for sharper pictures; one at several scales returns a
list of them.
"""

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deblur_hub.networks import check_options
from deblur_hub.networks.frame import FrameNorm

Norm = Literal["instance", "batch", "none"]
Head = Literal["linear", "sigmoid"]
HEADS: dict[Head, type[nn.Module]] = {"linear": nn.Identity, "sigmoid": nn.Sigmoid}


class Discriminator(nn.Module):
    """Base class: computes in float32 even under autocast, as a gradient penalty's second derivative needs it."""

    sees_batch = False  # whether a picture's score depends on the rest of its batch, as with batch normalisation

    def forward(self, pictures: Tensor, batches: int = 1) -> Tensor | list[Tensor]:
        """Scores of several concatenated batches, of each as if it had come alone: restored and sharp do not mix."""
        with torch.autocast(pictures.device.type, enabled=False):
            parts = pictures.float().chunk(batches) if self.sees_batch else [pictures.float()]
            scored = [self.score(part) for part in parts]
        if isinstance(scored[0], Tensor):
            return torch.cat(scored)
        return [torch.cat(scores) for scores in zip(*scored, strict=True)]

    def score(self, pictures: Tensor) -> Tensor | list[Tensor]:
        """Scores of one batch of float32; of most, what their `body` computes."""
        return self.body(pictures)


class PatchDiscriminator(Discriminator):
    """PatchGAN (Isola et al., CVPR 2017) as DeblurGAN uses it: it sees the picture only, not the blurry input.

    Args:
        layers: convolutions of stride 2: 3 in DeblurGAN (2.76 M parameters, 35x35 scores of 256x256) and in the patch
            discriminator of DeblurGAN-v2; 5 in its full one (11.15 M, 11x11).
        width: channels of the first convolution.
        norm: behind all but the first and the last convolution; a gradient penalty needs "instance" or "none".

    (N, 3, H, W) in [-1, 1] to scores (N, 1, h, w) without bounds; H and W at least 2.
    """

    def __init__(self, *, layers: int = 3, width: int = 64, norm: Norm = "instance") -> None:
        super().__init__()
        self.sees_batch = norm == "batch"
        channels = [width * min(2**level, 8) for level in range(layers + 1)]
        # Padding 2 for a kernel of 4 is the authors' choice; it makes a map of 35x35 for 256x256.
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
        for level, (narrow, wide) in enumerate(pairwise(channels), start=1):
            parts += convolution(narrow, wide, norm, stride=2 if level < layers else 1, padding=2)
        parts.append(nn.Conv2d(channels[-1], 1, 4, padding=2))
        self.body = nn.Sequential(*parts)
        init_normal(self)


class DoubleScaleDiscriminator(Discriminator):
    """DeblurGAN-v2's two discriminators (Kupyn et al., ICCV 2019, section 3.3), for patches and for the full picture.

    (N, 3, H, W) in [-1, 1] to [scores of patches, scores of the full picture], (N, 1, 35, 35) and (N, 1, 11, 11) for
    256x256, without bounds. `patch_layers` and `full_layers` count convolutions of stride 2. 13.92 M parameters.
    """

    def __init__(
        self, *, patch_layers: int = 3, full_layers: int = 5, width: int = 64, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        self.sees_batch = norm == "batch"
        self.patch = PatchDiscriminator(layers=patch_layers, width=width, norm=norm)
        self.full = PatchDiscriminator(layers=full_layers, width=width, norm=norm)

    def score(self, pictures: Tensor) -> list[Tensor]:
        return [self.patch.score(pictures), self.full.score(pictures)]


class KerasDiscriminator(Discriminator):
    """The Keras port's discriminator (R. Meudec, deblur-gan), whose dense head sees the whole picture.

    Args:
        side: of its pictures, a multiple of 16: the dense head has weights for one size only; 256 in the port.
        width: channels of the first convolution.
        head: "sigmoid", as published: scores in (0, 1), which saturate under a Wasserstein loss and then teach the
            generator nothing. "linear", the correction: unbounded scores.
        norm: "batch", as published, with Keras's epsilon of 0.001; a gradient penalty needs "instance" or "none".

    (N, 3, side, side) in [-1, 1] to (N, 1, 1, 1). 3.10 M parameters.
    """

    def __init__(self, *, side: int = 256, width: int = 64, head: Head = "sigmoid", norm: Norm = "batch") -> None:
        super().__init__()
        if side % 16:
            raise ValueError(f"critic 'keras': side {side} is not a multiple of 16")
        self.side, self.sees_batch = side, norm == "batch"
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise((width, width, 2 * width, 4 * width)):  # the second has no more than the first
            parts += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), normalisation(norm, wide, 1e-3)]
            parts.append(nn.LeakyReLU(0.2))
        around = (1, 2, 1, 2)  # "same" for a kernel of 4 at stride 1
        parts += [nn.ZeroPad2d(around), nn.Conv2d(4 * width, 8 * width, 4), normalisation(norm, 8 * width, 1e-3)]
        parts += [nn.LeakyReLU(0.2), nn.ZeroPad2d(around), nn.Conv2d(8 * width, 1, 4), nn.Flatten()]
        parts += [nn.Linear((side // 16) ** 2, 1024), nn.Tanh(), nn.Linear(1024, 1), HEADS[head]()]
        self.body = nn.Sequential(*parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # Keras's own
                nn.init.zeros_(module.bias)

    def score(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-2:] != (self.side, self.side):
            height, width = pictures.shape[-2:]
            raise ValueError(f"critic 'keras': scores pictures of {self.side}x{self.side}, not {height}x{width}")
        return self.body(pictures)[..., None, None]


class BatchPatchDiscriminator(Discriminator):
    """The PatchGAN of the ResNet-GANs with BCE + L1: four convolutions of stride 2, width 64-128-256-512, then scores.

    Padding 1 is that of Isola et al. (CVPR 2017), as the reports name none.

    Args:
        width: channels of the first convolution.
        norm: behind the second to the fourth convolution.
        head: "linear", the correction: scores are logits. "sigmoid", as published, before a loss with a sigmoid of its
            own: after two of them probabilities only reach 0.5 to 0.73.

    (N, 3, H, W) in [-1, 1] to scores (N, 1, h, w), 15x15 for 256x256; H and W at least 32. 2.77 M parameters.
    """

    def __init__(self, *, width: int = 64, norm: Norm = "batch", head: Head = "linear") -> None:
        super().__init__()
        self.sees_batch = norm == "batch"
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise((width, 2 * width, 4 * width, 8 * width)):
            parts += convolution(narrow, wide, norm, stride=2, padding=1)
        self.body = nn.Sequential(*parts, nn.Conv2d(8 * width, 1, 4, padding=1), HEADS[head]())
        init_normal(self)


DISCRIMINATORS: dict[str, type[Discriminator]] = {
    "patchgan": PatchDiscriminator,
    "double-scale": DoubleScaleDiscriminator,
    "keras": KerasDiscriminator,
    "bce-patchgan": BatchPatchDiscriminator,
}


def build_discriminator(name: str, *, crop: int, **options: Any) -> Discriminator:
    """A discriminator with fresh weights for crops of one size.

    Raises:
        ModelError: for an unknown option, or a value of the wrong type or out of range.
        ValueError: for values that do not fit each other or the crops.
    """
    if name == "keras":
        options = {"side": crop} | options
    discriminator = DISCRIMINATORS[name](**check_options(f"critic '{name}'", DISCRIMINATORS[name], options))
    if name == "keras" and discriminator.side != crop:
        raise ValueError(f"critic 'keras': side {discriminator.side} is not the crops' {crop}")
    return discriminator


def convolution(narrow: int, wide: int, norm: Norm, *, stride: int, padding: int) -> list[nn.Module]:
    """A convolution of a PatchGAN with what follows it."""
    layer = nn.Conv2d(narrow, wide, 4, stride, padding, bias=norm != "batch")
    return [layer, normalisation(norm, wide), nn.LeakyReLU(0.2)]


def normalisation(norm: Norm, channels: int, batch_eps: float = 1e-5) -> nn.Module:
    """Without running statistics: a discriminator only ever scores the batch at hand."""
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=batch_eps, track_running_stats=False)
    return FrameNorm(channels) if norm == "instance" else nn.Identity()


def init_normal(network: nn.Module) -> None:
    """Draws weights from N(0, 0.02), as the authors and Isola et al."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
