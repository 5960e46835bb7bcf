"""The file formats that pictures are written in: which modes each holds, and how Pillow is to write it.

A format that is to be written needs a row of `HOLDS`, and a case in `save` if Pillow's defaults are not good enough.
"""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..errors import PictureError
from . import heif
from .exif import for_pillows_avif
from .jpeg import MOST, Compression, comment_of
from .metadata import RESOLUTION, Metadata, profile_fits
from .modes import PLAIN, converted, extrema
from .png import insert_chunks
from .suffixes import HEIF_SUFFIXES
from .tiff import append_entries

# The modes that each format gives back as they were written. Pillow would flatten or clip some others without a word.
HOLDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "I", "I;16", "I;16B", "F"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "HEIF": ("L", "LA", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "DIB": ("1", "L", "P", "RGB"),
    "GIF": ("1", "L", "P"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "TGA": ("L", "LA", "RGB", "RGBA"),
}
MOST_PIXELS = {"WEBP": 16383, "JPEG": 65500, "GIF": 65535, "TGA": 65535, "AVIF": 65536}  # a side
# Where a format lacks a mode, the next one holds the same picture.
WIDER = PLAIN | {"L": "RGB", "LA": "RGBA", "P": "RGB"} | dict.fromkeys(("I;16B", "I;16L", "I;16N"), "I;16")
LOST = {"C": "its four inks (CMYK)", "F": "its floating-point values", "I": "its 32 bits", "I;": "its 16 bits"}


def format_of(target: Path) -> str:
    """The format of a file's suffix, by Pillow's name; PictureError if it is none that is written here."""
    Image.init()
    suffix = target.suffix.lower()
    if suffix in HEIF_SUFFIXES:
        heif.registers_heif()
        if "HEIF" not in Image.SAVE:
            raise heif.need(target.name, written=True)
    format_name = "JPEG" if suffix == ".mpo" else Image.registered_extensions().get(suffix)
    if format_name not in HOLDS or format_name not in Image.SAVE or target.suffix.lower() == ".pfm":
        raise PictureError(
            f"{target.name}: pictures are not written as '{target.suffix}' here; use .png, .jpg, .tif, .webp, .avif, "
            ".heic, .jp2, .bmp, .gif, .ppm or .tga"
        )
    return format_name


def require_size(size: tuple[int, int], target: Path, name: str) -> None:
    """Raises PictureError if the target's format holds no picture of `size` (width, height)."""
    most = MOST_PIXELS.get(format_of(target))
    if most and max(size) > most:
        raise PictureError(
            f"{name}: {size[0]}x{size[1]}, but {target.suffix} holds {most} pixels a side at most; write .png or .tif"
        )


def fitted(picture: Image.Image, target: Path, name: str) -> Image.Image:
    """The picture in a mode that the target's format holds, without losing anything; PictureError if there is none."""
    format_name = format_of(target)
    mode = picture.mode
    see_through, key = picture.has_transparency_data, picture.info.get("transparency")
    wanted = [mode]
    while wanted[-1] in WIDER:
        wanted.append(WIDER[wanted[-1]])
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
        if other in HOLDS[format_name]:
            return converted(picture, other)
    kind = mode[:2] if mode.startswith("I;") else mode[:1]
    lost = "its transparency" if see_through else LOST.get(kind, "most of its colours")
    better = ".tif" if mode in ("CMYK", "F", "I") else ".png or .tif"
    raise PictureError(f"{name}: {target.suffix} would lose {lost}; write {better} instead")


def require_deep(target: Path, channels: str, *, whole: bool, bits: int, name: str) -> None:
    """Raises PictureError if the target's format does not hold several channels of so many bits, or floats."""
    format_name = format_of(target)
    if format_name in ("HEIF", "AVIF") and whole and bits in heif.DEPTHS and channels in ("RGB", "RGBA"):
        return
    if format_name != "TIFF" and not (format_name == "PNG" and whole and channels != "CMYK"):
        lost = LOST["C"] if channels == "CMYK" else f"its {bits} bits a channel" if whole else LOST["F"]
        raise PictureError(f"{name}: {target.suffix} would lose {lost}; write {'.png or .tif' if whole else '.tif'}")


def save(
    picture: Image.Image,
    path: Path,
    format_name: str,
    metadata: Metadata,
    *,
    quality: int | None,
    compression: Compression | None = None,
    progressive: bool = False,
    lossless: bool = False,
) -> None:
    """Writes a Pillow picture of a mode that the format holds.

    Args:
        quality: of JPEG, WebP, AVIF and HEIC, up to 100; None for that of the source: its `compression` of a JPEG,
            `lossless` of a WebP, or else 95.
    """
    options = {key: value for key, value in metadata.info().items() if key in ("exif", "icc_profile", "dpi")}
    picture.info.pop("exif", None)  # or Pillow takes it from there where `options` have none
    if metadata.icc_profile and not profile_fits(metadata.icc_profile, picture.mode):
        options["icc_profile"] = None
    if metadata.xmp and format_name in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = metadata.xmp
    match format_name:
        case "JPEG":
            options |= {"quality": quality or 95, "subsampling": "4:4:4", "progressive": progressive}
            if quality is None and compression is not None:
                options = {key: value for key, value in options.items() if key not in ("quality", "subsampling")}
                options |= compression.options(len(picture.getbands()))
            options = {key: value for key, value in options.items() if key not in MOST or len(value) <= MOST[key]}
            options["extra"] = metadata.jpeg_segments()
            options["comment"] = b""  # it is one of the segments
        case "WEBP":
            options |= {"quality": quality or 95, "exact": True, "lossless": lossless and quality is None}
        case "AVIF":
            options |= {"quality": quality or 95, "subsampling": "4:4:4"}
            if "exif" in options:
                options["exif"] = for_pillows_avif(options["exif"])
        case "HEIF":
            options = heif.options_of(metadata, picture.size, quality or 95)
        case "GIF":
            options["comment"] = comment_of(metadata.segments)
        case "PNG":
            options = {"icc_profile": None}  # all goes in by chunks, below
        case "TIFF":
            options = {"icc_profile": options.get("icc_profile")}
            if picture.mode != "I;16B":  # which only Pillow's own, uncompressed writer keeps in that byte order
                options["compression"] = "tiff_adobe_deflate"
            options["exif"] = Image.Exif()  # entries are appended below, as libtiff does not know all of them
    picture.save(path, format_name, **options)
    if format_name == "PNG":
        fits = not metadata.icc_profile or profile_fits(metadata.icc_profile, picture.mode)
        insert_chunks(path, (metadata if fits else replace(metadata, icc_profile=None)).png_chunks())
    elif format_name == "AVIF":
        heif.name_colours(path, metadata)
    elif format_name == "TIFF":
        append_entries(path, *metadata.tiff_entries(), instead_of=RESOLUTION)
