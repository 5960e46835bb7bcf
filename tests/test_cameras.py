"""Files of cameras: read with all their bits, developed to known colours, written back, refused by name."""

import io
import struct
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("imagecodecs")
pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")
pytest.importorskip("rawpy")

import imagecodecs
import pillow_heif
import tifffile

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.cli import main
from deblur_hub.cli.jobs import plan
from deblur_hub.errors import PictureError
from deblur_hub.pictures import Metadata, heif, read, require_target, to_array, upright_size, write
from deblur_hub.pictures import raw as raw_files
from deblur_hub.pictures.exif import PREFIX
from tests import camera_files
from tests.conftest import TINY
from tests.pictures import file_of, picture
from tests.test_exif import MAKER, block


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light as sRGB."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# --- camera raw --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("colour", [(0.25, 0.5, 0.125), (0.9, 0.05, 0.3), (0.18, 0.18, 0.18)])
@pytest.mark.parametrize("preview", [False, True])
def test_camera_raw_is_developed_to_the_colours_that_the_sensor_saw(turn, colour, preview, tmp_path):
    path = tmp_path / "x.dng"
    path.write_bytes(camera_files.dng(turn, colour=colour, preview=preview))
    tensor, original = read(path)
    assert original.size == upright_size(path) == ((64, 96) if turn in (6, 8) else (96, 64))
    for place, light in ((20, 1), (75, 0.25)):  # columns of the sensor
        row, column = {1: (32, place), 3: (32, 95 - place), 6: (place, 32), 8: (95 - place, 32)}[turn]
        seen = (tensor[0, :, row, column].numpy() + 1) / 2
        assert np.abs(seen - encoded(np.array(colour) * light)).max() < 2e-3
    write(tensor, original, tmp_path / "x.tif")
    with tifffile.TiffFile(tmp_path / "x.tif") as after:
        assert after.pages[0].dtype == np.uint16 and np.array_equal(after.asarray(), to_array(tensor, original))
        assert after.pages[0].tags[315].value.encode() == "Jürgen".encode() and 274 not in after.pages[0].tags
        assert after.pages[0].tags[34665].value["ISOSpeedRatings"] == 400
        assert "MakerNote" not in after.pages[0].tags[34665].value


def test_the_exif_of_raw_that_is_no_tiff_is_that_of_its_preview(monkeypatch):
    data = camera_files.dng(6, preview=True)  # stands for CR3, RAF and others, which nobody here can make
    monkeypatch.setattr(raw_files, "is_tiff", lambda start: False)
    _, original = read(data)
    kept = Image.Exif()
    kept.load(original.metadata.exif)
    assert kept.get_ifd(0x8769)[0x8827] == 400 and kept[315].encode("latin-1") == "Jürgen".encode()
    assert original.size == (64, 96) and kept[274] == 1
    assert read(camera_files.dng())[1].metadata.exif is None  # without a preview


@pytest.mark.parametrize("cut", [30, 100, 400, 3000, -2000])
def test_camera_raw_that_is_cut_short_is_one_sentence(cut, tmp_path):
    (tmp_path / "x.dng").write_bytes(camera_files.dng()[:cut])
    with pytest.raises(PictureError, match=r"^x\.dng: .*; nothing was written$"):
        read(tmp_path / "x.dng")


