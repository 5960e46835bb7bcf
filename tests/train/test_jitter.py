"""Losses that see their pictures at another place in each step."""

import pytest
import torch
from accelerate import Accelerator

from deblur_hub.networks import build_network
from tests.train.test_trainer import make, moments, steps
from train.checks import check
from train.jitter import jittered
from train.recipe import RecipeError, load_recipe


def test_pictures_are_cropped_alike_at_any_place_and_always_so_for_one_seed():
    rows = torch.arange(12.0).view(1, 1, 12, 1).expand(2, 3, 12, 10)
    columns = torch.arange(10.0).expand(2, 3, 12, 10)
    places = set()
    for step in range(200):
        row, column = jittered(3, (step, 1), rows, columns)
        assert row.shape == column.shape == (2, 3, 9, 7)
        top, left = row[0, 0, 0, 0].item(), column[0, 0, 0, 0].item()
        assert torch.equal(row, rows[..., int(top) : int(top) + 9, int(left) : int(left) + 7])
        assert torch.equal(jittered(3, (step, 1), rows)[0], row)
        places.add((top, left))
    assert places == {(top, left) for top in range(4) for left in range(4)}
    assert jittered(0, (1,), rows, columns)[1] is columns


@pytest.mark.parametrize(("jitter", "reached"), [(0, 1), (3, 16)])
def test_a_loss_with_a_grid_reaches_every_pixel_of_it_in_turn(jitter, reached):
    """A loss that looks at one pixel of each 4x4 teaches the generator that one alone, unless it is moved about."""
    run = make("deblurgan", f"loss.jitter={jitter}", "loss.adversarial.weight=0", "loss.pixel=none",
               "loss.perceptual.weight=1")  # fmt: skip
    run.perceptual = lambda restored, sharp: (restored - sharp)[..., ::4, ::4].sum()
    restored, sharp = torch.zeros(1, 3, 32, 32, requires_grad=True), torch.zeros(1, 3, 32, 32)
    for step in range(200):
        terms, _ = run.terms([restored], sharp, None, (step, 0))
        terms["perceptual"].backward()
    cells = restored.grad[..., 4:-4, 4:-4].reshape(3, 6, 4, 6, 4).abs().sum(dim=(0, 1, 3))
    assert int((cells > 0).sum()) == reached


def test_pixel_losses_see_the_whole_crop_and_the_others_not():
    plain, moved = (make("deblurgan", f"loss.jitter={n}", "loss.adversarial.weight=0") for n in (0, 8))
    found, wanted = steps(moved)[0], steps(plain)[0]
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    keras = ("loss.adversarial.critic=keras", "loss.adversarial.layers=0", "loss.adversarial.loss=wasserstein")
    moved = make("deblurgan", "loss.jitter=16", *keras)
    assert moved.critic.side == 16 and steps(moved)[0]["loss/critic"].isfinite()


def test_a_batch_in_parts_is_moved_as_a_whole():
    whole, split = (make("deblurgan", f"optimizer.accumulate={n}", "loss.jitter=5", "loss.adversarial.lr=0.0",
                         "network.dropout=0.0") for n in (1, 2))  # fmt: skip
    steps(whole), steps(split)
    whole, split = moments(whole), moments(split)
    for key in whole:
        assert (whole[key] - split[key]).norm() <= 0.03 * whole[key].norm().clamp(min=1e-3), key


@pytest.mark.parametrize(("jitter", "words"), [(32, "leaves nothing of data.crop 32"), (31, "too small for the crit")])
def test_more_than_a_crop_can_spare_is_refused(jitter, words):
    recipe = load_recipe("deblurgan", ["data.crop=32", f"loss.jitter={jitter}", "loss.adversarial.layers=3"])
    with pytest.raises(RecipeError, match=words):
        check(recipe, build_network(recipe.generator), Accelerator())
