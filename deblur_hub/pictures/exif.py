"""EXIF patched where it stands: only what is no longer true of the restored picture changes, byte for byte.

A camera's maker notes hold offsets into the whole block, and texts are in whatever encoding the camera had, so a block
that is parsed and written anew loses both. Here entries are changed in place, and nothing moves.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags

WIDTH, HEIGHT = int(ExifTags.Base.ImageWidth), int(ExifTags.Base.ImageLength)
ORIENTATION = int(ExifTags.Base.Orientation)
EXIF_DIRECTORY, GPS_DIRECTORY = int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo)
PIXEL_WIDTH, PIXEL_HEIGHT = int(ExifTags.Base.ExifImageWidth), int(ExifTags.Base.ExifImageHeight)
THUMBNAIL, THUMBNAIL_LENGTH = int(ExifTags.Base.JpegIFOffset), int(ExifTags.Base.JpegIFByteCount)

PREFIX = b"Exif\0\0"  # in a JPEG, before the block itself
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of a value, by type
SHORT, LONG, DIRECTORY = 3, 4, 13
ENTRY = 12  # bytes of an entry: tag, type, number of values, and the values or where they are


class ExifError(ValueError):
    """A block that is no EXIF, or is damaged."""


@dataclass(frozen=True)
class Entry:
    """One entry of a directory.

    Attributes:
        place: where it stands in the block.
        values: where its values stand: in the entry itself, if they take four bytes at most.
    """

    place: int
    tag: int
    kind: int
    count: int
    values: int

    @property
    def length(self) -> int:
        """The bytes of its values."""
        return SIZES.get(self.kind, 0) * self.count


class ExifBlock:
    """The bytes of a block, without `PREFIX`, and what can be asked and changed of them.

    Raises:
        ExifError: if it does not begin as EXIF does, or its first directory is damaged.
    """

    def __init__(self, block: bytes) -> None:
        self.data = bytearray(block.removeprefix(PREFIX))
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(self.data[:4]))
        if order is None:
            raise ExifError("no EXIF block")
        self.order = order
        self.first = self._unpack("I", 4)
        self.entries(self.first)

    def entries(self, directory: int) -> list[Entry]:
        """The entries of the directory that stands at `directory`."""
        found = []
        for number in range(self._unpack("H", directory)):
            place = directory + 2 + number * ENTRY
            tag, kind, count = self._unpack("HHI", place)
            values = place + 8
            if SIZES.get(kind, 0) * count > 4:
                values = self._unpack("I", values)
            found.append(Entry(place, tag, kind, count, values))
        return found

    def find(self, directory: int, tag: int) -> Entry | None:
        return next((entry for entry in self.entries(directory) if entry.tag == tag), None)

    def number(self, directory: int, tag: int) -> int | None:
        """The whole number that an entry holds; None if there is no such entry."""
        entry = self.find(directory, tag)
        if entry is None or entry.count != 1 or entry.kind not in (SHORT, LONG, DIRECTORY):
            return None
        return int(self._unpack("H" if entry.kind == SHORT else "I", entry.values))

    def set_number(self, directory: int, tag: int, value: int) -> None:
        """Changes the whole number of an entry, if there is one; a short entry becomes a long one where it must."""
        entry = self.find(directory, tag)
        if entry is None or entry.count != 1 or entry.kind not in (SHORT, LONG):
            return
        kind = SHORT if entry.kind == SHORT and value < 1 << 16 else LONG
        struct.pack_into(self.order + "H", self.data, entry.place + 2, kind)
        self.data[entry.place + 8 : entry.place + ENTRY] = bytes(4)
        struct.pack_into(self.order + ("H" if kind == SHORT else "I"), self.data, entry.place + 8, value)

    def make_upright(self, size: tuple[int, int]) -> None:
        """Says orientation 1 and `size` (width, height) wherever either is said, and drops the thumbnail."""
        self.set_number(self.first, ORIENTATION, 1)
        for directory, tags in self._sized():
            for tag, length in zip(tags, size, strict=True):
                self.set_number(directory, tag, length)
        self.drop_thumbnail()

    def drop_thumbnail(self) -> None:
        """Takes out the second directory, whose picture is that of before."""
        link = self._link(self.first)
        second = self._unpack("I", link)
        if not second:
            return
        struct.pack_into(self.order + "I", self.data, link, 0)
        try:
            start, length = self.number(second, THUMBNAIL), self.number(second, THUMBNAIL_LENGTH)
        except ExifError:
            return
        if start is None or length is None or self.data[start : start + 2] != b"\xff\xd8":
            return
        if start + length >= len(self.data):
            del self.data[start:]
        else:
            self.data[start : start + length] = bytes(length)

    def drop_position(self) -> bool:
        """Takes out where the picture was taken; says whether there was anything to take out."""
        entry = self.find(self.first, GPS_DIRECTORY)
        if entry is None:
            return False
        directory = self.number(self.first, GPS_DIRECTORY)
        if directory is not None:
            for value in self.entries(directory):
                if value.length > 4:
                    self._clear(value.values, value.length)
            self._clear(directory, 2 + ENTRY * self._unpack("H", directory))
        self._take_out(entry)
        return True

    def drop_upright(self) -> None:
        """Takes out an orientation that says upright."""
        entry = self.find(self.first, ORIENTATION)
        if entry is not None and self.number(self.first, ORIENTATION) == 1:
            self._take_out(entry)

    def _take_out(self, entry: Entry) -> None:
        """Moves the entries behind one of the first directory onto it."""
        end = self._link(self.first) + 4
        self.data[entry.place : end] = self.data[entry.place + ENTRY : end] + bytes(ENTRY)
        struct.pack_into(self.order + "H", self.data, self.first, self._unpack("H", self.first) - 1)

    def _sized(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Directories that say how large the picture is, and by which tags."""
        yield self.first, (WIDTH, HEIGHT)
        inner = self.number(self.first, EXIF_DIRECTORY)
        if inner is not None:
            yield inner, (PIXEL_WIDTH, PIXEL_HEIGHT)

    def _link(self, directory: int) -> int:
        """Where a directory names the next one."""
        return int(directory + 2 + ENTRY * self._unpack("H", directory))

    def _clear(self, start: int, length: int) -> None:
        length = min(length, max(0, len(self.data) - start))
        self.data[start : start + length] = bytes(length)

    def _unpack(self, layout: str, place: int):  # type: ignore[no-untyped-def]  # an int, or several
        try:
            values = struct.unpack_from(self.order + layout, self.data, place)
        except struct.error:
            raise ExifError("damaged EXIF block") from None
        return values[0] if len(layout) == 1 else values


def upright_exif(block: bytes, size: tuple[int, int]) -> bytes:
    """The block, made true of the upright picture of `size` (width, height); with `PREFIX` where it had one.

    Raises:
        ExifError: if it is no EXIF, or damaged.
    """
    exif = ExifBlock(block)
    exif.make_upright(size)
    return (PREFIX if block.startswith(PREFIX) else b"") + bytes(exif.data)


def for_pillows_avif(block: bytes) -> bytes:
    """The block without an orientation that says upright, for which Pillow would write all of it anew."""
    try:
        exif = ExifBlock(block)
        exif.drop_upright()
    except ExifError:
        return block
    return (PREFIX if block.startswith(PREFIX) else b"") + bytes(exif.data)


def without_position(block: bytes) -> bytes:
    """The block without its GPS directory.

    Raises:
        ExifError: if it is no EXIF, or damaged.
    """
    exif = ExifBlock(block)
    exif.drop_position()
    return (PREFIX if block.startswith(PREFIX) else b"") + bytes(exif.data)
