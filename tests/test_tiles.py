"""A frame in tiles: statistics of the frame are shared, stage by stage, and the cuts leave no trace."""

from functools import partial

import pytest
import torch
from torch import nn

from deblur_hub.networks import build_network
from deblur_hub.networks.base import Generator, Stage, follow, gathered, reflect, unread
from deblur_hub.networks.frame import FrameBatchNorm, FrameNorm, FramePool, Measured, Tiles, statistics
from deblur_hub.restoration.restore import restore, restore_pieces
from deblur_hub.restoration.tiles import cut
from tests.conftest import TINY_RESNET, awake

ONE_STEP = 1 / 255 * 2


def picture(height: int, width: int, count: int = 1) -> torch.Tensor:
    """Noise over a ramp, so that tiles differ in their statistics."""
    draw = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-0.8, 0.8, height)[:, None] * torch.linspace(-1, 1, width)[None]
    return (ramp + 0.2 * (torch.rand(count, 3, height, width, generator=draw) * 2 - 1)).clamp(-1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upsampling": "nearest", "residual": "half"},
        {"upsampling": "transposed4", "residual": "none"},
        {"norm": "batch"},
        {"downsampling": "same"},
        {"norm": "batch", "downsampling": "same", "upsampling": "nearest", "residual": "half"},
        {"norm": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("height", "width"), [(130, 203), (1, 200), (64, 65)])
def test_a_tiled_result_of_deblurgan_and_its_relatives_equals_the_whole_frame(options, height, width):
    network = awake(build_network("resnet", **TINY_RESNET, **options))
    blurred = picture(height, width, count=2)
    whole, tiled = (restore(network, blurred, tile=tile, precision="float32") for tile in (0, 64))
    assert (whole - blurred).abs().max() > 0.1
    assert (tiled - whole).abs().max() < ONE_STEP / 50


def test_pictures_restored_together_have_statistics_of_their_own_in_tiles_as_well(resnet):
    blurred = picture(130, 203, count=2) * torch.tensor([1.0, 0.3])[:, None, None, None]
    pieces = restore_pieces(resnet, (130, 203), partial(reflect, blurred), tile=64, precision="float32")
    together = gathered(pieces, blurred)
    assert (together - restore(resnet, blurred, tile=64, precision="float32")).abs().max() < 1e-5


def test_tiles_with_statistics_of_their_own_would_leave_a_trace(resnet):
    """So that the test above can fail."""
    blurred = picture(128, 192)
    whole = restore(resnet, blurred, tile=0, precision="float32")
    alone = torch.cat([restore(resnet, part, tile=0, precision="float32") for part in blurred.split(64, -1)], -1)
    assert (alone - whole).abs().max() > 3 * ONE_STEP


def test_half_precision_agrees_as_well(resnet):
    """Where a statistic differed in its last digit, roundings would flip, and layers of these would add up."""
    blurred = picture(130, 203)
    whole, tiled = (restore(resnet, blurred, tile=tile, precision="bfloat16") for tile in (0, 64))
    assert (whole - restore(resnet, blurred, tile=0, precision="float32")).abs().max() > 0
    assert (tiled - whole).abs().max() < ONE_STEP / 2


class Statistical(Generator):
    """All three kinds of layers that look at the frame, in one stage."""

    size_multiple, reach = 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 4, stride=4)
        self.layers = nn.Sequential(FrameNorm(8), nn.Conv2d(8, 8, 3, padding=1), FrameBatchNorm(8), nn.ReLU())
        self.pool, self.leave = FramePool(), nn.ConvTranspose2d(8, 3, 4, stride=4)

    def compute(self, blurred):
        features = self.layers(self.enter(blurred))
        return blurred + self.leave(features * self.pool(features).tanh())


def test_every_kind_of_statistic_is_shared_within_one_stage():
    network = awake(Statistical())
    blurred = picture(150, 201)
    counts = []
    whole = restore(network, blurred, tile=0, precision="float32")
    tiled = restore(network, blurred, tile=64, precision="float32", progress=lambda *count: counts.append(count))
    assert (whole - blurred).abs().max() > 0.1
    assert (tiled - whole).abs().max() < ONE_STEP / 50
    assert counts[-1] == (len(counts), len(counts)) and len(counts) == 4 * len(list(cut((150, 201), 64, 8, 4)))
    assert statistics(network) == 3


def test_batch_statistics_of_the_frame_are_those_of_training_and_each_picture_s_own():
    layer = FrameBatchNorm(4)
    layer.weight.data, layer.bias.data = torch.rand(4) + 0.5, torch.randn(4)
    features = torch.randn(1, 4, 9, 7) * 3 + 1
    in_training = layer.train()(features)
    assert torch.allclose(layer.eval()(features), in_training, atol=1e-5)
    pair = torch.cat([features, features * 2 + 5])
    assert torch.allclose(layer(pair)[:1], in_training, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_over_tiles_are_those_of_the_frame(dtype):
    features = (picture(64, 96).repeat(1, 2, 1, 1) * 5).to(dtype)
    tiles, found = Tiles(), []
    parts = list(cut((64, 96), 40, 8, 8))
    while not tiles.complete:
        for part in parts:
            piece = features[..., part.rows.start : part.rows.stop, part.columns.start : part.columns.stop]
            output = tiles.run(lambda x: found.append(tiles.moments(x)) or x, [piece], part)
            assert (output is None) == (not tiles.known)
        tiles.end_pass()
    variance, mean = torch.var_mean(features.double(), dim=(2, 3), correction=0)
    assert len(found) == len(parts)
    for known_mean, known_variance in found:
        assert torch.allclose(known_mean.double(), mean) and torch.allclose(known_variance.double(), variance)


def test_an_error_in_a_tile_leaves_nothing_behind(resnet):
    blurred = picture(128, 128)
    expected = restore(resnet, blurred, tile=64, precision="float32")

    def fail(done, total):
        if done == 20:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        restore(resnet, blurred, tile=64, precision="float32", progress=fail)
    assert torch.equal(restore(resnet, blurred, tile=64, precision="float32"), expected)
    assert not issubclass(Measured, RuntimeError)  # or it would be taken for a lack of memory


def test_results_are_let_go_behind_their_last_reader():
    stages = [
        Stage(lambda x: x + 1, ("blurred",), "a", 0),
        Stage(lambda a: a * 2, ("a",), "b", 0),
        Stage(lambda a, b: a + b, ("a", "b"), "a", 0),
        Stage(lambda a, x: a + x, ("a", "blurred"), "restored", 0),
    ]
    assert unread({"blurred": 0, "a": 0, "b": 0}, stages[3:]) == ["b"]
    assert unread({"blurred": 0, "b": 0}, stages[1:2]) == ["blurred", "b"]
    assert follow(stages, torch.ones(1)) == 2 + 4 + 1
