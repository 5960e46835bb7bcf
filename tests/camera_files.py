"""Files as cameras write them, with EXIF, XMP, profile and further pictures: true ones, made by others' encoders.

The camera raw is a DNG of known colours, uncompressed as LibRaw reads it.
"""

import io
import struct
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pillow_jxl
import tifffile
from PIL import ExifTags, Image, ImageCms

from deblur_hub.pictures import Metadata
from deblur_hub.pictures.exif import PREFIX
from deblur_hub.pictures.heif import save_avif
from deblur_hub.pictures.tiff import append_entries, entries_of_exif
from tests.pictures import file_of, noise

WIDTH, HEIGHT = 96, 64
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="Pier"/></x:xmpmeta>'
MAKER = b"MAKER\0\1\2\3"
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
BLACK, WHITE = 512, 16383  # of the sensor
NEUTRAL = (0.5, 1.0, 0.8)  # what the sensor makes of grey under the light of the photo


def ramp(bits: int, channels: int = 3) -> np.ndarray:
    """(H, W, C): from black to white, less far in green and blue, and of a smooth alpha; up to 8 bits as uint8."""
    across = np.linspace(0, 1, WIDTH)[None, :, None] * np.ones((HEIGHT, 1, 1))
    down = np.linspace(1, 0.25, HEIGHT)[:, None, None] * np.ones((1, WIDTH, 1))
    unit = np.concatenate([across, across * 0.5, across * 0.8, down][:channels], axis=2)
    return np.rint(unit * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def exif(turn: int = 1) -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Artist] = "Jürgen".encode()
    made[ExifTags.Base.Orientation] = turn
    made[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: MAKER, ExifTags.Base.ISOSpeedRatings: 400}
    made[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 8.0, 30.0)}
    return made.tobytes()


def heic(bits: int = 8, *, turn: int = 1, alpha: bool = False, further: str = "") -> bytes:
    """HEIC by libheif and x265; `further` is "picture" for a second one, or "depth" for a depth map (without alpha)."""
    file = io.BytesIO()
    mode = "RGBA" if alpha or further == "depth" else "RGB"
    samples = ramp(bits, len(mode))
    made = pillow_heif.from_bytes(mode if bits == 8 else f"{mode};{bits}", (WIDTH, HEIGHT), samples.tobytes())
    made.info.update(exif=exif(turn), xmp=XMP, icc_profile=PROFILE, icc_profile_type="prof")
    if further == "picture":
        made.add_from_pillow(Image.new("RGB", (WIDTH, HEIGHT)))
    made.save(file, quality=100, chroma=444, primary_index=0)
    data = file.getvalue()
    # Its auxiliary picture is said to be depth and not alpha.
    return data.replace(b"auxid:1", b"auxid:2") if further == "depth" else data


def avif(bits: int, *, turn: int = 1, alpha: bool = False) -> bytes:
    """AVIF by libaom; its metadata by our own writer, since no other here writes them beside so many bits."""
    samples = (ramp(bits, 4 if alpha else 3).astype(int) * 65535 // ((1 << bits) - 1)).astype(np.uint16)
    metadata = Metadata(icc_profile=PROFILE, exif=exif(turn), xmp=XMP)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.avif"
        save_avif(samples, "RGBA" if alpha else "RGB", path, metadata, bits=bits, quality=100)
        return path.read_bytes()


def gain_map_jpeg(turn: int = 1) -> bytes:
    """An Ultra HDR JPEG by libultrahdr."""
    linear = np.linspace(0, 4, WIDTH, dtype=np.float16)[None, :, None] * np.ones((HEIGHT, 1, 4), np.float16)
    linear[..., 3] = 1
    data = bytes(imagecodecs.ultrahdr_encode(linear))
    block = exif(turn)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def mpo(turn: int = 1) -> bytes:
    """Two views in one file."""
    left, right = Image.fromarray(ramp(8)), Image.fromarray(ramp(8)[:, ::-1].copy())
    return file_of(
        left, "MPO", save_all=True, append_images=[right], exif=exif(turn), xmp=XMP, icc_profile=PROFILE, quality=95
    )


def packed_jpeg(turn: int = 1, profile: bytes = PROFILE) -> bytes:
    """A JPEG that JPEG XL packs without loss."""
    jpeg = file_of(Image.fromarray(ramp(8)), "JPEG", exif=exif(turn), xmp=XMP, icc_profile=profile, quality=95)
    return bytes(pillow_jxl.Encoder(mode="RGB", lossless=True)(jpeg, WIDTH, HEIGHT, jpeg_encode=True))


def jxl(bits: int = 8, *, alpha: bool = False) -> bytes:
    """JPEG XL without loss, by libjxl, with EXIF and XMP in boxes of their own."""
    samples = ramp(bits, 4 if alpha else 3)
    data = bytes(imagecodecs.jpegxl_encode(samples, lossless=True, usecontainer=True))
    for name, contents in ((b"Exif", bytes(4) + exif().removeprefix(PREFIX)), (b"xml ", XMP)):
        data += struct.pack(">I4s", len(contents) + 8, name) + contents
    return data


def dng(turn: int = 1, *, colour: tuple[float, float, float] = (0.25, 0.5, 0.125), preview: bool = False) -> bytes:
    """A DNG whose sensor saw one `colour`, in linear sRGB, under a light that is not daylight; in its right half, a
    quarter of that light. With a `preview`, a JPEG stands first and the sensor's samples below it, as in most.
    """
    seen = [part * gain * (WHITE - BLACK) for part, gain in zip(colour, NEUTRAL, strict=True)]
    light = np.empty((HEIGHT, WIDTH))
    light[::2, ::2], light[1::2, 1::2] = seen[0], seen[2]
    light[::2, 1::2], light[1::2, ::2] = seen[1], seen[1]
    light[:, WIDTH // 2 :] /= 4
    mosaic = np.rint(BLACK + light).astype(np.uint16)
    matrix = np.rint(np.diag(NEUTRAL) @ np.linalg.inv(TO_XYZ) * 10000).astype(int).ravel()
    sensor = [
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, bytes((0, 1, 1, 2)), True),  # CFAPattern: red, green, green, blue
        (50714, "H", 1, BLACK, True),
        (50717, "I", 1, WHITE, True),
    ]
    whole = [
        (274, "H", 1, turn, True),
        (50706, "B", 4, bytes((1, 4, 0, 0)), True),  # DNGVersion
        (50708, "s", 0, "Maker Model", True),  # UniqueCameraModel
        (50721, "2i", 9, tuple(part for value in matrix.tolist() for part in (value, 10000)), True),  # ColorMatrix1
        (50728, "2I", 3, tuple(part for value in NEUTRAL for part in (round(value * 1000), 1000)), True),
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
        (700, "B", len(XMP), XMP, True),
    ]
    plain = {"metadata": None, "software": False}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dng"
        with tifffile.TiffWriter(path, byteorder="<") as file:
            if preview:
                small = noise(32, 48, 3)
                file.write(
                    small, photometric="ycbcr", compression="jpeg", subfiletype=1, subifds=1, extratags=whole, **plain
                )
            file.write(mosaic, photometric=32803, extratags=sensor if preview else sensor + whole, **plain)
        append_entries(path, *entries_of_exif(exif()))
        return path.read_bytes()
