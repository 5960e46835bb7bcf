"""16 bits in each of several channels, and floats: PNG and TIFF, through imagecodecs and tifffile."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from ..errors import PictureError, reason_of
from .metadata import Metadata, append_directories, png_chunks, tiff_parts

DEPTH_TAG, PHOTOMETRIC_TAG, CHANNELS_TAG, FORMAT_TAG = 258, 262, 277, 339


@dataclass(frozen=True)
class DeepHeader:
    """What the header of a file with 16 bits in each of several channels says."""

    format: str
    size: tuple[int, int]
    channels: str  # "LA", "RGB", "RGBA" or "CMYK"
    orientation: int = 1
    icc_profile: bytes | None = None


def read_deep_header(file: BinaryIO, name: str) -> DeepHeader | None:
    """Reads from a PNG's or TIFF's header whether it holds 16-bit colour; None for every other file."""
    file.seek(0)
    start = file.read(33)
    if start.startswith(b"\x89PNG\r\n\x1a\n") and start[12:16] == b"IHDR" and len(start) >= 26:
        width, height, depth, kind = struct.unpack(">IIBB", start[16:26])
        channels = {2: "RGB", 4: "LA", 6: "RGBA"}.get(kind)
        return DeepHeader("PNG", (width, height), channels) if depth == 16 and channels else None
    if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(start[: 16 if start[2:4].strip(b"\0") == b"+" else 8])
        file.seek(tags.next)
        tags.load(file)
        bits, count = tags.get(DEPTH_TAG, (1,)), tags.get(CHANNELS_TAG, 1)
        if bits[0] != 16 or count == 1 or tags.get(FORMAT_TAG, (1,))[0] != 1:
            return None
        channels = {(1, 2): "LA", (2, 3): "RGB", (2, 4): "RGBA", (5, 4): "CMYK"}.get((tags[PHOTOMETRIC_TAG], count))
        size, turned, icc = (tags[256], tags[257]), tags.get(274, 1), tags.get(34675)
        offsets: Any = tags.get(273) or tags.get(324)
        lengths: Any = tags.get(279) or tags.get(325)
        end = max(a + b for a, b in zip(offsets, lengths, strict=True))
    except Exception:  # a damaged directory: Pillow's own reader words the complaint
        return None
    if channels is None:
        raise PictureError(f"{name}: 16-bit TIFF with {count} channels of a kind not read here; save it as RGB first")
    if end > file.seek(0, io.SEEK_END):
        raise PictureError(f"{name}: truncated; nothing was written")
    return DeepHeader("TIFF", size, channels, turned if turned in range(1, 9) else 1, icc)


def decode_deep(file: BinaryIO, header: DeepHeader, name: str) -> np.ndarray:
    """(H, W, C) uint16, as stored (not yet upright); PictureError if the file is damaged."""
    imagecodecs, tifffile = codecs(name)
    file.seek(0)
    try:
        if header.format == "PNG":
            samples = imagecodecs.png_decode(file.read())
        else:
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[0]
                samples = page.asarray()
                if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                    samples = np.moveaxis(samples, 0, -1)
    except Exception as error:
        raise PictureError(f"{name}: cannot be decoded ({reason_of(error)}); nothing was written") from error
    width, height = header.size
    if samples.shape != (height, width, len(header.channels)) or samples.dtype.itemsize != 2:
        raise PictureError(f"{name}: its samples are not what its header says; nothing was written")
    return np.asarray(samples, np.uint16)


def save_deep(samples: np.ndarray, channels: str, path: Path, format_name: str, metadata: Metadata, name: str) -> None:
    """Writes (H, W, C) uint16, float16 or float32 as PNG (uint16 without CMYK) or TIFF."""
    imagecodecs, tifffile = codecs(name)
    if format_name == "PNG":
        data = imagecodecs.png_encode(np.ascontiguousarray(samples))
        path.write_bytes(data[:33] + png_chunks(metadata) + data[33:])
        return
    flat, directories = tiff_parts(metadata)
    description, software, date = (flat.pop(tag, None) for tag in (270, 305, 306))
    typed = [
        (tag, 1, len(value), value) if isinstance(value, bytes) else (tag, 2, 0, value) for tag, value in flat.items()
    ]
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
        description=description,
        software=software or False,
        datetime=date,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        iccprofile=metadata.icc_profile,
        extratags=[(*tag, True) for tag in typed],
    )
    append_directories(path, directories)


def codecs(name: str) -> tuple[ModuleType, ModuleType]:
    """imagecodecs and tifffile; PictureError if they are missing."""
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        raise PictureError(f"{name}: 16-bit colour needs two more packages: pip install 'deblur-hub[deep]'") from None
    return imagecodecs, tifffile
