"""Pictures opened safely: identified, their size checked, and only then decoded.

Pillow reads everything except 16-bit colour, which it would cut to 8 bits: that is `deep`'s. What it refuses although
every viewer shows it, it is handed without the part that it stumbles over.
"""

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from ..errors import PictureError, reason_of
from . import heif, jxl, raw, xmp
from . import png as png_files
from .deep import DeepHeader, decode_deep, deep_heif, deep_jpeg2000, deep_png, deep_tiff
from .exif import ORIENTATION, ExifBlock, ExifError
from .jpeg import Compression, compression_of, ended, rows_of, segments_of
from .metadata import orientation_of
from .modes import KNOWN_MODES
from .png import NO_END, PngFile, read_png
from .suffixes import MISSED, picture_suffixes
from .tiff import (
    CHANNELS,
    COMPRESSION,
    HEIGHT,
    MOST_SAMPLE,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    WIDTH,
    CameraRaw,
    TiffPage,
    is_tiff,
    pages_of,
)
from .tiff import ORIENTATION as TURN

WHITE_IS_ZERO = 0  # the photometric interpretation of a negative
YCBCR, UNCOMPRESSED = 6, 1  # a photometric interpretation, and a compression
SIGNED = 2  # the sample format of whole numbers that may be negative
RUNS_PROGRAMS = {"EPS", "WMF"}  # vector formats, drawn by an outside program: not for files from strangers


@dataclass(frozen=True)
class Opened:
    """A decoded picture as it is stored: not upright yet.

    Attributes:
        kind: "file", "pil" or "array".
        samples: a Pillow picture, or an array (H, W) or (H, W, C).
        channels: of an array: "L", "LA", "RGB", "RGBA" or "CMYK".
        header: what Pillow read of the file; None of an array and where Pillow cannot read it.
        deep: the header of a file of 16-bit colour.
        png, page: of a PNG and of a TIFF, what stands beside the samples.
        pages: pictures in the file, of a TIFF.
        compression: of a JPEG.
        lossless: of a WebP.
        segments: of a JPEG: comments and Photoshop's blocks.
        notes: sentences for the user on what of the file is not restored.
    """

    kind: str
    name: str
    samples: Image.Image | np.ndarray
    channels: str = ""
    header: Image.Image | None = None
    deep: DeepHeader | None = None
    png: PngFile | None = None
    page: TiffPage | None = None
    pages: int = 1
    compression: Compression | None = None
    lossless: bool = False
    segments: bytes = b""
    notes: tuple[str, ...] = ()

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
        found: int | None = 1
        if self.deep is not None and self.deep.upright:
            return 1
        if self.png is not None:
            found = None
            with suppress(ExifError):
                exif = ExifBlock(self.png.exif or b"")
                found = exif.number(exif.first, ORIENTATION)
            found = xmp.orientation_of(self.png.xmp or b"") if found is None else found  # as Pillow does
        elif self.page is not None and self.deep is not None:  # Pillow turns a TIFF itself
            found = self.page.value(TURN, 1)
        elif self.header is not None:
            found = orientation_of(self.header)
        return found if found is not None and 1 <= found <= 8 else 1

    @property
    def most_sample(self) -> int | None:
        """The greatest sample that the file speaks of, where it says so."""
        if self.deep is not None and self.deep.format not in ("PNG", "TIFF"):
            return 65535  # whatever it stores
        if self.png is not None and self.png.significant_bits:
            return (1 << self.png.significant_bits) - 1
        return self.page.value(MOST_SAMPLE, 0) or None if self.page is not None else None


@contextmanager
def opened(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray,
    *,
    max_megapixels: float,
    page: int | None = None,
) -> Iterator[Opened]:
    """Opens what `read` takes; a file stays open meanwhile, as Pillow reads some metadata only when asked.

    Raises:
        PictureError: if there is no picture, or it is damaged, too large, or not in range.
    """
    if isinstance(source, np.ndarray):
        yield from_array(source, max_megapixels)
    elif isinstance(source, Image.Image):
        name = Path(os.fsdecode(getattr(source, "filename", "") or "the picture")).name
        yield from_pillow(source, "pil", name, max_megapixels)
    else:
        with binary_file(source) as (file, name):
            yield from_file(file, name, max_megapixels, page)


