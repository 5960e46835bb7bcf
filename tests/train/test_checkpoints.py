"""Checkpoints: whole ones alone, as many as wanted, and runs that go on from them as if they had never stopped."""

import io
import json
import os
import resource
import signal
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.tiny_runs import BATCH_NORM, last_of, same_state
from train import checkpoint, loop, trainer
from train.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from train.recipe import RecipeError


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


def without_times(scalars):
    return {key: value for key, value in scalars.items() if not key.startswith("time/")}


def metrics_of(folder):
    return [without_times(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def small_files():
    """No file grows beyond 20,000 bytes; that of pytest's own output included, so leave before it writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_the_disk_says_is_what_the_user_reads(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"step": 1})
    with (
        pytest.raises(RecipeError, match=r"the checkpoint cannot be written \(\[Errno 27\] File too large\); free"),
        small_files(),
    ):
        save_checkpoint(tmp_path / "last.pt", {"step": 2, "weights": torch.zeros(50_000)})
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


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


@pytest.mark.slow
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
        f"train: {tmp_path}/run/checkpoints/step-0000004.pt: the checkpoint cannot be written ([Errno 28] No "
        "space left on device); free some space, then go on with --resume from the one before"
    )
    assert names(tmp_path / "run" / "checkpoints") == ["last.pt", "step-0000002.pt"]
    assert last_of(tmp_path / "run")["progress"]["step"] == 2


@pytest.mark.slow
def test_a_half_written_checkpoint_is_passed_over(start, tmp_path):
    start("compact", "schedule.steps=6", steps=0, output=tmp_path / "whole")
    interrupt_at(start, 3, "compact", "schedule.steps=6", steps=0)
    (tmp_path / "run" / "checkpoints" / "step-0000003.part").write_bytes(b"PK half a checkpoint")
    assert start("compact", "schedule.steps=6", steps=0, options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "run"))
    assert not any(name.endswith(".part") for name in names(tmp_path / "run" / "checkpoints"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_an_unreadable_checkpoint_is_named(start, tmp_path, content):
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    code, words = start("compact", options=["--resume"])
    assert code == 2
    assert words.startswith(f"train: {path}: not a checkpoint that can be read")


@pytest.mark.slow
def test_resuming_needs_a_checkpoint_and_the_same_networks(start, tmp_path):
    code, words = start("compact", options=["--resume"])
    assert code == 2
    assert words.endswith("last.pt: there is no checkpoint to resume from; start without --resume")
    assert not (tmp_path / "run").exists()
    start("compact", steps=2)
    code, words = start("compact", "network.widths=[8,16]", options=["--resume"])
    assert code == 2
    assert "whose networks are not those of 'compact'; resume with the same recipe" in words


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_not_overwritten(start, tmp_path):
    start("compact", steps=2)
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    assert start("compact", steps=3) == (
        2,
        f"train: {tmp_path}/run: holds a run already; go on with --resume, or name another --output",
    )
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(start, tmp_path):
    start("compact", "schedule.steps=7", steps=0, output=tmp_path / "whole")
    # Step 3 was measured, and its scores logged, after the last checkpoint.
    interrupt_at(start, 3, "compact", "schedule.steps=7", steps=0, output=tmp_path / "cut")
    assert last_of(tmp_path / "cut")["progress"]["step"] == 2
    assert '"step": 3' in (tmp_path / "cut" / "metrics.jsonl").read_text()
    assert start("compact", "schedule.steps=7", steps=0, output=tmp_path / "cut", options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "cut"))
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "cut")


@pytest.mark.slow
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


@pytest.mark.slow
def test_deblurgan_resumes_to_the_same_weights(start, tmp_path, vgg19):
    options = ["--perceptual-weights", str(vgg19)]
    changes = ("schedule.epochs=0", "schedule.steps=4", "checkpoint_every=2", "network.dropout=0.5")
    start("deblurgan", *changes, steps=0, output=tmp_path / "whole", options=options)
    interrupt_at(start, 3, "deblurgan", *changes, steps=0, output=tmp_path / "cut", options=options)
    assert start("deblurgan", *changes, steps=0, output=tmp_path / "cut", options=[*options, "--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "cut"))


def test_weights_that_are_not_finite_are_never_put_in_a_checkpoint(start, tmp_path, monkeypatch):
    original = trainer.Trainer.step

    def non_finite_step(self, batches, **where):
        log = original(self, batches, **where)
        if where["step"] == 3:  # a gradient that overflowed behind a finite loss
            next(self.generator.parameters()).data[0] = float("inf")
        return log

    monkeypatch.setattr(trainer.Trainer, "step", non_finite_step)
    code, words = start("compact", steps=9)
    assert code == 2
    assert "the generator's weights are not finite after step 4; the checkpoint in" in words
    assert last_of(tmp_path / "run")["progress"]["step"] == 2


@pytest.mark.slow
def test_the_newest_checkpoints_are_kept_and_last_is_the_newest(start, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    assert start("compact", "checkpoint_every=1", steps=6)[0] == 0
    assert names(folder) == ["last.pt", "step-0000004.pt", "step-0000005.pt", "step-0000006.pt"]
    assert (folder / "last.pt").samefile(folder / "step-0000006.pt")
    assert [load_checkpoint(folder / f"step-{step:07d}.pt")["progress"]["step"] for step in (4, 5, 6)] == [4, 5, 6]
    assert start("compact", "checkpoint_every=1", "keep=1", steps=3, output=tmp_path / "one")[0] == 0
    assert names(tmp_path / "one" / "checkpoints") == ["last.pt", "step-0000003.pt"]


def test_older_checkpoints_go_only_once_the_new_one_is_whole(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(step, {"step": step})
    before = names(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(RecipeError):
        checkpoints.save(3, {"step": 3})
    assert names(tmp_path) == before
    assert checkpoints.newest()[1]["step"] == 2


def test_without_second_names_for_files_the_newest_is_found_by_its_own(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, {"step": 1})

    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for step in (2, 3, 10):
        checkpoints.save(step, {"step": step})
    assert names(tmp_path) == ["step-0000003.pt", "step-0000010.pt"]
    assert checkpoints.newest()[1]["step"] == 10


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut short":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    else:  # one bit in the midst of a tensor, which PyTorch would read without a word
        place = content.index(torch.full((64,), 3.0).numpy().tobytes())
        content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut short", "empty", "a bit turned"])
def test_a_broken_newest_checkpoint_is_passed_over_with_a_sentence(tmp_path, capsys, how):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step, "weights": torch.full((64,), 3.0)})
    for step in (3, 2):
        damage(tmp_path / f"step-000000{step}.pt", how)
    path, state = checkpoints.newest()
    assert (path.name, state["step"]) == ("step-0000001.pt", 1)
    words = capsys.readouterr().err.splitlines()
    assert [line.partition(": not a checkpoint that can be read (")[0] for line in words] == [
        f"train: {tmp_path}/step-000000{step}.pt" for step in (3, 2)
    ]
    assert all(line.endswith("; going on from the one before") for line in words)
    damage(path, how)
    with pytest.raises(RecipeError, match=r"step-0000001.pt: not a checkpoint that can be read"):
        checkpoints.newest()


@pytest.mark.slow
def test_a_run_whose_newest_checkpoint_is_broken_resumes_from_the_one_before_to_the_same_weights(start, tmp_path):
    changes = ("compact", "schedule.steps=6", "checkpoint_every=1")
    start(*changes, steps=0, output=tmp_path / "whole")
    interrupt_at(start, 4, *changes, steps=0)
    path = tmp_path / "run" / "checkpoints" / "step-0000004.pt"
    path.write_bytes(path.read_bytes()[:-100])
    code, words = start(*changes, steps=0, options=["--resume"])
    assert code == 0
    assert words.startswith(f"train: {path}: not a checkpoint that can be read (")
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "run"))
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "run")


@pytest.mark.slow
def test_a_run_of_an_earlier_version_which_kept_last_alone_goes_on(start, tmp_path):
    changes = ("compact", "schedule.steps=4")
    start(*changes, steps=0, output=tmp_path / "whole")
    interrupt_at(start, 3, *changes, steps=0)
    folder = tmp_path / "run" / "checkpoints"
    state = load_checkpoint(folder / "step-0000002.pt")
    (folder / "step-0000002.pt").unlink()
    assert names(folder) == ["last.pt"]
    for key in ("skipped", "adversarial"):
        state.pop(key, None)
    state["progress"].pop("measured")
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = None  # as it was then
    del state["schema_version"]
    save_checkpoint(folder / "last.pt", state)
    assert start(*changes, steps=0)[0] == 2  # it holds a run
    assert start(*changes, steps=0, options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "run"))


@pytest.mark.slow
def test_a_gan_in_parts_resumes_to_the_same_weights_and_scores(start, tmp_path):
    """With a pool of scores, which is remembered from step to step, and dropout."""
    changes = (
        "deblurgan", "loss.pixel=l1", "loss.perceptual.weight=0.0", "loss.adversarial.loss=ragan-ls",
        "loss.adversarial.pool=5", "optimizer.accumulate=2", "network.dropout=0.5", "schedule.steps=4",
        "schedule.shape=step", "schedule.milestones=[0.5]", "checkpoint_every=2", "validation.every=2",
    )  # fmt: skip
    start(*changes, steps=0, output=tmp_path / "whole")
    interrupt_at(start, 3, *changes, steps=0)
    assert start(*changes, steps=0, options=["--resume"])[0] == 0
    whole = last_of(tmp_path / "whole")
    assert len(whole["adversarial"]["0"][0]) == 5
    assert same_state(whole, last_of(tmp_path / "run"))


def signal_at(start, number, step, *arguments, **options):
    """Runs while a signal reaches this process in the midst of a step."""
    original = trainer.Trainer.step

    def stepping(self, batches, **where):
        if where["step"] == step:
            os.kill(os.getpid(), number)
        return original(self, batches, **where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", stepping)
        return start(*arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 3), (signal.SIGUSR1, 2)])
def test_a_warning_of_the_cluster_ends_the_step_keeps_it_and_leaves_with_75(start, tmp_path, number, step):
    """After step 3 a validation is due, which then waits for the session that follows."""
    changes = ("compact", "schedule.steps=6", "checkpoint_every=100")
    before = signal.getsignal(number)
    start(*changes, steps=0, output=tmp_path / "whole")
    code, words = signal_at(start, number, step - 1, *changes, steps=0)
    assert (code, words) == (75, f"train: stopped by {number.name} at step {step}; go on with --resume")
    assert signal.getsignal(number) == before
    state = last_of(tmp_path / "run")
    assert state["progress"]["step"] == step
    assert state["progress"]["measured"] == -1
    assert not (tmp_path / "run" / "model").exists()
    assert start(*changes, steps=0, options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "run"))
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "run")


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_a_run_that_goes_on_once_there_is_room(start, tmp_path, monkeypatch):
    """The limit on a file's size stops the real writer in the midst of a real checkpoint."""
    changes = ("compact", "schedule.steps=6", "checkpoint_every=2", "validation.every=100")
    start(*changes, steps=0, output=tmp_path / "whole")
    original = loop.Checkpoints.save

    def save(self, step, state):
        with small_files() if step > 2 else nullcontext():
            original(self, step, state)

    monkeypatch.setattr(loop.Checkpoints, "save", save)
    code, words = start(*changes, steps=0)
    folder = tmp_path / "run" / "checkpoints"
    assert code == 2
    assert words == (
        f"train: {folder}/step-0000004.pt: the checkpoint cannot be written ([Errno 27] File too large); free some "
        "space, then go on with --resume from the one before"
    )
    assert names(folder) == ["last.pt", "step-0000002.pt"]
    monkeypatch.undo()
    assert start(*changes, steps=0, options=["--resume"])[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "run"))
