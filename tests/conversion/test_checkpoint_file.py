"""Files are opened without running what is in them, and wrappings come off."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deblur_hub import DeblurGenerator
from deblur_hub.conversion import convert
from deblur_hub.conversion.checkpoint_file import load, state_dict
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network
from tests.conftest import TINY, awake
from tests.conversion.test_deblurgan import deblurgan_state

STATE = {"a.weight": torch.ones(2), "b.weight": torch.zeros(3)}


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        {f"module.{key}": tensor for key, tensor in STATE.items()},
        {"model": {f"module.{key}": tensor for key, tensor in STATE.items()}},
        {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {}}},
        {"params": {"a.weight": torch.zeros(2)}, "params_ema": STATE},
        {"model": {"state_dict": {f"module._orig_mod.{key}": tensor for key, tensor in STATE.items()}}},
    ],
    ids=["plain", "module", "model and module", "beside an optimizer", "the average of two", "three layers"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_wrappings_come_off(tmp_path, wrapped, legacy):
    path = tmp_path / "net.pth"
    torch.save(wrapped, path, _use_new_zipfile_serialization=not legacy)
    tensors, _ = state_dict(load(path), path)
    assert {key: tensor.tolist() for key, tensor in tensors.items()} == {
        key: tensor.tolist() for key, tensor in STATE.items()
    }


def test_what_is_passed_over_is_listed_with_the_reason(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": STATE | {"version": 2}, "epoch": 3}, path)
    _, passed_over = state_dict(load(path), path)
    assert passed_over == {"epoch": "beside 'state_dict', which holds the generator", "state_dict.version": "no tensor"}


def test_safetensors_are_read_as_well(tmp_path):
    save_file(STATE, tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").keys() == STATE.keys()


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "evil": Evil()}, tmp_path / "net.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil()))
    for name in ("net.pth", "plain.pkl"):
        with pytest.raises(ModelError) as error:
            convert(Path(name), tmp_path / "model")
        assert str(error.value).startswith(f"{name}: needs more than tensors to be read")
    assert not (tmp_path / "pwned").exists() and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "cannot be read"),
        (b"not a checkpoint at all", "net.pth: "),
        (b"", "cannot be read"),
        (b"PK\x03\x04" + bytes(50), "cannot be read"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_sentence(tmp_path, content, message):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        convert(tmp_path / "net.pth", tmp_path / "model")
    assert "\n" not in str(error.value)


def test_a_cut_file_is_one_sentence(tmp_path):
    torch.save(deblurgan_state(width=4, blocks=2), tmp_path / "net.pth")
    whole = (tmp_path / "net.pth").read_bytes()
    for share in (0.2, 0.7, 0.99):
        (tmp_path / "net.pth").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError):
            convert(tmp_path / "net.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (STATE, "2 tensors ('a.weight' [2], 'b.weight' [3] ...) of a layout that is not known"),
        ({"epoch": 3}, "holds no tensors by name"),
        ([torch.ones(2)], "holds no tensors by name"),
    ],
)
def test_what_is_no_generator_is_one_sentence(tmp_path, content, message):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ModelError) as error:
        convert(tmp_path / "net.pth", tmp_path / "model")
    assert message in str(error.value)


def test_missing_files_and_folders_without_parts_are_one_sentence(tmp_path, generator):
    with pytest.raises(ModelError, match="no such file"):
        convert(tmp_path / "net.pth", tmp_path / "model")
    with pytest.raises(ModelError, match=r"a folder without \.pkl parts"):
        convert(tmp_path, tmp_path / "model")
    generator.save_pretrained(tmp_path / "ours")
    with pytest.raises(ModelError, match="is a model folder already"):
        convert(tmp_path / "ours", tmp_path / "model")


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = deblurgan_state(width=4, blocks=2)
    state["model.4.bias"][0] = float("nan")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"'stem\.4\.bias' holds values that are not finite"):
        convert(tmp_path / "net.pth", tmp_path / "model")


def test_the_state_of_a_training_run_becomes_its_averaged_generator(tmp_path):
    average, raw = (awake(build_network("compact", **TINY), seed).state_dict() for seed in (0, 1))
    recipe = {"name": "mine", "generator": "compact", "network": TINY}
    torch.save(
        {"schema_version": 1, "recipe": json.dumps(recipe), "generator": raw, "average": average, "optimizer": {}},
        tmp_path / "last.pt",
    )
    converted = convert(tmp_path / "last.pt", tmp_path / "model", name="mine")
    assert converted.layout == "training state of recipe 'mine'" and "optimizer" in converted.dropped
    loaded = DeblurGenerator.from_pretrained(tmp_path / "model")
    assert all(torch.equal(tensor, average[key]) for key, tensor in loaded.network.state_dict().items())


def test_a_converted_model_is_whole_and_half_precision_is_widened(tmp_path):
    torch.save({key: tensor.half() for key, tensor in deblurgan_state(width=4, blocks=2).items()}, tmp_path / "G.pth")
    convert(tmp_path / "G.pth", tmp_path / "model", name="authors")
    loaded = DeblurGenerator.from_pretrained(tmp_path / "model")
    assert loaded.config.name == "authors"
    assert {weights.dtype for weights in loaded.network.state_dict().values()} == {torch.float32}
    card = (tmp_path / "model" / "README.md").read_text()
    assert "license:" not in card and "DeblurGAN (KupynOrest)" in card and "`G.pth`" in card


def test_a_model_that_is_converted_again_keeps_the_licence_that_people_stated(tmp_path):
    torch.save(deblurgan_state(width=4, blocks=2), tmp_path / "G.pth")
    convert(tmp_path / "G.pth", tmp_path / "model")
    card = tmp_path / "model" / "README.md"
    card.write_text(card.read_text().replace("tags:\n", "license: cc-by-nc-4.0\ntags:\n- my-thesis\n"))
    stated = card.read_text()
    convert(tmp_path / "G.pth", tmp_path / "model", overwrite=True)
    assert card.read_text() == stated
