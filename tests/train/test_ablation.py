"""The ablation: rows trained as anybody would train them, scored by hand again, and written between the marks."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deblur_hub import DeblurGenerator
from deblur_hub.datasets import find_pairs
from deblur_hub.evaluation import evaluate
from tests.train.tiny_runs import ROOT, TINY, make_pairs
from train.recipe import RecipeError, load_recipe
from train.study import ablation
from train.study.ablation import BEGIN, END, main, read_plans
from train.study.curves import Scalars

PLAN = """
[[tables]]
name = "losses"
title = "Losses"
about = "Of the same network."
steps = 4
recipe = "compact"
changes = {tiny}
[[tables.rows]]
name = "pixel"
title = "L1 alone"
[[tables.rows]]
name = "bce"
title = "BCE and L1"
changes = ["loss.adversarial.weight=1", "loss.adversarial.loss=bce", "loss.adversarial.critic=bce-patchgan",
    "loss.adversarial.options={{width=4}}", "loss.adversarial.critic_steps=1"]
[[tables.rows]]
name = "dead"
title = "a critic that cannot tell"
changes = ["loss.adversarial.weight=1", "loss.adversarial.loss=wasserstein", "loss.adversarial.critic=keras",
    "loss.adversarial.options={{side=32,width=4}}", "loss.adversarial.critic_steps=3", "loss.adversarial.lr=10"]
"""


@pytest.fixture
def plan(tmp_path) -> Path:
    """Three rows of tiny runs."""
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(tiny=json.dumps([*TINY, "validation.every=2"])))
    return path


@pytest.fixture
def run(plan, pictures, tmp_path):
    """Runs the ablation: run("--row", "pixel") -> exit code; its files lie below tmp_path."""
    make_pairs(tmp_path / "pairs", 2, seed=80)
    (tmp_path / "README.md").write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")

    def start(*options: str, text: str = "README.md") -> int:
        places = {"data": pictures, "pairs": tmp_path / "pairs", "output": tmp_path / "runs", "plan": plan}
        places |= {"cache": tmp_path / "cache", "table": tmp_path / text}
        return main([part for name, path in places.items() for part in (f"--{name}", str(path))] + list(options))

    return start


@pytest.fixture
def forked(warm, monkeypatch):
    """Trains the rows in forks of a Python that has imported the program; without it a row starts its own."""

    def train(command, *, env, check):
        return warm.run(*command[1:], folder=ROOT, seconds=900, ACCELERATE_USE_CPU="true")

    monkeypatch.setattr(ablation, "subprocess", SimpleNamespace(run=train))


@pytest.mark.slow
def test_rows_are_trained_scored_and_written_between_the_marks_once_all_are_there(
    run, forked, plan, tmp_path, monkeypatch, capsys
):
    before = (tmp_path / "README.md").read_text()
    assert run("--row", "pixel", "--row", "dead") == 0
    said = capsys.readouterr().out
    assert "pixel: " in said and " dB (blurry: " in said and "to come: bce\n" in said
    assert (tmp_path / "README.md").read_text() == before and not (tmp_path / "ablation-losses.png").exists()

    assert run() == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Before.\n\n") and text.endswith("\n\nAfter.\n") and "old" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == [
        "blurry input",
        "L1 alone",
        "BCE and L1",
        "a critic that cannot tell",
    ]
    assert [line.split("|")[11].split("(")[0].strip() for line in lines[2:]] == ["none", "alive", "saturated"]
    model = DeblurGenerator.from_pretrained(tmp_path / "runs/pixel/last", device="cpu")
    again = evaluate(model, tmp_path / "pairs", metrics=("features", "edges"), precision="float32")
    kept = json.loads((tmp_path / "runs/pixel/ablation.json").read_text())
    for name in (
        "psnr",
        "ssim",
        "features",
        "edges",
        "blurred_psnr",
        "blurred_ssim",
        "blurred_features",
        "blurred_edges",
    ):
        assert kept[name] == pytest.approx(again.mean(name), abs=1e-5)
    assert f"{again.mean('psnr'):.2f} dB" in lines[2] and f"{again.mean('blurred_psnr'):.2f} dB" in lines[1]
    assert (tmp_path / "ablation-losses.png").read_bytes().startswith(b"\x89PNG")

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "train_row", lambda *_: pytest.fail("trained again"))
        assert run() == 0 and capsys.readouterr().out.count("is there already") == 3

    # A run of other settings is not gone on with.
    kept = {path: path.read_bytes() for path in (tmp_path / "runs/pixel").rglob("*") if path.is_file()}
    for changed, steps in ((plan.read_text(), "6"), (plan.read_text().replace("validation.every=2", "seed=7"), "4")):
        plan.write_text(changed)
        assert run("--row", "pixel", "--steps", steps) == 2
        assert "holds a run of other settings; move it away" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "runs/pixel").rglob("*") if path.is_file()} == kept


@pytest.mark.slow
def test_without_held_out_pairs_the_model_at_the_end_is_scored(run, plan, pictures, tmp_path):
    text = plan.read_text().replace('"validation.every=2"', '"validation.scenes=[]", "validation.pairs=0"')
    plan.write_text(text)
    assert run("--row", "pixel") == 0
    assert json.loads((tmp_path / "runs/pixel/ablation.json").read_text())["psnr"] > 5


@pytest.mark.slow
def test_mistakes_get_one_sentence(run, tmp_path, capsys):
    assert run("--row", "pixle") == 2
    assert "no such row (did you mean 'pixel'?)" in capsys.readouterr().err
    (tmp_path / "bare.md").write_text("nothing")
    for text, fault in (("bare.md", "lacks the marks"), ("none.md", "cannot be read")):
        assert run("--row", "pixel", text=text) == 2
        assert fault in capsys.readouterr().err and not (tmp_path / "runs").exists()  # before anything is trained
    assert run("--row", "pixel", "--data", str(tmp_path / "nowhere")) == 2
    assert "row 'pixel' was not trained" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text().count("old") == 1


def test_every_row_of_ours_is_a_recipe_that_holds_and_no_two_are_alike():
    tables, plans = read_plans(ablation.HERE / "ablation.toml")
    assert len({plan.name for plan in plans}) == len(plans) and {plan.table for plan in plans} == {
        table["name"] for table in tables
    }
    recipes = [load_recipe(plan.recipe, list(plan.changes)) for plan in plans]
    for table in tables:
        own = [recipe for recipe, plan in zip(recipes, plans, strict=True) if plan.table == table["name"]]
        kept = [recipe.as_dict() for recipe in own]
        alike = {"networks": ("optimizer", "schedule", "loss"), "losses": ("optimizer", "schedule", "data", "network")}
        for key in alike[table["name"]]:
            assert all(one[key] == kept[0][key] for one in kept), key
        assert all(one != other for number, one in enumerate(kept) for other in kept[:number])


def test_the_grid_of_a_decoder_is_told_from_what_is_no_grid():
    noise = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    assert ablation.grid_energy(noise) < 3
    for period in (2, 4):
        striped = noise.clone()
        striped[..., ::period] += 1
        assert ablation.grid_energy(striped) > 20
    assert ablation.grid_energy(torch.zeros_like(noise)) == 1
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    assert ablation.grid_energy(smooth) < 5


def test_the_time_of_a_step_leaves_validations_out():
    """Five batches of the critic's are one step; between two lines of the log lies a validation of a minute."""
    speeds = [1.0, 40.0, 20.0, 10.0]  # the first is a warm-up
    lines = [
        {"step": 20 * place, "time/pictures_per_second": speed, "time/seconds": 60.0 * place}
        for place, speed in enumerate(speeds)
    ]
    recipe = load_recipe("deblurgan-corrected", ["data.batch_size=4", "loss.adversarial.critic_steps=5"])
    assert ablation.seconds_per_step(Scalars("", tuple(lines)), recipe.pictures_per_step) == 1.0
    assert math.isnan(ablation.seconds_per_step(Scalars("", tuple(lines[:1])), recipe.pictures_per_step))


