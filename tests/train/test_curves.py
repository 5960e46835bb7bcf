"""What one watches: curves of one run and of several, the bar, and the meter behind both."""

import json
import math
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from train import console
from train.__main__ import main
from train.study import curves
from train.study.curves import compare, draw_run, read_scalars


@pytest.fixture
def undrawn():
    """Here a run draws its curves."""


def write_run(folder: Path, *lines: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def measured(step: int, psnr: float, ssim: float = 0.8, blurred: float = 24.0) -> dict:
    scores = {"psnr": psnr, "ssim": ssim, "blurred_psnr": blurred, "blurred_ssim": 0.7}
    return {"step": step} | {f"validation/{key}": value for key, value in scores.items()}


def trained(step: int, loss: float, **more: float) -> dict:
    return {"step": step, "loss/generator": loss, "time/seconds": step * 36.0, "time/pictures_per_second": 20.0} | more


@pytest.fixture
def two_runs(tmp_path) -> list[Path]:
    one = write_run(tmp_path / "runs/one", trained(100, 1.0), measured(100, 25.0, 0.81), measured(200, 24.5, 0.83))
    other = write_run(tmp_path / "runs/other", trained(100, 2.0), measured(100, 26.0, 0.79), trained(300, 0.5))
    return [one, other]


@pytest.mark.slow
def test_a_run_ends_with_its_curves(start, tmp_path):
    assert start("compact", steps=6)[0] == 0
    picture = Image.open(tmp_path / "run" / "curves.png")
    assert min(picture.size) > 300 and len(set(picture.convert("L").get_flattened_data())) > 20
    logged = read_scalars(tmp_path / "run")
    assert logged.of("loss/generator")[0].tolist() == [1, 6]
    assert logged.of("epoch")[1].tolist() == [4 / 16, 6 * 4 / 16]  # four pictures a step, sixteen an epoch
    assert logged.of("validation/psnr")[0].tolist() == [3, 6]
    assert 0 < logged.of("time/data_wait")[1][-1] < 1 and logged.of("time/pictures_per_second")[1][-1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["missing", "failing"])
def test_a_plot_that_cannot_be_drawn_does_not_fail_the_run(start, tmp_path, monkeypatch, broken):
    if broken == "missing":
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    else:
        monkeypatch.setattr(curves, "draw", lambda *_: 1 / 0)
    code, words = start("compact", steps=2)
    assert code == 0
    assert words.startswith("train: no curves were drawn")
    assert not (tmp_path / "run" / "curves.png").exists()
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_lines_that_a_kill_cut_short_and_values_that_are_not_finite_are_passed_over(tmp_path):
    folder = write_run(tmp_path / "run", trained(20, 1.0), trained(40, math.nan))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "loss/gene')
    run = read_scalars(folder)
    assert run.of("loss/generator")[0].tolist() == [20]
    assert draw_run(folder) == folder / "curves.png"
    assert [path.name for path in folder.iterdir() if path.suffix == ".part"] == []


@pytest.mark.slow
def test_a_run_that_has_logged_nothing_yet_is_drawn_all_the_same(tmp_path):
    folder = write_run(tmp_path / "run")
    assert Image.open(draw_run(folder)).size[0] > 100


@pytest.mark.slow
def test_several_runs_are_compared_in_one_plot_and_a_table(two_runs, tmp_path, capsys):
    (tmp_path / "runs" / "compare.png").write_bytes(b"of the last time")
    found = sorted(map(str, (tmp_path / "runs").iterdir()))  # what a shell makes of runs/*
    assert main(["--compare", *found, "--output", str(tmp_path)]) == 0
    assert min(Image.open(tmp_path / "compare.png").size) > 300
    printed = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.out.splitlines() if line[:2] == "| "]
    assert rows == [
        ["run", "best PSNR", "at step", "gain", "best SSIM", "at step", "steps", "hours", "pictures/s"],
        ["one", "25.00 dB", "100", "+1.00 dB", "0.8300", "200", "200", "1.00", "20.0"],
        ["other", "26.00 dB", "100", "+2.00 dB", "0.7900", "100", "300", "3.00", "20.0"],
    ]
    assert printed.err == f"train: {tmp_path}/runs/compare.png: holds no metrics.jsonl and is skipped\n"


@pytest.mark.slow
def test_runs_on_other_pictures_are_said_not_to_compare(tmp_path):
    folders = [write_run(tmp_path / name, measured(1, 25.0, blurred=own)) for name, own in (("a", 24.0), ("b", 22.0))]
    assert "measured on different pictures" in compare(folders, tmp_path / "compare.png")
    assert "different" not in compare(folders[:1], tmp_path / "compare.png")


@pytest.mark.slow
def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [write_run(tmp_path / name / "run", measured(1, 25.0)) for name in ("a", "b")]
    table = compare(folders, tmp_path / "compare.png")
    assert f"{tmp_path}/a/run" in table and f"{tmp_path}/b/run" in table


def test_comparing_what_is_no_run_is_one_sentence(tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    assert main(["--compare", str(tmp_path / "nothing"), "--output", str(tmp_path)]) == 2
    assert "none of these is the folder of a run" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "compare.png").exists()


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "--recipe, --data, --output"),
        (["--recipe", "compact", "--dry-run"], "--data"),
        (["--benchmark"], "--recipe"),
    ],
)
def test_what_is_missing_on_the_command_line_is_named(arguments, missing, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"the following arguments are required: {missing}")


@pytest.mark.slow
def test_training_does_not_import_matplotlib_before_it_draws(warm):
    assert warm.has_imported("train.__main__") and not warm.has_imported("matplotlib")


# The bar -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_meter_counts_pictures_and_the_share_of_waiting():
    meter = console.Meter(8)
    assert meter.read() == {}
    for _ in range(2):
        with meter.step():
            with meter.waiting():
                time.sleep(0.05)
            time.sleep(0.05)
    time.sleep(0.2)  # a validation, which does not count
    found = meter.read()
    assert found["time/data_wait"] == pytest.approx(0.5, abs=0.2)
    assert 16 / 0.4 < found["time/pictures_per_second"] <= 16 / 0.2
    assert meter.read() == {}


@pytest.mark.parametrize(("steps", "shown"), [(40, "10/40 steps"), (0, "10 steps")])
def test_the_bar_tells_steps_speed_loss_and_the_time_left(steps, shown, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(console, "tqdm", timed(console.tqdm, clock))
    with closing(console.ProgressBar("compact", steps=steps, fraction=0.05, shown=True)) as bar:
        bar.read({"time/pictures_per_second": 43.21, "loss/generator": 0.03125})
        clock[0] = 100.0
        bar.show(10, 0.25)  # a fifth of the run in 100 seconds: three quarters take 375
    last = capsys.readouterr().err.split("\r")[-1]
    assert " 25%|" in last and f"{shown}, 43 pictures/s, loss 0.03125 [01:40<06:15]" in last


def timed(kind, clock):
    class Timed(kind):
        """A bar with a clock of the test's, that draws at once."""

        def __init__(self, **options):
            super().__init__(**options | {"mininterval": 0, "dynamic_ncols": False, "ncols": 120})
            self._time, self.start_t, self.last_print_t = (lambda: clock[0]), clock[0], clock[0]

    return Timed


@pytest.mark.slow
def test_a_run_tells_its_speed_in_the_bar(start, capfd, tmp_path):
    assert start("compact", steps=3)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    timed = [line for line in lines if "time/seconds" in line]
    assert [line["step"] for line in timed] == [1, 3]
    assert timed[0]["time/seconds"] <= timed[1]["time/seconds"]
