"""Samples mean what their file says, and come back meaning the same: pages, depth, alpha, places, sizes."""

import io
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.cli import main
from deblur_hub.cli.jobs import plan
from deblur_hub.cli.outcomes import UsageError
from deblur_hub.errors import PictureError
from deblur_hub.pictures import read, read_pages, require_target, to_samples, upright_size, write, write_pages
from tests.conftest import TINY
from tests.pictures import file_of, noise, picture
from tests.test_exif import PREFIX, block

imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    DeblurGenerator(GeneratorConfig("compact", TINY, name="small")).save_pretrained(folder)
    return folder


def through(source: Path, target: Path) -> list[str]:
    """From file to file with nothing restored; the notes."""
    notes: list[str] = []

    def pages():
        for _, _, samples in read_pages(source, target):
            notes.extend(samples.original.notes)
            yield to_samples(samples.tensor(), samples.original), samples.original

    write_pages(pages(), target)
    return notes


# --- pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_all_pages_of_a_tiff_come_back_each_with_its_own_metadata(depth, tmp_path):
    before = [noise(20 + n, 30, 3, dtype=depth, seed=n) for n in range(3)]
    with tifffile.TiffWriter(tmp_path / "scan.tif") as writer:
        for number, samples in enumerate(before):
            writer.write(
                samples, photometric="rgb", metadata=None, description=f"page {number}", resolution=(200, 100 + number)
            )
    assert through(tmp_path / "scan.tif", tmp_path / "out.tif") == []
    with tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert len(after.pages) == 3
        for number, page in enumerate(after.pages):
            assert np.array_equal(page.asarray(), before[number])
            assert page.tags[270].value == f"page {number}" and page.tags[283].value == (100 + number, 1)
    assert through(tmp_path / "scan.tif", tmp_path / "out.png") == [
        "3 pages; only the first is restored (write .tif for all)"
    ]
    assert read(tmp_path / "scan.tif")[1].notes == ("3 pages; only the first is restored",)


def test_the_photograph_of_a_tiff_is_taken_and_not_its_thumbnail(tmp_path):
    samples = noise(40, 60, 3)
    with tifffile.TiffWriter(tmp_path / "photo.tif") as writer:
        writer.write(samples[::8, ::8].copy(), photometric="rgb", subfiletype=1)
        writer.write(samples, photometric="rgb")
    through(tmp_path / "photo.tif", tmp_path / "out.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), samples)
    assert upright_size(tmp_path / "photo.tif") == (60, 40)


def test_a_tiff_that_holds_small_versions_alone_is_refused_where_the_picture_is_elsewhere(tmp_path):
    small = {"photometric": "rgb", "subfiletype": 1, "metadata": None}
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(noise(10, 15, 3), **small, subifds=1)
        writer.write(noise(40, 60, dtype=np.uint16), metadata=None)
    with pytest.raises(PictureError, match="small versions of a picture that is not read here"):
        read(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "alone.tif", noise(10, 15, 3), **small)
    assert read(tmp_path / "alone.tif")[1].size == (15, 10)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_turned_tiff_has_the_size_that_it_is_shown_in(depth, tmp_path):
    for turn in (1, 3, 6, 8):
        tifffile.imwrite(
            tmp_path / "x.tif", noise(20, 30, 3, dtype=depth), photometric="rgb", extratags=[(274, 3, 1, turn, True)]
        )
        assert (
            upright_size(tmp_path / "x.tif") == read(tmp_path / "x.tif")[1].size == ((20, 30) if turn > 4 else (30, 20))
        )


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_damaged_entry_of_a_tiff_is_left_out_and_named(depth, tmp_path):
    samples = noise(20, 30, 3, dtype=depth)
    tags = [(65000, 4, 3, (1, 2, 3), True), (65001, 4, 3, (4, 5, 6), True)]
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric="rgb", metadata=None, extratags=tags)
    data = bytearray((tmp_path / "x.tif").read_bytes())
    place = data.index(struct.pack("<HH", 65000, 4))
    data[place + 8 : place + 12] = struct.pack("<I", 0xFFFFFF0)  # far outside of the file
    (tmp_path / "x.tif").write_bytes(data)
    assert through(tmp_path / "x.tif", tmp_path / "out.tif") == ["its TIFF tags 65000 are damaged and were left out"]
    with tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert np.array_equal(after.asarray(), samples)
        assert after.pages[0].tags[65001].value == (4, 5, 6) and 65000 not in after.pages[0].tags


