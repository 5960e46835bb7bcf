"""`score`: pictures of any program, paired by their names in whatever folders they lie."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_hub import DatasetError
from deblur_hub.cli import main
from deblur_hub.evaluation import Evaluation, score_pictures
from tests.train.tiny_runs import make_pairs, photograph, save

SCENES = ("GOPR0384_11_00", "GOPR0396_11_00")
TWO_LEVELS = 20 * math.log10(255 / 2)


@pytest.fixture
def gopro(tmp_path) -> Path:
    for number, scene in enumerate(SCENES):
        make_pairs(tmp_path / "GOPRO_Large/test" / scene, 2, seed=number * 5, size=(48, 40))
    make_pairs(tmp_path / "GOPRO_Large/train/GOPR0372_07_00", 1, seed=20, size=(48, 40))
    return tmp_path / "GOPRO_Large"


def restored(gopro: Path, folder: Path, suffix: str = ".png") -> Path:
    """What another program made of the set: two levels darker than the truth."""
    for path in (gopro / "test").glob("*/sharp/*.png"):
        pixels = np.asarray(Image.open(path)).clip(2, 255) - 2
        save(pixels, folder / path.parents[1].name / f"{path.stem}{suffix}")
    for path in (gopro / "test").glob("*/sharp/*.png"):
        save(np.asarray(Image.open(path)).clip(2, 255), path)
    return folder


@pytest.mark.parametrize("inside", ["", "test"])
def test_nested_folders_are_paired_with_gopros_own_layout(gopro, tmp_path, inside):
    folder = restored(gopro, tmp_path / "restored")
    found = score_pictures(folder, gopro / inside, blurred=gopro / inside)
    assert [row.name for row in found.rows] == [f"{scene}/{number:03}.png" for scene in SCENES for number in (0, 1)]
    for row in found.rows:
        assert row.scores["psnr"] == pytest.approx(TWO_LEVELS)
        assert row.gain("psnr") == row.scores["psnr"] - row.scores["blurred_psnr"] > 5


def test_a_score_can_be_compared_with_an_evaluation_of_the_same_set(gopro, tmp_path, capsys):
    folder = restored(gopro, tmp_path / "restored", ".bmp")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["evaluate", "identity", str(gopro), "-o", a, "-q"]) == 0
    assert main(["score", str(folder), str(gopro), "-o", b, "-q"]) == 0
    capsys.readouterr()
    assert main(["compare", a, b]) == 0
    assert f"{TWO_LEVELS:.2f} dB" in capsys.readouterr().out


def test_without_the_blurry_input_there_is_no_gain(gopro, tmp_path, capsys):
    folder = restored(gopro, tmp_path / "restored")
    assert main(["score", str(folder), str(gopro / "test"), "-q"]) == 0
    out = capsys.readouterr().out
    assert not any(word in out for word in ("blurry PSNR", "PSNR, blurry", "gain", "seconds"))
    assert f"{TWO_LEVELS:.2f} dB" in out


def test_plain_folders_of_any_format_are_paired_by_name(tmp_path):
    for number in range(2):
        sharp = photograph(number, (48, 40))
        save(sharp, tmp_path / "sharp" / f"{number}.png")
        save(sharp, tmp_path / "restored" / f"{number}.tif")
    found = score_pictures(tmp_path / "restored", tmp_path / "sharp")
    assert [row.scores["psnr"] for row in found.rows] == [math.inf] * 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "restored/001.png").unlink(), r"sharp/001\.png: has no restored partner '001'"),
        (lambda root: (root / "sharp/001.png").unlink(), r"restored/001\.png: has no sharp partner '001'"),
        (lambda root: (root / "blur/001.png").unlink(), r"restored/001\.png: has no blurry partner '001'"),
        (lambda root: save(photograph(0, (40, 40)), root / "restored/001.png"), r"restored/001\.png: 40x40 .* 48x40"),
        (lambda root: save(photograph(0, (40, 40)), root / "blur/001.png"), r"blur/001\.png: 40x40 .* 48x40"),
        (lambda root: (root / "restored/001.png").write_text("hello"), r"restored/001\.png: not a picture"),
        (
            lambda root: save(photograph(0), root / "restored/001.bmp"),
            r"001\.png: has the name of .*001\.bmp|001\.bmp: has the name of",
        ),
        (lambda root: [path.unlink() for path in (root / "restored").iterdir()], r"restored: holds no pictures"),
        (lambda root: (root / "sharp").rename(root / "other"), r"sharp: no such folder"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, spoil, says):
    make_pairs(tmp_path, 2, seed=0, size=(48, 40))
    make_pairs(tmp_path / "twice", 2, seed=0, size=(48, 40))
    (tmp_path / "twice" / "blur").rename(tmp_path / "restored")
    spoil(tmp_path)
    with pytest.raises(DatasetError, match=says):
        score_pictures(tmp_path / "restored", tmp_path / "sharp", blurred=tmp_path / "blur", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_that_are_there_are_kept_unless_they_may_be_replaced(gopro, tmp_path, capsys):
    folder = restored(gopro, tmp_path / "restored")
    command = ["score", str(folder), str(gopro), "-o", str(tmp_path / "out"), "-q"]
    assert main(command) == 0
    before = json.loads((tmp_path / "out" / "results.json").read_text())
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == before["rows"]
    assert Evaluation.read(tmp_path / "out").settings.weights == ""


@pytest.mark.slow
def test_under_resized_256_the_sizes_may_differ(gopro, tmp_path):
    for path in (gopro / "test").glob("*/sharp/*.png"):
        small = Image.open(path).resize((256, 256), Image.BICUBIC)
        save(np.asarray(small), tmp_path / "restored" / path.parents[1].name / path.name)
    command = [
        "score",
        str(tmp_path / "restored"),
        str(gopro),
        "--protocol",
        "resized-256",
        "-o",
        str(tmp_path / "o"),
        "-q",
    ]
    assert main(command) == 0
    assert [row.scores["psnr"] for row in Evaluation.read(tmp_path / "o").rows] == [math.inf] * 4
