"""DeepDeblur's PyTorch files: recognised, every tensor accounted for, and the network computes what theirs does."""

import numpy as np
import pytest
import torch
from skimage.transform import pyramid_gaussian
from torch.nn import functional as F

from deblur_hub.conversion.deepdeblur import recognise
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network


def author_file(*, width=4, blocks=2, scales=3, kernel=5, device="cpu"):
    """The generator's state dict as SeungjunNah/DeepDeblur-PyTorch saves it, with random weights."""
    tensors = {}

    def convolution(name, given, made):
        shape = (made, given, kernel, kernel)
        tensors[f"{name}.weight"] = torch.randn(shape, device=device) / (given * kernel**2) ** 0.5
        tensors[f"{name}.bias"] = torch.randn(made, device=device) * 10  # of values up to 255

    for scale in range(scales):  # 0 is the finest
        body = f"body_models.{scale}.body"
        convolution(f"{body}.0", 3 if scale == scales - 1 else 6, width)
        for block in range(1, blocks + 1):
            convolution(f"{body}.{block}.body.0", width, width)
            convolution(f"{body}.{block}.body.2", width, width)
        convolution(f"{body}.{blocks + 1}", width, 3)
    for scale in range(1, scales):
        convolution(f"conv_end_models.{scale}.uppath.0", 3, 12)
    return tensors


def author_output(tensors, picture, *, blocks, scales):
    """(H, W, 3) from 0 to 255 in and out: the authors' way from skimage's pyramid to the finest result."""

    def convolved(x, name):
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=2)

    pyramid = [
        torch.from_numpy(np.float32(level)).permute(2, 0, 1)[None] - 127.5
        for level in pyramid_gaussian(picture, max_layer=scales - 1, channel_axis=-1)
    ]
    seen = pyramid[-1]
    for scale in reversed(range(scales)):
        body = f"body_models.{scale}.body"
        x = convolved(seen, f"{body}.0")
        for block in range(1, blocks + 1):
            x = x + convolved(convolved(x, f"{body}.{block}.body.0").relu(), f"{body}.{block}.body.2")
        x = convolved(x, f"{body}.{blocks + 1}")
        if scale:
            seen = torch.cat(
                [pyramid[scale - 1], F.pixel_shuffle(convolved(x, f"conv_end_models.{scale}.uppath.0"), 2)], 1
            )
    return (x + 127.5)[0].permute(1, 2, 0)


@pytest.mark.parametrize("prefix", ["", "G.", "model.G."])
@pytest.mark.parametrize("scales", [1, 3])
def test_a_converted_file_restores_as_the_authors_network_does(prefix, scales):
    tensors = author_file(scales=scales)
    converted = recognise({prefix + key: tensor for key, tensor in tensors.items()})
    assert converted.options == {"width": 4, "blocks": 2} | ({} if scales == 3 else {"scales": scales})
    network = build_network(converted.architecture, **converted.options).eval()
    network.load_state_dict(converted.tensors, strict=True)

    picture = np.random.default_rng(0).random((32, 48, 3)).astype(np.float32) * 255
    expected = author_output(tensors, picture, blocks=2, scales=scales)
    with torch.no_grad():
        restored = network(torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1)
    found = (restored[0].permute(1, 2, 0) + 1) * 127.5
    assert (expected - torch.from_numpy(picture)).abs().mean() > 10
    assert torch.allclose(found, expected, atol=1e-4 * 127.5)


def test_the_published_size_is_recognised_without_options():
    converted = recognise(author_file(width=64, blocks=19, device="meta"))
    assert (converted.architecture, converted.options, converted.dropped) == ("deepdeblur", {}, {})
    with torch.device("meta"):
        wanted = build_network("deepdeblur").state_dict()
    assert {key: tensor.shape for key, tensor in converted.tensors.items()} == {
        key: tensor.shape for key, tensor in wanted.items()
    }


def test_the_critic_beside_it_is_dropped_with_a_reason():
    generator = {f"G.{key}": tensor for key, tensor in author_file().items()}
    critic = {"D.body.0.weight": torch.zeros(4, 3, 5, 5), "D.body.0.bias": torch.zeros(4)}
    converted = recognise(generator | critic)
    assert converted.dropped.keys() == critic.keys()
    assert len(converted.tensors) == len(generator)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("body_models.1.body.2.body.2.bias"), "lacks 'body_models.1.body.2.body.2.bias'"),
        (lambda tensors: tensors.pop("conv_end_models.1.uppath.0.weight"), "lacks 'conv_end_models.1.uppath.0.weight'"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "has besides 'extra'"),
        (lambda tensors: tensors.update({"body_models.999999999.body.1.x": torch.zeros(1)}), "has besides"),
    ],
)
def test_a_file_cut_or_altered_is_refused_in_one_sentence(change, message):
    tensors = author_file()
    change(tensors)
    with pytest.raises(ModelError, match=message):
        recognise(tensors)


def test_another_kernel_is_refused():
    with pytest.raises(ModelError, match="with 3x3 kernels"):
        recognise(author_file(kernel=3))


@pytest.mark.parametrize("name", ["srn", "pss-nsc", "deepdeblur", "compact"])
def test_other_networks_files_are_not_taken_for_it(name):
    with torch.device("meta"):
        assert recognise(build_network(name).state_dict()) is None
    assert recognise({}) is None
    assert recognise({"body_models.0.body.0.weight": torch.zeros(3)}) is None
