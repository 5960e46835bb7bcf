"""What `evaluate` prints, writes and refuses: known answers by hand, and the restored pictures scored a second time."""

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_hub import DatasetError, DeblurGenerator
from deblur_hub.cli import main
from deblur_hub.evaluation import METRICS, Evaluation, evaluate, pairs_in, sharp_pictures
from deblur_hub.evaluation.baselines import BASELINES, Baseline
from deblur_hub.evaluation.protocols import PROTOCOLS
from tests.train.tiny_runs import make_pairs, photograph, save, smeared

SIZE = (48, 40)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model(generator, tmp_path) -> Path:
    return generator.save_pretrained(tmp_path / "model")


@pytest.fixture
def pairs(tmp_path) -> Path:
    make_pairs(tmp_path / "set", 3, seed=0, size=SIZE)
    return tmp_path / "set"


@pytest.fixture
def shifted(tmp_path) -> Path:
    """Two pairs whose blurred pictures are off by 10 and 20 levels everywhere: 28.13 and 22.11 dB."""
    for number, shift in enumerate((10, 20)):
        sharp = photograph(number, SIZE) // 2
        save(sharp, tmp_path / "shifted" / "sharp" / f"{number}.png")
        save(sharp + np.uint8(shift), tmp_path / "shifted" / "blur" / f"{number}.png")
    return tmp_path / "shifted"


def sentence(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "deblur-hub: " in line]
    assert len(lines) == 1, lines
    return lines[0].split("deblur-hub: ", 1)[1]


