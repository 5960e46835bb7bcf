"""Test pictures of every mode, made of seeded noise so that a lost or shifted sample cannot go unseen."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16"]
MODES += ["I;16B", "I;16L", "F"]


def noise(*shape: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    """Samples over the whole range of an integer dtype, or in [0, 1]."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.random(shape).astype(dtype)
    native = np.dtype(dtype).newbyteorder("=")
    return random.integers(0, np.iinfo(native).max, shape, dtype=native, endpoint=True).astype(dtype)


def picture(mode: str, size: tuple[int, int] = (37, 23)) -> Image.Image:
    """A picture of noise in any mode of Pillow's; a palette has 16 colours."""
    width, height = size
    if mode == "1":
        return Image.fromarray(noise(height, width) > 127)
    if mode in ("P", "PA"):
        palette = Image.fromarray(noise(height, width) % 16)
        palette.putpalette(noise(16, 3, seed=1).tobytes())
        if mode == "P":
            return palette
        both = Image.merge("PA", (Image.frombytes("L", size, palette.tobytes()), picture("L", size)))
        both.putpalette(palette.palette)
        return both
    if mode in ("La", "RGBa"):  # through a conversion, since no colour may exceed its alpha
        return picture(mode[:-1] + "A", size).convert(mode)
    if mode == "F":
        return Image.fromarray(noise(height, width, dtype=np.float32) * 9 - 3)
    if mode == "I":
        return Image.fromarray(noise(height, width, dtype=np.uint16).astype(np.int32) * 3 - 50_000)
    length = len(Image.new(mode, (1, 1)).tobytes())
    return Image.frombytes(mode, size, noise(height, width, length).tobytes())


def file_of(image: Image.Image, format_name: str, **options) -> bytes:
    """The picture's bytes in a file format."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
