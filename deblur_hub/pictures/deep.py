"""What Pillow does not read whole: more than 8 bits in each of several channels, kinds of TIFF that it does not know,
camera raw and JPEG XL; through imagecodecs, tifffile, pillow-heif and rawpy.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..errors import PictureError, reason_of
from . import heif, raw
from .metadata import RESOLUTION, Metadata
from .png import PngFile, insert_chunks
from .tiff import (
    BITS,
    CHANNELS,
    EXTRA_SAMPLES,
    LENGTHS,
    OFFSETS,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    TiffPage,
    append_entries,
)

ASSOCIATED = 1  # of ExtraSamples: colours are multiplied by the alpha
PNG_CHANNELS = {2: "RGB", 4: "LA", 6: "RGBA"}  # by the colour type of IHDR
# By photometric interpretation and samples per pixel.
TIFF_CHANNELS = {(1, 1): "L", (1, 2): "LA", (2, 3): "RGB", (2, 4): "RGBA", (5, 4): "CMYK"}
TIFF_SAMPLES = ((1, 8), (1, 16), (3, 16), (3, 32), (3, 64))  # whole numbers, and floats: formats and bits that are read


# Samples of those formats whose greatest one is that of their depth.
DECODERS: dict[str, Callable[[BinaryIO, ModuleType], np.ndarray]] = {
    "JPEG2000": lambda file, imagecodecs: imagecodecs.jpeg2k_decode(file.read()),
    "AVIF": lambda file, imagecodecs: imagecodecs.avif_decode(file.read(), index=0),
    "HEIF": lambda file, _: heif.decode(file),
}


@dataclass(frozen=True)
class DeepHeader:
    """What the header of a file says that is not Pillow's to decode."""

    format: str
    size: tuple[int, int]
    channels: str  # "L", "LA", "RGB", "RGBA" or "CMYK"
    number: int = 0  # of a TIFF's directory
    premultiplied: bool = False
    most: int = 65535  # the greatest sample of a JPEG 2000, HEIC or AVIF
    upright: bool = False  # that its decoder turns it

    @property
    def bits(self) -> int:
        """Bits a channel that its file stores."""
        return self.most.bit_length()


def deep_png(png: PngFile) -> DeepHeader | None:
    """What a PNG's header says if it holds 16-bit colour; None otherwise."""
    channels = PNG_CHANNELS.get(png.colour_type)
    if png.depth != 16 or channels is None:
        return None
    return DeepHeader("PNG", png.size, "RGBA" if png.has_key else channels)  # a transparent colour is decoded as alpha


def deep_tiff(file: BinaryIO, page: TiffPage, name: str, *, forced: bool = False) -> DeepHeader | None:
    """What a TIFF's directory says if it holds 16-bit colour; None otherwise.

    Args:
        forced: that Pillow does not read it, so that it may hold other samples as well.

    Raises:
        PictureError: if it does, of a kind that is not read, or the file is cut short.
    """
    count, samples = page.value(CHANNELS, 1), (page.value(SAMPLE_FORMAT, 1), page.value(BITS, 1))
    if samples not in TIFF_SAMPLES or (not forced and (count == 1 or samples != (1, 16))):
        return None
    channels = TIFF_CHANNELS.get((page.value(PHOTOMETRIC, -1), count))
    if channels is None and forced:
        return None
    if channels is None:
        raise PictureError(f"{name}: 16-bit TIFF with {count} channels of a kind not read here; save it as RGB first")
    for offsets, lengths in zip(OFFSETS, LENGTHS, strict=True):
        ends = [start + length for start, length in zip(page.numbers(offsets), page.numbers(lengths), strict=False)]
        if ends and max(ends) > file.seek(0, io.SEEK_END):
            raise PictureError(f"{name}: truncated; nothing was written")
    return DeepHeader(
        "TIFF",
        (page.value(256, 0), page.value(257, 0)),
        channels,
        page.number,
        channels.endswith("A") and page.value(EXTRA_SAMPLES, 0) == ASSOCIATED,
    )


def deep_heif(header: Image.Image, bits: int) -> DeepHeader | None:
    """What the header of a HEIC or an AVIF says if it holds more than 8 bits a channel."""
    if bits not in heif.DEPTHS:
        return None
    # Pillow says "I;16" of grey ones, and "RGBa" where colours are multiplied by the alpha.
    channels = {"I;16": "L", "RGBa": "RGBA", "La": "LA"}.get(header.mode, header.mode)
    is_heic = header.format == "HEIF"
    multiplied = header.mode in ("RGBa", "La")
    most = (1 << bits) - 1
    return DeepHeader(header.format or "", header.size, channels, 0, multiplied, most, upright=is_heic)


