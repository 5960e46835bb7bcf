"""Paired sets on disk: what is found in each layout, and what is said of a set that has a fault."""

from pathlib import Path

import pytest
from PIL import Image

from deblur_hub import DatasetError
from deblur_hub.datasets import Pair, count_notes, find_pairs


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


def test_linked_folders_are_followed_and_none_is_met_twice(tmp_path):
    for kind in ("blur", "sharp"):
        put(tmp_path / "elsewhere" / kind / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scene").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "same").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "data")
    assert [pair.blurred for pair in find_pairs(tmp_path / "data")] == [tmp_path / "data" / "same" / "blur" / "a.png"]


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
    assert refusal(tmp_path).startswith(
        f"{tmp_path / 'blur' / 'a.png'}: has the name of {tmp_path / 'blur' / 'a.jpg'}, so"
    )


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


def put_pair(folder: Path, blurred: str, sharp: str) -> None:
    put(folder / blurred), put(folder / sharp)


def table(root: Path, **options) -> list[tuple]:
    """(blurred, sharp, scene, source, split) of each pair, paths from the root."""
    return [
        (
            pair.blurred.relative_to(root).as_posix(),
            pair.sharp.relative_to(root).as_posix(),
            pair.scene,
            pair.source,
            pair.split,
        )
        for pair in find_pairs(root, **options)
    ]


def test_scenes_of_gopro_are_known_by_their_names_and_have_the_split_of_their_folder(tmp_path):
    for scene in ("train/GOPR0372_07_00", "test/GOPR0384_11_00", "train/mine"):
        put_pair(tmp_path / scene, "blur/1.png", "sharp/1.png")
    found = [(pair.scene, pair.source, pair.split) for pair in find_pairs(tmp_path)]
    assert found == [
        ("test/GOPR0384_11_00", "GoPro", "test"),
        ("train/GOPR0372_07_00", "GoPro", "train"),
        ("train/mine", "", "train"),
    ]
    assert [pair.split for pair in find_pairs(tmp_path / "test")] == ["test"]


def test_a_scene_of_gopro_without_the_blur_folder_that_is_asked_for_is_named(tmp_path):
    put_pair(tmp_path / "a", "blur/1.png", "sharp/1.png"), put_pair(tmp_path / "a", "blur_gamma/1.png", "sharp/1.png")
    put_pair(tmp_path / "b", "blur/1.png", "sharp/1.png")
    with pytest.raises(DatasetError) as error:
        find_pairs(tmp_path, blur="blur_gamma")
    assert str(error.value).startswith(f"{tmp_path / 'b'}: has no folder 'blur_gamma' beside 'sharp', but 'blur'; ")


def test_two_folders_may_have_names_of_ones_own_and_folders_in_them(tmp_path):
    put_pair(tmp_path, "input/a.png", "target/a.jpg")
    put_pair(tmp_path, "input/night/a.png", "target/night/a.png")
    assert table(tmp_path, blur="input", sharp="target") == [
        ("input/a.png", "target/a.jpg", "", "", ""),
        ("input/night/a.png", "target/night/a.png", "night", "", ""),
    ]
    assert find_pairs(tmp_path) == []
    (tmp_path / "target" / "night" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"input/night/a.png: has no partner of that name in .*target"):
        find_pairs(tmp_path, blur="input", sharp="target")


def test_hide_as_it_unpacks_is_read_with_one_folder_of_partners_for_both_splits(tmp_path):
    home = tmp_path / "HIDE_dataset"
    for name, inner in (
        ("1fromA.png", "train"),
        ("2fromB.png", "test/test-close-ups"),
        ("3.png", "test/test-long-shot"),
    ):
        put_pair(home, f"{inner}/{name}", f"GT/{name}")
    put(home / "GT" / "unused.png")
    assert table(tmp_path) == [
        (
            f"HIDE_dataset/{inner}/{name}",
            f"HIDE_dataset/GT/{name}",
            f"HIDE_dataset/{inner}",
            "HIDE",
            inner.split("/")[0],
        )
        for inner, name in (
            ("test/test-close-ups", "2fromB.png"),
            ("test/test-long-shot", "3.png"),
            ("train", "1fromA.png"),
        )
    ]
    lonely = put(home / "train" / "4.png")
    assert refusal(tmp_path) == f"{lonely}: has no partner of that name in {home / 'GT'}; add it or take this one out"


REAL = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"


def put_realblur(root: Path) -> None:
    for scene, number in (("scene001", 1), ("scene001", 2), ("scene050", 10), ("scene232", 3)):
        put_pair(root / REAL / scene, f"blur/blur_{number}.png", f"gt/gt_{number}.png")


def test_realblur_is_paired_by_the_numbers_of_its_pictures(tmp_path):
    put_realblur(tmp_path)
    found = table(tmp_path)
    assert found[0] == (
        f"{REAL}/scene001/blur/blur_1.png",
        f"{REAL}/scene001/gt/gt_1.png",
        f"{REAL}/scene001",
        "RealBlur-J",
        "",
    )
    assert len(found) == 4
    lonely = put(tmp_path / REAL / "scene050" / "blur" / "blur_11.png")
    assert refusal(tmp_path).startswith(
        f"{lonely}: has no partner of that name in {tmp_path / REAL / 'scene050' / 'gt'}"
    )


def test_the_lists_of_realblur_say_what_is_for_training_and_what_for_tests(tmp_path):
    put_realblur(tmp_path)

    def line(scene: str, number: int, folder: str = REAL) -> str:
        return f"{folder}/{scene}/gt/gt_{number}.png {folder}/{scene}/blur/blur_{number}.png\n"

    (tmp_path / "RealBlur_J_train_list.txt").write_text(line("scene001", 1) + line("scene232", 3))
    (tmp_path / "RealBlur_J_test_list.txt").write_text(line("scene050", 10) + "\n")
    (tmp_path / "RealBlur_R_train_list.txt").write_text(line("scene001", 1, "RealBlur-R_BM3D"))  # which is not here
    found = {(pair.name, pair.sharp.name, pair.source, pair.split) for pair in find_pairs(tmp_path)}
    assert found == {
        (f"{REAL}/scene001/blur_1.png", "gt_1.png", "RealBlur-J", "train"),
        (f"{REAL}/scene232/blur_3.png", "gt_3.png", "RealBlur-J", "train"),
        (f"{REAL}/scene050/blur_10.png", "gt_10.png", "RealBlur-J", "test"),
    }
    gone = tmp_path / REAL / "scene232" / "gt" / "gt_3.png"
    gone.unlink()
    assert refusal(tmp_path) == (
        f"{gone}: is missing, though line 2 of {tmp_path / 'RealBlur_J_train_list.txt'} names it; add it"
    )
    (tmp_path / "RealBlur_J_train_list.txt").write_text("../../etc/a.png b.png\n")
    assert "line 1 does not name a sharp and a blurry picture" in refusal(tmp_path)


def test_reds_as_it_unpacks_is_read_with_the_kind_of_blur_that_is_asked_for(tmp_path):
    for split in ("train", "val"):
        for kind in ("blur", "blur_jpeg", "sharp"):
            put(tmp_path / split / f"{split}_{kind}" / "000" / "00000007.png")
    put(tmp_path / "train" / "train_sharp_bicubic" / "X4" / "000" / "00000007.png")
    assert table(tmp_path) == [
        (
            f"{split}/{split}_blur/000/00000007.png",
            f"{split}/{split}_sharp/000/00000007.png",
            f"{split}/000",
            "REDS",
            split,
        )
        for split in ("train", "val")
    ]
    assert [path for path, *_ in table(tmp_path, blur="blur_jpeg")] == [
        f"{split}/{split}_blur_jpeg/000/00000007.png" for split in ("train", "val")
    ]
    assert len({pair.name for pair in find_pairs(tmp_path)}) == 2


def pairs_of(source: str, split: str, count: int) -> list[Pair]:
    return [Pair(Path(f"{number}.png"), Path(f"{number}.png"), "", source, split) for number in range(count)]


@pytest.mark.slow
def test_a_whole_set_is_passed_over_in_silence_and_a_part_of_it_in_one_sentence():
    assert count_notes(pairs_of("GoPro", "train", 2103) + pairs_of("GoPro", "test", 1111) + pairs_of("", "", 5)) == []
    assert count_notes(pairs_of("GoPro", "train", 2102)) == [
        "GoPro: 2102 of the 2103 pairs of 'train' are here; say so beside any score"
    ]
    assert count_notes(pairs_of("GoPro", "test", 1112)) == [
        "GoPro: 1112 pairs in 'test', but the set has 1111; it may lie here twice"
    ]
    assert count_notes(pairs_of("GoPro", "", 94)) == [
        "GoPro: 94 pairs, of no known split; the whole set has 2103 in 'train' and 1111 in 'test'"
    ]
