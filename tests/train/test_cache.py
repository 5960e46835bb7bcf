"""Training sees every picture as the rest of the package does."""

import io

import numpy as np
import pytest
from PIL import Image

from deblur_hub.errors import DatasetError
from tests.pictures import noise, picture
from train.data.cache import PictureCache


def cached(tmp_path, name: str, contents: bytes) -> np.ndarray:
    (tmp_path / name).write_bytes(contents)
    cache = PictureCache(tmp_path / "cache")
    first, second = cache(tmp_path / name), cache(tmp_path / name)
    assert first.dtype == np.uint8 and np.array_equal(first, second)
    return np.asarray(first)


def file_of(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_8_bits_are_pillows(mode, tmp_path):
    before = picture(mode)
    format_name = "TIFF" if mode == "CMYK" else "PNG"
    found = cached(tmp_path, f"x.{format_name.lower()}", file_of(before, format_name))
    assert np.array_equal(found, np.asarray(before.convert("RGB")))


def test_a_turned_photo_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = cached(tmp_path, "x.png", file_of(picture("RGB"), "PNG", exif=exif))
    assert np.array_equal(found, np.rot90(np.asarray(picture("RGB")), -1))


def test_16_bits_and_floats_keep_their_range(tmp_path):
    grey = noise(23, 37, dtype=np.uint16)
    found = cached(tmp_path, "x.png", file_of(Image.fromarray(grey), "PNG"))
    assert np.abs(found[..., 0] - grey / 257).max() <= 0.5
    small = (grey >> 4).astype(np.uint16)  # 12 bits in 16
    found = cached(tmp_path, "y.png", file_of(Image.fromarray(small), "PNG"))
    assert np.abs(found[..., 0] - small / 4095 * 255).max() <= 0.5
    floats = noise(23, 37, dtype=np.float32)
    found = cached(tmp_path, "z.tif", file_of(Image.fromarray(floats), "TIFF"))
    assert np.abs(found[..., 0] - floats * 255).max() <= 0.5


def test_a_damaged_picture_is_named_with_its_folder(tmp_path):
    data = file_of(picture("RGB"), "PNG")
    with pytest.raises(DatasetError, match=rf"^{tmp_path}/x.png: truncated; replace it or take it out$"):
        cached(tmp_path, "x.png", data[: len(data) // 2])
