"""Quality: by name or by what a machine affords; and strength, a blend without a second run."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurGenerator, GeneratorConfig, RestorationError, machine
from deblur_hub.cli import main
from deblur_hub.errors import ModelError
from deblur_hub.hub import bundled
from deblur_hub.restoration import quality as qualities
from deblur_hub.restoration import restore as restoration
from tests.conftest import awake

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def maxim() -> DeblurGenerator:
    """Not to be changed."""
    made = DeblurGenerator(GeneratorConfig("maxim", {"width": 4, "stages": 2}, name="tiny-maxim"))
    awake(made.network)
    return made.eval()


@pytest.fixture(autouse=True)
def a_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("DEBLUR_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "FIGURES", {})
    monkeypatch.setattr(restoration, "has_fast_bfloat16", lambda: False)  # which is measured as well
    return tmp_path / "cache"


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)


def as_fast_as(monkeypatch, maxim, seconds: float, at: str) -> None:
    """A machine that takes so many seconds for a picture of 1000x1000 at a quality."""
    work = maxim.network.multiply_adds((1000, 1000), maxim.network.qualities[at])
    monkeypatch.setattr(qualities, "speed", lambda network, device, dtype: work / seconds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "at", "taken"),
    [(59, "best", "best"), (61, "best", "balanced"), (61, "balanced", "draft"), (900, "draft", "draft")],
)
def test_the_best_that_takes_at_most_a_minute_is_chosen_and_never_less_than_a_draft(
    monkeypatch, maxim, seconds, at, taken
):
    as_fast_as(monkeypatch, maxim, seconds, at)
    choice = maxim.choose_quality((1000, 1000))
    assert choice.name == taken and choice.best == "best"
    if at == taken:
        assert choice.seconds == pytest.approx(seconds)
    if taken == "best":  # an alpha channel is restored as well
        assert maxim.choose_quality((1000, 1000), 2).name == "balanced"


@pytest.mark.slow
def test_what_is_taken_is_told_and_done(monkeypatch, maxim, photo, caplog):
    as_fast_as(monkeypatch, maxim, 1e6, "draft")
    with caplog.at_level(logging.INFO, "deblur_hub"):
        automatic = maxim.deblur(photo)
    assert "quality 'draft', about" in caplog.text and "'best' would take" in caplog.text
    assert np.array_equal(automatic, maxim.deblur(photo, quality="draft"))
    assert not np.array_equal(automatic, maxim.deblur(photo, quality="balanced"))
    assert not np.array_equal(maxim.deblur(photo, quality="best"), maxim.deblur(photo, quality="balanced"))


@pytest.mark.slow
def test_the_speed_of_a_machine_and_the_work_are_measured_once_and_kept(monkeypatch, maxim, a_machine):
    measured, counted = [], []
    monkeypatch.setattr(qualities, "measure_speed", lambda *arguments: measured.append(arguments) or 1e9)
    monkeypatch.setattr(
        type(maxim.network), "multiply_adds_per_pixel", lambda network, step: counted.append(step) or 1e3 * step.depth
    )
    for _ in range(3):
        maxim.choose_quality((100, 100))
        machine.FIGURES.clear()  # another process
    assert len(measured) == 1 and counted == list(maxim.network.qualities.values())
    held = json.loads((a_machine / "speeds.json").read_text()).values()
    assert sorted(held) == sorted([1e9, *(1e3 * step.depth for step in counted)])
    (a_machine / "speeds.json").write_text("no json")
    maxim.choose_quality((100, 100))
    assert len(measured) == 2


@pytest.mark.slow
def test_the_measured_speed_is_that_of_the_work(maxim):
    speed = qualities.measure_speed(maxim.network, CPU, torch.float32)
    assert 1e7 < speed < 1e13


@pytest.mark.parametrize("name", ["bset", "", 3])
def test_an_unknown_quality_is_one_sentence(maxim, photo, name):
    with pytest.raises(RestorationError, match=r"is not known.*; take one of draft, fast, balanced, best"):
        maxim.deblur(photo, quality=name)


def test_a_network_without_such_steps_has_one(generator, photo):
    assert generator.qualities == () and generator.choose_quality((70, 90)) is None
    assert np.array_equal(generator.deblur(photo, quality="draft"), generator.deblur(photo))
    assert generator.with_quality("best") is generator


@pytest.mark.slow
def test_a_generator_s_own_quality_is_kept_with_its_model(maxim, photo, tmp_path):
    drafting = maxim.with_quality("draft")
    assert drafting.config.name == "tiny-maxim at quality draft"
    drafting.save_pretrained(tmp_path / "model")
    again = DeblurGenerator.from_pretrained(tmp_path / "model", device="cpu")
    assert again.config.quality == "draft"
    assert np.array_equal(
        again.deblur(photo, precision="float32"), maxim.deblur(photo, quality="draft", precision="float32")
    )
    with pytest.raises(ModelError, match="'quality' must be one of"):
        GeneratorConfig("maxim", quality="finest")


@pytest.mark.slow
def test_a_model_of_one_stage_has_no_better_than_balanced(photo):
    made = DeblurGenerator(GeneratorConfig("maxim", {"width": 4, "stages": 1}, name="one"))
    awake(made.network)
    made.eval()
    assert made.qualities == ("draft", "balanced")
    assert np.array_equal(made.deblur(photo, quality="best"), made.deblur(photo, quality="balanced"))


# --- strength ----------------------------------------------------------------------------------------------------


def test_strength_blends_the_photo_with_what_became_of_it(generator, photo):
    restored = generator.deblur(photo).astype(float)
    assert np.array_equal(generator.deblur(photo, strength=0.0), photo)
    assert np.array_equal(generator.deblur(photo, strength=1.0), restored)
    half = generator.deblur(photo, strength=0.5).astype(float)
    assert np.abs(half - (photo + restored) / 2).max() <= 1


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_beyond_its_bounds_is_one_sentence(generator, photo, strength):
    with pytest.raises(RestorationError, match=r"strength .* is not between 0"):
        generator.deblur(photo, strength=strength)


@pytest.mark.slow
def test_the_shell_takes_both_and_tells_what_it_takes(monkeypatch, maxim, photo, tmp_path, capsys):
    maxim.save_pretrained(tmp_path / "weights" / "maxim")
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "weights")
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    assert main(["deblur", str(path), "-o", str(tmp_path / "a.png"), "--strength", "0", "--quality", "draft"]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), photo)
    assert "quality" not in capsys.readouterr().err
    assert main(["deblur", str(path), "-o", str(tmp_path / "b.png")]) == 0
    assert "photo.png: quality '" in capsys.readouterr().err
    assert main(["deblur", str(path), "-o", str(tmp_path / "c.png"), "--strength", "2"]) == 2
    assert "strength 2 is not between 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_seconds_are_estimated_for_each_quality_and_for_networks_without(monkeypatch, maxim, generator):
    as_fast_as(monkeypatch, maxim, 40, "best")
    seconds = maxim.expected_seconds((1000, 1000))
    assert list(seconds) == list(maxim.qualities) and seconds["best"] == pytest.approx(40)
    assert list(seconds.values()) == sorted(seconds.values())
    monkeypatch.setattr(qualities, "speed", lambda network, device, dtype: 5e5)  # pixels a second
    assert generator.expected_seconds((1000, 2000)) == {"": 4.0}


def test_the_speed_of_a_network_without_windows_is_measured(generator):
    assert generator.expected_seconds((10, 10))[""] > 0
    assert len(machine.FIGURES) == 1
