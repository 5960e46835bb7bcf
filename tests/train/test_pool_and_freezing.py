"""What DeblurGAN-v2's recipe remembers and leaves alone: scores of earlier pictures, and a backbone at the start."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from deblur_hub.networks import build_network
from tests.train.tiny_runs import PATIENCE, tensors_of
from train.checkpoint import load_checkpoint, save_checkpoint
from train.losses.adversarial import PooledLeastSquares, RelativisticLeastSquares, adversarial_loss
from train.recipe import Adversarial, load_recipe, recipe_from_table
from train.trainer import Trainer


class Brightness(nn.Module):
    """Scores each picture by its mean, at two scales: as it is, and doubled."""

    def forward(self, pictures, batches=1):
        score = pictures.mean(dim=(1, 2, 3), keepdim=True)
        return [score, 2 * score]


def flat(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).clone()


def test_the_pool_holds_the_scores_of_the_last_pictures_and_compares_with_their_means():
    loss, share = PooledLeastSquares(3), torch.zeros(2)
    first, _ = loss.discriminator_loss(Brightness(), flat(0.0, 0.2), flat(1.0, 0.6), share=share)
    # By hand: means 0.1 and 0.8, of the doubled scores 0.2 and 1.6.
    once = ((1 - 0.1 - 1) ** 2 + (0.6 - 0.1 - 1) ** 2) / 2 + ((0 - 0.8 + 1) ** 2 + (0.2 - 0.8 + 1) ** 2) / 2
    twice = ((2 - 0.2 - 1) ** 2 + (1.2 - 0.2 - 1) ** 2) / 2 + ((0 - 1.6 + 1) ** 2 + (0.4 - 1.6 + 1) ** 2) / 2
    assert first.item() == pytest.approx((once + twice) / 2, rel=1e-5)
    second, log = loss.discriminator_loss(Brightness(), flat(-0.4, 0.4), flat(0.0, 0.5), share=share)
    # The last three of each: restored 0.2, -0.4, 0.4; sharp 0.6, 0.0, 0.5.
    fake, real = 0.2 / 3, 1.1 / 3
    once = ((0 - fake - 1) ** 2 + (0.5 - fake - 1) ** 2) / 2 + ((-0.4 - real + 1) ** 2 + (0.4 - real + 1) ** 2) / 2
    fake, real = 2 * fake, 2 * real
    twice = ((0 - fake - 1) ** 2 + (1.0 - fake - 1) ** 2) / 2 + ((-0.8 - real + 1) ** 2 + (0.8 - real + 1) ** 2) / 2
    assert second.item() == pytest.approx((once + twice) / 2, rel=1e-5)
    assert (log["restored"].item(), log["sharp"].item()) == pytest.approx((0.0, 0.375), abs=1e-6)


def test_the_generator_is_compared_with_the_pool_and_adds_nothing_to_it():
    loss = PooledLeastSquares(8)
    loss.discriminator_loss(Brightness(), flat(0.0, 0.2), flat(1.0, 0.6), share=torch.zeros(2))
    before = {key: scores.clone() for key, scores in loss.state().items()}
    restored = flat(0.3).requires_grad_()
    value = loss.generator_loss(Brightness(), restored, flat(0.9))
    once = (0.3 - 0.8 - 1) ** 2 + (0.9 - 0.1 + 1) ** 2
    twice = (0.6 - 1.6 - 1) ** 2 + (1.8 - 0.2 + 1) ** 2
    assert value.item() == pytest.approx((once + twice) / 2, rel=1e-5)
    value.backward()
    # Means are constants: d/d(score) of each first square, spread over 12 values.
    assert restored.grad.sum().item() == pytest.approx((2 * (0.3 - 0.8 - 1) + 4 * (0.6 - 1.6 - 1)) / 2, rel=1e-5)
    assert all(torch.equal(scores, before[key]) for key, scores in loss.state().items())


def test_a_pool_of_the_batch_itself_has_the_values_of_the_loss_without_a_pool():
    restored, sharp = flat(0.1, -0.3), flat(0.5, 0.2)
    pooled, plain = PooledLeastSquares(2), RelativisticLeastSquares()
    one, other = (
        loss.discriminator_loss(Brightness(), restored, sharp, share=torch.zeros(2))[0] for loss in (pooled, plain)
    )
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    one, other = (loss.generator_loss(Brightness(), restored, sharp) for loss in (pooled, plain))
    assert one.item() == pytest.approx(other.item(), rel=1e-5)


def test_scores_that_are_not_finite_do_not_spoil_the_pool():
    loss, share = PooledLeastSquares(4), torch.zeros(1)
    for value in (float("nan"), float("inf")):
        loss.discriminator_loss(Brightness(), flat(value), flat(0.0), share=share)
    after, _ = loss.discriminator_loss(Brightness(), flat(0.2), flat(0.6), share=share)
    assert torch.isfinite(after)
    means = torch.stack(loss.means())
    assert means[0].tolist() == pytest.approx([0.2, 0.2])  # of 0.2; of 0, 0 and 0.6


def test_the_recipe_chooses_the_pool():
    assert isinstance(adversarial_loss(Adversarial(loss="ragan-ls", pool=50)), PooledLeastSquares)
    assert type(adversarial_loss(Adversarial(loss="ragan-ls"))) is RelativisticLeastSquares


def small_v2(accelerator, *, frozen_steps=0, generator="deblurgan-v2-mobilenet"):
    """A trainer of the recipe, narrowed, without its perceptual loss; with its generator or another."""
    table = load_recipe("deblurgan-v2-mobilenet").as_dict()
    table |= {"generator": generator, "network": {"width": 8}}
    table["data"] |= {"crop": 64, "batch_size": 2}
    table["loss"]["perceptual"]["weight"] = 0.0
    table["loss"]["adversarial"] |= {"options": {"width": 8}, "pool": 3, "weight": 0.1}
    recipe = recipe_from_table(table, "small")
    torch.manual_seed(0)
    network = build_network(recipe.generator, **recipe.network)
    return Trainer(recipe, network, None, accelerator, frozen_steps=frozen_steps)


def batch(step, first=0, last=2):
    pictures = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(step)) * 2 - 1
    return tuple(pictures[:, first:last])


def run(trainer, steps, part=(0, 2)):
    return [trainer.step([batch(step, *part)], step=step, progress=step / 10) for step in steps]


@pytest.mark.slow
def test_a_resumed_pool_is_the_one_that_would_have_been(tmp_path):
    whole, cut = small_v2(Accelerator(cpu=True)), small_v2(Accelerator(cpu=True))
    run(cut, range(2))
    save_checkpoint(tmp_path / "last.pt", cut.state())
    resumed = small_v2(Accelerator(cpu=True))
    resumed.load_state(load_checkpoint(tmp_path / "last.pt"))
    run(whole, range(4))
    run(resumed, range(2, 4))
    one, other = tensors_of(whole.state()), tensors_of(resumed.state())
    assert one.keys() == other.keys() and {"adversarial.0", "adversarial.1"} <= one.keys()
    assert one["adversarial.0"].shape == (2, 3)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.slow
def test_a_frozen_backbone_does_not_move_until_its_steps_are_over_and_all_else_does():
    trainer = small_v2(Accelerator(cpu=True), frozen_steps=2)
    start = {key: weight.detach().clone() for key, weight in trainer.generator.named_parameters()}
    run(trainer, range(2))
    moved = {key for key, weight in trainer.generator.named_parameters() if not torch.equal(weight, start[key])}
    backbone = {key for key in start if key.startswith("backbone.")}
    assert backbone and not moved & backbone
    assert moved >= {key for key in start.keys() - backbone if key.endswith("weight")}
    run(trainer, range(2, 4))
    moved = {key for key, weight in trainer.generator.named_parameters() if not torch.equal(weight, start[key])}
    assert moved >= {key for key in backbone if key.endswith("conv.weight")}


@pytest.mark.slow
def test_a_run_resumed_inside_the_frozen_steps_equals_the_whole_one(tmp_path):
    whole, cut = (small_v2(Accelerator(cpu=True), frozen_steps=2) for _ in range(2))
    run(cut, range(1))
    save_checkpoint(tmp_path / "last.pt", cut.state())
    resumed = small_v2(Accelerator(cpu=True), frozen_steps=2)
    resumed.load_state(load_checkpoint(tmp_path / "last.pt"))
    run(whole, range(4))
    run(resumed, range(1, 4))
    one, other = tensors_of(whole.state()), tensors_of(resumed.state())
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_a_generator_without_a_backbone_cannot_freeze_one(start, tmp_path):
    code, words = start("compact", "schedule.freeze_backbone=1")
    assert code == 2
    assert words == (
        "train: recipe 'compact': schedule.freeze_backbone freezes the classifier inside a generator, and 'compact' "
        "has none; set it to 0, or take a generator such as deblurgan-v2-mobilenet"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_epochs_of_freezing_become_steps(start, tmp_path, monkeypatch):
    """Three epochs of four samples in batches of two are six steps."""
    from train import preparation

    seen = []
    original = preparation.Trainer

    def watch(*arguments, frozen_steps, **options):
        seen.append(frozen_steps)
        return original(*arguments, frozen_steps=frozen_steps, **options)

    monkeypatch.setattr(preparation, "Trainer", watch)
    changes = ("generator=deblurgan-v2-mobilenet", "network={width = 8}", "data.crop=64", "data.batch_size=2")
    small = ("data.epoch_length=4", "data.mix.sharp=0", "data.mix.frames=0", "schedule.freeze_backbone=3")
    code, words = start("compact", *changes, *small, steps=1)
    assert (code, words, seen) == (0, "", [6])


TWO_RANKS = """
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from tests.train.test_pool_and_freezing import three_steps

