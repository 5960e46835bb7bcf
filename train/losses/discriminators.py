"""Critics: networks that judge pictures, for the adversarial losses.

Each takes (N, 3, H, W) in [-1, 1] and returns scores (N, 1, h, w), of which the larger are for the sharper pictures; a
critic at several scales returns their list. How scores become losses is in `losses` and `adversarial`.
"""

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deblur_hub.networks import check_options
from deblur_hub.networks.frame import FrameNorm

Norm = Literal["instance", "batch", "none"]
Head = Literal["linear", "sigmoid"]


class Critic(nn.Module):
    """Base of all critics: computes in float32 whatever the precision around it, and keeps batches apart.

    accelerate turns autocast on inside the forward of all that it prepares, and half precision would not carry the
    second derivative that a gradient penalty takes.
    """

    sees_batch = False  # whether the score of a picture depends on the others of its batch, as batch normalisation's do

    def forward(self, pictures: Tensor, batches: int = 1) -> Tensor | list[Tensor]:
        """Scores of one batch or of several behind one another, of each as if it had come alone.

        Data-parallel wrappers want one forward for each backward; normalising restored and sharp pictures together
        would tell them apart by what they are mixed with.
        """
        with torch.autocast(pictures.device.type, enabled=False):
            parts = pictures.float().chunk(batches) if self.sees_batch else [pictures.float()]
            judged = [self.judge(part) for part in parts]
        if isinstance(judged[0], Tensor):
            return torch.cat(judged)
        return [torch.cat(scores) for scores in zip(*judged, strict=True)]

    def judge(self, pictures: Tensor) -> Tensor | list[Tensor]:
        """Scores of one batch of float32."""
        raise NotImplementedError


class PatchCritic(Critic):
    """PatchGAN (Isola et al., CVPR 2017) as DeblurGAN uses it: it sees the picture alone, not the blurred input.

    Args:
        layers: convolutions of stride 2: 3 in DeblurGAN (2.76 M parameters, 35x35 scores of 256x256) and in the patch
            critic of DeblurGAN-v2; 5 in its full critic (11.15 M, 11x11).
        width: channels of the first convolution.
        norm: behind all but the first and the last convolution. With "instance", and with "none", the score of a
            picture does not depend on its batch, which a gradient penalty needs.

    (N, 3, H, W) in [-1, 1] to scores (N, 1, h, w) without bounds; H and W at least 2.
    """

    def __init__(self, *, layers: int = 3, width: int = 64, norm: Norm = "instance") -> None:
        super().__init__()
        self.sees_batch = norm == "batch"
        channels = [width * min(2**level, 8) for level in range(layers + 1)]
        # Padding 2 for a kernel of 4 is the authors' choice; it makes a map of 35x35 for 256x256.
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
        for level, (narrow, wide) in enumerate(pairwise(channels), start=1):
            parts += [
                nn.Conv2d(narrow, wide, 4, stride=2 if level < layers else 1, padding=2, bias=norm != "batch"),
                normalisation(norm, wide),
                nn.LeakyReLU(0.2),
            ]
        parts.append(nn.Conv2d(channels[-1], 1, 4, padding=2))
        self.body = nn.Sequential(*parts)
        start_normal(self)

    def judge(self, pictures: Tensor) -> Tensor:
        return self.body(pictures)


