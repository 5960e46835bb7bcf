"""TIFF directories: which one holds the photograph, how many pages there are, and the entries that go along with it.

Pillow and tifffile decode and encode the samples; which directory that is, and what their writers omit, is decided
here.
"""

import io
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags

from ..errors import PictureError
from .exif import DIRECTORY, PREFIX, SIZES, ExifError

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
ORIENTATION, CHANNELS, SUBDIRECTORIES = 274, 277, 330
EXTRA_SAMPLES, SAMPLE_FORMAT, MOST_SAMPLE = 338, 339, 281
OFFSETS, LENGTHS = (273, 324), (279, 325)  # of strips and of tiles
XMP, PHOTOSHOP, PROFILE = 700, 34377, 34675
EXIF, GPS, INTEROP = int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo), int(ExifTags.IFD.Interop)
RAW_VERSION, RAW_PHOTOMETRICS = 50706, (32803, 34892)  # DNGVersion; a colour filter's mosaic, and linear raw
REDUCED, MASK = 1, 4  # bits of NewSubfileType: a smaller version of another directory's picture; a mask for one
# What says how a file stored its samples, or holds another picture of them: the writer's business.
STRUCTURE = (
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289}
    | {297, 301, 317, 318, 319, 320, 322, 323, 324, 325, 326, 327, 328, 330, 332, 338, 339, 340, 341, 347}
    | {*range(512, 522), 529, 530, 531, 532, XMP, EXIF, GPS, PROFILE, 37724}
)
WANTED = {BITS, SUBDIRECTORIES, EXTRA_SAMPLES, SAMPLE_FORMAT, MOST_SAMPLE, XMP, PROFILE, *OFFSETS, *LENGTHS}
NOTES = int(ExifTags.Base.MakerNote)
# What EXIF defines of a first directory as well, but for the resolution: title, camera, time, author, rights, stars.
DESCRIBING = {270, 271, 272, 305, 306, 315, 316, 33432, 18246, 18249, *range(40091, 40096)}
MOST_ENTRIES, MOST_PAGES, MOST_BYTES = 4096, 10_000, 1 << 28  # of a whole file, so that none takes memory and hours
LONG8, IFD8 = (16, 17, 18), 18


class CameraRaw(PictureError):
    """A TIFF whose samples are a sensor's."""


@dataclass(frozen=True)
class TiffEntry:
    """An entry as it stands in a file: its values in the byte order `order`."""

    tag: int
    kind: int
    count: int
    values: bytes
    order: str = "<"

    def numbers(self) -> tuple[int, ...]:
        """Its values, if they are whole numbers."""
        layout = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(self.kind)
        return struct.unpack(f"{self.order}{self.count}{layout}", self.values) if layout else ()

    def ordered(self, order: str) -> bytes:
        """Its values in a byte order."""
        if self.order == order or self.kind in (1, 2, 6, 7):
            return self.values
        width = 4 if self.kind in (5, 10) else SIZES.get(self.kind, 8)  # a fraction is two numbers
        return b"".join(self.values[place : place + width][::-1] for place in range(0, len(self.values), width))


