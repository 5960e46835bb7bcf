"""What goes in comes out: mode, size, depth, alpha, palette, metadata; and what cannot be read gets one sentence."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from deblur_hub import pictures as images
from deblur_hub.errors import PictureError
from deblur_hub.pictures import samples as in_bands
from tests.pictures import MODES, file_of, noise, picture, png_header

EXACT = [mode for mode in MODES if mode not in ("I", "F")]


def through(source, **options):
    """The picture after a network that changes nothing."""
    return images.to_image(*images.read(source, **options))


def samples(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def sentence(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message and len(message) < 200
    return message


# --- modes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (37, 23)])
@pytest.mark.parametrize("mode", EXACT)
def test_a_picture_of_every_mode_comes_back_as_it_was(mode, size):
    before = picture(mode, size)
    after = through(before)
    assert (after.mode, after.size) == (mode, size)
    assert np.array_equal(samples(after), samples(before))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_range_of_their_own_come_back_within_a_rounding_error(mode):
    before = picture(mode)
    tensor, original = images.read(before)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert samples(images.to_image(tensor, original)) == pytest.approx(samples(before), abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_restored_picture_keeps_mode_and_size_and_is_what_the_tensor_says(mode):
    tensor, original = images.read(picture(mode))
    assert tensor.dtype == torch.float32 and tensor.shape == (original.pictures, 3, 23, 37)
    after = images.to_image(torch.full_like(tensor, 1.0), original)  # white light everywhere
    assert (after.mode, after.size) == (mode, (37, 23))
    if mode == "CMYK":
        assert samples(after).max() == 0
    elif mode in ("L", "1", "RGB"):
        assert samples(after).min() == (1 if mode == "1" else 255)
    elif mode in ("LA", "RGBA"):
        colours, alpha = samples(after)[..., :-1], samples(after)[..., -1]
        assert colours[alpha > 0].min() == 255 and np.array_equal(alpha, samples(picture(mode))[..., -1])


def test_the_tensor_holds_the_colours_in_order_from_minus_one_to_one():
    tensor, _ = images.read(np.array([[[0, 255, 51]]], np.uint8))
    assert tensor.flatten().tolist() == pytest.approx([-1, 1, -0.6])


def test_the_black_ink_of_cmyk_is_restored_as_light_beside_the_colours():
    tensor, _ = images.read(Image.new("CMYK", (2, 1), (0, 255, 51, 204)))
    assert tensor[0, :, 0, 0].tolist() == pytest.approx([1, -1, 0.6])
    assert tensor[1, :, 0, 0].tolist() == pytest.approx([-0.6] * 3)


def test_samples_are_rounded_to_the_nearest_and_clipped():
    _, original = images.read(np.zeros((1, 4), np.uint8))
    values = torch.tensor([-1.5, 1.5, 10.49, 10.51])
    values[2:] = values[2:] / 255 * 2 - 1
    assert images.to_array(values.expand(1, 3, 1, 4), original).tolist() == [[0, 255, 10, 11]]


def test_alpha_comes_back_as_it_was():
    flat = picture("RGB").copy()
    flat.putalpha(77)
    for before in (flat, picture("RGBA"), picture("LA"), picture("PA")):
        tensor, original = images.read(before)
        assert tensor.shape[0] == 1
        after = images.to_image(tensor * 0.5, original)
        assert after.getchannel("A").tobytes() == before.getchannel("A").tobytes()
        assert after.convert("RGB").tobytes() != before.convert("RGB").tobytes()


def test_colours_under_full_transparency_are_kept_whatever_the_network_makes_of_them():
    before = noise(8, 9, 4)
    before[:4, :, 3] = 0
    for source in (before, before.astype(np.uint16) * 257):
        tensor, original = images.read(source)
        tensor[0] = 0
        after = images.to_array(tensor, original)
        assert np.array_equal(after[:4], source[:4])
        assert not np.array_equal(after[4:], source[4:])


@pytest.mark.parametrize("clear", [3, bytes(range(0, 256, 16)), bytes([255, 0, 255])])
def test_a_palette_keeps_its_transparency(clear):
    before = picture("P")
    before.info["transparency"] = clear
    tensor, original = images.read(before)
    after = images.to_image(tensor, original)
    assert np.array_equal(samples(after), samples(before)) and after.info["transparency"] == clear
    changed = images.to_image(tensor * 0.7, original)
    assert changed.mode == "P" and changed.has_transparency_data


def test_a_palette_with_equal_entries_gives_the_same_indices_back():
    before = picture("P")
    before.putpalette(bytes([9, 9, 9]) * 8 + noise(8, 3).tobytes())
    assert np.array_equal(samples(through(before)), samples(before))


def test_a_restored_palette_picture_is_close_to_what_the_network_made():
    ramp = np.linspace(0, 1, 64, dtype=np.float32)
    before = Image.fromarray(np.uint8(255 * np.stack(np.meshgrid(ramp, ramp), 2).repeat(2, 2)[..., :3])).quantize(16)
    tensor, original = images.read(before)
    blend = torch.nn.functional.avg_pool2d(tensor, 9, 1, 4, count_include_pad=False)
    after = images.to_image(blend, original)
    assert after.mode == "P"
    assert np.abs(samples(after.convert("RGB")) - (blend[0].permute(1, 2, 0).numpy() + 1) * 127.5).mean() < 6


@pytest.mark.parametrize(("mode", "key"), [("RGB", (10, 20, 30)), ("L", 200)])
def test_only_the_pixels_of_the_clear_colour_are_clear_again(mode, key, tmp_path):
    before = picture(mode)
    before.paste(key, (0, 0, 5, 5))
    before.info["transparency"] = key
    data = file_of(before, "PNG")
    was_clear = samples(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] == 0
    tensor, original = images.read(data)
    everywhere = torch.tensor(key).reshape(-1, 1, 1).expand_as(tensor[0]) / 255 * 2 - 1
    path = images.write(everywhere[None], original, tmp_path / "out.png")
    assert np.array_equal(samples(Image.open(path).convert("RGBA"))[..., 3] == 0, was_clear)
    assert np.array_equal(samples(through(data)), samples(before))


# --- arrays ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_an_array_comes_back_with_its_dtype_and_layout(shape, dtype):
    before = noise(*shape, dtype=dtype)
    after = images.to_array(*images.read(before))
    assert (after.dtype, after.shape) == (before.dtype, shape)
    exact = np.dtype(dtype).kind == "u"
    tolerance = 1e-3 if dtype == np.float16 else 1e-7
    assert np.array_equal(after, before) if exact else after == pytest.approx(before, abs=tolerance)


def test_a_view_with_negative_strides_is_read_and_its_source_left_alone():
    base = noise(6, 5, 4)
    copy = base.copy()
    assert np.array_equal(images.to_array(*images.read(base[::-1, ::-1])), base[::-1, ::-1])
    assert np.array_equal(base, copy)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 3), bool), "bool"),
        (np.zeros((3, 3), np.int64), "int64"),
        (np.full((3, 3), 1.5), "divide"),
        (np.full((3, 3), -0.5), "divide"),
        (np.array([[0.5, np.nan]]), "NaN"),
        (np.zeros((0, 3), np.uint8), "no pixels"),
        (np.zeros((3, 3, 2), np.uint8), "(3, 3, 2)"),
        (np.zeros(3, np.uint8), "(3,)"),
    ],
)
def test_an_array_that_is_no_picture_gets_one_sentence(array, words):
    with pytest.raises(PictureError) as error:
        images.read(array)
    assert words in sentence(error)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_float_picture_with_holes_gets_one_sentence(hole):
    with pytest.raises(PictureError, match="NaN"):
        images.read(Image.fromarray(np.array([[0.5, hole]], np.float32)))


# --- orientation and metadata ------------------------------------------------------------------------------------


def photo_with(orientation: int, *, format_name: str = "JPEG", **options) -> tuple[bytes, np.ndarray]:
    """A file whose EXIF asks for a turn, and its pixels turned so."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.Exif] = {0xA002: 37, 0xA003: 23, 0x829A: 0.5}
    data = file_of(picture("RGB"), format_name, exif=exif.tobytes(), **options)
    turns = {1: "", 2: "f", 3: "rr", 4: "frr", 5: "fr", 6: "rrr", 7: "frrr", 8: "r"}[orientation]
    opened = Image.open(io.BytesIO(data))
    pixels = samples(picture("RGB") if format_name == "TIFF" else opened.convert("RGB"))  # Pillow turns TIFFs itself
    for turn in turns:
        pixels = pixels[:, ::-1] if turn == "f" else np.rot90(pixels)
    return data, pixels


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_comes_back_upright_and_says_so(orientation, format_name, tmp_path):
    data, pixels = photo_with(orientation, format_name=format_name)
    for source in (data, Image.open(io.BytesIO(data))):
        tensor, original = images.read(source)
        after = images.to_image(tensor, original)
        assert np.array_equal(samples(after), pixels)
        assert after.getexif().get(ExifTags.Base.Orientation, 1) == 1
        path = images.write(tensor, original, tmp_path / f"out.{format_name.lower()}")
        with Image.open(path) as written:
            exif = written.getexif()
            assert written.size == pixels.shape[1::-1] == original.size
            assert exif.get(ExifTags.Base.Orientation, 1) == 1 and exif[ExifTags.Base.Make] == "Maker"
            details = exif.get_ifd(ExifTags.IFD.Exif)
            assert (details[0xA002], details[0xA003], details[0x829A]) == (*written.size, 0.5)


