"""results.json and the rows of a run that goes on: read back strictly, resumed exactly, never mixed."""

import json
import math
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from deblur_hub import DatasetError
from deblur_hub.cli import main
from deblur_hub.evaluation import Evaluation, Row, Settings, Spread, evaluate, pairs_in
from deblur_hub.evaluation.baselines import BASELINES, Baseline
from deblur_hub.evaluation.protocols import PROTOCOLS
from deblur_hub.evaluation.results import resumable_rows
from tests.train.tiny_runs import make_pairs, photograph, save

SETTINGS = Settings(
    protocol="pairs",
    blur_folder="blur",
    seed=None,
    fingerprint="0" * 64,
    pictures=2,
    model="tiny",
    weights="1" * 64,
    version="0.1.0",
    device="cpu",
    precision="float32",
    tile=None,
    metrics=("psnr", "ssim"),
)
ROWS = (
    Row("a/0.png", {"psnr": math.inf, "ssim": 1.0, "blurred_psnr": 24.5, "blurred_ssim": 0.75}, 0.5),
    Row("a/1.png", {"psnr": 30.25, "ssim": 0.9, "blurred_psnr": 25.0, "blurred_ssim": 0.7}, 0.25),
)
MADE = Evaluation(SETTINGS, ROWS, dataset="set", command="deblur-hub evaluate", date="2026-01-01", peak_memory=5)


@pytest.fixture
def pairs(tmp_path) -> Path:
    make_pairs(tmp_path / "set", 3, seed=0, size=(48, 40))
    return tmp_path / "set"


