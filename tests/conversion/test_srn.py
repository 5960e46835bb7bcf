"""SRN's files, of TensorFlow and PyTorch: recognised, every tensor accounted for, and the network computes the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deblur_hub import DeblurGenerator
from deblur_hub.conversion import convert
from deblur_hub.conversion.srn import recognise
from deblur_hub.conversion.tensorflow_checkpoint import load
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network

TENSORFLOW = Path(__file__).parents[1] / "data" / "tensorflow"  # made by tests/fixtures/make_srn.py
OF_TRAINING = {"Variable", "beta1_power", "beta2_power"}
OF_TRAINING |= {f"g_net/dec1_0/{kind}/{slot}" for kind in ("weights", "biases") for slot in ("Adam", "Adam_1")}

# --- TensorFlow --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "options", "dropped"),
    [
        ("color", {"width": 3, "blocks": 1}, OF_TRAINING),
        ("lstm", {"variant": "lstm", "width": 2, "blocks": 1}, set()),
    ],
)
def test_a_converted_checkpoint_restores_as_tensorflow_does(tmp_path, variant, options, dropped):
    converted = convert(TENSORFLOW / f"srn-{variant}", tmp_path / "model")
    assert (converted.architecture, converted.options) == ("srn", options)
    assert converted.dropped == dict.fromkeys(dropped, "of the training, not of the network")

    network = DeblurGenerator.from_pretrained(tmp_path / "model", device="cpu").network.eval()
    with np.load(TENSORFLOW / f"srn-{variant}.npz") as example:
        picture, expected = (torch.from_numpy(example[name]).permute(2, 0, 1)[None] for name in ("picture", "result"))
    with torch.no_grad():
        restored = (network(2 * picture - 1) + 1) / 2
    assert (expected - picture).abs().mean() > 0.1
    assert (restored - expected).abs().max() < 1e-5


def authors_file(*, width=2, blocks=3, channels=3, cell=False):
    """The names and shapes of the authors' checkpoint."""
    tensors = {}

    def convolution(name, given, made, kernel=5, *, transposed=False):
        tensors[f"g_net/{name}/weights"] = torch.zeros(
            kernel, kernel, *((made, given) if transposed else (given, made))
        )
        tensors[f"g_net/{name}/biases"] = torch.zeros(made)

    for level, given, made in ((1, 2 * channels, width), (2, width, 2 * width), (3, 2 * width, 4 * width)):
        convolution(f"enc{level}_1", given, made)
        for block in range(blocks):
            for side, at in (("enc", block + 2), ("dec", block + 1)):
                convolution(f"{side}{level}_{at}/conv1", made, made)
                convolution(f"{side}{level}_{at}/conv2", made, made)
    convolution(f"dec2_{blocks + 1}", 4 * width, 2 * width, 4, transposed=True)
    convolution(f"dec1_{blocks + 1}", 2 * width, width, 4, transposed=True)
    convolution("dec1_0", width, channels)
    if cell:
        convolution("convLSTM/LSTM_conv", 8 * width, 16 * width, 3)
    return tensors


@pytest.mark.parametrize(("channels", "cell", "variant"), [(3, False, "color"), (1, True, "lstm")])
def test_the_authors_published_size_is_recognised(channels, cell, variant):
    with torch.device("meta"):
        tensors = authors_file(width=32, channels=channels)
    if cell:
        tensors |= {key: tensor for key, tensor in authors_file(width=32, cell=True).items() if "LSTM" in key}
    converted = recognise(tensors)
    assert converted.options == ({} if variant == "color" else {"variant": variant})
    with torch.device("meta"):
        wanted = build_network("srn", variant=variant).state_dict()
    assert {key: tensor.shape for key, tensor in converted.tensors.items()} == {
        key: tensor.shape for key, tensor in wanted.items()
    }
    if cell:  # the constant that their graph adds is in our bias
        assert converted.tensors["cell.gates.bias"].view(4, -1).mean(1).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("of", "change", "message"),
    [
        ({}, {"g_net/dec2_4/weights": None}, "lacks 'g_net/dec2_4/weights'"),
        ({}, {"g_net/extra": torch.zeros(1)}, "has besides 'g_net/extra'"),
        ({}, {"g_net/enc1_1/weights": torch.zeros(3, 3, 6, 2)}, r"first convolution is \[3, 3, 6, 2\]; convert takes"),
        ({}, {"g_net/enc1_1/weights": torch.zeros(4)}, r"first convolution is \[4\]; convert takes"),
        ({}, {"g_net/dec1_0/weights": torch.zeros(3)}, r"'g_net/dec1_0/weights' is \[3\]"),
        ({"channels": 1}, {}, "the 'gray' network, without a ConvLSTM; convert takes 'color' and 'lstm'"),
        ({"cell": True}, {}, "of all colours, with a ConvLSTM; convert takes 'color' and 'lstm'"),
        (
            {"channels": 1, "cell": True},
            {"g_net/convLSTM/LSTM_conv/biases": torch.zeros(3)},
            r"'g_net/convLSTM/LSTM_conv/biases' is \[3\]",
        ),
    ],
)
def test_a_checkpoint_cut_or_altered_is_refused_in_one_sentence(of, change, message):
    tensors = {key: tensor for key, tensor in (authors_file(**of) | change).items() if tensor is not None}
    with pytest.raises(ModelError, match=message):
        recognise(tensors)


def test_what_adam_keeps_of_every_layer_is_dropped():
    tensors = authors_file()
    slots = {f"{key}/{slot}": tensor for key, tensor in tensors.items() for slot in ("Adam", "Adam_1")}
    converted = recognise(tensors | slots | {"global_step": torch.zeros(())})
    assert converted.dropped.keys() == slots.keys() | {"global_step"}


def test_every_tensor_of_a_checkpoint_is_used_or_dropped():
    tensors, _ = load(TENSORFLOW / "srn-color")
    converted = recognise(tensors)
    assert len(converted.tensors) + len(converted.dropped) == len(tensors)


# --- PyTorch -----------------------------------------------------------------------------------------------------


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["srn", "pss-nsc", "deepdeblur", "compact"])
def test_other_networks_files_are_not_taken_for_it(name):
    with torch.device("meta"):
        assert recognise(build_network(name).state_dict()) is None
    assert recognise({}) is None