def test_profile_xmp_and_resolution_survive_and_the_old_thumbnail_does_not(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    bare = exif.tobytes()
    thumbnail = file_of(picture("RGB", (8, 8)), "JPEG")
    end = len(bare) - 6  # the directory of a thumbnail behind the first one
    entries = b"".join(
        tag.to_bytes(2, "big") + b"\0\4\0\0\0\1" + value.to_bytes(4, "big")
        for tag, value in ((0x201, end + 30), (0x202, len(thumbnail)))
    )
    assert bare[6:8] == b"MM"
    with_thumbnail = bare[:-4] + end.to_bytes(4, "big") + b"\0\2" + entries + b"\0" * 4 + thumbnail
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = file_of(picture("RGB"), "JPEG", exif=with_thumbnail, icc_profile=profile, xmp=xmp, dpi=(300, 300))
    assert thumbnail in data
    tensor, original = images.read(data)
    assert images.to_image(tensor, original).info["icc_profile"] == profile
    for suffix in ("jpg", "png", "tif", "webp"):
        path = images.write(tensor, original, tmp_path / f"out.{suffix}")
        assert thumbnail not in path.read_bytes()
        with Image.open(path) as written:
            written.load()
            assert written.info["icc_profile"] == profile
            assert written.info["xmp"] == xmp.replace(b'"6"', b'"1"')
            if suffix != "webp":
                assert [round(float(x)) for x in written.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_compressed_as_it_was_or_as_asked(mode, tmp_path):
    for progressive, subsampling in ((False, 0), (True, 1), (False, 2)):
        data = file_of(picture(mode), "JPEG", progressive=progressive, quality=60, subsampling=subsampling)
        tensor, original = images.read(data)
        with Image.open(io.BytesIO(data)) as before:
            with Image.open(images.write(tensor, original, tmp_path / "out.jpg")) as written:
                assert written.quantization == before.quantization
                assert mode != "RGB" or written.layer[0][1:3] == before.layer[0][1:3]
                assert bool(written.info.get("progressive")) is progressive
                assert written.mode == mode
            with Image.open(images.write(tensor, original, tmp_path / "out.jpg", quality=95)) as written:
                assert mode != "RGB" or [layer[1:3] for layer in written.layer] == [(1, 1)] * 3
                assert written.quantization[0] != before.quantization[0]


def test_a_jpeg_of_another_format_is_written_with_full_colour(tmp_path):
    tensor, original = images.read(picture("RGB"))
    with Image.open(images.write(tensor, original, tmp_path / "out.jpg")) as written:
        assert [layer[1:3] for layer in written.layer] == [(1, 1)] * 3
        assert np.abs(samples(written).astype(int) - samples(picture("RGB"))).mean() < 4


def test_further_frames_are_mentioned():
    data = file_of(picture("P"), "GIF", save_all=True, append_images=[picture("P").rotate(180)])
    tensor, original = images.read(data)
    assert original.notes == ("2 frames; only the first is restored",)
    assert np.array_equal(
        samples(images.to_image(tensor, original).convert("RGB")), samples(picture("P").convert("RGB"))
    )


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [(mode, "tif") for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I;16B")]
    + [(mode, "gif") for mode in ("L", "P")]
    + [(mode, "bmp") for mode in ("1", "L", "P", "RGB")]
    + [("RGB", "jp2"), ("RGBA", "tga"), ("RGB", "ppm"), ("1", "ppm")],
)
def test_a_file_written_without_loss_holds_the_same_samples(mode, suffix, tmp_path):
    before, first, second = picture(mode), tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    before.save(first)
    tensor, original = images.read(first)
    assert images.write(tensor, original, second) == second
    with Image.open(first) as one, Image.open(second) as two:
        assert (one.mode, one.size) == (two.mode, two.size)
        assert np.array_equal(samples(one), samples(two))
    assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "LAB", "RGBX", "P", "PA", "La", "RGBa", "LA"])
