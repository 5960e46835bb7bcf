"""The ablation tables: trains the rows of `ablation.toml`, scores them, and writes train/README.md.

    python train/study/ablation.py --data DATA --pairs PAIRS                 all rows
    python train/study/ablation.py --data DATA --pairs PAIRS --row pixel     one of them

DATA is a data folder as `train/` takes it, PAIRS holds the pairs to score on in blur/ and sharp/. A row that is there
already, with the same settings and pictures, is not trained again; one that was interrupted goes on. Once all rows are
there, the tables between the marks of train/README.md and the figures beside it are written.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import torch
from torch import Tensor

from deblur_hub import DeblurGenerator, hub
from deblur_hub.atomic import write_text
from deblur_hub.datasets import Pair, find_pairs
from deblur_hub.errors import DeblurHubError, did_you_mean
from deblur_hub.evaluation.tables import markdown
from deblur_hub.metrics import edge_strength, feature_distance, psnr, ssim
from train.distributed import usable_cores
from train.losses.backbones import sha256
from train.recipe import Alarms, Recipe, RecipeError, load_recipe
from train.study.curves import Scalars, compare, read_scalars
from train.validation import restore_pair

HERE = Path(__file__).resolve().parent
TRAIN = HERE.parent
BEGIN, END = "<!-- ablation: made by `make ablation`, not by hand -->", "<!-- end of ablation -->"
RESULT = "ablation.json"
SETTINGS = "ablation-settings.json"  # of the run beside it, so that no other run resumes its weights
MEASURES = {"psnr": psnr, "ssim": ssim, "features": feature_distance, "edges": edge_strength}
NEIGHBOURS = 5  # frequencies that one is compared with
LAST = 3  # lines of a log that tell the critic's state at the end
file_hash = cache(sha256)  # of half a gigabyte, for one row after another


@dataclass(frozen=True)
class Plan:
    """One row: a recipe with changes, trained for so many steps from the weights of `start`, or fresh ones."""

    name: str
    title: str
    table: str
    recipe: str
    changes: tuple[str, ...]
    steps: int
    start: str = ""

    def resolved(self) -> Recipe:
        return load_recipe(self.recipe, list(self.changes))


@dataclass(frozen=True)
class Outcome:
    """A row's results: means over the pairs, and from the run's log the time and the critic at its end."""

    key: str  # of the settings and the pictures
    psnr: float
    ssim: float
    features: float
    blurred_psnr: float
    blurred_ssim: float
    blurred_features: float
    edges: float
    blurred_edges: float
    grid: float  # see `grid_energy`
    parameters: int
    steps: int
    seconds: float  # of a step
    device: str  # a GPU's name, or so many cores
    slope: float | None = None  # of the critic's score by the picture at the end; None without a critic
    least_slope: float | None = None

    @property
    def critic(self) -> str:
        if self.slope is None:
            return "none"
        state = "saturated" if self.slope < Alarms().least_slope else "alive"
        return f"{state} ({self.slope:.0e}, {self.least_slope:.0e})"


def read_plans(path: Path, steps: int = 0) -> tuple[list[dict], list[Plan]]:
    """The tables of the file, and their rows; `steps` overrides theirs."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["tables"]
    plans = []
    for table in tables:
        for row in table["rows"]:
            changes = (*table["changes"], *row.get("changes", ()))
            settings = (table["recipe"], changes, steps or table["steps"], table.get("start", ""))
            plans.append(Plan(row["name"], row["title"], table["name"], *settings))
    return tables, plans


def select(plans: list[Plan], names: list[str]) -> list[Plan]:
    """The rows of these names, in the order of the file; all if none is named."""
    known = [plan.name for plan in plans]
    for name in names:
        if name not in known:
            raise RecipeError(f"--row {name}: no such row{did_you_mean(name, known)}; there are {', '.join(known)}")
    return [plan for plan in plans if plan.name in names or not names]


def settings_of(plan: Plan, perceptual_weights: Path | None) -> dict:
    """Everything that the weights at a row's end depend on, except the code and the data folder."""
    recipe, perceptual = plan.resolved(), ""
    if recipe.loss.perceptual.weight and perceptual_weights:
        try:
            perceptual = file_hash(perceptual_weights)
        except OSError as reason:
            advice = f"cannot be read ({reason.strerror}); name another --perceptual-weights"
            raise RecipeError(f"{perceptual_weights}: {advice}") from None
    start = weights_hash(plan.start) if plan.start else ""
    return {"recipe": recipe.as_dict(), "steps": plan.steps, "start": start, "perceptual_weights": perceptual}


@cache
def weights_hash(model: str) -> str:
    return hub.checksum(DeblurGenerator.from_pretrained(model, device="cpu").network.state_dict())


