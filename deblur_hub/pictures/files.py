"""Picture files: opened warily, described, and written whole or not at all.

Knows formats, headers and metadata; what the samples mean to a network is `images`' concern. Pillow reads and writes
everything except 16-bit colour, which it would cut to 8 bits: that goes through tifffile and imagecodecs.
"""

import io
import math
import os
import re
import struct
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deblur_hub.errors import PictureError

# The modes that each format gives back as they were written. Pillow would flatten or clip some others without a word.
HOLDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "I", "I;16", "I;16B", "F"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "TGA": ("L", "LA", "RGB", "RGBA"),
}
# Where a format lacks a mode, these hold the same picture.
WIDER = {
    "1": ("L", "RGB"),
    "L": ("RGB",),
    "LA": ("RGBA",),
    "La": ("LA", "RGBA"),
    "P": ("RGB",),
    "PA": ("RGBA",),
    "RGBa": ("RGBA",),
    "RGBX": ("RGB",),
    "YCbCr": ("RGB",),
    "LAB": ("RGB",),
    "HSV": ("RGB",),
    "I;16B": ("I;16",),
    "I;16L": ("I;16",),
    "I;16N": ("I;16",),
}
LOST = {"C": "its four inks (CMYK)", "F": "its floating-point values", "I": "its 32 bits", "I;": "its 16 bits"}

