"""Losses, schedules and the moving average against closed forms."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from deblur_hub.metrics import psnr
from train.losses.adversarial import PenalisedWasserstein
from train.losses.pixels import (
    at_every_scale,
    frequency_loss,
    grid_loss,
    harm_loss,
    pixel_loss,
    relativistic_least_squares,
)
from train.optim.schedule import WeightAverage, lr_multiplier
from train.recipe import Schedule


def pictures(seed=0, shape=(2, 3, 32, 32)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) * 2 - 1


def test_pixel_losses_of_a_constant_difference():
    sharp = pictures()
    assert pixel_loss("l1", sharp + 0.25, sharp).item() == pytest.approx(0.25, abs=1e-6)
    assert pixel_loss("mse", sharp - 0.5, sharp).item() == pytest.approx(0.25, abs=1e-6)
    assert pixel_loss("charbonnier", sharp + 0.25, sharp).item() == pytest.approx(math.sqrt(0.0625 + 1e-6), abs=1e-6)
    assert pixel_loss("charbonnier", sharp, sharp).item() == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="'l3'"):
        pixel_loss("l3", sharp, sharp)


def test_the_psnr_loss_is_minus_the_mean_of_the_pictures_psnr():
    """Of values in [0, 1], in which a difference of 0.2 here is one of 0.1: 20 dB; and 0.02 is 40 dB."""
    sharp = pictures()
    restored = sharp + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    assert pixel_loss("psnr", restored, sharp).item() == pytest.approx(-30, abs=0.01)
    assert pixel_loss("psnr", sharp, sharp).item() == pytest.approx(-80, abs=1e-4)
    noisy = (sharp + 0.1 * pictures(1)).requires_grad_()
    loss = pixel_loss("psnr", noisy, sharp)
    wanted = -psnr((noisy.detach() + 1) / 2, (sharp + 1) / 2).mean().item()
    assert loss.item() == pytest.approx(wanted, abs=1e-3)
    loss.backward()
    error = (noisy - sharp).detach()
    by_hand = 20 / math.log(10) * error / error.square().sum(dim=(1, 2, 3), keepdim=True) / 2  # of two pictures
    assert torch.allclose(noisy.grad, by_hand, rtol=1e-3)


def test_the_frequency_loss_of_a_constant_difference_is_its_one_coefficient():
    sharp = pictures(shape=(2, 3, 16, 24))
    # Only the mean's coefficient, 16 * 24 * 0.5, of 16 * 13 complex numbers of two parts each.
    assert frequency_loss(sharp + 0.5, sharp).item() == pytest.approx(16 * 24 * 0.5 / (16 * 13 * 2), rel=1e-4)


def test_the_harm_loss_is_what_a_picture_is_worse_than_the_best_that_was_given():
    sharp = pictures()

    def off(*distances: float) -> torch.Tensor:
        return sharp + torch.tensor(distances).view(2, 1, 1, 1)

    blurred, kept = off(0.2, 0.2), off(0.6325, 0.0632)  # 20 and 20 dB, 10 and 30 dB
    assert harm_loss(off(0.2, 0.0632), sharp, (blurred, kept)).item() == pytest.approx(0, abs=1e-2)
    assert harm_loss(off(0.6325, 0.2), sharp, (blurred, kept)).item() == pytest.approx((10 + 10) / 2, abs=1e-2)
    assert harm_loss(off(0.02, 0.02), sharp, (sharp, kept)).item() == pytest.approx(0, abs=1e-2)  # 40 dB are enough
    restored = off(0.02, 0.6325).requires_grad_()
    harm_loss(restored, sharp, (blurred, kept)).backward()
    assert restored.grad[0].abs().max() == 0 and restored.grad[1].abs().min() > 0


def test_the_grid_loss_of_a_mesh_is_its_mean_square_wherever_it_lies():
    sharp = pictures(shape=(2, 3, 64, 72))
    mesh = 0.1 * pictures(1, (1, 3, 4, 4))
    mesh -= mesh.mean(dim=(2, 3), keepdim=True)
    everywhere = mesh.repeat(1, 1, 16, 18)
    size = mesh.square().mean().item()
    assert grid_loss(sharp + everywhere, sharp).item() == pytest.approx(size, rel=1e-4)
    assert grid_loss(sharp + 0.2 + everywhere, sharp).item() == pytest.approx(size, rel=1e-4)  # a shift is no mesh
    everywhere[..., :32, :] = 0  # on one half alone, as where a picture is bright
    assert grid_loss(sharp + everywhere, sharp).item() == pytest.approx(size / 2, rel=1e-4)
    odd = torch.nn.functional.pad(sharp + mesh.repeat(1, 1, 16, 18), (0, 3, 0, 2))  # what makes no cell is left out
    assert grid_loss(odd, torch.nn.functional.pad(sharp, (0, 3, 0, 2))).item() == pytest.approx(size, rel=1e-4)
    assert grid_loss(sharp + 0.3, sharp).item() < 1e-12


def test_the_grid_loss_averages_errors_of_the_picture_away():
    """Of noise it keeps one part in 64, the cells of a window, less the 16 phases' mean; of other periods none."""
    sharp, noise = torch.zeros(4, 3, 128, 128), 0.1 * torch.randn(4, 3, 128, 128, generator=torch.manual_seed(0))
    assert grid_loss(noise, sharp).item() == pytest.approx(0.01 / 64 * 15 / 16, rel=0.1)
    stripes = 0.1 * torch.sin(torch.arange(128) * 2 * math.pi / 32).expand(4, 3, 128, 128)
    assert grid_loss(stripes, sharp).item() < 1e-8
    small = 0.1 * pictures(shape=(1, 3, 4, 4))  # one cell
    assert grid_loss(small, 0 * small).item() == pytest.approx(small.var(dim=(2, 3), correction=0).mean().item())


