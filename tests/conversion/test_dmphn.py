"""DMPHN's checkpoints as the authors publish them: a folder of encoders and decoders, one file a level each."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_hub.conversion.dmphn import recognise
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network
from tests.conftest import awake
from tests.test_networks import on_meta

torch.set_num_threads(1)


def part(kind: str, width: int) -> dict[str, tuple[int, ...]]:
    """The authors' keys and shapes of an encoder or a decoder, in their order."""
    one, two, four = width, 2 * width, 4 * width
    if kind == "encoder":
        plain = {1: (one, 3, 3, 3), 5: (two, one, 3, 3), 9: (four, two, 3, 3)}
        blocks = {2: one, 3: one, 6: two, 7: two, 10: four, 11: four}
    else:
        plain = {16: (four, two, 4, 4), 20: (two, one, 4, 4), 24: (3, one, 3, 3)}
        blocks = {13: four, 14: four, 17: two, 18: two, 21: one, 22: one}
    shapes = {}
    for number in sorted(plain.keys() | blocks.keys()):
        if number in plain:
            shapes[f"layer{number}.weight"] = plain[number]
            shapes[f"layer{number}.bias"] = plain[number][1:2] if number in (16, 20) else plain[number][:1]
            continue
        for place in (0, 2):
            shapes[f"layer{number}.{place}.weight"] = (blocks[number], blocks[number], 3, 3)
            shapes[f"layer{number}.{place}.bias"] = (blocks[number],)
    return shapes


def published(levels: int, width: int, device: str = "cpu") -> dict[str, Tensor]:
    return {
        f"{kind}_lv{level}.{key}": torch.randn(shape, device=device)
        * 0.7
        / max(1, torch.Size(shape[1:]).numel()) ** 0.5
        for kind in ("encoder", "decoder")
        for level in range(1, levels + 1)
        for key, shape in part(kind, width).items()
    }


def by_hand(tensors: dict[str, Tensor], picture: Tensor, levels: int) -> Tensor:
    """The paper's figure on the authors' tensors and range, [0, 1] minus 0.5, patch by patch."""

    def conv(name, x, **options):
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1, **options)

    def up(name, x):
        return F.conv_transpose2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=2, padding=1)

    def blocks(level, x, *numbers):
        for number in numbers:
            x = x + conv(f"{level}.layer{number}.2", conv(f"{level}.layer{number}.0", x).relu())
        return x

    def encoded(level, x):
        level = f"encoder_lv{level}"
        x = blocks(level, conv(f"{level}.layer1", x), 2, 3)
        x = blocks(level, conv(f"{level}.layer5", x, stride=2), 6, 7)
        return blocks(level, conv(f"{level}.layer9", x, stride=2), 10, 11)

    def decoded(level, x):
        level = f"decoder_lv{level}"
        x = up(f"{level}.layer16", blocks(level, x, 13, 14))
        x = up(f"{level}.layer20", blocks(level, x, 17, 18))
        return conv(f"{level}.layer24", blocks(level, x, 21, 22))

    top, bottom = picture.chunk(2, 2)
    quarters = [*top.chunk(2, 3), *bottom.chunk(2, 3)]
    residuals, finer = [0, 0, 0, 0], [0, 0]
    if levels == 4:
        columns = [torch.cat([encoded(4, eighth) for eighth in quarter.chunk(2, 2)], 2) for quarter in quarters]
        residuals = [decoded(4, column) for column in columns]
        finer = [torch.cat(columns[:2], 3), torch.cat(columns[2:], 3)]
    seen = [encoded(3, quarter + residual) for quarter, residual in zip(quarters, residuals, strict=True)]
    halves = [torch.cat(seen[:2], 3) + finer[0], torch.cat(seen[2:], 3) + finer[1]]
    second = [encoded(2, top + decoded(3, halves[0])), encoded(2, bottom + decoded(3, halves[1]))]
    whole = torch.cat(second, 2) + torch.cat(halves, 2)
    return decoded(1, encoded(1, picture + decoded(2, whole)) + whole)