RUNS_PROGRAMS = {"EPS", "WMF"}  # vector formats, drawn by an outside program: not for files from strangers
# What of a TIFF's first directory describes the picture rather than how that file stored it.
DESCRIPTIVE_TAGS = {270, 271, 272, 305, 306, 315, 316, 33432, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003  # in the EXIF directory
DEPTH_TAG, PHOTOMETRIC_TAG, CHANNELS_TAG, FORMAT_TAG, XMP_TAG = 258, 262, 277, 339, 700


@dataclass(frozen=True)
class Metadata:
    """What goes with a picture: `exif` already speaks of the upright picture of `size`, and holds no thumbnail."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def info(self) -> dict[str, Any]:
        """As Pillow keeps it in `Image.info`."""
        fields = {"icc_profile": self.icc_profile, "exif": self.exif, "xmp": self.xmp, "dpi": self.dpi}
        return {key: value for key, value in fields.items() if value}


@dataclass(frozen=True)
class DeepHeader:
    """What the header of a file with 16 bits in each of several channels says."""

    format: str
    size: tuple[int, int]
    channels: str  # "LA", "RGB", "RGBA" or "CMYK"
    orientation: int = 1
    icc_profile: bytes | None = None


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


@contextmanager
def opened(source: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a seekable binary file that is not empty, and its name for messages.

    Raises:
        PictureError: if there is nothing to read there.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(os.fsdecode(source))
        try:
            file: BinaryIO = path.open("rb")
        except FileNotFoundError:
            raise PictureError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise PictureError(f"{path}: a folder, not a picture") from None
        except (OSError, ValueError) as error:
            raise PictureError(f"{path}: cannot be opened ({_reason(error)})") from error
        name, ours = path.name, True
    else:
        if isinstance(source, bytes | bytearray | memoryview):
            file, name, ours = io.BytesIO(source), "the picture", True
        elif hasattr(source, "read"):
            called = getattr(source, "name", None)
            name = Path(called).name if isinstance(called, str) else "the picture"
            file, ours = source, False
        else:
            raise TypeError(f"a picture is a path, bytes, a binary file, a PIL image or an array, not {type(source)}")
        if not ours and not (hasattr(file, "seekable") and file.seekable()):
            file = io.BytesIO(file.read())
    try:
        if file.seek(0, io.SEEK_END) == 0:
            raise PictureError(f"{name}: an empty file")
        file.seek(0)
        yield file, name
    finally:
        if ours:
            file.close()


def identify(file: BinaryIO, name: str) -> Image.Image:
    """`Image.open` up to its check of the size, which is a global of Pillow's and stricter than our limit.

    Returns:
        The picture with its header read and no pixel decoded.

    Raises:
        PictureError: if no reader of Pillow's takes the file.
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
                reason = f" (its {format_name} header is damaged or cut short: {_reason(error)})"
    reason = reason or " (none of the formats that Pillow knows)"
    raise PictureError(f"{name}: not a picture that can be read{reason}")


def load(picture: Image.Image, name: str) -> None:
    """Decodes the pixels.

    Raises:
        PictureError: if the file ends early or is damaged.
    """
    try:
        picture.load()
    except Exception as error:
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            # Rows not reached are still zero in the half-filled picture.
            half_filled = getattr(picture, "_im", None)
            filled = half_filled.getbbox() if half_filled is not None else None
            if filled and filled[3] < picture.height:
                share = 100 * filled[3] // picture.height
                raise PictureError(f"{name}: truncated after {share}% of its rows; nothing was written") from error
            raise PictureError(f"{name}: truncated; nothing was written") from error
        raise PictureError(f"{name}: cannot be decoded ({_reason(error)}); nothing was written") from error


def frame_note(picture: Image.Image) -> str | None:
    """What to tell of further frames, or None; to be asked before the pixels are loaded."""
    frames = 1
    with suppress(Exception):  # a damaged second frame is no reason to refuse the first
        frames = getattr(picture, "n_frames", 1)
    return f"{frames} frames; only the first is restored" if frames > 1 else None


def depth_note(picture: Image.Image) -> str | None:
    """What to tell where Pillow gives 8 bits of a deeper colour file; to be asked before the pixels are loaded."""
    tiles = [str(tile[3]) for tile in getattr(picture, "tile", ())]
    deep = any(";16" in args for args in tiles) or (picture.format == "PPM" and any("65535" in args for args in tiles))
    if deep and picture.mode in ("RGB", "RGBA", "CMYK"):
        return "16 bits a channel, of which Pillow reads 8; PNG and TIFF files given by path keep all 16"
    return None


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    with suppress(Exception):
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in range(1, 9) else 1
    return 1


def metadata(picture: Image.Image, size: tuple[int, int]) -> Metadata:
    """The picture's metadata, rewritten for its upright pixels of `size` (width, height)."""
    info = picture.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if isinstance(xmp, bytes):
        xmp = re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>1", xmp)
    dpi: Any = info.get("dpi")
    with suppress(Exception):
        dpi = (float(dpi[0]), float(dpi[1]))
    exif = None
    with suppress(Exception):  # EXIF that cannot be parsed cannot be put right, and must not go out wrong
        exif = _upright_exif(picture.getexif(), size, tiff=picture.format == "TIFF")
    return Metadata(
        icc_profile=info.get("icc_profile") or None,
        exif=exif,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=dpi if isinstance(dpi, tuple) and all(math.isfinite(x) and x > 0 for x in dpi) else None,
    )


def _upright_exif(exif: Image.Exif, size: tuple[int, int], *, tiff: bool) -> bytes | None:
    """EXIF with orientation 1 and the right size; the thumbnail, which shows the old picture, stays behind."""
    fresh = Image.Exif()
    fresh.endian = exif.endian
    for tag, value in exif.items():
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            directory = dict(exif.get_ifd(tag))
            if isinstance(directory.get(ExifTags.IFD.Interop), int):
                directory[ExifTags.IFD.Interop] = dict(exif.get_ifd(ExifTags.IFD.Interop))
            for size_tag, length in zip((PIXEL_WIDTH, PIXEL_HEIGHT), size, strict=True):
                if size_tag in directory:
                    directory[size_tag] = length
            fresh[tag] = directory
        elif tag == ExifTags.Base.Orientation:
            fresh[tag] = 1
        elif not tiff or tag in DESCRIPTIVE_TAGS:
            fresh[tag] = value
    return fresh.tobytes() if len(fresh) else None


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


# --- 16 bits in several channels ---------------------------------------------------------------------------------


def deep_header(file: BinaryIO, name: str) -> DeepHeader | None:
    """Reads from a PNG's or TIFF's header whether it holds 16-bit colour; None for every other file."""
    file.seek(0)
    start = file.read(33)
    if start.startswith(b"\x89PNG\r\n\x1a\n") and start[12:16] == b"IHDR" and len(start) >= 26:
        width, height, depth, kind = struct.unpack(">IIBB", start[16:26])
        channels = {2: "RGB", 4: "LA", 6: "RGBA"}.get(kind)
        return DeepHeader("PNG", (width, height), channels) if depth == 16 and channels else None
    if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(start[: 16 if start[2:4].strip(b"\0") == b"+" else 8])
        file.seek(tags.next)
        tags.load(file)
        bits, count = tags.get(DEPTH_TAG, (1,)), tags.get(CHANNELS_TAG, 1)
        plain = bits[0] == 16 and count > 1 and tags.get(FORMAT_TAG, (1,))[0] == 1
        if not plain:
            return None
        channels = {(1, 2): "LA", (2, 3): "RGB", (2, 4): "RGBA", (5, 4): "CMYK"}.get((tags[PHOTOMETRIC_TAG], count))
        size, turned = (tags[256], tags[257]), tags.get(274, 1)
        icc = tags.get(34675)
        offsets: Any = tags.get(273) or tags.get(324)
        lengths: Any = tags.get(279) or tags.get(325)
        end = max(a + b for a, b in zip(offsets, lengths, strict=True))
    except Exception:  # a damaged directory: Pillow's own reader words the complaint
        return None
    if channels is None:
        raise PictureError(f"{name}: 16-bit TIFF with {count} channels of a kind not read here; save it as RGB first")
    if end > file.seek(0, io.SEEK_END):
        raise PictureError(f"{name}: truncated; nothing was written")
    return DeepHeader("TIFF", size, channels, turned if turned in range(1, 9) else 1, icc)


def read_deep(file: BinaryIO, header: DeepHeader, name: str) -> np.ndarray:
    """(H, W, C) uint16, as stored (not yet upright)."""
    imagecodecs, tifffile = _deep_codecs(name)
    file.seek(0)
    try:
        if header.format == "PNG":
            samples = imagecodecs.png_decode(file.read())
        else:
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[0]
                samples = page.asarray()
                if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                    samples = np.moveaxis(samples, 0, -1)
    except Exception as error:
        raise PictureError(f"{name}: cannot be decoded ({_reason(error)}); nothing was written") from error
    width, height = header.size
    if samples.shape != (height, width, len(header.channels)) or samples.dtype.itemsize != 2:
        raise PictureError(f"{name}: its samples are not what its header says; nothing was written")
    return np.asarray(samples, np.uint16)


def save_deep(samples: np.ndarray, channels: str, facts: Metadata, target: Path, *, name: str) -> Path:
    """Writes (H, W, C) uint16, float16 or float32 as PNG (uint16 without CMYK) or TIFF.

    Raises:
        PictureError: if the format cannot hold it, or it cannot be written.
    """
    format_name = _format_of(target)
    whole = samples.dtype.kind == "u"
    if format_name != "TIFF" and not (format_name == "PNG" and whole and channels != "CMYK"):
        lost = LOST["C"] if channels == "CMYK" else "its 16 bits a channel" if whole else LOST["F"]
        raise PictureError(f"{name}: {target.suffix} would lose {lost}; write {'.png or .tif' if whole else '.tif'}")
    imagecodecs, tifffile = _deep_codecs(name)
    with _aside(target) as part:
        if format_name == "PNG":
            data = imagecodecs.png_encode(np.ascontiguousarray(samples))
            part.write_bytes(data[:33] + _png_chunks(facts) + data[33:])
        else:
            _write_deep_tiff(tifffile, samples, channels, facts, part)
    return target


def _write_deep_tiff(tifffile: ModuleType, samples: np.ndarray, channels: str, facts: Metadata, part: Path) -> None:
    flat, directories = _tiff_parts(facts)
    description, software, date = (flat.pop(tag, None) for tag in (270, 305, 306))
    extra = [
        (tag, 1, len(value), value, True) if isinstance(value, bytes) else (tag, 2, 0, value, True)
        for tag, value in flat.items()
    ]
    tifffile.imwrite(
        part,
        samples,
        byteorder="<",
        photometric={"L": "minisblack", "LA": "minisblack", "CMYK": "separated"}.get(channels, "rgb"),
        planarconfig="contig",
        extrasamples=["unassalpha"] if channels.endswith("A") else None,
        compression="zlib",
        predictor=samples.dtype.kind == "u",
        rowsperstrip=64,
        metadata=None,
        description=description,
        software=software or False,
        datetime=date,
        resolution=facts.dpi,
        resolutionunit="INCH" if facts.dpi else None,
        iccprofile=facts.icc_profile,
        extratags=extra,
    )
    if directories:
        _append_directories(part, directories)


def _tiff_parts(facts: Metadata) -> tuple[dict[int, str | bytes], dict[int, dict[int, Any]]]:
    """What of EXIF and XMP goes into a TIFF's main directory, and the EXIF and GPS directories beside it."""
    exif = Image.Exif()
    if facts.exif:
        exif.load(facts.exif)
    directories = {int(tag): exif.get_ifd(tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if tag in exif}
    flat = {tag: value for tag, value in exif.items() if tag in DESCRIPTIVE_TAGS and isinstance(value, str)}
    return flat | ({XMP_TAG: facts.xmp} if facts.xmp else {}), directories


def _append_directories(part: Path, directories: dict[int, dict[int, Any]]) -> None:
    """Adds to a TIFF what its writers leave out: EXIF and GPS directories, and a main one that names them."""
    with part.open("r+b") as file:
        start = file.read(8)
        order = "<" if start.startswith(b"II") else ">"
        file.seek(struct.unpack(order + "I", start[4:])[0])
        count = struct.unpack(order + "H", file.read(2))[0]
        entries = [file.read(12) for _ in range(count)]
        for tag, values in directories.items():
            directory = TiffImagePlugin.ImageFileDirectory_v2(start)
            for key, value in values.items():
                if not isinstance(value, dict):
                    directory[key] = value
            offset = _even_end(file)
            file.write(directory.tobytes(offset))
            entries.append(struct.pack(order + "HHII", tag, 4, 1, offset))
        offset = _even_end(file)
        file.write(struct.pack(order + "H", len(entries)))
        entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
        file.write(b"".join(entries) + b"\0" * 4)
        file.seek(4)
        file.write(struct.pack(order + "I", offset))


def _even_end(file: BinaryIO) -> int:
    """The position of the file's end, made even as TIFF wants it."""
    file.write(b"\0" * (file.seek(0, io.SEEK_END) % 2))
    return file.tell()


def _png_chunks(facts: Metadata) -> bytes:
    """The metadata as the chunks that follow IHDR."""
    chunks = []
    if facts.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(facts.icc_profile)))
    if facts.dpi:
        per_metre = [int(x / 0.0254 + 0.5) for x in facts.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if facts.exif:
        chunks.append((b"eXIf", facts.exif.removeprefix(b"Exif\0\0")))
    if facts.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + facts.xmp))
    return b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _deep_codecs(name: str) -> tuple[ModuleType, ModuleType]:
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        raise PictureError(f"{name}: 16-bit colour needs two more packages: pip install 'deblur-hub[deep]'") from None
    return imagecodecs, tifffile


