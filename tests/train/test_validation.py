"""Which model is the best one."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from train.run import Progress
from train.validation import selection_score


def test_the_selection_score_of_each_choice_by_hand():
    mean = {"psnr": 25.0, "ssim": 0.9, "l1": 0.04}
    assert selection_score("psnr", mean) == 25
    assert selection_score("l1", mean) == -0.04
    assert selection_score("psnr+ssim", mean) == pytest.approx(25 + 10)  # 1 - 0.9 is 10 dB below 1
    assert selection_score("psnr+ssim", mean | {"ssim": 0.99}) == pytest.approx(25 + 20)
    assert selection_score("psnr+ssim", mean | {"ssim": 0.95}) == pytest.approx(35 + 10 * math.log10(2))
    assert math.isfinite(selection_score("psnr+ssim", mean | {"ssim": 1.0}))
    assert selection_score("psnr", {}) == selection_score("l1", {"psnr": 30.0}) == -math.inf
    assert not selection_score("psnr", mean | {"psnr": math.nan}) > selection_score("psnr", {})


def test_a_loss_in_one_score_is_made_up_for_by_the_other():
    """0.4 dB less and an SSIM of 0.92 instead of 0.9: in decibels 0.97 more."""
    one, other = {"psnr": 25.0, "ssim": 0.9, "l1": 0.04}, {"psnr": 24.6, "ssim": 0.92, "l1": 0.05}
    assert selection_score("psnr", one) > selection_score("psnr", other)
    assert selection_score("psnr+ssim", other) > selection_score("psnr+ssim", one)
    assert selection_score("l1", one) > selection_score("l1", other)


def test_a_checkpoint_from_before_there_was_a_choice_keeps_its_best():
    assert Progress(best_psnr=24.0, best_step=7).best == {"psnr": 24.0}
    assert Progress().best == {}


SCORES = [(24.0, 0.80, 0.050), (25.0, 0.70, 0.060), (24.5, 0.90, 0.055), (24.9, 0.70, 0.045)]


@pytest.mark.slow
@pytest.mark.parametrize(("select", "step"), [("psnr", 2), ("psnr+ssim", 3), ("l1", 4)])
def test_the_recipe_chooses_which_model_is_kept(start, tmp_path, monkeypatch, select, step):
    from train import loop

    scores = iter(SCORES)

    def mean(_scores):
        psnr, ssim, l1 = next(scores)
        return {"psnr": psnr, "ssim": ssim, "l1": l1, "blurred_psnr": 20.0, "blurred_ssim": 0.6, "blurred_l1": 0.07}

    monkeypatch.setattr(loop, "mean_score", mean)
    code, words = start("compact", f"validation.select={select}", "validation.every=1", "validation.pairs=1")
    assert (code, words) == (0, "")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"for {step} steps" in card
    assert f"{SCORES[step - 1][0]:.2f} dB" in card


def test_the_l1_of_a_validation_is_that_of_the_files(start, tmp_path, pictures):
    assert start("compact", "optimizer.lr=0.0", "schedule.ema=0.0", steps=1)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = next(line for line in lines if "validation/l1" in line)
    errors = []
    for path in sorted((pictures / "scenes" / "held" / "blur").iterdir()):
        blurred, sharp = (
            np.asarray(Image.open(path.parents[1] / kind / path.name), float) for kind in ("blur", "sharp")
        )
        errors.append(np.abs(blurred - sharp).mean() / 255)
    assert measured["validation/blurred_l1"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert 0 < measured["validation/l1"] < 1
