"""The tables of docs/formats.md, made by writing and reading pictures of every kind in every format.

python -m tests.formats_table > docs/formats.md
"""

import io
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from torch import Tensor

from deblur_hub.errors import PictureError
from deblur_hub.pictures import Metadata, Original, read, read_pages, require_target, to_samples, write, write_pages
from deblur_hub.pictures.exif import EXIF_DIRECTORY, GPS_DIRECTORY, PREFIX, ExifBlock
from deblur_hub.pictures.formats import format_of
from deblur_hub.pictures.suffixes import result_suffix
from tests import camera_files
from tests.pictures import file_of, noise, picture

SUFFIXES = ("png", "jpg", "tif", "webp", "avif", "heic", "jp2", "bmp", "gif", "ppm", "tga")
KINDS = {
    "black and white": "1",
    "grey": "L",
    "grey with alpha": "LA",
    "palette": "P",
    "colour": "RGB",
    "colour with alpha": "RGBA",
    "four inks (CMYK)": "CMYK",
    "L\\*a\\*b\\*": "LAB",
    "16-bit grey": "I;16",
    "32-bit whole numbers": "I",
    "32-bit floats": "F",
}
DEEP: dict[str, Callable[[], bytes]] = {
    "10-bit colour": lambda: camera_files.heic(10),
    "12-bit colour with alpha": lambda: camera_files.heic(12, alpha=True),
    "16-bit colour": lambda: imagecodecs.png_encode(noise(23, 37, 3, dtype=np.uint16)),
    "16-bit colour with alpha": lambda: imagecodecs.png_encode(noise(23, 37, 4, dtype=np.uint16)),
}
NAMES = {"1": "black and white", "L": "grey", "LA": "grey with alpha", "P": "palette", "RGB": "colour"}
NAMES |= {
    "16-bit RGB": "16-bit colour",
    "16-bit RGBA": "16-bit colour with alpha",
    "RGBA": "colour with alpha",
    "CMYK": "CMYK",
    "I;16": "16-bit grey",
    "I": "32-bit",
}

HEAD = """# File formats

For people who want to know what comes back of a file, and what doesn't. The tables are made by
`python -m tests.formats_table`, which writes and reads every case; a test compares them with this page.

## What is read

PNG, JPEG (also MPO and `.jfif`), TIFF and BigTIFF, WebP, AVIF, BMP, JPEG 2000, GIF, PPM, TGA, and whatever else Pillow
reads; with extras HEIC (`heif`), camera raw (`raw`) and JPEG XL (`jxl`). More than 8 bits of colour in PNG, TIFF, AVIF
and JPEG 2000 need `pip install 'deblur-hub[deep]'`, which the other extras bring along, and so do rare kinds of TIFF
(floats in colour, compression by JPEG XL); they are never cut to 8. Of deeper PPM 8 bits are read, which is said.

- All pages of a TIFF are restored into a TIFF, and the first into other formats, which is said. Of animations the first
  frame is restored, which is said. Reduced versions and masks in a TIFF are passed over for the photograph.
- 10, 12 and 14 bits in 16-bit samples are restored in their own range, by what the file says of it or by its brightest
  sample; which is said.
- Alpha comes back as it was. Associated (premultiplied) alpha is read right, and written unassociated. Channels beyond
  it are not restored, which is said.
- A file that lacks nothing but its end, or has a damaged chunk or entry that no viewer needs, is restored, which is
  said. One that was cut off earlier is refused; of a JPEG the sentence says after which share of its rows. Evaluation
  accepts what is restored and refuses what is not.
- A file whose extra is not installed is refused by a sentence that names it; in folders such files are counted and
  named. With `--format`, those are restored as well that are read and just not written.
- HDR in HEIC, AVIF and JPEG XL (PQ, HLG) is refused, as the models do not know it.

## Files of cameras

What comes back of a file where no other format is asked for. The extra is what reads it: `pip install
'deblur-hub[heif,raw,jxl]'`. "upright" means turned once, as the photo is shown; "said" that what is not restored (the
other view, a depth or gain map, a mask) is left out with a sentence. Thumbnails are left out without one.

"""
WRITTEN = """
- Camera raw is developed by LibRaw to sRGB of 16 bits: the camera's white balance, demosaicing by AHD, clipped
  highlights. Nothing is brightened, so that it may look darker than the camera's own JPEG. Its size is checked before.
  EXIF is that of DNG, NEF, ARW, CR2 and others that are TIFFs inside, and else that of their preview; a maker's notes
  are left out, which is said. What is tested is a DNG of known colours. The files of Canon (CR2, CR3), Nikon (NEF),
  Sony (ARW), Fujifilm (RAF), Olympus (ORF), Panasonic (RW2) and others are LibRaw's to read; none of them was tried.
- HEIC and AVIF come back with their bits; so do 10 and 12 bits from one into the other. Into `.png` and `.tif` they
  come as 16 bits. HEIC is written at quality 95 with chroma of half the resolution, as cameras do; above 8192 pixels a
  side in tiles. Colours that have no profile but a name, such as BT.2020, keep it in HEIC, AVIF and PNG.
- JPEG XL is read and not written, since no library here writes its colour profiles.

## What is written

"kept" is the same kind of picture; without loss in all formats but JPEG, WebP (unless it was lossless), AVIF and JPEG
2000. "as ..." holds the same picture as another kind. "refused" is said before any work is done.

"""
BETWEEN = """
A JPEG is written with the tables and the subsampling that it had, or at `--jpeg-quality 85` (or `--quality 85`); a
WebP is lossless if it was.

## What goes along

Blocks are copied byte for byte: only orientation, size and thumbnail, which would be wrong of the result, are changed.
So maker notes and texts in any encoding survive. EXIF and XMP that ImageMagick kept in a PNG's texts become a block
again. What has no place in the target's format is named, and the picture is written; so are content credentials (C2PA),
which are signed for the picture as it was. `--strip-gps` leaves out where it was taken, and a JPEG's segments that are
not known here, `--strip-metadata` all but what its colours mean.

"""