def cells(text: str, first: str) -> list[list[str]]:
    """The lines of a printed table whose first column is called `first`."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    start = next(number for number, line in enumerate(lines) if line[0] == first)
    width = len(lines[start])
    return [line for line in lines[start + 2 :] if len(line) == width]


def json_rows(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["rows"]


def restorer(function) -> Baseline:
    return Baseline("made-up", "of a test", function)


# --- what is printed ---------------------------------------------------------------------------------------------


def test_the_blurry_inputs_own_score_the_gain_and_the_spread_are_printed(shifted, capsys):
    assert main(["evaluate", "identity", str(shifted), "-q"]) == 0
    out = capsys.readouterr().out
    ten, twenty = (20 * math.log10(255 / shift) for shift in (10, 20))
    rows = cells(out, "picture")
    assert [row[:4] for row in rows] == [
        ["0.png", f"{ten:.2f} dB", f"{ten:.2f} dB", "+0.00 dB"],
        ["1.png", f"{twenty:.2f} dB", f"{twenty:.2f} dB", "+0.00 dB"],
        ["mean", f"{(ten + twenty) / 2:.2f} dB", f"{(ten + twenty) / 2:.2f} dB", "+0.00 dB"],
    ]
    spread = {row[0]: row[1:] for row in cells(out, "over 2 pictures")}
    expected = [(ten + twenty) / 2, (ten - twenty) / 2, twenty, ten]
    assert spread["PSNR, blurry"] == spread["PSNR, restored"] == [f"{value:.2f} dB" for value in expected]
    assert spread["PSNR, gain"] == ["+0.00 dB", "0.00 dB", "+0.00 dB", "+0.00 dB"]
    assert {"SSIM, restored", "SSIM (MATLAB), blurry", "SSIM (MATLAB), gain"} <= spread.keys()
    assert "protocol pairs: " in out and "may stand beside nothing but scores of the same pictures" in out


def test_the_scores_of_a_generator_are_those_of_what_deblur_gives(model, pairs, tmp_path):
    assert main(["evaluate", str(model), str(pairs), "-q", "--output", str(tmp_path / "out")]) == 0
    generator = DeblurGenerator.from_pretrained(model)
    for row in json_rows(tmp_path / "out"):
        restored = np.asarray(generator.deblur(Image.open(pairs / "blur" / row["name"])), float)
        sharp = np.asarray(Image.open(pairs / "sharp" / row["name"]), float)
        expected = 10 * math.log10(255**2 / ((restored - sharp) ** 2).mean())
        # Up to a few samples on the edge between two levels, which fall otherwise with another number of threads.
        assert row["psnr"] == pytest.approx(expected, abs=0.01)
        assert row["psnr"] != row["blurred_psnr"]


def test_further_metrics_are_columns_on_request(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "unsharp", str(pairs), "-q", "-o", str(out), "--metrics", "psnr_y,cw_ssim"]
    assert main(command) == 0
    names = ["psnr", "ssim", "ssim_matlab", "cw_ssim", "psnr_y"]
    expected = {"name", "psnr_float", *names, *(f"blurred_{name}" for name in names)}
    assert all(row.keys() == expected for row in json_rows(out))
    measures = {row[0] for row in cells(capsys.readouterr().out, "over 3 pictures")}
    assert {"CW-SSIM, gain", "PSNR of luma, restored"} <= measures
    assert main(["evaluate", "unsharp", str(pairs), "--metrics", "cw_sim"]) == 2
    assert "did you mean 'cw_ssim'?" in sentence(capsys)


# --- rounding, and what is saved ---------------------------------------------------------------------------------


def test_the_saved_pictures_scored_again_give_equal_numbers(model, pairs, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    assert main(["evaluate", str(model), str(pairs), "-q", "--output", str(out), "--save"]) == 0
    command = ["score", str(out / "restored"), str(pairs / "sharp"), "--blurred", str(pairs / "blur")]
    assert main([*command, "--output", str(again), "-q"]) == 0
    first, second = json_rows(out), json_rows(again)
    for row in first:
        assert row.pop("psnr_float") != row["psnr"]
    assert len(first) == 3 and first == second


def test_samples_are_rounded_to_the_nearest_level_and_scored_as_rounded(shifted, tmp_path):
    """Off by 0.3 of a level they are perfect once rounded, by 0.6 they are one level off; unrounded neither is so."""
    for offset, rounded in ((0.3, math.inf), (0.6, 20 * math.log10(255))):
        out = tmp_path / str(offset)
        evaluation = evaluate(
            restorer(lambda x, offset=offset: x + offset / 127.5),
            same_as_sharp(shifted),
            output=out,
            save=True,
        )
        for row in evaluation.rows:
            assert row.scores["psnr"] == pytest.approx(rounded)
            assert row.scores["psnr_float"] == pytest.approx(20 * math.log10(255 / offset), abs=1e-3)
            saved = Image.open(out / "restored" / row.name)
            assert saved.mode == "RGB" and saved.format == "PNG"
            difference = np.asarray(saved).astype(int) - np.asarray(Image.open(shifted / "sharp" / row.name))
            assert (difference == (0 if offset < 0.5 else 1)).all()


def same_as_sharp(folder: Path) -> Path:
    for path in (folder / "sharp").iterdir():
        (folder / "blur" / path.name).write_bytes(path.read_bytes())
    return folder


def test_perfect_pictures_are_reported_as_infinite_and_not_dropped(shifted, tmp_path, capsys):
    (shifted / "blur" / "0.png").write_bytes((shifted / "sharp" / "0.png").read_bytes())
    assert main(["evaluate", "identity", str(shifted), "-q", "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    spread = {row[0]: row[1:] for row in cells(out, "over 2 pictures")}
    assert spread["PSNR, restored"] == ["inf dB", "-", "22.11 dB", "inf dB"]
    assert spread["PSNR, gain"][0] == "+0.00 dB"
    assert json_rows(tmp_path / "out")[0]["psnr"] == "inf"
    assert Evaluation.read(tmp_path / "out").rows[0].scores["psnr"] == math.inf


def test_saving_needs_an_output_folder(pairs, capsys):
    assert main(["evaluate", "identity", str(pairs), "--save"]) == 2
    assert "--output" in sentence(capsys)


# --- what is scored ----------------------------------------------------------------------------------------------


def gopro(root: Path) -> Path:
    """The layout that GoPro unpacks to, tiny: two scenes to test, one to train."""
    for scene, seed in (("test/GOPR0384_11_00", 0), ("test/GOPR0396_11_00", 5), ("train/GOPR0372_07_00", 9)):
        make_pairs(root / scene, 2, seed=seed, size=SIZE)
        for path in (root / scene / "sharp").iterdir():
            save(smeared(np.asarray(Image.open(path)), 9), root / scene / "blur_gamma" / path.name)
    return root


def test_of_gopro_as_it_unpacks_the_test_scenes_are_scored(tmp_path):
    root = gopro(tmp_path / "GOPRO_Large")
    whole, part = (evaluate(BASELINES["identity"], folder) for folder in (root, root / "test"))
    names = [f"{scene}/{number:03}.png" for scene in ("GOPR0384_11_00", "GOPR0396_11_00") for number in (0, 1)]
    assert [row.name for row in whole.rows] == names
    assert [row.scores for row in whole.rows] == [row.scores for row in part.rows]
    assert whole.settings.fingerprint == part.settings.fingerprint


def test_the_blurred_pictures_can_be_gopros_other_ones(tmp_path):
    root = gopro(tmp_path / "GOPRO_Large")
    for blur, length in (("linear", 5), ("gamma", 9)):
        out = tmp_path / blur
        assert main(["evaluate", "identity", str(root), "--blur", blur, "-o", str(out), "-q"]) == 0
        sharp = np.asarray(Image.open(root / "test/GOPR0384_11_00/sharp/000.png"))
        error = ((smeared(sharp, length).astype(float) - sharp) ** 2).mean()
        assert json_rows(out)[0]["psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=1e-6)
    assert Evaluation.read(tmp_path / "gamma").settings.blur_folder == "blur_gamma"


def test_a_set_that_is_not_the_protocols_is_refused(tmp_path, capsys):
    assert main(["evaluate", "identity", str(gopro(tmp_path / "set")), "--protocol", "gopro"]) == 2
    assert re.search(r"not the set of 'gopro': it has 4 pairs, not 1111; use --protocol pairs", sentence(capsys))
    assert main(["evaluate", "identity", str(tmp_path / "set"), "--protocol", "gpro"]) == 2
    assert "did you mean 'gopro'?" in sentence(capsys)


@pytest.mark.slow
def test_under_resized_256_the_network_sees_resized_pictures(pairs, tmp_path):
    seen = []
    evaluation = evaluate(
        restorer(lambda x: seen.append(x.shape) or x),
        pairs,
        protocol=PROTOCOLS["resized-256"],
        output=tmp_path / "out",
        save=True,
    )
    assert seen == [(1, 3, 256, 256)] * 3
    sharp, blurred = (
        Image.open(pairs / kind / "000.png").resize((256, 256), Image.BICUBIC) for kind in ("sharp", "blur")
    )
    error = ((np.asarray(blurred, float) - np.asarray(sharp, float)) ** 2).mean()
    assert evaluation.rows[0].scores["psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=1e-6)
    assert Image.open(tmp_path / "out/restored/000.png").size == (256, 256)


def test_where_a_protocol_aligns_the_unaligned_scores_stand_beside(tmp_path):
    pytest.importorskip("cv2")
    sharp = smeared(photograph(0, (160, 120)), 3)
    save(sharp, tmp_path / "set/sharp/0.png")
    save(np.roll(sharp, 2, axis=1), tmp_path / "set/blur/0.png")
    evaluation = evaluate(
        BASELINES["identity"], tmp_path / "set", protocol=replace(PROTOCOLS["realblur-j"], count=None)
    )
    scores = evaluation.rows[0].scores
    assert scores["psnr"] > scores["psnr_unaligned"] + 5
    assert scores["psnr_unaligned"] == scores["blurred_psnr_unaligned"] and "ssim_matlab" not in scores
    with pytest.raises(DatasetError, match="cw_ssim is not defined under 'realblur-j'"):
        evaluate(
            BASELINES["identity"],
            tmp_path / "set",
            protocol=replace(PROTOCOLS["realblur-j"], count=None),
            metrics=("cw_ssim",),
        )


def test_the_rows_do_not_depend_on_the_order_of_the_folder(tmp_path, monkeypatch):
    make_pairs(tmp_path / "one", 4, seed=0, size=SIZE)
    for kind in ("sharp", "blur"):
        for path in sorted((tmp_path / "one" / kind).iterdir(), reverse=True):
            (tmp_path / "two" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "two" / kind / path.name).write_bytes(path.read_bytes())
    first = evaluate(BASELINES["unsharp"], tmp_path / "one")
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    second = evaluate(BASELINES["unsharp"], tmp_path / "two")
    assert [(row.name, row.scores) for row in first.rows] == [(row.name, row.scores) for row in second.rows]
    assert first.settings == second.settings


# --- sharp photographs -------------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path) -> Path:
    for number in range(3):
        save(photograph(number, (96, 80)), tmp_path / "photographs" / "deep" / f"{number}.png")
    return tmp_path / "photographs"


def test_sharp_photographs_are_restored_and_scored_against_themselves(model, photographs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(model), "--sharp", str(photographs), "-q", "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "protocol sharp: " in printed and "blurry" not in printed
    rows = json_rows(out)
    generator = DeblurGenerator.from_pretrained(model)
    for row in rows:
        sharp = Image.open(photographs / row["name"])
        error = ((np.asarray(generator.deblur(sharp), float) - np.asarray(sharp)) ** 2).mean()
        assert row["psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=0.01)
    values = [row["psnr"] for row in rows]
    (spread,) = [row[1:] for row in cells(printed, "over 3 pictures") if row[0] == "PSNR, restored"]
    assert spread[0] == f"{np.mean(values):.2f} dB" and spread[2] == f"{min(values):.2f} dB"
    assert [row[1] for row in cells(printed, "picture")] == [f"{value:.2f} dB" for value in [*values, np.mean(values)]]


def test_a_synthetic_shake_depends_on_the_seed_and_the_pictures_name_alone(photographs):
    first, again, other = (sharp_pictures(photographs, seed=seed) for seed in (3, 3, 4))
    shaken = [first.load(sample) for sample in first.samples]
    (photographs / "deep" / "0.png").unlink()
    fewer = sharp_pictures(photographs, seed=3)
    for sample, (blurred, sharp) in zip(fewer.samples, shaken[1:], strict=True):
        same = fewer.load(sample)
        assert torch.equal(same[0], blurred) and torch.equal(same[1], sharp)
    assert not torch.equal(other.load(other.samples[1])[0], shaken[1][0])
    assert first.fingerprint == again.fingerprint


def test_a_synthetic_shake_is_scored_like_pairs_under_its_own_name(photographs, tmp_path):
    command = ["evaluate", "unsharp", "--synthetic", str(photographs), "--seed", "7", "-q"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    evaluation = Evaluation.read(tmp_path / "out")
    assert (evaluation.settings.protocol, evaluation.settings.seed) == ("synthetic-shake", 7)
    for row in evaluation.rows:
        assert 5 < row.scores["blurred_psnr"] < 40 and row.scores["psnr"] != row.scores["blurred_psnr"]


def test_a_synthetic_shake_leaves_an_even_picture_even_and_keeps_the_light(tmp_path):
    save(np.full((80, 96, 3), 77, np.uint8), tmp_path / "even" / "0.png")
    even = sharp_pictures(tmp_path / "even", seed=0)
    blurred, sharp = even.load(even.samples[0])
    assert blurred.shape == sharp.shape and min(sharp.shape[-2:]) >= 40
    assert torch.allclose(blurred, sharp, atol=1e-6)


def test_an_upload_is_the_same_shake_with_noise_and_jpeg(photographs, tmp_path):
    save(np.full((80, 96, 3), 77, np.uint8), tmp_path / "even" / "0.png")
    even = sharp_pictures(tmp_path / "even", seed=0, upload=True)
    blurred, sharp = even.load(even.samples[0])
    assert blurred.shape == sharp.shape and 0.1 < 255 / 2 * (blurred - sharp).std() < 10
    plain, upload = (sharp_pictures(photographs, seed=0, upload=upload) for upload in (False, True))
    for sample in plain.samples:
        (clean, sharp), (noisy, same) = plain.load(sample), upload.load(sample)
        assert torch.equal(sharp, same) and not torch.equal(clean, noisy)
        assert (noisy - clean).abs().mean() < 0.1
        assert torch.equal(noisy, upload.load(sample)[0])
    command = ["evaluate", "unsharp", "--synthetic", str(photographs), "--upload", "-q", "-o", str(tmp_path / "out")]
    assert main(command) == 0
    assert Evaluation.read(tmp_path / "out").settings.protocol == "synthetic-upload"


def test_one_set_at_a_time(pairs, photographs, capsys):
    assert main(["evaluate", "identity", str(pairs), "--sharp", str(photographs)]) == 2
    assert "only one set at a time" in sentence(capsys)
    assert main(["evaluate", "identity", str(pairs), "--seed", "1"]) == 2
    assert "--synthetic" in sentence(capsys)
    assert main(["evaluate", "identity", str(pairs), "--upload"]) == 2
    assert "--synthetic" in sentence(capsys)
    assert main(["evaluate", "identity", "--sharp", str(photographs), "--blur", "gamma"]) == 2
    assert "--blur" in sentence(capsys)
    with pytest.raises(SystemExit):
        main(["evaluate", "identity"])
    assert "dataset" in capsys.readouterr().err


def test_options_may_stand_between_model_and_dataset(pairs):
    assert main(["evaluate", "identity", "--precision", "float32", str(pairs), "-q"]) == 0


# --- bad data ----------------------------------------------------------------------------------------------------


def cut_off(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def as_jpeg(path: Path) -> Path:
    Image.open(path).save(path.with_suffix(".jpg"), quality=95)
    path.unlink()
    return path.with_suffix(".jpg")


BAD = {
    "unpaired": (lambda root: (root / "sharp/002.png").unlink(), r"002\.png: has no partner"),
    "two sizes": (lambda root: save(photograph(0, (40, 40)), root / "sharp/002.png"), r"002\.png: 48x40 .* 40x40"),
    "no picture": (lambda root: (root / "blur/002.png").write_text("hello"), r"002\.png: not a picture"),
    "cut off": (lambda root: cut_off(root / "blur/002.png"), r"blur/002\.png: truncated"),
    "a cut JPEG": (lambda root: cut_off(as_jpeg(root / "blur/002.png")), r"blur/002\.jpg: truncated"),
    "no pairs": (lambda root: (root / "blur").rename(root / "blurry"), r"holds no folder with both 'blur' and 'sharp'"),
    "too small": (
        lambda root: [save(photograph(0, (40, 9)), root / kind / "002.png") for kind in ("sharp", "blur")],
        r"002\.png: 40x9 pixels, but ssim needs at least 11x11",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_data_are_named_before_any_scoring_starts(pairs, tmp_path, what, monkeypatch):
    spoil, says = BAD[what]
    spoil(pairs)
    monkeypatch.setattr(Baseline, "restore", lambda *_, **__: pytest.fail("a picture was restored"))
    with pytest.raises(DatasetError, match=says):
        evaluate(BASELINES["identity"], pairs, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_restoring_accepts_with_a_note_are_scored_and_the_note_is_said_once(pairs, caplog):
    for path in (as_jpeg(pairs / kind / f"00{number}.png") for kind in ("blur", "sharp") for number in (1, 2)):
        path.write_bytes(path.read_bytes()[:-2])
    whole = (pairs / "blur" / "000.png").read_bytes()
    (pairs / "blur" / "000.png").write_bytes(whole[:-12])
    names = [row.name for row in evaluate(BASELINES["identity"], pairs).rows]
    assert "001.jpg" in names and "000.png" in names
    note = "the end of the file is missing; all of the picture was there"
    assert caplog.messages == [f"{pairs}/blur/000.png and 4 more: {note}"]


def test_bad_data_are_one_sentence_in_the_shell(pairs, capsys):
    cut_off(pairs / "sharp" / "001.png")
    assert main(["evaluate", "compact", str(pairs), "-q"]) == 2
    assert sentence(capsys).startswith(f"{pairs / 'sharp' / '001.png'}: truncated")


def test_a_folder_that_cannot_be_written_is_named(pairs, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match=r"file: cannot be written \(.*\); give another --output"):
        evaluate(BASELINES["identity"], pairs, output=tmp_path / "file")


# --- costs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_time_is_that_of_restoring_alone_and_memory_that_of_the_process(pairs, tmp_path):
    import time

    made = evaluate(restorer(lambda x: time.sleep(0.2) or x), pairs, output=tmp_path / "out")
    assert all(0.2 <= row.seconds < 2 for row in made.rows) and 0.2 <= made.seconds_per_picture() < 2
    assert made.seconds >= sum(row.seconds for row in made.rows)
    assert made.peak_memory > 50 * 2**20 and made.peak_cuda == 0
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["timings"].keys() == {row["name"] for row in content["rows"]}
    assert not any("seconds" in row for row in content["rows"])


def test_the_number_of_threads_is_left_as_it_was(pairs):
    assert torch.get_num_threads() == 1
    assert evaluate(BASELINES["identity"], pairs).threads == 2
    assert torch.get_num_threads() == 1


def test_progress_counts_the_pictures(pairs):
    seen = []
    evaluate(BASELINES["identity"], pairs, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_every_metric_of_the_table_is_known_to_the_protocols():
    assert set(PROTOCOLS["pairs"].metrics) == METRICS.keys()


def test_a_set_can_be_prepared_beforehand(pairs):
    made = evaluate(BASELINES["identity"], pairs_in(pairs, PROTOCOLS["pairs"]))
    assert made.settings == evaluate(BASELINES["identity"], pairs).settings
    assert os.fspath(pairs) == made.dataset
