"""What of a JPEG goes along with its picture as it is, how it was compressed, and files that end too early."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

from .png import NO_CREDENTIALS

END = b"\xff\xd9"
COMMENT, APP0, PHOTOSHOP = 0xFE, 0xE0, 0xED  # markers; the last is APP13, in which IPTC lies
SIGNATURE = b"Photoshop 3.0\0"
PROFILE = b"ICC_PROFILE\0"
# Segments that are written anew, or speak of what is not written: JFIF, EXIF, XMP, profile, further pictures, Adobe's
# kind of colours, gain maps (ISO 21496-1). `CREDENTIALS` are C2PA's.
ANEW = ("APP0", "APP14")
GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
ANEW_STARTS = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", PROFILE, b"MPF\0", GAIN_MAP)
CREDENTIALS = "APP11"
LONGEST = 65533  # bytes that a segment holds
MOST = {"exif": LONGEST, "xmp": LONGEST - 29}  # of a block that is one segment; XMP's begins with its name
IPTC_KEY = b"8BIM\x04\x04"  # the name of the block that holds captions and keywords
FILLER = bytes(range(1, 255)) * 64  # none of its bytes begins a marker


@dataclass(frozen=True)
class Compression:
    """How a JPEG was compressed: Pillow's `qtables` and, of three components, its `subsampling`; None if it has none
    for it.
    """

    tables: dict[int, list[int]]
    subsampling: int | None

    def options(self, channels: int) -> dict[str, Any]:
        """For Pillow's `save`, of a picture of so many channels."""
        tables = [self.tables[number] for number in sorted(self.tables)]
        if channels == 1:
            tables = tables[:1]
        return {"qtables": tables} | ({"subsampling": self.subsampling or 0} if channels == 3 else {})


def compression_of(picture: Image.Image) -> Compression | None:
    """How an opened file was compressed; None if it is no JPEG."""
    if not isinstance(picture, JpegImagePlugin.JpegImageFile) or not picture.quantization:
        return None
    subsampling = JpegImagePlugin.get_sampling(picture)
    return Compression(dict(picture.quantization), subsampling if subsampling in (0, 1, 2) else None)


def segments_of(picture: Image.Image) -> bytes:
    """The segments of an opened JPEG that go along as they stand: comments, Photoshop's blocks (with IPTC) and others.

    Of a GIF, its comment as such a segment.
    """
    return b"".join(
        segment(COMMENT if kind == "COM" else APP0 + int(kind[3:]), contents)
        for kind, contents in listed(picture)
        if kind not in (*ANEW, CREDENTIALS) and not contents.startswith(ANEW_STARTS)
    )


def segment_notes(picture: Image.Image) -> tuple[str, ...]:
    """Sentences on segments of an opened JPEG that do not go along."""
    found = listed(picture)
    notes = [NO_CREDENTIALS] if any(kind == CREDENTIALS for kind, _ in found) else []
    if any(contents.startswith(PROFILE) for _, contents in found) and not picture.info.get("icc_profile"):
        notes.append("its colour profile is damaged and was left out")
    if any(contents.startswith(GAIN_MAP) for _, contents in found):
        notes.append("its gain map is not restored, and was left out")
    return tuple(notes)


def listed(picture: Image.Image) -> list[tuple[str, bytes]]:
    """(kind, contents) of the comments and application segments of an opened file, as far as it has such."""
    comment = picture.info.get("comment")
    if picture.format == "GIF" and comment and len(comment) <= LONGEST:
        return [("COM", comment)]
    return getattr(picture, "applist", []) if isinstance(picture, JpegImagePlugin.JpegImageFile) else []


def segment(marker: int, contents: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(contents) + 2) + contents


def photoshop_blocks(segments: bytes) -> bytes:
    """Photoshop's blocks of segments, without what marks them in a JPEG; a long one is spread over several segments."""
    return b"".join(
        contents.removeprefix(SIGNATURE)
        for marker, contents in parts_of(segments)
        if marker == PHOTOSHOP and contents.startswith(SIGNATURE)
    )


def comment_of(segments: bytes) -> bytes:
    """The first comment; nothing if there is none."""
    return next((contents for marker, contents in parts_of(segments) if marker == COMMENT), b"")


def parts_of(segments: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of segments that stand one behind another."""
    place = 0
    while place + 4 <= len(segments):
        length = int.from_bytes(segments[place + 2 : place + 4], "big")
        yield segments[place + 1], segments[place + 4 : place + 2 + length]
        place += 2 + length


def photoshop_segments(blocks: bytes) -> bytes:
    """The other way round."""
    step = LONGEST - len(SIGNATURE)
    parts = (blocks[start : start + step] for start in range(0, len(blocks), step))
    return b"".join(segment(PHOTOSHOP, SIGNATURE + part) for part in parts)


def known_segments(segments: bytes) -> bytes:
    """The comments and Photoshop's blocks alone."""
    return b"".join(segment(*part) for part in parts_of(segments) if is_known(*part))


def other_segments(segments: bytes) -> tuple[str, ...]:
    """The names of the others."""
    found = {marker for marker, contents in parts_of(segments) if not is_known(marker, contents)}
    return tuple(f"APP{marker - APP0}" for marker in sorted(found))


def is_known(marker: int, contents: bytes) -> bool:
    return marker == COMMENT or contents.startswith(SIGNATURE)


def ended(file: BinaryIO, end: bytes = END) -> BinaryIO:
    """A file that lacks its end marker, with one; JPEG 2000 has the same."""
    file.seek(0)
    return io.BytesIO(file.read() + end)


def rows_of(file: BinaryIO) -> int:
    """How many rows of its picture are really there in a file that lacks its end.

    Where samples are missing, a decoder makes them up of whatever follows. So two ends are tried, and the rows above
    the first difference are the file's own.
    """
    plain, filled = (np.asarray(decoded(ended(file, end))) for end in (END, FILLER + END))
    same = (plain == filled).reshape(len(plain), -1).all(axis=1)
    return len(same) if same.all() else int(same.argmin())


def decoded(file: BinaryIO) -> Image.Image:
    with Image.open(file, formats=("JPEG",)) as picture:
        picture.load()
        return picture
