"""What an earlier version saved is loaded by every later one, and does what it did.

`data/saved-by-0.1.0` is kept as that version wrote it, by `save_pretrained`, and is not to be written again.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from deblur_hub import DeblurGenerator
from deblur_hub.cli import main

SAVED = sorted((Path(__file__).parent / "data").glob("saved-by-*/*"))
BUDGET = 200_000  # bytes of each model in the repository


def test_there_are_models_of_the_first_version():
    assert [str(folder.relative_to(folder.parents[1])) for folder in SAVED][:2] == [
        "saved-by-0.1.0/compact",
        "saved-by-0.1.0/resnet",
    ]


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
class TestOfAnEarlierVersion:
    def test_it_is_kept_as_it_was_written_and_small(self, folder):
        written = json.loads((folder / "config.json").read_text())
        assert folder.parent.name == f"saved-by-{written['library_version']}"
        assert sum(file.stat().st_size for file in folder.iterdir()) < BUDGET

    def test_it_loads_to_the_weights_of_its_file(self, folder):
        loaded = DeblurGenerator.from_pretrained(folder, device="cpu").network.state_dict()
        kept = load_file(folder / "model.safetensors")
        assert loaded.keys() == kept.keys() and all(torch.equal(tensor, loaded[key]) for key, tensor in kept.items())

    def test_it_gives_its_golden_output(self, folder, capsys):
        golden = load_file(folder / "golden.safetensors")
        generator = DeblurGenerator.from_pretrained(folder, device="cpu", verify=True)
        output = generator.restore(golden["input"], precision="float32")
        assert torch.allclose(output, golden["output"], atol=1e-4)
        assert (output - golden["input"]).abs().max() > 0.1
        assert main(["verify", str(folder), "--device", "cpu"]) == 0
        assert "gives its golden output in float32 on cpu" in capsys.readouterr().out

    def test_saved_again_it_is_the_same_model(self, folder, tmp_path):
        generator = DeblurGenerator.from_pretrained(folder, device="cpu")
        generator.save_pretrained(tmp_path / "again")
        again = DeblurGenerator.from_pretrained(tmp_path / "again", device="cpu", verify=True)
        assert again.config == generator.config
        shutil.copy(folder / "golden.safetensors", tmp_path / "again")
        DeblurGenerator.from_pretrained(tmp_path / "again", device="cpu", verify=True)


def test_what_the_first_version_saved_states_no_tolerances():
    """So that the defaults, which stand in for them, are tested here."""
    with safe_open(SAVED[0] / "golden.safetensors", framework="pt") as file:
        assert not file.metadata()