def outcome(original: Original, restored: object, suffix: str, folder: Path, mode: str) -> str:
    target = folder / f"out.{suffix}"
    try:
        require_target(original, target)
        write(restored, original, target)  # type: ignore[arg-type]
    except PictureError:
        return "refused"
    again = read(target)[1]
    back = kind_of(again)
    if back == mode or (mode, suffix, back) == ("I;16", "ppm", "I"):  # which Pillow reads into wider samples
        return "kept"
    return f"as {NAMES.get(back, back)}"


def kind_of(original: Original) -> str:
    return original.mode or f"{original.bits}-bit {original.channels}"


def modes_table(folder: Path) -> list[list[str]]:
    rows = [["", *(f".{suffix}" for suffix in SUFFIXES)]]
    for name, mode in KINDS.items():
        tensor, original = read(picture(mode))
        rows.append([name, *(outcome(original, tensor, suffix, folder, mode) for suffix in SUFFIXES)])
    for name, made in DEEP.items():
        tensor, original = read(made())
        rows.append([name, *(outcome(original, tensor, suffix, folder, kind_of(original)) for suffix in SUFFIXES)])
    return rows


# --- files of cameras --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Camera:
    """A kind of file that cameras write: the extra that reads it, and makers of such files."""

    suffix: str
    extra: str
    plain: Callable[[], bytes]
    turned: Callable[[], bytes]
    alpha: Callable[[], bytes] | None = None
    further: Callable[[], bytes] | None = None


def heic_camera(bits: int) -> Camera:
    made = partial(camera_files.heic, bits)
    return Camera(
        "heic", "heif", made, partial(made, turn=6), partial(made, alpha=True), partial(made, further="depth")
    )


def avif_camera(bits: int, extra: str) -> Camera:
    made = partial(camera_files.avif, bits)
    return Camera("avif", extra, made, partial(made, turn=6), partial(made, alpha=True))


CAMERAS = {
    "HEIC, 8 bits": heic_camera(8),
    "HEIC, 10 bits": heic_camera(10),
    "HEIC, 12 bits": heic_camera(12),
    "AVIF, 10 bits": avif_camera(10, "heif"),
    "AVIF, 12 bits": avif_camera(12, "heif"),
    "camera raw (DNG)": Camera("dng", "raw", camera_files.dng, partial(camera_files.dng, 6)),
    "JPEG with a gain map": Camera(
        "jpg", "", camera_files.gain_map_jpeg, partial(camera_files.gain_map_jpeg, 6), None, camera_files.gain_map_jpeg
    ),
    "MPO": Camera("mpo", "", camera_files.mpo, partial(camera_files.mpo, 6), None, camera_files.mpo),
    "JPEG packed as JPEG XL": Camera("jxl", "jxl", camera_files.packed_jpeg, partial(camera_files.packed_jpeg, 6)),
    "JPEG XL, 8 bits": Camera(
        "jxl", "jxl", camera_files.jxl, partial(camera_files.packed_jpeg, 6), partial(camera_files.jxl, alpha=True)
    ),
    "JPEG XL, 16 bits": Camera(
        "jxl",
        "jxl",
        partial(camera_files.jxl, 16),
        partial(camera_files.packed_jpeg, 6),
        partial(camera_files.jxl, 16, alpha=True),
    ),
}
CLOSE = 0.04  # of 2, between the samples of a photo and of its result after lossy compression


