"""The generator as people use it: pictures go through it, it is saved and loaded, and refused where it does not fit."""

import copy
import hashlib
import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deblur_hub import DeblurGenerator, GeneratorConfig, ModelError, hub, list_models
from deblur_hub.networks import NETWORKS
from tests.conftest import TINY, TINY_RESNET, awake

RESNET = GeneratorConfig("resnet", TINY_RESNET | {"dropout": 0.5}, name="tiny resnet")


def picture(height: int = 37, width: int = 53, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pixels(height: int = 37, width: int = 53, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@pytest.fixture
def saved(generator, tmp_path) -> Path:
    return generator.save_pretrained(tmp_path / "model")


@pytest.fixture
def resnet_generator() -> DeblurGenerator:
    made = DeblurGenerator(RESNET)
    awake(made.network)
    return made.eval()


def refusal(folder, **options) -> str:
    """The one sentence with which loading is refused."""
    with pytest.raises(ModelError) as error:
        DeblurGenerator.from_pretrained(folder, **options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 400
    return message


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """Equal weights to the bit, and outputs up to rounding: memory formats differ, and with them the order of sums."""
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys() and all(torch.equal(tensor, right[key]) for key, tensor in left.items())
    with torch.no_grad():
        assert torch.allclose(one(picture(32, 48)), other(picture(32, 48)), atol=1e-4)


# --- forward -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["compact", "resnet"]))
@example(1, 1, "compact")
@example(1, 2, "resnet")
@example(3, 5, "resnet")
def test_one_pass_takes_any_size_and_gives_what_restoring_gives(height, width, architecture):
    if architecture == "resnet":
        assume(height * width > 1)  # of a flat picture, instance normalisation makes enlarged rounding errors
    made = DeblurGenerator(GeneratorConfig(architecture, TINY if architecture == "compact" else TINY_RESNET))
    awake(made.network)
    made.double()
    blurred = picture(height, width)
    with torch.no_grad():
        output = made(blurred.double())
    assert output.shape == blurred.shape and output.isfinite().all()
    assert torch.allclose(output.clamp(-1, 1).float(), made.restore(blurred), atol=1e-5)


def test_a_pass_is_differentiable_down_to_every_weight_and_pixel(generator):
    blurred = picture().requires_grad_()
    generator(blurred).square().mean().backward()
    assert blurred.grad.abs().sum() > 0
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in generator.parameters())


# --- deblur ------------------------------------------------------------------------------------------------------


def test_every_way_to_hand_over_a_picture_gives_the_same_pixels(generator, tmp_path):
    array = pixels()
    Image.fromarray(array).save(tmp_path / "photo.png")
    expected = generator.deblur(array)
    assert isinstance(expected, np.ndarray) and expected.dtype == np.uint8 and expected.shape == array.shape
    assert not np.array_equal(expected, array)
    content = (tmp_path / "photo.png").read_bytes()
    path = tmp_path / "photo.png"
    for source in (Image.fromarray(array), path, str(path), content, io.BytesIO(content)):
        restored = generator.deblur(source)
        assert isinstance(restored, Image.Image) and restored.mode == "RGB"
        assert np.array_equal(np.asarray(restored), expected)


def test_what_deblur_gives_is_what_the_network_gives_rounded(generator):
    array = pixels(32, 48)
    with torch.no_grad():
        output = generator(torch.from_numpy(array).permute(2, 0, 1)[None] / 127.5 - 1)[0]
    expected = ((output.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(generator.deblur(array, precision="float32") - expected).max() <= 1
    assert (generator.deblur(array, precision="float32") == expected).mean() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (15, 17), (16, 16)])
@pytest.mark.parametrize("architecture", ["compact", "resnet"])
def test_a_picture_of_any_size_keeps_it(size, architecture, generator, resnet_generator):
    made = {"compact": generator, "resnet": resnet_generator}[architecture]
    assert made.deblur(Image.new("RGB", size, (90, 120, 30))).size == size


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "F"])
def test_a_picture_keeps_its_mode(mode, generator):
    base = Image.fromarray(pixels())
    before = base.convert("I").convert(mode) if mode == "I;16" else base.convert(mode)
    if mode == "F":
        before = before.point(lambda value: value / 255 + 0)
    after = generator.deblur(before)
    assert (after.mode, after.size) == (mode, before.size)


