"""PSS-NSC: the size of the authors' test code, what it shares and what not, its reach, and what it returns."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_hub.networks import build_network
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.networks.test_srn import reach_along
from tests.test_networks import Peak, multiply_adds, on_meta, parameters

TINY = {"width": 4, "blocks": 1, "iterations": 1}


def tiny(**options):
    return awake(build_network("pss_nsc", **TINY | options))


def test_it_has_the_parameters_and_the_multiply_adds_of_the_authors_test_code():
    network = on_meta("pss-nsc")
    shared = sum(2 * 4 * 2 * (9 * width**2 + width) for width in (32, 64, 128))
    down = (9 * 2 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128)
    up = (16 * 128 * 64 + 64) + (16 * 64 * 32 + 32) + (9 * 32 + 1)
    assert parameters(network) == shared + 3 * (down + up) == 3_871_715
    assert multiply_adds(network, 720, 1280) == pytest.approx(3307e9, rel=0.001)


def test_it_computes_what_the_authors_test_code_computes():
    """Their graph evaluated by hand on the state dict, nested skips and all, without one of our modules."""
    network = tiny(blocks=4, iterations=2)
    weights = network.state_dict()
    for name in (name for name in weights if ".second." in name):
        weights[name] *= 0.2  # 144 units in a row would double their input each

    def convolved(x, name, **options):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1, **options)

    def unit(x, name):
        return convolved(convolved(x, f"{name}.first").relu(), f"{name}.second")

    def nested(x, name):
        for _ in range(2):
            n1 = unit(x, f"{name}.0")
            n2 = unit(x + n1, f"{name}.1")
            n3 = unit(x + n1 + n2, f"{name}.2")
            n4 = unit(x + n1 + n2 + n3, f"{name}.3")
            x = x + n1 + n2 + n3 + n4
        return x

    def transposed(x, name):
        return F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1).relu()

    def half_of(pictures):
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        framed = F.pad(pictures, [1] * 4, mode="replicate")
        return F.conv2d(framed, line.outer(line)[None, None], stride=2)

    def one_scale(picture, guess, own):
        first = nested(convolved(torch.cat([picture, guess], 1), f"{own}.enter.0.0").relu(), "encoders.0")
        second = nested(convolved(first, f"{own}.enter.1.0", stride=2).relu(), "encoders.1")
        third = nested(convolved(second, f"{own}.enter.2.0", stride=2).relu(), "encoders.2")
        x = nested(third, "decoders.0")
        x = nested(transposed(x, f"{own}.leave.0.0") + second, "decoders.1")
        x = nested(transposed(x, f"{own}.leave.1.0") + first, "decoders.2")
        return picture + convolved(x, f"{own}.head")

    picture = torch.rand(2, 3, 32, 48) * 2 - 1
    full = ((picture + 1) / 2).flatten(0, 1)[:, None]
    half = half_of(full)
    result = guess = half_of(half)
    for number, scale in enumerate((guess, half, full)):
        if number:
            guess = F.interpolate(result, scale_factor=2, mode="bilinear")
        result = one_scale(scale, guess, f"own.{number}")
    expected = result.reshape(2, 3, 32, 48) * 2 - 1
    assert (expected - picture).abs().max() > 0.1
    assert torch.allclose(network(picture), expected, atol=1e-4)


def test_training_gets_every_scale_from_coarse_to_fine_and_evaluation_the_finest():
    network = tiny()
    picture = torch.rand(2, 3, 17, 36) * 2 - 1
    restored = network(picture)
    assert isinstance(restored, Tensor)
    results = network.train()(picture)
    assert [tuple(result.shape) for result in results] == [(2, 3, 5, 9), (2, 3, 9, 18), (2, 3, 17, 36)]
    assert torch.equal(results[-1], restored)


def test_a_finer_scale_teaches_the_shared_layers_and_its_own_but_not_those_of_the_scale_before():
    network = tiny(scales=2).train()
    network(torch.rand(1, 3, 16, 16) * 2 - 1)[-1].square().sum().backward()
    taught = {name for name, weights in network.named_parameters() if weights.grad is not None}
    assert taught == {name for name, _ in network.named_parameters() if not name.startswith("own.0.")}


def test_a_fresh_one_of_the_published_depth_starts_within_reason():
    torch.manual_seed(0)
    with torch.no_grad():
        assert build_network("pss_nsc").eval()(torch.rand(1, 3, 32, 32) * 2 - 1).abs().max() < 20


@pytest.mark.parametrize("size", [(1, 1), (5, 33)])
def test_any_size_comes_back(size):
    assert tiny()(torch.zeros(1, 3, *size)).shape[-2:] == size


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("options", [{"scales": 1, "iterations": 2}, {"scales": 2, "blocks": 2}, {"scales": 3}])
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel(options, axis):
    network = tiny(**options).double()
    bound = network.receptive_field
    assert 0.85 * bound <= reach_along(network, axis) <= bound


@pytest.mark.slow
def test_tiles_make_the_same_picture_as_the_whole_frame():
    network = tiny(scales=2)
    picture = torch.rand(1, 3, 70, 403) * 2 - 1
    whole = restore(network, picture, tile=0, precision="float32")
    assert (restore(network, picture, tile=64, precision="float32") - whole).abs().max() < 1e-4


def test_it_trains_in_half_precision():
    network = build_network("pss_nsc", **TINY).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(result.float().square().mean() for result in network(torch.rand(2, 3, 32, 32) * 2 - 1))
    loss.backward()
    assert all(torch.isfinite(weights.grad).all() and weights.grad.any() for weights in network.parameters())


@pytest.mark.slow
def test_the_stated_values_per_pixel_are_what_a_pass_takes():
    network = tiny(width=8, blocks=2, iterations=2)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
