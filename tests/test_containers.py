"""PNG, JPEG and TIFF files part by part: what Pillow is shown, what goes along, what is missing."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo

from deblur_hub.errors import PictureError
from deblur_hub.pictures.jpeg import complete, compression_of, segments_of
from deblur_hub.pictures.png import SplicedFile, chunks_of, packed, read_png
from deblur_hub.pictures.tiff import EXIF, GPS, append_entries, entries_of_exif, pages_of
from deblur_hub.pictures.xmp import true_xmp, without_position
from tests.test_exif import TEXT, block

tifffile = pytest.importorskip("tifffile")


def photo(width: int = 96, height: int = 64) -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, format_name: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


# --- PNG ---------------------------------------------------------------------------------------------------------


def png(*extra: bytes, **options) -> bytes:
    data = saved(photo(), "PNG", **options)
    return data[:33] + b"".join(extra) + data[33:]


def seen(data: bytes):
    """What is read of a PNG, whose picture must be that of `photo`."""
    found = read_png(io.BytesIO(data), "photo.png")
    with Image.open(found.picture) as picture:
        assert picture.convert("RGB").tobytes() == photo().tobytes()
    return found


def test_colours_and_texts_are_kept_and_the_picture_is_pillows():
    gamma, cicp = packed(b"gAMA", struct.pack(">I", 100000)), packed(b"cICP", bytes([9, 16, 0, 1]))
    texts = PngInfo()
    texts.add_text("Author", "Jürgen")
    texts.add_itxt("workflow", "x" * 3_000_000, zip=True)  # of which Pillow refuses the whole file
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>", zip=True)
    found = seen(png(gamma, cicp, pnginfo=texts, exif=b"Exif\0\0" + block(), icc_profile=b"a profile" * 300_000))
    assert [name for name, _ in found.kept] == [b"gAMA", b"cICP", b"tEXt", b"iTXt"]
    assert dict(found.kept)[b"gAMA"] == struct.pack(">I", 100000)
    assert found.xmp == b"<x:xmpmeta/>" and found.exif == block() and found.icc_profile == b"a profile" * 300_000
    assert not found.notes


def test_a_missing_end_and_damaged_chunks_that_no_viewer_needs_are_notes():
    whole = png(pnginfo=with_text("Author", "me"))
    assert seen(whole[:-12]).notes == seen(whole[:-4]).notes != ()
    damaged = whole.replace(b"Author\0me", b"Author\0ME")
    assert seen(damaged).notes == ("its tEXt chunk is damaged and was left out",) and not seen(damaged).kept


def with_text(key: str, text: str) -> PngInfo:
    made = PngInfo()
    made.add_text(key, text)
    return made


def test_a_cut_off_picture_and_a_missing_palette_are_said():
    whole = png()
    for cut in (40, len(whole) // 2, len(whole) - 20):
        with pytest.raises(PictureError, match="truncated"):
            read_png(io.BytesIO(whole[:cut]), "photo.png")
    indexed = saved(photo().quantize(4), "PNG")
    start = indexed.index(b"PLTE") - 4
    (length,) = struct.unpack(">I", indexed[start : start + 4])
    with pytest.raises(PictureError, match="no palette"):
        read_png(io.BytesIO(indexed[:start] + indexed[start + length + 12 :]), "photo.png")


def test_a_spliced_file_reads_as_its_parts_one_after_another():
    data = png(pnginfo=with_text("Author", "me"))
    file = io.BytesIO(data)
    chunks, _ = chunks_of(file, "photo.png")
    parts = [data[:8], chunks[0], b"between", *chunks[2:]]
    first = data[8:33]
    after = data[chunks[2].start - 8 :]
    expected = data[:8] + first + b"between" + after
    spliced = SplicedFile(file, parts)
    assert spliced.read() == expected
    for start, size in ((0, 3), (5, 40), (30, 12), (len(expected) - 5, 50), (len(expected), 4)):
        spliced.seek(start)
        assert spliced.read(size) == expected[start : start + size]
    assert spliced.seek(-4, io.SEEK_END) == len(expected) - 4


def test_a_text_that_would_fill_memory_is_never_inflated():
    bomb = packed(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(1 << 26), 9))
    assert seen(png(bomb)).kept[0][0] == b"zTXt"


# --- JPEG --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_has_all_its_rows(progressive):
    whole = saved(photo(), "JPEG", progressive=progressive)
    file, rows = complete(io.BytesIO(whole[:-2]))
    with Image.open(file) as picture, Image.open(io.BytesIO(whole)) as expected:
        assert rows == 64 and picture.tobytes() == expected.tobytes()


def test_a_jpeg_that_was_cut_off_has_the_rows_that_are_there():
    whole = saved(photo(96, 640), "JPEG", quality=95)
    for share in (0.3, 0.6, 0.9):
        _, rows = complete(io.BytesIO(whole[: int(share * len(whole))]))
        assert abs(rows / 640 - share) < 0.1


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_is_written_with_the_tables_that_it_had(subsampling):
    with Image.open(io.BytesIO(saved(photo(), "JPEG", quality=63, subsampling=subsampling))) as picture:
        again = saved(picture.convert("RGB"), "JPEG", **compression_of(picture).options(3))
        with Image.open(io.BytesIO(again)) as written:
            assert written.quantization == picture.quantization
            assert JpegImagePlugin.get_sampling(written) == subsampling


def test_comments_and_photoshops_blocks_are_kept_as_they_stand():
    block = b"Photoshop 3.0\0" + bytes(40)
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    data = saved(photo(), "JPEG", comment=b"Grandma 1956")
    with Image.open(io.BytesIO(data[:2] + segment + data[2:])) as picture:
        kept = segments_of(picture)
    assert segment in kept and b"\xff\xfe\0\x0eGrandma 1956" in kept
    with Image.open(io.BytesIO(saved(photo(), "JPEG", extra=kept))) as written:
        assert written.info["comment"] == b"Grandma 1956" and segments_of(written) == kept


# --- TIFF --------------------------------------------------------------------------------------------------------

KEPT = {270: "Jürgen", 33550: (1.5, 2.5, 3.5), 34735: (1, 1, 0, 7), 33723: b"\x1c\x02\0abcd", 65000: (70000, 5)}
EXTRA = [
    (33550, 12, 3, KEPT[33550], True),
    (34735, 3, 4, KEPT[34735], True),
    (33723, 7, 7, KEPT[33723], True),
    (65000, 4, 2, KEPT[65000], True),
]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_unknown_entries_go_from_one_file_to_another(byteorder, bigtiff, tmp_path):
    samples = np.asarray(photo())
    layout = {"byteorder": byteorder, "bigtiff": bigtiff, "photometric": "rgb", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", samples, **layout, description="Jürgen".encode(), extratags=EXTRA)
    with (tmp_path / "a.tif").open("rb") as file:
        (page,) = pages_of(file, "a.tif")
    inner = entries_of_exif(block(byteorder))[1]
    photo().save(tmp_path / "b.tif", save_all=True, append_images=[photo().rotate(180)])
    append_entries(tmp_path / "b.tif", page.kept(), inner)
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        assert len(written.pages) == 2 and (written.pages[0].asarray() == samples).all()
        tags = written.pages[1].tags
        assert {tag: tags[tag].value for tag in KEPT} == KEPT
        assert (written.pages[1].asarray() == samples[::-1, ::-1]).all()
    with Image.open(tmp_path / "b.tif") as picture:
        picture.seek(1)
        exif = picture.getexif()
        assert exif.get_ifd(EXIF)[0xA002] == 300 and exif.get_ifd(GPS)[2] == (48.0, 8.0, 30.0)


def test_reduced_pictures_and_masks_are_no_pages(tmp_path):
    samples = np.asarray(photo())
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(samples[::8, ::8].copy(), photometric="rgb", subfiletype=1)
        writer.write(samples, photometric="rgb")
        writer.write(samples[..., 0] > 99, subfiletype=4)
        writer.write(samples, photometric="rgb", subfiletype=2)
    with (tmp_path / "a.tif").open("rb") as file:
        assert [page.number for page in pages_of(file, "a.tif")] == [1, 3]


def test_camera_raw_is_refused_by_name(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.dng", np.asarray(photo()), photometric="rgb", extratags=[(50706, 1, 4, (1, 4, 0, 0))]
    )
    with (tmp_path / "a.dng").open("rb") as file, pytest.raises(PictureError, match="camera raw"):
        pages_of(file, "a.dng")


def test_no_tiff_hangs_or_fills_memory():
    first = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 256, 3, 1, 16)
    pages_of(io.BytesIO(first + struct.pack("<I", 8)), "loop.tif")  # its directory is the next one as well
    huge = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 65000, 1, 0xFFFFFFFF, 8) + bytes(4)
    for data in (huge, first[:12], b"II*\0\xff\xff\xff\xff"):
        with pytest.raises(PictureError, match="damaged"):
            pages_of(io.BytesIO(data), "bad.tif")


def test_an_exif_blocks_entries_keep_their_bytes():
    for order in "<>":
        entries, inner = entries_of_exif(block(order))
        assert {entry.tag: entry.values for entry in entries}[0x013B] == TEXT
        assert [entry.tag for entry in inner[GPS]] == [1, 2]


# --- XMP ---------------------------------------------------------------------------------------------------------

PACKET = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 hdrgm:Version="1.0" tiff:Orientation="6" tiff:ImageWidth='300' exif:GPSLatitude="48,8.5N" dc:title="Pier"
 GCamera:MotionPhoto="1"><exif:PixelYDimension>200</exif:PixelYDimension><exif:GPSAltitude>12/1</exif:GPSAltitude>
<Container:Directory><rdf:Seq><rdf:li Item:Semantic="GainMap"/></rdf:Seq></Container:Directory>
<xmp:Thumbnails><rdf:Alt><rdf:li>old</rdf:li></rdf:Alt></xmp:Thumbnails><dc:creator>me</dc:creator></rdf:Description>
</x:xmpmeta>"""


def test_xmp_speaks_of_the_picture_as_it_is_now():
    after, dropped = true_xmp(PACKET, (200, 300))
    assert dropped == ("gain map", "motion photo")
    assert b'tiff:Orientation="1"' in after and b"tiff:ImageWidth='200'" in after
    assert b"<exif:PixelYDimension>300</exif:PixelYDimension>" in after
    for gone in (b"hdrgm", b"GCamera", b"Container", b"GainMap", b"Thumbnails", b"old"):
        assert gone not in after
    for kept in (b'dc:title="Pier"', b"<dc:creator>me</dc:creator>", b"</x:xmpmeta>", b"exif:GPSLatitude"):
        assert kept in after
    placeless = without_position(after)
    assert b"GPS" not in placeless and b"Pier" in placeless


def test_xmp_that_is_true_already_stays_as_it_is():
    plain = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="Pier"/></x:xmpmeta>'
    assert true_xmp(plain, (3, 4)) == (plain, ())
