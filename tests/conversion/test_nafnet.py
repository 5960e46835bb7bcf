"""NAFNet's checkpoints: the authors' tensors, evaluated by hand, and our network of the same, agree."""

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.conversion.nafnet import recognise
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network

GOPRO = (1, 1, 1, 28), 1, (1, 1, 1, 1)
TINY = 4, (1, 1), 1, (1, 1)


def layout(width, encoder, middle, decoder, *, colours=3):
    """The authors' keys and shapes."""
    shapes = {}

    def layer(name, *shape, bias=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def block(name, c):
        shapes[f"{name}.beta"] = shapes[f"{name}.gamma"] = (1, c, 1, 1)
        layer(f"{name}.conv1", 2 * c, c, 1, 1)
        layer(f"{name}.conv2", 2 * c, 1, 3, 3)
        layer(f"{name}.conv3", c, c, 1, 1)
        layer(f"{name}.sca.1", c, c, 1, 1)
        layer(f"{name}.conv4", 2 * c, c, 1, 1)
        layer(f"{name}.conv5", c, c, 1, 1)
        layer(f"{name}.norm1", c)
        layer(f"{name}.norm2", c)

    layer("intro", width, colours, 3, 3)
    layer("ending", colours, width, 3, 3)
    c = width
    for level, depth in enumerate(encoder):
        for number in range(depth):
            block(f"encoders.{level}.{number}", c)
        layer(f"downs.{level}", 2 * c, c, 2, 2)
        c *= 2
    for number in range(middle):
        block(f"middle_blks.{number}", c)
    for level, depth in enumerate(decoder):
        layer(f"ups.{level}.0", 2 * c, c, 1, 1, bias=False)
        c //= 2
        for number in range(depth):
            block(f"decoders.{level}.{number}", c)
    return shapes


def drawn(shapes):
    """Weights under which every layer matters."""
    draw = torch.Generator().manual_seed(0)

    def weights(shape):
        fan_in = 2 if len(shape) == 1 or shape[0] == 1 else torch.Size(shape[1:]).numel()
        return torch.randn(shape, generator=draw) / fan_in**0.5

    return {key: weights(shape) for key, shape in shapes.items()}


def by_hand(w, blurred, encoder, middle, decoder):
    """What the authors' network computes from their tensors; values in [0, 1]."""

    def conv(name, x, **options):
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **options)

    def norm(name, x):
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
        return x * w[f"{name}.weight"].view(1, -1, 1, 1) + w[f"{name}.bias"].view(1, -1, 1, 1)

    def gated(x):
        return x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :]

    def chain(name, x, depth):
        for number in range(depth):
            at = f"{name}.{number}"
            y = conv(f"{at}.conv1", norm(f"{at}.norm1", x))
            y = gated(conv(f"{at}.conv2", y, padding=1, groups=y.shape[1]))
            y = y * conv(f"{at}.sca.1", y.mean((2, 3), keepdim=True))
            x = x + conv(f"{at}.conv3", y) * w[f"{at}.beta"]
            y = gated(conv(f"{at}.conv4", norm(f"{at}.norm2", x)))
            x = x + conv(f"{at}.conv5", y) * w[f"{at}.gamma"]
        return x

    x = conv("intro", blurred, padding=1)
    skips = []
    for level, depth in enumerate(encoder):
        skips.append(chain(f"encoders.{level}", x, depth))
        x = conv(f"downs.{level}", skips[-1], stride=2)
    x = chain("middle_blks", x, middle)
    for level, depth in enumerate(decoder):
        x = F.pixel_shuffle(conv(f"ups.{level}.0", x), 2) + skips.pop()
        x = chain(f"decoders.{level}", x, depth)
    return conv("ending", x, padding=1) + blurred


@pytest.mark.parametrize(
    ("width", "encoder", "middle", "decoder"),
    [(4, (1, 1, 1, 2), 1, (1, 1, 1, 1)), (6, (2, 1), 2, (3, 2)), (4, (3,), 1, (1,))],
)
def test_the_converted_network_computes_what_the_authors_tensors_say(width, encoder, middle, decoder):
    theirs = drawn(layout(width, encoder, middle, decoder))
    converted = recognise(theirs)
    assert converted.architecture == "nafnet" and not converted.dropped
    assert len(converted.tensors) == len(theirs)
    network = build_network(converted.architecture, **converted.options).eval()
    network.load_state_dict(converted.tensors, strict=True)
    network.double()  # values of twenty and more, whose last digits differ from processor to processor in float32
    blurred = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)).double()
    expected = by_hand({key: tensor.double() for key, tensor in theirs.items()}, blurred, encoder, middle, decoder)
    assert (expected - blurred).abs().mean() > 0.1
    with torch.no_grad():
        assert torch.allclose((network(2 * blurred - 1) + 1) / 2, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("published", "found"),
    [
        ((32, *GOPRO), {}),
        ((64, *GOPRO), {"width": 64}),
        (
            (32, (2, 2, 4, 8), 12, (2, 2, 2, 2)),  # SIDD, a denoiser
            {"encoder_blocks": [2, 2, 4, 8], "middle_blocks": 12, "decoder_blocks": [2, 2, 2, 2]},
        ),
    ],
)
def test_the_published_sizes_are_recognised(published, found):
    with torch.device("meta"):
        converted = recognise({key: torch.empty(shape) for key, shape in layout(*published).items()})
        network = build_network(converted.architecture, **converted.options)
    assert converted.options == found
    network.load_state_dict(converted.tensors, strict=True, assign=True)


def test_a_cut_file_is_refused_by_the_name_of_what_it_lacks():
    theirs = drawn(layout(4, (1, 1, 3), 1, (1, 1, 1)))
    for key in ("encoders.2.1.conv3.bias", "middle_blks.0.beta", "downs.0.weight", "decoders.2.0.gamma"):
        with pytest.raises(ModelError, match=f"but lacks '{key}'; the file may be cut"):
            recognise({name: tensor for name, tensor in theirs.items() if name != key})
    with pytest.raises(ModelError, match=r"'encoders\.2\.1\.beta'|'encoders\.2\.1\.norm1\.weight'"):
        recognise({name: tensor for name, tensor in theirs.items() if "encoders.2.1." not in name})


def test_more_levels_down_than_up_are_refused():
    with pytest.raises(ModelError, match="this NAFNet lacks levels on the way up or down"):
        recognise(drawn(layout(4, (1, 1), 1, (1,))))


def test_a_network_for_grey_pictures_is_refused():
    with pytest.raises(ModelError, match="this NAFNet is for pictures of 1 channels"):
        recognise(drawn(layout(*TINY, colours=1)))


def test_other_networks_are_left_to_others():
    theirs = drawn(layout(*TINY))
    assert recognise({}) is None
    assert recognise({key: tensor for key, tensor in theirs.items() if "sca" not in key}) is None
    assert recognise(theirs | {"encoders.0.0.se.1.weight": torch.zeros(4, 4, 1, 1)}) is None
    assert recognise(theirs | {"encoders.x.0.beta": torch.zeros(4)}) is None
    assert recognise(theirs | {"intro.weight": torch.zeros(4)}) is None
    assert recognise(build_network("nafnet", width=4).state_dict()) is None