# --- writing -----------------------------------------------------------------------------------------------------


def save(picture: Image.Image, facts: Metadata, target: Path, *, name: str, quality: int, progressive: bool) -> Path:
    """Writes a Pillow picture in the format of the target's suffix.

    Raises:
        PictureError: if the format is not known, would lose part of the picture, or the file cannot be written.
    """
    format_name = _format_of(target)
    picture = _held(picture, format_name, target, name)
    options = {key: value for key, value in facts.info().items() if key != "xmp"}
    if facts.icc_profile and not _fits(facts.icc_profile, picture.mode):
        options["icc_profile"] = None  # or Pillow takes it from `info`
    if facts.xmp and format_name in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = facts.xmp
    directories: dict[int, dict[int, Any]] = {}
    match format_name:
        case "JPEG":
            options |= {"quality": quality, "subsampling": "4:4:4", "progressive": progressive}
        case "WEBP":
            options |= {"quality": quality, "exact": True}
        case "AVIF":
            options |= {"quality": quality, "subsampling": "4:4:4"}
        case "PNG" if facts.xmp:
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", facts.xmp.decode("utf-8", "replace"))
        case "TIFF":
            if picture.mode != "I;16B":  # which only Pillow's own, uncompressed writer keeps in that byte order
                options["compression"] = "tiff_adobe_deflate"
            # libtiff knows neither EXIF's directories, which are appended below, nor every tag of a camera's.
            flat, directories = _tiff_parts(facts)
            options["exif"] = Image.Exif()
            options["exif"].update(flat)
    with _aside(target) as part:
        picture.save(part, format_name, **options)
        if directories:
            _append_directories(part, directories)
    return target


