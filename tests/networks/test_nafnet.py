"""NAFNet is as large as published, sees no farther than it says, and gives in tiles what it gives whole."""

import pytest
import torch
from torch import nn

from deblur_hub.networks import build_network
from deblur_hub.networks.frame import FramePool
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.test_networks import Peak, multiply_adds, on_meta, parameters, reach

TINY = {"width": 4, "encoder_blocks": [1, 2], "middle_blocks": 1, "decoder_blocks": [1, 1]}
DEEPER = {"width": 4, "encoder_blocks": [2, 1], "middle_blocks": 2, "decoder_blocks": [1, 3]}
SHALLOW = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [2]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "published", "cost"),
    [("nafnet-w32", 17_111_907, 17.11e6, 224e9), ("nafnet-w64", 67_888_835, 67.89e6, 887e9)],
)
def test_parameters_and_multiply_adds_are_the_published_ones(name, count, published, cost):
    network = on_meta(name)
    assert parameters(network) == count == pytest.approx(published, abs=5e3)
    assert multiply_adds(network, 720, 1280) == pytest.approx(cost, rel=0.02)


def test_ways_down_and_up_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"encoder_blocks \[1, 1\] and decoder_blocks \[1\] differ in length"):
        build_network("nafnet", width=4, encoder_blocks=[1, 1], decoder_blocks=[1])


def test_a_fresh_block_adds_nothing():
    network = build_network("nafnet", **TINY)
    features = torch.randn(1, 4, 8, 8)
    assert torch.equal(network.encoder[0][0](features), features)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 30), (32, 32)])
def test_any_size_comes_back(size):
    network = awake(build_network("nafnet", **TINY))
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size) * 2 - 1).shape == (2, 3, *size)


def test_each_picture_of_a_batch_is_restored_as_if_alone():
    network = awake(build_network("nafnet", **TINY))
    pictures = torch.rand(3, 3, 16, 20) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(network(pictures), torch.cat([network(one[None]) for one in pictures]), atol=1e-5)


class Constant(nn.Module):
    def forward(self, features):
        return torch.ones_like(features[..., :1, :1])


@pytest.mark.slow
@pytest.mark.parametrize("options", [TINY, DEEPER, SHALLOW])
def test_with_the_means_held_nothing_beyond_its_reach_has_a_part_in_a_pixel(options):
    network = awake(build_network("nafnet", **options)).double()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, FramePool):
                setattr(module, name, Constant())
    assert 0.6 * network.reach <= reach(network, 128) <= network.reach


@pytest.mark.parametrize("options", [TINY, DEEPER, SHALLOW])
def test_tiles_of_a_frame_give_what_the_whole_gives(options):
    network = awake(build_network("nafnet", **options))
    picture = torch.rand(1, 3, 150, 197, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = restore(network, picture, tile=0, precision="float32")
    assert (whole - picture).abs().mean() > 0.05
    assert (restore(network, picture, tile=64, precision="float32") - whole).abs().max() <= 1 / 255


def test_tiles_keep_few_features_of_full_resolution():
    """The skip alone: what is kept between stages is all that a large frame costs beyond a tile."""
    stages = on_meta("nafnet-w32").stages()
    assert [stage.writes for stage in stages].count("level 0") == 1
    assert all(stage.reach <= 16 for stage in stages)


def test_it_trains_in_float32_and_in_bfloat16():
    for enabled in (False, True):
        network = awake(build_network("nafnet", **TINY)).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            restored = network(torch.rand(2, 3, 16, 16) * 2 - 1)
        restored.float().square().mean().backward()
        assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"width": 8, "encoder_blocks": [1, 1, 1, 2]},
        {"width": 32, "encoder_blocks": [1, 1, 1, 2]},
        {"width": 16, "encoder_blocks": [2, 2], "decoder_blocks": [2, 2]},
    ],
)
def test_the_stated_values_per_pixel_are_what_a_pass_takes(options):
    network = awake(build_network("nafnet", **options)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
