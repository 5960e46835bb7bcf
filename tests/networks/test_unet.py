"""The U-Net baseline: its size, what its definition says, a bounded view, and pictures of any size."""

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.networks import build_network
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.test_networks import Peak, on_meta, parameters, reach

torch.set_num_threads(1)


@pytest.mark.parametrize(("norm", "count"), [("none", 7_697_475), ("batch", 7_700_291)])
def test_it_has_the_parameters_that_it_says(norm, count):
    assert parameters(on_meta("unet", norm=norm)) == count


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_it_computes_three_halvings_three_doublings_and_three_skips(norm):
    network = awake(build_network("unet", width=4, norm=norm))
    for name, remembered in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            remembered.copy_(torch.rand(remembered.shape) + 0.5)
    weights = iter([value for name, value in network.state_dict().items() if not name.endswith("tracked")])

    def block(x):
        for _ in range(2):
            if norm == "none":
                x = F.conv2d(x, next(weights), next(weights), padding=1).relu()
                continue
            x = F.conv2d(x, next(weights), padding=1)
            gain, shift, mean, variance = (next(weights)[:, None, None] for _ in range(4))
            x = ((x - mean) / (variance + 1e-5).sqrt() * gain + shift).relu()
        return x

    blurred = torch.rand(2, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        x, skips = (blurred + 1) / 2, []
        for _ in range(3):
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = block(x)
        ups = [(next(weights), next(weights)) for _ in range(3)]  # the state dict has them in a row
        for (weight, bias), skip in zip(ups, reversed(skips), strict=True):
            x = block(torch.cat([skip, F.conv_transpose2d(x, weight, bias, stride=2)], 1))
        expected = 2 * F.conv2d(x, next(weights), next(weights)) - 1
        assert next(weights, None) is None
        assert (expected - blurred).abs().max() > 0.1
        assert torch.allclose(network(blurred), expected, atol=1e-4)


def test_a_training_step_reaches_every_parameter_in_bfloat16():
    network = build_network("unet", width=4, norm="batch").train()
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(2, 3, 32, 32) * 2 - 1).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("size", [(1, 1), (9, 20), (33, 7)])
def test_a_picture_of_any_size_comes_back_with_its_size(size):
    with torch.no_grad():
        assert awake(build_network("unet", width=2))(torch.zeros(1, 3, *size)).shape[-2:] == size


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel_and_something_near_its_edge_has(norm):
    network = awake(build_network("unet", width=4, norm=norm)).double()
    bound = network.receptive_field
    assert 0.75 * bound <= reach(network, 2 * (bound // 16 + 2) * 16) <= bound


def test_tiles_leave_no_trace():
    network = awake(build_network("unet", width=4))
    picture = torch.rand(1, 3, 150, 203) * 2 - 1
    whole, tiled = (restore(network, picture, tile=tile, precision="float32") for tile in (0, 64))
    assert (whole - tiled).abs().max() <= 2 / 255
    assert (whole - picture).abs().max() > 0.1


@pytest.mark.parametrize("options", [{"width": 8}, {"width": 16, "norm": "batch"}])
def test_the_stated_values_per_pixel_are_what_a_pass_takes(options):
    network = awake(build_network("unet", **options)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