torch.set_num_threads(1)
accelerator = Accelerator(cpu=True)
three_steps(accelerator, Path(sys.argv[1]))
accelerator.end_training()
"""


def three_steps(accelerator, folder):
    """Of two generators, each rank with its part of the batch; what they end with is kept in files."""
    rank, world = accelerator.process_index, accelerator.num_processes
    part = (rank * 2 // world, (rank + 1) * 2 // world)
    trainer = small_v2(accelerator, frozen_steps=2)
    run(trainer, range(3), part)
    torch.save({"world": world} | trainer.state(), folder / f"{world}-{rank}.pt")
    other = small_v2(accelerator, generator="unet")
    run(other, range(3), part)
    torch.save(other.state(), folder / f"unet-{world}-{rank}.pt")


@pytest.mark.slow
def test_two_processes_share_one_pool_and_freeze_alike(both, tmp_path):
    three_steps(Accelerator(cpu=True), tmp_path)
    (tmp_path / "ranks.py").write_text(TWO_RANKS)
    for started in both(tmp_path / "ranks.py", tmp_path):
        _, words = started.communicate(timeout=PATIENCE)
        assert started.returncode == 0, words
    # The batch normalisation of this recipe's backbone sees each process's part of a batch; a plain U-Net has none.
    alone, *ranks = (torch.load(tmp_path / f"unet-{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    for state in ranks:
        for scale, scores in state["adversarial"].items():
            assert scores.shape == (2, 3)
            assert torch.allclose(scores, alone["adversarial"][scale], rtol=1e-3, atol=1e-4)
    alone, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert (alone["world"], first["world"], second["world"]) == (1, 2, 2)
    one, other = tensors_of(first), tensors_of(second)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    torch.manual_seed(0)
    fresh = build_network("deblurgan-v2-mobilenet", width=8).state_dict()
    backbone = [key for key in fresh if key.startswith("backbone") and key.endswith("conv.weight")]
    for state in (alone, first):
        # Only the third of the three steps has moved it, and no weight by more than a step of Adam's.
        moves = [(state["generator"][key] - fresh[key]).abs().max().item() for key in backbone]
        assert 0 < max(moves) < 1.01e-4
