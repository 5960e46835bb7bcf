"""Another program, exiftool, finds in a restored file what it finds in the original, but for what must have changed."""

import io
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from deblur_hub.pictures import read, write
from tests.pictures import MODES, file_of, noise, picture
from tests.test_exif import PREFIX, block, small_jpeg

tifffile = pytest.importorskip("tifffile")
pytestmark = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

# What describes the file or the storage of its samples, or would be wrong of the result.
STORAGE = {"System", "ExifTool", "Composite", "File", "SourceFile", "IFD1", "QuickTime"}
CHANGED = {"Orientation", "ExifImageWidth", "ExifImageHeight", "ThumbnailOffset", "ThumbnailLength", "ThumbnailImage"}
STORED = {"ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "PhotometricInterpretation", "StripOffsets"}
STORED |= {"StripByteCounts", "RowsPerStrip", "SamplesPerPixel", "PlanarConfiguration", "Predictor", "TileWidth"}
STORED |= {"TileLength", "TileOffsets", "TileByteCounts", "ExtraSamples", "SampleFormat", "SubfileType", "ColorMap"}
STORED |= {"BitDepth", "ColorType", "Filter", "Interlace", "Palette", "Transparency", "FillOrder", "YCbCrSubSampling"}
STORED |= {"JFIFVersion", "Warning", "YCbCrPositioning", "MinSampleValue", "MaxSampleValue"}
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
photoshop:City="Camden"><dc:rights>free</dc:rights></rdf:Description></rdf:RDF></x:xmpmeta>"""
CAPTION = b"8BIM\x04\x04\0\0\0\0\0\x09\x1c\x02\x78\0\x04Pier\0"


def found(*paths: Path) -> list[dict[str, object]]:
    """What exiftool finds in each, but for what may differ."""
    told = subprocess.run(["exiftool", "-a", "-G1", "-j", "-n", "-u", *paths], capture_output=True, check=True)
    parted = (
        [(key, *key.rpartition(":")[::2], value) for key, value in tags.items()] for tags in json.loads(told.stdout)
    )
    return [
        {key: value for key, group, tag, value in tags if (group or tag) not in STORAGE and tag not in CHANGED | STORED}
        for tags in parted
    ]


def restored(path: Path) -> Path:
    tensor, original = read(path)
    return write(tensor * 0.5, original, path.with_name(f"restored{path.suffix}"))


def same(path: Path, least: int) -> None:
    before, after = found(path, restored(path))
    assert len(before) >= least, before
    assert after == before


def camera_jpeg(order: str) -> bytes:
    exif = PREFIX + block(order, thumbnail=small_jpeg(), width=37)
    contents = b"Photoshop 3.0\0" + CAPTION
    extra = b"\xff\xed" + struct.pack(">H", len(contents) + 2) + contents
    return file_of(picture("RGB"), "JPEG", exif=exif, xmp=XMP, comment=b"Grandma 1956", extra=extra, dpi=(240, 240))


@pytest.mark.parametrize("order", ["<", ">"])
def test_of_a_cameras_jpeg(order, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(camera_jpeg(order))
    same(tmp_path / "photo.jpg", 10)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_of_a_tiff(order, depth, tmp_path):
    samples = noise(23, 37, 3, dtype=depth)
    extra = [(33550, 12, 3, (1.5, 2.5, 0.0), True), (700, 1, len(XMP), XMP, True), (65000, 4, 2, (70000, 5), True)]
    extra += [(34377, 7, len(CAPTION), CAPTION, True), (33723, 7, 9, CAPTION[12:21], True)]
    tifffile.imwrite(
        tmp_path / "scan.tif",
        samples,
        byteorder=order,
        photometric="rgb",
        metadata=None,
        description="Camden",
        resolution=(118, 118),
        resolutionunit="CENTIMETER",
        extratags=extra,
    )
    same(tmp_path / "scan.tif", 8)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")])
def test_of_a_png_of_every_mode(mode, tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add(b"gAMA", struct.pack(">I", 45455))
    texts.add(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    texts.add_text("Title", "Pier")
    texts.add_itxt("Description", "山田", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    file = io.BytesIO()
    picture(mode).save(file, "PNG", pnginfo=texts, exif=PREFIX + block(), dpi=(300, 300))
    (tmp_path / "drawing.png").write_bytes(file.getvalue())
    same(tmp_path / "drawing.png", 16)


@pytest.mark.parametrize("format_name", ["WEBP", "AVIF"])
def test_of_what_phones_and_the_web_use(format_name, tmp_path):
    path = tmp_path / f"photo.{format_name.lower()}"
    path.write_bytes(file_of(picture("RGB"), format_name, exif=PREFIX + block(width=37), xmp=XMP))
    same(path, 7)


def test_a_turned_photo_says_that_it_is_upright(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(camera_jpeg("<"))
    with Image.open(restored(path)) as image:
        assert image.size == (23, 37) and image.getexif()[0x0112] == 1
    tags = subprocess.run(
        ["exiftool", "-s3", "-n", "-Orientation", "-ExifImageWidth", "-ThumbnailLength", str(restored(path))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tags.stdout.split() == ["1", "23"]
