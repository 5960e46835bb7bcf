"""A run in this process: what it writes, how it goes on, and how it stops."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import psutil
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file, save_file

from deblur_hub import DeblurGenerator
from deblur_hub.datasets import Pair
from deblur_hub.networks.base import Generator
from deblur_hub.networks.resnet import ResnetGenerator
from tests.train.tiny_runs import BATCH_NORM, HELD_OUT, ROOT, last_of, photograph, same_state, save, tensors_of
from train import loop, trainer, validation
from train.data import loading
from train.data.cache import PictureCache
from train.data.samples import TrainingSet, find_training_data, positions
from train.losses.discriminators import PatchDiscriminator
from train.recipe import Validation, load_recipe
from train.validation import LABEL, SHEET_SIDE


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another(start, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        torch.manual_seed(hash(name) % 1000)  # whatever was drawn before
        assert start("compact", f"seed={seed}", output=tmp_path / name)[0] == 0
    one, two, three = (last_of(tmp_path / name) for name in ("one", "two", "three"))
    assert same_state(one, two)
    assert not same_state(one, three)


@pytest.mark.slow
def test_loader_workers_change_nothing(start, tmp_path):
    start("compact", output=tmp_path / "none")
    start("compact", "data.workers=2", output=tmp_path / "two")
    assert same_state(last_of(tmp_path / "none"), last_of(tmp_path / "two"))


@pytest.mark.parametrize(
    ("reason", "told"), [(BrokenPipeError(), False), (EOFError(), False), (ValueError("no"), True)]
)
def test_a_loader_worker_tells_of_all_but_the_main_process_hanging_up(capfd, reason, told):
    """Which it does when Ctrl-C meets it between two halves of a batch: too rare to be waited for."""
    loading.ignore_disconnects(type(reason), reason, None)
    assert bool(capfd.readouterr().err) == told


UNTIL_ENDED = """
import functools, multiprocessing, sys
from torch.utils.data import DataLoader
from train.data.loading import ignore_stop_signals, main_exiting

if __name__ == "__main__":
    prepare = functools.partial(ignore_stop_signals, ended=main_exiting())
    drawn = iter(DataLoader(range(1000), num_workers=2, worker_init_fn=prepare))
    next(drawn), next(drawn)  # one from each, so that both have begun
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    if "wait" in sys.argv:
        sys.stdin.read()
