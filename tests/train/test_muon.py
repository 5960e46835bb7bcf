"""Muon: what its steps are, and what it leaves alone."""

import pytest
import torch
from torch import nn

from train.optim.muon import ADAM_RMS, Muon, orthogonalised


def of_singular_values(values, rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, len(values), generator=generator))[0]
    return left, torch.tensor(values), right


@pytest.mark.parametrize(("rows", "columns"), [(6, 40), (40, 6), (12, 12)])
def test_directions_stay_and_their_lengths_become_about_one(rows, columns):
    left, values, right = of_singular_values([3.0, 1.0, 0.5, 0.1, 0.05, 0.02], rows, columns)
    result = orthogonalised((left * values @ right.T)[None])[0]
    inner = left.T @ result @ right  # diagonal, if the directions are those of before
    assert torch.allclose(inner, inner.diag().diag(), atol=1e-3)
    assert inner.diag().min() > 0.65
    assert inner.diag().max() < 1.25


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonalised(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


def stepped(network, count=1, found_inf=None, **options):
    optimizer = Muon(network.parameters(), **{"lr": 0.1, "betas": (0.9, 0.99)} | options)
    for number in range(count):
        for place, parameter in enumerate(network.parameters()):
            generator = torch.Generator().manual_seed(10 * number + place)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.found_inf = found_inf
        optimizer.step()
    return optimizer


def test_the_first_step_of_filters_is_their_orthogonalised_gradient_as_long_as_adams():
    network = nn.Conv2d(8, 16, 3)
    before = network.weight.detach().clone()
    stepped(network, lr=0.1)
    change = (before - network.weight.detach()) / 0.1
    expected = orthogonalised(network.weight.grad.flatten(1)[None])[0] * ADAM_RMS * 72**0.5
    assert torch.allclose(change.flatten(1), expected, atol=1e-5)
    assert change.square().mean().sqrt().item() == pytest.approx(ADAM_RMS, rel=0.15)


def test_vectors_take_the_steps_of_adamw():
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}
    stepped(ours, 5, **options)
    optimizer = torch.optim.AdamW([theirs.bias], **options)
    for number in range(5):
        theirs.bias.grad = torch.randn(3, generator=torch.Generator().manual_seed(10 * number + 1))
        optimizer.step()
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-6)


def test_momentum_looks_ahead():
    network = nn.Linear(6, 4, bias=False)
    gradients = [torch.randn(4, 6, generator=torch.Generator().manual_seed(10 * number)) for number in range(2)]
    momentum = torch.zeros(4, 6)
    expected = network.weight.detach().clone()
    for gradient in gradients:
        momentum = 0.9 * momentum + 0.1 * gradient
        aim = 0.1 * gradient + 0.9 * momentum
        expected -= 0.1 * ADAM_RMS * 6**0.5 * orthogonalised(aim[None])[0]
    stepped(network, 2)
    assert torch.allclose(network.weight, expected, atol=1e-5)


def test_weights_decay_by_the_rate():
    plain, decayed = nn.Linear(4, 3), nn.Linear(4, 3)
    decayed.load_state_dict(plain.state_dict())
    before = plain.weight.detach().clone()
    stepped(plain, lr=0.1)
    stepped(decayed, lr=0.1, weight_decay=0.5)
    assert torch.allclose(decayed.weight, plain.weight - 0.05 * before, atol=1e-6)


def test_a_step_that_is_not_finite_leaves_weights_and_moments_as_they_are():
    network = nn.Conv2d(3, 4, 3)
    optimizer = stepped(network, 2)
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    moments = [{key: value.clone() for key, value in state.items()} for state in optimizer.state.values()]
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(weights, network.parameters(), strict=True))
    for before, state in zip(moments, optimizer.state.values(), strict=True):
        assert before.keys() == state.keys()
        assert all(torch.equal(before[key], state[key]) for key in state)


def test_the_layout_of_the_weights_changes_no_step():
    one, other = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3)
    other.load_state_dict(one.state_dict())
    other.to(memory_format=torch.channels_last)
    stepped(one, 3), stepped(other, 3)
    assert other.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(one.weight, other.weight, atol=1e-6)
