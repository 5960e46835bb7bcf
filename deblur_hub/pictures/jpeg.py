"""What of a JPEG goes along with its picture as it is, how it was compressed, and files that end too early."""

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

END = b"\xff\xd9"
COMMENT, PHOTOSHOP = 0xFE, 0xED  # markers; the second is APP13, in which IPTC lies
FILLER = bytes(range(1, 255)) * 64  # none of its bytes begins a marker


@dataclass(frozen=True)
class Compression:
    """How a JPEG was compressed: Pillow's `qtables` and, of three components, its `subsampling`."""

    tables: dict[int, list[int]]
    subsampling: int | None

    def options(self) -> dict[str, Any]:
        """For Pillow's `save`."""
        return {"qtables": self.tables} | ({} if self.subsampling is None else {"subsampling": self.subsampling})


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