def upright_size(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[int, int]:
    """(width, height) of a picture as it is shown, from its header alone.

    Raises:
        PictureError: if there is no picture.
    """
    with binary_file(source) as (file, name):
        png, page, deep, header = read_header(file, name)
        if page is not None:
            return page.size
        found = Opened("file", name, np.empty(0), "", header, deep, png, page)
        width, height = deep.size if deep is not None else header.size if header is not None else (0, 0)
        return (height, width) if found.orientation in (5, 6, 7, 8) else (width, height)


@contextmanager
def binary_file(source: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a seekable binary file that is not empty, and its name for messages.

    Raises:
        PictureError: if there is nothing to read there.
    """
    name = "the picture"
    if isinstance(source, str | os.PathLike):
        path = Path(os.fsdecode(source))
        name = path.name
        file = open_regular(path)
    elif isinstance(source, bytes | bytearray | memoryview):
        file = io.BytesIO(source)
    elif hasattr(source, "read"):
        called = getattr(source, "name", None)
        name = Path(called).name if isinstance(called, str) else name
        seekable = hasattr(source, "seekable") and source.seekable()
        file = source if seekable else io.BytesIO(source.read())
    else:
        raise TypeError(f"a picture is a path, bytes, a binary file, a PIL image or an array, not {type(source)}")
    with nullcontext() if file is source else file:
        if file.seek(0, io.SEEK_END) == 0:
            raise PictureError(f"{name}: an empty file")
        file.seek(0)
        yield file, name


def open_regular(path: Path) -> BinaryIO:
    """Opens a file, and nothing that would make the reader wait for a writer.

    Raises:
        PictureError: if there is no file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise PictureError(f"{path}: not a file of its own (a pipe, a socket or a device); save it as a file first")
        return path.open("rb")
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: a folder, not a picture") from None
    except (OSError, ValueError) as error:
        raise PictureError(f"{path}: cannot be opened ({reason_of(error)})") from error


def identify(file: BinaryIO, name: str) -> Image.Image:
    """`Image.open` up to its check of the size, which is a global of Pillow's and stricter than our limit.

    Returns:
        The picture with its header read and no pixel decoded.

    Raises:
        PictureError: if none of Pillow's readers accepts the file.
    """
    Image.init()
    file.seek(0)
    prefix = file.read(16)
    reason = ""
    for format_name in Image.ID:
        factory, accept = Image.OPEN[format_name]
        try:
            accepted = accept is None or accept(prefix)
        except Exception:  # of a file that is shorter than the mark it looks for
            continue
        if format_name in RUNS_PROGRAMS or accepted is False or isinstance(accepted, str):
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except Exception as error:  # readers fail in their own ways on what is not theirs or is damaged
            if accept is not None and not reason:
                called = "HEIC" if format_name == "HEIF" else format_name
                reason = f" (its {called} header is damaged or not read here: {reason_of(error)})"
    if heif.is_heic(prefix):
        if heif.registers_heif():
            return identify(file, name)
        if "HEIF" not in Image.OPEN:
            raise heif.need(name)
    reason = reason or " (none of the formats that Pillow knows)"
    raise PictureError(f"{name}: not a picture that can be read{reason}")


def readable_suffixes() -> set[str]:
    """Of `MISSED`, those that something installed reads."""
    Image.init()
    return MISSED & (Image.registered_extensions().keys() | picture_suffixes())


def check_size(size: tuple[int, int], name: str, *, max_megapixels: float) -> None:
    """Raises PictureError if a picture of `size` (width, height) is empty or larger than the limit."""
    width, height = size
    if width < 1 or height < 1:
        raise PictureError(f"{name}: has no pixels ({width}x{height})")
    if width * height > max_megapixels * 1e6:
        raise PictureError(
            f"{name}: {width}x{height} are {width * height / 1e6:.0f} megapixels, more than the limit of "
            f"{max_megapixels:g} (max_megapixels raises it)"
        )


# --- decoding ----------------------------------------------------------------------------------------------------


def read_header(
    file: BinaryIO, name: str, number: int | None = None
) -> tuple[PngFile | None, TiffPage | None, DeepHeader | None, Image.Image | None]:
    """What stands beside the samples of a PNG or a TIFF (its page `number`), and what its header says."""
    file.seek(0)
    start = file.read(16)
    png, page, deep = None, None, None
    if raw.is_raw(start, Path(name).suffix):
        return None, None, DeepHeader("RAW", raw.size_of(file, name), "RGB", upright=True), None
    if jxl.is_jxl(start):
        return None, None, DeepHeader("JXL", jxl.size_of(file, name), "RGB", upright=True), None
    if start.startswith(png_files.SIGNATURE):
        png = read_png(file, name)
        file, deep = png.picture, deep_png(png)
    elif is_tiff(start):
        try:
            page = pages_of(file, name)[number or 0]
        except CameraRaw:
            return None, None, DeepHeader("RAW", raw.size_of(file, name), "RGB", upright=True), None
        deep = deep_tiff(file, page, name)
    header: Image.Image | None = None
    try:
        header = identify(file, name)
        if page is not None and page.number:
            seek(header, page.number, name)
        if page is not None and (page.value(PHOTOMETRIC, 1), page.value(COMPRESSION, 1)) == (YCBCR, UNCOMPRESSED):
            read_by_libtiff(header)
    except PictureError:
        if deep is None and page is not None:
            header, deep = None, deep_tiff(file, page, name, forced=True)
        if deep is None and page is not None and all(page.size):
            where = f" on page {page.number + 1}" if page.number else ""
            raise PictureError(
                f"{name}: a TIFF of {page.kind}{where}, not read here; save it as RGB of 8 or 16 bits first"
            ) from None
        if deep is None:
            raise
    if header is not None and header.format in ("HEIF", "AVIF"):
        deep = deep_heif(header, heif.depth_of(header, file, name))
    elif deep is None and header is not None:
        deep = deep_jpeg2000(header, bits_of(file, header.format))
    return png, page, deep, header


def from_file(file: BinaryIO, name: str, max_megapixels: float, number: int | None) -> Opened:
    """The picture of a file; of a TIFF, that of page `number`, or of the first with a note on the others."""
    png, page, deep, header = read_header(file, name, number)
    notes = png.notes if png else ()
    pages = page.pages if page else 1
    if number is None and pages > 1:
        notes += (f"{pages} pages; only the first is restored",)
    if page is not None and page.damaged:
        notes += (f"its TIFF tags {', '.join(map(str, page.damaged))} are damaged and were left out",)
    file = png.picture if png else file
    if deep is not None:
        check_size(deep.size, name, max_megapixels=max_megapixels)
        notes += frame_notes(header) if header is not None and page is None else ()
        samples, channels = decode_deep(file, deep, name)
        if deep.format == "RAW":
            header, page = raw.metadata_of(file, name)
            notes += (raw.NOTE,)
        elif deep.format == "JXL":
            header = jxl.metadata_of(file, name)
        return Opened("file", name, samples, channels, header, deep, png, page, pages, notes=notes)
    assert header is not None  # or there was an error
    made = from_pillow(header, "file", name, max_megapixels, file, is_page=page is not None)
    if page is not None:
        if page.value(PHOTOMETRIC, 1) == WHITE_IS_ZERO and header.mode.startswith("I;16"):
            made = replace(made, samples=Image.fromarray(65535 - np.asarray(header)))  # of fewer bits Pillow does it
        if page.value(SAMPLE_FORMAT, 1) == SIGNED and header.mode == "L":  # which Pillow reads as unsigned
            made = replace(made, samples=Image.fromarray(np.asarray(header).view(np.int8).astype(np.int32)))
        further = page.value(CHANNELS, 1) - len(header.getbands())
        notes += (f"{further} further channel{'s' * (further > 1)}; not restored",) if further > 0 else ()
    lossless = header.format == "WEBP" and is_lossless(file)
    return replace(made, png=png, page=page, pages=pages, lossless=lossless, notes=(*notes, *made.notes))


def from_pillow(
    picture: Image.Image,
    kind: str,
    name: str,
    max_megapixels: float,
    file: BinaryIO | None = None,
    *,
    is_page: bool = False,
) -> Opened:
    check_size(picture.size, name, max_megapixels=max_megapixels)
    if picture.mode not in KNOWN_MODES:
        raise PictureError(f"{name}: mode {picture.mode} is not one that can be restored; convert it to RGB first")
    notes = (*(() if is_page else frame_notes(picture)), *depth_notes(picture, file))
    compression, segments = compression_of(picture), segments_of(picture)
    samples, more = load(picture, name, file)
    return Opened(
        kind,
        name,
        samples,
        header=picture,
        compression=compression,
        segments=segments,
        notes=notes + more,
    )


def read_by_libtiff(picture: Image.Image) -> None:
    """Has an opened TIFF decoded as compressed ones are: of YCbCr, Pillow's own decoder takes 4 bytes a pixel for 3."""
    assert isinstance(picture, TiffImagePlugin.TiffImageFile)
    size = picture.tag_v2[WIDTH], picture.tag_v2[HEIGHT]
    picture.tile = [ImageFile._Tile("libtiff", (0, 0, *size), 0, ("RGBX", "raw", False, picture.tag_v2.offset))]
    picture.use_load_libtiff = True


def seek(picture: Image.Image, number: int, name: str) -> None:
    try:
        picture.seek(number)
    except Exception as error:
        raise PictureError(f"{name}: page {number + 1} cannot be read ({reason_of(error)})") from error


def from_array(samples: np.ndarray, max_megapixels: float) -> Opened:
    name, dtype, shape = "the array", samples.dtype, samples.shape
    if samples.size == 0:
        raise PictureError(f"{name}: has no pixels (shape {shape})")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise PictureError(f"{name}: of shape {shape}, but pictures are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    check_size((shape[1], shape[0]), name, max_megapixels=max_megapixels)
    if dtype.kind == "b":
        raise PictureError(f"{name}: bool is not restored; give it as uint8 of 0 and 255")
    if dtype.kind == "f" and dtype.itemsize <= 8:
        low, high = samples.min(), samples.max()
        if np.isnan(low) or np.isnan(high):
            raise PictureError(f"{name}: holds NaN; fill those pixels first")
        if low < 0 or high > 1:
            raise PictureError(f"{name}: floats from {low:g} to {high:g}, but they must be in [0, 1]; divide first")
    elif dtype.kind != "u" or dtype.itemsize > 2:
        raise PictureError(f"{name}: of {dtype}, but pictures are uint8, uint16 or floating point in [0, 1]")
    return Opened("array", name, samples, {1: "L", 3: "RGB", 4: "RGBA"}[shape[2] if len(shape) == 3 else 1])


def load(picture: Image.Image, name: str, file: BinaryIO | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Decodes the pixels: the picture, or what is as good, and a note if its file lacks its end.

    Raises:
        PictureError: if the file ends early or is damaged.
    """
    try:
        picture.load()
        return picture, ()
    except Exception as error:
        is_cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
        half_filled = getattr(picture, "_im", None)  # in which rows not reached are still zero
        rows = ((half_filled.getbbox() if half_filled else None) or (0, 0, 0, picture.height))[3]
        with suppress(Exception):
            whole: BinaryIO | None = None
            if file is not None and picture.format == "JPEG2000":  # whose decoder lets nothing else pass
                whole = ended(file)
            elif file is not None and picture.format == "JPEG" and is_cut:
                rows = rows_of(file)
                whole = ended(file) if rows == picture.height else None
            if whole is not None:
                again = identify(whole, name)
                again.load()
                return again, (NO_END,)
        if not is_cut:
            raise PictureError(f"{name}: cannot be decoded ({reason_of(error)}); nothing was written") from error
        is_known = rows < picture.height and picture.format != "GIF"  # whose rows may be interlaced
        reached = f" after {100 * rows // picture.height}% of its rows" if is_known else ""
        raise PictureError(f"{name}: truncated{reached}; nothing was written") from error


def is_lossless(file: BinaryIO) -> bool:
    """Whether the picture of a WebP file is a lossless one."""
    file.seek(0)
    place = 12
    while len(header := (file.seek(place), file.read(8))[1]) == 8:
        name, length = struct.unpack("<4sI", header)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        place += 8 + length + length % 2
    return False


def frame_notes(picture: Image.Image) -> tuple[str, ...]:
    """A sentence on further frames, if there are any; to be asked before the pixels are loaded."""
    if picture.format in ("HEIF", "AVIF"):
        return heif.further_notes(picture)
    frames = 1
    with suppress(Exception):  # a damaged second frame is no reason to refuse the first
        frames = getattr(picture, "n_frames", 1)
    if picture.format == "MPO" and frames > 1:
        return (f"{frames} pictures; only the main one is restored",)
    return (f"{frames} frames; only the first is restored",) if frames > 1 else ()


def depth_notes(picture: Image.Image, file: BinaryIO | None) -> tuple[str, ...]:
    """A sentence where Pillow gives 8 bits of a deeper colour file; to be asked before the pixels are loaded."""
    bits = bits_of(file, picture.format) if file is not None and picture.mode not in ("I;16", "I") else 8
    if bits > 8:
        return (f"{bits} bits a channel, of which Pillow reads 8; PNG and TIFF keep 16",)
    tiles = [str(tile[3]) for tile in getattr(picture, "tile", ())]
    is_deep = any(
        (";16" in args and "BGR;16" not in args) or (picture.format == "PPM" and "65535" in args) for args in tiles
    )
    if not is_deep or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return ()
    return ("16 bits a channel, of which Pillow reads 8; PNG and TIFF files given by path keep all 16",)


def bits_of(file: BinaryIO, format_name: str | None) -> int:
    """Bits a channel that the header of a JPEG 2000 speaks of; 8 where it does not."""
    file.seek(0)
    start = file.read(1 << 16)
    if format_name == "JPEG2000":  # the marker SIZ, in which the bits of the first channel follow their number
        place = start.find(b"\xff\x4f\xff\x51")
        return (start[place + 42] & 0x7F) + 1 if 0 <= place < len(start) - 42 else 8
    return 8
