"""The dilated autoencoder with attention: its size, what its definition says, and tiles that share the attention."""

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network
from deblur_hub.networks.frame import FramePool
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.test_networks import Peak, on_meta, parameters, reach

torch.set_num_threads(1)

TINY = {"width": 16, "blocks": [1, 2], "dilations": [1, 3]}


def test_it_has_the_report_s_10_3_million_parameters_and_few_looks_at_the_whole_frame():
    network = on_meta("autoencoder")
    assert parameters(network) == 10_340_459
    assert sum(isinstance(module, FramePool) for module in network.modules()) == 3


def test_it_computes_what_its_definition_says():
    network = awake(build_network("autoencoder", **TINY))
    weights = network.state_dict()

    def conv(name, x, **options):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def block(name, x, dilation=1):
        options = {"padding": dilation, "dilation": dilation}
        return x + conv(f"{name}.second", conv(f"{name}.first", x, **options).relu(), **options)

    blurred = torch.rand(2, 3, 20, 24) * 2 - 1
    with torch.no_grad():
        x = block("encoder.0.0", conv("stem", (blurred + 1) / 2, padding=1))
        x = conv("down.0", x, stride=2, padding=1)
        x = block("encoder.1.1", block("encoder.1.0", x))
        x = block("bottleneck.1", block("bottleneck.0", x), dilation=3)
        x = conv("up.0.1", x.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1)
        y = conv("decoder.0.0.body.2", conv("decoder.0.0.body.0", x, padding=1).relu(), padding=1)
        attention = conv("decoder.0.0.attention.1", y.mean((2, 3), keepdim=True)).relu()
        x = x + y * conv("decoder.0.0.attention.3", attention).sigmoid()
        expected = 2 * conv("head", x, padding=1) - 1
        assert (expected - blurred).abs().max() > 0.1
        assert torch.allclose(network(blurred), expected, atol=1e-4)


def test_a_training_step_reaches_every_parameter_in_bfloat16():
    network = awake(build_network("autoencoder", **TINY)).train()
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(2, 3, 32, 32) * 2 - 1).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("size", [(1, 1), (9, 20), (33, 7)])
def test_a_picture_of_any_size_comes_back_with_its_size(size):
    with torch.no_grad():
        assert awake(build_network("autoencoder", **TINY))(torch.zeros(1, 3, *size)).shape[-2:] == size


@pytest.mark.parametrize(
    "options",
    [
        {"width": 4, "blocks": [1, 1, 1], "dilations": [1, 2]},
        {"width": 4, "blocks": [2, 1], "dilations": [1, 4]},
        {"width": 4, "blocks": [2], "dilations": [3]},
    ],
)
def test_with_attention_held_fixed_nothing_beyond_the_reach_has_a_part_in_a_pixel(options):
    network = awake(build_network("autoencoder", **options)).double()
    for module in network.modules():
        if isinstance(module, FramePool):
            module.forward = lambda features: features.new_ones(*features.shape[:2], 1, 1)
    assert network.receptive_field is None
    bound = network.reach
    assert 0.75 * bound <= reach(network, 2 * (bound // 16 + 2) * 16) <= bound


def test_tiles_leave_no_trace():
    network = awake(build_network("autoencoder", **TINY))
    picture = torch.rand(1, 3, 150, 203) * 2 - 1
    whole, tiled = (restore(network, picture, tile=tile, precision="float32") for tile in (0, 64))
    assert (whole - tiled).abs().max() <= 2 / 255
    assert (whole - picture).abs().max() > 0.1


def test_more_levels_than_six_are_refused():
    with pytest.raises((ModelError, ValueError), match="7 levels, more than 6"):
        build_network("autoencoder", blocks=[1] * 7)


@pytest.mark.slow
@pytest.mark.parametrize("options", [TINY, {"width": 16, "blocks": [1, 1, 1], "dilations": [2]}])
def test_the_stated_values_per_pixel_are_what_a_pass_takes(options):
    network = awake(build_network("autoencoder", **options)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