def test_a_mode_that_png_lacks_is_written_as_the_same_picture(mode, tmp_path):
    before = picture(mode)
    path = images.write(*images.read(before), tmp_path / "out.png")
    wanted = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA", "P": "P", "LA": "LA"}.get(mode, "RGB")
    with Image.open(path) as written:
        assert written.mode == wanted
        if mode != "LAB":  # Pillow's convert knows no LAB
            assert np.array_equal(samples(written.convert("RGBA")), samples(before.convert(wanted).convert("RGBA")))


@pytest.mark.parametrize(
    ("mode", "suffix", "lost"),
    [
        ("RGBA", "jpg", "transparency"),
        ("LA", "jpg", "transparency"),
        ("RGBA", "ppm", "transparency"),
        ("I;16", "jpg", "16 bits"),
        ("I;16", "webp", "16 bits"),
        ("CMYK", "png", "inks"),
        ("F", "png", "floating-point"),
        ("I", "png", "32 bits"),
        ("RGB", "gif", "colours"),
    ],
)
def test_a_format_that_would_lose_something_is_refused_by_name(mode, suffix, lost, tmp_path):
    with pytest.raises(PictureError) as error:
        images.write(*images.read(picture(mode)), tmp_path / f"out.{suffix}")
    assert lost in sentence(error) and ".tif" in sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_an_opaque_alpha_is_no_loss_to_a_jpeg(tmp_path):
    opaque = picture("RGB").convert("RGBA")
    with Image.open(images.write(*images.read(opaque), tmp_path / "out.jpg")) as written:
        assert written.mode == "RGB"


