"""What goes with a picture: EXIF, colour profile, XMP, resolution, texts; read, made true, laid out for each format.

Blocks and entries go along byte for byte, but for what is no longer true of the restored picture. What the format of
the result has no place for is named by `left_out`.
"""

import math
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import ExifTags, Image, JpegImagePlugin

from . import exif as exif_blocks
from . import tiff, xmp
from .exif import PREFIX, ExifBlock, ExifError
from .jpeg import (
    IPTC_KEY,
    MOST,
    comment_of,
    known_segments,
    other_segments,
    photoshop_blocks,
    photoshop_segments,
    segment_notes,
)
from .png import COLOURS, COMMON, TEXTS, PngFile
from .tiff import TiffEntry, TiffPage

RESOLUTION = (282, 283, 296)  # tags: pixels per unit across and down, and the unit
RESOLUTION_UNITS = {2: 1.0, 3: 2.54}  # per inch
# What of a TIFF's directory EXIF defines as well.
EXIF_TAGS = {*tiff.DESCRIBING, *RESOLUTION}


@dataclass(frozen=True)
class Metadata:
    """What goes with a picture: it already speaks of the upright picture of its size, and holds no thumbnail.

    Attributes:
        exif: a block with `exif.PREFIX`.
        segments: of a JPEG: comments, Photoshop's blocks and others, as they stand in a file.
        chunks: of a PNG: texts, what colours mean and others, as (name, contents).
        entries: of a TIFF: its directory's, but for what says how samples are stored.
        inner: of a TIFF: the entries of its EXIF and GPS directories, by the tag of each.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    segments: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    entries: tuple[TiffEntry, ...] = ()
    inner: dict[int, tuple[TiffEntry, ...]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """As Pillow keeps it in `Image.info`."""
        known = {"icc_profile": self.icc_profile, "exif": self.exif_block(), "xmp": self.xmp, "dpi": self.dpi}
        return {key: value for key, value in known.items() if value}

    def exif_block(self) -> bytes | None:
        """The EXIF block; of a TIFF, made of its entries."""
        if self.exif or not (self.entries or self.inner):
            return self.exif
        own = tuple(entry for entry in self.entries if entry.tag in EXIF_TAGS)
        return PREFIX + tiff.exif_of_entries(own, self.inner) if own or self.inner else None

    def tiff_entries(self) -> tuple[tuple[TiffEntry, ...], dict[int, tuple[TiffEntry, ...]]]:
        """The entries of a TIFF's directory, and of its EXIF and GPS directories."""
        entries, inner = self.entries, self.inner
        if self.exif:
            with suppress(ExifError):
                entries, inner = tiff.entries_of_exif(self.exif)
        tags = {entry.tag for entry in entries}
        if self.dpi and 282 not in tags:
            fractions = [struct.pack("<2I", round(value * 10000), 10000) for value in self.dpi]
            values = (*((5, value) for value in fractions), (3, struct.pack("<H", 2)))
            entries += tuple(
                TiffEntry(tag, kind, 1, value) for tag, (kind, value) in zip(RESOLUTION, values, strict=True)
            )
        if self.xmp:
            entries += (TiffEntry(tiff.XMP, 1, len(self.xmp), self.xmp),)
        blocks = photoshop_blocks(self.segments)
        if blocks and tiff.PHOTOSHOP not in tags:
            entries += (TiffEntry(tiff.PHOTOSHOP, 7, len(blocks), blocks),)
        return entries, inner

    def jpeg_segments(self) -> bytes:
        """Comments, Photoshop's blocks and others as segments of a JPEG."""
        blocks = next((entry.values for entry in self.entries if entry.tag == tiff.PHOTOSHOP), b"")
        return self.segments or photoshop_segments(blocks)

    def png_chunks(self) -> list[tuple[bytes, bytes]]:
        """Everything as chunks that stand behind IHDR: (name, contents)."""
        made = [chunk for chunk in self.chunks if chunk[0] in COLOURS]
        if self.icc_profile:
            made.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(self.icc_profile)))
        if self.dpi:
            per_metre = [int(x / 0.0254 + 0.5) for x in self.dpi]
            made.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
        exif = self.exif_block()
        if exif:
            made.append((b"eXIf", exif.removeprefix(PREFIX)))
        if self.xmp:
            made.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + self.xmp))
        return made + [chunk for chunk in self.chunks if chunk[0] not in COLOURS]

    def without_position(self) -> "Metadata":
        """The same without where the picture was taken: neither in EXIF nor in XMP, nor in segments not known here."""
        exif = None
        with suppress(ExifError):
            exif = exif_blocks.without_position(self.exif) if self.exif else None
        inner = {tag: entries for tag, entries in self.inner.items() if tag != tiff.GPS}
        packet = self.xmp and xmp.without_position(self.xmp)
        return replace(self, exif=exif, inner=inner, xmp=packet, segments=known_segments(self.segments))

    def colours_only(self) -> "Metadata":
        """What samples mean, and nothing else: neither who, where and when, nor any text."""
        return Metadata(
            icc_profile=self.icc_profile, chunks=tuple(chunk for chunk in self.chunks if chunk[0] in COLOURS)
        )

    def left_out(self, format_name: str) -> tuple[str, ...]:
        """What a file of this format has no place for; for a sentence that begins "left out:"."""
        gone = []
        texts = [name for name, _ in self.chunks if name in TEXTS]
        others = {name.decode("ascii") for name, _ in self.chunks if name not in COLOURS + TEXTS + COMMON}
        known_colours = (b"sRGB", b"cICP") if format_name in ("HEIF", "AVIF") else (b"sRGB",)
        colours = [name.decode("ascii") for name, _ in self.chunks if name in COLOURS and name not in known_colours]
        if format_name != "PNG":
            gone += ["its PNG texts"] if texts else []
            gone += [f"what its {' and '.join(colours)} said of its colours"] if colours else []
            gone += [f"its PNG chunks {', '.join(sorted(others))}"] if others else []
        if format_name not in ("JPEG", "TIFF"):
            gone += ["its captions (IPTC)"] if IPTC_KEY in self.segments else []
        if format_name == "JPEG":
            long = [name for name, most in MOST.items() if len(self.info().get(name, b"")) > most]
            gone += [f"its {name.upper()}, of more than {MOST[name]} bytes" for name in long]
        elif segments := other_segments(self.segments):
            gone.append(f"its segments {', '.join(segments)}")
        if format_name not in ("JPEG", "GIF") and comment_of(self.segments):
            gone.append("its comment")
        if format_name != "TIFF":
            known = EXIF_TAGS | ({tiff.PHOTOSHOP} if format_name == "JPEG" else set())
            tags = sorted(entry.tag for entry in self.entries if entry.tag not in known)
            gone += [f"its TIFF tags {', '.join(map(str, tags))}"] if tags else []
        if format_name not in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF"):
            gone += ["its EXIF"] if self.exif_block() else []
            gone += ["its XMP"] if self.xmp else []
            gone += ["its colour profile"] if self.icc_profile else []
        in_exif = format_name in ("WEBP", "AVIF", "HEIF") and has_resolution(self.exif_block())
        if self.dpi and not in_exif and format_name not in ("PNG", "JPEG", "TIFF", "BMP", "DIB"):
            gone.append("its resolution")
        return tuple(gone)


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    with suppress(Exception):
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in range(1, 9) else 1
    return 1