"""


@pytest.mark.slow
def test_loader_workers_outlive_a_warning_and_not_the_main_process(tmp_path):
    """The iterator is never closed, as where something still holds it when the program ends."""
    program = tmp_path / "program.py"
    program.write_text(UNTIL_ENDED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, program, "wait"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        workers = [int(pid) for pid in running.stdout.readline().split()]
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
        time.sleep(0.5)
        assert len(workers) == 2 and all(psutil.pid_exists(worker) for worker in workers)
        running.stdin.close()
        try:
            assert running.wait(timeout=60) == 0
        finally:
            running.kill()
        assert not any(psutil.pid_exists(worker) for worker in workers)


@pytest.mark.slow
def test_the_saved_model_is_the_best_of_the_run_and_the_card_holds_its_scores(start, tmp_path, pictures):
    assert start("compact", steps=9)[0] == 0
    output = tmp_path / "run"
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    scores = [line for line in lines if "validation/psnr" in line]
    assert [line["step"] for line in scores] == [3, 6, 9]
    best = max(scores, key=lambda line: line["validation/psnr"])
    card = (output / "model" / "README.md").read_text()
    assert f"for {best['step']} steps" in card
    rows = {
        row.split("|")[1].strip(): [float(cell.split()[0]) for cell in row.split("|")[2:-1]]
        for row in card.splitlines()
        if row.startswith(("| scenes/held", "| **mean**"))
    }
    assert len(rows) == HELD_OUT + 1
    generator = DeblurGenerator.from_pretrained(output / "model", device="cpu")
    for name, row in rows.items():
        if name == "**mean**":
            continue
        scene, file = name.rsplit("/", 1)
        blurred, sharp = (Image.open(pictures / scene / kind / file) for kind in ("blur", "sharp"))
        restored = generator.deblur(blurred, precision="float32")
        assert row[0] == pytest.approx(decibels(blurred, sharp), abs=0.006)
        assert row[1] == pytest.approx(decibels(restored, sharp), abs=0.006)
        assert row[2] == pytest.approx(row[1] - row[0], abs=0.011)
    assert rows["**mean**"][0] == pytest.approx(best["validation/blurred_psnr"], abs=0.006)
    assert rows["**mean**"][1] == pytest.approx(best["validation/psnr"], abs=0.006)


def held_out_pair(pictures, number):
    return [Image.open(pictures / "scenes" / "held" / kind / f"{number:03}.png") for kind in ("blur", "sharp")]


def decibels(one, other):
    error = np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2)
    return 10 * math.log10(255**2 / error)


@pytest.mark.slow
def test_training_brings_the_held_out_pairs_closer_to_the_sharp_ones(start, tmp_path):
    for number in range(8):
        sharp = photograph(number)
        folder = tmp_path / "data" / ("held" if number > 5 else "first")
        save(sharp, folder / "sharp" / f"{number}.png")
        save((sharp * 0.6 + 50).astype(np.uint8), folder / "blur" / f"{number}.png")  # quicker to learn than a blur
    start(
        "compact",
        "network.widths=[32]",
        "network.blocks=[1]",
        "network.unshuffle=2",
        "optimizer.lr=3e-3",
        "validation.every=500",
        "schedule.ema=0.9",
        data=tmp_path / "data",
        steps=100,
    )
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["validation/psnr"] > line["validation/blurred_psnr"] + 6
    assert line["validation/ssim"] > line["validation/blurred_ssim"]


@pytest.mark.slow
def test_the_sample_sheet_shows_blurred_restored_and_sharp_beside_each_other(start, tmp_path, pictures):
    start("compact", steps=3)
    sheet = np.asarray(Image.open(tmp_path / "run" / "samples" / "step-0000003.png"))
    assert sheet.shape == (HELD_OUT * (LABEL + 64), 3 * 72, 3)
    generator = DeblurGenerator.from_pretrained(tmp_path / "run" / "model", device="cpu")
    for row in range(HELD_OUT):
        blurred, sharp = held_out_pair(pictures, row)
        label, row_of_three = np.split(sheet[row * (LABEL + 64) : (row + 1) * (LABEL + 64)], [LABEL])
        assert (label < 128).any()  # there is ink on it
        columns = np.split(row_of_three, 3, axis=1)
        assert np.array_equal(columns[0], np.asarray(blurred))
        assert np.abs(columns[1].astype(int) - generator.deblur(blurred, precision="float32")).max() <= 1
        assert np.array_equal(columns[2], np.asarray(sharp))


class Unchanged(Generator):
    receptive_field = 0

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def compute(self, blurred):
        return blurred * self.weight


@pytest.mark.slow
def test_large_pictures_show_their_centres_on_the_sample_sheet(tmp_path):
    path = save(photograph(3, (500, 400)), tmp_path / "x.png")
    scores, rows = validation.validate(Unchanged(), [Pair(path, path, "")], (), Accelerator())
    validation.save_sheet(tmp_path / "sheet.png", scores, rows)
    shown = np.asarray(Image.open(tmp_path / "sheet.png"))[LABEL:]
    side = SHEET_SIDE
    assert np.array_equal(shown, np.tile(photograph(3, (500, 400))[20 : 20 + side, 70 : 70 + side], (1, 3, 1)))


@pytest.mark.slow
def test_a_time_budget_ends_the_run_in_good_order(start, tmp_path):
    code, _ = start("compact", "schedule.steps=0", steps=0, options=["--time-budget", "2s"])
    assert code == 0
    state = last_of(tmp_path / "run")
    assert state["progress"]["step"] > 1
    assert 2 <= state["progress"]["seconds"] < 60
    assert DeblurGenerator.from_pretrained(tmp_path / "run" / "model", device="cpu").config.name == "compact"
    # What was spent counts: nothing is left for a second session.
    start("compact", "schedule.steps=0", steps=0, options=["--time-budget", "2s", "--resume"])
    assert last_of(tmp_path / "run")["progress"]["step"] == state["progress"]["step"]


def test_a_recipe_without_a_length_asks_for_one(start, tmp_path):
    assert start("compact", "schedule.steps=0", steps=0) == (
        2,
        "train: recipe 'compact': sets neither schedule.steps nor schedule.epochs; give --steps",
    )
    assert not (tmp_path / "run").exists()


def poison(monkeypatch, calls):
    """Makes the pixel loss of some calls, counted from 1, not a number."""
    original, count = trainer.pixel_loss, itertools.count(1)
    monkeypatch.setattr(loop, "bare_rate", lambda *_: 1.0)  # which takes losses of its own
    monkeypatch.setattr(
        trainer,
        "pixel_loss",
        lambda kind, restored, sharp: original(kind, restored, sharp) * (float("nan") if next(count) in calls else 1),
    )


@pytest.mark.slow
def test_losses_that_are_not_finite_stop_the_run_and_leave_the_checkpoint_from_before(start, tmp_path, monkeypatch):
    poison(monkeypatch, range(6, 100))
    code, words = start("compact", "alarms.most_skipped=3", steps=20)
    assert code == 2
    assert words.splitlines()[-1] == (
        "train: the loss or its gradient was not finite in 3 steps in a row up to step 8, and none of these updates "
        f"was made (alarms.most_skipped = 3); the checkpoint in {tmp_path}/run/checkpoints is from before it: resume "
        'with a lower optimizer.lr, or with precision = "no"'
    )
    state = last_of(tmp_path / "run")
    assert state["progress"]["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(state).values())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_now_and_then_costs_a_step_and_is_told_of_once(start, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    poison(monkeypatch, {3, 4, 7})
    code, words = start("compact", "alarms.most_skipped=3", steps=9)
    assert code == 0
    sentence = (
        "step 3: a loss or its gradient was not finite; such updates are not made, and the run stops after 3 of them "
        "in a row; a lower optimizer.lr or optimizer.clip may help"
    )
    assert words == f"train: {sentence}"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in lines if "alarm" in line] == [{"step": 3, "alarm": sentence}]
    assert [line["skipped"] for line in lines if "lr" in line] == [0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert ["loss/generator" in line for line in lines if "lr" in line].count(False) == 3


def test_losses_that_are_never_finite_do_not_speak_of_a_checkpoint(start, tmp_path, monkeypatch):
    poison(monkeypatch, range(100))
    code, words = start("compact", "alarms.most_skipped=1")
    assert (code, "checkpoint" in words) == (2, False)
    assert "was not finite in 1 step in a row up to step 1, and" in words
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()


@pytest.mark.slow
def test_a_generator_that_returns_its_input_is_told_of(start, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    code, words = start(
        "compact", "optimizer.lr=0.0", "alarms.patience=2", "alarms.change_after=3", steps=8
    )  # its head begins with zeros
    assert code == 0
    assert words.startswith("train: step 5: the generator returns its input: it changes a picture by 0.0% of what")
    assert words.count("returns its input") == 1


@pytest.mark.slow
def test_the_published_critic_of_the_keras_port_saturates_and_is_told_of(start, tmp_path, monkeypatch):
    """A sigmoid, the Wasserstein loss and nothing that bounds the slope; at this rate it takes a few steps."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    changes = ("loss.adversarial.critic=keras", "loss.adversarial.layers=0", "loss.adversarial.loss=wasserstein",
               "loss.adversarial.options.width=8", "loss.adversarial.lr=0.05", "loss.pixel=l1",
               "loss.perceptual.weight=0.0", "alarms.patience=3")  # fmt: skip
    code, words = start("deblurgan", *changes, steps=30)
    assert code == 0
    assert words.count("the critic is saturated: its score of a picture does not change with the picture") == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (told,) = [line for line in lines if "alarm" in line]
    before = [line["critic/slope"] for line in lines if "critic/slope" in line and line["step"] <= told["step"]]
    assert before[0] > 1e-3 and max(before[-3:]) < 1e-6
    code, words = start("deblurgan", *changes, "loss.adversarial.options.head=linear", "loss.adversarial.lr=1e-4",
                        steps=30, output=tmp_path / "linear")  # fmt: skip
    assert (code, words) == (0, "")


