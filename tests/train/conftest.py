"""Fixtures of the tests of training."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

from tests.train.tiny_runs import HELD_OUT, ROOT, arguments, environment, make_frames, make_pairs, photograph, save
from tests.warm_python import WarmProcess, WarmPython
from train import loop
from train.__main__ import main


@pytest.fixture(autouse=True)
def cpu_alone(monkeypatch):
    """Every run here is one CPU process with a fresh accelerator, and one thread, so that sums have one order."""
    for key in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)  # which a run sets for its process


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """A plot takes half of a tiny run's time; test_curves.py draws them, and so do runs in processes of their own."""
    monkeypatch.setattr(loop, "draw_run", lambda folder: folder / "curves.png")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Pairs of two scenes, one of them held out; nine frames at 240 a second; three sharp photographs."""
    root = tmp_path_factory.mktemp("pictures")
    make_pairs(root / "scenes" / "first", 5, seed=0)
    make_pairs(root / "scenes" / "held", HELD_OUT, seed=20)
    make_frames(root / "240fps" / "run", 9, seed=40)
    for number in range(3):
        save(photograph(60 + number), root / "sharp" / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmPython]:
    """For processes that need not import PyTorch themselves."""
    python = WarmPython(environment())
    yield python
    python.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def both(warm, port):
    """Starts the two processes of a run, each by itself, as srun does in the job script of docs/training.md."""

    def begun(program: str | Path, *line: str, python: WarmPython = warm, **settings: str) -> list[WarmProcess]:
        where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        where |= {"ACCELERATE_USE_CPU": "true"} | settings
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
        return [python.start(program, *line, folder=ROOT, **where, **rank) for rank in ranks]

    return begun


@pytest.fixture
def start(pictures, tmp_path, capfd):
    """Runs `train` in this process: start("compact", "seed=1", steps=4, options=[...]) -> (exit code, its sentence)."""

    def run(
        recipe: str = "compact",
        *changes: str,
        data: Path = pictures,
        output: Path = tmp_path / "run",
        steps: int = 4,
        options: tuple[str, ...] = (),
    ) -> tuple[int, str]:
        AcceleratorState._reset_state(reset_partial_state=True)
        capfd.readouterr()
        code = main(
            arguments(
                recipe, *changes, data=data, output=output, steps=steps, cache=tmp_path / "cache", options=options
            )
        )
        return code, "\n".join(line for line in capfd.readouterr().err.splitlines() if line.startswith("train: "))

    return run


@pytest.fixture(scope="session")
def vgg19(tmp_path_factory) -> Path:
    """The first convolutions of a VGG19, random, up to conv2_1, in torchvision's key layout."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for index, (narrow, wide) in {0: (3, 64), 2: (64, 64), 5: (64, 128)}.items():
        tensors[f"features.{index}.weight"] = torch.randn(wide, narrow, 3, 3, generator=generator) / (3 * narrow**0.5)
        tensors[f"features.{index}.bias"] = torch.randn(wide, generator=generator) * 0.1
    path = tmp_path_factory.mktemp("weights") / "vgg19.safetensors"
    save_file(tensors, path)
    return path
