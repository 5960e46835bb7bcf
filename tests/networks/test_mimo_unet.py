"""MIMO-UNet is as large as published, sees no farther than it says, and gives three scales in training."""

import pytest
import torch

from deblur_hub.networks import build_network
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.test_networks import Peak, multiply_adds, on_meta, parameters, reach

TINY = {"width": 4, "blocks": 1}


@pytest.mark.parametrize(
    ("name", "count", "published", "cost"),
    [("mimo-unet", 6_807_171, 6.81e6, 896e9), ("mimo-unet-plus", 16_107_651, 16.11e6, 2119e9)],
)
def test_parameters_and_multiply_adds_are_the_published_ones(name, count, published, cost):
    network = on_meta(name)
    assert parameters(network) == count == pytest.approx(published, abs=5e3)
    assert multiply_adds(network, 720, 1280) == pytest.approx(cost, rel=0.02)


def test_a_width_that_leaves_no_channels_beside_the_picture_is_refused():
    with pytest.raises(ValueError, match="mimo_unet: width 1 is below 2"):
        build_network("mimo_unet", width=1)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 30), (32, 32)])
def test_any_size_comes_back_and_in_training_its_half_and_quarter(size):
    network = awake(build_network("mimo_unet", **TINY))
    blurred = torch.rand(2, 3, *size) * 2 - 1
    with torch.no_grad():
        assert network(blurred).shape == (2, 3, *size)
        outputs = network.train()(blurred)
    assert [output.shape for output in outputs] == [
        (2, 3, *(-(-side // scale) for side in size)) for scale in (4, 2, 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 2])
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel_and_something_near_its_edge_has(blocks):
    network = awake(build_network("mimo_unet", width=4, blocks=blocks)).double()
    bound = network.receptive_field
    assert 0.75 * bound <= reach(network, 2 * (bound // 4 + 2) * 4) <= bound


def test_tiles_of_a_frame_give_what_the_whole_gives():
    network = awake(build_network("mimo_unet", **TINY))
    picture = torch.rand(1, 3, 150, 197, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = restore(network, picture, tile=0, precision="float32")
    assert (whole - picture).abs().mean() > 0.05
    assert (restore(network, picture, tile=64, precision="float32") - whole).abs().max() <= 1 / 255


def test_dropout_plays_a_part_in_training_alone():
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    plain, dropping = (awake(build_network("mimo_unet", **TINY, dropout=p)) for p in (0.0, 0.5))
    with torch.no_grad():
        assert torch.equal(dropping(picture), plain(picture))
        torch.manual_seed(0)
        assert not torch.equal(dropping.train()(picture)[-1], dropping(picture)[-1])
        assert torch.equal(plain.train()(picture)[-1], plain(picture)[-1])


def test_it_trains_in_float32_and_in_bfloat16():
    for enabled in (False, True):
        network = awake(build_network("mimo_unet", width=8, blocks=1)).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = network(torch.rand(2, 3, 16, 16) * 2 - 1)
        sum(output.float().square().mean() for output in outputs).backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
        assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("width", [8, 32])
def test_the_stated_values_per_pixel_are_what_a_pass_takes(width):
    network = awake(build_network("mimo_unet", width=width, blocks=1)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