@pytest.mark.slow
def test_a_schedule_that_does_not_stretch_keeps_its_steps_under_a_time_budget(start, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    changes = ("schedule.stretch=false", "schedule.steps=4", "optimizer.lr=1e-3", "schedule.final=0.0")
    assert start("compact", *changes, steps=0, options=["--time-budget", "30m"])[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)], rel=1e-5)
    changes = ("schedule.stretch=false", "schedule.steps=1000000")
    assert start("compact", *changes, steps=0, options=["--time-budget", "1s"], output=tmp_path / "cut")[0] == 0
    assert 0 < last_of(tmp_path / "cut")["progress"]["step"] < 10_000
    code, words = start("compact", "schedule.stretch=false", "schedule.steps=0", steps=0,
                        options=["--time-budget", "2s"], output=tmp_path / "endless")  # fmt: skip
    assert (code, words) == (
        2,
        "train: recipe 'compact': sets neither schedule.steps nor schedule.epochs; give --steps",
    )


@pytest.mark.slow
def test_an_epoch_is_one_pass_over_the_data_however_many_steps_its_critic_takes(start, tmp_path):
    changes = ("schedule.epochs=2", "data.epoch_length=8", "schedule.steps=0", "loss.perceptual.weight=0.0")
    for critic_steps, steps in ((1, 8), (2, 4)):
        output = tmp_path / str(critic_steps)
        wanted = f"loss.adversarial.critic_steps={critic_steps}"
        assert start("deblurgan", *changes, wanted, steps=0, output=output)[0] == 0
        assert last_of(output)["progress"]["step"] == steps
        line = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()][-2]
        assert (line["step"], line["epoch"]) == (steps, 2)


