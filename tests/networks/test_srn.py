"""SRN: the published sizes of its variants, the recurrence from scale to scale, its reach, and what it returns."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from deblur_hub.networks import build_network
from deblur_hub.networks.srn import bilinear_pyramid
from deblur_hub.restoration import restore
from tests.conftest import awake
from tests.test_networks import Peak, multiply_adds, on_meta, parameters

VARIANTS = ("color", "lstm", "lstm-color")
TINY = {"width": 4, "blocks": 1}


def half_of(pictures):
    """Weights 1, 3, 3, 1 in each direction, and the border repeated."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    weights = line.outer(line).expand(pictures.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(pictures, [1] * 4, mode="replicate"), weights, stride=2, groups=pictures.shape[1])


def tiny(variant, **options):
    return awake(build_network("srn", variant=variant, **TINY | options))


def convolutions(channels: int) -> int:
    """Parameters of the authors' network without its ConvLSTM, layer by layer."""
    sides = {32: 2, 64: 2, 128: 2}  # encoder and decoder
    blocks = sum(count * 3 * 2 * (25 * width**2 + width) for width, count in sides.items())
    down = (25 * 2 * channels * 32 + 32) + (25 * 32 * 64 + 64) + (25 * 64 * 128 + 128)
    up = (16 * 128 * 64 + 64) + (16 * 64 * 32 + 32) + (25 * 32 * channels + channels)
    return blocks + down + up


def test_the_colour_network_has_the_published_parameters_and_multiply_adds():
    network = on_meta("srn")
    assert parameters(network) == convolutions(3) == 6_881_251
    assert multiply_adds(network, 720, 1280) == pytest.approx(1174e9, rel=0.001)


def test_the_recurrent_network_has_the_published_parameters_and_multiply_adds():
    network = on_meta("srn-lstm")
    assert parameters(network) == convolutions(1) + 9 * 256 * 512 + 512 == 8_056_609
    assert multiply_adds(network, 720, 1280) == pytest.approx(3773e9, rel=0.001)