def read_metadata(
    picture: Image.Image | None,
    size: tuple[int, int],
    *,
    png: PngFile | None = None,
    page: TiffPage | None = None,
    segments: bytes = b"",
) -> tuple[Metadata, tuple[str, ...]]:
    """A picture's metadata, made true of its upright pixels of `size` (width, height); and notes on what was dropped.

    Args:
        picture: what Pillow read of it; None where Pillow cannot read it.
        png, page, segments: of a file of its format, what was found there.
    """
    info = picture.info if picture is not None else {}
    notes = list(segment_notes(picture)) if picture else []
    packet = png.xmp if png else page.bytes_of(tiff.XMP) if page else info.get("xmp") or info.get("XML:com.adobe.xmp")
    packet = packet.encode() if isinstance(packet, str) else packet
    if isinstance(packet, bytes):
        packet, dropped = xmp.true_xmp(packet, size)
        notes += [f"its {part} is not restored, and was left out" for part in dropped]
    block = png.exif if png else info.get("exif")
    if page is not None:
        block = None
    elif block is None and picture is not None:
        block = pillows_exif(picture)
    exif = None
    if isinstance(block, bytes) and block.removeprefix(PREFIX):
        try:
            exif = PREFIX + exif_blocks.upright_exif(block.removeprefix(PREFIX), size)
        except ExifError:
            notes.append("its EXIF is damaged, and was left out")
    return Metadata(
        icc_profile=(png.icc_profile if png else page.bytes_of(tiff.PROFILE) if page else info.get("icc_profile"))
        or None,
        exif=exif,
        xmp=packet if isinstance(packet, bytes) else None,
        dpi=page_dpi(page) if page else valid_dpi(info.get("dpi")) if not is_made_up(picture, exif) else None,
        segments=segments,
        chunks=png.kept if png else ((b"cICP", info["cicp"]),) if "cicp" in info else (),
        entries=page.kept() if page else (),
        inner=upright_entries(page.inner, size) if page else {},
    ), tuple(dict.fromkeys(notes))


