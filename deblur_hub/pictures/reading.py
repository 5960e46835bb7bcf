"""The way in: a picture is opened, described and made a tensor."""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from .opening import opened
from .original import Original, describe
from .samples import to_tensor


def read(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray, *, max_megapixels: float = 100
) -> tuple[Tensor, Original]:
    """Reads a picture, upright, with its header checked before its pixels are decoded.

    Args:
        source: a path, a file's bytes, a binary file, a Pillow picture of any mode, or an array: (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4); uint8, uint16, or floating point in [0, 1].
        max_megapixels: the largest picture accepted.

    Returns:
        (P, 3, H, W) float32 in [-1, 1]: the colours (grey three times), then (P = 2) as a grey picture of its own the
        alpha or, as light, the black ink of CMYK; and what `to_image`, `to_array` and `write` need to turn the restored
        tensor back.

    Raises:
        PictureError: if there is no picture, or it is damaged, too large, or not in range.
    """
    with opened(source, max_megapixels=max_megapixels) as picture:
        samples, original = describe(picture)
        return to_tensor(samples, original), original