@pytest.mark.parametrize(("levels", "patches"), [(4, "1-2-4-8"), (3, "1-2-4")])
def test_the_authors_parts_compute_the_same_here(levels, patches):
    torch.manual_seed(levels)
    tensors = published(levels, width=4)
    converted = recognise(tensors)
    assert (converted.architecture, converted.dropped) == ("dmphn", {})
    assert converted.options == ({"width": 4} if levels == 4 else {"patches": patches, "width": 4})
    assert len(converted.tensors) == len(tensors)
    network = build_network("dmphn", **converted.options)
    network.load_state_dict(converted.tensors)

    blurred = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        expected = (by_hand(tensors, (blurred + 1) / 2 - 0.5, levels) + 0.5) * 2 - 1
        assert (expected - blurred).abs().max() > 0.1
        assert torch.allclose(network.eval()(blurred), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("levels", "preset"), [(4, "dmphn"), (3, "dmphn-1-2-4")])
def test_the_published_size_is_a_preset(levels, preset):
    converted = recognise(published(levels, width=32, device="meta"))
    assert converted.options == ({} if levels == 4 else {"patches": "1-2-4"})
    wanted = on_meta(preset).state_dict()
    assert {key: tensor.shape for key, tensor in converted.tensors.items()} == {
        key: tensor.shape for key, tensor in wanted.items()
    }


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_single_part_is_refused_with_the_advice_to_give_the_folder(kind):
    with pytest.raises(ModelError, match=f"one {kind} of a DMPHN .* give the folder that holds it"):
        recognise({key: torch.empty(shape, device="meta") for key, shape in part(kind, 32).items()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda key: None if key.startswith("decoder_lv2.") else key, "lacks decoder_lv2.pkl"),
        (lambda key: None if "_lv1." in key else key, "this DMPHN lacks decoder_lv1.pkl, encoder_lv1.pkl;"),
        (
            lambda key: None if "lv1" not in key else key,
            "lacks decoder_lv2.pkl, decoder_lv3.pkl, encoder_lv2.pkl, encoder_lv3.pkl;",
        ),
        (lambda key: key.replace("lv4", "lv5"), "lacks decoder_lv4.pkl, encoder_lv4.pkl;"),
        (
            lambda key: None if key == "encoder_lv3.layer6.2.bias" else key,
            "lacks 'encoder_lv3.layer6.2.bias'",
        ),
        (lambda key: key.replace("lv1.layer24", "lv1.layer23"), "has besides 'decoder_lv1.layer23.bias'"),
        (lambda key: key.replace("_lv", "_s1_lv"), "stack of several DMPHNs"),
    ],
)
def test_a_folder_that_is_no_whole_hierarchy_is_refused_by_what_it_lacks(spoil, message):
    tensors = {spoil(key): tensor for key, tensor in published(4, 4, "meta").items() if spoil(key)}
    with pytest.raises(ModelError) as error:
        recognise(tensors)
    assert message in str(error.value)


def test_a_hierarchy_of_five_levels_is_refused():
    with pytest.raises(ModelError, match=r"has 5 levels; .* for each of 3 or 4 levels"):
        recognise(published(5, 4, "meta"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compact", "resnet", "dmphn", "unet"])
def test_other_networks_and_our_own_are_none_of_it(name):
    assert recognise(awake(build_network(name, **({"width": 4} if name != "compact" else {}))).state_dict()) is None


def test_other_layers_of_the_same_name_are_none_of_it():
    keys = ("layer1.0.conv1.weight", "layer1.weight", "encoder_lv1", "encoder.layer1.weight", "encoder_lv1.conv.weight")
    assert recognise({}) is None
    assert recognise({key: torch.zeros(1) for key in keys}) is None
