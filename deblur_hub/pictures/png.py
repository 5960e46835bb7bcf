"""PNG files chunk by chunk: what Pillow is shown of one, and what goes along with the picture as it is.

Pillow refuses a file for a text or a colour profile that is large, and for a wrong checksum in a chunk that no viewer
needs. So it is shown the chunks that make the picture, and the others are kept here byte for byte.
"""

import bisect
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import PictureError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")  # what the samples mean; before PLTE and IDAT
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
COMMON = (b"sBIT", b"bKGD", b"tIME")  # kept without a word where another format has no place for them
PICTURE = (b"tRNS", b"pHYs", b"acTL", b"fcTL", b"fdAT")  # what Pillow is shown beside the chunks that it needs
CREDENTIALS = b"caBX"  # C2PA's, which are signed
NO_END = "the end of the file is missing; all of the picture was there"
NO_CREDENTIALS = "its content credentials are signed for the picture as it was, and were left out"
# Bytes of what describes samples, by colour type; in a palette's file, bKGD would have to follow the palette.
FITTING = {b"sBIT": {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}, b"bKGD": {0: 2, 2: 6, 4: 2, 6: 6}}
XMP = b"XML:com.adobe.xmp\0"
MOST_RAW = 1 << 24  # bytes of the text below once it is inflated
RAW_PROFILE = b"Raw profile type "  # and its kind: the keyword of a text in which ImageMagick keeps a block
INDEXED = 3  # the colour type of a palette
MOST_PROFILE = 1 << 26  # bytes of a colour profile once it is inflated
MOST_CHUNKS = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """A chunk, and where its contents stand in the file."""

    name: bytes
    start: int
    length: int

    @property
    def is_needed(self) -> bool:
        """Whether the picture cannot be decoded without it: its name begins with a capital letter."""
        return self.name[:1].isupper()


@dataclass(frozen=True)
class PngFile:
    """What a PNG holds.

    Attributes:
        picture: the file as Pillow is to see it.
        size, depth, colour_type: of its header: (width, height), bits a sample, 0 (grey) to 6 (colour with alpha).
        has_key: whether a colour, or entries of the palette, are transparent.
        kept: chunks that go along with the picture as they are: texts, what colours mean, and others that are not
            known here but may be copied, as their names say; (name, contents).
        significant_bits: of `sBIT`, if it says the same of every channel; None otherwise.
        notes: sentences for the user.
    """

    picture: BinaryIO
    size: tuple[int, int]
    depth: int
    colour_type: int
    has_key: bool
    icc_profile: bytes | None
    xmp: bytes | None
    exif: bytes | None
    kept: tuple[tuple[bytes, bytes], ...]
    significant_bits: int | None
    notes: tuple[str, ...]


def read_png(file: BinaryIO, name: str) -> PngFile:
    """Sorts the chunks of a PNG.

    Raises:
        PictureError: if a chunk that the picture needs is damaged, or none of it is there.
    """
    chunks, whole = chunks_of(file, name)
    parts: list[bytes | Chunk] = [SIGNATURE]
    kept: list[tuple[bytes, bytes]] = []
    notes = [] if whole else [NO_END]
    icc = xmp = exif = raw_exif = bits = None
    has_key = False
    for chunk in chunks:
        if chunk.is_needed:
            whole_chunk = whole or chunk is not chunks[-1]
            parts.append(chunk if whole_chunk else packed(chunk.name, contents_of(file, chunk, checked=False) or b""))
            continue
        contents = contents_of(file, chunk)
        if contents is None:
            notes.append(f"its {chunk.name.decode('ascii')} chunk is damaged and was left out")
        elif chunk.name in PICTURE and (chunk.name, contents[8:]) != (b"pHYs", b"\0"):  # a shape, and no resolution
            parts.append(chunk)
            has_key = has_key or chunk.name == b"tRNS"
        elif chunk.name == CREDENTIALS:
            notes.append(NO_CREDENTIALS)
        elif chunk.name == b"iCCP":
            icc = inflated_profile(contents)
            if icc is None:
                notes.append("its colour profile is damaged and was left out")
        elif chunk.name == b"eXIf":
            exif = contents
        elif chunk.name == b"iTXt" and contents.startswith(XMP):
            xmp = xmp_of(contents)
        elif (block := raw_profile(chunk.name, contents, b"exif")) is not None:
            raw_exif = raw_exif or block
        elif (block := raw_profile(chunk.name, contents, b"xmp")) is not None:
            xmp = xmp or block
        elif chunk.name in COLOURS + TEXTS + COMMON or chunk.name[3:].islower():  # which means: may be copied
            kept.append((chunk.name, contents))
            if chunk.name == b"sBIT" and len(set(contents)) == 1:
                bits = contents[0]
    size, depth, colour_type = read_header(file, chunks, name)
    if not whole:
        parts.append(packed(b"IEND", b""))
    return PngFile(
        cast(BinaryIO, SplicedFile(file, parts)),
        size,
        depth,
        colour_type,
        has_key,
        icc,
        xmp,
        exif or raw_exif,
        tuple(kept),
        bits,
        tuple(dict.fromkeys(notes)),
    )