def _held(picture: Image.Image, format_name: str, target: Path, name: str) -> Image.Image:
    """The picture in a mode that the format holds, without losing anything of it."""
    holds, mode = HOLDS[format_name], picture.mode
    see_through, key = picture.has_transparency_data, picture.info.get("transparency")
    wanted = [mode, *WIDER.get(mode, ())]
    if mode == "I" and format_name != "TIFF":
        low, high = extrema(picture)
        wanted = ["I;16"] if low >= 0 and high < 65536 else []
    elif see_through and mode in ("1", "L", "P", "RGB", "I;16"):  # its transparency is not in its samples
        one_index = format_name == "GIF" and mode in ("L", "P") and isinstance(key, int)
        if format_name != "PNG" and not one_index:
            wanted = [] if mode == "I;16" else ["RGBA"]
    elif mode in ("LA", "RGBA") and picture.getextrema()[-1] == (255, 255):
        wanted.append(mode[:-1])  # nothing shines through: without its alpha it is the same picture
    for other in wanted:
        if other in holds:
            return picture if other == mode else converted(picture, other)
    kind = mode[:2] if mode.startswith("I;") else mode[:1]
    lost = "its transparency" if see_through else LOST.get(kind, "most of its colours")
    better = ".tif" if mode in ("CMYK", "F", "I") else ".png or .tif"
    raise PictureError(f"{name}: {target.suffix} would lose {lost}; write {better} instead")


