"""The networks are what the papers and their own words say: layers, size, reach, cost, and options within bounds."""

import time

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from deblur_hub.errors import ModelError
from deblur_hub.networks import NETWORKS, PRESETS, build_network
from tests.conftest import awake


def on_meta(name, **options):
    with torch.device("meta"):
        return build_network(name, **options).eval()


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network, height: int, width: int) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2


# --- DeblurGAN ---------------------------------------------------------------------------------------------------


def test_deblurgan_computes_what_the_paper_draws(resnet):
    """The paper's figure evaluated by hand on the state dict, without one of our modules."""
    weights = iter(resnet.state_dict().values())  # in the order of the layers

    def convolved(x, **options):
        return F.conv2d(x, next(weights), next(weights), **options)

    def enlarged(x):
        return F.conv_transpose2d(x, next(weights), next(weights), stride=2, padding=1, output_padding=1)

    def normed(x):
        return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()

    def framed(x, width):
        return F.pad(x, [width] * 4, mode="reflect")

    blurred = torch.rand(2, 3, 24, 32) * 2 - 1
    x = normed(convolved(framed(blurred, 3))).relu()
    x = normed(convolved(x, stride=2, padding=1)).relu()
    x = normed(convolved(x, stride=2, padding=1)).relu()
    for _ in range(2):
        y = normed(convolved(framed(x, 1))).relu()
        x = x + normed(convolved(framed(y, 1)))
    x = normed(enlarged(x)).relu()
    x = normed(enlarged(x)).relu()
    expected = (blurred + convolved(framed(x, 3)).tanh()).clamp(-1, 1)
    assert next(weights, None) is None
    assert (expected - blurred).abs().max() > 0.1
    assert torch.allclose(resnet(blurred), expected, atol=1e-4)


def test_dropout_plays_a_part_in_training_alone_and_only_when_asked_for():
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    plain, dropping = (awake(build_network("resnet", width=4, blocks=2, dropout=p)) for p in (0.0, 0.5))
    with torch.no_grad():
        assert torch.equal(dropping(picture), plain(picture))
        assert not torch.equal(dropping.train()(picture), dropping(picture))
        assert torch.equal(plain.train()(picture), plain(picture))


def test_deblurgan_normalises_in_evaluation_by_the_frame_itself(resnet):
    """Each picture of a batch as if it were alone: no statistics over the batch, and none remembered."""
    pictures = torch.rand(3, 3, 16, 20) * 2 - 1
    assert torch.allclose(resnet(pictures), torch.cat([resnet(one[None]) for one in pictures]), atol=1e-5)
    assert not list(resnet.buffers())


# --- compact -----------------------------------------------------------------------------------------------------


def test_compact_has_at_most_8_million_parameters():
    assert parameters(on_meta("compact")) <= 8_000_000


def test_compact_computes_a_tenth_of_what_deblurgan_computes():
    assert multiply_adds(on_meta("compact"), 720, 1280) < 0.1 * multiply_adds(on_meta("deblurgan"), 720, 1280)


def test_compact_starts_as_the_identity():
    picture = torch.rand(1, 3, 32, 48) * 2 - 1
    assert torch.equal(build_network("compact")(picture), picture)


