"""What JPEG does to a picture, in a few tensor operations: no entropy coding, which loses nothing.

ITU-T T.81 with the tables of its annex K, scaled by quality as the Independent JPEG Group's library does it; chroma at
half the resolution each way (4:2:0), as phones and Pillow save by default.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# fmt: off
LUMA_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)
CHROMA_TABLE = (
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    *[99] * 32,
)
# fmt: on
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
UNIT = 16  # pixels a side that are coded together at 4:2:0


def jpeg(picture: Tensor, quality: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1], of 8 bits, as they come back from JPEG files of quality (N,), 1 to 100.

    `corner` is (down, right) of the pictures within a unit of 16x16 pixels, for crops of larger files.
    """
    height, width = picture.shape[-2:]
    down, right = corner
    levels = (picture.clamp(0, 1) * 255 + 0.5).floor()
    levels = F.pad(levels, (right, -(width + right) % UNIT, down, -(height + down) % UNIT), mode="replicate")
    ycc = torch.einsum("ij,njhw->nihw", levels.new_tensor(TO_YCC), levels).round()
    luma = coded(ycc[:, :1] - 128, LUMA_TABLE, quality) + 128
    # Means of four are rounded down and up in turn, as the library does it to be fair.
    fair = levels.new_tensor([0.25, 0.5]).repeat(ycc.shape[-1] // 4)
    halved = (F.avg_pool2d(ycc[:, 1:], 2) + fair).floor()
    chroma = coded(halved, CHROMA_TABLE, quality)
    # The library's "fancy" upsampling, three parts of the nearer and one of the farther sample, is bilinear.
    chroma = F.interpolate(chroma.clamp(-128, 127).round(), scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat([luma.clamp(0, 255).round(), chroma.round()], dim=1)
    rgb = torch.einsum("ij,njhw->nihw", levels.new_tensor(TO_RGB), ycc).round().clamp(0, 255)
    return rgb[..., down : down + height, right : right + width] / 255


def coded(plane: Tensor, table: tuple[int, ...], quality: Tensor) -> Tensor:
    """(N, C, H, W) around 0, through the cosine transform of its blocks of 8x8, quantised at each quality, and back."""
    quality = quality.to(plane).floor().clamp(1, 100)
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    steps = ((plane.new_tensor(table) * scale[:, None] + 50) / 100).floor().clamp(1, 255).view(-1, 1, 1, 1, 8, 8)
    count, channels, height, width = plane.shape
    transform = cosines().to(plane)
    blocks = plane.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = transform @ blocks @ transform.T
    blocks = transform.T @ ((coefficients / steps).round() * steps) @ transform
    return blocks.transpose(3, 4).reshape(count, channels, height, width)


@lru_cache(maxsize=1)
def cosines() -> Tensor:
    """(8, 8): the orthonormal cosine transform, T.81 A.3.3."""
    rows = [
        [math.cos((2 * place + 1) * wave * math.pi / 16) * math.sqrt((1 if wave == 0 else 2) / 8) for place in range(8)]
        for wave in range(8)
    ]
    return torch.tensor(rows)