# --- samples -----------------------------------------------------------------------------------------------------


def test_associated_alpha_of_16_bits_is_divided_out(tmp_path):
    colours, alpha = noise(23, 37, 3, dtype=np.uint16), noise(23, 37, 1, dtype=np.uint16) | 0x8000
    multiplied = np.rint(colours * (alpha / 65535)).astype(np.uint16)
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    through(path, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as after:
        samples = after.asarray().astype(int)
        assert after.pages[0].extrasamples == (2,)  # unassociated
    assert np.array_equal(samples[..., 3:], alpha) and np.abs(samples[..., :3] - colours).max() <= 1


@pytest.mark.parametrize(("bits", "kind"), [(10, "L"), (12, "L"), (14, "L"), (12, "RGB"), (8, "L")])
def test_fewer_bits_in_16_are_restored_in_their_own_range(bits, kind, tmp_path):
    top = (1 << bits) - 1
    samples = noise(23, 37, *((3,) if kind == "RGB" else ()), dtype=np.uint16) >> (16 - bits)
    samples[0, 0] = top
    path = tmp_path / "x.png"
    path.write_bytes(imagecodecs.png_encode(samples))
    tensor, original = read(path)
    assert original.notes == (f"samples up to {top} of 65535; restored as {bits}-bit ones",)
    assert tensor.max() == 1 and torch.allclose(tensor[0, 0], torch.from_numpy(samples / top * 2 - 1).float()[..., 0] if
        kind == "RGB" else torch.from_numpy(samples / top * 2 - 1).float(), atol=1e-6)  # fmt: skip
    through(path, tmp_path / "out.png")
    assert np.array_equal(imagecodecs.png_decode((tmp_path / "out.png").read_bytes()), samples)


def test_a_picture_of_16_bits_has_no_note(tmp_path):
    assert read(file_of(picture("I;16"), "PNG"))[1].notes == ()


def test_what_a_tiff_says_of_its_brightest_sample_is_believed(tmp_path):
    samples = noise(23, 37, dtype=np.uint16) >> 8
    tifffile.imwrite(tmp_path / "x.tif", samples, metadata=None, extratags=[(281, 3, 1, 1023, True)])
    assert read(tmp_path / "x.tif")[1].span == (0, 1023)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_grey_tiff_whose_zero_is_white_is_read_as_it_looks(depth, tmp_path):
    samples = noise(23, 37, dtype=depth)
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric="miniswhite", metadata=None)
    tensor, _ = read(tmp_path / "x.tif")
    shown = 1 - samples / np.iinfo(depth).max
    assert torch.allclose((tensor[0, 0] + 1) / 2, torch.from_numpy(shown).float(), atol=1e-5)


def test_whole_numbers_of_32_bits_are_read_right_or_refused(tmp_path):
    samples = noise(23, 37, dtype=np.uint32)
    tifffile.imwrite(tmp_path / "large.tif", samples | 0x80000000, metadata=None)
    with pytest.raises(PictureError, match="whole numbers above 2147483647"):
        read(tmp_path / "large.tif")
    tifffile.imwrite(tmp_path / "small.tif", samples >> 8, metadata=None)
    through(tmp_path / "small.tif", tmp_path / "out.tif")
    assert np.abs(tifffile.imread(tmp_path / "out.tif").astype(np.int64) - (samples >> 8)).max() <= 1