def through(contents: bytes, suffix: str, folder: Path) -> tuple[Tensor, Original, Tensor, Original]:
    """What is read of a file, and of its result with nothing restored."""
    source, target = folder / f"x.{suffix}", folder / f"out{result_suffix(f'.{suffix}')}"
    source.write_bytes(contents)
    found = [samples for _, _, samples in read_pages(source, target)]
    write_pages(((to_samples(each.tensor(), each.original), each.original) for each in found), target)
    return found[0].tensor(), found[0].original, *read(target)


def cameras_table(folder: Path) -> list[list[str]]:
    rows = [["", "extra", "result", "EXIF", "XMP", "colour profile", "orientation", "alpha", "further pictures"]]
    for name, camera in CAMERAS.items():
        before, source, after, result = through(camera.plain(), camera.suffix, folder)
        close = (before - after).abs().max() < CLOSE
        bits = result.bits if result.dtype == np.uint16 else 8
        cells = [f"`{camera.extra}`" if camera.extra else "-"]
        cells.append(f"{result_suffix(f'.{camera.suffix}')}, {bits} bits" if close else "changed")
        holds = {
            "EXIF": lambda m: has_entry(m, None, 0x13B, "Jürgen".encode()),
            "XMP": lambda m: m.xmp == camera_files.XMP,
            "profile": lambda m: bool(m.icc_profile),
        }
        for held in holds.values():
            same = "kept" if held(result.metadata) else "gone"
            cells.append(same if held(source.metadata) else "-" if not held(result.metadata) else "made up")
        _, _, upright, turned = through(camera.turned(), camera.suffix, folder)
        block = block_of(turned.metadata)
        again = block is not None and (block.number(block.first, 0x112) or 1) != 1
        same = turned.size == source.size[::-1] and (upright.flip(-1).mT - after).abs().max() < CLOSE
        cells.append("upright" if same and not again else "wrong")
        if camera.alpha:
            before, source, after, result = through(camera.alpha(), camera.suffix, folder)
            opacities = [np.asarray(x.kept)[..., -1].astype(float) / np.iinfo(x.dtype).max for x in (source, result)]
            cells.append("kept" if np.abs(opacities[0] - opacities[1]).max() < CLOSE / 2 else "gone")
        else:
            cells.append("-")
        if camera.further:
            notes = through(camera.further(), camera.suffix, folder)[1].notes
            cells.append("said" if any("is restored" in note or "not restored" in note for note in notes) else "gone")
        else:
            cells.append("-")
        rows.append([name, *cells])
    return rows


# --- metadata ----------------------------------------------------------------------------------------------------

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="Pier"/></x:xmpmeta>'
CAPTION = b"8BIM\x04\x04\0\0\0\0\0\x09\x1c\x02\x78\0\x04Pier\0"
DUCKY = struct.pack(">H", 13) + b"Ducky\0\1\0\4\0\0"
TAG, PLACE = 65000, (48.0, 8.0, 30.0)


def exif() -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Artist] = "Jürgen".encode()
    made[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: b"MAKER\0\1\2\3"}
    made[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: PLACE}
    return made.tobytes()


def sources() -> dict[str, bytes]:
    """A file of each format that has metadata of its own."""
    photo = picture("RGB")
    common = {"exif": exif(), "icc_profile": PROFILE, "dpi": (300, 300)}
    segment = b"Photoshop 3.0\0" + CAPTION
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + b"\xff\xec" + DUCKY
    texts = PngImagePlugin.PngInfo()
    texts.add(b"gAMA", struct.pack(">I", 100000))
    texts.add_text("Title", "Pier")
    texts.add(b"vpAg", bytes(9))
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    tiff = io.BytesIO()
    extras = [(TAG, 4, 2, (70000, 5), True), (700, 1, len(XMP), XMP, True)]
    tifffile.imwrite(
        tiff, np.asarray(photo), photometric="rgb", metadata=None, resolution=(300, 300), resolutionunit="INCH",
        description="Pier", iccprofile=PROFILE, extratags=extras,
    )  # fmt: skip
    return {
        "jpg": file_of(photo, "JPEG", **common, xmp=XMP, comment=b"Grandma 1956", extra=extra),
        "png": file_of(photo, "PNG", **common, pnginfo=texts),
        "tif": tiff.getvalue(),
    }


