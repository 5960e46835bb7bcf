"""SRN: the published sizes of its variants, the recurrence from scale to scale, its reach, and what it returns."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from deblur_hub.networks import build_network
from deblur_hub.networks.base import follow
from deblur_hub.networks.srn import bilinear_pyramid
from deblur_hub.restoration.restore import restore
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


def doubled(x):
    """TensorFlow 1's resize: pixel 2 i is i, pixel 2 i + 1 lies in the middle between i and i + 1, or is the last."""
    framed = F.pad(x, [0, 1, 0, 1], mode="replicate")
    rows = torch.empty(*x.shape[:2], 2 * x.shape[2], x.shape[3] + 1)
    rows[:, :, 0::2] = framed[:, :, :-1]
    rows[:, :, 1::2] = framed[:, :, :-1] * 0.5 + framed[:, :, 1:] * 0.5
    both = torch.empty(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    both[..., 0::2] = rows[..., :-1]
    both[..., 1::2] = rows[..., :-1] * 0.5 + rows[..., 1:] * 0.5
    return both


@pytest.mark.parametrize("variant", ["color", "lstm"])
def test_it_computes_what_the_paper_draws(variant):
    """The authors' graph evaluated by hand on the state dict, without one of our modules."""
    network = tiny(variant)
    weights = network.state_dict()

    def convolved(x, name):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=2)

    def halved(x, name):
        """TensorFlow's "same": what is missing for an even side, 3 pixels in all, is 1 before and 2 behind."""
        return F.conv2d(F.pad(x, [1, 2, 1, 2]), weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)

    def block(x, name):
        return x + convolved(convolved(x, f"{name}.first").relu(), f"{name}.second")

    def transposed(x, name):
        return F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1).relu()

    def one_scale(x, c, h):
        first = block(convolved(x, "encoders.0.0").relu(), "encoders.0.2")
        second = block(halved(first, "encoders.1.0").relu(), "encoders.1.2")
        x = block(halved(second, "encoders.2.0").relu(), "encoders.2.2")
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
    half, quarter = inside[..., ::2, ::2], inside[..., ::4, ::4]
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


@pytest.mark.parametrize(
    ("variant", "enlarged"),
    [("lstm", doubled), ("lstm-color", partial(F.interpolate, scale_factor=2, mode="bilinear"))],
)
def test_the_state_of_the_cell_goes_from_scale_to_scale(variant, enlarged):
    """With results that say nothing, it is all that a finer scale hears of a coarser one."""
    network = tiny(variant, scales=2)
    states = []
    network.cell.register_forward_hook(lambda cell, given, state: states.append((given[1], state)))
    network(torch.rand(1, 3, 16, 24) * 2 - 1)
    (first, coarse), (second, _) = states
    assert first is None
    assert torch.allclose(second, enlarged(coarse), atol=1e-6)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "axis"),
    [
        ({"scales": 1}, 0),
        ({"scales": 3}, 1),
        ({"scales": 2, "variant": "lstm"}, 0),
        ({"scales": 2, "variant": "lstm-color"}, 1),
    ],
)
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel(options, axis):
    network = tiny(**{"variant": "color", "blocks": 2} | options).double()
    bound = network.receptive_field
    assert 0.9 * bound <= reach_along(network, axis) <= bound


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "scales"), [("color", 1), ("lstm", 2), ("lstm-color", 3)])
def test_tiles_make_the_same_picture_as_the_whole_frame(variant, scales):
    network = tiny(variant, scales=scales, width=2)
    picture = torch.rand(1, 3, 70, 1203) * 2 - 1  # far more than the largest margin on both sides of a tile
    whole = restore(network, picture, tile=0, precision="float32")
    assert (restore(network, picture, tile=64, precision="float32") - whole).abs().max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_scale_after_another_makes_the_same_picture_of_several_frames_at_once(variant):
    network = tiny(variant, width=3)
    picture = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        assert torch.equal(follow(network.stages(), picture), network(picture))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_scale_sees_far_less_than_all_of_them(variant):
    """A tile of the finest scale, which costs most, has the margin of that scale alone."""
    network = build_network("srn", variant=variant)
    coarse, half, finest = network.stages()
    assert [stage.reads for stage in (coarse, half, finest)] == [
        ("blurred",),
        ("blurred", "scale4"),
        ("blurred", "scale2"),
    ]
    assert finest.reach < 200 and half.reach < 400 and coarse.reach < 800 and network.receptive_field > 1250


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stage_sees_no_farther_than_it_says(variant):
    """Of the picture and of what the scale before hands on; measured along the columns, in pixels of the picture."""
    network = tiny(variant, width=2).double()
    side, handed = 1024, {}
    for stage in network.stages():
        tensors = {"blurred": torch.rand(1, 3, 16, side, dtype=torch.float64) * 2 - 1} | handed
        read = [tensors[name].requires_grad_() for name in stage.reads]
        result = stage.run(*read)
        scale = side // result.shape[-1]
        farthest = 0
        for at in range(side // 2 // scale, side // 2 // scale + 16 // scale):
            gradients = torch.autograd.grad(result[..., at].sum(), read, retain_graph=True)
            for gradient in gradients:
                cell = side // gradient.shape[-1]  # all of a tile is in its grid: a cell counts from its nearest pixel
                touched = gradient.abs().amax((0, 1, 2)).nonzero() * cell
                ahead = touched.max() - (at * scale + scale - 1)
                behind = at * scale - (touched.min() + cell - 1)
                farthest = max(farthest, int(ahead), int(behind))
        assert 0.75 * stage.reach <= farthest <= stage.reach
        handed = {stage.writes: result.detach()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_trains_in_half_precision(variant):
    network = build_network("srn", variant=variant, **TINY).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(result.float().square().mean() for result in network(torch.rand(2, 3, 32, 32) * 2 - 1))
    loss.backward()
    assert all(torch.isfinite(weights.grad).all() for weights in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stated_values_per_pixel_are_what_a_pass_takes(variant):
    network = tiny(variant, width=8, blocks=2)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
