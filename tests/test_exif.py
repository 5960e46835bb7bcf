"""EXIF: what is no longer true of a restored picture is patched in place, and not a byte more."""

import io
import struct

import pytest
from PIL import Image

from deblur_hub.pictures.exif import PREFIX, ExifBlock, ExifError, upright_exif, without_position

MAKER = b"CAMERA\0\0"  # a maker note that holds an offset into the whole block, as those of most makers do
TEXT = "山田太郎".encode()  # EXIF says ASCII, and cameras write what they like


def block(order: str = "<", *, thumbnail: bytes = b"", middle: bool = False, width: int = 300, kind: int = 3) -> bytes:
    """An EXIF block of a first directory, EXIF, GPS and thumbnail directories, laid out by hand."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    pack = lambda layout, *values: struct.pack(order + layout, *values)  # noqa: E731
    entry = lambda tag, kind, count, value: pack("HHI", tag, kind, count) + value.ljust(4, b"\0")  # noqa: E731
    first_size, exif_size, gps_size, second_size = (2 + 12 * n + 4 for n in (5, 3, 2, 3))
    exif_at = 8 + first_size
    gps_at, second_at = exif_at + exif_size, exif_at + exif_size + gps_size
    values_at = second_at + second_size
    maker = MAKER + pack("I", values_at)  # points at the artist's name
    place = pack("6I", 48, 1, 8, 1, 30, 1)
    maker_at, place_at = values_at + len(TEXT), values_at + len(TEXT) + len(maker)
    picture_at = place_at + len(place)
    sized = lambda value: pack("H" if kind == 3 else "I", value)  # noqa: E731
    first = pack("H", 5) + b"".join(
        (
            entry(0x0112, 3, 1, pack("H", 6)),
            entry(0x013B, 2, len(TEXT), pack("I", values_at)),
            entry(0x8769, 4, 1, pack("I", exif_at)),
            entry(0x8825, 4, 1, pack("I", gps_at)),
            entry(0xC7A1, 7, 3, b"own"),
        )
    )
    exif = pack("H", 3) + b"".join(
        (
            entry(0x927C, 7, len(maker), pack("I", maker_at)),
            entry(0xA002, kind, 1, sized(width)),
            entry(0xA003, kind, 1, sized(200)),
        )
    )
    gps = pack("H", 2) + entry(1, 2, 2, b"N\0") + entry(2, 5, 3, pack("I", place_at))
    second = pack("H", 3) + b"".join(
        (
            entry(0x0103, 3, 1, pack("H", 6)),
            entry(0x0201, 4, 1, pack("I", picture_at)),
            entry(0x0202, 4, 1, pack("I", len(thumbnail))),
        )
    )
    made = (
        start + first + pack("I", second_at if thumbnail else 0) + exif + bytes(4) + gps + bytes(4) + second + bytes(4)
    )
    return made + TEXT + maker + place + thumbnail + (b"behind" if middle else b"")


def small_jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16), 90).save(file, "JPEG")
    return file.getvalue()


def changed(before: bytes, after: bytes) -> list[int]:
    return [place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", PREFIX])
def test_only_orientation_and_size_change(order, prefix):
    before = prefix + block(order)
    after = upright_exif(before, (200, 300))
    exif = ExifBlock(after)
    assert len(after) == len(before) and after.startswith(prefix)
    assert exif.number(exif.first, 0x0112) == 1
    inner = exif.number(exif.first, 0x8769)
    assert (exif.number(inner, 0xA002), exif.number(inner, 0xA003)) == (200, 300)
    entries = [exif.find(exif.first, 0x0112), exif.find(inner, 0xA002), exif.find(inner, 0xA003)]
    values = {len(prefix) + entry.place + 8 + byte for entry in entries for byte in range(4)}
    assert changed(before, after) and set(changed(before, after)) <= values
    assert TEXT in after and MAKER in after
    assert dict(Image.open(io.BytesIO(with_exif(after))).getexif())[0x013B]


def with_exif(exif: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=PREFIX + exif.removeprefix(PREFIX))
    return file.getvalue()


def test_a_picture_of_more_than_65535_pixels_a_side_makes_a_short_number_a_long_one():
    exif = ExifBlock(upright_exif(block(), (70_000, 200)))
    inner = exif.number(exif.first, 0x8769)
    assert (exif.number(inner, 0xA002), exif.number(inner, 0xA003)) == (70_000, 200)
    long = ExifBlock(upright_exif(block(kind=4), (70_000, 200)))
    assert long.number(inner, 0xA002) == 70_000


@pytest.mark.parametrize("middle", [False, True])
def test_the_thumbnail_goes_and_nothing_else_moves(middle):
    thumbnail = small_jpeg()
    before = block(thumbnail=thumbnail, middle=middle)
    after = upright_exif(before, (300, 200))
    assert thumbnail not in after and b"\xff\xd8" not in after
    assert Image.open(io.BytesIO(with_exif(after))).getexif().get_ifd(1) == {}
    assert after.endswith(b"behind") == middle
    assert len(after) == (len(before) if middle else len(before) - len(thumbnail))
    assert TEXT in after and MAKER in after


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_place_goes_with_all_its_values(order):
    before = block(order, thumbnail=small_jpeg())
    after = without_position(before)
    exif = ExifBlock(after)
    assert [entry.tag for entry in exif.entries(exif.first)] == [0x0112, 0x013B, 0x8769, 0xC7A1]
    assert struct.pack(order + "6I", 48, 1, 8, 1, 30, 1) in before
    assert struct.pack(order + "6I", 48, 1, 8, 1, 30, 1) not in after
    assert len(after) == len(before) and TEXT in after and MAKER in after and small_jpeg() in after
    assert without_position(after) == after


def test_a_damaged_block_is_refused_and_never_half_changed():
    whole = block(thumbnail=small_jpeg())
    for bad in (b"", b"Exif\0\0", b"II*\0", whole[:30], b"XX" + whole[2:], whole[:8] + b"\xff\xff" + whole[10:]):
        with pytest.raises(ExifError):
            upright_exif(bad, (300, 200))


def test_no_bytes_at_all_make_it_fail_otherwise():
    import random

    chance = random.Random(0)
    whole = block(thumbnail=small_jpeg())
    for _ in range(2000):
        bad = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            after = without_position(upright_exif(bytes(bad), (300, 200)))
        except ExifError:
            continue
        assert len(after) <= len(bad)
