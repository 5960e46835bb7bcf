"""What goes with a picture: EXIF, colour profile, XMP, resolution; read, put upright, and laid out for each format."""

import io
import math
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

# What of a TIFF's first directory describes the picture rather than how that file stored it.
DESCRIPTIVE_TAGS = {270, 271, 272, 305, 306, 315, 316, 33432, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003  # in the EXIF directory
XMP_TAG = 700

Directories = dict[int, dict[int, Any]]  # of a TIFF, beside its main one: tag and value, by the tag that names each


@dataclass(frozen=True)
class Metadata:
    """What goes with a picture: `exif` already speaks of the upright picture of `size`, and holds no thumbnail."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def info(self) -> dict[str, Any]:
        """As Pillow keeps it in `Image.info`."""
        return {key: value for key, value in vars(self).items() if value}


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    with suppress(Exception):
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in range(1, 9) else 1
    return 1


def read_metadata(picture: Image.Image, size: tuple[int, int]) -> Metadata:
    """The picture's metadata, rewritten for its upright pixels of `size` (width, height)."""
    info = picture.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    if isinstance(xmp, bytes):
        xmp = re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>1", xmp)
    dpi: Any = info.get("dpi")
    with suppress(Exception):
        dpi = (float(dpi[0]), float(dpi[1]))
    exif = None
    with suppress(Exception):  # EXIF that cannot be parsed cannot be put right, and must not go out wrong
        exif = upright_exif(picture.getexif(), size, tiff=picture.format == "TIFF")
    return Metadata(
        icc_profile=info.get("icc_profile") or None,
        exif=exif,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=dpi if isinstance(dpi, tuple) and all(math.isfinite(x) and x > 0 for x in dpi) else None,
    )


def upright_exif(exif: Image.Exif, size: tuple[int, int], *, tiff: bool) -> bytes | None:
    """EXIF with orientation 1 and the right size, without the thumbnail, which shows the old picture."""
    fresh = Image.Exif()
    fresh.endian = exif.endian
    for tag, value in exif.items():
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            directory = dict(exif.get_ifd(tag))
            if isinstance(directory.get(ExifTags.IFD.Interop), int):
                directory[ExifTags.IFD.Interop] = dict(exif.get_ifd(ExifTags.IFD.Interop))
            for size_tag, length in zip((PIXEL_WIDTH, PIXEL_HEIGHT), size, strict=True):
                if size_tag in directory:
                    directory[size_tag] = length
            fresh[tag] = directory
        elif tag == ExifTags.Base.Orientation:
            fresh[tag] = 1
        elif not tiff or tag in DESCRIPTIVE_TAGS:
            fresh[tag] = value
    return fresh.tobytes() if len(fresh) else None


def profile_fits(profile: bytes, mode: str) -> bool:
    """Whether a profile describes the samples of that mode; a wrong one makes viewers drop the picture."""
    space = {"CMYK": b"CMYK", "LAB": b"Lab "}.get(mode, b"RGB " if mode.startswith(("RGB", "P")) else b"GRAY")
    return len(profile) < 20 or profile[16:20] == space


# --- laid out for PNG and TIFF -----------------------------------------------------------------------------------


def png_chunks(metadata: Metadata) -> bytes:
    """The metadata as the chunks that follow IHDR."""
    chunks = io.BytesIO()
    if metadata.icc_profile:
        PngImagePlugin.putchunk(chunks, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile))
    if metadata.dpi:
        per_metre = [int(x / 0.0254 + 0.5) for x in metadata.dpi]
        PngImagePlugin.putchunk(chunks, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if metadata.exif:
        PngImagePlugin.putchunk(chunks, b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    if metadata.xmp:
        PngImagePlugin.putchunk(chunks, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    return chunks.getvalue()


def tiff_parts(metadata: Metadata) -> tuple[dict[int, str | bytes], Directories]:
    """What of EXIF and XMP goes into a TIFF's main directory, and the EXIF and GPS directories beside it."""
    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
    directories = {int(tag): exif.get_ifd(tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if tag in exif}
    flat = {tag: value for tag, value in exif.items() if tag in DESCRIPTIVE_TAGS and isinstance(value, str)}
    return flat | ({XMP_TAG: metadata.xmp} if metadata.xmp else {}), directories


def append_directories(path: Path, directories: Directories) -> None:
    """Adds to a TIFF what its writers omit: EXIF and GPS directories, and a main one that names them."""
    if not directories:
        return
    with path.open("r+b") as file:
        start = file.read(8)
        order = "<" if start.startswith(b"II") else ">"
        file.seek(struct.unpack(order + "I", start[4:])[0])
        count = struct.unpack(order + "H", file.read(2))[0]
        entries = [file.read(12) for _ in range(count)]
        for tag, values in directories.items():
            directory = TiffImagePlugin.ImageFileDirectory_v2(start)
            for key, value in values.items():
                if not isinstance(value, dict):
                    directory[key] = value
            offset = even_end(file)
            file.write(directory.tobytes(offset))
            entries.append(struct.pack(order + "HHII", tag, 4, 1, offset))
        offset = even_end(file)
        file.write(struct.pack(order + "H", len(entries)))
        entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
        file.write(b"".join(entries) + b"\0" * 4)
        file.seek(4)
        file.write(struct.pack(order + "I", offset))


def even_end(file: BinaryIO) -> int:
    """The position of the file's end, made even as TIFF requires."""
    file.write(b"\0" * (file.seek(0, io.SEEK_END) % 2))
    return file.tell()