@dataclass(frozen=True)
class TiffPage:
    """A directory that holds a picture to be restored.

    Attributes:
        number: of the directory in the file's chain.
        pages: directories in the chain that hold pictures of their own.
        entries: those of the directory, by tag.
        inner: EXIF and GPS entries, by the tag of their directory.
        damaged: tags of entries whose values are not there.
    """

    number: int
    entries: dict[int, TiffEntry]
    inner: dict[int, tuple[TiffEntry, ...]]
    damaged: tuple[int, ...] = ()
    pages: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as it is shown."""
        sides = self.value(WIDTH, 0), self.value(HEIGHT, 0)
        return sides[::-1] if self.value(ORIENTATION, 1) in (5, 6, 7, 8) else sides

    @property
    def kind(self) -> str:
        """What its samples are, for a sentence."""
        bits = "/".join(map(str, dict.fromkeys(self.numbers(BITS) or (1,))))
        samples = {2: "signed ", 3: "floating-point ", 6: "complex "}.get(self.value(SAMPLE_FORMAT, 1), "")
        return (
            f"{self.value(CHANNELS, 1)} x {bits} {samples}bits (photometric interpretation "
            f"{self.value(PHOTOMETRIC, 0)}, compression {self.value(COMPRESSION, 1)})"
        )

    def value(self, tag: int, default: int) -> int:
        return (*self.numbers(tag), default)[0]

    def numbers(self, tag: int) -> tuple[int, ...]:
        entry = self.entries.get(tag)
        return entry.numbers() if entry is not None else ()

    def bytes_of(self, tag: int) -> bytes | None:
        entry = self.entries.get(tag)
        return entry.values if entry is not None else None

    def fraction(self, tag: int) -> float | None:
        """The value of an entry that is one fraction, if it is one."""
        entry = self.entries.get(tag)
        if entry is None or (entry.kind, entry.count) != (5, 1):
            return None
        above, below = struct.unpack(entry.order + "2I", entry.values)
        return above / below if below else None

    def kept(self) -> tuple[TiffEntry, ...]:
        """What goes along with the picture as it is: descriptions, and whatever nobody here knows."""
        return tuple(entry for tag, entry in self.entries.items() if tag not in STRUCTURE)


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a TIFF or a BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def raw_page(file: BinaryIO, profile: bytes) -> TiffPage | None:
    """Of camera raw, what its first directory says that is true of the developed picture, with its `profile`.

    Neither a maker's notes, whose offsets are those of the raw file, nor what describes the sensor's samples.
    """
    try:
        directories = _Directories(file)
        page, _ = directories.page(0, directories.first)
    except (struct.error, ValueError, OverflowError, MemoryError):
        return None
    entries = {tag: entry for tag, entry in page.entries.items() if tag in DESCRIBING or tag == XMP}
    entries[PROFILE] = TiffEntry(PROFILE, 7, len(profile), profile)
    inner = {tag: tuple(entry for entry in found if entry.tag != NOTES) for tag, found in page.inner.items()}
    return TiffPage(0, entries, inner)


def pages_of(file: BinaryIO, name: str) -> list[TiffPage]:
    """The directories of a file that hold pictures of their own: neither reduced versions of others, nor masks.

    Raises:
        CameraRaw: if it is that.
        PictureError: if its directories cannot be read.
    """
    try:
        directories = _Directories(file)
        pages = directories.chain()
    except (struct.error, ValueError, OverflowError, MemoryError):
        raise PictureError(f"{name}: damaged (its directories cannot be read); nothing was written") from None
    if not pages:
        raise PictureError(f"{name}: a TIFF without a picture")
    if any(RAW_VERSION in page.entries or page.value(PHOTOMETRIC, 0) in RAW_PHOTOMETRICS for page in pages):
        raise CameraRaw(f"{name}: camera raw")
    own = [page for page in pages if not page.value(SUBFILE, 0) & (REDUCED | MASK)]
    if not own and any(page.numbers(SUBDIRECTORIES) for page in pages):
        raise PictureError(f"{name}: holds small versions of a picture that is not read here, such as camera raw's")
    return [replace(page, pages=len(own)) for page in own] or pages[:1]


class _Directories:
    """Reads directories where they stand, of TIFF and BigTIFF."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.left = MOST_BYTES
        self.end = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(16)
        self.order = "<" if start.startswith(b"II") else ">"
        self.big = start[2:4].strip(b"\0") == b"+"
        (self.first,) = struct.unpack(self.order + ("Q" if self.big else "I"), start[8:16] if self.big else start[4:8])

    def chain(self) -> list[TiffPage]:
        place, seen = self.first, set[int]()
        pages: list[TiffPage] = []
        while place and place not in seen and len(pages) < MOST_PAGES:
            seen.add(place)
            page, place = self.page(len(pages), place)
            pages.append(page)
        return pages

    def page(self, number: int, place: int) -> tuple[TiffPage, int]:
        """The directory at `place` with those inside it, and where the next one is; 0 if there is none."""
        entries, damaged, following = self.read(place)
        inner = {}
        for tag in (EXIF, GPS):
            if tag in entries and entries[tag].numbers():
                try:
                    found, broken, _ = self.read(entries[tag].numbers()[0])
                except (struct.error, ValueError):
                    damaged.append(tag)
                    continue
                inner[tag] = tuple(entry for entry in found.values() if entry.tag != INTEROP)
                damaged += broken
        return TiffPage(number, entries, inner, tuple(damaged)), following

    def read(self, place: int) -> tuple[dict[int, TiffEntry], list[int], int]:
        """The entries of a directory, the tags of those that are damaged, and where the next directory is."""
        wide = "Q" if self.big else "I"
        count_size, width = (8, 20) if self.big else (2, 12)
        (count,) = struct.unpack(self.order + ("Q" if self.big else "H"), self.at(place, count_size))
        if count > MOST_ENTRIES:
            raise ValueError("too many entries")
        body = self.at(place + count_size, count * width)
        entries, damaged = {}, []
        for start in range(0, len(body), width):
            tag, kind, number = struct.unpack_from(self.order + "HH" + wide, body, start)
            size = (8 if kind in LONG8 else SIZES.get(kind, 0)) * number
            inline = body[start + width - (8 if self.big else 4) : start + width]
            if size <= len(inline):
                values = inline[:size]
            elif tag in STRUCTURE - WANTED:
                continue
            else:
                (offset,) = struct.unpack(self.order + wide, inline)
                if offset + size > self.end:
                    damaged.append(tag)
                    continue
                self.left -= size
                if self.left < 0:
                    raise ValueError("too much beside the picture")
                values = self.at(offset, size)
            if number and not size:  # of a type that there is not
                damaged.append(tag)
                continue
            entries[tag] = TiffEntry(tag, kind, number, values, self.order)
        end = self.at(place + count_size + len(body), 8 if self.big else 4, short=True)
        following = struct.unpack(self.order + wide, end)[0] if len(end) == (8 if self.big else 4) else 0
        return entries, damaged, following

    def at(self, place: int, length: int, *, short: bool = False) -> bytes:
        if place > self.end:
            raise ValueError("outside of the file")
        self.file.seek(place)
        found = self.file.read(length)
        if len(found) < length and not short:
            raise ValueError("cut short")
        return found


