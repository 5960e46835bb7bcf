"""MT-RNN: the published size and cost an iteration, what the paper draws, and what each iteration adds."""

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.networks import build_network
from tests.conftest import awake
from tests.test_networks import Peak, multiply_adds, on_meta, parameters, reach

torch.set_num_threads(1)


def test_it_has_the_parameters_and_the_multiply_adds_of_the_published_one():
    assert parameters(on_meta("mt-rnn")) == 2_635_523
    assert multiply_adds(on_meta("mt-rnn"), 720, 1280) == pytest.approx(2036e9, rel=0.001)
    assert multiply_adds(on_meta("mt-rnn", iterations=1), 720, 1280) == pytest.approx(339e9, rel=0.001)


def by_hand(weights, blurred, iterations):
    """The paper's figure and the authors' test loop on [0, 255], without one of our modules: all results."""

    def conv(name, x, **options):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def leaky(x):
        return torch.where(x > 0, x, 0.1 * x)

    def blocks(name, x):
        for number in range(3):
            inside = leaky(conv(f"{name}.{number}.first", x, padding=1))
            x = x + conv(f"{name}.{number}.second", inside, padding=1)
        return x

    def up(name, x):
        return leaky(F.conv_transpose2d(x, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], stride=2, padding=1))

    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1)
    picture = (blurred + 1) / 2 * 255
    last, half_before, quarter_before, results = picture, None, None, []
    for _ in range(iterations):
        one = blocks("encoder_full", conv("stem", torch.cat([picture - mean, last - mean], 1), padding=1))
        two = leaky(conv("down_half.0", one, stride=2, padding=1))
        two = torch.cat([two, two if half_before is None else half_before], 1)
        two = blocks("encoder_half", conv("recall_half", two))
        four = leaky(conv("down_quarter.0", two, stride=2, padding=1))
        four = torch.cat([four, four if quarter_before is None else quarter_before], 1)
        four = blocks("encoder_quarter", conv("recall_quarter", four))
        quarter_before = blocks("decoder_quarter", four)
        half_before = conv("merge_half", torch.cat([up("up_half", quarter_before), two], 1))
        half_before = blocks("decoder_half", half_before)
        full = blocks("decoder_full", conv("merge_full", torch.cat([up("up_full", half_before), one], 1)))
        last = conv("head", full, padding=1) + (picture - mean) + mean
        results.append(last / 255 * 2 - 1)
    return results


@pytest.fixture
def network():
    made = awake(build_network("mt_rnn", iterations=3, width=4))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 0.8  # lest six blocks in a row, three times over, leave nothing of the picture's scale
    return made


def test_it_computes_what_the_paper_draws(network):
    blurred = torch.rand(2, 3, 24, 32) * 2 - 1
    with torch.no_grad():
        expected = by_hand(network.state_dict(), blurred, 3)
        assert (expected[-1] - blurred).abs().mean() > 0.1
        assert (expected[-1] - expected[0]).abs().mean() > 0.01
        assert torch.allclose(network(blurred), expected[-1], rtol=1e-4, atol=1e-4)


def test_in_training_it_gives_the_results_of_all_iterations_and_in_evaluation_the_last(network):
    blurred = torch.rand(1, 3, 21, 13) * 2 - 1
    with torch.no_grad():
        results = network.train()(blurred)
        assert [result.shape for result in results] == [blurred.shape] * 3
        assert torch.equal(network.eval()(blurred), results[-1])
        network.iterations = 2
        assert torch.equal(network(blurred), results[1])


def test_a_training_step_reaches_every_parameter_in_bfloat16(network):
    with torch.autocast("cpu", torch.bfloat16):
        results = network.train()(torch.rand(1, 3, 32, 32) * 2 - 1)
        sum(result.float().square().mean() for result in results).backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("size", [(1, 1), (5, 18), (33, 7)])
def test_a_picture_of_any_size_comes_back_with_its_size(network, size):
    with torch.no_grad():
        assert network(torch.zeros(1, 3, *size)).shape[-2:] == size


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [1, 2])
def test_nothing_beyond_the_receptive_field_has_a_part_in_a_pixel_and_something_near_its_edge_has(iterations):
    network = awake(build_network("mt_rnn", iterations=iterations, width=1)).double()
    bound = network.receptive_field
    assert 0.75 * bound <= reach(network, 2 * (bound // 16 + 2) * 16) <= bound


@pytest.mark.parametrize("options", [{"iterations": 1, "width": 16}, {"iterations": 2, "width": 8}])
def test_the_stated_values_per_pixel_are_what_a_pass_takes(options):
    network = awake(build_network("mt_rnn", **options)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Peak() as peak:
        network(torch.zeros(1, 3, 256, 256).contiguous(memory_format=torch.channels_last))
    assert 0.6 <= peak.bytes / 4 / 256**2 / network.values_per_pixel <= 1.1
