"""The boxes of HEIC and AVIF files (ISO/IEC 14496-12): what is said of the main picture before it is decoded."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

MOST_META = 1 << 24  # bytes of the box that describes all pictures


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, contents) of the boxes that stand one behind another; ends at a damaged one."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        start = 8
        if length == 1 and place + 16 <= len(data):
            (length,), start = struct.unpack_from(">Q", data, place + 8), 16
        end = len(data) if length == 0 else place + length
        if end < place + start or end > len(data):
            return
        yield kind, data[place + start : end]
        place = end


def properties(file: BinaryIO) -> dict[bytes, bytes]:
    """The properties of the main picture by type, the first of each; of `colr` by its kind as well: `colrnclx`.

    Those that cannot be told, in a damaged file as well, are not there.
    """
    try:
        meta = dict(boxes(described(file)[4:]))
        (number,) = struct.unpack(">H", meta[b"pitm"][4:6]) if meta[b"pitm"][0] == 0 else (0,)
        number = number or struct.unpack(">I", meta[b"pitm"][4:8])[0]
        parts = dict(boxes(meta[b"iprp"]))
        known = list(boxes(parts[b"ipco"]))
        found: dict[bytes, bytes] = {}
        for index in associated(parts[b"ipma"], number):
            kind, contents = known[index - 1]
            found.setdefault(kind + (contents[:4] if kind == b"colr" else b""), contents)
        return found
    except (KeyError, IndexError, struct.error):
        return {}


def described(file: BinaryIO) -> bytes:
    """The contents of the box `meta`, which describes all pictures; nothing if there is none."""
    end = file.seek(0, io.SEEK_END)
    place = 0
    while place + 8 <= end:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"meta":
            return file.read(min(length - 8, MOST_META)) if length >= 8 else b""
        if length < 8:
            break
        place += length
    return b""


def associated(table: bytes, number: int) -> Iterator[int]:
    """The properties of the picture `number`, counted from 1, of the table `ipma`."""
    wide_number, wide_index = table[0] > 0, bool(table[3] & 1)
    (count,), place = struct.unpack_from(">I", table, 4), 8
    for _ in range(count):
        (picture,) = struct.unpack_from(">I" if wide_number else ">H", table, place)
        place += 4 if wide_number else 2
        some, place = table[place], place + 1
        for _ in range(some):
            (index,) = struct.unpack_from(">H" if wide_index else ">B", table, place)
            place += 2 if wide_index else 1
            if picture == number:
                yield index & (0x7FFF if wide_index else 0x7F)
