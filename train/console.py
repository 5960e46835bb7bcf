"""What a run reports: its first lines, a progress bar, throughput, the metrics log, and alarms when it goes wrong."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from deblur_hub import atomic

from . import recipe
from .preparation import Prepared
from .run import Run
from .trainer import NonFiniteLossError


def describe(ready: Prepared, run: Run, accelerator: Accelerator) -> str:
    """The lines at a run's start: recipe, length, data, and the weights of a perceptual loss."""
    chosen, found = ready.recipe, ready.training_data
    length = f"{ready.steps} steps"
    if run.time_budget:
        budget = f"{run.time_budget / 60:.0f} minutes"
        length = budget if chosen.schedule.stretch else f"{length}, at most {budget},"
    lines = [
        f"recipe '{chosen.name}': {chosen.generator}, {parameters(ready.network)}, {length} of "
        f"{chosen.data.batch_size} crops of {chosen.data.crop}x{chosen.data.crop}, {accelerator.num_processes} "
        f"process(es) on {accelerator.device.type}, precision {accelerator.mixed_precision}",
        f"data: {len(found.pairs)} pairs, {sum(map(len, found.frames))} high-speed frames, "
        f"{len(found.sharp)} sharp photographs; held out: {len(found.held_out)} pairs; "
        f"{len(ready.samples)} samples an epoch",
        *found.notes,
    ]
    perceptual = chosen.loss.perceptual
    if perceptual.weight:
        layers = " ".join(perceptual.layers or (perceptual.layer,))
        lines.append(f"perceptual loss: {perceptual.network} at {layers}, weights with SHA-256 {perceptual.sha256}")
    return "\n".join(lines)


def parameters(network: nn.Module) -> str:
    """How many a network has, in words."""
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.2f} M parameters"


class Meter:
    """Pictures a second, and the fraction of the steps' time in which the networks waited for data.

    Only time inside `step` counts, not validation or checkpoints. `all_steps`, `all_seconds` and `all_waited` are of
    the whole session, the others since the last `read`.
    """

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures  # of one step, over all processes
        self.all_steps, self.all_seconds, self.all_waited = 0, 0.0, 0.0
        self.reset()

    def reset(self) -> None:
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.seconds, self.all_seconds = self.seconds + took, self.all_seconds + took
        self.steps, self.all_steps = self.steps + 1, self.all_steps + 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.waited, self.all_waited = self.waited + took, self.all_waited + took

    def read(self) -> dict[str, float]:
        """Scalars for the log, of the steps since the last reading; none before the first step."""
        if not self.steps:
            return {}
        speed, waited = self.steps * self.pictures / self.seconds, self.waited / self.seconds
        self.reset()
        return {"time/pictures_per_second": speed, "time/data_wait": waited}


class ProgressBar:
    """A bar over the steps or, where time ends the run, over its seconds, with throughput, loss and time left.

        compact  42%|████▏     | 2520/6000 steps, 43 pictures/s, loss 0.0312 [12:01<16:36]

    Redirected to a file it writes a line every 30 seconds or so. `steps` is 0 where time ends the run; `fraction` of it
    is done already.
    """

    def __init__(self, name: str, *, steps: int, fraction: float, shown: bool) -> None:
        self.steps, self.speed, self.loss = steps, "", ""
        self.bar = tqdm(
            total=1.0,
            initial=min(fraction, 1.0),
            desc=name,
            disable=not shown,
            mininterval=1 if sys.stderr.isatty() else 30,
            maxinterval=60,
            smoothing=0,
            dynamic_ncols=True,
            unit="",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {unit} [{elapsed}<{remaining}]",
        )

    def close(self) -> None:
        """Leaves the bar as it is, so that what is printed next has a line of its own."""
        self.bar.close()

    def read(self, scalars: dict[str, float]) -> None:
        """Takes throughput and loss from scalars of the log."""
        if speed := scalars.get("time/pictures_per_second"):
            self.speed = f", {speed:.{0 if speed >= 10 else 1}f} pictures/s"
        if (loss := scalars.get("loss/generator")) is not None:
            self.loss = f", loss {loss:.4g}"

    def show(self, step: int, fraction: float) -> None:
        done = f"{step}/{self.steps} steps" if self.steps else f"{step} steps"
        self.bar.unit = f"{done}{self.speed}{self.loss}"  # tqdm would put a comma before a postfix
        self.bar.update(min(fraction, 1.0) - self.bar.n)