def train_row(plan: Plan, settings: dict, options: argparse.Namespace, folder: Path) -> None:
    """Writes a row's settings and runs `train/` in a process, or goes on with the run that is there.

    Raises `RecipeError` if that is a run of other settings, or the training fails.
    """
    kept, text, begun = folder / SETTINGS, json.dumps(settings, indent=2) + "\n", list(folder.glob("checkpoints/*"))
    if begun and not (kept.is_file() and kept.read_text() == text):
        raise RecipeError(
            f"row '{plan.name}': {folder} holds a run of other settings; move it away, or name another --output"
        )
    write_text(kept, text)
    command = [sys.executable, str(TRAIN), "--recipe", plan.recipe, "--data", str(options.data)]
    command += ["--output", str(folder), "--steps", str(plan.steps)]
    command += ["--cache", str(options.cache)] if options.cache else []
    if plan.resolved().loss.perceptual.weight and options.perceptual_weights:
        command += ["--perceptual-weights", str(options.perceptual_weights)]
    command += ["--init-from", plan.start] if plan.start else []
    command += ["--resume"] if begun else []
    command += [part for change in plan.changes for part in ("--set", change)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(TRAIN.parent)}, check=False)
    if done.returncode:
        raise RecipeError(f"row '{plan.name}' was not trained, for the reason above; mend it and start again")


def outcome_of(plan: Plan, folder: Path, pairs: list[Pair], key: str) -> Outcome:
    """Scores the moving average at the end of a run."""
    held_out = (folder / "last").is_dir()  # without held-out pairs there is one model, that at the end
    generator = DeblurGenerator.from_pretrained(folder / ("last" if held_out else "model"), device="cpu")
    recipe, log, scores = plan.resolved(), read_scalars(folder), defaultdict(list)
    for pair in pairs:
        restored, blurred, sharp = restore_pair(generator.network, pair, recipe.data.resize)
        for name, measure in MEASURES.items():
            scores[name].append(float(measure(restored, sharp)))
            scores[f"blurred_{name}"].append(float(measure(blurred, sharp)))
        scores["grid"].append(grid_energy(restored - blurred))
    _, slopes = log.of("critic/slope")
    cores = usable_cores()
    cpu = f"{cores} core{'s' if cores > 1 else ''} of a CPU"
    return Outcome(
        key,
        **{name: float(np.mean(values)) for name, values in scores.items()},
        parameters=sum(parameter.numel() for parameter in generator.parameters()),
        steps=plan.steps,
        seconds=seconds_per_step(log, recipe.pictures_per_step),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        slope=float(np.median(slopes[-LAST:])) if len(slopes) else None,
        least_slope=float(slopes.min()) if len(slopes) else None,
    )


