"""MIMO-UNet's checkpoints: the authors' tensors, evaluated by hand, and our network of the same, agree."""

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.conversion.mimo_unet import recognise
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network


def layout(width, blocks):
    """The authors' keys and shapes."""
    full, half, quarter = width, 2 * width, 4 * width
    shapes = {}

    def conv(name, outputs, inputs, kernel):
        shapes[f"{name}.main.0.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"{name}.main.0.bias"] = (outputs,)

    def chain(name, c):
        for number in range(blocks):
            conv(f"{name}.layers.{number}.main.0", c, c, 3)
            conv(f"{name}.layers.{number}.main.1", c, c, 3)

    for number, c in enumerate((full, half, quarter)):
        chain(f"Encoder.{number}", c)
    conv("feat_extract.0", full, 3, 3)
    conv("feat_extract.1", half, full, 3)
    conv("feat_extract.2", quarter, half, 3)
    conv("feat_extract.3", quarter, half, 4)  # transposed: inputs first
    conv("feat_extract.4", half, full, 4)
    shapes["feat_extract.3.main.0.bias"], shapes["feat_extract.4.main.0.bias"] = (half,), (full,)
    conv("feat_extract.5", 3, full, 3)
    for number, c in enumerate((quarter, half, full)):
        chain(f"Decoder.{number}", c)
    conv("Convs.0", half, quarter, 1)
    conv("Convs.1", full, half, 1)
    conv("ConvsOut.0", 3, quarter, 3)
    conv("ConvsOut.1", 3, half, 3)
    for number, c in enumerate((full, half)):
        conv(f"AFFs.{number}.conv.0", c, 7 * width, 1)
        conv(f"AFFs.{number}.conv.1", c, c, 3)
    for number, c in ((1, quarter), (2, half)):
        conv(f"FAM{number}.merge", c, c, 3)
        conv(f"SCM{number}.main.0", c // 4, 3, 3)
        conv(f"SCM{number}.main.1", c // 2, c // 4, 1)
        conv(f"SCM{number}.main.2", c // 2, c // 2, 3)
        conv(f"SCM{number}.main.3", c - 3, c // 2, 1)
        conv(f"SCM{number}.conv", c, c, 1)
    return shapes


def drawn(shapes):
    """Weights under which every layer matters."""
    draw = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(shape, generator=draw) / (torch.Size(shape[1:]).numel() if len(shape) > 1 else 4) ** 0.5
        for key, shape in shapes.items()
    }


def by_hand(w, x, blocks):
    """What the authors' network computes from their tensors: three outputs, coarse to fine; values in [0, 1]."""

    def of(name):
        return w[f"{name}.main.0.weight"], w[f"{name}.main.0.bias"]

    def conv(name, x, stride=1):
        weight, bias = of(name)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def doubled(name, x):
        return F.conv_transpose2d(x, *of(name), stride=2, padding=1).relu()

    def chain(name, x):
        for number in range(blocks):
            at = f"{name}.layers.{number}.main"
            x = conv(f"{at}.1", conv(f"{at}.0", x).relu()) + x
        return x

    def own(number, x):
        y = x
        for layer in range(4):
            y = conv(f"SCM{number}.main.{layer}", y).relu()
        return conv(f"SCM{number}.conv", torch.cat([x, y], 1))

    def joined(number, x, other):
        return x + conv(f"FAM{number}.merge", x * other)

    def fused(number, *levels):
        return conv(f"AFFs.{number}.conv.1", conv(f"AFFs.{number}.conv.0", torch.cat(levels, 1)).relu())

    def up(x):
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    x2, x4 = (F.interpolate(x, scale_factor=scale) for scale in (0.5, 0.25))
    full = chain("Encoder.0", conv("feat_extract.0", x).relu())
    half = chain("Encoder.1", joined(2, conv("feat_extract.1", full, 2).relu(), own(2, x2)))
    z = chain("Encoder.2", joined(1, conv("feat_extract.2", half, 2).relu(), own(1, x4)))
    skip2 = fused(1, F.interpolate(full, scale_factor=0.5), half, up(z))
    skip1 = fused(0, full, up(half), up(up(z)))
    z = chain("Decoder.0", z)
    outputs = [conv("ConvsOut.0", z) + x4]
    z = chain("Decoder.1", conv("Convs.0", torch.cat([doubled("feat_extract.3", z), skip2], 1)).relu())
    outputs.append(conv("ConvsOut.1", z) + x2)
    z = chain("Decoder.2", conv("Convs.1", torch.cat([doubled("feat_extract.4", z), skip1], 1)).relu())
    return [*outputs, conv("feat_extract.5", z) + x]


@pytest.mark.parametrize(("width", "blocks"), [(4, 2), (6, 1)])
def test_the_converted_network_computes_what_the_authors_tensors_say(width, blocks):
    theirs = drawn(layout(width, blocks))
    converted = recognise(theirs)
    assert converted.architecture == "mimo_unet" and not converted.dropped
    assert converted.options == {"width": width, "blocks": blocks}
    network = build_network(converted.architecture, **converted.options)
    network.load_state_dict(converted.tensors, strict=True)
    blurred = torch.rand(2, 3, 32, 44, generator=torch.Generator().manual_seed(1))
    expected = by_hand(theirs, blurred, blocks)
    assert (expected[-1] - blurred).abs().mean() > 0.1
    scale = max(output.abs().max().item() for output in expected)
    with torch.no_grad():
        for ours, output in zip(network.train()(2 * blurred - 1), expected, strict=True):
            assert torch.allclose((ours + 1) / 2, output, atol=1e-4 * max(1, scale))
        assert torch.equal(network.eval()(2 * blurred - 1), network.train()(2 * blurred - 1)[-1])


@pytest.mark.parametrize(("blocks", "found"), [(8, {}), (20, {"blocks": 20, "dropout": 0.1})])
def test_the_published_sizes_are_recognised(blocks, found):
    with torch.device("meta"):
        converted = recognise({key: torch.empty(shape) for key, shape in layout(32, blocks).items()})
        network = build_network(converted.architecture, **converted.options)
    assert converted.options == found
    network.load_state_dict(converted.tensors, strict=True, assign=True)


def test_a_cut_file_is_refused_by_the_name_of_what_it_lacks():
    theirs = drawn(layout(4, 3))
    for key in ("Encoder.0.layers.1.main.0.main.0.bias", "AFFs.1.conv.0.main.0.weight", "FAM1.merge.main.0.bias"):
        with pytest.raises(ModelError, match=f"but lacks '{key}'; the file may be cut"):
            recognise({name: tensor for name, tensor in theirs.items() if name != key})


def test_other_proportions_are_refused():
    theirs = drawn(layout(4, 1)) | {"AFFs.0.conv.0.main.0.weight": torch.zeros(4, 20, 1, 1)}
    with pytest.raises(ModelError, match=r"'AFFs\.0\.conv\.0\.main\.0\.weight' is \[4, 20, 1, 1\]"):
        recognise(theirs)


def test_other_networks_are_left_to_others():
    theirs = drawn(layout(4, 1))
    assert recognise({}) is None
    assert recognise({key: tensor for key, tensor in theirs.items() if "SCM" not in key}) is None
    further = "Encoder.0.layers.0.main_fft.0.main.0.weight"  # DeepRFT's
    assert recognise(theirs | {further: torch.zeros(4, 4, 1, 1)}) is None
    assert recognise(build_network("mimo_unet", width=4).state_dict()) is None
