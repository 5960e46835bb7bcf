"""Training as real processes: through the launchers, killed, interrupted, and two that agree."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from deblur_hub import DeblurGenerator
from tests.train.tiny_runs import HELD_OUT, ROOT, arguments, environment, photograph, save, spawn, tensors_of
from train.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
PATIENCE = 900  # seconds; on a quiet machine each process ends within 20


def test_accelerate_launch_trains_measures_and_saves_a_model(pictures, tmp_path):
    launcher = shutil.which("accelerate", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    output = tmp_path / "run"
    done = subprocess.run(
        [
            launcher,
            "launch",
            "train/",
            *arguments("compact", data=pictures, output=output, cache=tmp_path / "cache", steps=21),
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert f"saved {output}/model after 21 steps" in done.stdout
    assert "data: 5 pairs, 9 high-speed frames, 3 sharp photographs; held out: 3 pairs" in done.stdout

    generator = DeblurGenerator.from_pretrained(output / "model", device="cpu")
    assert generator.deblur(Image.fromarray(photograph(1))).size == (72, 64)
    card = (output / "model" / "README.md").read_text()
    assert "| picture | blurred PSNR | restored PSNR | gain | blurred SSIM | restored SSIM |" in card
    assert card.count("| scenes/held/") == HELD_OUT
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "validation/psnr" in line]
    assert [line["step"] for line in measured] == list(range(3, 22, 3))
    wanted = {"step", *(f"validation/{key}" for key in ("psnr", "ssim", "blurred_psnr", "blurred_ssim"))}
    assert all(set(line) == wanted for line in measured)
    best = max(measured, key=lambda line: line["validation/psnr"])
    assert f"| **mean** | {best['validation/blurred_psnr']:.2f} dB | {best['validation/psnr']:.2f} dB" in card
    assert [line["step"] for line in lines if "loss/generator" in line] == [20]
    sheet = np.asarray(Image.open(output / "samples" / "step-0000021.png"))
    assert sheet.shape == (HELD_OUT * 64, 3 * 72, 3)
    assert np.array_equal(sheet[:64, :72], np.asarray(Image.open(pictures / "scenes" / "held" / "blur" / "000.png")))
    assert np.array_equal(sheet[:64, 144:], np.asarray(Image.open(pictures / "scenes" / "held" / "sharp" / "000.png")))
    assert next((output / "tensorboard").glob("events.out.tfevents.*")).stat().st_size > 100
    assert json.loads((output / "recipe.json").read_text())["network"]["widths"] == [8, 8]


def begin(pictures, tmp_path, *changes, output, steps=60):
    """A run in its own process, as a user starts it without a launcher, once its first checkpoint is there."""
    run = spawn(
        "train/",
        *arguments(
            "compact",
            "checkpoint_every=1",
            "validation.every=50",
            f"schedule.steps={steps}",
            *changes,
            data=pictures,
            output=output,
            cache=tmp_path / "cache",
            steps=0,
        ),
    )
    deadline = time.monotonic() + PATIENCE
    while not (output / "checkpoints" / "last.pt").exists():
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.005)
    return run


def end(run, sign=None, *, whole_group=False):
    """(exit code, stderr) of a run, after a signal."""
    if sign is not None:
        (os.killpg if whole_group else os.kill)(run.pid, sign)
    try:
        _, words = run.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    return run.returncode, words


@pytest.mark.parametrize(("workers", "delay"), [(0, 0.0), (2, 0.15)])
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(start, pictures, tmp_path, workers, delay):
    run = begin(pictures, tmp_path, f"data.workers={workers}", output=tmp_path / "killed")
    time.sleep(delay)
    assert end(run, signal.SIGKILL)[0] == -signal.SIGKILL
    state = load_checkpoint(tmp_path / "killed" / "checkpoints" / "last.pt")
    assert 1 <= state["progress"]["step"] < 60
    changes = ("checkpoint_every=60", "validation.every=50", "schedule.steps=60")
    assert (
        start(
            "compact", *changes, f"data.workers={workers}", output=tmp_path / "killed", steps=0, options=["--resume"]
        )[0]
        == 0
    )
    assert start("compact", *changes, output=tmp_path / "whole", steps=0)[0] == 0
    killed, whole = (
        tensors_of(load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")) for name in ("killed", "whole")
    )
    assert killed.keys() == whole.keys()
    for key in whole:
        assert torch.equal(killed[key], whole[key]), key
    killed, whole = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(killed[key], whole[key]) for key in whole)


def test_sigterm_leaves_a_whole_checkpoint_and_no_process_behind(pictures, tmp_path):
    run = begin(pictures, tmp_path, "data.workers=1", output=tmp_path / "run", steps=5000)
    code, words = end(run, signal.SIGTERM)
    assert code == -signal.SIGTERM
    assert "Traceback" not in words
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["progress"]["step"] >= 1
    deadline = time.monotonic() + 60
    while group_lives(run.pid):  # a loader worker looks for its parent every few seconds
        assert time.monotonic() < deadline, "a worker stayed behind"
        time.sleep(0.2)


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_a_run_with_one_sentence(pictures, tmp_path):
    run = begin(pictures, tmp_path, "data.workers=2", output=tmp_path / "run", steps=5000)
    code, words = end(run, signal.SIGINT, whole_group=True)  # a terminal sends it to every process of the group
    assert code == 130
    assert words.splitlines()[-1] == "train: stopped; go on with --resume"
    assert "Traceback" not in words
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["progress"]["step"] >= 1


ALONE = (
    "train: several processes were launched, but each believes that it is alone; for CPUs launch with "
    "'ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ ...'"
)


def test_two_processes_that_do_not_know_of_each_other_are_refused_at_once(pictures, tmp_path):
    """Without ACCELERATE_USE_CPU two processes on CPUs would each do the whole work, into one folder."""
    run = spawn(
        *TORCHRUN, "train/", *arguments("compact", data=pictures, output=tmp_path / "run", cache=tmp_path / "cache")
    )
    code, words = end(run)
    assert code != 0
    assert [line for line in words.splitlines() if line.startswith("train: ")] == [ALONE]
    assert not (tmp_path / "run").exists()


def test_one_process_that_is_told_of_two_is_refused_at_once(start, monkeypatch, tmp_path):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert start("compact") == (2, ALONE)
    assert not (tmp_path / "run").exists()


def test_a_world_that_accelerate_cannot_form_is_refused_at_once(start, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, words = start("compact")
    assert code == 2
    assert words.startswith("train: accelerate cannot start here (")
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "run").exists()


# Runs train's own main(); at its end each rank writes down what it ended with, and then trains a critic for one step.
TWO_RANKS = '''
import sys
from pathlib import Path

import torch

from train import loop, trainer
from train.__main__ import main
from train.recipe import load_recipe

folder = Path(sys.argv[1])
original = loop.finish


def finish(run, config, recipe, progress, *rest):
    rank = run.accelerator.process_index
    torch.save(run.state(), folder / f"rank{rank}.pt")
    original(run, config, recipe, progress, *rest)
    torch.save(gan_state(run.accelerator, "instance"), folder / f"gan{rank}.pt")
    batch = ["loss.adversarial.loss=ragan-ls", "loss.adversarial.critic=double-scale", "loss.adversarial.layers=0",
             "loss.adversarial.options.norm=batch", "loss.adversarial.options.width=8", "schedule.ema=0.9"]
    torch.save(gan_state(run.accelerator, "batch", *batch), folder / f"batch{rank}.pt")


def gan_state(accelerator, norm, *changes):
    """Of a critic and a generator after one step on a fixed batch, of which each rank takes its part."""
    recipe = load_recipe("deblurgan", ["loss.adversarial.critic_steps=1", "loss.adversarial.lr=1e-6", "loss.pixel=l1",
                                       "loss.perceptual.weight=0.0", "network.dropout=0.0", *changes])
    torch.manual_seed(0)
    network = loop.build_network("deblurgan", width=8, blocks=1, norm=norm)
    gan = trainer.Trainer(recipe, network, None, accelerator)
    rank, world = accelerator.process_index, accelerator.num_processes
    pictures = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gan.step([tuple(pictures[:, rank * 4 // world:(rank + 1) * 4 // world])], step=0, progress=0.0)
    return gan.state()


loop.finish = finish
sys.exit(main(sys.argv[2:]))
'''


def test_two_processes_agree_and_equal_one_process_of_the_same_total_batch(pictures, tmp_path):
    """With one process the batch's gradient is one sum, with two it is two: equal up to the order of float32 sums."""
    (tmp_path / "ranks.py").write_text(TWO_RANKS)
    command = [str(tmp_path / "ranks.py")]
    results = {}
    for name, launcher in (("one", []), ("two", TORCHRUN)):
        folder = tmp_path / name
        folder.mkdir()
        code, words = end(
            spawn(
                *launcher,
                *command,
                str(folder),
                *arguments("compact", data=pictures, output=folder / "run", cache=tmp_path / "cache", steps=6),
                ACCELERATE_USE_CPU="true",
            )
        )
        assert code == 0, words
        assert "Traceback" not in words
        assert "destroy_process_group" not in words
        results[name] = folder

    for kind in ("rank", "gan", "batch"):
        one, first, second = (
            tensors_of(torch.load(path, weights_only=True))
            for path in (results["one"] / f"{kind}0.pt", results["two"] / f"{kind}0.pt", results["two"] / f"{kind}1.pt")
        )
        assert first.keys() == second.keys() == one.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), f"{kind}: the ranks differ in {key}"
            # The gradient of a bias before instance normalisation is nothing but rounding, of which Adam makes full
            # steps: of the adversarial networks the moments are compared, which are linear and square in the gradient.
            # Batch normalisation sees each process's part alone, and all of it in its mean over all pixels.
            if kind == "rank" or (kind == "gan" and "exp_avg" in key) or key == "generator.stem.2.running_mean":
                difference = (first[key] - one[key]).norm() / one[key].norm().clamp(min=1e-3)
                assert difference < 1e-4, f"{kind}: one process's {key} differs by {difference:.1e}"

    for name, folder in results.items():
        card = (folder / "run" / "model" / "README.md").read_text()
        rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("| scenes/held/")]
        assert rows == [f"scenes/held/{number:03}.png" for number in range(HELD_OUT)], name
    one, two = (
        [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        for folder in results.values()
    )
    assert [line["step"] for line in one] == [line["step"] for line in two] == [3, 6]
    for alone, together in zip(one, two, strict=True):
        assert alone["validation/blurred_psnr"] == pytest.approx(together["validation/blurred_psnr"], abs=1e-9)
        assert alone["validation/psnr"] == pytest.approx(together["validation/psnr"], abs=0.01)


def test_a_picture_that_only_the_second_process_meets_is_still_named(tmp_path):
    """Of two photographs and batches of two, one that cannot be decoded is always met by one rank alone."""
    for number in range(2):
        path = save(photograph(number), tmp_path / "data" / "sharp" / f"{number}.png")
    path.write_bytes(path.read_bytes()[:2000])
    run = spawn(
        *TORCHRUN,
        "train/",
        *arguments(
            "compact",
            "data.batch_size=2",
            "data.epoch_length=2",
            "seed=0",
            data=tmp_path / "data",
            output=tmp_path / "run",
            cache=tmp_path / "cache",
            steps=50,
        ),
        ACCELERATE_USE_CPU="true",
    )
    code, words = end(run)
    assert code != 0
    assert f"train: {path}: cannot be decoded (" in words
