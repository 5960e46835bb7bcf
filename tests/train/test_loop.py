"""A run in this process: what it writes, how it goes on, and how it stops."""

import io
import json
import math
import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from deblur_hub import DeblurGenerator
from deblur_hub.datasets import Pair
from deblur_hub.networks.base import Generator
from deblur_hub.networks.resnet import ResnetGenerator
from tests.train.tiny_runs import HELD_OUT, photograph, save, tensors_of
from train import checkpoint, loop, trainer, validation
from train.checkpoint import load_checkpoint, save_checkpoint
from train.critics import PatchCritic
from train.losses import VGG19_CHANNELS, VGG19_CONVOLUTIONS, PerceptualLoss
from train.recipe import Perceptual, RecipeError


def last_of(folder):
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def same_state(one, other):
    """Whether two checkpoints hold the same tensors, bit for bit."""
    one, other = tensors_of(one), tensors_of(other)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(start, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        torch.manual_seed(hash(name) % 1000)  # whatever was drawn before
        assert start("compact", f"seed={seed}", output=tmp_path / name)[0] == 0
    one, two, three = (last_of(tmp_path / name) for name in ("one", "two", "three"))
    assert same_state(one, two)
    assert not same_state(one, three)


def test_loader_workers_change_nothing(start, tmp_path):
    start("compact", output=tmp_path / "none")
    start("compact", "data.workers=2", output=tmp_path / "two")
    assert same_state(last_of(tmp_path / "none"), last_of(tmp_path / "two"))


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(start, tmp_path):
    start("compact", "schedule.steps=7", steps=0, output=tmp_path / "whole")
    # Step 3 was measured, and its scores logged, after the last checkpoint.
    interrupt_at(start, 3, "compact", "schedule.steps=7", steps=0, output=tmp_path / "cut")
    assert last_of(tmp_path / "cut")["progress"]["step"] == 2
    assert '"step": 3' in (tmp_path / "cut" / "metrics.jsonl").read_text()
    assert start("compact", "schedule.steps=7", steps=0, output=tmp_path / "cut", options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "cut"))
    whole, cut = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    )
    assert whole == cut