def test_an_array_keeps_its_shape_and_type(generator):
    for shape in ((20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)):
        for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)):
            before = (np.random.default_rng(0).random(shape) * top).astype(dtype)
            after = generator.deblur(before)
            assert (after.shape, after.dtype) == (shape, dtype)


def test_restoring_a_file_writes_the_same_pixels(generator, tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "photo.png")
    target = generator.deblur_file(tmp_path / "photo.png", tmp_path / "sharp.png")
    assert target == tmp_path / "sharp.png"
    assert np.array_equal(np.asarray(Image.open(target)), np.asarray(generator.deblur(tmp_path / "photo.png")))


def test_dropout_plays_no_part_in_deblur_and_the_mode_of_every_part_is_what_it_was(resnet_generator):
    expected = resnet_generator.deblur(pixels())
    resnet_generator.train()
    resnet_generator.network.stem.eval()  # as somebody who trains only a part of it
    modes = [part.training for part in resnet_generator.modules()]
    assert np.array_equal(resnet_generator.deblur(pixels()), expected)
    assert [part.training for part in resnet_generator.modules()] == modes
    with pytest.raises(RuntimeError, match="on purpose"):
        resnet_generator.deblur(pixels(), progress=lambda *_: (_ for _ in ()).throw(RuntimeError("on purpose")))
    assert [part.training for part in resnet_generator.modules()] == modes


def test_tile_and_progress_reach_the_tiles(generator):
    seen = []
    tiled = generator.deblur(pixels(100, 130), tile=64, precision="float32", progress=lambda *count: seen.append(count))
    assert seen[-1] == (len(seen), len(seen)) and len(seen) > 1
    whole = generator.deblur(pixels(100, 130), tile=0, precision="float32")
    assert np.abs(tiled.astype(int) - whole).max() <= 1


# --- as a module -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["deepcopy", "pickle"]
)
def test_a_copy_does_the_same_and_shares_nothing(generator, copied):
    twin = copied(generator)
    assert torch.equal(twin(picture()), generator(picture())) and twin.config == generator.config
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert not torch.equal(twin(picture()), generator(picture()))


def test_it_is_a_module_like_any_other(generator):
    generator.train()  # like a fresh one; values are not clipped then
    other = DeblurGenerator(generator.config)
    assert not torch.equal(other(picture()), generator(picture()))
    other.load_state_dict(generator.state_dict())
    assert torch.equal(other(picture()), generator(picture()))
    assert generator.half()(picture().half()).dtype == torch.float16


def test_the_representation_names_model_and_size(generator):
    count = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
    assert repr(generator) == f"DeblurGenerator(tiny, {count:.2f} M parameters, float32 on cpu)"
    assert repr(generator.half()).endswith(", float16 on cpu)")
    assert repr(generator.to("meta")).endswith(", float16 on meta)")
    assert repr(DeblurGenerator(GeneratorConfig("compact", TINY))).startswith("DeblurGenerator(compact, ")


# --- saved and loaded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GeneratorConfig("compact", TINY, name="tiny"), RESNET], ids=["compact", "resnet"])
def test_what_was_saved_is_loaded_bit_by_bit(config, tmp_path):
    made = DeblurGenerator(config)
    awake(made.network)
    loaded = DeblurGenerator.from_pretrained(made.save_pretrained(tmp_path / "model"))
    assert loaded.config.architecture == config.architecture and loaded.config.name == config.name
    assert not loaded.training and all(parameter.requires_grad for parameter in loaded.parameters())
    assert_same(loaded.network, made.network)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float16, 11), (torch.bfloat16, 8)])
def test_half_precision_halves_the_file_and_rounds_the_weights_once(generator, tmp_path, dtype, bits):
    full = generator.save_pretrained(tmp_path / "full") / "model.safetensors"
    half = generator.save_pretrained(tmp_path / "half", dtype=dtype) / "model.safetensors"
    data = sum(parameter.numel() for parameter in generator.parameters())
    assert full.stat().st_size - half.stat().st_size == pytest.approx(2 * data, rel=0.02)
    loaded = DeblurGenerator.from_pretrained(half.parent)
    for key, tensor in generator.state_dict().items():
        assert loaded.state_dict()[key].dtype == torch.float32
        assert torch.allclose(loaded.state_dict()[key], tensor, rtol=2.0**-bits, atol=1e-7)
    change = loaded.restore(picture(), precision="float32") - generator.restore(picture(), precision="float32")
    assert change.abs().max() < 2.0 ** (4 - bits)


