"""Golden tensors: a model that gives another output than when it was saved is refused, with where and by how much."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deblur_hub import DeblurGenerator, ModelError, list_models
from deblur_hub.cli import main
from deblur_hub.hub import BUNDLED
from deblur_hub.hub.verifying import checksum, read_header, verified_tensors
from tests.conftest import awake


@pytest.fixture
def saved(generator, tmp_path) -> Path:
    return generator.save_pretrained(tmp_path / "model")


@pytest.fixture
def swapped(generator, saved, tmp_path) -> Path:
    """With the weights of another training in the place of its own, which fit in all but what they compute."""
    with torch.no_grad():
        generator.network.stem.weight *= 3
    other = generator.save_pretrained(tmp_path / "other")
    shutil.copy(other / "model.safetensors", saved)
    return saved


def refusal(folder: Path, **options) -> str:
    with pytest.raises(ModelError) as error:
        DeblurGenerator.from_pretrained(folder, device="cpu", verify=True, **options)
    message = str(error.value)
    assert message.isprintable() and len(message) < 500
    return message


def rewrite(folder: Path, tensors: dict | None = None, **metadata: str) -> None:
    """Other golden tensors or metadata, the rest as it is."""
    path = folder / "golden.safetensors"
    with safe_open(path, framework="pt") as file:
        stated = (file.metadata() or {}) | metadata
    save_file(load_file(path) if tensors is None else tensors, path, stated)


def test_what_was_saved_passes_verification(saved):
    assert isinstance(DeblurGenerator.from_pretrained(saved, verify=True), DeblurGenerator)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_another_type_pass_within_its_tolerance(saved, dtype):
    assert DeblurGenerator.from_pretrained(saved, device="cpu", dtype=dtype, verify=True)


def test_the_file_states_a_tolerance_for_each_precision_and_the_norm_of_each_tensor(saved, generator):
    with safe_open(saved / "golden.safetensors", framework="pt") as file:
        stated = file.metadata()
    precisions = [f"tolerance.{precision}" for precision in ("float32", "float16", "bfloat16")]
    assert stated.keys() == {*precisions, "norms"}
    tolerances = [float(stated[key]) for key in precisions]
    assert 0 < tolerances[0] <= tolerances[1] <= tolerances[2] < 1


def test_other_weights_are_loaded_and_fail_verification_by_the_norm_of_the_layer(swapped):
    DeblurGenerator.from_pretrained(swapped)  # nothing else is wrong with them
    message = refusal(swapped)
    assert "gives another output than when it was saved: the largest difference in float32 is " in message
    before = load_file(swapped / "model.safetensors")["stem.weight"].norm().item() / 3
    assert (
        f"the norms of 1 of 20 tensors have changed, most of all 'stem.weight' {3 * before:.4g} in place of" in message
    )


def test_an_output_that_differs_though_the_weights_do_not_is_laid_to_the_arithmetic(saved):
    golden = load_file(saved / "golden.safetensors")
    rewrite(saved, golden | {"output": golden["output"] + 0.25})
    message = refusal(saved)
    assert "the largest difference in float32 is 0.25, allowed are 0.0001; " in message
    assert message.endswith("the norms of all weights are as they were saved, so it is the arithmetic that differs")


def test_golden_tensors_without_norms_are_compared_all_the_same(swapped):
    save_file(load_file(swapped / "golden.safetensors"), swapped / "golden.safetensors")
    message = refusal(swapped)
    assert "allowed are 0.001" in message
    assert message.endswith("no norms were kept that would tell where the weights differ")


def test_the_tolerance_of_the_file_is_the_one_that_counts(saved):
    golden = load_file(saved / "golden.safetensors")
    rewrite(saved, golden | {"output": golden["output"] + 0.25}, **{"tolerance.float32": "0.3"})
    DeblurGenerator.from_pretrained(saved, verify=True)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"tolerance.float32": "wide"}, "cannot be read"),
        ({"tolerance.float32": "inf"}, "would pass nothing, or anything"),
        ({"tolerance.float32": "nan"}, "would pass nothing, or anything"),
        ({"tolerance.bfloat16": "-1"}, "would pass nothing, or anything"),
        ({"norms": "["}, "cannot be read"),
        ({"norms": "[1]"}, "cannot be read"),
        ({"norms": '{"stem.weight": "heavy"}'}, "cannot be read"),
        ({"norms": "[" * 100_000}, "cannot be read"),
    ],
)
def test_golden_tensors_with_senseless_notes_are_refused(saved, metadata, reason):
    rewrite(saved, **metadata)
    assert reason in refusal(saved)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"input": torch.zeros(1, 3, 48, 48)},
        {"input": torch.zeros(1, 3, 48, 48), "output": torch.zeros(1, 3, 48, 49)},
        {"input": torch.zeros(1, 3, 4800, 48), "output": torch.zeros(1, 3, 4800, 48)},
        {"input": torch.zeros(1, 3, 48, 48), "output": torch.zeros(1, 3, 48, 48).half()},
        {"input": torch.zeros(1, 3, 48, 48), "output": torch.zeros(1, 3, 48, 48), "more": torch.zeros(1)},
    ],
)
def test_golden_tensors_of_another_shape_are_refused(saved, tensors):
    rewrite(saved, tensors)
    assert "does not hold an input and an output of [1, 3, 48, 48]" in refusal(saved)


def test_golden_tensors_that_are_not_finite_truncated_or_missing_are_refused(saved):
    golden = load_file(saved / "golden.safetensors")
    rewrite(saved, golden | {"output": golden["output"] * torch.nan})
    assert "holds values that are not finite" in refusal(saved)
    path = saved / "golden.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "is cut short" in refusal(saved)
    path.unlink()
    assert refusal(saved) == f"{saved}: has no golden.safetensors to verify it by; save the model again"


def test_the_shell_verifies_in_one_sentence(saved, swapped, capsys):
    assert main(["verify", str(swapped), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"deblur-hub: {swapped}: gives another output")
    assert said.err.count("\n") == 1


@pytest.mark.slow
def test_every_bundled_model_gives_its_golden_output_and_the_default_in_each_precision(capsys):
    for name in list_models():
        golden = load_file(BUNDLED / name / "golden.safetensors")
        assert not torch.equal(golden["output"], golden["input"])
        assert main(["verify", name, "--device", "cpu", "--precision", "float32"]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: gives its golden output in float32 on cpu; the largest")
    assert main(["verify", "--device", "cpu", "--precision", "bfloat16"]) == 0
    assert capsys.readouterr().out.startswith("maxim: gives its golden output in bfloat16 on cpu; the largest")
    assert main(["verify", "--device", "cpu", "--precision", "float16"]) == 2
    assert "needs a GPU" in capsys.readouterr().err


def test_a_variant_is_verified_by_golden_tensors_of_its_own(generator, saved, capsys):
    generator.save_pretrained(saved, variant="fp16", dtype=torch.float16)
    awake(generator.network, seed=1)
    generator.save_pretrained(saved)
    assert main(["verify", str(saved), "--variant", "fp16", "--device", "cpu"]) == 0
    assert main(["verify", str(saved), "--device", "cpu"]) == 0
    shutil.copy(saved / "golden.fp16.safetensors", saved / "golden.safetensors")
    assert main(["verify", str(saved), "--device", "cpu"]) == 2


def test_values_are_read_as_they_are_stored_wherever_they_begin_and_however_few_they_are(tmp_path):
    """Other writers neither align tensors nor sort them by type."""
    floats = np.arange(3, dtype="<f4").tobytes()
    stored = {"a": ("BOOL", [1], b"\1"), "b": ("F32", [3], floats), "c": ("F16", [0, 2], b"")}
    header, at = {}, 0
    for key, (kind, shape, content) in stored.items():
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [at, at := at + len(content)]}
    text = json.dumps(header).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(content for _, _, content in stored.values()))
    found = read_header("odd", path)
    tensors = verified_tensors("odd", found, np.fromfile(path, np.uint8, offset=found.begin))
    assert {key: tensor.tolist() for key, tensor in tensors.items()} == {"a": [True], "b": [0, 1, 2], "c": []}
    assert checksum(tensors) == checksum({key: tensor.clone() for key, tensor in tensors.items()})
    assert tensors["c"].shape == (0, 2)