def test_an_unknown_suffix_and_an_unwritable_place_leave_nothing_behind(tmp_path):
    tensor, original = images.read(picture("RGB"))
    (tmp_path / "folder.png").mkdir()
    for target in (tmp_path / "out.xyz", tmp_path / "out", tmp_path / "none" / "out.png", tmp_path / "folder.png"):
        with pytest.raises(PictureError) as error:
            images.write(tensor, original, target)
        assert target.name in sentence(error)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def half(self, path, *args, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    tensor, original = images.read(picture("RGB"))
    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(PictureError, match="No space left"):
        images.write(tensor, original, target)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.png", b"old")]


# --- 16 bits in several channels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_colour_is_read_and_written_at_full_depth(channels, suffix, tmp_path):
    before = noise(23, 37, channels, dtype=np.uint16)
    first = deep_file(tmp_path / f"in.{suffix}", before)
    tensor, original = images.read(first)
    assert tensor.shape == (1, 3, 23, 37)
    second = images.write(tensor, original, tmp_path / f"out.{suffix}")
    assert np.array_equal(deep_samples(second), before)
    assert np.array_equal(images.to_array(*images.read(second)), before)


def deep_file(path: Path, values: np.ndarray, **options) -> Path:
    imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(values))
    else:
        grey, alpha = values.shape[-1] == 2, values.shape[-1] in (2, 4)
        options = {"photometric": "minisblack" if grey else "rgb", "planarconfig": "contig"} | options
        tifffile.imwrite(path, values, extrasamples=["unassalpha"] if alpha else None, metadata=None, **options)
    return path


