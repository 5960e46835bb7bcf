"""`compare`: differences by hand, the bootstrap by the normal distribution, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest

from deblur_hub import DatasetError
from deblur_hub.cli import main
from deblur_hub.evaluation import Evaluation, Row, compare
from deblur_hub.evaluation.comparison import bootstrap_interval, comparison_text
from tests.evaluation.test_results import SETTINGS


def made(scores: dict[str, list[float]], **changes) -> Evaluation:
    """An evaluation of pictures 0.png, 1.png, ..."""
    count = len(next(iter(scores.values())))
    rows = [Row(f"{number}.png", {name: values[number] for name, values in scores.items()}) for number in range(count)]
    return Evaluation(replace(SETTINGS, pictures=count, metrics=tuple(scores), **changes), tuple(rows))


def test_the_differences_are_b_minus_a_and_the_worst_comes_first():
    a = made({"psnr": [30.0, 25.0, 20.0], "ssim": [0.9, 0.8, 0.7]})
    b = made({"psnr": [30.5, 24.0, 20.2], "ssim": [0.9, 0.7, 0.9]}, model="other")
    found = compare(a, b)
    assert [row[0] for row in found.rows] == ["1.png", "2.png", "0.png"]
    psnr, ssim = found.differences
    assert (psnr.a, psnr.b) == (pytest.approx(25), pytest.approx(74.7 / 3))
    assert psnr.mean == pytest.approx(-0.1) and ssim.mean == pytest.approx(0.1 / 3)
    assert psnr.interval[0] < psnr.mean < psnr.interval[1]
    text = comparison_text(found)
    assert "| 25.00 dB | 24.90 dB | -0.10 dB |" in text and "0 within" in text
    assert [line.split("|")[1].strip() for line in text.splitlines()[-3:]] == ["1.png", "2.png", "0.png"]


def test_of_a_distance_more_is_worse():
    a, b = made({"psnr": [1.0, 1.0], "lpips": [0.2, 0.2]}), made({"psnr": [1.0, 1.0], "lpips": [0.1, 0.3]})
    assert [row[0] for row in compare(a, b, by="lpips").rows] == ["1.png", "0.png"]


def test_a_measure_of_which_more_is_neither_better_nor_worse_does_not_sort():
    a, b = made({"psnr": [1.0, 1.0], "edges": [0.2, 0.2]}), made({"psnr": [1.0, 1.0], "edges": [0.1, 0.3]})
    with pytest.raises(DatasetError, match=r"'edges' .* sort by psnr$"):
        compare(a, b, by="edges")
    assert [found.metric for found in compare(a, b).differences] == ["psnr", "edges"]


def test_an_evaluation_does_not_differ_from_itself_even_where_it_is_perfect():
    a = made({"psnr": [math.inf, 25.0], "ssim": [1.0, 0.8]})
    for found in compare(a, a).differences:
        assert found.mean == 0 and found.interval == (0, 0)


def test_the_interval_of_many_pictures_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(0.3, 2, 400)
    low, high = bootstrap_interval(values.tolist())
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for number in range(200):
        low, high = bootstrap_interval(rng.normal(1, 1, 50).tolist(), resamples=500, seed=number)
        hits += low <= 1 <= high
    assert 0.89 <= hits / 200 <= 0.985


def test_the_interval_is_the_same_every_time_and_pairs_the_pictures():
    values = np.random.default_rng(2).normal(size=20).tolist()
    assert bootstrap_interval(values) == bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    shared = np.random.default_rng(0).normal(25, 5, 30)  # pictures differ by far more than models
    a, b = made({"psnr": shared.tolist()}), made({"psnr": (shared + 0.1).tolist()})
    assert compare(a, b).differences[0].interval == pytest.approx((0.1, 0.1))


def test_one_picture_or_an_infinite_difference_has_no_interval():
    assert bootstrap_interval([0.3]) is None
    found = compare(made({"psnr": [20.0, 21.0]}), made({"psnr": [math.inf, 21.0]})).differences[0]
    assert found.mean == math.inf and found.interval is None


@pytest.mark.parametrize(
    "change",
    [{"protocol": "gopro"}, {"blur_folder": "blur_gamma"}, {"fingerprint": "f" * 64}, {"seed": 3}],
    ids=lambda change: next(iter(change)),
)
def test_other_protocols_and_pictures_are_refused_unless_forced(tmp_path, capsys, change):
    made({"psnr": [20.0, 21.0]}).save(tmp_path / "a.json")
    made({"psnr": [20.5, 21.5]}, **change).save(tmp_path / "b.json")
    command = ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert next(iter(change)) in said.err and "--force" in said.err and said.out == ""
    assert main([*command, "--force"]) == 0
    said = capsys.readouterr()
    assert next(iter(change)) in said.err and "+0.50 dB" in said.out


def test_forced_comparisons_are_of_the_pictures_that_both_have():
    a, b = made({"psnr": [20.0, 21.0, 22.0]}), made({"psnr": [21.0, 21.0]}, fingerprint="f" * 64)
    found = compare(a, b, force=True)
    assert {row[0] for row in found.rows} == {"0.png", "1.png"} and found.differences[0].mean == 0.5
    stranger = Evaluation(b.settings, (Row("x.png", {"psnr": 1.0}), Row("y.png", {"psnr": 1.0})))
    with pytest.raises(DatasetError, match="no picture in common"):
        compare(a, stranger, force=True)


def test_a_metric_that_one_of_them_lacks_is_left_out():
    a, b = made({"psnr": [20.0, 21.0], "ssim": [0.5, 0.6]}), made({"psnr": [21.0, 21.0]})
    assert [found.metric for found in compare(a, b).differences] == ["psnr"]
    with pytest.raises(DatasetError, match="'ssim' is not a metric that both have; sort by psnr"):
        compare(a, b, by="ssim")
