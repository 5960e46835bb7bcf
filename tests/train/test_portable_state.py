"""A run's state in small files: what comes back, what is refused, and a run that goes on from it."""

import json

import pytest
import torch

from tests.train.tiny_runs import last_of, tensors_of
from train.__main__ import main
from train.checkpoint import Checkpoints
from train.recipe import RecipeError
from train.study.portable_state import CONTENTS, MOST_BYTES, pack, unpack


def some_state():
    generator = torch.Generator().manual_seed(0)
    squares = torch.rand(64, 48, 3, 3, generator=generator) * 1e-9
    return {
        "recipe": '{"name": "compact"}',
        "progress": {"step": 7, "best_psnr": float("-inf"), "best": {}},
        "generator": {"stem.weight": torch.randn(64, 48, 3, 3, generator=generator), "stem.bias": torch.randn(64)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(7.0), "exp_avg_sq": squares}},
            "param_groups": [{"lr": 1e-4, "betas": [0.9, 0.99], "params": [0]}],
        },
        "count": torch.tensor(3, dtype=torch.int64),
    }  # fmt: skip


def test_what_was_packed_comes_back_in_half_precision(tmp_path):
    state = some_state()
    files = pack(state, tmp_path / "state")
    assert sum(path.stat().st_size for path in files) < 2.2 * 2 * state["generator"]["stem.weight"].numel()
    back = unpack(tmp_path / "state")
    assert back["progress"] == state["progress"]
    assert back["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert list(back["optimizer"]["state"]) == [0]
    assert back["count"].dtype == torch.int64
    assert torch.equal(back["generator"]["stem.bias"], state["generator"]["stem.bias"])  # too small to be worth it
    weights, moments = back["generator"]["stem.weight"], back["optimizer"]["state"][0]["exp_avg_sq"]
    assert weights.dtype == moments.dtype == torch.float32
    assert torch.allclose(weights, state["generator"]["stem.weight"], rtol=2**-11, atol=1e-7)
    # float16 would make zeros of these
    assert torch.allclose(moments, state["optimizer"]["state"][0]["exp_avg_sq"], rtol=2**-8, atol=0)


@pytest.mark.slow
def test_no_file_is_larger_than_doors_let_through(tmp_path):
    state = {"generator": {str(number): torch.zeros(1_000_000) for number in range(20)}}
    files = pack(state, tmp_path / "state")
    assert len(files) == 1 + 3
    assert all(path.stat().st_size <= MOST_BYTES for path in files)
    assert len(unpack(tmp_path / "state")["generator"]) == 20


def test_a_state_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path):
    pack(some_state(), tmp_path / "state")
    pack({"count": torch.tensor(5)}, tmp_path / "state")
    assert unpack(tmp_path / "state") == {"count": torch.tensor(5)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RecipeError, match="holds other files; name a new folder"):
        pack(some_state(), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_what_is_no_whole_state_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(RecipeError, match=r"state\.json: cannot be read .*takes a folder that --keep-state wrote"):
        unpack(tmp_path)
    _, first, *_ = pack(some_state(), tmp_path / "state")
    content = bytearray(first.read_bytes())
    content[-5] ^= 1
    first.write_bytes(content)
    with pytest.raises(RecipeError, match=r"state\.safetensors: is damaged; copy it again"):
        unpack(tmp_path / "state")
    first.unlink()
    with pytest.raises(RecipeError, match=r"state\.safetensors: cannot be read \(No such file"):
        unpack(tmp_path / "state")
    contents = json.loads((tmp_path / "state" / CONTENTS).read_text())
    (tmp_path / "state" / CONTENTS).write_text(json.dumps(contents | {"schema_version": 9}))
    with pytest.raises(RecipeError, match="a state of another version"):
        unpack(tmp_path / "state")
    (tmp_path / "state" / CONTENTS).write_text("[1]")
    with pytest.raises(RecipeError, match="not a state that --keep-state wrote"):
        unpack(tmp_path / "state")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_goes_on_from_a_state_that_was_carried(start, tmp_path, capfd, optimizer):
    change = f"optimizer.name={optimizer}"
    start("compact", change, steps=4)
    state = tmp_path / "state"
    assert main(["--output", str(tmp_path / "run"), "--keep-state", str(state)]) == 0
    assert f"--resume-from {state} goes on from it" in capfd.readouterr().out
    assert start("compact", change, steps=6, output=tmp_path / "more", options=["--resume-from", str(state)]) == (0, "")
    start("compact", change, steps=6, options=["--resume"])
    more, whole = last_of(tmp_path / "more"), last_of(tmp_path / "run")
    assert more["progress"]["step"] == whole["progress"]["step"] == 6
    carried, straight = tensors_of(more["generator"]), tensors_of(whole["generator"])
    # From half precision the two steps lead nearly to the same place.
    assert all(torch.allclose(carried[key], straight[key], atol=2e-3) for key in straight)
    code, words = start("compact", change, steps=6, output=tmp_path / "more", options=["--resume-from", str(state)])
    assert (code, words.partition(";")[0]) == (2, f"train: {tmp_path}/more: holds a run already")


def test_the_state_of_another_optimizer_is_told(start, tmp_path):
    start("compact", "optimizer.name=adamw", steps=2)
    pack(Checkpoints(tmp_path / "run" / "checkpoints", keep=1).newest()[1], tmp_path / "state")
    code, words = start(
        "compact", "optimizer.name=muon", output=tmp_path / "more", options=["--resume-from", str(tmp_path / "state")]
    )
    assert code == 2
    assert words.endswith("its optimizer was 'adamw', not 'muon'; keep it, or start anew with --init-from")
    assert not (tmp_path / "more").exists()