@pytest.mark.slow
def test_a_new_run_does_not_pass_off_an_old_ones_model(start, tmp_path, pictures):
    """A run that was killed after its first validation and before its first checkpoint leaves a best model behind."""
    start("compact", steps=2)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    only_sharp = tmp_path / "other"
    save(photograph(1), only_sharp / "sharp" / "one.png")
    assert start("compact", "seed=9", data=only_sharp, steps=2)[0] == 0
    saved = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(saved[key], tensor) for key, tensor in last_of(tmp_path / "run")["average"].items())


def test_an_output_that_cannot_be_a_folder_gives_a_sentence(start, tmp_path):
    (tmp_path / "run").write_text("a file")
    code, words = start("compact")
    assert code == 2
    assert words.startswith(f"train: {tmp_path}/run: cannot be written (File exists)")


@pytest.mark.slow
def test_init_from_starts_with_the_weights_of_a_saved_model(start, tmp_path):
    start("compact", steps=3, output=tmp_path / "first")
    model = tmp_path / "first" / "model"
    code, _ = start(
        "compact", "optimizer.lr=0.0", steps=1, output=tmp_path / "second", options=["--init-from", str(model)]
    )
    assert code == 0
    first, second = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(tensor.abs().sum() > 0 for key, tensor in second.items() if key.startswith("head"))  # not fresh ones


@pytest.mark.slow
def test_init_from_takes_statistics_and_counts_along(start, tmp_path):
    assert start("deblurgan", *BATCH_NORM, steps=3, output=tmp_path / "first")[0] == 0
    options = ["--init-from", str(tmp_path / "first" / "model")]
    still = (*BATCH_NORM, "optimizer.lr=0.0", "schedule.ema=0.0")
    assert start("deblurgan", *still, steps=1, output=tmp_path / "second", options=options)[0] == 0
    first, second = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("first", "second"))
    for key, tensor in first.items():
        if key.endswith("num_batches_tracked"):
            assert second[key] == tensor + 1
        elif key.endswith("running_mean"):  # nine parts of ten are what was there, where fresh ones would be zeros
            assert (second[key] - tensor).norm() < 0.5 * tensor.norm()
        elif not key.endswith("running_var"):
            assert torch.equal(second[key], tensor), key


