"""Paired sets on disk: what is found in each layout, and what is said of a set that has a fault."""

from pathlib import Path

import pytest
from PIL import Image

from deblur_hub import DatasetError
from deblur_hub.datasets import find_pairs


def put(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def names(root: Path, **options) -> list[str]:
    return [pair.name for pair in find_pairs(root, **options)]


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as error:
        find_pairs(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_two_plain_folders_are_a_set(tmp_path):
    for name in ("b.png", "a.png", "c.png"):
        put(tmp_path / "blur" / name), put(tmp_path / "sharp" / name)
    pairs = find_pairs(tmp_path)
    assert [pair.name for pair in pairs] == ["a.png", "b.png", "c.png"]
    assert all(
        pair.blurred == tmp_path / "blur" / pair.name
        and pair.sharp == tmp_path / "sharp" / pair.name
        and pair.scene == ""
        for pair in pairs
    )


def test_the_layout_of_gopro_is_a_set_of_scenes(tmp_path):
    for scene in ("train/GOPR0372_07_01", "train/GOPR0372_07_00", "test/GOPR0384_11_00"):
        for folder in ("blur", "blur_gamma", "sharp"):
            put(tmp_path / scene / folder / "000047.png")
    expected = ["test/GOPR0384_11_00", "train/GOPR0372_07_00", "train/GOPR0372_07_01"]
    pairs = find_pairs(tmp_path)
    assert [pair.scene for pair in pairs] == expected
    assert [pair.name for pair in pairs] == [f"{scene}/000047.png" for scene in expected]
    assert {pair.blurred.parent.name for pair in pairs} == {"blur"}
    assert {pair.blurred.parent.name for pair in find_pairs(tmp_path, blur="blur_gamma")} == {"blur_gamma"}
    assert names(tmp_path / "test") == ["GOPR0384_11_00/000047.png"]


def test_partners_may_have_different_suffixes_of_any_case(tmp_path):
    put(tmp_path / "blur" / "a.JPG"), put(tmp_path / "sharp" / "a.png")
    put(tmp_path / "blur" / "b.c.png"), put(tmp_path / "sharp" / "b.c.tif")
    found = [(pair.blurred.name, pair.sharp.name) for pair in find_pairs(tmp_path)]
    assert found == [("a.JPG", "a.png"), ("b.c.png", "b.c.tif")]


def test_hidden_files_and_what_is_no_picture_are_passed_over(tmp_path):
    put(tmp_path / "blur" / "a.png"), put(tmp_path / "sharp" / "a.png")
    for junk in ("._a.png", ".DS_Store", "notes.txt", "Thumbs.db"):
        (tmp_path / "blur" / junk).write_text("junk")
    assert names(tmp_path) == ["a.png"]


def test_a_folder_without_a_scene_has_no_pairs(tmp_path):
    put(tmp_path / "blur" / "a.png")
    assert find_pairs(tmp_path) == []


@pytest.mark.parametrize(("have", "lack"), [("blur", "sharp"), ("sharp", "blur")])
def test_a_picture_without_partner_is_named(tmp_path, have, lack):
    put(tmp_path / "blur" / "a.png"), put(tmp_path / "sharp" / "a.png")
    lonely = put(tmp_path / have / "b.png")
    assert refusal(tmp_path) == (
        f"{lonely}: has no partner of that name in {tmp_path / lack}; add it or take this one out"
    )


def test_two_pictures_of_one_name_are_not_paired_by_chance(tmp_path):
    for name in ("blur/a.jpg", "blur/a.png", "sharp/a.png"):
        put(tmp_path / name)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'blur' / 'a.png'}: has the name of a.jpg beside it")


def test_partners_of_two_sizes_are_named_with_their_sizes(tmp_path):
    put(tmp_path / "blur" / "a.png", (8, 6)), put(tmp_path / "sharp" / "a.png", (6, 8))
    message = refusal(tmp_path)
    assert f"{tmp_path / 'blur' / 'a.png'}: 8x6 pixels" in message
    assert f"{tmp_path / 'sharp' / 'a.png'} has 6x8" in message


def test_a_file_that_is_no_picture_is_named(tmp_path):
    put(tmp_path / "blur" / "a.png"), put(tmp_path / "sharp" / "a.png")
    (tmp_path / "sharp" / "a.png").write_text("a note")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'sharp' / 'a.png'}: not a picture that can be read")


@pytest.mark.parametrize("name", ["nowhere", "a.png"])
def test_what_is_no_folder_is_named(tmp_path, name):
    put(tmp_path / "a.png")
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: no such folder")
