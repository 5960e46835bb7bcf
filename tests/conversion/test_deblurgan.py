"""DeblurGAN's checkpoints in all their numberings, and the master's broken one."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from deblur_hub.conversion import assembled, deblurgan, recognise
from deblur_hub.errors import ModelError


def deblurgan_state(*, width=64, blocks=9, dropout=False, running=False, single=False) -> dict[str, torch.Tensor]:
    """The authors' keys and shapes, with weights that change the picture."""
    draw = torch.Generator().manual_seed(0)
    state = {}

    def convolution(key, out, into, side, transposed=False):
        shape = (into, out, side, side) if transposed else (out, into, side, side)
        state[f"{key}.weight"] = torch.randn(shape, generator=draw) / (into * side * side) ** 0.5
        state[f"{key}.bias"] = torch.randn(out, generator=draw) * 0.1

    def norm(key, channels):
        if running:
            state[f"{key}.running_mean"] = torch.randn(channels, generator=draw)
            state[f"{key}.running_var"] = torch.rand(channels, generator=draw)
            state[f"{key}.num_batches_tracked"] = torch.tensor(7)

    convolution("model.1", width, 3, 7)
    norm("model.2", width)
    convolution("model.4", 2 * width, width, 3)
    norm("model.5", 2 * width)
    convolution("model.7", 4 * width, 2 * width, 3)
    norm("model.8", 4 * width)
    for number in range(10, 10 + blocks):
        for place in (1,) if single else (1, 6 if dropout else 5):
            convolution(f"model.{number}.conv_block.{place}", 4 * width, 4 * width, 3)
            norm(f"model.{number}.conv_block.{place + 1}", 4 * width)
    behind = 10 + blocks
    convolution(f"model.{behind}", 2 * width, 4 * width, 3, transposed=True)
    norm(f"model.{behind + 1}", 2 * width)
    convolution(f"model.{behind + 3}", width, 2 * width, 3, transposed=True)
    norm(f"model.{behind + 4}", width)
    convolution(f"model.{behind + 7}", 3, width, 7)
    return state


def evaluated(state: dict[str, torch.Tensor], blurred: torch.Tensor) -> torch.Tensor:
    """The authors' network on their own tensors, in the order of their numbers."""
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in state if key.endswith("weight")))
    take = iter(layers)

    def weights():
        layer = next(take)
        return state[f"{layer}.weight"], state[f"{layer}.bias"]

    def framed(x, width):
        return F.pad(x, [width] * 4, mode="reflect")

    x = F.instance_norm(F.conv2d(framed(blurred, 3), *weights())).relu()
    for _ in range(2):
        x = F.instance_norm(F.conv2d(x, *weights(), stride=2, padding=1)).relu()
    for _ in range((len(layers) - 6) // 2):
        inside = F.instance_norm(F.conv2d(framed(x, 1), *weights())).relu()
        x = x + F.instance_norm(F.conv2d(framed(inside, 1), *weights()))
    for _ in range(2):
        x = F.instance_norm(F.conv_transpose2d(x, *weights(), stride=2, padding=1, output_padding=1)).relu()
    return (blurred + F.conv2d(framed(x, 3), *weights()).tanh()).clamp(-1, 1)


@pytest.mark.parametrize("dropout", [False, True], ids=["without dropout", "with dropout"])
@pytest.mark.parametrize("running", [False, True], ids=["without statistics", "with statistics"])
def test_the_converted_network_computes_what_the_authors_did(dropout, running):
    state = deblurgan_state(width=4, blocks=3, dropout=dropout, running=running)
    converted = recognise(state, Path("latest_net_G.pth"))
    expected_options = {"blocks": 3, "width": 4} | ({"dropout": 0.5} if dropout else {})
    assert (converted.architecture, converted.options) == ("resnet", expected_options)
    assert len(converted.tensors) + len(converted.dropped) == len(state)
    assert bool(converted.dropped) == running
    generator = assembled(converted, Path("latest_net_G.pth"), "")
    blurred = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = evaluated(state, blurred)
    assert (expected - blurred).abs().max() > 0.1
    assert torch.allclose(generator(blurred), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [6, 9])
def test_the_published_sizes_are_recognised(blocks):
    state = {key: tensor.to("meta") for key, tensor in deblurgan_state(blocks=blocks).items()}
    assert deblurgan.recognise(state).options == ({"blocks": 6} if blocks == 6 else {})


def test_the_later_masters_network_is_refused_with_the_reason():
    state = deblurgan_state(single=True)
    assert sum(tensor.numel() for tensor in state.values()) == 6_067_459  # the published 6.07 M
    with pytest.raises(
        ModelError, match=r"^G.pth: is from DeblurGAN's later master, whose residual blocks lost their "
    ):
        recognise(state, Path("G.pth"))


def test_zero_padding_and_batch_norm_are_refused_with_the_reason():
    state = deblurgan_state(width=4, blocks=2)
    moved = {
        key.replace("conv_block.1", "conv_block.0").replace("conv_block.5", "conv_block.3"): tensor
        for key, tensor in state.items()
    }
    with pytest.raises(ModelError, match=r"not padded by reflection"):
        recognise(moved, Path("G.pth"))
    with pytest.raises(ModelError, match=r"with batch norm"):
        recognise(state | {"model.2.weight": torch.ones(4)}, Path("G.pth"))


def test_a_tensor_without_a_place_is_an_error():
    state = deblurgan_state(width=4, blocks=2)
    with pytest.raises(ModelError, match=r"but has besides 'model\.99\.weight'"):
        recognise(state | {"model.99.weight": torch.ones(4)}, Path("G.pth"))


def test_a_cut_file_is_an_error_that_names_what_is_missing():
    state = deblurgan_state(width=4, blocks=2)
    del state["model.4.bias"]
    with pytest.raises(ModelError, match=r"but lacks 'model\.4\.bias'"):
        recognise(state, Path("G.pth"))


def test_a_tensor_of_another_shape_is_an_error_that_names_both():
    state = deblurgan_state(width=4, blocks=2) | {"model.4.bias": torch.ones(3)}
    with pytest.raises(ModelError, match=r"does not fit it: 'stem\.4\.bias' is \[3\] where the network has \[8\]"):
        assembled(recognise(state, Path("G.pth")), Path("G.pth"), "")
