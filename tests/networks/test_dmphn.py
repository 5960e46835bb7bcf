"""DMPHN: the published sizes and costs, patches where the paper cuts them, and a picture of any size back.

What it computes is held against the authors' tensors in tests/conversion/test_dmphn.py.
"""

import pytest
import torch

from deblur_hub.networks import build_network
from deblur_hub.networks.dmphn import cut, join
from tests.conftest import awake
from tests.test_networks import Peak, multiply_adds, on_meta, parameters

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("preset", "count", "cost", "multiple"),
    [("dmphn", 7_232_524, 916e9, 16), ("dmphn-1-2-4", 5_424_393, 687e9, 8)],
)
def test_it_has_the_parameters_and_the_multiply_adds_of_the_published_one(preset, count, cost, multiple):
    network = on_meta(preset)
    assert parameters(network) == count
    assert multiply_adds(network, 720, 1280) == pytest.approx(cost, rel=0.001)
    assert network.size_multiple == multiple


def test_the_finest_patches_are_four_rows_of_two():
    frame = torch.arange(8 * 6).reshape(1, 1, 8, 6)
    patches = cut(frame, (4, 2))
    expected = [
        frame[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3] for row in range(4) for column in (0, 1)
    ]
    assert torch.equal(patches, torch.cat(expected))


@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_patches_of_several_frames_join_to_the_frames_they_were_cut_from(grid):
    frames = torch.rand(3, 5, 8, 12)
    assert torch.equal(join(cut(frames, grid), grid), frames)


@pytest.mark.parametrize("patches", ["1-2-4-8", "1-2-4"])
def test_pictures_of_a_batch_are_restored_as_if_alone_and_keep_any_size(patches):
    network = awake(build_network("dmphn", patches=patches, width=4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 0.7  # lest residual blocks one behind the other leave nothing of the picture's scale
        for size in ((1, 1), (17, 23), (33, 8)):
            pictures = torch.rand(2, 3, *size) * 2 - 1
            restored = network(pictures)
            assert restored.shape == pictures.shape
            assert torch.allclose(restored, torch.cat([network(one[None]) for one in pictures]), atol=1e-5)


def test_a_pixel_can_be_felt_in_the_whole_frame_so_that_no_tile_is_offered():
    network = awake(build_network("dmphn", width=4))
    assert [stage.reach for stage in network.stages()] == [None]


def test_a_training_step_reaches_every_parameter_in_bfloat16():
    network = awake(build_network("dmphn", width=4)).train()
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 3, 32, 32) * 2 - 1).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("options", [{"width": 8}, {"width": 16, "patches": "1-2-4"}])
def test_the_stated_values_per_pixel_are_what_a_pass_takes(options):
    network = awake(build_network("dmphn", **options)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