def deep_jpeg2000(header: Image.Image, bits: int) -> DeepHeader | None:
    """What a JPEG 2000's header says if it holds more than 8 bits of colour, whose whites Pillow turns black."""
    if header.format != "JPEG2000" or bits <= 8 or header.mode not in ("LA", "RGB", "RGBA"):
        return None
    return DeepHeader("JPEG2000", header.size, header.mode, most=(1 << bits) - 1)


def decode_deep(file: BinaryIO, header: DeepHeader, name: str) -> tuple[np.ndarray, str]:
    """(H, W, C) as stored (not yet upright), colours not multiplied by alpha, and their channels.

    uint16; of a JPEG XL or a TIFF that Pillow does not know, also uint8 or floats.

    Raises:
        PictureError: if it is damaged, or its package is missing.
    """
    imagecodecs, tifffile = codecs(name)
    if header.format == "RAW":
        return raw.decode(file, name), "RGB"
    file.seek(0)
    try:
        if header.format == "PNG":
            samples = imagecodecs.png_decode(file.read())
        elif header.format in DECODERS:
            samples = np.array(DECODERS[header.format](file, imagecodecs), np.uint16)
            for row in samples:  # so that no wider ones of a whole picture exist
                row[:] = row.astype(np.uint32) * 65535 // header.most
        elif header.format == "JXL":
            samples = imagecodecs.jpegxl_decode(file.read(), index=0)
        else:
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[header.number]
                samples = page.asarray()
                if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                    samples = np.moveaxis(samples, 0, -1)
    except Exception as error:
        raise PictureError(f"{name}: cannot be decoded ({reason_of(error)}); nothing was written") from error
    width, height = header.size
    samples = samples[..., None] if samples.ndim == 2 else samples
    channels = header.channels
    if header.format in ("AVIF", "JXL") and samples.ndim == 3:  # whose headers do not say it, or say more
        channels = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(samples.shape[2], channels)
    if samples.shape != (height, width, len(channels)) or samples.dtype.kind not in "uf":
        raise PictureError(f"{name}: its samples are not what its header says; nothing was written")
    samples = np.asarray(samples, samples.dtype.newbyteorder("="))
    return divided_by_alpha(samples) if header.premultiplied else samples, channels


def divided_by_alpha(samples: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by their alpha (the last channel), as they were before; (H, W, C)."""
    divided = samples.copy()
    most = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1
    for row in divided:  # so that floats of a whole picture never exist
        alpha = row[:, -1:].astype(np.float64)
        colours = row[:, :-1] * np.divide(most, alpha, out=np.zeros_like(alpha), where=alpha > 0)
        row[:, :-1] = np.minimum(np.rint(colours), most) if most > 1 else colours
    return divided


def save_deep(
    samples: np.ndarray,
    channels: str,
    path: Path,
    format_name: str,
    metadata: Metadata,
    name: str,
    *,
    bits: int = 16,
    quality: int = 95,
) -> None:
    """Writes (H, W, C) uint16 or floats as PNG (uint16 without CMYK), TIFF or, of 10 or 12 `bits`, HEIC or AVIF."""
    if format_name == "HEIF":
        return heif.save_heic(samples, channels, path, metadata, bits=bits, quality=quality)
    imagecodecs, tifffile = codecs(name)
    if format_name == "AVIF":
        heif.save_avif(samples, channels, path, metadata, bits=bits, quality=quality)
        return heif.name_colours(path, metadata)
    if format_name == "PNG":
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
        insert_chunks(path, metadata.png_chunks())
        return
    tifffile.imwrite(
        path,
        samples,
        byteorder="<",
        photometric={"L": "minisblack", "LA": "minisblack", "CMYK": "separated"}.get(channels, "rgb"),
        planarconfig="contig",
        extrasamples=["unassalpha"] if channels.endswith("A") else None,
        compression="zlib",
        predictor=samples.dtype.kind == "u",
        rowsperstrip=64,
        metadata=None,
        software=False,
        iccprofile=metadata.icc_profile,
    )
    append_entries(path, *metadata.tiff_entries(), instead_of=RESOLUTION)


def codecs(name: str) -> tuple[ModuleType, ModuleType]:
    """imagecodecs and tifffile; PictureError if they are missing."""
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        raise PictureError(f"{name}: such samples need two more packages: pip install 'deblur-hub[deep]'") from None
    return imagecodecs, tifffile