def test_the_frequency_loss_of_a_shifted_point_is_that_of_a_turned_phase():
    height, width, down, right = 8, 12, 3, 5
    here, there = torch.zeros(2, 1, 3, height, width).unbind()
    here[..., 0, 0] = 1
    there[..., down, right] = 1
    angle = 2 * np.pi * (np.arange(height)[:, None] * down / height + np.arange(width // 2 + 1) * right / width)
    wanted = (np.abs(1 - np.cos(angle)).mean() + np.abs(np.sin(angle)).mean()) / 2
    assert frequency_loss(here, there).item() == pytest.approx(wanted, rel=1e-5)


class LinearDiscriminator(nn.Module):
    """D(x) = <w, x>, whose gradient is w everywhere."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, picture):
        return (picture * self.weight).sum(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_known_from_its_norm(norm):
    weight = pictures(1, (1, 3, 32, 32))
    critic = LinearDiscriminator(weight / weight.norm() * norm)
    restored, sharp = pictures(2), pictures(3)
    loss, log = PenalisedWasserstein(10.0).discriminator_loss(critic, restored, sharp, share=torch.tensor([0.2, 0.9]))
    scores = [(picture * critic.weight).sum(dim=(1, 2, 3)).mean().item() for picture in (restored, sharp)]
    assert log["penalty"].item() == pytest.approx((norm - 1) ** 2, abs=1e-5)
    assert log["wasserstein"].item() == pytest.approx(scores[1] - scores[0], abs=1e-4)
    assert loss.item() == pytest.approx(scores[0] - scores[1] + 10 * (norm - 1) ** 2, abs=1e-4)
    loss.backward()
    by_hand = (restored - sharp).mean(dim=0, keepdim=True) + 20 * (norm - 1) * critic.weight / norm
    assert torch.allclose(critic.weight.grad, by_hand, atol=1e-4)


def test_the_penalty_is_taken_between_the_pictures():
    """D(x) = |x|^2 / 2 has the gradient x: its norm says where it was asked."""

    class Square(nn.Module):
        def forward(self, picture):
            return picture.square().sum(dim=(1, 2, 3), keepdim=True) / 2

    restored, sharp = pictures(2), pictures(3)
    share = torch.tensor([0.25, 1.0])
    mix = torch.stack([0.25 * sharp[0] + 0.75 * restored[0], sharp[1]])
    _, log = PenalisedWasserstein(1.0).discriminator_loss(Square(), restored, sharp, share=share)
    assert log["penalty"].item() == pytest.approx(((mix.flatten(1).norm(dim=1) - 1) ** 2).mean().item(), rel=1e-5)


def test_the_relativistic_loss_by_hand():
    """Scores 3 and 1 of sharp pictures, whose mean is 2, and 0 and -2 of restored ones, whose mean is -1."""
    sharp, restored = torch.tensor([3.0, 1.0]), torch.tensor([0.0, -2.0])
    # Sharp: 3 + 1 - 1 = 3 and 1 + 1 - 1 = 1 too much; restored: 0 - 2 + 1 = -1 and -2 - 2 + 1 = -3.
    assert relativistic_least_squares(sharp, restored).item() == (9 + 1) / 2 + (1 + 9) / 2
    # The other way: 0 - 2 - 1 = -3 and -2 - 2 - 1 = -5; 3 + 1 + 1 = 5 and 1 + 1 + 1 = 3.
    assert relativistic_least_squares(restored, sharp).item() == (9 + 25) / 2 + (25 + 9) / 2
    # With means from elsewhere, 1.5 of sharp and 0.5 of restored: 1.5 and -0.5; -0.5 and -2.5.
    means = {"mean_of_better": torch.tensor(1.5), "mean_of_worse": torch.tensor(0.5)}
    assert relativistic_least_squares(sharp, restored, **means).item() == (2.25 + 0.25) / 2 + (0.25 + 6.25) / 2


def test_the_means_of_the_batch_carry_gradients_and_given_means_do_not():
    """With the batch's means all scores of one side moved alike change both squares; with given ones only their own."""
    better, worse = torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([0.5, -0.5], requires_grad=True)
    relativistic_least_squares(better, worse).backward()
    # d/d(shift): 2 mean(better - 0 - 1) - 2 mean(worse - 2 + 1), by hand 2 * 1 + 2 * 1.
    assert better.grad.sum().item() == pytest.approx(4)
    assert worse.grad.sum().item() == pytest.approx(-4)
    better.grad = worse.grad = None
    zero = torch.tensor(0.0)
    relativistic_least_squares(better, worse, mean_of_better=zero, mean_of_worse=zero).backward()
    assert better.grad.tolist() == pytest.approx([0.0, 2.0])  # (better - 1) * 2 / 2
    assert worse.grad.tolist() == pytest.approx([1.5, 0.5])  # (worse + 1) * 2 / 2


def test_losses_of_several_scales_are_summed_against_the_sharp_picture_averaged_down():
    sharp = pictures(shape=(1, 3, 16, 24))
    halved = sharp.unflatten(3, (12, 2)).unflatten(2, (8, 2)).mean(dim=(3, 5))
    l1 = partial(pixel_loss, "l1")
    assert at_every_scale(l1, [sharp + 0.25], sharp).item() == pytest.approx(0.25, abs=1e-6)
    assert at_every_scale(l1, [halved - 0.5, sharp], sharp).item() == pytest.approx(0.5, abs=1e-6)
    assert at_every_scale(l1, [halved - 0.5, sharp + 0.25, sharp + 0.1], sharp).item() == pytest.approx(0.85, abs=1e-6)


def test_scales_of_a_size_that_does_not_divide_are_taken_rounded_up():
    """As `Generator` crops them: 15 and 25 at half the resolution are 8 and 13."""
    sharp = torch.full((1, 3, 15, 25), 0.5)
    assert at_every_scale(partial(pixel_loss, "l1"), [torch.zeros(1, 3, 8, 13), sharp], sharp).item() == 0.5


def test_the_cosine_falls_from_one_to_the_final_rate():
    schedule = Schedule(shape="cosine", final=0.1)
    assert lr_multiplier(schedule, 0.0, 9) == 1
    assert lr_multiplier(schedule, 0.5, 9) == pytest.approx(0.55)
    assert lr_multiplier(schedule, 1 / 3, 9) == pytest.approx(0.1 + 0.9 * 0.75)
    assert lr_multiplier(schedule, 1.0, 9) == pytest.approx(0.1)
    assert lr_multiplier(schedule, 1.5, 9) == pytest.approx(0.1)


def test_flat_then_linear_holds_and_falls():
    schedule = Schedule(shape="flat-linear", flat=0.5, final=0.0)
    assert [lr_multiplier(schedule, share, 0) for share in (0.0, 0.25, 0.5)] == [1, 1, 1]
    assert lr_multiplier(schedule, 0.75, 0) == pytest.approx(0.5)
    assert lr_multiplier(schedule, 1.0, 0) == 0


def test_the_warm_up_is_linear_and_multiplies():
    schedule = Schedule(shape="cosine", warmup=4)
    assert [lr_multiplier(schedule, 0.0, step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert lr_multiplier(schedule, 0.5, 1) == pytest.approx(0.25)


def test_the_moving_average_follows_its_closed_form():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(8.0)
    average = WeightAverage(network, 0.5)
    wanted = 8.0
    for step, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]):
        network.weight.data.fill_(value)
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(wanted, rel=1e-6)
    assert decay == 0.5
    assert network.weight.item() == 10


def test_a_moving_average_without_decay_is_the_network_itself():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = WeightAverage(network, 0.0)
    network(torch.randn(5, 3))
    network[0].weight.data.mul_(1 / 3)
    average.update(network, 1000)
    for mine, theirs in zip(average.module.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert not average.module.training