def grid_energy(change: Tensor) -> float:
    """How much stronger the frequencies of a decoder's grid are than those beside them: 1 without a grid.

    Transposed convolutions write some pixels more often than others, in a period of 2 pixels for each one, 2 and 4 for
    two (Odena et al., Distill 2016, "Deconvolution and checkerboard artifacts").

    Args:
        change: (1, 3, H, W), output minus input of a generator; W a multiple of 4, and 24 at least.

    Returns:
        The energy along rows at 1/4 or 1/2 of a cycle a pixel, whichever is larger, as a multiple of the mean of five
        frequencies beside it.
    """
    energy = torch.fft.rfft(change.double().mean(dim=(0, 1)), dim=1).abs().square().mean(dim=0)
    peaks = (change.shape[-1] // 4, change.shape[-1] // 2)
    if not energy.any():
        return 1.0
    return max(float(energy[peak] / energy[peak - NEIGHBOURS - 1 : peak - 1].mean()) for peak in peaks)


def seconds_per_step(log: Scalars, pictures: int) -> float:
    """The median over the lines of the log after the first, a warm-up; validations do not count."""
    _, speeds = log.of("time/pictures_per_second")
    return pictures / float(np.median(speeds[1:])) if len(speeds) > 1 else float("nan")


def key_of(settings: dict, pairs: list[Pair]) -> str:
    """A hash of a row's settings and the pictures that it is scored on."""
    files = [(pair.name, [path.stat().st_size for path in (pair.blurred, pair.sharp)]) for pair in pairs]
    return hashlib.sha256(json.dumps([settings, files]).encode()).hexdigest()[:16]


def read_outcome(folder: Path, key: str) -> Outcome | None:
    """The result of an earlier call; None if there is none, or it is of other settings or pictures."""
    try:
        found = Outcome(**json.loads((folder / RESULT).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.key == key else None


def table_text(table: dict, plans: list[Plan], outcomes: dict[str, Outcome]) -> str:
    """A table of its rows, with the command of each."""
    rows = [plan for plan in plans if plan.table == table["name"]]
    found = [outcomes[plan.name] for plan in rows]
    first = found[0]
    blurry = [f"{first.blurred_psnr:.2f} dB", "", f"{first.blurred_ssim:.4f}", f"{first.blurred_features:.3f}", ""]
    lines = [["blurry input", "", "", *blurry, f"{first.blurred_edges:.3f}", "", "", ""]]
    for plan, one in zip(rows, found, strict=True):
        cost = [f"{one.parameters / 1e6:.2f} M", f"{one.seconds:.2f} s"]
        pixels = [f"{one.psnr:.2f} dB", f"{one.psnr - one.blurred_psnr:+.2f} dB", f"{one.ssim:.4f}"]
        features = [f"{one.features:.3f}", f"{one.features / one.blurred_features - 1:+.1%}"]
        rest = [f"{one.edges:.3f}", f"{one.grid:.1f}", one.critic, f"`--row {plan.name}`"]
        lines.append([plan.title, *cost, *pixels, *features, *rest])
    header = ["", "parameters", "a step", "PSNR", "gain", "SSIM", "features", "change", "edges", "grid"]
    header += ["critic (slope, least)", "command"]
    hours = sum(one.seconds * one.steps for one in found) / 3600
    devices = " or ".join(dict.fromkeys(one.device for one in found))
    facts = f"{first.steps} steps a row, {hours:.2f} hours of steps in all, on {devices}."
    return "\n\n".join([f"### {table['title']}", table["about"].strip(), facts, markdown(header, lines)])


def read_marked(target: Path) -> str:
    """The text that tables go into; raises `RecipeError` if it has no place for them."""
    try:
        text = target.read_text(encoding="utf-8")
    except OSError as reason:
        raise RecipeError(f"{target}: cannot be read ({reason.strerror}); name another --table") from None
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RecipeError(f"{target}: lacks the marks '{BEGIN}' and '{END}', each once; put them where the tables go")
    return text


def write_tables(options: argparse.Namespace, tables: list[dict], plans: list[Plan], found: dict[str, Outcome]) -> None:
    """Puts the tables between the marks of a text, whose rest stays, and figures beside it."""
    before, _, rest = read_marked(options.table).partition(BEGIN)
    parts = []
    for table in tables:
        figure = f"ablation-{table['name']}.png"
        parts += [table_text(table, plans, found), f"![losses, PSNR and SSIM against the step]({figure})"]
        folders = [options.output / plan.name for plan in plans if plan.table == table["name"]]
        compare(folders, options.table.parent / figure)
    write_text(options.table, before + "\n\n".join([BEGIN, *parts, END]) + rest.partition(END)[2])


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        tables, plans = read_plans(options.plan, options.steps)
        pairs = find_pairs(options.pairs)
        read_marked(options.table)  # before hours of training
        rows = select(plans, options.row)
        settings = {plan.name: settings_of(plan, options.perceptual_weights) for plan in plans}
        keys = {name: key_of(found, pairs) for name, found in settings.items()}
        for plan in rows:
            folder = options.output / plan.name
            outcome = read_outcome(folder, keys[plan.name])
            print(f"{plan.name}: {'is there already' if outcome else plan.title}", flush=True)
            if outcome is None:
                train_row(plan, settings[plan.name], options, folder)
                outcome = outcome_of(plan, folder, pairs, keys[plan.name])
                write_text(folder / RESULT, json.dumps(asdict(outcome), indent=2) + "\n")
            print(f"{plan.name}: {outcome.psnr:.2f} dB (blurry: {outcome.blurred_psnr:.2f} dB)", flush=True)
        found = {plan.name: read_outcome(options.output / plan.name, keys[plan.name]) for plan in plans}
        if missing := [name for name, outcome in found.items() if outcome is None]:
            print(f"the tables are written once all rows are there; to come: {', '.join(missing)}")
            return 0
        write_tables(options, tables, plans, found)
    except DeblurHubError as mistake:
        print(f"ablation: {mistake}", file=sys.stderr)
        return 2
    print(f"written: {options.table}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the pictures to train on")
    add("--pairs", type=Path, required=True, help="pairs to score on, in blur/ and sharp/")
    add("--output", type=Path, default=Path("runs/ablation"), help="folder of the runs (%(default)s)")
    add("--row", action="append", default=[], metavar="NAME", help="train this row alone; repeatable")
    add("--steps", type=int, default=0, help="of each row, instead of the file's")
    add("--cache", type=Path, help="folder for decoded pictures, as train/ takes it")
    add("--perceptual-weights", type=Path, metavar="FILE", help="VGG19 as safetensors, as train/ takes it")
    add("--plan", type=Path, default=HERE / "ablation.toml", help="the tables (%(default)s)")
    add("--table", type=Path, default=TRAIN / "README.md", help="where they go (train/README.md)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