def test_weights_take_the_type_that_was_asked_for(saved):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        loaded = DeblurGenerator.from_pretrained(saved, dtype=dtype)
        assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
        assert loaded.deblur(pixels()).shape == pixels().shape


def test_a_model_loads_onto_the_device_that_was_asked_for(saved):
    assert next(DeblurGenerator.from_pretrained(saved, device="cpu").parameters()).device.type == "cpu"
    assert "'banana' cannot be used" in refusal(saved, device="banana")
    if not torch.cuda.is_available():
        assert refusal(saved, device="cuda").endswith("take 'cpu'")


def test_a_variant_lies_beside_the_plain_weights(generator, saved):
    generator.save_pretrained(saved, variant="fp16", dtype=torch.float16)
    assert {"model.safetensors", "model.fp16.safetensors"} <= {file.name for file in saved.iterdir()}
    assert load_file(saved / "model.fp16.safetensors").popitem()[1].dtype == torch.float16
    assert_same(DeblurGenerator.from_pretrained(saved), generator)
    half = DeblurGenerator.from_pretrained(saved, variant="fp16").network.stem.weight
    assert torch.equal(half, generator.network.stem.weight.half().float())
    assert "has no model.ema.safetensors" in refusal(saved, variant="ema")


def test_a_model_in_a_subfolder_is_found(generator, tmp_path):
    generator.save_pretrained(tmp_path / "all" / "first")
    assert_same(DeblurGenerator.from_pretrained(tmp_path / "all", subfolder="first"), generator)


def test_the_golden_output_is_what_the_loaded_model_gives(saved):
    golden = load_file(saved / "golden.safetensors")
    output = DeblurGenerator.from_pretrained(saved).restore(golden["input"], precision="float32")
    assert (output - golden["input"]).abs().max() > 0.1
    assert torch.allclose(output, golden["output"], atol=1e-5)


def test_saving_does_not_change_what_is_saved(generator, tmp_path):
    before = copy.deepcopy(generator.state_dict())
    generator.train().save_pretrained(tmp_path, dtype=torch.float16)
    assert generator.training
    assert all(
        torch.equal(tensor, before[key]) and tensor.dtype == torch.float32
        for key, tensor in generator.state_dict().items()
    )


def test_a_saved_model_holds_four_files_that_others_may_read_and_a_card_with_front_matter(saved):
    assert sorted(file.name for file in saved.iterdir()) == [
        "README.md",
        "config.json",
        "golden.safetensors",
        "model.safetensors",
    ]
    assert len({file.stat().st_mode for file in saved.iterdir()}) == 1
    card = (saved / "README.md").read_text()
    assert card.startswith("---\n") and "library_name: deblur-hub" in card and "pipeline_tag: image-to-image" in card


def test_saving_again_puts_the_new_in_the_place_of_the_old(generator, saved):
    awake(generator.network, seed=1)
    generator.save_pretrained(saved, card="mine")
    assert_same(DeblurGenerator.from_pretrained(saved), generator)
    assert (saved / "README.md").read_text() == "mine" and len(list(saved.iterdir())) == 4