class Log:
    """Scalars for `metrics.jsonl` and TensorBoard; drops lines from after the step that a run resumes at."""

    def __init__(self, output: Path, step: int) -> None:
        self.path = output / "metrics.jsonl"
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    kept += [line] if json.loads(line)["step"] <= step else []
                except (ValueError, KeyError):  # the line that a kill cut short
                    continue
        atomic.write_text(self.path, "".join(line + "\n" for line in kept if step))
        self.board = SummaryWriter(str(output / "tensorboard"), purge_step=step or None)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Omits values that are not finite, which JSON cannot write."""
        scalars = {key: value for key, value in scalars.items() if math.isfinite(value)}
        self.append({"step": step} | scalars)
        for key, value in scalars.items():
            self.board.add_scalar(key, value, step)

    def warn(self, step: int, sentence: str) -> None:
        """Logs an alarm and prints it."""
        self.append({"step": step, "alarm": sentence})
        self.board.add_text("alarm", sentence, step)
        tqdm.write(f"train: {sentence}", file=sys.stderr)

    def append(self, line: dict[str, float | str]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self.board.close()


class Alarms:
    """Watches the log for training that goes wrong, and gives each alarm once.

    Too many updates in a row that are not finite stop the run. A saturated critic and a generator that returns its
    input are only reported: the recipe may intend them.
    """

    def __init__(self, options: recipe.Alarms) -> None:
        self.options = options
        self.given: set[str] = set()
        self.rows: dict[str, int] = {}

    def require_progress(self, skipped: Tensor, step: int) -> None:
        """Raises `NonFiniteLossError`, on all processes alike, after `most_skipped` skipped updates in a row.

        Reading `skipped`, the trainer's, waits for the device.
        """
        row = int(skipped[2])
        if row >= self.options.most_skipped:
            raise NonFiniteLossError(
                f"the loss or its gradient was not finite in {row} step{'s' if row > 1 else ''} in a row up to step "
                f"{step}, and none of these updates was made (alarms.most_skipped = {self.options.most_skipped})"
            )

    def listen(self, step: int, line: dict[str, float]) -> list[str]:
        """New alarms, as sentences, for a line of the log."""
        options, sentences = self.options, []
        if line.get("skipped", 0) > 0 and self.first("skipped"):
            sentences.append(
                f"step {step}: a loss or its gradient was not finite; such updates are not made, and the run stops "
                f"after {options.most_skipped} of them in a row; a lower optimizer.lr or optimizer.clip may help"
            )
        if self.low("critic/slope", line, options.least_slope):
            sentences.append(
                f"step {step}: the critic is saturated: its score of a picture does not change with the picture "
                f"(slope {line['critic/slope']:.1e}, alarms.least_slope = {options.least_slope:g}), so the generator "
                "learns nothing from it; a critic with a linear head or a gradient penalty does not saturate"
            )
        if step > options.change_after and self.low("generator/change", line, options.least_change):
            sentences.append(
                f"step {step}: the generator returns its input: it changes a picture by "
                f"{line['generator/change']:.1%} of what it should (alarms.least_change = {options.least_change:g}); "
                "a higher optimizer.lr, or pairs that are blurred at all, may help"
            )
        return sentences

    def low(self, key: str, line: dict[str, float], least: float) -> bool:
        """Whether a scalar has now been below its least value for `patience` lines in a row, for the first time."""
        value = line.get(key, math.nan)
        if not math.isnan(value):
            self.rows[key] = self.rows.get(key, 0) + 1 if value < least else 0
        return self.rows.get(key, 0) >= self.options.patience and self.first(key)

    def first(self, key: str) -> bool:
        fresh = key not in self.given
        self.given.add(key)
        return fresh
