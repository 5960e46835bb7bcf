"""The boxes of HEIC and AVIF files (ISO/IEC 14496-12): what is said of their pictures, and where each lies."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

MOST_META = 1 << 24  # bytes of the box that describes all pictures


@dataclass
class Item:
    """A picture, or metadata, of a file.

    Attributes:
        properties: (start, end) of the contents of each of its properties, by type; of `colr` by its kind as well.
        place: where its offset and its length stand, if they are 32 bits each and it lies in one piece.
    """

    properties: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    place: int | None = None


def boxes(data: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(type, start and end of the contents) of the boxes that stand one behind another; ends at a damaged one."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        inside = start + 8
        if length == 1 and start + 16 <= end:
            (length,), inside = struct.unpack_from(">Q", data, start + 8), start + 16
        following = end if length == 0 else start + length
        if following < inside or following > end:
            return
        yield kind, inside, following
        start = following


def items(data: bytes | bytearray) -> tuple[int, dict[int, Item]]:
    """The number of the main picture, and all by their numbers.

    Raises:
        KeyError, IndexError, struct.error: if the file is damaged, or of another kind.
    """
    meta = {kind: (start, end) for kind, start, end in boxes(data) if kind == b"meta"}[b"meta"]
    parts = {kind: (start, end) for kind, start, end in boxes(data, meta[0] + 4, meta[1])}
    start, _ = parts[b"pitm"]
    (main,) = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)
    found: dict[int, Item] = {}
    inside = {kind: (start, end) for kind, start, end in boxes(data, *parts[b"iprp"])}
    known = list(boxes(data, *inside[b"ipco"]))
    for number, index in associated(data, inside[b"ipma"][0]):
        kind, start, end = known[index - 1]
        named = kind + bytes(data[start : start + 4]) if kind == b"colr" else kind
        found.setdefault(number, Item()).properties.setdefault(named, (start, end))
    for number, place in places(data, parts[b"iloc"][0]):
        found.setdefault(number, Item()).place = place
    return main, found


def properties(file: BinaryIO) -> dict[bytes, bytes]:
    """The properties of the main picture by type; none of a damaged file, or of another kind."""
    data = described(file)
    try:
        main, found = items(data)
        return {kind: data[start:end] for kind, (start, end) in found[main].properties.items()}
    except (KeyError, IndexError, struct.error):
        return {}


def described(file: BinaryIO) -> bytes:
    """The box that describes all pictures; nothing if there is none."""
    end, place = file.seek(0, io.SEEK_END), 0
    while place + 8 <= end:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length < 8:
            break
        if kind == b"meta":
            file.seek(place)
            return file.read(min(length, MOST_META))
        place += length
    return b""


def associated(data: bytes | bytearray, place: int) -> Iterator[tuple[int, int]]:
    """(item, property counted from 1) of the table `ipma` at `place`."""
    number_layout, index_layout = ">I" if data[place] else ">H", ">H" if data[place + 3] & 1 else ">B"
    (count,) = struct.unpack_from(">I", data, place + 4)
    place += 8
    for _ in range(count):
        (number,) = struct.unpack_from(number_layout, data, place)
        place += struct.calcsize(number_layout)
        some, place = data[place], place + 1
        for _ in range(some):
            (index,) = struct.unpack_from(index_layout, data, place)
            place += struct.calcsize(index_layout)
            yield number, index & (0x7FFF if index_layout == ">H" else 0x7F)  # without the mark of what is needed


def places(data: bytes | bytearray, place: int) -> Iterator[tuple[int, int]]:
    """(item, where its 32-bit offset and length stand) of the table `iloc` at `place`."""
    if data[place] or data[place + 4 : place + 6] != b"\x44\0":  # of another layout than libavif writes
        return
    (count,) = struct.unpack_from(">H", data, place + 6)
    place += 8
    for _ in range(count):
        number, _, extents = struct.unpack_from(">3H", data, place)
        if extents == 1:
            yield number, place + 6
        place += 6 + 8 * extents