def test_a_row_is_known_by_all_that_its_numbers_depend_on(plan, tmp_path, generator):
    for name, count in (("one", 2), ("two", 3)):
        make_pairs(tmp_path / name, count, seed=1)
    row = read_plans(plan)[1][0]
    perceptual = replace(row, changes=(*row.changes, "loss.perceptual.weight=1"))
    (tmp_path / "vgg").write_bytes(b"weights")
    generator.save_pretrained(tmp_path / "start")
    first, second = (find_pairs(tmp_path / name) for name in ("one", "two"))
    known = ablation.settings_of(row, None)
    keys = [
        ablation.key_of(settings, pairs)
        for settings, pairs in (
            (known, first),
            (known, second),
            (ablation.settings_of(replace(row, steps=9), None), first),
            (ablation.settings_of(replace(row, start=str(tmp_path / "start")), None), first),
            (ablation.settings_of(perceptual, None), first),
            (ablation.settings_of(perceptual, tmp_path / "vgg"), first),
        )
    ]
    assert len(set(keys)) == len(keys)
    alike = ablation.settings_of(replace(row, title="another"), tmp_path / "vgg")  # which this row does not look at
    assert ablation.key_of(alike, first) == keys[0]
    first[0].sharp.write_bytes(first[0].sharp.read_bytes() + b"!")
    assert ablation.key_of(known, first) != keys[0]
    with pytest.raises(RecipeError, match="cannot be read"):
        ablation.settings_of(perceptual, tmp_path / "none")
