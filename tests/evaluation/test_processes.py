"""Evaluation as real processes: two that share the work, one that is killed, and launchers without accelerate."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.evaluation import evaluate
from tests.conftest import TINY, awake
from tests.train.tiny_runs import make_pairs, spawn

pytestmark = pytest.mark.slow

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
PATIENCE = 600  # seconds; on a quiet machine each run ends within 10
COUNT = 7


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    make_pairs(root / "first", 4, seed=0, size=(264, 136))
    make_pairs(root / "second", COUNT - 4, seed=10, size=(136, 264))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network that changes the picture, of convolutions large enough to be shared among threads."""
    made = DeblurGenerator(GeneratorConfig("compact", TINY | {"widths": [32, 64]}, name="tiny"))
    awake(made.network)
    return made.save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def alone(model, pairs, tmp_path_factory) -> list[dict]:
    """The rows of one process."""
    out = tmp_path_factory.mktemp("alone")
    evaluate(DeblurGenerator.from_pretrained(model, device="cpu"), pairs, precision="float32", output=out)
    return content(out)["rows"]


def content(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def begin(*command: str, model: Path, pairs: Path, out: Path, **extra: str):
    options = ["--output", str(out), "--precision", "float32", "--device", "cpu", "-q"]
    return spawn(*command, "-m", "deblur_hub.evaluation", str(model), str(pairs), *options, **extra)


def end(run) -> tuple[int, str, str]:
    try:
        said, complained = run.communicate(timeout=PATIENCE)
    except BaseException:
        kill(run.pid)
        raise
    return run.returncode, said, complained


def kill(pid: int) -> None:
    """Kills a process that a test started and all below it: torchrun puts its workers into sessions of their own."""
    family = [pid]
    for member in family:
        with contextlib.suppress(OSError):
            family += map(int, Path(f"/proc/{member}/task/{member}/children").read_text().split())
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def names_in(log: Path) -> list[str]:
    return [json.loads(line)["row"]["name"] for line in log.read_text().split("\n")[1:-1]]


def test_a_run_killed_at_any_moment_loses_the_picture_at_hand_alone_and_two_share_the_rest(
    model, pairs, alone, tmp_path
):
    log = tmp_path / "rows.jsonl"
    run = begin(model=model, pairs=pairs, out=tmp_path)
    deadline = time.monotonic() + PATIENCE
    while not (log.exists() and len(names_in(log)) >= 2):
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()[1]
        time.sleep(0.002)
    kill(run.pid)
    assert end(run)[0] == -signal.SIGKILL
    assert len(names_in(log)) >= 2 and not (tmp_path / "results.json").exists()
    kept = {line: json.loads(line)["row"]["name"] for line in log.read_text().split("\n")[1:-1]}
    run = begin(*TORCHRUN, model=model, pairs=pairs, out=tmp_path, ACCELERATE_USE_CPU="true")
    code, said, complained = end(run)
    assert code == 0, complained
    found = content(tmp_path)
    assert found["processes"] == 2 and found["rows"] == alone
    assert said.count("| mean") == 1  # the first alone speaks
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "rows.jsonl"]
    assert names_in(log) == [row["name"] for row in alone]
    # The times of what was scored before the kill are those of then: it was not scored again.
    assert set(kept) < set(log.read_text().split("\n"))


def test_a_run_of_two_that_was_killed_is_ended_by_one_that_needs_neither_accelerate_nor_a_launcher(
    model, pairs, alone, tmp_path, tmp_path_factory
):
    run = begin(*TORCHRUN, model=model, pairs=pairs, out=tmp_path)
    second = tmp_path / "rows.1.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not (second.exists() and names_in(second)):
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()[1]
        time.sleep(0.002)
    kill(run.pid)
    run.communicate()
    one, two = names_in(tmp_path / "rows.jsonl"), names_in(second)
    assert two and not set(one) & set(two), "a picture was scored twice"
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "accelerate.py").write_text("raise ImportError('not installed')")
    path = f"{blocked}{os.pathsep}{Path(__file__).parents[2]}"
    code, _, complained = end(begin(model=model, pairs=pairs, out=tmp_path, PYTHONPATH=path))
    assert code == 0, complained
    assert content(tmp_path)["rows"] == alone and not second.exists()


@pytest.mark.full
def test_bad_data_are_named_once_by_two_processes(model, tmp_path):
    make_pairs(tmp_path / "set", 2, seed=0, size=(48, 40))
    (tmp_path / "set/blur/001.png").unlink()
    code, _, complained = end(begin(*TORCHRUN, model=model, pairs=tmp_path / "set", out=tmp_path / "out"))
    assert code != 0 and not (tmp_path / "out").exists()
    assert [line for line in complained.splitlines() if line.startswith("deblur-hub: ")] == [
        f"deblur-hub: {tmp_path}/set/sharp/001.png: has no partner of that name in {tmp_path}/set/blur; "
        "add it or take this one out"
    ]


@pytest.mark.full
def test_accelerate_can_launch_it(model, pairs, alone, tmp_path):
    pytest.importorskip("accelerate")
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m", "deblur_hub.evaluation"]
    run = spawn(*launch, str(model), str(pairs), "-o", str(tmp_path), "--precision", "float32", "-q")
    code, _, complained = end(run)
    assert code == 0, complained
    assert content(tmp_path)["rows"] == alone