def test_bytes_that_may_be_negative_are_read_as_such(tmp_path):
    samples = noise(23, 37).view(np.int8)
    tifffile.imwrite(tmp_path / "x.tif", samples, metadata=None)
    tensor, original = read(tmp_path / "x.tif")
    assert original.span == (-128, 127) and torch.allclose(
        tensor[0, 0], torch.from_numpy((samples + 128.0) / 127.5 - 1).float()
    )
    through(tmp_path / "x.tif", tmp_path / "out.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), samples)


@pytest.mark.parametrize(
    ("dtype", "channels", "kind"),
    [(np.int16, 3, "3 x 16 signed bits"), (np.uint64, 1, "1 x 64 bits"), (np.float32, 6, "6 x 32 floating-point bits")],
)
def test_a_tiff_of_samples_that_are_not_read_is_named_as_what_it_is(dtype, channels, kind, tmp_path):
    samples = np.zeros((8, 9, channels)[: 2 + (channels > 1)], dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric=photometric, planarconfig="contig")
    with pytest.raises(PictureError, match=f"a TIFF of {kind}.*not read here; save it as RGB of 8 or 16 bits"):
        read(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (np.uint8, {"byteorder": ">", "bigtiff": True}),
        (np.uint8, {"compression": "jpeg2000"}),
        (np.float16, {}),
        (np.float32, {"compression": "zlib", "predictor": True}),
        (np.float64, {"planarconfig": "separate"}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiffs_that_pillow_does_not_read_come_back(dtype, layout, channels, tmp_path):
    samples = noise(23, 37, *((3,) if channels == 3 else ()), dtype=dtype)
    samples = samples * dtype(3.5) if samples.dtype.kind == "f" else samples  # brighter than white, as HDR pictures are
    stored = np.moveaxis(samples, -1, 0) if channels == 3 and "planarconfig" in layout else samples
    layout = layout if channels == 3 else {name: value for name, value in layout.items() if name != "planarconfig"}
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=photometric, metadata=None, **layout)
    assert through(tmp_path / "x.tif", tmp_path / "out.tif") == []
    after = tifffile.imread(tmp_path / "out.tif")
    if dtype == np.uint8:
        assert np.array_equal(after, samples)
        return
    assert after.dtype.kind == "f" and np.abs(after - samples).max() < 1e-3 * samples.max()
    samples[3, 5] = np.inf
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric=photometric)
    with pytest.raises(PictureError, match="NaN or infinite"):
        read(tmp_path / "x.tif")


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_of_luma_and_chroma_is_read_in_its_colours(compression, tmp_path):
    photo = picture("RGB").resize((64, 48), Image.Resampling.BICUBIC)
    photo.convert("YCbCr").save(tmp_path / "x.tif", compression=compression)
    exif = Image.Exif()
    exif[274] = 6
    photo.convert("YCbCr").save(tmp_path / "turned.tif", compression=compression, exif=exif)
    for name, expected in (("x.tif", photo), ("turned.tif", photo.rotate(-90, expand=True))):
        assert through(tmp_path / name, tmp_path / "out.png") == []
        after = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
        assert np.abs(after - np.asarray(expected)).max() <= 3


def test_channels_that_are_not_restored_are_counted(tmp_path):
    extra = {"photometric": "rgb", "extrasamples": ["unassalpha", "unspecified", "unspecified"]}
    tifffile.imwrite(tmp_path / "x.tif", noise(23, 37, 6), **extra)
    assert read(tmp_path / "x.tif")[1].notes == ("2 further channels; not restored",)


@pytest.mark.parametrize("bits", [12, 16])
def test_the_white_of_a_deep_jpeg_2000_stays_white(bits, tmp_path):
    samples = noise(40, 50, 3, dtype=np.uint16) >> (16 - bits)
    samples[:8], samples[8:16] = (1 << bits) - 1, 0
    (tmp_path / "x.jp2").write_bytes(imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits))
    assert through(tmp_path / "x.jp2", tmp_path / "out.png") == []
    after = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    assert np.array_equal(after, samples.astype(int) * 65535 // ((1 << bits) - 1)) and after[0, 0, 0] == 65535
    with pytest.raises(PictureError, match=rf"\.jp2 would lose its {bits} bits a channel"):
        through(tmp_path / "x.jp2", tmp_path / "out.jp2")


def test_a_transparent_colour_of_16_bits_becomes_alpha(tmp_path):
    samples = noise(23, 37, 3, dtype=np.uint16)
    data = imagecodecs.png_encode(samples)
    contents = struct.pack(">3H", *samples[5, 7])
    key = struct.pack(">I", 6) + b"tRNS" + contents + struct.pack(">I", zlib.crc32(b"tRNS" + contents))
    (tmp_path / "x.png").write_bytes(data[:33] + key + data[33:])
    through(tmp_path / "x.png", tmp_path / "out.png")
    after = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    assert after.shape == (23, 37, 4) and after[5, 7, 3] == 0 and (after[..., 3] == 0).sum() == 1
    assert np.array_equal(after[..., :3], samples)


def test_a_lossless_webp_stays_one(tmp_path):
    for lossless in (True, False):
        (tmp_path / "x.webp").write_bytes(file_of(picture("RGB"), "WEBP", lossless=lossless, exif=PREFIX + block()))
        through(tmp_path / "x.webp", tmp_path / "out.webp")
        assert (b"VP8L" in (tmp_path / "out.webp").read_bytes()) is lossless
    through(tmp_path / "x.webp", tmp_path / "out.webp")


def test_a_tiff_without_a_resolution_gets_none(tmp_path):
    for mode in ("RGB", "I;16"):
        (tmp_path / "x.tif").write_bytes(file_of(picture(mode), "TIFF"))
        through(tmp_path / "x.tif", tmp_path / "out.tif")
        with tifffile.TiffFile(tmp_path / "out.tif") as after:
            assert not {282, 283, 296} & {tag.code for tag in after.pages[0].tags}
    tifffile.imwrite(tmp_path / "deep.tif", noise(23, 37, 3, dtype=np.uint16), photometric="rgb", metadata=None)
    tensor, original = read(tmp_path / "deep.tif")
    bare = replace(original, metadata=replace(original.metadata, entries=()))
    write(tensor, bare, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert not {282, 283, 296} & {tag.code for tag in after.pages[0].tags}


@pytest.mark.parametrize(("suffix", "lacking"), [("jp2", 2), ("png", 16), ("png", 14)])
def test_a_file_that_lacks_nothing_but_its_end_is_restored_and_that_is_said(suffix, lacking, tmp_path):
    picture("RGB").save(tmp_path / f"x.{suffix}")
    whole = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[:-lacking])
    note = "the end of the file is missing; all of the picture was there"
    assert through(tmp_path / f"cut.{suffix}", tmp_path / "out.tif") == [note]
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "out.tif")), np.asarray(Image.open(tmp_path / f"x.{suffix}"))
    )
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match="nothing was written"):
        read(tmp_path / f"cut.{suffix}")