def test_damaged_camera_raw_is_read_or_refused_and_nothing_else(tmp_path):
    whole, random = camera_files.dng(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(0, 1500, 4):
            data[-place if place % 2 else place] = random.integers(256)
        (tmp_path / "x.dng").write_bytes(data)
        try:
            read(tmp_path / "x.dng", max_megapixels=1)
        except PictureError as error:
            assert "\n" not in str(error)


def test_the_size_of_camera_raw_and_jpeg_xl_is_checked_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(raw_files, "decode", None)
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", None)
    for data in (camera_files.dng(), camera_files.jxl()):
        with pytest.raises(PictureError, match=r"96x64 are 0 megapixels, more than the limit"):
            read(data, max_megapixels=0.001)


# --- HEIC and AVIF -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [camera_files.heic, camera_files.avif])
@pytest.mark.parametrize("bits", [10, 12])
def test_all_bits_of_heic_and_avif_are_read_and_written(made, bits, tmp_path):
    top, before = (1 << bits) - 1, camera_files.ramp(bits, 4).astype(int)
    suffix = made.__name__
    (tmp_path / f"x.{suffix}").write_bytes(made(bits, alpha=True))
    tensor, original = read(tmp_path / f"x.{suffix}")
    assert (original.bits, original.channels) == (bits, "RGBA")
    stored = to_array(tensor, original) * (top / 65535)
    assert np.abs(stored - before).max() < (0.6 if suffix == "avif" else 4 * top / 1023)  # x265 is never lossless here
    write(tensor, original, tmp_path / f"out.{suffix}", quality=100)
    again = read(tmp_path / f"out.{suffix}")[1]
    assert (again.bits, again.channels, again.size) == (bits, "RGBA", original.size)
    with pytest.raises(PictureError, match=rf"would lose its {bits} bits a channel; write \.png or \.tif"):
        require_target(original, tmp_path / "out.jpg")


def test_an_avif_of_10_bits_is_what_other_readers_read(tmp_path):
    tensor, original = read(camera_files.heic(10))
    write(tensor, original, tmp_path / "x.avif", quality=100)
    data = (tmp_path / "x.avif").read_bytes()
    assert np.array_equal(imagecodecs.avif_decode(data), np.rint(to_array(tensor, original) * (1023 / 65535)))
    with Image.open(tmp_path / "x.avif") as shown:  # of which Pillow reads 8
        assert np.abs(np.asarray(shown).astype(int) - to_array(tensor, original) / 257).max() <= 1
        assert shown.info["icc_profile"] == camera_files.PROFILE and shown.info["xmp"] == camera_files.XMP


def test_what_else_lies_in_a_heic_is_named():
    assert read(camera_files.heic())[1].notes == ()
    for further, note in (
        ("picture", "2 pictures; only the main one is restored"),
        ("depth", "its depth map is not restored, and was left out"),
    ):
        assert read(camera_files.heic(further=further))[1].notes == (note,)
    before, _, behind = camera_files.heic(further="picture").rpartition(b"hvc1")  # what the second one is
    assert read(before + b"tmap" + behind)[1].notes == ("its gain map is not restored, and was left out",)
    mask = camera_files.heic(further="depth").replace(b"auxid:2", b"auxid:9")
    assert "its masks are not restored" in read(mask)[1].notes[0]


def test_the_main_picture_of_several_is_restored_whichever_it_is():
    made = pillow_heif.HeifFile()
    for level in (10, 200):
        made.add_from_pillow(Image.new("RGB", (64, 64), (level,) * 3))
    for primary, level in ((0, 10), (1, 200)):
        file = io.BytesIO()
        made.save(file, primary_index=primary)
        assert abs(read(file.getvalue())[0].mean() - (level / 127.5 - 1)) < 0.05


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_by_name(transfer, name):
    heic = file_of(picture("RGB"), "HEIF", color_primaries=9, transfer_characteristics=transfer)
    avif = imagecodecs.avif_encode(camera_files.ramp(10), bitspersample=10, primaries=9, transfer=transfer)
    for data in (heic, avif):
        with pytest.raises(PictureError, match=rf"is HDR \({name}\), which the models do not know"):
            read(data)


def test_colours_that_have_a_name_and_no_profile_keep_it(tmp_path):
    pillow_heif.register_heif_opener()
    data = file_of(picture("RGB"), "HEIF", color_primaries=9, transfer_characteristics=14)
    tensor, original = read(data)
    named = (b"cICP", bytes((9, 14, 0, 1)))
    assert named in original.metadata.chunks
    for suffix in ("heic", "avif", "png"):
        write(tensor, original, tmp_path / f"x.{suffix}")
        assert named in read(tmp_path / f"x.{suffix}")[1].metadata.chunks
        assert original.metadata.left_out({"heic": "HEIF"}.get(suffix, suffix.upper())) == ()
    assert original.metadata.left_out("JPEG") == ("what its cICP said of its colours",)


def test_a_heic_larger_than_one_frame_of_its_codec_is_written_in_tiles(monkeypatch, tmp_path):
    monkeypatch.setattr(heif, "MOST_WHOLE", 600)  # of 8192
    for photo in (camera_files.ramp(8), (camera_files.ramp(10).astype(int) * 65535 // 1023).astype(np.uint16)):
        tensor, original = read(np.tile(photo, (2, 7, 1)))
        metadata = Metadata(camera_files.PROFILE, camera_files.exif(), camera_files.XMP)
        original = replace(original, kind="file", bits=10, metadata=metadata)
        write(tensor, original, tmp_path / "x.heic")
        after, again = read(tmp_path / "x.heic")
        assert after.shape == tensor.shape and (after - tensor).abs().mean() < 0.02
        assert again.bits == (10 if photo.dtype == np.uint16 else 16) and again.notes == ()
        assert (again.metadata.icc_profile, again.metadata.xmp) == (camera_files.PROFILE, camera_files.XMP)
    assert pillow_heif.open_heif(tmp_path / "x.heic").info["tiling"]["num_columns"] == 2


def test_maker_notes_and_any_encoding_survive_an_avif(tmp_path):
    (tmp_path / "x.jpg").write_bytes(file_of(picture("RGB"), "JPEG", exif=PREFIX + block()))  # with an orientation
    tensor, original = read(tmp_path / "x.jpg")
    write(tensor, original, tmp_path / "x.avif")
    kept = Image.open(tmp_path / "x.avif").info["exif"]
    assert MAKER in kept and kept[-160:] == original.metadata.exif[-160:]


def test_cut_and_damaged_heic_and_avif_are_one_sentence(tmp_path):
    random = np.random.default_rng(0)
    for suffix, whole in (("heic", camera_files.heic(10)), ("avif", camera_files.avif(10))):
        for cut in (12, 60, 300, len(whole) // 2):
            (tmp_path / f"x.{suffix}").write_bytes(whole[:cut])
            with pytest.raises(PictureError):
                read(tmp_path / f"x.{suffix}")
        for _ in range(40):
            data = bytearray(whole)
            for place in random.integers(0, 1500, 4):
                data[place] = random.integers(256)
            (tmp_path / f"x.{suffix}").write_bytes(data)
            try:
                read(tmp_path / f"x.{suffix}", max_megapixels=1)
            except PictureError as error:
                assert "Traceback" not in str(error)


def test_a_table_of_boxes_that_claims_much_takes_no_time():
    for count in (0xFFFFFFFF, 0x7FFFFFFF):
        table = bytes(3) + b"\0" + struct.pack(">I", count) + bytes(64)
        inner = lambda kind, contents: struct.pack(">I4s", len(contents) + 8, kind) + contents  # noqa: E731
        parts = inner(b"pitm", bytes(4) + b"\0\1") + inner(b"iprp", inner(b"ipco", b"") + inner(b"ipma", table))
        data = inner(b"ftyp", b"heic" + bytes(4)) + inner(b"meta", bytes(4) + parts)
        began = time.perf_counter()
        with pytest.raises(PictureError):
            read(data)
        assert time.perf_counter() - began < 1


# --- JPEG, MPO, JPEG XL ------------------------------------------------------------------------------------------


def test_a_gain_map_goes_with_all_that_speaks_of_it(tmp_path):
    data = camera_files.gain_map_jpeg()
    tensor, original = read(data)
    assert "its gain map is not restored, and was left out" in original.notes
    assert np.array_equal(to_array(tensor, original), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    write(tensor, original, tmp_path / "x.jpg")
    after = (tmp_path / "x.jpg").read_bytes()
    assert not any(part in after for part in (b"21496", b"MPF\0", b"hdrgm"))
    assert Image.open(tmp_path / "x.jpg").format == "JPEG"  # one picture, with nothing behind it


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 23), (256, 256), (400, 300), (640, 360), (9, 1100), (5000, 2)])
@pytest.mark.parametrize("container", [False, True])
def test_the_header_of_a_jpeg_xl_says_its_size(size, container):
    data = imagecodecs.jpegxl_encode(np.zeros((size[1], size[0], 3), np.uint8), usecontainer=container)
    assert upright_size(bytes(data)) == size


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_jpeg_xl_is_turned_once(turn):
    upright = read(file_of(Image.fromarray(camera_files.ramp(8)), "JPEG", exif=camera_files.exif(turn), quality=95))
    data = camera_files.packed_jpeg(turn)
    tensor, original = read(data)
    assert original.size == upright_size(data) == upright[1].size
    assert (tensor - upright[0]).abs().max() < 0.05


@pytest.mark.parametrize("bits", [8, 16])
def test_all_bits_of_a_jpeg_xl_are_read(bits, tmp_path):
    for alpha in (False, True):
        tensor, original = read(camera_files.jxl(bits, alpha=alpha))
        assert np.array_equal(to_array(tensor, original), camera_files.ramp(bits, 4 if alpha else 3))
    whole = camera_files.jxl(bits)
    for cut in (16, 45, 60, len(whole) // 3):
        with pytest.raises(PictureError, match="nothing was written"):
            read(whole[:cut])
    with pytest.raises(PictureError, match=r"not written as '\.jxl'"):
        require_target(original, tmp_path / "x.jxl")


def test_hdr_in_a_jpeg_xl_is_refused_by_name():
    profile = read(camera_files.jxl())[1].metadata.icc_profile
    assert profile.count(b"cicp\0\0\0\0\x01\x0d") == 1  # primaries and transfer of sRGB, in libjxl's own profile
    assert read(camera_files.packed_jpeg(profile=profile))[1].metadata.icc_profile == profile
    profile = profile.replace(b"cicp\0\0\0\0\x01\x0d", b"cicp\0\0\0\0\x09\x10")
    with pytest.raises(PictureError, match=r"is HDR \(PQ\)"):
        read(camera_files.packed_jpeg(profile=profile))


# --- extras and folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "made", "extra", "name"),
    [
        ("rawpy", camera_files.dng, "raw", "camera raw needs another package"),
        ("pillow_jxl", camera_files.jxl, "jxl", "JPEG XL needs another package"),
        ("imagecodecs", lambda: camera_files.avif(10), "deep", "need two more packages"),
    ],
)
def test_a_file_whose_extra_is_missing_is_refused_by_a_sentence_that_names_it(package, made, extra, name, monkeypatch):
    data = made()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PictureError, match=rf"{name}.*pip install 'deblur-hub\[{extra}\]'"):
        read(data)


def test_files_whose_extra_is_missing_are_passed_over_in_folders_by_name(tmp_path, monkeypatch):
    (tmp_path / "a.dng").write_bytes(b"II*\0")
    monkeypatch.setattr("deblur_hub.pictures.suffixes.is_installed", lambda package: package != "rawpy")
    made = plan([tmp_path], tmp_path / "out", None, lambda _: False)
    assert not made.jobs
    assert list(made.notes()) == ["1 file passed over, not read here (pip install 'deblur-hub[raw]' reads them): a.dng"]


@pytest.mark.slow
def test_a_camera_s_folder_is_restored_each_file_into_what_holds_it(tmp_path, capsys):
    DeblurGenerator(GeneratorConfig("compact", TINY, name="small")).save_pretrained(tmp_path / "model")
    files = {"a.dng": camera_files.dng(), "b.heic": camera_files.heic(10), "c.avif": camera_files.avif(12)}
    files |= {"d.jxl": camera_files.jxl(16), "e.mpo": camera_files.mpo(), "f.HIF": camera_files.heic()}
    for name, data in files.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    typed = ["deblur", "-q", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    assert main(typed) == 0, capsys.readouterr().err
    written = {path.name: read(path)[1].bits for path in (tmp_path / "out").glob("[!.]*")}
    assert written == {"a.tif": 16, "b.heic": 10, "c.avif": 12, "d.tif": 16, "e.mpo": 16, "f.HIF": 16}