def reach(network, side: int) -> int:
    """How far from an output pixel an input pixel can be that has a part in it, by the gradient, at its worst place."""
    farthest = 0
    step = network.size_multiple
    for at in range(side // 2, side // 2 + step, max(1, step // 2)):
        picture = (torch.rand(1, 3, side, side, dtype=torch.float64) * 2 - 1).requires_grad_()
        network(picture)[0, :, at, at].sum().backward()
        touched = picture.grad[0].abs().amax(0).nonzero()
        farthest = max(farthest, int((touched - at).abs().max()))
    return farthest


@pytest.mark.parametrize(
    "options",
    [
        {"widths": [8], "blocks": [2], "unshuffle": 2},
        {"widths": [8, 8], "blocks": [1, 1], "unshuffle": 2},
        {"widths": [4, 4, 4], "blocks": [1, 1, 2], "unshuffle": 1},
        {"widths": [4, 4], "blocks": [2, 1], "unshuffle": 4},
    ],
)
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel_and_something_near_its_edge_has(options):
    network = awake(build_network("compact", **options)).double()
    bound = network.receptive_field
    found = reach(network, 2 * (bound // 16 + 2) * 16)
    assert 0.75 * bound <= found <= bound


def test_the_released_compact_sees_no_farther_than_a_tile_can_afford():
    assert on_meta("compact").receptive_field <= 256


# --- what each says of itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("compact", {}, 16),
        ("compact", {"widths": [8], "blocks": [1], "unshuffle": 3}, 3),
        ("compact", {"widths": [8, 8, 8, 8], "blocks": [1, 1, 1, 1], "unshuffle": 2}, 16),
        ("resnet", {"width": 4, "blocks": 1}, 4),
    ],
)
def test_sides_of_the_size_multiple_come_back_and_smaller_steps_do_not(name, options, multiple):
    network = on_meta(name, **options)
    assert network.size_multiple == multiple

    def out(height, width):
        return tuple(network.compute(torch.empty(1, 3, height, width, device="meta")).shape[-2:])

    assert out(3 * multiple, 5 * multiple) == (3 * multiple, 5 * multiple)
    with pytest.raises(RuntimeError):
        out(3 * multiple + multiple // 2, 5 * multiple)


class Peak(TorchDispatchMode):
    """The most bytes that tensors made under it hold at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.bytes = 0

    def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {key: held for key, held in self.alive.items() if not held[0].expired()}
        self.bytes = max(self.bytes, sum(size for _, size in self.alive.values()))
        return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("compact", {}, 256),
        ("compact", {"widths": [32, 64], "blocks": [1, 1], "unshuffle": 2}, 256),
        ("compact", {"widths": [96], "blocks": [3]}, 256),
        ("compact", {"widths": [16, 32, 64], "blocks": [1, 1, 1], "unshuffle": 1}, 256),
        ("resnet", {"width": 64, "blocks": 2}, 256),
        ("resnet", {"width": 64, "blocks": 2, "norm": "batch", "downsampling": "same", "upsampling": "nearest"}, 256),
    ],
)
def test_the_stated_values_per_pixel_are_what_a_pass_takes(name, options, side):
    network = awake(build_network(name, **options)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, side, side).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / side**2 / network.values_per_pixel <= 1.1


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "compcat",
            {},
            f"architecture 'compcat' is not known to this version (it knows: {', '.join(sorted(NETWORKS | PRESETS))}) "
            "(did you mean 'compact'?)",
        ),
        (
            "resnet",
            {"widht": 3},
            "resnet: unknown option 'widht' (did you mean 'width'?); it has: width, blocks, norm, "
            "downsampling, upsampling, residual, dropout",
        ),
        ("resnet", {"width": "64"}, "resnet: option 'width' must be of type int, not '64'"),
        ("resnet", {"width": True}, "resnet: option 'width' must be of type int, not True"),
        ("resnet", {"width": 64.0}, "resnet: option 'width' must be of type int, not 64.0"),
        ("resnet", {"width": None}, "resnet: option 'width' must be of type int, not None"),
        ("resnet", {"width": 0}, "resnet: option 'width' is 0, which is out of range (1 to 8192)"),
        ("resnet", {"width": 10**9}, "resnet: option 'width' is 1000000000, which is out of range (1 to 8192)"),
        ("resnet", {"blocks": 10**9}, "resnet: option 'blocks' is 1000000000, which is out of range (1 to 64)"),
        ("resnet", {"dropout": 1.5}, "resnet: option 'dropout' is 1.5, which is out of range (0 to 1)"),
        ("resnet", {"dropout": float("nan")}, "resnet: option 'dropout' is nan, which is out of range (0 to 1)"),
        ("compact", {"widths": 64}, "compact: option 'widths' must be a list of 1 to 16 numbers, not 64"),
        ("compact", {"widths": []}, "compact: option 'widths' must be a list of 1 to 16 numbers, not []"),
        ("compact", {"widths": [[8]]}, "compact: option 'widths' must be of type int, not [8]"),
        ("compact", {"blocks": [1, 10**9]}, "compact: option 'blocks' is 1000000000, which is out of range (1 to 64)"),
        ("compact", {"unshuffle": -4}, "compact: option 'unshuffle' is -4, which is out of range (1 to 8192)"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_sentence(name, options, message):
    with pytest.raises(ModelError) as error:
        build_network(name, **options)
    assert str(error.value) == message


def test_a_list_of_a_million_widths_is_refused_in_a_short_sentence():
    with pytest.raises(ModelError) as error:
        build_network("compact", widths=[8] * 1_000_000)
    assert len(str(error.value)) < 150


@pytest.mark.slow
def test_the_largest_options_that_pass_are_laid_out_in_seconds():
    started = time.process_time()
    with torch.device("meta"):
        build_network("compact", widths=[32] * 8, blocks=[32] * 8)
        build_network("nafnet", width=2, encoder_blocks=[16] * 8, middle_blocks=64, decoder_blocks=[16] * 8)
        for options in ({"width": 8192, "blocks": 64}, {"width": 8192}):
            with pytest.raises(ModelError, match=r"make \d+\.\d billion parameters, out of all proportion"):
                build_network("resnet", **options)
    assert time.process_time() - started < 10


def test_blocks_without_number_are_refused_before_they_are_laid_out():
    started = time.process_time()
    with torch.device("meta"), pytest.raises(ModelError, match=r"compact: 1024 blocks in all are out of range"):
        build_network("compact", widths=[8192] * 16, blocks=[64] * 16)
    assert time.process_time() - started < 0.1


def test_options_that_pad_each_picture_to_a_poster_are_refused():
    with torch.device("meta"), pytest.raises(ModelError, match="compact: these options pad every picture to 32768"):
        build_network("compact", widths=[1] * 16, blocks=[1] * 16, unshuffle=1)


@pytest.mark.parametrize("scales", [True, 1.0, 5, [1], {}])
def test_a_choice_is_one_of_its_own_values_and_type(scales):
    with pytest.raises(ModelError, match=r"srn: option 'scales' must be one of 1, 2, 3, 4, not "):
        build_network("srn", scales=scales)


def test_a_whole_number_passes_for_a_fraction():
    assert build_network("resnet", width=4, blocks=1, dropout=0).blocks[0].second[2].p == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_says_what_restoring_with_it_takes(name):
    network = on_meta(name)
    assert network.size_multiple >= 1 and network.values_per_pixel > 3
    assert network.receptive_field is None or network.receptive_field > 0
