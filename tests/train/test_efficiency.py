"""What a run says of its own rate: measured without changing it, and counted as it is."""

import re
import time

import pytest
import torch
from accelerate import Accelerator

from deblur_hub.networks import build_network
from tests.train.tiny_runs import BATCH_NORM, TINY, TINY_GAN, arguments, last_of, same_state
from train import loop
from train.__main__ import main
from train.console import Meter
from train.recipe import load_recipe
from train.study.benchmark import PASSES, bare_rate, efficiency
from train.trainer import Trainer


def made(recipe, changes):
    loaded = load_recipe(recipe, list(changes))
    return Trainer(loaded, build_network(loaded.generator, **loaded.network), None, Accelerator(cpu=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("compact", TINY),
        ("deblurgan", (*TINY_GAN, "loss.perceptual.weight=0.0")),
        ("deblurgan", (*TINY_GAN, *BATCH_NORM)),
    ],
    ids=["pixels", "critic", "batch norm"],
)
def test_measuring_the_bare_rate_changes_nothing(recipe, changes):
    trainer = made(recipe, changes)
    batch = [torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(2)]
    trainer.step([batch] * trainer.recipe.batches_per_step, step=0, progress=0.0)
    before, draw = trainer.state(), torch.get_rng_state()
    kept = {key: tensor.clone() for key, tensor in before["generator"].items()}
    assert bare_rate(trainer, batch) > 0
    assert all(torch.equal(trainer.state()["generator"][key], tensor) for key, tensor in kept.items())
    assert torch.equal(torch.get_rng_state(), draw)
    assert all(parameter.grad is None for parameter in trainer.generator.parameters())


@pytest.mark.slow
def test_a_run_is_the_same_whether_its_rate_is_measured_or_not(start, tmp_path, monkeypatch):
    assert start("compact", output=tmp_path / "measured")[0] == 0
    monkeypatch.setattr(loop, "bare_rate", lambda *_: 1.0)
    assert start("compact", output=tmp_path / "not")[0] == 0
    assert same_state(last_of(tmp_path / "measured"), last_of(tmp_path / "not"))


def test_the_bare_rate_is_that_of_passes_and_of_nothing_else(monkeypatch):
    trainer = made("compact", TINY)
    batch = [torch.rand(4, 3, 32, 32) * 2 - 1 for _ in range(2)]
    passed, forward = [], trainer.generator.forward

    def slow(*given):
        passed.append(len(given[0]))
        time.sleep(0.05)
        return forward(*given)

    monkeypatch.setattr(trainer.generator, "forward", slow)
    monkeypatch.setattr(trainer.generator_step.optimizer, "step", lambda: time.sleep(5))
    assert bare_rate(trainer, batch) == pytest.approx(4 / 0.05, rel=0.5)
    assert passed == [4] * PASSES


def test_the_sentence_counts_all_steps_of_a_session():
    meter = Meter(16)
    meter.all_steps, meter.all_seconds, meter.all_waited = 100, 80.0, 20.0
    assert efficiency(meter, 25.0, 0.0) == (
        "20 pictures a second, 80% of the 25 of forward and backward passes alone; 25% of the time waiting for data"
    )
    assert efficiency(meter, 25.0, 12.0).endswith("; 10% of the time waiting for data, 15% in the frozen part")


@pytest.mark.slow
def test_a_run_prints_it(capfd, tmp_path, pictures):
    main(arguments("compact", data=pictures, output=tmp_path / "run", cache=tmp_path / "cache"))
    said = capfd.readouterr().out
    assert re.search(r"pictures a second, \d+% of the .* of forward and backward passes alone; \d+% of the time", said)