class DoubleScaleCritic(Critic):
    """DeblurGAN-v2's two critics (Kupyn et al., ICCV 2019, section 3.3), one for patches and one for the full picture.

    Args:
        patch_layers, full_layers: convolutions of stride 2 of the two `PatchCritic`s.
        width, norm: of both.

    (N, 3, H, W) in [-1, 1] to [scores of patches, scores of the full picture], (N, 1, 35, 35) and (N, 1, 11, 11) for
    256x256, without bounds. The losses of the two are averaged. 13.92 M parameters.
    """

    def __init__(
        self, *, patch_layers: int = 3, full_layers: int = 5, width: int = 64, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        self.sees_batch = norm == "batch"
        self.patch = PatchCritic(layers=patch_layers, width=width, norm=norm)
        self.full = PatchCritic(layers=full_layers, width=width, norm=norm)

    def judge(self, pictures: Tensor) -> list[Tensor]:
        return [self.patch.judge(pictures), self.full.judge(pictures)]


class KerasCritic(Critic):
    """The critic of the Keras port of DeblurGAN (R. Meudec, deblur-gan), whose dense head sees the whole picture.

    Args:
        side: of its pictures, a multiple of 16: the dense head has weights for one size alone; 256 in the port.
        width: channels of the first convolution.
        head: "sigmoid", as published: scores in (0, 1), which saturate under a Wasserstein loss and then teach the
            generator nothing. "linear", as it should be: scores without bounds.
        norm: "batch", as published, with Keras's epsilon of 0.001. With "instance", or "none", the score of a picture
            does not depend on its batch, which a gradient penalty needs.

    (N, 3, side, side) in [-1, 1] to (N, 1, 1, 1). 3.10 M parameters.
    """

    def __init__(self, *, side: int = 256, width: int = 64, head: Head = "sigmoid", norm: Norm = "batch") -> None:
        super().__init__()
        if side % 16:
            raise ValueError(f"critic 'keras': side {side} is not a multiple of 16")
        self.side, self.sees_batch = side, norm == "batch"
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise((width, width, 2 * width, 4 * width)):  # the second has no more than the first
            parts += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), keras_norm(norm, wide), nn.LeakyReLU(0.2)]
        around = (1, 2, 1, 2)  # "same" for a kernel of 4 at stride 1
        parts += [nn.ZeroPad2d(around), nn.Conv2d(4 * width, 8 * width, 4)]
        parts += [keras_norm(norm, 8 * width), nn.LeakyReLU(0.2)]
        parts += [nn.ZeroPad2d(around), nn.Conv2d(8 * width, 1, 4), nn.Flatten()]
        parts += [nn.Linear((side // 16) ** 2, 1024), nn.Tanh(), nn.Linear(1024, 1), *ending(head)]
        self.body = nn.Sequential(*parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # Keras's own
                nn.init.zeros_(module.bias)

    def judge(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-2:] != (self.side, self.side):
            height, width = pictures.shape[-2:]
            raise ValueError(f"critic 'keras': judges pictures of {self.side}x{self.side}, not {height}x{width}")
        return self.body(pictures)[..., None, None]


class BatchPatchCritic(Critic):
    """The PatchGAN of the ResNet-GANs with BCE + L1: four convolutions of stride 2, width 64-128-256-512, then scores.

    Padding 1 is that of Isola et al. (CVPR 2017), as the reports name none.

    Args:
        width: channels of the first convolution.
        norm: behind the second to the fourth convolution.
        head: "linear", as it should be: scores are logits. "sigmoid", as published, before a loss that takes a
            sigmoid of its own: of two, the probabilities reach 0.5 to 0.73 alone.

    (N, 3, H, W) in [-1, 1] to scores (N, 1, h, w), 15x15 for 256x256; H and W at least 32. 2.77 M parameters.
    """

    def __init__(self, *, width: int = 64, norm: Norm = "batch", head: Head = "linear") -> None:
        super().__init__()
        self.sees_batch = norm == "batch"
        parts = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise((width, 2 * width, 4 * width, 8 * width)):
            parts += [
                nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=norm != "batch"),
                normalisation(norm, wide),
                nn.LeakyReLU(0.2),
            ]
        parts += [nn.Conv2d(8 * width, 1, 4, padding=1), *ending(head)]
        self.body = nn.Sequential(*parts)
        start_normal(self)

    def judge(self, pictures: Tensor) -> Tensor:
        return self.body(pictures)


CRITICS: dict[str, type[Critic]] = {
    "patchgan": PatchCritic,
    "double-scale": DoubleScaleCritic,
    "keras": KerasCritic,
    "bce-patchgan": BatchPatchCritic,
}


def build_critic(name: str, *, crop: int, **options: Any) -> Critic:
    """A critic with fresh weights for crops of one size.

    Raises:
        ModelError: for an option that it does not have, or a value of the wrong type or out of range.
        ValueError: for values that do not fit each other or the crops.
    """
    if name == "keras":
        options = {"side": crop} | options
    critic = CRITICS[name](**check_options(f"critic '{name}'", CRITICS[name], options))
    if name == "keras" and critic.side != crop:
        raise ValueError(f"critic 'keras': side {critic.side} is not the crops' {crop}")
    return critic


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Without remembered statistics: a critic only ever judges the batch at hand."""
    if norm == "none":
        return nn.Identity()
    return FrameNorm(channels) if norm == "instance" else nn.BatchNorm2d(channels, track_running_stats=False)


def keras_norm(norm: Norm, channels: int) -> nn.Module:
    made = normalisation(norm, channels)
    if norm == "batch":
        made.eps = 1e-3
    return made


def ending(head: Head) -> list[nn.Module]:
    return [nn.Sigmoid()] if head == "sigmoid" else []


def start_normal(critic: nn.Module) -> None:
    """N(0, 0.02), as the authors and Isola et al. begin."""
    for module in critic.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