def deep_samples(path: Path) -> np.ndarray:
    imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")
    return imagecodecs.png_decode(path.read_bytes()) if path.suffix == ".png" else tifffile.imread(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_sixteen_bit_tiff_turns_as_an_eight_bit_one(orientation, tmp_path):
    eight, pixels = photo_with(orientation, format_name="TIFF")
    stored = samples(picture("RGB")).astype(np.uint16) * 257
    path = deep_file(tmp_path / "in.tif", stored, extratags=[(274, 3, 1, orientation, True)])
    assert np.array_equal(images.to_array(*images.read(path)), pixels.astype(np.uint16) * 257)
    assert images.read(eight)[1].size == images.read(path)[1].size


def test_the_metadata_of_a_sixteen_bit_file_survives(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data, _ = photo_with(6, icc_profile=profile, xmp=b"<x/>", dpi=(300, 300))
    _, photo = images.read(data)
    tensor, original = images.read(deep_file(tmp_path / "in.png", noise(37, 23, 3, dtype=np.uint16)))
    original = replace(original, metadata=photo.metadata)
    for suffix in ("png", "tif"):
        path = images.write(tensor, original, tmp_path / f"out.{suffix}")
        with Image.open(path) as written:
            assert written.info["icc_profile"] == profile
            assert written.info["xmp"] == b"<x/>"
            assert [round(float(x)) for x in written.info["dpi"]] == [300, 300]
            assert written.getexif()[ExifTags.Base.Make] == "Maker"
            assert written.getexif().get_ifd(ExifTags.IFD.Exif)[0x829A] == 0.5
        assert images.read(path)[1].metadata.icc_profile == profile
        assert np.array_equal(deep_samples(path), images.to_array(tensor, original))


def test_sixteen_bit_colour_is_never_cut_to_eight(tmp_path):
    tensor, original = images.read(deep_file(tmp_path / "in.png", noise(5, 7, 3, dtype=np.uint16)))
    with pytest.raises(PictureError, match="array"):
        images.to_image(tensor, original)
    with pytest.raises(PictureError, match="16 bits"):
        images.write(tensor, original, tmp_path / "out.jpg")
    _, opened = images.read(Image.open(tmp_path / "in.png"))  # Pillow has cut it: at least say so
    assert "16 bits" in opened.notes[0]


def test_without_the_extra_packages_sixteen_bit_colour_says_what_to_install(tmp_path, monkeypatch):
    path = deep_file(tmp_path / "in.png", noise(5, 7, 3, dtype=np.uint16))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(PictureError) as error:
        images.read(path)
    assert "deblur-hub[deep]" in sentence(error)


# --- what cannot be read -----------------------------------------------------------------------------------------


def test_a_huge_header_is_refused_before_a_pixel_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(30_000, 30_000))
    monkeypatch.setattr(Image.core, "new", None)  # no memory for pixels is asked for
    monkeypatch.setattr(Image.core, "fill", None)
    with pytest.raises(PictureError) as error:
        images.read(path)
    assert sentence(error).startswith("huge.png: 30000x30000 are 900 megapixels, more than the limit of 110 (max_mega")


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_only_our_own_limit_counts(monkeypatch):
    limit = 1_000_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    before = picture("RGB", (2000, 1500))  # three times Pillow's limit, which it refuses
    assert np.array_equal(samples(through(file_of(before, "PNG"))), samples(before))
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(PictureError, match=r"limit of 2\.5"):
        images.read(before, max_megapixels=2.5)


def test_a_truncated_photo_says_where_it_ends(tmp_path):
    path = tmp_path / "photo.jpg"
    data = file_of(picture("RGB", (256, 256)), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PictureError) as error:
        images.read(path)
    words = sentence(error).split()
    assert words[:3] == ["photo.jpg:", "truncated", "after"] and 35 < int(words[3].rstrip("%")) < 60


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP", "GIF", "JPEG2000", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_of_any_format_gets_one_sentence(format_name, share):
    data = file_of(picture("RGB", (64, 64)), format_name)
    with pytest.raises(PictureError) as error:
        images.read(data[: int(len(data) * share)])
    assert sentence(error).startswith("the picture: ")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_truncated_sixteen_bit_file_gets_one_sentence(suffix, tmp_path):
    path = deep_file(tmp_path / f"in.{suffix}", noise(64, 64, 3, dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:12_000])
    with pytest.raises(PictureError, match="nothing was written"):
        images.read(path)


def test_what_is_no_picture_gets_one_sentence(tmp_path):
    text, empty = tmp_path / "text.jpg", tmp_path / "empty.jpg"
    text.write_text("I am a photo, honestly.\n" * 50)
    empty.touch()
    for source, words in (
        (text, "text.jpg: not a picture"),
        (empty, "empty.jpg: an empty file"),
        (tmp_path, "a folder"),
        (str(tmp_path / "none.jpg"), "none.jpg: no such file"),
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0\0\x10JF", "JPEG header"),
        (io.BytesIO(b"GIF89a"), "GIF header"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
    ):
        with pytest.raises(PictureError) as error:
            images.read(source)
        assert words in sentence(error)


def test_a_path_bytes_and_a_stream_give_the_same_picture(tmp_path):
    path = tmp_path / "in.png"
    picture("RGB").save(path)
    with path.open("rb") as stream:
        tensors = [images.read(source)[0] for source in (path, str(path), path.read_bytes(), stream)]
        assert not stream.closed
    assert all(torch.equal(tensor, tensors[0]) for tensor in tensors)


def test_a_deep_picture_whose_exif_follows_its_pixels_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = deep_file(tmp_path / "in.png", noise(5, 7, 3, dtype=np.uint16))
    before, data, chunk = deep_samples(path), path.read_bytes(), io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path.write_bytes(data[:-12] + chunk.getvalue() + data[-12:])  # the last chunk, IEND, is 12 bytes long
    assert np.array_equal(images.to_array(*images.read(path)), np.rot90(before, -1))


# --- old names ---------------------------------------------------------------------------------------------------


def test_old_names_work_and_say_where_they_are_now():
    from deblur_hub import image_files
    from deblur_hub import images as former

    with pytest.warns(DeprecationWarning, match=r"deblur_hub\.images\.read is now deblur_hub\.pictures\.read"):
        assert former.read is images.read
    for name, place in image_files.PLACES.items():
        with pytest.warns(DeprecationWarning, match="is now deblur_hub.pictures." + place.replace(":", ".")):
            assert getattr(image_files, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        former.nothing  # noqa: B018


# --- memory ------------------------------------------------------------------------------------------------------


def test_floats_of_a_whole_picture_exist_only_where_its_tensor_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(in_bands, "BAND_SAMPLES", 3 * 100 * 8)
    largest = 0

    def watched(original):
        def call(samples, rows, columns):
            nonlocal largest
            largest = max(largest, len(rows))
            return original(samples, rows, columns)

        return call

    monkeypatch.setattr(in_bands, "part_of", watched(in_bands.part_of))
    before = picture("RGB", (100, 90))
    tensor, original = images.read(before)
    assert largest == 8 and original.kept is None  # bands of 8 rows, and no copy of the source stays
    after = Image.open(images.write(tensor, original, tmp_path / "out.png"))
    assert np.array_equal(samples(after), samples(before))  # bands join without a seam


@pytest.mark.parametrize("length", range(1, 17))
def test_a_file_shorter_than_any_header_is_one_sentence(length, tmp_path):
    (tmp_path / "stub.jpg").write_bytes(b"x" * length)
    with pytest.raises(PictureError, match=r"stub\.jpg: not a picture that can be read"):
        images.read(tmp_path / "stub.jpg")


def test_heic_is_read_where_its_package_is_installed_and_refused_by_name_otherwise(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture("RGB", (64, 48))).save(file)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    monkeypatch.setattr(Image, "OPEN", {name: made for name, made in Image.OPEN.items() if name != "HEIF"})
    with pytest.raises(PictureError, match=r"HEIC needs another package; .*\[heif\]', or save the photo as JPEG first"):
        images.read(file.getvalue())
    monkeypatch.setitem(sys.modules, "pillow_heif", pillow_heif)
    assert images.read(file.getvalue())[1].size == (64, 48)
