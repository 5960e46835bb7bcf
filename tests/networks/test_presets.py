"""Every preset is what was published: parameters, multiply-adds; and takes pictures of any size."""

import pytest
import torch

from deblur_hub.networks import NETWORKS, PRESETS, build_network
from tests.test_networks import on_meta

# Parameters in millions as printed, multiply-adds at 1280x720 in thousands of millions; None where nothing is printed.
# The figures were counted from the authors' code; those of papers that differ are told in each class's docstring.
PUBLISHED = {
    "deblurgan": (11.38, 697),
    "deblurgan-keras": (11.39, 799),
    "resnet6-bn": (8.13, 519),
    "autoencoder": (10.3, None),
    "deblurgan-v2-mobilenet": (2.11, 39),  # 3.31 with what never runs: test_fpn.py adds it up
    "deblurgan-v2-inception": (35.8, 274),
    "deblurgan-v2-mobilenet-dsc": (None, 9.59),  # printed as 14.83, by a count that test_fpn.py repeats
    "deepdeblur": (11.72, 4724),
    "srn": (6.88, 1174),
    "srn-lstm": (8.06, 3773),
    "pss-nsc": (3.87, 3307),
    "mt-rnn": (2.64, 6 * 339),
    "dmphn": (7.23, 916),
    "dmphn-1-2-4": (5.42, 687),
    "mimo-unet": (6.81, 896),
    "mimo-unet-plus": (16.11, 2119),
    "nafnet-w16": (None, None),
    "nafnet-w32": (17.11, 224),
    "nafnet-w64": (67.89, 887),
    "unet": (None, None),
    "compact": (None, None),
    "maxim": (22.2, None),  # test_maxim.py counts a frame without windows, as published
    "maxim-light": (None, None),
}

LAID_OUT = [name for name in PUBLISHED if name != "maxim"]  # maxim-light is the same with fewer stages, in less time


def test_every_preset_is_compared_and_every_network_has_one():
    assert PRESETS.keys() == PUBLISHED.keys()
    assert {architecture for architecture, _ in PRESETS.values()} == NETWORKS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiply_adds_are_the_published_ones_and_counting_leaves_a_network_as_it_is(name):
    with torch.device("meta"):
        network = build_network(name).train()
    before = str(network)
    found, (millions, thousands) = network.describe(), PUBLISHED[name]
    assert network.training and str(network) == before
    if millions is not None:
        digits = len(str(millions).partition(".")[2])
        assert round(found.parameters / 1e6, digits) == millions
    if thousands is not None:
        assert found.multiply_adds == pytest.approx(thousands * 1e9, rel=0.02)
    assert found.source and found.licence


@pytest.mark.slow
@pytest.mark.parametrize("name", LAID_OUT)
def test_a_picture_of_any_size_comes_back_in_its_size(name):
    network = on_meta(name)
    for height, width in ((1, 1), (129, 47)):
        with torch.no_grad():
            assert network(torch.empty(2, 3, height, width, device="meta")).shape == (2, 3, height, width)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAID_OUT)
def test_outputs_in_training_are_the_picture_at_one_or_several_scales(name):
    with torch.no_grad():
        outputs = on_meta(name).train()(torch.empty(2, 3, 96, 127, device="meta"))
    if not isinstance(outputs, list):
        outputs = [outputs]
    scales = [96 // output.shape[-2] for output in outputs]
    assert scales == sorted(scales, reverse=True) and scales[-1] == 1
    for scale, output in zip(scales, outputs, strict=True):
        assert output.shape == (2, 3, 96 // scale, -(-127 // scale))
