"""Tiny data, tiny recipes, and runs of the training program in this process or in its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from train.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
HELD_OUT = 3
PATIENCE = 900  # seconds that a process may take; on a quiet machine each ends within 20

# A network of 8 thousand weights on crops of 32 pixels: a step takes a few milliseconds.
TINY = (
    "network.widths=[8,8]",
    "network.blocks=[1,1]",
    "data.crop=32",
    "data.batch_size=4",
    "data.workers=0",
    "data.epoch_length=16",
    "data.pool=0",
    "data.frames.least=3",
    "data.frames.most=5",
    "data.blur.longest=6.0",
    "precision=no",
    "validation.scenes=['held']",
    "validation.every=3",
    "checkpoint_every=2",
    "schedule.warmup=0",
)
TINY_GAN = (
    "network.width=8",
    "network.blocks=1",
    "data.crop=32",
    "data.batch_size=2",
    "data.workers=0",
    "data.resize=[]",
    "precision=no",
    "loss.adversarial.critic_steps=2",
    "loss.adversarial.options.width=8",
    "loss.perceptual.layer=relu2_1",
    "validation.scenes=['held']",
    "validation.every=100",
    "checkpoint_every=100",
)

EVEN = ("schedule.flat=1.0", "schedule.shape=flat-linear")  # a rate that does not ask how long the run is
BATCH_NORM = (
    "generator=resnet6-bn",
    "loss.pixel=l1",
    "loss.perceptual.weight=0.0",
    "loss.adversarial.weight=0.0",
    "schedule.epochs=0",
    "schedule.ema=0.5",
    "checkpoint_every=2",
)


def photograph(seed: int, size: tuple[int, int] = (72, 64)) -> np.ndarray:
    """(H, W, 3) uint8 with edges and texture; unlike for each seed."""
    width, height = size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.clip(coarse + rng.integers(-4, 5, (height, width, 3)), 0, 255).astype(np.uint8)


def smeared(picture: np.ndarray, length: int = 5) -> np.ndarray:
    """Horizontal motion blur."""
    shifted = [np.roll(picture.astype(float), shift, axis=1) for shift in range(-(length // 2), length // 2 + 1)]
    return np.mean(shifted, axis=0).round().astype(np.uint8)


def save(picture: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def make_pairs(folder: Path, count: int, *, seed: int, size: tuple[int, int] = (72, 64)) -> None:
    for number in range(count):
        sharp = photograph(seed + number, size)
        save(sharp, folder / "sharp" / f"{number:03}.png")
        save(smeared(sharp), folder / "blur" / f"{number:03}.png")


def make_frames(folder: Path, count: int, *, seed: int) -> None:
    wide = photograph(seed, (72 + count, 64))
    for number in range(count):
        save(wide[:, number : number + 72], folder / f"{number:03}.png")


def arguments(
    recipe: str, *changes: str, data: Path, output: Path, cache: Path, steps: int = 4, options: tuple[str, ...] = ()
) -> list[str]:
    """The command line of a tiny run."""
    tiny = TINY_GAN if recipe == "deblurgan" else TINY
    sets = [part for change in (*tiny, *changes) for part in ("--set", change)]
    length = ["--steps", str(steps)] if steps else []
    return [
        "--recipe",
        recipe,
        "--data",
        str(data),
        "--output",
        str(output),
        "--cache",
        str(cache),
        "--threads",
        "1",
        *length,
        *sets,
        *options,
    ]


def environment(**extra: str) -> dict[str, str]:
    """Of a process of its own; without what a launcher around the tests may have set."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ACCELERATE_", "TORCHELASTIC_"))
        and key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | extra


def spawn(*command: str, **extra: str) -> subprocess.Popen:
    """A Python process in the root of the repository, in a session of its own, with its output piped."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(**extra),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C and hand that on; a user's run does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def tensors_of(state: dict, prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a nested state, by dotted name."""
    found = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            found[f"{prefix}{key}"] = value
        elif isinstance(value, dict):
            found |= tensors_of(value, f"{prefix}{key}.")
    return found


def last_of(folder: Path) -> dict:
    """The newest checkpoint of the run in a folder."""
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def same_state(one: dict, other: dict) -> bool:
    """Whether two checkpoints hold the same tensors, bit for bit."""
    one, other = tensors_of(one), tensors_of(other)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