def converted(picture: Image.Image, mode: str) -> Image.Image:
    """`Image.convert`, which knows nothing of LAB."""
    if picture.mode == mode:
        return picture
    if "LAB" in (picture.mode, mode):
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        pair = (lab, srgb) if picture.mode == "LAB" else (srgb, lab)
        return cast(Image.Image, ImageCms.profileToProfile(picture, *pair, outputMode=mode))  # None if done in place
    return picture.convert(mode, dither=Image.Dither.NONE)


def extrema(picture: Image.Image) -> tuple[float, float]:
    """The least and the greatest sample of a picture of one channel."""
    return cast(tuple[float, float], picture.getextrema())


def _fits(profile: bytes, mode: str) -> bool:
    """Whether a profile speaks of the samples of that mode; a wrong one makes viewers drop the picture."""
    space = {
        "CMYK": b"CMYK",
        "RGB": b"RGB ",
        "RGBA": b"RGB ",
        "RGBX": b"RGB ",
        "P": b"RGB ",
        "PA": b"RGB ",
        "LAB": b"Lab ",
    }.get(mode, b"GRAY")
    return len(profile) < 20 or profile[16:20] == space


def _format_of(target: Path) -> str:
    Image.init()
    format_name = Image.registered_extensions().get(target.suffix.lower())
    if format_name not in HOLDS or format_name not in Image.SAVE or target.suffix.lower() == ".pfm":
        raise PictureError(
            f"{target.name}: pictures are not written as '{target.suffix}' here; use .png, .jpg, .tif, .webp, .avif, "
            ".jp2, .bmp, .gif, .ppm or .tga"
        )
    return format_name


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A name beside the target to write to, which becomes the target if all goes well and vanishes if not."""
    part = target.parent / f".{uuid.uuid4().hex[:12]}.part"
    try:
        yield part
        part.replace(target)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"{target}: cannot be written ({_reason(error)})") from error
    finally:
        part.unlink(missing_ok=True)
