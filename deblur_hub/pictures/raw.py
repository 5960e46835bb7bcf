"""Camera raw, developed by LibRaw (through rawpy) as the camera would have: its white balance, sRGB, 16 bits.

Exposure stays as it was taken, and what is brighter than the sensor's white is clipped.
"""

import io
from contextlib import suppress
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms

from ..errors import PictureError
from .suffixes import RAW_SUFFIXES
from .tiff import TiffPage, is_tiff, raw_page

STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")  # RAF, ORF, RW2, X3F and MRW
CR2, CR3 = b"CR\2", b"ftypcrx "  # at the eighth and the fourth byte
GAMMA = (2.4, 12.92)  # of sRGB: its exponent, and the slope near black
NOTE = "developed in sRGB with the camera's white balance; the maker's notes on the raw file were left out"
TURNED = (5, 6)  # LibRaw's flips that swap the sides


def is_raw(prefix: bytes, suffix: str) -> bool:
    """Whether a file with this beginning and suffix is camera raw, as far as those say."""
    if prefix.startswith(STARTS) or prefix[8:11] == CR2 or prefix[4:12] == CR3:
        return True
    return suffix.lower() in RAW_SUFFIXES and (is_tiff(prefix) or prefix[6:14] == b"HEAPCCDR")  # which is CRW


def library(name: str) -> ModuleType:
    """rawpy; PictureError if it is missing."""
    try:
        import rawpy
    except ImportError:
        raise PictureError(
            f"{name}: camera raw needs another package; install it with pip install 'deblur-hub[raw]', or develop the "
            "photo to TIFF first"
        ) from None
    return rawpy


def opened(file: BinaryIO, name: str) -> Any:
    """The file as rawpy's, nothing of it decoded.

    Raises:
        PictureError: if rawpy is missing, or does not read it.
    """
    rawpy = library(name)
    file.seek(0)
    try:
        return rawpy.imread(file)
    except rawpy.LibRawError as error:
        raise PictureError(f"{name}: camera raw that cannot be read ({reason(error)}); nothing was written") from error


def size_of(file: BinaryIO, name: str) -> tuple[int, int]:
    """(width, height), upright."""
    with opened(file, name) as raw:
        sizes = raw.sizes
        size = int(sizes.iwidth), int(sizes.iheight)
        return size[::-1] if sizes.flip in TURNED else size


def decode(file: BinaryIO, name: str) -> np.ndarray:
    """(H, W, 3) uint16, upright, in sRGB.

    Raises:
        PictureError: if the file is cut short or damaged.
    """
    rawpy = library(name)
    with opened(file, name) as raw:
        try:
            developed: np.ndarray = raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=GAMMA,
                output_bps=16,
            )
        except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
            raise PictureError(f"{name}: cannot be developed ({reason(error)}); nothing was written") from error
    return developed


def metadata_of(file: BinaryIO, name: str) -> tuple[Image.Image, TiffPage | None]:
    """What is known beside the samples: a picture with `info`, and of a raw file that is a TIFF its directory.

    Of others, EXIF is that of the JPEG inside.
    """
    shown = Image.new("RGB", (1, 1))
    shown.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file.seek(0)
    if is_tiff(file.read(4)):
        return shown, raw_page(file, shown.info["icc_profile"])
    with suppress(Exception), opened(file, name) as raw:  # without a preview, or one that is damaged, there is no EXIF
        preview = Image.open(io.BytesIO(raw.extract_thumb().data))
        shown.info |= {key: preview.info[key] for key in ("exif", "xmp") if preview.info.get(key)}
    return shown, None


def reason(error: Exception) -> str:
    """LibRaw's words, which are bytes."""
    said = error.args[0] if error.args else type(error).__name__
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
