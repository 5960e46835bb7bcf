"""A folder of two hundred files such as people have them: what can be restored is, and every loss is named."""

import os
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.cli import main
from deblur_hub.pictures import read
from deblur_hub.pictures.suffixes import missing_extras
from tests.pictures import file_of, picture

tifffile = pytest.importorskip("tifffile")

COUNT = 200


def chunk(name: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))


def without_palette() -> bytes:
    header = struct.pack(">IIBBBBB", 16, 16, 8, 3, 0, 0, 0)
    rows = zlib.compress(bytes(17) * 16)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def large_text() -> PngInfo:
    made = PngInfo()
    made.add_itxt("workflow", "x" * 2_000_000, zip=True)
    return made


PHOTO = picture("RGB")
JPEG = file_of(PHOTO, "JPEG")
MAP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description hdrgm:Version="1.0"/></x:xmpmeta>'

# name: (contents, whether it is restored, what is said of it; None: nothing)
KINDS: dict[str, tuple[bytes, bool, str | None]] = {
    "photo.jpg": (JPEG, True, None),
    "photo.JPEG": (file_of(PHOTO, "JPEG", quality=70), True, None),
    "photo.jfif": (JPEG, True, None),
    "scan.png": (file_of(picture("L"), "PNG"), True, None),
    "logo.png": (file_of(picture("RGBA"), "PNG"), True, None),
    "old.gif": (file_of(picture("P"), "GIF"), True, None),
    "moving.gif": (
        file_of(picture("P"), "GIF", save_all=True, append_images=[picture("P").rotate(90)]),
        True,
        "frames",
    ),
    "print.tif": (file_of(picture("CMYK"), "TIFF"), True, None),
    "pages.tif": (file_of(PHOTO, "TIFF", save_all=True, append_images=[PHOTO] * 2), True, None),
    "web.webp": (file_of(PHOTO, "WEBP", lossless=True), True, None),
    "phone.avif": (file_of(PHOTO, "AVIF"), True, None),
    "draw.bmp": (file_of(PHOTO, "BMP"), True, None),
    "art.tga": (file_of(picture("RGBA"), "TGA"), True, None),
    "plain.ppm": (file_of(PHOTO, "PPM"), True, None),
    "film.jp2": (file_of(PHOTO, "JPEG2000"), True, None),
    "ct.png": (file_of(Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 5), "PNG"), True, "12-bit"),
    "hdr.jpg": (file_of(PHOTO, "JPEG", xmp=MAP), True, "gain map"),
    "cut.jpg": (JPEG[:-2], True, "end of the file is missing"),
    "endless.png": (file_of(PHOTO, "PNG")[:-12], True, "end of the file is missing"),
    "comfy.png": (file_of(PHOTO, "PNG", pnginfo=large_text()), True, None),
    "half.jpg": (JPEG[: len(JPEG) // 2], False, "truncated"),
    "tiny.jpg": (b"abc", False, "not a picture"),
    "empty.png": (b"", False, "an empty file"),
    "grey.png": (without_palette(), False, "no palette"),
    "page.jpg": (b"<!doctype html><title>404</title>", False, "not a picture"),
    "heic.jpg": (b"\0\0\0\x18ftypheic" + bytes(40), False, "HEIC"),
    "IMG.HEIC": (b"\0\0\0\x18ftypheic", False, "HEIC" if "heif" not in missing_extras() else "passed over, not read"),
    "drawing.xcf": (b"gimp xcf", False, "passed over, not read here"),
    "DSC.NEF": (
        b"MM\0*" + bytes(40),
        False,
        "camera raw that cannot be read" if "raw" not in missing_extras() else "passed over, not read here",
    ),
    "clip.mov": (b"\0\0\0\x14ftypqt  ", False, "passed over, videos"),
    "photo-deblurred.jpg": (JPEG, False, "results of earlier runs"),
    "notes.txt": (b"Monday", False, None),
    ".hidden.jpg": (JPEG, False, None),
}


@pytest.fixture
def folder(tmp_path) -> dict[Path, tuple[bool, str | None]]:
    """Files of every kind at random places, and what is to become of each."""
    chance = random.Random(0)
    expected = {}
    places = ["", "day one", "day two/evening", "夏", "a" * 100]
    names = [*KINDS, *chance.choices(list(KINDS), k=COUNT - len(KINDS))]
    for number, name in enumerate(names):
        contents, restored, said = KINDS[name]
        hidden, kind = name.startswith("."), name.removeprefix(".")
        path = tmp_path / "in" / chance.choice(places) / f"{'.' if hidden else ''}{number:03}-{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
        expected[path] = (restored, said)
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "folder.jpg").mkdir()
    (tmp_path / "in" / "@eaDir" / "000-photo.jpg").mkdir(parents=True)
    (tmp_path / "in" / "@eaDir" / "000-photo.jpg" / "SYNOPHOTO_THUMB_XL.jpg").write_bytes(JPEG)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    return expected


@pytest.mark.slow
def test_a_folder_of_mixed_files_comes_back_with_every_loss_named(folder, tmp_path, capsys):
    config = GeneratorConfig("compact", {"widths": [8, 8], "blocks": [1, 1]}, name="small")
    DeblurGenerator(config).save_pretrained(tmp_path / "model")
    before = {path: path.read_bytes() for path in folder}
    code = main(["deblur", "-q", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "model")])
    told = capsys.readouterr()
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("[!.]*") if path.is_file()}
    wanted = {path.relative_to(tmp_path / "in") for path, (restored, _) in folder.items() if restored}
    assert code == 1 and written == wanted
    passed_over = [line for line in told.err.splitlines() if "passed over" in line]
    for path, (restored, said) in folder.items():
        lines = [line for line in told.err.splitlines() if f"{path.name}:" in line]
        if said is None:
            assert not lines, lines
        elif said.startswith(("passed over", "results")):
            assert any(said in line for line in passed_over), said
        else:
            assert len(lines) == 1 and said in lines[0], (path, lines)
        if restored:
            original = read(tmp_path / "out" / path.relative_to(tmp_path / "in"))[1]
            assert original.pages == (3 if path.name.endswith("pages.tif") else 1)
            assert original.size == read(path)[1].size
    counts = [int(re.search(r"(\d+) files? passed over", line)[1]) for line in passed_over]
    missed = [said for _, said in folder.values() if said and said.startswith(("passed over", "results"))]
    assert sum(counts) == len(missed)
    assert f"{len(wanted)} restored" in told.out
    assert {path: path.read_bytes() for path in folder} == before
    assert "Traceback" not in told.err
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == [".deblur-hub.jsonl"]  # one journal for all