def is_made_up(picture: Image.Image | None, exif: bytes | None) -> bool:
    """Whether the resolution of an opened JPEG is Pillow's 72 dpi for EXIF that has none."""
    if not isinstance(picture, JpegImagePlugin.JpegImageFile):
        return False
    return not picture.info.get("jfif_unit") and not has_resolution(exif)


def has_resolution(exif: bytes | None) -> bool:
    with suppress(ExifError):
        block = ExifBlock(exif or b"")
        return block.find(block.first, RESOLUTION[0]) is not None
    return False


def pillows_exif(picture: Image.Image) -> bytes | None:
    """The EXIF of a picture that came without a block: one that was made in memory, or read from a TIFF by others."""
    with suppress(Exception):  # what cannot be parsed cannot be put right, and must not go out wrong
        found, fresh = picture.getexif(), Image.Exif()
        fresh.endian = found.endian
        for tag, value in found.items():
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                directory = dict(found.get_ifd(tag))
                if isinstance(directory.get(ExifTags.IFD.Interop), int):
                    directory[ExifTags.IFD.Interop] = dict(found.get_ifd(ExifTags.IFD.Interop))
                fresh[tag] = directory
            elif not hasattr(picture, "tag_v2") or tag in EXIF_TAGS - set(RESOLUTION):
                fresh[tag] = value
        return fresh.tobytes() if len(fresh) else None
    return None


def upright_entries(inner: dict[int, tuple[TiffEntry, ...]], size: tuple[int, int]) -> dict[int, tuple[TiffEntry, ...]]:
    """The inner directories of a TIFF with the right size in them."""
    sizes = dict(zip((exif_blocks.PIXEL_WIDTH, exif_blocks.PIXEL_HEIGHT), size, strict=True))
    return {
        tag: tuple(
            TiffEntry(entry.tag, 4, 1, struct.pack("<I", sizes[entry.tag])) if entry.tag in sizes else entry
            for entry in entries
        )
        for tag, entries in inner.items()
    }


def page_dpi(page: TiffPage) -> tuple[float, float] | None:
    """Pixels per inch, if the directory says so: a resolution without a unit is none."""
    per_inch = RESOLUTION_UNITS.get(page.value(RESOLUTION[2], 2))
    found = [page.fraction(tag) for tag in RESOLUTION[:2]]
    return valid_dpi(tuple(value * per_inch for value in found if value)) if per_inch else None


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    with suppress(Exception):
        across, down = float(dpi[0]), float(dpi[1])
        if all(math.isfinite(value) and value > 0 for value in (across, down)):
            return across, down
    return None


def profile_fits(profile: bytes, mode: str) -> bool:
    """Whether a profile describes the samples of that mode; a wrong one makes viewers drop the picture."""
    space = {"CMYK": b"CMYK", "LAB": b"Lab "}.get(mode, b"RGB " if mode.startswith(("RGB", "P")) else b"GRAY")
    return len(profile) < 20 or profile[16:20] == space
