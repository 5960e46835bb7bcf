"""What of a JPEG goes along with its picture as it is, how it was compressed, and files that end too early."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

END = b"\xff\xd9"
COMMENT, PHOTOSHOP = 0xFE, 0xED  # markers; the second is APP13, in which IPTC lies
SIGNATURE = b"Photoshop 3.0\0"
IPTC_KEY = b"8BIM\x04\x04"  # the name of the block that holds captions and keywords
FILLER = bytes(range(1, 255)) * 64  # none of its bytes begins a marker


@dataclass(frozen=True)
class Compression:
    """How a JPEG was compressed: Pillow's `qtables` and, of three components, its `subsampling`."""

    tables: dict[int, list[int]]
    subsampling: int | None

    def options(self, channels: int) -> dict[str, Any]:
        """For Pillow's `save`, of a picture of so many channels."""
        tables = [self.tables[number] for number in sorted(self.tables)]
        if channels == 1:
            tables = tables[:1]
        sampled = channels == 3 and self.subsampling is not None
        return {"qtables": tables} | ({"subsampling": self.subsampling} if sampled else {})


def compression_of(picture: Image.Image) -> Compression | None:
    """How an opened file was compressed; None if it is no JPEG."""
    if not isinstance(picture, JpegImagePlugin.JpegImageFile) or not picture.quantization:
        return None
    subsampling = JpegImagePlugin.get_sampling(picture)
    return Compression(dict(picture.quantization), subsampling if subsampling in (0, 1, 2) else None)


def segments_of(picture: Image.Image) -> bytes:
    """The comments and the Photoshop blocks (with IPTC) of an opened JPEG, as they stand in the file."""
    kinds = {"COM": COMMENT, "APP13": PHOTOSHOP}
    listed = getattr(picture, "applist", []) if isinstance(picture, JpegImagePlugin.JpegImageFile) else []
    return b"".join(
        struct.pack(">BBH", 0xFF, kinds[kind], len(contents) + 2) + contents
        for kind, contents in listed
        if kind in kinds and len(contents) < 65534
    )


def photoshop_blocks(segments: bytes) -> bytes:
    """Photoshop's blocks of segments, without what marks them in a JPEG; a long one is spread over several segments."""
    return b"".join(
        contents.removeprefix(SIGNATURE)
        for marker, contents in parts_of(segments)
        if marker == PHOTOSHOP and contents.startswith(SIGNATURE)
    )


def has_comment(segments: bytes) -> bool:
    return any(marker == COMMENT for marker, _ in parts_of(segments))


def parts_of(segments: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, contents) of segments that stand one behind another."""
    place = 0
    while place + 4 <= len(segments):
        length = int.from_bytes(segments[place + 2 : place + 4], "big")
        yield segments[place + 1], segments[place + 4 : place + 2 + length]
        place += 2 + length


def photoshop_segment(blocks: bytes) -> bytes:
    """The other way round; nothing if the blocks are none, or too long for one segment."""
    contents = SIGNATURE + blocks
    if not blocks or len(contents) > 65533:
        return b""
    return struct.pack(">BBH", 0xFF, PHOTOSHOP, len(contents) + 2) + contents


def complete(file: BinaryIO) -> tuple[BinaryIO, int]:
    """A file that lacks its end, with one, and how many rows of its picture are really there.

    Where samples are missing, a decoder makes them up of whatever follows. So two ends are tried, and the rows above
    the first difference are the file's own.
    """
    file.seek(0)
    data = file.read()
    plain, filled = (np.asarray(decoded(data + end)) for end in (END, FILLER + END))
    same = (plain == filled).reshape(len(plain), -1).all(axis=1)
    return io.BytesIO(data + END), len(same) if same.all() else int(same.argmin())


def decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        picture.load()
        return picture