def entries_of_exif(block: bytes) -> tuple[tuple[TiffEntry, ...], dict[int, tuple[TiffEntry, ...]]]:
    """What of an EXIF block goes into a TIFF: its first directory but for what the writer knows, and EXIF and GPS.

    Raises:
        ExifError: if it is no EXIF, or damaged.
    """
    try:
        directories = _Directories(io.BytesIO(block.removeprefix(PREFIX)))
        page, _ = directories.page(0, directories.first)
    except (struct.error, ValueError):
        raise ExifError("damaged EXIF block") from None
    return page.kept(), page.inner


def exif_of_entries(entries: tuple[TiffEntry, ...], inner: dict[int, tuple[TiffEntry, ...]]) -> bytes:
    """An EXIF block, without its prefix, of a TIFF's entries."""
    file = io.BytesIO(b"II*\0" + bytes(4))
    made = [
        struct.pack("<HHII", tag, 4, 1, _write_directory(file, "<", inside)) for tag, inside in inner.items() if inside
    ]
    place = _write_entries(file, "<", made + [_written(file, "<", entry) for entry in entries])
    return file.getvalue()[:4] + struct.pack("<I", place) + file.getvalue()[8:]


def append_entries(
    path: Path,
    entries: tuple[TiffEntry, ...],
    inner: dict[int, tuple[TiffEntry, ...]],
    *,
    instead_of: tuple[int, ...] = (),
) -> None:
    """Puts entries into the last directory of a TIFF that was just written, with directories for EXIF and GPS.

    Args:
        instead_of: tags of the writer's own that go, beside those that `entries` have.
    """
    with path.open("r+b") as file:
        order = "<" if file.read(2) == b"II" else ">"
        link, place = 4, _number(file, order, 4)
        while following := _number(file, order, place + 2 + 12 * _number(file, order, place, "H")):
            link, place = place + 2 + 12 * _number(file, order, place, "H"), following
        count = _number(file, order, place, "H")
        file.seek(place + 2)
        made = [file.read(12) for _ in range(count)]
        gone = {*instead_of, *inner, *(entry.tag for entry in entries)}
        made = [entry for entry in made if struct.unpack(order + "H", entry[:2])[0] not in gone]
        for tag, inside in inner.items():
            if inside:
                made.append(struct.pack(order + "HHII", tag, 4, 1, _write_directory(file, order, inside)))
        made += [_written(file, order, entry) for entry in entries]
        place = _write_entries(file, order, made)
        file.seek(link)
        file.write(struct.pack(order + "I", place))


def _number(file: BinaryIO, order: str, place: int, layout: str = "I") -> int:
    file.seek(place)
    return int(struct.unpack(order + layout, file.read(struct.calcsize(layout)))[0])


def _write_directory(file: BinaryIO, order: str, entries: tuple[TiffEntry, ...]) -> int:
    return _write_entries(file, order, [_written(file, order, entry) for entry in entries])


def _write_entries(file: BinaryIO, order: str, entries: list[bytes]) -> int:
    entries = sorted(entries, key=lambda entry: struct.unpack(order + "H", entry[:2]))
    return _at_end(file, struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4))


def _written(file: BinaryIO, order: str, entry: TiffEntry) -> bytes:
    """The twelve bytes of an entry, whose values are appended if they do not fit into it."""
    kind, count, values = entry.kind, entry.count, entry.ordered(order)
    if kind in LONG8:  # of a BigTIFF; only counts and offsets have them
        kind, values = 4, b"".join(struct.pack(order + "I", number & 0xFFFFFFFF) for number in entry.numbers())
    if kind == DIRECTORY:
        kind = 4
    place = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack(order + "I", _at_end(file, values))
    return struct.pack(order + "HHI", entry.tag, kind, count) + place


def _at_end(file: BinaryIO, contents: bytes) -> int:
    """Where the contents begin, behind all that was there: at an even place, as TIFF requires."""
    place = file.seek(0, io.SEEK_END)
    if place % 2:
        file.write(b"\0")
        place += 1
    file.write(contents)
    return place