def interrupt_at(start, step, *arguments, **options):
    """Runs up to a step, before which Ctrl-C is pressed."""
    original = trainer.Trainer.step

    def stepping(self, batches, **where):
        if where["step"] == step:
            raise KeyboardInterrupt
        return original(self, batches, **where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", stepping)
        code, words = start(*arguments, **options)
    assert code == 130
    assert words == "train: stopped; go on with --resume"


@pytest.mark.parametrize(
    ("reason", "told"), [(BrokenPipeError(), False), (EOFError(), False), (ValueError("no"), True)]
)
def test_a_loader_worker_tells_of_all_but_the_main_process_hanging_up(capfd, reason, told):
    """Which it does when Ctrl-C meets it between two halves of a batch: too rare to be waited for."""
    loop.pass_over_hang_ups(type(reason), reason, None)
    assert bool(capfd.readouterr().err) == told


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


def test_the_sample_sheet_shows_blurred_restored_and_sharp_beside_each_other(start, tmp_path, pictures):
    start("compact", steps=3)
    sheet = np.asarray(Image.open(tmp_path / "run" / "samples" / "step-0000003.png"))
    assert sheet.shape == (HELD_OUT * 64, 3 * 72, 3)
    generator = DeblurGenerator.from_pretrained(tmp_path / "run" / "model", device="cpu")
    for row in range(HELD_OUT):
        blurred, sharp = held_out_pair(pictures, row)
        columns = np.split(sheet[row * 64 : (row + 1) * 64], 3, axis=1)
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


def test_large_pictures_show_their_centres_on_the_sample_sheet(tmp_path):
    path = save(photograph(3, (500, 400)), tmp_path / "x.png")
    validation.sample_sheet(Unchanged(), [Pair(path, path, "")], (), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    side = validation.SHEET_SIDE
    assert np.array_equal(sheet, np.tile(photograph(3, (500, 400))[20 : 20 + side, 70 : 70 + side], (1, 3, 1)))


def test_a_time_budget_ends_the_run_in_good_order(start, tmp_path):
    code, _ = start("compact", "schedule.steps=0", steps=0, options=["--time-budget", "4s"])
    assert code == 0
    state = last_of(tmp_path / "run")
    assert state["progress"]["step"] > 3
    assert 4 <= state["progress"]["seconds"] < 60
    assert DeblurGenerator.from_pretrained(tmp_path / "run" / "model", device="cpu").config.name == "compact"
    # What was spent counts: nothing is left for a second session.
    start("compact", "schedule.steps=0", steps=0, options=["--time-budget", "4s", "--resume"])
    assert last_of(tmp_path / "run")["progress"]["step"] == state["progress"]["step"]


def test_a_recipe_without_a_length_asks_for_one(start, tmp_path):
    assert start("compact", "schedule.steps=0", steps=0) == (
        2,
        "train: recipe 'compact': sets neither schedule.steps nor schedule.epochs; give --steps",
    )
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint_from_before(start, tmp_path, monkeypatch):
    original = trainer.pixel_loss

    def poisoned(kind, restored, sharp):
        poisoned.calls += 1
        return original(kind, restored, sharp) * (float("nan") if poisoned.calls > 5 else 1)

    poisoned.calls = 0
    monkeypatch.setattr(trainer, "pixel_loss", poisoned)
    code, words = start("compact", steps=9)
    assert code == 2
    assert words.startswith("train: the generator's loss is nan at step 5; the checkpoint in ")
    assert words.endswith('is from before it: resume with a lower optimizer.lr, or with precision = "no"')
    state = last_of(tmp_path / "run")
    assert state["progress"]["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(state).values())


def test_spoilt_weights_are_never_put_in_a_checkpoint(start, tmp_path, monkeypatch):
    original = trainer.Trainer.step

    def spoiling(self, batches, **where):
        log = original(self, batches, **where)
        if where["step"] == 3:  # a gradient that overflowed behind a finite loss
            next(self.generator.parameters()).data[0] = float("inf")
        return log

    monkeypatch.setattr(trainer.Trainer, "step", spoiling)
    code, words = start("compact", steps=9)
    assert code == 2
    assert "the generator's weights are not finite after step 4; the checkpoint in" in words
    assert last_of(tmp_path / "run")["progress"]["step"] == 2


def test_a_loss_that_is_not_finite_at_once_does_not_speak_of_a_checkpoint(start, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "pixel_loss", lambda kind, restored, sharp: restored.mean() * float("inf"))
    code, words = start("compact")
    assert (code, "checkpoint" in words) == (2, False)
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()


@pytest.fixture
def small_files(tmp_path):
    """A checkpoint of step 1, and from then on no file that grows beyond 20,000 bytes."""
    save_checkpoint(tmp_path / "last.pt", {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield tmp_path / "last.pt"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_the_disk_says_is_what_the_user_reads(small_files):
    with pytest.raises(RecipeError, match=r"the checkpoint cannot be written \(\[Errno 27\] File too large\); free"):
        save_checkpoint(small_files, {"step": 2, "weights": torch.zeros(50_000)})
    assert load_checkpoint(small_files)["step"] == 1
    assert [path.name for path in small_files.parent.iterdir()] == ["last.pt"]


def test_ctrl_c_in_the_midst_of_a_checkpoint_is_ctrl_c(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "last.pt", {"step": 1})
    original = Path.open

    def interrupted(self, mode="r"):
        file = original(self, mode)
        if mode == "wb":
            file = InterruptedWriter(file)
        return file

    monkeypatch.setattr(Path, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "last.pt", {"step": 2, "weights": torch.zeros(50_000)})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


class InterruptedWriter(io.BufferedWriter):
    def __init__(self, file):
        super().__init__(file.detach())
        self.writes = 0

    def write(self, data):
        self.writes += 1
        if self.writes == 4:
            raise KeyboardInterrupt
        return super().write(data)


def test_a_full_disk_gives_a_sentence_and_leaves_the_old_checkpoint(start, tmp_path, monkeypatch):
    original = torch.save

    def filling(state, file, **options):
        if state["progress"]["step"] > 2:
            file.write(b"half a checkpoint")
            raise OSError(28, "No space left on device")
        original(state, file, **options)

    monkeypatch.setattr(checkpoint.torch, "save", filling)
    code, words = start("compact", steps=6)
    assert code == 2
    assert words == (
        f"train: {tmp_path}/run/checkpoints/last.pt: the checkpoint cannot be written ([Errno 28] No "
        "space left on device); free some space, then go on with --resume from the one before"
    )
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.pt"]
    assert last_of(tmp_path / "run")["progress"]["step"] == 2


def test_a_half_written_checkpoint_is_passed_over(start, tmp_path):
    start("compact", "schedule.steps=6", steps=0, output=tmp_path / "whole")
    interrupt_at(start, 3, "compact", "schedule.steps=6", steps=0)
    (tmp_path / "run" / "checkpoints" / "last.part").write_bytes(b"PK half a checkpoint")
    assert start("compact", "schedule.steps=6", steps=0, options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "run"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_an_unreadable_checkpoint_is_named(start, tmp_path, content):
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    code, words = start("compact", options=["--resume"])
    assert code == 2
    assert words.startswith(f"train: {path}: not a checkpoint that can be read")


def test_resuming_needs_a_checkpoint_and_the_same_networks(start, tmp_path):
    code, words = start("compact", options=["--resume"])
    assert code == 2
    assert words.endswith("last.pt: there is no checkpoint to resume from; start without --resume")
    assert not (tmp_path / "run").exists()
    start("compact", steps=2)
    code, words = start("compact", "network.widths=[8,16]", options=["--resume"])
    assert code == 2
    assert "whose networks are not those of 'compact'; resume with the same recipe" in words


def test_a_folder_that_holds_a_run_is_not_overwritten(start, tmp_path):
    start("compact", steps=2)
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    assert start("compact", steps=3) == (
        2,
        f"train: {tmp_path}/run: holds a run already; go on with --resume, or name another --output",
    )
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before


def test_a_new_run_does_not_pass_off_an_old_ones_model(start, tmp_path, pictures):
    """A run that was killed after its first validation and before its first checkpoint leaves a best model behind."""
    start("compact", steps=2)
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
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


BATCH_NORM = (
    "generator=resnet6-bn",
    "loss.pixel=l1",
    "loss.perceptual.weight=0.0",
    "loss.adversarial.weight=0.0",
    "schedule.epochs=0",
    "schedule.ema=0.5",
    "checkpoint_every=2",
)


def test_a_network_that_counts_its_batches_resumes_to_the_same_weights_and_statistics(start, tmp_path):
    changes = (*BATCH_NORM, "schedule.steps=4")
    assert start("deblurgan", *changes, steps=0, output=tmp_path / "whole")[0] == 0
    interrupt_at(start, 3, "deblurgan", *changes, steps=0, output=tmp_path / "cut")
    assert start("deblurgan", *changes, steps=0, output=tmp_path / "cut", options=["--resume"])[0] == 0
    whole = last_of(tmp_path / "whole")
    assert same_state(whole, last_of(tmp_path / "cut"))
    for part in ("generator", "average"):
        counts = [tensor for key, tensor in whole[part].items() if key.endswith("num_batches_tracked")]
        assert counts and all(count.dtype == torch.int64 and count == 4 for count in counts)
    saved = load_file(tmp_path / "cut" / "model" / "model.safetensors")
    assert all(torch.equal(saved[key], tensor) for key, tensor in whole["average"].items())


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
    assert words.endswith("take its recipe or leave --init-from away")
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


def test_deblurgan_resumes_to_the_same_weights(start, tmp_path, vgg19):
    options = ["--perceptual-weights", str(vgg19)]
    changes = ("schedule.epochs=0", "schedule.steps=4", "checkpoint_every=2", "network.dropout=0.5")
    start("deblurgan", *changes, steps=0, output=tmp_path / "whole", options=options)
    interrupt_at(start, 3, "deblurgan", *changes, steps=0, output=tmp_path / "cut", options=options)
    assert start("deblurgan", *changes, steps=0, output=tmp_path / "cut", options=[*options, "--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "cut"))


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

    watch(PatchCritic)
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
    assert seen[PatchCritic] == {torch.float32}
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


@pytest.mark.parametrize("reaches", [1, 2, 3, 4, 5, 6, 7])
def test_the_suggested_layer_is_one_that_the_file_holds(tmp_path, reaches):
    tensors = {}
    for name in list(VGG19_CONVOLUTIONS)[:reaches]:
        narrow, wide = VGG19_CHANNELS[name]
        tensors[f"features.{VGG19_CONVOLUTIONS[name]}.weight"] = torch.zeros(wide, narrow, 3, 3)
        tensors[f"features.{VGG19_CONVOLUTIONS[name]}.bias"] = torch.zeros(wide)
    save_file(tensors, tmp_path / "part.safetensors")
    last = list(VGG19_CONVOLUTIONS)[reaches - 1].replace("conv", "relu")
    with pytest.raises(RecipeError, match=f"layer={last},"):
        PerceptualLoss(Perceptual(layer="conv3_4"), tmp_path / "part.safetensors")
    PerceptualLoss(Perceptual(layer=last), tmp_path / "part.safetensors")


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


def test_the_learning_rate_in_the_log_follows_the_schedule(start, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    start("compact", "schedule.warmup=2", "optimizer.lr=1e-3", "schedule.final=0.0", steps=4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    wanted = [1e-3 * min(1, (step + 1) / 2) * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx(wanted, rel=1e-5)
    assert all(rate > after for rate, after in pairwise(rates[1:]))


def test_the_model_at_the_end_is_kept_beside_the_best_one(start, tmp_path):
    assert start("compact")[0] == 0
    ended = last_of(tmp_path / "run")["average"]
    kept = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert kept.keys() == ended.keys() and all(torch.equal(kept[key], ended[key]) for key in kept)
    assert "blurred PSNR" in (tmp_path / "run" / "last" / "README.md").read_text()
