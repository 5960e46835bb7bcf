"""How fast training is: what is reported, and that it adds up. No seconds are asserted: machines differ."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from accelerate import Accelerator

from deblur_hub import cli
from tests.train.tiny_runs import ROOT, TINY
from train.__main__ import main
from train.data.samples import find_training_data
from train.preparation import prepare
from train.recipe import RecipeError, load_recipe
from train.run import Run
from train.study import benchmark as benchmarking
from train.study.benchmark import (
    PLAIN,
    VARIANTS,
    Measurement,
    benchmark,
    generate_data,
    measure_step,
    plain_product,
    report,
)

HEADINGS = [
    "variant",
    "steps/s",
    "pictures/s",
    "waiting for data",
    "peak memory",
    "multiply-adds/s",
    "of a matrix product",
    "times as fast",
]


def rows_of(printed: str) -> list[list[str]]:
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[:1] == "|"]
    return [row for row in found if not row[0].startswith("---")]


@pytest.mark.slow
def test_ways_are_measured_against_plain_float32_a_compiled_one_too(warm, capfd, monkeypatch):
    def fork(command, **_):
        return warm.run(*command[1:], folder=ROOT, seconds=900, ACCELERATE_USE_CPU="true")

    compiled = "float32, channels-last, compiled"
    monkeypatch.setattr(benchmarking, "VARIANTS", {PLAIN: VARIANTS[PLAIN], compiled: VARIANTS[compiled]})
    monkeypatch.setattr(benchmarking, "subprocess", SimpleNamespace(PIPE=subprocess.PIPE, run=fork))
    # The compiler takes longer the more layers there are; frames and pairs are more pictures to be made.
    small = (*TINY, "network.widths=[8]", "network.blocks=[1]", "data.mix.pairs=0", "data.mix.frames=0")
    sets = [part for change in small for part in ("--set", change)]
    line = ["--recipe", "compact", "--benchmark", "--rounds", "1", "--seconds", "0.1", "--threads", "1", *sets]
    assert main(line) == 0
    headings, plain, other = rows_of(capfd.readouterr().out)
    assert headings == HEADINGS
    assert (plain[0], other[0]) == (PLAIN, compiled) and plain[-1] == "1.00"
    for row in (plain, other):
        steps, pictures = float(row[1]), float(row[2])
        assert pictures == pytest.approx(4 * steps, rel=0.02)
        assert 0 <= float(row[3].rstrip("%")) <= 100
        assert float(row[4].split()[0]) > 0.1 and float(row[5].split()[0]) > 0
    assert float(other[-1]) == pytest.approx(float(other[1]) / float(plain[1]), rel=0.05)


@pytest.mark.slow
def test_a_steps_multiply_adds_are_those_of_forward_and_backward(tmp_path):
    # Muon multiplies matrices of its own.
    recipe = load_recipe("compact", [*TINY, "loss.frequency_weight=0.0", "optimizer.name=adamw"])
    accelerator = Accelerator()
    data = generate_data(tmp_path / "data", recipe.data)
    ready = prepare(recipe, Run(data, tmp_path / "run", tmp_path / "cache"), accelerator)
    measured = measure_step(ready, accelerator, seconds=0.0)
    forward = ready.network.describe((32, 32)).multiply_adds * recipe.data.batch_size
    # Backward costs twice forward, but that the first layer needs no gradient of its input.
    assert 2.6 * forward < measured.multiply_adds <= 3.0 * forward
    assert measured.seconds > 0 and 0 <= measured.waited < 1 and measured.memory > 2**20 and measured.product > 1e6
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_made_up_pictures_suit_every_kind_that_the_recipe_draws_from(tmp_path):
    recipe = load_recipe("compact", list(TINY))
    training_data = find_training_data(generate_data(tmp_path, recipe.data), recipe.data, recipe.validation)
    assert training_data.pairs and training_data.frames and training_data.sharp
    alone = load_recipe("compact", [*TINY, "data.mix.pairs=0", "data.mix.frames=0"])
    training_data = find_training_data(
        generate_data(tmp_path / "sharp alone", alone.data), alone.data, alone.validation
    )
    assert not training_data.pairs and not training_data.frames and training_data.sharp


def test_ratios_are_medians_of_the_ratios_of_each_round(monkeypatch, tmp_path):
    """The machine is three times as slow in the second round, and the variant twice as fast in all."""
    seconds = iter([1.0, 0.5, 3.0, 1.5, 1.0, 0.5])
    monkeypatch.setattr(benchmarking, "VARIANTS", {PLAIN: (), "other": ()})

    class Done:
        returncode = 0

        @property
        def stdout(self):
            return f'{{"seconds": {next(seconds)}, "waited": 0.1, "memory": 1, "multiply_adds": 600, "product": 1e3}}'

    monkeypatch.setattr(benchmarking.subprocess, "run", lambda *_, **__: Done())
    recipe = load_recipe("compact", list(TINY))
    plain, other = benchmark(recipe, [], data=tmp_path, rounds=3, seconds=1.0)
    assert (plain.ratio, other.ratio) == (1.0, 2.0)
    assert (other.steps, other.pictures, other.multiply_adds) == (2.0, 8.0, 1200.0)
    last = rows_of(report(recipe, [plain, other], device="cpu", rounds=3))[-1]
    assert last == ["other", "2", "8", "10.0%", "0.00 GiB", "1.2e-06 G", "120%", "2.00"]


@pytest.mark.slow
def test_a_plain_product_is_at_least_as_fast_as_in_python():
    assert plain_product(Accelerator()) > 1e7


def test_a_way_that_fails_is_one_sentence(monkeypatch, tmp_path):
    recipe = load_recipe("compact", list(TINY))
    command = [sys.executable, "-c", "raise SystemExit(2)"]
    with pytest.raises(RecipeError, match="--benchmark: 'float32' ended with exit code 2, for the reason above"):
        benchmark(recipe, command, data=tmp_path, rounds=1, seconds=0.1)


def test_several_processes_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(["--recipe", "compact", "--benchmark"]) == 2
    assert "--benchmark measures one process" in capsys.readouterr().err


# The shell command ---------------------------------------------------------------------------------------------------


def test_the_shell_command_hands_over_to_the_training_program(monkeypatch):
    asked = []

    class Done:
        returncode = 5

    monkeypatch.setattr("subprocess.run", lambda command, **options: asked.append((command, options["env"])) or Done())
    line = ["benchmark", "--train", "compact", "--data", "pictures", "--runs", "2", "--device", "cpu"]
    assert cli.main(line) == 5
    ((command, surroundings),) = asked
    assert command[:2] == [sys.executable, str(ROOT / "train")]
    assert command[2:] == ["--recipe", "compact", "--benchmark", "--rounds", "2", "--data", "pictures"]
    assert surroundings["ACCELERATE_USE_CPU"] == "true"


@pytest.mark.slow
def test_an_unknown_recipe_is_a_sentence_of_the_training_program(capfd):
    assert cli.main(["benchmark", "--train", "compct"]) == 2
    assert "(did you mean 'compact'?)" in capfd.readouterr().err


def test_an_installed_package_without_the_training_program_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli.benchmarking, "PACKAGE", tmp_path / "site-packages" / "deblur_hub")
    assert cli.main(["benchmark", "--train", "compact"]) == 2
    assert "training is not part of the installed package; take a checkout" in capsys.readouterr().err


def test_measurements_go_through_json_as_they_are():
    import json
    from dataclasses import asdict

    one = Measurement(0.5, 0.01, 1e9, 12, 1e11)
    assert Measurement(**json.loads(json.dumps(asdict(one)))) == one