def block_of(metadata: Metadata) -> ExifBlock | None:
    found = metadata.exif_block()
    return ExifBlock(found.removeprefix(PREFIX)) if found else None


def has_entry(metadata: Metadata, directory: int | None, tag: int, value: bytes) -> bool:
    block = block_of(metadata)
    place = block.first if block and directory is None else block and block.number(block.first, directory or 0)
    entry = block.find(place, tag) if block and place else None
    return bool(block and entry and value in bytes(block.data[entry.values :][: entry.length]))


WORDS = {"XMP": "its XMP", "colour profile": "its colour profile", "resolution": "its resolution"}
WORDS |= {"captions (IPTC)": "captions", "JPEG comment": "its comment", "PNG texts": "its PNG texts"}
WORDS |= {"unknown JPEG segments": "its segments APP12", "unknown PNG chunks": "its PNG chunks vpAg"}
WORDS |= {"PNG gAMA, cHRM, sRGB, cICP": "gAMA", "unknown TIFF tags": f"TIFF tags {TAG}"}

# What is looked for, the file that has it, and whether a file's metadata hold it.
ITEMS: dict[str, tuple[str, Callable[[Metadata], bool]]] = {
    "EXIF": ("jpg", lambda m: has_entry(m, None, 0x13B, "Jürgen".encode())),
    "maker notes": ("jpg", lambda m: has_entry(m, EXIF_DIRECTORY, 0x927C, b"MAKER\0\1\2\3")),
    "GPS": ("jpg", lambda m: has_entry(m, GPS_DIRECTORY, 2, b"")),
    "XMP": ("jpg", lambda m: m.xmp == XMP),
    "colour profile": ("jpg", lambda m: m.icc_profile == PROFILE),
    "resolution": ("jpg", lambda m: m.dpi is not None and [round(x) for x in m.dpi] == [300, 300]),
    "captions (IPTC)": ("jpg", lambda m: CAPTION in m.segments or any(CAPTION in e.values for e in m.entries)),
    "JPEG comment": ("jpg", lambda m: b"Grandma 1956" in m.segments),
    "unknown JPEG segments": ("jpg", lambda m: DUCKY in m.segments),
    "PNG texts": ("png", lambda m: (b"tEXt", b"Title\0Pier") in m.chunks),
    "PNG gAMA, cHRM, sRGB, cICP": ("png", lambda m: (b"gAMA", struct.pack(">I", 100000)) in m.chunks),
    "unknown PNG chunks": ("png", lambda m: (b"vpAg", bytes(9)) in m.chunks),
    "TIFF description": ("tif", lambda m: has_entry(m, None, 270, b"Pier")),
    "unknown TIFF tags": ("tif", lambda m: any(e.tag == TAG for e in m.entries)),
}


def metadata_table(folder: Path) -> list[list[str]]:
    rows = [["", "from", *(f".{suffix}" for suffix in SUFFIXES)]]
    files = sources()
    for item, (source, holds) in ITEMS.items():
        tensor, original = read(files[source])
        assert holds(original.metadata), item
        cells = []
        for suffix in SUFFIXES:
            target = folder / f"meta.{suffix}"
            plain = replace(original, mode="RGB")
            try:
                write(tensor, plain, target)
            except PictureError:
                cells.append("-")
                continue
            kept = holds(read(target)[1].metadata)
            said = any(WORDS.get(item, "its EXIF") in part for part in original.metadata.left_out(format_of(target)))
            cells.append("kept" if kept else "said" if said else "gone")
        rows.append([item, f".{source}", *cells])
    return rows


def markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        tables = [made(Path(folder)) for made in (cameras_table, modes_table, metadata_table)]
    cameras, modes, metadata = map(markdown, tables)
    return HEAD + cameras + WRITTEN + modes + BETWEEN + metadata


if __name__ == "__main__":
    sys.stdout.write(page())