@pytest.mark.slow
def test_init_from_takes_a_part_from_a_file(start, tmp_path):
    torch.manual_seed(5)
    part = {"stem.weight": torch.randn(8, 48, 3, 3).half()}
    save_file(part, tmp_path / "part.safetensors")
    options = ["--init-from", str(tmp_path / "part.safetensors")]
    assert start("compact", "optimizer.lr=0.0", "schedule.ema=0.0", steps=1, options=options)[0] == 0
    state = last_of(tmp_path / "run")["generator"]
    assert torch.equal(state["stem.weight"], part["stem.weight"].float())
    save_file({"stem.wieght": torch.zeros(1)}, tmp_path / "part.safetensors")
    code, words = start("compact", output=tmp_path / "other", options=options)
    assert code == 2 and "has a tensor 'stem.wieght' (1,), which the recipe's network has not" in words
    (tmp_path / "part.safetensors").write_text("no")
    code, words = start("compact", output=tmp_path / "other", options=options)
    assert code == 2 and "cannot be read" in words


@pytest.mark.slow
def test_init_from_refuses_another_architecture(start, tmp_path):
    start("compact", steps=1, output=tmp_path / "first")
    code, words = start(
        "compact",
        "network.widths=[16,8]",
        output=tmp_path / "second",
        options=["--init-from", str(tmp_path / "first" / "model")],
    )
    assert code == 2
    assert "model: is another network than the recipe's (" in words
    assert words.endswith("take its recipe or omit --init-from")
    assert not (tmp_path / "second").exists()


def test_without_pairs_nothing_is_measured_and_the_last_weights_are_kept(start, tmp_path):
    data = tmp_path / "photographs"
    for number in range(3):
        save(photograph(number), data / "sharp" / f"{number}.png")
    assert start("compact", data=data, steps=3)[0] == 0
    assert not (tmp_path / "run" / "best").exists()
    saved = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(saved[key], tensor) for key, tensor in last_of(tmp_path / "run")["average"].items())
    assert "PSNR" not in (tmp_path / "run" / "model" / "README.md").read_text()


@pytest.mark.slow
def test_deblurgan_trains_generator_and_critic(start, tmp_path, vgg19):
    states = {}
    for steps in (1, 3):
        output = tmp_path / f"{steps}"
        assert (
            start(
                "deblurgan",
                "optimizer.clip=1.0",
                output=output,
                steps=steps,
                options=["--perceptual-weights", str(vgg19)],
            )[0]
            == 0
        )
        states[steps] = last_of(output)
        assert DeblurGenerator.from_pretrained(output / "model", device="cpu").config.architecture == "resnet"
    for part in ("generator", "critic"):
        weights = [key for key in states[1][part] if key.endswith("weight")]
        assert weights
        assert all(not torch.equal(states[1][part][key], states[3][part][key]) for key in weights), part


@pytest.mark.slow
def test_dropout_is_off_when_pictures_are_measured(start, tmp_path, vgg19, pictures):
    start(
        "deblurgan", "network.dropout=0.5", "validation.every=1", steps=1, options=["--perceptual-weights", str(vgg19)]
    )
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    generator = DeblurGenerator.from_pretrained(tmp_path / "run" / "model", device="cpu")
    scores = []
    for number in range(HELD_OUT):
        blurred, sharp = held_out_pair(pictures, number)
        scores.append(decibels(generator.deblur(blurred, precision="float32"), sharp))
    assert line["validation/psnr"] == pytest.approx(np.mean(scores), abs=0.001)


@pytest.mark.slow
def test_under_bf16_the_critic_still_computes_in_float32_and_the_generator_does_not(start, vgg19, monkeypatch):
    seen = {}

    def watch(kind):
        original = kind.forward

        def forward(self, picture):
            first = next(module for module in self.modules() if isinstance(module, torch.nn.Conv2d))
            handle = first.register_forward_hook(lambda *call: seen.setdefault(kind, set()).add(call[-1].dtype))
            output = original(self, picture)
            handle.remove()
            return output

        monkeypatch.setattr(kind, "forward", forward)

    watch(PatchDiscriminator)
    watch(ResnetGenerator)
    monkeypatch.setattr(loop, "validate", lambda *_: pytest.fail("not in this test"))
    code, words = start(
        "deblurgan",
        "precision=bf16",
        "validation.scenes=[]",
        "validation.pairs=0",
        steps=1,
        options=["--perceptual-weights", str(vgg19)],
    )
    assert (code, words) == (0, "")
    assert seen[PatchDiscriminator] == {torch.float32}
    assert torch.bfloat16 in seen[ResnetGenerator]


