"""DeepDeblur: its published size, the authors' pyramid, its reach, and what it returns."""

import numpy as np
import pytest
import torch
from skimage.transform import pyramid_gaussian
from torch import Tensor

from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network
from deblur_hub.networks.deepdeblur import GAUSSIAN, gaussian_pyramid, halved
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.test_networks import Peak, multiply_adds, on_meta, parameters, reach

TINY = {"width": 4, "blocks": 1}


def test_it_has_the_parameters_and_the_multiply_adds_of_the_published_one():
    network = on_meta("deepdeblur")
    body = 25 * 64 * 64 + 64  # a convolution inside
    ends = [25 * channels * 64 + 64 + 25 * 64 * 3 + 3 for channels in (3, 6, 6)]
    assert parameters(network) == 3 * 38 * body + sum(ends) + 2 * (25 * 3 * 12 + 12) == 11_721_321
    assert multiply_adds(network, 720, 1280) == pytest.approx(4724e9, rel=0.001)


@pytest.mark.parametrize("size", [(32, 48), (8, 8), (64, 16)])
def test_its_pyramid_is_that_of_skimage_with_which_the_authors_feed_theirs(size):
    picture = np.random.default_rng(0).random((*size, 3)).astype(np.float32) * 255
    theirs = list(pyramid_gaussian(picture, max_layer=2, channel_axis=-1))
    ours = gaussian_pyramid(torch.from_numpy(picture).permute(2, 0, 1)[None], 3)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one[0].permute(1, 2, 0), torch.from_numpy(np.float32(other)), atol=1e-3)  # of 255


def test_the_pyramid_leaves_a_flat_picture_flat_and_keeps_its_precision_under_autocast():
    flat = torch.full((1, 3, 16, 16), 0.123456)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(halved(flat, GAUSSIAN), flat[..., :8, :8], atol=1e-6)


def test_training_gets_every_scale_from_coarse_to_fine_and_evaluation_the_finest():
    network = awake(build_network("deepdeblur", **TINY))
    picture = torch.rand(2, 3, 17, 22) * 2 - 1
    restored = network(picture)
    assert isinstance(restored, Tensor)
    results = network.train()(picture)
    assert [tuple(result.shape) for result in results] == [(2, 3, 5, 6), (2, 3, 9, 11), (2, 3, 17, 22)]
    assert torch.equal(results[-1], restored)


def test_a_coarser_result_leads_the_finer_one():
    network = awake(build_network("deepdeblur", **TINY))
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    before = network(picture)
    network.restore[0][0].bias.data += 1
    assert (network(picture) - before).abs().max() > 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (9, 30)])
def test_any_size_comes_back(size):
    network = awake(build_network("deepdeblur", **TINY))
    assert network(torch.zeros(1, 3, *size)).shape[-2:] == size


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"scales": 1, "blocks": 2}, {"scales": 2}, {"scales": 3}])
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel(options):
    network = awake(build_network("deepdeblur", **TINY | options)).double()
    bound = network.receptive_field
    assert 0.9 * bound <= reach(network, 2 * (bound // 16 + 2) * 16) <= bound


def test_tiles_make_the_same_picture_as_the_whole_frame():
    network = awake(build_network("deepdeblur", **TINY, scales=2))
    picture = torch.rand(1, 3, 150, 203) * 2 - 1
    whole = restore(network, picture, tile=0, precision="float32")
    assert (restore(network, picture, tile=64, precision="float32") - whole).abs().max() < 1e-4


def test_it_trains_in_half_precision():
    network = build_network("deepdeblur", **TINY).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(result.float().square().mean() for result in network(torch.rand(1, 3, 16, 16) * 2 - 1))
    loss.backward()
    assert all(torch.isfinite(weights.grad).all() and weights.grad.any() for weights in network.parameters())


@pytest.mark.parametrize("width", [8, 24])
def test_the_stated_values_per_pixel_are_what_a_pass_takes(width):
    network = awake(build_network("deepdeblur", width=width, blocks=2))
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1


def test_more_scales_than_a_picture_bears_are_refused():
    with pytest.raises(ModelError, match="option 'scales' must be one of 1, 2, 3, 4, not 9"):
        build_network("deepdeblur", scales=9)