def test_a_bitmap_of_16_bits_a_pixel_is_not_called_deep_and_dib_is_written(tmp_path):
    masks, rows = struct.pack("<3I", 0xF800, 0x7E0, 0x1F), noise(8, 16, dtype=np.uint16).tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, 16, 8, 1, 16, 3, len(rows), 0, 0, 0, 0)
    (tmp_path / "x.dib").write_bytes(header + masks + rows)
    assert through(tmp_path / "x.dib", tmp_path / "out.dib") == []
    before, after = (np.asarray(Image.open(tmp_path / name)) for name in ("x.dib", "out.dib"))
    assert np.array_equal(before, after)


def test_what_is_too_long_for_a_jpeg_is_left_out_and_said(tmp_path):
    long = Image.Exif()
    long[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: bytes(70_000)}
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>" + " " * 70_000)
    (tmp_path / "x.png").write_bytes(file_of(picture("RGB"), "PNG", exif=long.tobytes(), pnginfo=texts))
    assert through(tmp_path / "x.png", tmp_path / "out.jpg") == [
        "left out, as .jpg has no place for it: its EXIF, of more than 65533 bytes, its XMP, of more than 65504 bytes"
    ]
    assert not {"exif", "xmp"} & Image.open(tmp_path / "out.jpg").info.keys()
    assert through(tmp_path / "x.png", tmp_path / "out.tif") == []


def test_long_blocks_of_photoshops_go_from_a_tiff_into_several_segments(tmp_path):
    blocks = b"8BIM\x04\x25\0\0" + struct.pack(">I", 150_000) + bytes(150_000)
    tags = [(34377, 7, len(blocks), blocks, True)]
    tifffile.imwrite(tmp_path / "x.tif", noise(20, 30, 3), photometric="rgb", metadata=None, extratags=tags)
    assert through(tmp_path / "x.tif", tmp_path / "out.jpg") == []
    through(tmp_path / "out.jpg", tmp_path / "back.tif")
    with tifffile.TiffFile(tmp_path / "back.tif") as after:
        assert after.pages[0].tags[34377].value == blocks


def test_a_profile_of_other_samples_is_left_out_and_said(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "x.jpg").write_bytes(file_of(picture("L"), "JPEG", icc_profile=profile))
    note = "its colour profile does not describe such samples and was left out"
    assert through(tmp_path / "x.jpg", tmp_path / "out.jpg") == [note]
    assert through(tmp_path / "x.jpg", tmp_path / "out.webp") == []  # in which it is a colour picture
    assert Image.open(tmp_path / "out.webp").info["icc_profile"] == profile


