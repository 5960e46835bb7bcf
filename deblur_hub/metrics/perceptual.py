"""LPIPS, a learned distance, if its package and weights are installed; they are not ours to ship."""

import contextlib
import io
import warnings
from functools import lru_cache
from typing import Any

import torch

from ..errors import DeblurHubError
from .pictures import Pictures, Scores, prepared, require_colour

BACKBONES = ("alex", "vgg", "squeeze")


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
