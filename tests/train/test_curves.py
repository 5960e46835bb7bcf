"""What one watches: curves of one run and of several, the bar, and the meter behind both."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.tiny_runs import ROOT
from train import watching
from train.__main__ import main
from train.study import curves
from train.study.curves import Scalars, compare, draw_run, make_figure, plot_score, read_scalars, running_mean, scale


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


def test_a_run_ends_with_its_curves(start, tmp_path):
    assert start("compact", steps=6)[0] == 0
    picture = Image.open(tmp_path / "run" / "curves.png")
    assert min(picture.size) > 300 and len(set(picture.convert("L").get_flattened_data())) > 20
    logged = read_scalars(tmp_path / "run")
    assert logged.of("loss/generator")[0].tolist() == [1, 6]
    assert logged.of("epoch")[1].tolist() == [4 / 16, 6 * 4 / 16]  # four pictures a step, sixteen an epoch
    assert logged.of("validation/psnr")[0].tolist() == [3, 6]
    assert 0 < logged.last("time/data_wait") < 1 and logged.last("time/pictures_per_second") > 0


@pytest.mark.parametrize("broken", ["missing", "failing"])
def test_a_plot_that_cannot_be_drawn_does_not_fail_the_run(start, tmp_path, monkeypatch, broken):
    if broken == "missing":
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    else:
        monkeypatch.setattr(curves, "make_figure", lambda *_: 1 / 0)
    code, words = start("compact", steps=2)
    assert code == 0
    assert words.startswith("train: no curves were drawn")
    assert not (tmp_path / "run" / "curves.png").exists()
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_the_best_is_the_highest_score_and_wherever_it_was():
    run = Scalars("run", (measured(1, 25.0, 0.7), measured(2, 27.0, 0.6), measured(3, 26.0, 0.9)))
    assert run.best("validation/psnr") == (2, 27.0)
    assert run.best("validation/ssim") == (3, 0.9)
    _, (ax,) = make_figure(1, "")
    plot_score(ax, run, "psnr", colour="red", label="run", told=True)
    (star,) = [line for line in ax.get_lines() if line.get_marker() == "*"]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([2], [27.0])
    assert star.get_label() == "best: 27.00 at step 2"


def test_the_blurred_inputs_own_score_is_a_line():
    _, (ax,) = make_figure(1, "")
    curves.plot_blurred(ax, [Scalars("run", (measured(1, 25.0, blurred=23.5),))], "psnr")
    (line,) = ax.get_lines()
    assert list(line.get_ydata()) == [23.5, 23.5] and line.get_label() == "blurred input: 23.50"


@pytest.mark.parametrize(
    ("series", "wanted"),
    [
        ([[1.0, 2.0, 5.0]], "linear"),
        ([[200.0, 20.0, 2.0]], "log"),
        ([[200.0, 20.0, 2.0], [0.1]], "log"),
        ([[200.0, 20.0, -2.0]], "symlog"),
        ([[-80.0, -70.0]], "linear"),
        ([[0.0, 0.0]], "linear"),
        ([[]], "linear"),
    ],
)
def test_losses_that_span_decades_have_a_logarithmic_scale(series, wanted):
    _, (ax,) = make_figure(1, "")
    scale(ax, [np.array(values) for values in series])
    assert ax.get_yscale() == wanted


def test_the_running_mean_keeps_a_constant_and_the_mean_of_neighbours():
    assert running_mean(np.full(9, 3.0), 2) == pytest.approx(np.full(9, 3.0))
    assert running_mean(np.array([0.0, 3.0, 6.0, 0.0]), 1) == pytest.approx([1.5, 3.0, 3.0, 3.0])


def test_lines_that_a_kill_cut_short_and_values_that_are_not_finite_are_passed_over(tmp_path):
    folder = write_run(tmp_path / "run", trained(20, 1.0), trained(40, math.nan))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "loss/gene')
    run = read_scalars(folder)
    assert run.of("loss/generator")[0].tolist() == [20]
    assert draw_run(folder) == folder / "curves.png"
    assert [path.name for path in folder.iterdir() if path.suffix == ".part"] == []


def test_a_run_that_has_logged_nothing_yet_is_drawn_all_the_same(tmp_path):
    folder = write_run(tmp_path / "run")
    assert Image.open(draw_run(folder)).size[0] > 100


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
    assert printed.err == f"train: {tmp_path}/runs/compare.png: holds no metrics.jsonl and is passed over\n"


def test_each_run_has_a_colour_of_its_own_and_is_named(two_runs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "write", lambda figure, _: drawn.append(figure))
    compare(two_runs, tmp_path / "compare.png")
    (figure,) = drawn
    loss = figure.axes[0].get_lines()
    assert [line.get_label() for line in loss] == ["one", "other"]
    assert len({line.get_color() for line in loss}) == 2
    scores = {line.get_label(): line.get_color() for line in figure.axes[1].get_lines()}
    assert all(scores[line.get_label()] == line.get_color() for line in loss)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "other", "blurred input"]


def test_runs_on_other_pictures_are_said_not_to_compare(tmp_path):
    folders = [write_run(tmp_path / name, measured(1, 25.0, blurred=own)) for name, own in (("a", 24.0), ("b", 22.0))]
    assert "measured on different pictures" in compare(folders, tmp_path / "compare.png")
    assert "different" not in compare(folders[:1], tmp_path / "compare.png")


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert curves.short_names(folders) == ["a/run", "b/run"]


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
def test_training_does_not_import_matplotlib_before_it_draws():
    listing = subprocess.run(
        [sys.executable, "-c", "import train.__main__, sys; print('matplotlib' in sys.modules)"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert listing.strip() == "False"


# The bar -------------------------------------------------------------------------------------------------------------


def test_the_meter_counts_pictures_and_the_share_of_waiting():
    meter = watching.Meter(8)
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
    monkeypatch.setattr(watching, "tqdm", timed(watching.tqdm, clock))
    with watching.ProgressBar("compact", steps=steps, share=0.05, shown=True) as bar:
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


def test_a_run_tells_its_speed_in_the_bar(start, capfd, tmp_path):
    assert start("compact", steps=3)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    timed = [line for line in lines if "time/seconds" in line]
    assert [line["step"] for line in timed] == [1, 3]
    assert timed[0]["time/seconds"] <= timed[1]["time/seconds"]