@pytest.mark.parametrize("variant", ["color", "lstm"])
def test_it_computes_what_the_paper_draws(variant):
    """The authors' graph evaluated by hand on the state dict, without one of our modules."""
    network = tiny(variant)
    weights = network.state_dict()

    def convolved(x, name, **options):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=2, **options)

    def block(x, name):
        return x + convolved(convolved(x, f"{name}.first").relu(), f"{name}.second")

    def transposed(x, name):
        return F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1).relu()

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    def one_scale(x, c, h):
        first = block(convolved(x, "encoders.0.0").relu(), "encoders.0.2")
        second = block(convolved(first, "encoders.1.0", stride=2).relu(), "encoders.1.2")
        x = block(convolved(second, "encoders.2.0", stride=2).relu(), "encoders.2.2")
        if variant == "lstm":
            c, h = (torch.zeros_like(x), torch.zeros_like(x)) if c is None else (doubled(c), doubled(h))
            gates = F.conv2d(torch.cat([x, h], 1), weights["cell.gates.weight"], weights["cell.gates.bias"], padding=1)
            i, j, f, o = gates.split(16, 1)
            c = c * f.sigmoid() + i.sigmoid() * j.tanh()
            x = h = c.tanh() * o.sigmoid()
        x = transposed(block(x, "decoders.0.0"), "decoders.0.1") + second
        x = transposed(block(x, "decoders.1.0"), "decoders.1.1") + first
        return convolved(block(x, "head.0"), "head.1"), c, h

    picture = torch.rand(2, 3, 32, 48) * 2 - 1
    inside = (picture + 1) / 2
    if variant == "lstm":
        inside = inside.flatten(0, 1)[:, None]
    half = half_of(inside)
    quarter = half_of(half)
    result, c, h = one_scale(torch.cat([quarter, quarter], 1), None, None)
    result, c, h = one_scale(torch.cat([half, doubled(result)], 1), c, h)
    result, c, h = one_scale(torch.cat([inside, doubled(result)], 1), c, h)
    expected = result.reshape(2, 3, 32, 48) * 2 - 1
    assert (expected - picture).abs().max() > 0.1
    assert torch.allclose(network(picture), expected, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_gets_every_scale_from_coarse_to_fine_and_evaluation_the_finest(variant):
    network = tiny(variant)
    picture = torch.rand(2, 3, 17, 36) * 2 - 1
    restored = network(picture)
    assert isinstance(restored, Tensor)
    results = network.train()(picture)
    assert [tuple(result.shape) for result in results] == [(2, 3, 5, 9), (2, 3, 9, 18), (2, 3, 17, 36)]
    assert torch.equal(results[-1], restored)


def test_the_pyramid_is_pillows_bilinear_resize_but_for_the_outermost_pixel():
    picture = torch.rand(1, 1, 32, 48) * 255
    theirs = Image.fromarray(picture[0, 0].numpy()).resize((24, 16), Image.Resampling.BILINEAR)
    ours = bilinear_pyramid(picture, 2)[0]
    assert torch.allclose(ours, half_of(picture), atol=1e-3)
    assert np.allclose(ours[0, 0, 1:-1, 1:-1], np.asarray(theirs)[1:-1, 1:-1], atol=1e-3)  # of 255


def test_the_three_colours_are_restored_one_by_one_by_lstm_alone():
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    for variant, alone in {"color": False, "lstm": True, "lstm-color": False}.items():
        network = tiny(variant)
        changed = picture.clone()
        changed[:, 0] *= 0.5
        moved = (network(changed) - network(picture)).abs().amax((0, 2, 3))
        assert moved[0] > 0 and (moved[1:] == 0).all() == alone


def test_the_state_of_the_cell_goes_from_scale_to_scale():
    """With results that say nothing, it is all that a finer scale hears of a coarser one."""
    network = tiny("lstm", scales=2)
    states = []
    network.cell.register_forward_hook(lambda cell, given, state: states.append((given[1], state)))
    network(torch.rand(1, 3, 16, 24) * 2 - 1)
    (first, coarse), (second, _) = states
    assert first is None
    assert torch.equal(second, F.interpolate(coarse, scale_factor=2, mode="bilinear"))


def test_no_gradient_flows_through_a_result_into_the_scale_before():
    network = tiny("color", scales=2).train()
    picture = (torch.rand(1, 3, 16, 16) * 2 - 1).requires_grad_()
    handed = []
    network.head.register_forward_hook(lambda head, given, result: handed.append(result))
    network(picture)[-1].sum().backward(inputs=[picture], retain_graph=True)
    assert torch.autograd.grad(handed[1].sum(), handed[0], allow_unused=True) == (None,)


def test_a_fresh_cell_keeps_its_memory_by_the_authors_forget_bias():
    bias = build_network("srn", variant="lstm", **TINY).cell.gates.bias
    assert bias.view(4, -1).mean(1).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (5, 33)])
def test_any_size_comes_back(variant, size):
    assert tiny(variant)(torch.zeros(1, 3, *size)).shape[-2:] == size


def reach_along(network, axis: int) -> int:
    """As `reach`, along the rows or the columns of a narrow strip, so that a network that sees far is soon measured."""
    farthest, step, side = 0, network.size_multiple, 2 * network.receptive_field + 4 * network.size_multiple
    middle = side // 2 // step * step
    for at in (middle, middle + step // 2 - 1, middle + step - 1):
        picture = torch.rand(1, 3, *((side, step) if axis == 0 else (step, side)), dtype=torch.float64) * 2 - 1
        network(picture.requires_grad_()).select(2 + axis, at).sum().backward()
        touched = picture.grad[0].abs().amax((0, 2 - axis)).nonzero()
        farthest = max(farthest, int((touched - at).abs().max()))
    return farthest


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("options", [{"scales": 1}, {"scales": 3}, {"scales": 2, "variant": "lstm-color"}])
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel(options, axis):
    network = tiny(**{"variant": "color", "blocks": 2} | options).double()
    bound = network.receptive_field
    assert 0.9 * bound <= reach_along(network, axis) <= bound


@pytest.mark.parametrize("variant", VARIANTS)
def test_tiles_make_the_same_picture_as_the_whole_frame(variant):
    network = tiny(variant, scales=2, width=2)
    picture = torch.rand(1, 3, 70, 603) * 2 - 1
    whole = restore(network, picture, tile=0, precision="float32")
    assert (restore(network, picture, tile=64, precision="float32") - whole).abs().max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_trains_in_half_precision(variant):
    network = build_network("srn", variant=variant, **TINY).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(result.float().square().mean() for result in network(torch.rand(2, 3, 32, 32) * 2 - 1))
    loss.backward()
    assert all(torch.isfinite(weights.grad).all() for weights in network.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stated_values_per_pixel_are_what_a_pass_takes(variant):
    network = tiny(variant, width=8, blocks=2)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
