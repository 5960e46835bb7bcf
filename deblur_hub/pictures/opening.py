"""Pictures opened safely: identified, their size checked, and only then decoded.

Pillow reads everything except 16-bit colour, which it would cut to 8 bits: that is `deep`'s.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..errors import PictureError, reason_of
from .deep import DeepHeader, decode_deep, read_deep_header
from .modes import KNOWN_MODES

RUNS_PROGRAMS = {"EPS", "WMF"}  # vector formats, drawn by an outside program: not for files from strangers


@dataclass(frozen=True)
class Opened:
    """A decoded picture as it is stored: not upright yet."""

    kind: str  # "file", "pil" or "array"
    name: str
    samples: Image.Image | np.ndarray  # an array is (H, W) or (H, W, C)
    channels: str = ""  # of an array: "L", "LA", "RGB", "RGBA" or "CMYK"
    header: Image.Image | None = None  # as Pillow read it, with the metadata; None of an array and where it cannot
    deep: DeepHeader | None = None  # of a file of 16-bit colour
    notes: tuple[str, ...] = ()  # sentences for the user on what of the file is not restored


@contextmanager
def opened(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray, *, max_megapixels: float
) -> Iterator[Opened]:
    """Opens what `read` takes; a file stays open meanwhile, as Pillow reads some metadata only when asked."""
    if isinstance(source, np.ndarray):
        yield from_array(source, max_megapixels)
    elif isinstance(source, Image.Image):
        name = Path(os.fsdecode(getattr(source, "filename", "") or "the picture")).name
        yield from_pillow(source, "pil", name, max_megapixels)
    else:
        with binary_file(source) as (file, name):
            header = read_deep_header(file, name)
            if header is not None:
                yield from_deep_file(file, header, name, max_megapixels)
            else:
                yield from_pillow(identify(file, name), "file", name, max_megapixels)


@contextmanager
def binary_file(source: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a seekable binary file, and its name for messages; PictureError if there is nothing to read."""
    name = "the picture"
    if isinstance(source, str | os.PathLike):
        path = Path(os.fsdecode(source))
        name = path.name
        try:
            file: BinaryIO = path.open("rb")
        except FileNotFoundError:
            raise PictureError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise PictureError(f"{path}: a folder, not a picture") from None
        except (OSError, ValueError) as error:
            raise PictureError(f"{path}: cannot be opened ({reason_of(error)})") from error
    elif isinstance(source, bytes | bytearray | memoryview):
        file = io.BytesIO(source)
    elif hasattr(source, "read"):
        called = getattr(source, "name", None)
        name = Path(called).name if isinstance(called, str) else name
        file = source if hasattr(source, "seekable") and source.seekable() else io.BytesIO(source.read())
    else:
        raise TypeError(f"a picture is a path, bytes, a binary file, a PIL image or an array, not {type(source)}")
    with nullcontext() if file is source else file:
        if file.seek(0, io.SEEK_END) == 0:
            raise PictureError(f"{name}: an empty file")
        file.seek(0)
        yield file, name


def identify(file: BinaryIO, name: str) -> Image.Image:
    """`Image.open` without its check of the size, which is stricter than our limit; no pixel is decoded.

    Raises:
        PictureError: if none of Pillow's readers accepts the file.
    """
    Image.init()
    file.seek(0)
    prefix = file.read(16)
    if prefix[4:8] == b"ftyp" and prefix[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        raise PictureError(f"{name}: HEIC is not read here; save it as JPEG or PNG first")
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
                reason = f" (its {format_name} header is damaged or cut short: {reason_of(error)})"
    reason = reason or " (none of the formats that Pillow knows)"
    raise PictureError(f"{name}: not a picture that can be read{reason}")


def check_size(size: tuple[int, int], name: str, *, max_megapixels: float) -> None:
    """Raises PictureError if a picture of `size` (width, height) is empty or larger than the limit."""
    width, height = size
    if min(size) < 1:
        raise PictureError(f"{name}: has no pixels ({width}x{height})")
    if width * height > max_megapixels * 1e6:
        raise PictureError(
            f"{name}: {width}x{height} are {width * height / 1e6:.0f} megapixels, more than the limit of "
            f"{max_megapixels:g} (max_megapixels raises it)"
        )


# --- decoding ----------------------------------------------------------------------------------------------------


def from_pillow(picture: Image.Image, kind: str, name: str, max_megapixels: float) -> Opened:
    check_size(picture.size, name, max_megapixels=max_megapixels)
    if picture.mode not in KNOWN_MODES:
        raise PictureError(f"{name}: mode {picture.mode} is not one that can be restored; convert it to RGB first")
    notes = (*frame_notes(picture), *depth_notes(picture))
    load(picture, name)
    return Opened(kind, name, picture, header=picture, notes=notes)


def from_deep_file(file: BinaryIO, header: DeepHeader, name: str, max_megapixels: float) -> Opened:
    check_size(header.size, name, max_megapixels=max_megapixels)
    picture: Image.Image | None = None
    with suppress(PictureError):  # 16-bit grey with alpha, which Pillow does not know
        picture = identify(file, name)  # for its metadata
    notes = frame_notes(picture) if picture else ()
    return Opened("file", name, decode_deep(file, header, name), header.channels, picture, header, notes)


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


def load(picture: Image.Image, name: str) -> None:
    """Decodes the pixels; PictureError if the file ends early or is damaged."""
    try:
        picture.load()
    except Exception as error:
        if not (isinstance(error, EOFError) or "truncated" in str(error).lower()):
            raise PictureError(f"{name}: cannot be decoded ({reason_of(error)}); nothing was written") from error
        # Rows not reached are still zero in the half-filled picture.
        half_filled = getattr(picture, "_im", None)
        filled = half_filled.getbbox() if half_filled is not None else None
        rows = filled[3] if filled else picture.height
        reached = f" after {100 * rows // picture.height}% of its rows" if rows < picture.height else ""
        raise PictureError(f"{name}: truncated{reached}; nothing was written") from error


def frame_notes(picture: Image.Image) -> tuple[str, ...]:
    """A sentence on further frames, if there are any; to be asked before the pixels are loaded."""
    frames = 1
    with suppress(Exception):  # a damaged second frame is no reason to refuse the first
        frames = getattr(picture, "n_frames", 1)
    return (f"{frames} frames; only the first is restored",) if frames > 1 else ()


def depth_notes(picture: Image.Image) -> tuple[str, ...]:
    """A sentence where Pillow gives 8 bits of a deeper colour file; to be asked before the pixels are loaded."""
    tiles = [str(tile[3]) for tile in getattr(picture, "tile", ())]
    is_deep = any(";16" in args or (picture.format == "PPM" and "65535" in args) for args in tiles)
    if not is_deep or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return ()
    return ("16 bits a channel, of which Pillow reads 8; PNG and TIFF files given by path keep all 16",)
