"""SRN's PyTorch files: recognised, every tensor accounted for, and the network computes what theirs does."""

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.conversion.srn import recognise
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network


def author_file(*, width=4, blocks=3, device="cpu"):
    """The state dict as iwtw/SRN-DeblurNet saves it, with random weights."""
    tensors = {}

    def convolution(name, given, made, *, transposed=False):
        shape = (given, made, 5, 5) if transposed else (made, given, 5, 5)
        tensors[f"{name}.weight"] = torch.randn(shape, device=device) / (25 * given) ** 0.5
        tensors[f"{name}.bias"] = torch.randn(made, device=device) / 4

    def stack(name, channels):
        for block in range(blocks):
            for number in (1, 2):
                convolution(f"{name}.resblock_stack.{block}.conv{number}.0", channels, channels)

    for name, given, made in (("inblock", 6, 1), ("eblock1", 1, 2), ("eblock2", 2, 4)):
        convolution(f"{name}.conv.0", given if name == "inblock" else given * width, made * width)
        stack(name, made * width)
    convolution("convlstm.conv", 8 * width, 16 * width)
    for name, given, made in (("dblock1", 4, 2), ("dblock2", 2, 1)):
        stack(name, given * width)
        convolution(f"{name}.deconv.0", given * width, made * width, transposed=True)
    stack("outblock", width)
    convolution("outblock.conv.0", width, 3)
    return tensors


def author_output(tensors, pyramid, *, blocks=3):
    """The re-implementation's way from the pyramid, coarse to fine, to the finest result."""

    def convolved(x, name, **options):
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=2, **options)

    def stack(x, name):
        for block in range(blocks):
            inside = convolved(x, f"{name}.resblock_stack.{block}.conv1.0").relu()
            x = x + convolved(inside, f"{name}.resblock_stack.{block}.conv2.0")
        return x

    def up(x, name):
        x, weight, bias = stack(x, name), tensors[f"{name}.deconv.0.weight"], tensors[f"{name}.deconv.0.bias"]
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1).relu()

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    guess, h, c = torch.zeros_like(pyramid[0]), None, None
    for picture in pyramid:
        if h is not None:
            guess, h, c = doubled(guess), doubled(h), doubled(c)
        e1 = stack(convolved(torch.cat([picture, guess], 1), "inblock.conv.0").relu(), "inblock")
        e2 = stack(convolved(e1, "eblock1.conv.0", stride=2).relu(), "eblock1")
        e3 = stack(convolved(e2, "eblock2.conv.0", stride=2).relu(), "eblock2")
        h, c = (torch.zeros_like(e3), torch.zeros_like(e3)) if h is None else (h, c)
        i, f, o, g = convolved(torch.cat([e3, h], 1), "convlstm.conv").split(e3.shape[1], 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        d2 = up(h, "dblock1")
        d1 = up(d2 + e2, "dblock2")
        guess = convolved(stack(d1 + e1, "outblock"), "outblock.conv.0")
    return guess


def half_of(pictures):
    """Weights 1, 3, 3, 1 in each direction: Pillow's bilinear resize; and the border repeated."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    framed = F.pad(pictures, [1] * 4, mode="replicate")
    return F.conv2d(framed, line.outer(line).expand(3, 1, 4, 4), stride=2, groups=3)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_converted_file_restores_as_the_reimplementation_does(blocks):
    tensors = author_file(blocks=blocks)
    converted = recognise(tensors)
    assert converted.options == {"variant": "lstm-color", "width": 4} | ({} if blocks == 3 else {"blocks": blocks})
    assert not converted.dropped
    network = build_network(converted.architecture, **converted.options).eval()
    network.load_state_dict(converted.tensors, strict=True)

    picture = torch.rand(2, 3, 32, 48) * 2 - 1
    half = half_of(picture)
    expected = author_output(tensors, [half_of(half), half, picture], blocks=blocks)
    assert (expected - picture).abs().mean() > 0.1
    with torch.no_grad():
        assert torch.allclose(network(picture), expected, rtol=1e-4, atol=1e-4)


def test_the_published_size_is_recognised():
    converted = recognise(author_file(width=32, device="meta"))
    assert (converted.architecture, converted.options) == ("srn", {"variant": "lstm-color"})
    with torch.device("meta"):
        wanted = build_network("srn", variant="lstm-color").state_dict()
    assert {key: tensor.shape for key, tensor in converted.tensors.items()} == {
        key: tensor.shape for key, tensor in wanted.items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("dblock2.deconv.0.bias"), "lacks 'dblock2.deconv.0.bias'"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "has besides 'extra'"),
        (lambda tensors: tensors.update({"convlstm.conv.bias": torch.zeros(1)}), "'convlstm.conv.bias' is not"),
        (lambda tensors: tensors.update({"inblock.conv.0.weight": torch.zeros(4, 2, 5, 5)}), "takes 6 channels"),
    ],
)
def test_a_file_cut_or_altered_is_refused_in_one_sentence(change, message):
    tensors = author_file()
    change(tensors)
    with pytest.raises(ModelError, match=message):
        recognise(tensors)


@pytest.mark.parametrize("name", ["srn", "pss-nsc", "deepdeblur", "compact"])
def test_other_networks_files_are_not_taken_for_it(name):
    with torch.device("meta"):
        assert recognise(build_network(name).state_dict()) is None
    assert recognise({}) is None