def test_perceptual_weights_that_are_missing_give_a_sentence(start, tmp_path):
    code, words = start("deblurgan", options=["--perceptual-weights", str(tmp_path / "none.safetensors")])
    assert code == 2
    assert words.startswith(f"train: {tmp_path}/none.safetensors: not a safetensors file that can be read")
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_perceptual_weights_that_end_too_early_name_the_last_layer_they_reach(start, tmp_path, vgg19):
    code, words = start("deblurgan", "loss.perceptual.layer=conv3_3", options=["--perceptual-weights", str(vgg19)])
    assert code == 2
    assert words == (
        f"train: {vgg19}: ends before conv3_3; take an earlier layer, such as "
        "--set loss.perceptual.layer=relu2_1, or the whole VGG19"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "tensors",
    [
        {"layer.weight": torch.zeros(3)},
        {"features.0.weight": torch.zeros(64, 3, 3, 3)},
        {"features.0.weight": torch.zeros(64, 3, 5, 5), "features.0.bias": torch.zeros(64)},
    ],
)
def test_weights_of_another_network_than_vgg19_are_refused(start, tmp_path, tensors):
    path = tmp_path / "other.safetensors"
    save_file(tensors, path)
    code, words = start("deblurgan", options=["--perceptual-weights", str(path)])
    assert code == 2
    assert words.startswith(f"train: {path}: its 'features.0.")
    assert "is not VGG19's conv1_1" in words


@pytest.mark.slow
def test_the_learning_rate_in_the_log_follows_the_schedule(start, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    start("compact", "schedule.warmup=2", "optimizer.lr=1e-3", "schedule.final=0.0", steps=4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    wanted = [1e-3 * min(1, (step + 1) / 2) * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx(wanted, rel=1e-5)
    assert all(rate > after for rate, after in pairwise(rates[1:]))


@pytest.mark.slow
def test_the_model_at_the_end_is_kept_beside_the_best_one(start, tmp_path):
    assert start("compact")[0] == 0
    ended = last_of(tmp_path / "run")["average"]
    kept = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert kept.keys() == ended.keys() and all(torch.equal(kept[key], ended[key]) for key in kept)
    assert "blurry PSNR" in (tmp_path / "run" / "last" / "README.md").read_text()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_several_processes_read_each_picture_of_an_epoch_once_together(pictures, tmp_path, world):
    recipe = load_recipe(
        "compact", ["data.mix.frames=0.0", "data.mix.sharp=0.0", "data.crop=32", "data.epoch_length=0"]
    )
    training_data = find_training_data(pictures, recipe.data, Validation(scenes=("held",)))
    samples = TrainingSet(training_data, recipe.data, seed=0, cache=PictureCache(tmp_path / "cache"))
    assert len(samples) == len(training_data.pairs) == 5
    read = [
        position
        for rank in range(world)
        for batch in positions(range(10), batch_size=4, rank=rank, world=world)
        for position in batch
    ]
    assert sorted(read) == list(range(40))  # eight epochs, whose ends fall within batches
    for epoch in range(8):
        items = [tuple(samples.plan(epoch)[position % 5]) for position in read if position // 5 == epoch]
        assert len(set(items)) == len(items) == 5


@pytest.mark.slow
def test_momenta_that_fade_away_do_not_slow_a_run_down(start):
    """Operations on denormal numbers take ten times as long; a run's threads take them for zero."""
    faint = torch.full((1 << 20,), 1e-40)
    assert (faint * 1.0).count_nonzero() == 1 << 20
    start("compact", steps=1)
    assert (faint * 1.0).count_nonzero() == 0