def content(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


# --- the file ----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path):
    MADE.save(tmp_path / "results.json")
    assert Evaluation.read(tmp_path / "results.json") == MADE
    assert Evaluation.read(tmp_path) == MADE


def test_the_file_is_plain_json_with_the_times_apart_from_the_rows(tmp_path):
    MADE.save(tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert found["rows"][0] == {
        "name": "a/0.png",
        "psnr": "inf",
        "ssim": 1.0,
        "blurred_psnr": 24.5,
        "blurred_ssim": 0.75,
    }
    assert found["timings"] == {"a/0.png": 0.5, "a/1.png": 0.25}
    assert found["schema"] == 1 and found["weights"] == "1" * 64 and found["tile"] is None
    assert found["summary"]["ssim"]["gain"]["mean"] == pytest.approx((0.25 + 0.2) / 2)
    assert found["summary"]["psnr"]["restored"] == {"mean": "inf", "std": None, "min": 30.25, "max": "inf"}


def spoiled(change):
    def spoil(path: Path) -> None:
        whole = json.loads(path.read_text())
        change(whole)
        path.write_text(json.dumps(whole))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "no such file; 'deblur-hub evaluate"),
        (lambda path: path.write_text(path.read_text()[:-40]), "cannot be read"),
        (lambda path: path.write_text("[]"), "is not a results.json"),
        (spoiled(lambda whole: whole.update(schema=2)), "has schema 2, this version of deblur-hub reads 1"),
        (spoiled(lambda whole: whole.pop("weights")), "lacks 'weights'"),
        (spoiled(lambda whole: whole.update(colour="RGB")), "has the unknown key 'colour'"),
        (spoiled(lambda whole: whole["rows"].pop()), "its rows are not those of 2 pictures"),
        (spoiled(lambda whole: whole["rows"][0].pop("ssim")), "its rows are not those"),
        (spoiled(lambda whole: whole["rows"][0].update(ssim="good")), "is damaged"),
        (spoiled(lambda whole: whole["timings"].clear()), "is damaged"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_name(tmp_path, spoil, says):
    path = MADE.save(tmp_path / "results.json")
    spoil(path)
    with pytest.raises(DatasetError, match=says):
        Evaluation.read(path)


def test_a_run_says_how_it_was_made(pairs, generator, tmp_path):
    from deblur_hub import hub

    model = generator.save_pretrained(tmp_path / "model")
    typed = ["evaluate", str(model), str(pairs), "-o", str(tmp_path / "out"), "--tile", "64", "-q"]
    assert main(typed) == 0
    found = content(tmp_path / "out")
    assert found["weights"] == hub.checksum(generator.network.state_dict())
    assert (found["tile"], found["device"], found["model"], found["pictures"]) == (64, "cpu", "tiny", 3)
    assert shlex.split(found["command"]) == ["deblur-hub", *typed] and found["date"].endswith("+00:00")
    assert found["peak_memory"] > 0 and found["processes"] == 1 and found["precision"] in ("float32", "bfloat16")


def test_the_fingerprint_is_of_names_and_sizes(tmp_path):
    def fingerprint(**pictures) -> str:
        folder = tmp_path / "-".join(f"{name}{size}" for name, size in pictures.items())
        for name, size in pictures.items():
            for kind in ("blur", "sharp"):
                save(photograph(0, size), folder / kind / f"{name}.png")
        return pairs_in(folder, PROTOCOLS["pairs"]).fingerprint

    first = fingerprint(a=(20, 20), b=(30, 20))
    assert first == fingerprint(b=(30, 20), a=(20, 20)) and len(first) == 64
    assert (
        len({first, fingerprint(a=(20, 20)), fingerprint(a=(20, 20), c=(30, 20)), fingerprint(a=(20, 20), b=(20, 30))})
        == 4
    )


def test_the_spread_is_over_the_pictures():
    spread = Spread.of([1.0, 2.0, 6.0])
    assert (spread.mean, spread.min, spread.max) == (3, 1, 6) and spread.std == pytest.approx(math.sqrt(14 / 3))
    assert Spread.of([1.0, math.inf]) == Spread(math.inf, None, 1, math.inf)


# --- resuming ----------------------------------------------------------------------------------------------------


class Counting:
    """Counts what the baseline restores, and stops after so many."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.seen, self.stop_after = 0, stop_after

    def __call__(self, picture):
        if self.seen == self.stop_after:
            raise KeyboardInterrupt
        self.seen += 1
        return picture * 0.9


def run(pairs: Path, out: Path, counting: Counting, **options) -> Evaluation:
    return evaluate(Baseline("made-up", "of a test", counting), pairs, output=out, **options)


@pytest.mark.parametrize("done", [0, 1, 2, 3])
@pytest.mark.parametrize("save_pictures", [False, True])
def test_an_interrupted_run_goes_on_where_it_stopped_and_ends_with_the_same_rows(pairs, tmp_path, done, save_pictures):
    first, second = Counting(done), Counting()
    if done < 3:
        with pytest.raises(KeyboardInterrupt):
            run(pairs, tmp_path / "out", first, save=save_pictures)
        assert not (tmp_path / "out" / "results.json").exists()
    else:
        run(pairs, tmp_path / "out", first, save=save_pictures)
    run(pairs, tmp_path / "out", second, save=save_pictures)
    run(pairs, tmp_path / "whole", Counting())
    assert (first.seen, second.seen) == (done, 3 - done)
    assert content(tmp_path / "out")["rows"] == content(tmp_path / "whole")["rows"]


@pytest.mark.parametrize("lost", [1, 5, 60])
def test_a_last_line_that_was_cut_short_costs_that_picture_alone(pairs, tmp_path, lost):
    run(pairs, tmp_path / "out", Counting())
    rows = content(tmp_path / "out")["rows"]
    (tmp_path / "out" / "results.json").unlink()
    log = tmp_path / "out" / "rows.jsonl"
    log.write_bytes(log.read_bytes()[:-lost])
    again = Counting()
    run(pairs, tmp_path / "out", again)
    assert again.seen == 1 and content(tmp_path / "out")["rows"] == rows
    assert len(log.read_text().splitlines()) == 4


def test_a_picture_that_is_to_be_saved_and_is_not_there_is_restored_again(pairs, tmp_path):
    run(pairs, tmp_path / "out", Counting(), save=True)
    (tmp_path / "out/restored/001.png").unlink()
    again = Counting()
    run(pairs, tmp_path / "out", again, save=True)
    assert again.seen == 1 and (tmp_path / "out/restored/001.png").exists()


@pytest.mark.slow
def test_a_finished_run_is_taken_over_from_results_json_alone(pairs, tmp_path):
    run(pairs, tmp_path / "out", Counting())
    (tmp_path / "out" / "rows.jsonl").unlink()
    again = Counting()
    run(pairs, tmp_path / "out", again)
    assert again.seen == 0


def other(value):
    if isinstance(value, tuple):
        return (*value, "lpips")
    return f"{value}-other" if isinstance(value, str) else (value or 0) + 1


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_rows_of_other_settings_are_not_mixed_in(tmp_path, name):
    resumable_rows(tmp_path, SETTINGS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = replace(SETTINGS, **{name: other(getattr(SETTINGS, name))})
    with pytest.raises(
        DatasetError, match=f"differs from this one in {name} .*; give another --output, or --overwrite"
    ):
        resumable_rows(tmp_path, changed)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert resumable_rows(tmp_path, changed, overwrite=True) == []
    assert resumable_rows(tmp_path, changed) == []


def test_results_of_another_run_are_not_written_over(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", "identity", str(pairs), "-o", str(out), "-q"]) == 0
    (out / "rows.jsonl").unlink()
    before = (out / "results.json").read_bytes()
    assert main(["evaluate", "unsharp", str(pairs), "-o", str(out), "-q"]) == 2
    assert "model identity and unsharp; give another --output, or --overwrite" in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before
    assert main(["evaluate", "unsharp", str(pairs), "-o", str(out), "-q", "--overwrite"]) == 0
    assert Evaluation.read(out).model == "unsharp"


def test_another_log_in_the_folder_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(DatasetError, match=r"rows\.jsonl: is not a log of rows"):
        resumable_rows(tmp_path, SETTINGS)


def test_a_line_that_is_damaged_in_the_middle_is_no_accident_and_refused(pairs, tmp_path):
    run(pairs, tmp_path / "out", Counting())
    log = tmp_path / "out" / "rows.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(DatasetError, match="is damaged"):
        run(pairs, tmp_path / "out", Counting())


def test_the_rows_of_a_run_are_equal_to_those_of_the_next(pairs, tmp_path):
    for name in ("one", "two"):
        evaluate(BASELINES["unsharp"], pairs, output=tmp_path / name)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one["rows"] == two["rows"] and one["summary"] == two["summary"]
