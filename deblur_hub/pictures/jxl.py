"""JPEG XL: its size before it is decoded, its samples by imagecodecs, and what stands beside them by pillow-jxl-plugin.

The plugin alone would cut colour to 8 bits, and imagecodecs alone would lose the colour profile.
"""

import io
from typing import Any, BinaryIO

from PIL import Image

from ..errors import PictureError
from .heif import HDR
from .isobmff import boxes

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
MOST_HEADER = 64  # bytes of a codestream that say its size and orientation
LENGTHS = (9, 13, 18, 30)  # bits of a side, by the selector before it
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # of width to height


def is_jxl(prefix: bytes) -> bool:
    return prefix.startswith((CODESTREAM, CONTAINER))


class _Bits:
    """Whole numbers of a codestream, whose first bit is the lowest of its first byte."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), len(data) * 8

    def take(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise ValueError("cut short")
        found = self.value & ((1 << count) - 1)
        self.value >>= count
        return found


def size_of(file: BinaryIO, name: str) -> tuple[int, int]:
    """(width, height), upright (ISO/IEC 18181-1, SizeHeader and ImageMetadata).

    Raises:
        PictureError: if the header is damaged.
    """
    file.seek(0)
    data = file.read()
    if data.startswith(CONTAINER):
        parts = (box for box in boxes(data) if box[0] in (b"jxlc", b"jxlp"))
        kind, start, _ = next(parts, (b"", len(data), 0))
        data = data[start + 4 if kind == b"jxlp" else start :][:MOST_HEADER]  # a part begins with its number
    try:
        if not data.startswith(CODESTREAM):
            raise ValueError("no codestream")
        bits = _Bits(data[2:MOST_HEADER])
        small = bits.take(1)
        height = side(bits, small)
        ratio = bits.take(3)
        width = height * RATIOS[ratio][0] // RATIOS[ratio][1] if ratio else side(bits, small)
        plain = bits.take(1) or not bits.take(1)
        turned = not plain and bits.take(3) >= 4
    except ValueError as error:
        raise PictureError(f"{name}: damaged JPEG XL ({error}); nothing was written") from None
    return (height, width) if turned else (width, height)


def side(bits: _Bits, small: int) -> int:
    return (bits.take(5) + 1) * 8 if small else bits.take(LENGTHS[bits.take(2)]) + 1


def metadata_of(file: BinaryIO, name: str) -> Image.Image:
    """A picture with EXIF, XMP and colour profile in `info`.

    Raises:
        PictureError: if the package for it is missing, the file is damaged, or it is HDR.
    """
    try:
        from pillow_jxl import Decoder
    except ImportError:
        raise need(name) from None
    file.seek(0)
    data = file.read()
    try:
        is_jpeg, _, samples, profile, found = Decoder(num_threads=-1)(data)
    except Exception as error:
        raise PictureError(f"{name}: damaged JPEG XL ({error}); nothing was written") from error
    shown = Image.new("RGB", (1, 1))
    if is_jpeg:  # a JPEG that was packed without loss
        with Image.open(io.BytesIO(samples)) as inside:
            shown.info |= {key: value for key, value in inside.info.items() if key in ("exif", "xmp", "dpi")}
            profile = inside.info.get("icc_profile", profile)
    else:
        named: dict[bytes, Any] = {bytes(box.box_type): bytes(box.data) for box in found}
        if b"Exif" in named:
            start = 0 if named[b"Exif"][:2] in (b"II", b"MM") else 4 + int.from_bytes(named[b"Exif"][:4], "big")
            shown.info["exif"] = named[b"Exif"][start:]
        if b"xml " in named:
            shown.info["xmp"] = named[b"xml "]
    place = (profile or b"").find(b"cicp\0\0\0\0")
    if place >= 0 and profile[place + 9 : place + 10] and profile[place + 9] in HDR:
        raise PictureError(
            f"{name}: is HDR ({HDR[profile[place + 9]]}), which the models do not know; convert it to SDR first"
        )
    if profile:
        shown.info["icc_profile"] = profile
    return shown


def need(name: str) -> PictureError:
    return PictureError(
        f"{name}: JPEG XL needs another package; install it with pip install 'deblur-hub[jxl]', or save the photo as "
        "PNG first"
    )
