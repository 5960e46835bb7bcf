"""What a run says: the lines at its start, and the scalars of its log."""

import json
import math
import sys
from pathlib import Path

from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .preparation import Prepared
from .recipe import Recipe
from .run import Run


def describe(recipe: Recipe, ready: Prepared, run: Run, accelerator: Accelerator) -> str:
    material = ready.material
    parameters = sum(parameter.numel() for parameter in ready.network.parameters()) / 1e6
    length = f"{ready.steps} steps"
    if run.time_budget:
        budget = f"{run.time_budget / 60:.0f} minutes"
        length = budget if recipe.schedule.stretch else f"{length}, at most {budget},"
    return (
        f"recipe '{recipe.name}': {recipe.generator}, {parameters:.2f} M parameters, {length} of "
        f"{recipe.data.batch_size} crops of {recipe.data.crop}x{recipe.data.crop}, {accelerator.num_processes} "
        f"process(es) on {accelerator.device.type}, precision {accelerator.mixed_precision}\n"
        f"data: {len(material.pairs)} pairs, {sum(map(len, material.frames))} high-speed frames, "
        f"{len(material.sharp)} sharp photographs; held out: {len(material.held_out)} pairs; "
        f"{len(ready.samples)} samples an epoch"
        + "".join(f"\n{note}" for note in (*material.notes, *of_losses(recipe)))
    )


def of_losses(recipe: Recipe) -> list[str]:
    """Which weights the perceptual loss has, so that a run can be told from one with others."""
    options = recipe.loss.perceptual
    if not options.weight:
        return []
    layers = " ".join(options.layers or (options.layer,))
    return [f"perceptual loss: {options.network} at {layers}, weights with SHA-256 {options.sha256}"]


class Log:
    """Scalars to `metrics.jsonl` and tensorboard; lines from after the step that a run resumes at are dropped."""

    def __init__(self, output: Path, step: int) -> None:
        self.path = output / "metrics.jsonl"
        output.mkdir(parents=True, exist_ok=True)
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    kept += [line] if json.loads(line)["step"] <= step else []
                except (ValueError, KeyError):  # the line that a kill cut short
                    continue
        aside = self.path.with_suffix(".part")
        aside.write_text("".join(line + "\n" for line in kept if step))
        aside.replace(self.path)
        self.board = SummaryWriter(str(output / "tensorboard"), purge_step=step or None)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """What is not finite, for which JSON has no word, is left out."""
        scalars = {key: value for key, value in scalars.items() if math.isfinite(value)}
        self.append({"step": step} | scalars)
        for key, value in scalars.items():
            self.board.add_scalar(key, value, step)

    def warn(self, step: int, sentence: str) -> None:
        """An alarm, for the terminal as well."""
        self.append({"step": step, "alarm": sentence})
        self.board.add_text("alarm", sentence, step)
        tqdm.write(f"train: {sentence}", file=sys.stderr)

    def append(self, line: dict[str, float | str]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self.board.close()
