"""PNG, JPEG and TIFF files part by part: what Pillow is shown, what goes along, what is missing."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo

from deblur_hub.errors import PictureError
from deblur_hub.pictures import read, upright_size
from deblur_hub.pictures.jpeg import compression_of, ended, rows_of, segments_of
from deblur_hub.pictures.png import SplicedFile, chunks_of, insert_chunks, packed, read_png
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


@pytest.mark.parametrize("name", [b"pHYs", b"tRNS", b"acTL"])
def test_a_damaged_chunk_that_says_how_to_show_the_picture_is_left_out_as_viewers_do(name):
    damaged = packed(name, bytes(8))[:-1] + b"?"
    found = seen(png(damaged))
    assert found.notes == (f"its {name.decode()} chunk is damaged and was left out",) and not found.has_key


def raw_profile(kind: str, contents: bytes) -> bytes:
    """As ImageMagick writes a block into a text."""
    digits = contents.hex()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    return "\n".join(["", kind, f"{len(contents):8}", *lines, ""]).encode()


def test_exif_and_xmp_in_texts_of_imagemagick_are_those_of_the_picture():
    exif, xmp = b"Exif\0\0" + block(), b"<x:xmpmeta/>"
    texts = [
        packed(b"tEXt", b"Raw profile type exif\0" + raw_profile("exif", exif)),
        packed(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile("exif", exif))),
        packed(b"tEXt", b"Raw profile type APP1\0" + raw_profile("generic", exif)),
    ]
    for text in texts:
        assert seen(png(text)).exif == block() and not seen(png(text)).kept
        assert seen(png(text, exif=b"Exif\0\0" + block(">"))).exif == block(">")  # the chunk that is made for it counts
        assert read(png(text))[1].size == (64, 96) and upright_size(png(text)) == (64, 96)
    for start, kind in ((b"", b"xmp"), (b"http://ns.adobe.com/xap/1.0/\0", b"APP1")):
        found = seen(png(packed(b"tEXt", b"Raw profile type " + kind + b"\0" + raw_profile("xmp", start + xmp))))
        assert found.xmp == xmp and not found.kept and not found.exif
    for other in (b"Raw profile type iptc\0" + raw_profile("iptc", b"8BIM"), b"Raw profile type exif\0\n\n\nno digits"):
        assert seen(png(packed(b"tEXt", other))).kept == ((b"tEXt", other),)


def test_unknown_chunks_that_may_be_copied_are_and_content_credentials_are_not(tmp_path):
    known = {
        b"vpAg": bytes(9),
        b"sBIT": bytes([5, 6, 5]),
        b"tIME": bytes(7),
        b"bKGD": bytes(6),
        b"pHYs": b"\0\0\0\1" * 2 + b"\0",
    }
    gone = {b"orNT": b"\6", b"caBX": bytes(9)}
    found = seen(png(*(packed(*chunk) for chunk in (known | gone).items())))
    assert dict(found.kept) == known
    assert found.notes == ("its content credentials are signed for the picture as it was, and were left out",)
    for mode, fitting in (("RGB", known), ("L", known.keys() - {b"sBIT", b"bKGD"})):
        photo().convert(mode).save(tmp_path / "out.png")
        insert_chunks(tmp_path / "out.png", list(found.kept))
        assert {name for name, _ in read_png(io.BytesIO((tmp_path / "out.png").read_bytes()), "").kept} == set(fitting)


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
    cut = io.BytesIO(whole[:-2])
    with Image.open(ended(cut)) as picture, Image.open(io.BytesIO(whole)) as expected:
        assert rows_of(cut) == 64 and picture.tobytes() == expected.tobytes()


def test_a_jpeg_that_was_cut_off_has_the_rows_that_are_there():
    whole = saved(photo(96, 640), "JPEG", quality=95)
    for share in (0.3, 0.6, 0.9):
        assert abs(rows_of(io.BytesIO(whole[: int(share * len(whole))])) / 640 - share) < 0.1


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


def segment(marker: int, contents: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(contents) + 2) + contents


def jpeg(*segments: bytes, **options) -> bytes:
    data = saved(photo(), "JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def test_segments_that_nobody_here_knows_go_along_and_those_written_anew_do_not():
    own = [
        segment(0xE1, b"FLIR\0" + bytes(99)),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(99)),
        segment(0xEC, b"Ducky\0\1\0\4\0\0\0\x32\0\0"),
        segment(0xED, b"Adobe_CM\0\1"),
        segment(0xFE, b"one"),
        segment(0xFE, b"two"),
    ]
    anew = [
        segment(0xE2, b"MPF\0" + bytes(9)),
        segment(0xEB, b"JP\0\1" + bytes(30)),
        segment(0xEE, b"Adobe" + bytes(7)),
    ]
    original = read(jpeg(*own, *anew, exif=b"Exif\0\0" + block(), xmp=b"<x:xmpmeta/>", icc_profile=b"profile"))[1]
    assert original.metadata.segments == b"".join(own)
    assert original.metadata.left_out("PNG") == ("its segments APP1, APP12, APP13", "its comment")
    assert original.notes == ("its content credentials are signed for the picture as it was, and were left out",)
    assert original.metadata.without_position().segments == b"".join(own[4:])  # the others might say where it was


def test_a_colour_profile_in_parts_is_put_together_or_missed():
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 3]) + bytes([number]) * 60000) for number in (1, 2, 3)]
    profile = b"".join(bytes([number]) * 60000 for number in (1, 2, 3))
    assert read(jpeg(*parts[::-1]))[1].metadata.icc_profile == profile
    original = read(jpeg(*parts[:2]))[1]
    assert original.notes == ("its colour profile is damaged and was left out",)
    assert original.metadata.icc_profile is None


def test_no_resolution_is_made_up_for_exif_that_has_none():
    assert saved_dpi(exif=b"Exif\0\0" + block()) is None and saved_dpi() is None
    with_one = Image.Exif()
    with_one[282], with_one[283], with_one[296] = 240, 240, 2
    assert saved_dpi(exif=with_one.tobytes()) == (240, 240) and saved_dpi(dpi=(300, 300)) == (300, 300)


def saved_dpi(**options) -> tuple[float, float] | None:
    return read(saved(photo(), "JPEG", **options))[1].metadata.dpi


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
    assert pages_of(io.BytesIO(huge), "huge.tif")[0].damaged == (65000,)  # it has no such values
    length = 1 << 22
    entries = [struct.pack("<HHII", 65000 + n, 1, length, 8) for n in range(99)]  # each of which has the whole file
    many = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(length)
    for data in (many, first[:12], b"II*\0\xff\xff\xff\xff"):
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


@pytest.mark.parametrize(
    "many", [b" ", b"<exif:GPSa>", b"<exif:GPSa ", b" exif:GPSa=", b"<xmp:Thumbnails>", b"</exif:GPSa>"]
)
def test_no_packet_takes_long(many):
    packet = b"<x:xmpmeta/>" + many * 50_000
    assert true_xmp(packet, (3, 4)) == (packet, ())
    assert len(without_position(packet)) <= len(packet)


def test_properties_are_left_out_whole_and_no_more_than_those():
    for gone in (
        b"<exif:GPSa>1</exif:GPSa>",
        b"<exif:GPSa b='c'>\n<x>1</x></exif:GPSa >",
        b"<exif:GPSa/>",
        b"<exif:GPSa b='c' />",
    ):
        for kept in (b"<a>", b"<a><exif:GPSb>", b"<a/>"):
            assert without_position(kept + gone + gone + b"<b/>") == kept + b"<b/>"


@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_an_orientation_that_xmp_alone_speaks_of_is_applied_and_that_of_exif_counts_more(format_name):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[274] = 3
    for made, size in ((b"", (64, 96)), (exif.tobytes(), (96, 64))):
        text = packed(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        data = png(text, exif=made) if format_name == "PNG" else saved(photo(), "JPEG", xmp=packet, exif=made)
        original = read(data)[1]
        assert original.size == upright_size(data) == size and b'Orientation="1"' in original.metadata.xmp


def test_xmp_that_is_true_already_stays_as_it_is():
    plain = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="Pier"/></x:xmpmeta>'
    assert true_xmp(plain, (3, 4)) == (plain, ())