def read_header(file: BinaryIO, chunks: list[Chunk], name: str) -> tuple[tuple[int, int], int, int]:
    """Size, bits a sample and colour type.

    Raises:
        PictureError: if there are no header and samples, or the header asks for a palette that is not there.
    """
    if not chunks or chunks[0].name != b"IHDR" or chunks[0].length != 13:
        raise PictureError(f"{name}: damaged (no header); nothing was written")
    if not any(chunk.name == b"IDAT" for chunk in chunks):
        raise PictureError(f"{name}: truncated; nothing was written")
    file.seek(chunks[0].start)
    width, height, depth, colour_type = struct.unpack(">IIBB", file.read(10))
    if colour_type == INDEXED and not any(chunk.name == b"PLTE" and chunk.length for chunk in chunks):
        raise PictureError(f"{name}: damaged (no palette); nothing was written")
    return (width, height), depth, colour_type


def chunks_of(file: BinaryIO, name: str) -> tuple[list[Chunk], bool]:
    """The chunks up to IEND, and whether that is there.

    Raises:
        PictureError: if the file ends within a chunk that the picture needs, or there are absurdly many.
    """
    end = file.seek(0, io.SEEK_END)
    place = len(SIGNATURE)
    found: list[Chunk] = []
    while place + 8 <= end and len(found) < MOST_CHUNKS:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        chunk = Chunk(kind, place + 8, length)
        if not kind.isalpha():
            raise PictureError(f"{name}: damaged (a chunk without a name after {place} bytes); nothing was written")
        if chunk.start + length + 4 > end:
            if not chunk.is_needed or not length:
                return found, False
            if chunk.start + length > end:
                raise PictureError(f"{name}: truncated; nothing was written")
            return [*found, chunk], False  # which lacks its checksum alone
        found.append(chunk)
        if kind == b"IEND":
            return found, True
        place = chunk.start + length + 4
    return found, False


def contents_of(file: BinaryIO, chunk: Chunk, *, checked: bool = True) -> bytes | None:
    """The contents of a chunk; None if its checksum is wrong."""
    file.seek(chunk.start)
    contents, checksum = file.read(chunk.length), file.read(4)
    return contents if not checked or struct.pack(">I", zlib.crc32(chunk.name + contents)) == checksum else None


def inflated_profile(contents: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(contents.partition(b"\0")[2][1:], MOST_PROFILE) or None
    except zlib.error:
        return None


def xmp_of(contents: bytes) -> bytes | None:
    """The packet of an iTXt chunk: behind its keyword a flag, a method, and two texts that end in zeros."""
    compressed = contents[len(XMP) : len(XMP) + 1] == b"\1"
    packet = contents[len(XMP) + 2 :].split(b"\0", 2)[-1]
    try:
        return zlib.decompressobj().decompress(packet, MOST_PROFILE) if compressed else packet
    except zlib.error:
        return None


def raw_profile(name: bytes, contents: bytes, kind: bytes) -> bytes | None:
    """The block of EXIF or XMP in a text of ImageMagick's: a line with its kind, one with its length, then hexadecimal.

    Such a block may be called APP1, after the segment of a JPEG that it is from.
    """
    start = {b"exif": b"Exif\0\0", b"xmp": b"http://ns.adobe.com/xap/1.0/\0"}[kind]
    keyword, _, text = contents.partition(b"\0")
    named = keyword.removeprefix(RAW_PROFILE) if keyword.startswith(RAW_PROFILE) else b""
    if name not in (b"tEXt", b"zTXt") or named not in (kind, b"APP1"):
        return None
    try:
        text = zlib.decompressobj().decompress(text[1:], MOST_RAW) if name == b"zTXt" else text
        block = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return None
    return block.removeprefix(start) if named == kind or block.startswith(start) else None


def packed(name: bytes, contents: bytes) -> bytes:
    """A chunk as it stands in a file."""
    return struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))


def insert_chunks(path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """Puts chunks behind the header of a PNG file that was just written, before its palette and its samples.

    Those that would not fit its colour type any more are omitted.
    """
    if not chunks:
        return
    header = len(SIGNATURE) + 25  # IHDR has 13 bytes, and 12 around them
    data = path.read_bytes()
    colour_type = data[len(SIGNATURE) + 17]
    fitting = [
        packed(name, contents)
        for name, contents in chunks
        if name not in FITTING or FITTING[name].get(colour_type) == len(contents)
    ]
    path.write_bytes(b"".join([data[:header], *fitting, data[header:]]))


class SplicedFile(io.RawIOBase):
    """A file made of bytes and of chunks of another file, which are read where they stand."""

    def __init__(self, file: BinaryIO, parts: list[bytes | Chunk]) -> None:
        self.file, self.place = file, 0
        self.ends: list[int] = []
        self.spans: list[bytes | int] = []  # of each part: its bytes, or where it begins in the other file
        span: bytes | int
        end, follows = 0, -1  # the offset in the other file at which the last part ends there
        for part in parts:
            if isinstance(part, bytes):
                end, follows, span = end + len(part), -1, part
            else:
                begin = part.start - 8
                end, after = end + part.length + 12, part.start + part.length + 4
                if begin == follows:  # one run of chunks is one part
                    self.ends[-1], follows = end, after
                    continue
                follows, span = after, begin
            self.ends.append(end)
            self.spans.append(span)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.ends[-1]}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, size: int | None = -1) -> bytes:
        until = self.ends[-1] if size is None or size < 0 else min(self.place + size, self.ends[-1])
        pieces = []
        while self.place < until:
            number = bisect.bisect_right(self.ends, self.place)
            start = self.ends[number - 1] if number else 0
            first, last = self.place - start, min(until, self.ends[number]) - start
            span = self.spans[number]
            if isinstance(span, int):
                self.file.seek(span + first)
                pieces.append(self.file.read(last - first))
            else:
                pieces.append(span[first:last])
            self.place = start + last
        return b"".join(pieces)