def test_the_comment_of_a_gif_is_kept(tmp_path):
    (tmp_path / "x.gif").write_bytes(file_of(picture("P"), "GIF", comment=b"Grandma 1956"))
    assert through(tmp_path / "x.gif", tmp_path / "out.gif") == []
    assert Image.open(tmp_path / "out.gif").info["comment"] == b"Grandma 1956"
    assert "its comment" in through(tmp_path / "x.gif", tmp_path / "out.png")[0]


def test_a_jpeg_of_an_uncommon_subsampling_loses_no_colour(tmp_path):
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255  # whose colours change from column to column
    (tmp_path / "x.jpg").write_bytes(imagecodecs.jpeg8_encode(stripes, level=95, subsampling="440"))
    through(tmp_path / "x.jpg", tmp_path / "out.jpg")
    before, after = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("x.jpg", "out.jpg"))
    assert np.abs(before - after).max() < 20


# --- files and folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix", "words"),
    [
        ("RGBA", "jpg", "would lose its transparency"),
        ("RGBA", "bmp", "would lose its transparency"),
        ("CMYK", "png", "would lose its four inks"),
        ("F", "png", "would lose its floating-point values"),
        ("I;16", "webp", "would lose its 16 bits"),
        ("RGB", "jxl", "are not written as '.jxl'"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_picture_is_restored(mode, suffix, words, model, tmp_path):
    source = tmp_path / ("x.tif" if mode in ("CMYK", "F") else "x.png")
    picture(mode).save(source)
    generator = DeblurGenerator.from_pretrained(model, device="cpu")
    generator.network.forward = None  # whoever restores fails
    with pytest.raises(PictureError, match=words):
        generator.deblur_file(source, tmp_path / f"out.{suffix}")
    assert not (tmp_path / f"out.{suffix}").exists()


def test_a_format_that_holds_no_picture_so_large_is_refused():
    original = replace(read(picture("RGB"))[1], size=(20_000, 3))
    require_target(original, Path("x.png"))
    with pytest.raises(PictureError, match=r"20000x3, but \.webp holds 16383 pixels a side"):
        require_target(original, Path("x.webp"))


def test_places_and_all_metadata_can_be_left_out(model, tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description exif:GPSLatitude="48,8N" dc:title="Pier"/></x:xmpmeta>'
    data = file_of(picture("RGB"), "JPEG", exif=PREFIX + block(), xmp=xmp, comment=b"Grandma", icc_profile=b"colours")
    (tmp_path / "x.jpg").write_bytes(data)
    typed = ["deblur", "-q", str(tmp_path / "x.jpg"), "--model", str(model), "--overwrite"]
    for switch, kept, gone in (
        ("--strip-gps", [b"Pier", b"CAMERA", b"Grandma", b"colours"], [b"GPS"]),
        ("--strip-metadata", [b"colours"], [b"Pier", b"CAMERA", b"Grandma", b"Exif"]),
    ):
        assert main([*typed, switch]) == 0
        after = (tmp_path / "x-deblurred.jpg").read_bytes()
        assert all(part in after for part in kept) and not any(part in after for part in gone)
        with Image.open(io.BytesIO(after)) as image:
            assert image.getexif().get_ifd(0x8825) == {}


def test_a_plan_names_what_cannot_be_done_and_does_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "sub/a.jpg", "b.jpg", "noext", "x" * 246 + ".jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"x")
    os.mkfifo("pipe.jpg")
    Path("folder.jpg").mkdir()
    made = plan(
        [Path("noext"), Path("b.jpg"), Path("b.jpg"), Path("x" * 246 + ".jpg"), Path("y" * 300)], None, None, False
    )
    assert [source.name for source, _ in made.jobs] == ["b.jpg"]
    told = [str(mistake) for mistake in made.mistakes]
    assert any("has no suffix" in text for text in told) and any("name is too long" in text for text in told)
    assert len(told) == 3
    made = plan([Path("a.jpg"), Path("sub/a.jpg"), Path()], Path("out"), None, False)
    assert {str(target) for _, target in made.jobs} == {"out/b.jpg", f"out/{'x' * 246}.jpg"}  # no pipe, no folder
    assert ["both be written to out/a.jpg" in str(mistake) for mistake in made.mistakes] == [True, True]


@pytest.mark.parametrize("name", ["sharp.avif", "sharp.jp2", "sharp.gif", "sharp.ppm", "sharp.tga", "sharp.jfif"])
def test_the_suffix_of_a_format_that_is_written_names_a_file(name, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    made = plan([tmp_path / "a.jpg"], tmp_path / name, None, False)
    assert made.jobs == [(tmp_path / "a.jpg", tmp_path / name)]


def test_the_suffix_of_a_format_that_is_not_written_is_a_sentence_and_any_other_a_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    for name in ("sharp.jxl", "sharp.psd", "sharp.dng"):
        with pytest.raises(UsageError, match="pictures are not written as"):
            plan([tmp_path / "a.jpg"], tmp_path / name, None, False)
    made = plan([tmp_path / "a.jpg"], tmp_path / "holiday.2024", None, False)
    assert made.jobs == [(tmp_path / "a.jpg", tmp_path / "holiday.2024" / "a.jpg")]


def test_links_and_results_of_earlier_runs_in_a_folder_are_restored_or_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.jpg", "in/old/a.jpg", "in/old/b.jpg", "elsewhere/c.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("in/there").symlink_to("../elsewhere")
    Path("elsewhere/back").symlink_to("../in")
    Path("in/gone.jpg").symlink_to("nowhere.jpg")
    Path("in/loop.jpg").symlink_to("loop.jpg")
    made = plan([Path("in")], Path("out"), None, False)
    assert {str(target) for _, target in made.jobs} == {
        "out/a.jpg",
        "out/old/a.jpg",
        "out/old/b.jpg",
        "out/there/c.jpg",
    }
    assert [str(mistake).split(":")[0] for mistake in made.mistakes] == ["in/gone.jpg", "in/loop.jpg"]
    assert made.twins == [Path("in/old/a.jpg")] and "named like others further up" in "".join(made.notes())


def test_formats_that_are_read_and_not_written_are_restored_from_folders_into_another(tmp_path):
    picture("RGB").save(tmp_path / "x.pcx")
    (tmp_path / "y.pam").write_bytes(b"P7")
    made = plan([tmp_path], tmp_path / "out", None, False)
    assert not made.jobs and [note.partition(",")[2] for note in made.notes()] == [
        " not read here (convert them to JPEG or PNG first): y.pam",
        " not written here (--format jpg restores them): x.pcx",
    ]
    made = plan([tmp_path], tmp_path / "out", "jpg", False)
    assert made.jobs == [(tmp_path / "x.pcx", tmp_path / "out" / "x.jpg")] and made.passed_over == [tmp_path / "y.pam"]


def test_no_name_of_a_file_commands_the_terminal(model, tmp_path, capsys):
    for name in ("a\n\x1b[31m.png", "b\x1b[31m.png"):
        picture("RGB").save(tmp_path / name)
    (tmp_path / "b\x1b[31m.png").write_bytes(b"")
    main(["deblur", "-q", *map(str, sorted(tmp_path.glob("*.png"))), "--model", str(model)])
    main(["deblur", "-q", str(tmp_path / "a\n\x1b[31m.png"), "--model", str(model)])
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and "a\\n\\x1b[31m-deblurred.png" in told.out


def test_an_error_that_nobody_thought_of_costs_its_photo_alone(model, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        picture("RGB").save(tmp_path / name)
    whole = DeblurGenerator.file_steps

    def failing(self, **options):
        def read(source, target):
            if source.name == "a.png":
                raise ZeroDivisionError("of ours")
            return steps.read(source, target)

        steps = whole(self, **options)
        return steps._replace(read=read)

    monkeypatch.setattr(DeblurGenerator, "file_steps", failing)
    typed = ["deblur", "-q", str(tmp_path), "-o", str(tmp_path / "out"), "--model", str(model)]
    assert main(typed) == 1
    told = capsys.readouterr().err
    assert "a.png: cannot be restored (ZeroDivisionError: of ours); --debug shows" in told and "Traceback" not in told
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["b.png"]
    assert main([*typed, "--debug", "--overwrite"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_a_console_without_the_letters_of_a_name_is_no_error(model, tmp_path):
    picture("RGB").save(tmp_path / "夏.png")
    done = subprocess.run(
        [sys.executable, "-m", "deblur_hub.cli", "deblur", "-q", "夏.png", "--model", str(model)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"") and b"\\u590f-deblurred.png" in done.stdout