def test_the_same_model_saved_twice_is_the_same_to_the_byte(generator, tmp_path):
    for name in ("a", "b"):
        generator.save_pretrained(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


# --- saving that fails -------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_fills_up_leaves_what_was_there_and_nothing_else(generator, saved, monkeypatch, at):
    before = contents(saved)
    calls = []

    def filling_up(tensors, path, *arguments):
        calls.append(path)
        Path(path).write_bytes(b"the first few bytes")
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        save_file(tensors, path, *arguments)

    monkeypatch.setattr(hub.writing, "save_file", filling_up)
    awake(generator.network, seed=1)
    with pytest.raises(ModelError, match=r"cannot be written .*No space left on device"):
        generator.save_pretrained(saved)
    assert contents(saved) == before and len(list(saved.iterdir())) == 4
    calls.clear()
    with pytest.raises(ModelError):
        generator.save_pretrained(saved.parent / "fresh")
    assert not (saved.parent / "fresh").exists()


def test_a_folder_that_is_in_the_way_leaves_what_was_there(generator, saved):
    (saved / "golden.safetensors").unlink()
    (saved / "golden.safetensors").mkdir()
    before = contents(saved)
    awake(generator.network, seed=1)
    with pytest.raises(ModelError, match=r"there is a folder called golden\.safetensors"):
        generator.save_pretrained(saved)
    assert contents(saved) == before and len(list(saved.iterdir())) == 4


def test_a_file_in_the_place_of_the_folder_is_one_sentence(generator, tmp_path):
    (tmp_path / "model").write_text("a note")
    with pytest.raises(ModelError, match=r"model: cannot be written .*; name another folder"):
        generator.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "a note"


def test_weights_that_could_not_be_read_back_are_not_written(generator, saved):
    before = contents(saved)
    generator.network.stem.bias.data[0] = 1e6
    with pytest.raises(ModelError, match=r"tensor 'stem\.bias' .* not finite in float16; save it in float32"):
        generator.save_pretrained(saved, dtype=torch.float16)
    with pytest.raises(ModelError, match="int8 is not one that weights can have"):
        generator.save_pretrained(saved, dtype=torch.int8)
    assert contents(saved) == before


# --- strictness --------------------------------------------------------------------------------------------------


def rewrite(folder: Path, change) -> None:
    """Changes the tensors, and leaves their checksum away."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")


def test_weights_without_a_checksum_are_taken_if_all_else_fits(saved, generator):
    rewrite(saved, dict)
    assert_same(DeblurGenerator.from_pretrained(saved), generator)


def test_a_missing_tensor_is_refused_by_name(saved):
    rewrite(saved, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != "stem.bias"})
    assert "model.safetensors lacks 1 tensor(s), such as 'stem.bias'" in refusal(saved)


def test_a_surplus_tensor_is_refused_by_name(saved):
    rewrite(saved, lambda tensors: tensors | {"step.bias": torch.zeros(3)})
    assert "has 1 tensor(s) that this network lacks, such as 'step.bias'" in refusal(saved)


def test_a_misspelt_tensor_is_refused_with_the_name_that_it_should_have(saved):
    rewrite(saved, lambda tensors: {key.replace("stem.", "stam."): tensor for key, tensor in tensors.items()})
    assert "such as 'stam.bias' (did you mean 'stem.bias'?)" in refusal(saved)


def test_keys_that_all_begin_with_module_are_refused(saved):
    rewrite(saved, lambda tensors: {f"module.{key}": tensor for key, tensor in tensors.items()})
    assert "tensor(s) that this network lacks, such as 'module." in refusal(saved)


def test_a_surplus_tensor_with_a_name_of_a_megabyte_is_refused_in_a_short_sentence(saved):
    rewrite(saved, lambda tensors: tensors | {"x" * 1_000_000: torch.zeros(3)})
    assert "that this network lacks, such as 'xxx" in refusal(saved)


@pytest.mark.parametrize(
    "reshaped", [lambda bias: bias[:-1].clone(), lambda bias: bias[None].clone(), lambda bias: bias[0].clone()]
)
def test_a_tensor_of_another_shape_is_refused_with_both_shapes(saved, reshaped):
    rewrite(saved, lambda tensors: tensors | {"stem.bias": reshaped(tensors["stem.bias"])})
    shape = list(reshaped(torch.zeros(8)).shape)
    assert f"tensor 'stem.bias' is {shape} where the network wants [8]" in refusal(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(saved, value):
    rewrite(saved, lambda tensors: tensors | {"stem.bias": torch.full((8,), value)})
    assert "tensor 'stem.bias' holds values that are not finite" in refusal(saved)


def test_an_integer_tensor_is_refused(saved):
    rewrite(saved, lambda tensors: tensors | {"stem.bias": torch.zeros(8, dtype=torch.int32)})
    assert "tensor 'stem.bias' is of type int32, not of floats" in refusal(saved)


@pytest.fixture
def counting_generator() -> DeblurGenerator:
    """With batch normalisation, which counts the batches that its statistics are of."""
    made = DeblurGenerator(GeneratorConfig("resnet", TINY_RESNET | {"norm": "batch"}, name="tiny batch"))
    made.train()
    for seed in range(3):
        made(picture(seed=seed))
    return made.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_counts_stay_whole_numbers_whatever_type_the_weights_are_stored_and_loaded_in(
    counting_generator, tmp_path, dtype
):
    folder = counting_generator.save_pretrained(tmp_path / "model", dtype=dtype)
    for loaded in (
        load_file(folder / "model.safetensors"),
        DeblurGenerator.from_pretrained(folder, dtype=dtype).network.state_dict(),
    ):
        counts = [tensor for key, tensor in loaded.items() if key.endswith("num_batches_tracked")]
        assert len(counts) > 3 and all(tensor.dtype == torch.int64 and tensor == 3 for tensor in counts)
        assert {tensor.dtype for key, tensor in loaded.items() if not key.endswith("tracked")} == {dtype}


def test_running_statistics_are_loaded_bit_by_bit_and_the_golden_output_knows_them(counting_generator, tmp_path):
    folder = counting_generator.save_pretrained(tmp_path / "model")
    loaded = DeblurGenerator.from_pretrained(folder)
    assert_same(loaded.network, counting_generator.network)
    golden = load_file(folder / "golden.safetensors")
    assert torch.allclose(loaded.restore(golden["input"], precision="float32"), golden["output"], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
def test_a_count_of_another_type_is_refused(counting_generator, tmp_path, dtype):
    folder = counting_generator.save_pretrained(tmp_path / "model")
    count = next(key for key in counting_generator.network.state_dict() if key.endswith("num_batches_tracked"))
    rewrite(folder, lambda tensors: tensors | {count: tensors[count].to(dtype)})
    assert f"tensor '{count}' is of type {str(dtype)[6:]}, not of int64; save it again" in refusal(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[:kept])
    assert "model.safetensors is not a safetensors file, or is cut short" in refusal(saved)


def test_a_flipped_bit_is_refused_wherever_in_the_weights_it_is(saved):
    content = (saved / "model.safetensors").read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    for at in (data, data + 1001, len(content) - 1):
        damaged = bytearray(content)
        damaged[at] ^= 1
        (saved / "model.safetensors").write_bytes(damaged)
        assert refusal(saved).endswith("model.safetensors fails its checksum; download or save it again")


@pytest.mark.parametrize("at", [0, 3, 9, 60])
def test_a_damaged_header_is_refused_in_a_sentence(saved, at):
    damaged = bytearray((saved / "model.safetensors").read_bytes())
    damaged[at] ^= 0x55
    (saved / "model.safetensors").write_bytes(damaged)
    refusal(saved)


class Burglar:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.pth"])
def test_a_pickle_is_never_opened_and_the_refusal_says_so(saved, name):
    mark = saved.parent / "burgled"
    pickle.loads(pickle.dumps(Burglar(mark)))
    assert mark.exists()  # so the pickle does what it is feared for
    mark.unlink()
    (saved / "model.safetensors").unlink()
    torch.save({"stem.weight": Burglar(mark)}, saved / name)
    never_opened = f"(it holds {name}, which is never opened"
    assert ("is not a safetensors file" if name == "model.safetensors" else never_opened) in refusal(saved)
    assert not mark.exists()


def test_weights_of_another_architecture_are_refused(saved, resnet_generator, tmp_path):
    other = resnet_generator.save_pretrained(tmp_path / "other")
    shutil.copy(other / "model.safetensors", saved)
    assert "the weights are of another architecture than config.json" in refusal(saved)


def test_weights_of_another_width_are_refused(saved, tmp_path):
    other = DeblurGenerator(GeneratorConfig("compact", TINY | {"widths": [8, 24]})).save_pretrained(tmp_path / "other")
    shutil.copy(other / "model.safetensors", saved)
    assert "the weights are of another size than config.json" in refusal(saved)


def edit(folder: Path, **changes) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def test_an_unknown_architecture_is_refused_with_those_that_are_known(saved):
    edit(saved, architecture="nafnet2")
    assert refusal(saved) == (
        f"{saved}: config.json asks for architecture 'nafnet2', which this version does not know "
        f"(it knows: {', '.join(NETWORKS)})"
    )


def test_an_unknown_option_is_refused_with_the_nearest(saved):
    edit(saved, width=[8])
    assert "config.json: compact: unknown option 'width' (did you mean 'widths'?)" in refusal(saved)


def test_a_configuration_that_asks_for_terabytes_is_refused_before_they_are_taken(saved):
    edit(saved, widths=[10**9, 10**9])
    assert "out of range" in refusal(saved)
    edit(saved, widths=[8192] * 4, blocks=[64] * 4)
    assert "billion parameters, out of all proportion" in refusal(saved)


def test_lists_that_do_not_belong_together_are_refused(saved):
    edit(saved, widths=[8, 16, 32])
    assert "widths [8, 16, 32] and blocks [1, 1] differ in length" in refusal(saved)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        "\ufeff{}",
        "{}",
        '{"schema_version": true}',
        '{"schema_version": 1, "architecture": ["compact"]}',
    ],
)
def test_a_configuration_that_is_none_is_refused(saved, text):
    (saved / "config.json").write_text(text, encoding="utf-8")
    assert refusal(saved).startswith(f"{saved}: config.json: ")


def test_a_configuration_of_random_bytes_is_refused(saved):
    (saved / "config.json").write_bytes(b"\xff\xfe\x00\x01" * 10)
    assert "config.json cannot be read" in refusal(saved)


# --- finding -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bundled(generator, tmp_path, monkeypatch) -> DeblurGenerator:
    """A generator that is bundled under the name of the default."""
    monkeypatch.setattr(hub.bundled, "BUNDLED", tmp_path / "weights")
    generator.save_pretrained(tmp_path / "weights" / "artful")
    generator.save_pretrained(tmp_path / "weights" / hub.DEFAULT_MODEL)
    return generator


def test_bundled_models_are_found_by_name_and_the_default_by_none(bundled):
    assert list_models() == [hub.DEFAULT_MODEL, "artful"]
    for name in (None, hub.DEFAULT_MODEL, "artful"):
        assert_same(DeblurGenerator.from_pretrained(name), bundled)


def test_an_unknown_name_is_refused_with_the_nearest_one(bundled):
    assert refusal("maxmi") == (
        "model 'maxmi': neither a bundled model (maxim, artful), nor a folder, nor a hub "
        "repository 'owner/name' (did you mean 'maxim'?)"
    )
    assert refusal("compact-gan") == (
        "model 'compact-gan': was bundled up to 0.1.0; take the default and its crispness (--crispness 0.5)"
    )


def test_a_name_with_a_dot_before_it_is_a_folder(bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "neither a bundled model" in refusal("./maxim")
    other = DeblurGenerator(bundled.config)
    other.save_pretrained("maxim")
    for name in ("./maxim", Path("maxim")):
        assert_same(DeblurGenerator.from_pretrained(name), other)
    assert_same(DeblurGenerator.from_pretrained("maxim"), bundled)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a" * 5000, "a\0b", "../../etc/passwd", "a/b/c", "http://a/b", "ä/ö"]
)
def test_a_name_that_cannot_be_is_refused_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(name)


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: has no config.json; a model folder is what save_pretrained() writes"


def test_a_file_in_place_of_a_folder_is_refused(saved):
    assert "is a file, not a model folder" in refusal(saved / "model.safetensors")
    (saved / "net.pth").touch()
    assert refusal(str(saved / "net.pth")).endswith("bring it into our format first")


def test_a_revision_of_a_folder_is_refused(saved):
    assert refusal(saved, revision="main") == (
        f"model '{saved}': 'revision' is for hub repositories, and this is a local folder; omit it"
    )


def test_a_subfolder_that_is_not_there_is_refused_by_name(saved):
    assert refusal(saved, subfolder="second").startswith(f"{saved / 'second'}: has no config.json")


def test_an_unknown_argument_is_a_type_error_and_not_swallowed(saved, generator):
    for call in (
        lambda: DeblurGenerator.from_pretrained(saved, varaint="fp16"),
        lambda: generator.save_pretrained(saved, variants="fp16"),
        lambda: generator.deblur(pixels(), tiles=3),
    ):
        with pytest.raises(TypeError, match="unexpected keyword"):
            call()


def test_a_type_that_weights_cannot_have_is_refused(saved):
    assert "torch.int8 is not one that weights can have" in refusal(saved, dtype=torch.int8)


def test_the_checksum_is_in_the_header_of_the_file(saved):
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert len(bytes.fromhex(file.metadata()["sha256"])) == 32


@pytest.mark.parametrize(
    ("architecture", "options"), [("compcat", {}), ("compact", {"width": 3}), ("compact", {"widths": 3})]
)
def test_a_generator_is_not_built_from_a_wrong_configuration(architecture, options):
    with pytest.raises(ModelError):
        DeblurGenerator(GeneratorConfig(architecture, options))


def test_what_forward_gives_stays_in_range_in_evaluation(generator):
    with torch.no_grad():
        generator.network.head.bias.fill_(3.0)
        restored = generator.eval()(torch.zeros(1, 3, 33, 21))
    assert restored.abs().max() <= 1
    assert generator.train()(torch.zeros(1, 3, 33, 21)).abs().max() > 1
