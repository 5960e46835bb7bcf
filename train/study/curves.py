"""A figure of a run's loss, PSNR and SSIM, or of several runs, and a table of them; TensorBoard shows the rest."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur_hub.atomic import replacing
from deblur_hub.evaluation.tables import markdown

from ..recipe import RecipeError

METRICS = "metrics.jsonl"
PANELS = {"loss/generator": "generator's loss", "validation/psnr": "PSNR, dB", "validation/ssim": "SSIM"}


@dataclass(frozen=True)
class Scalars:
    """What a run logged: the lines of its `metrics.jsonl`, by step."""

    name: str
    lines: tuple[dict[str, float], ...]

    def of(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and finite values of one scalar; empty if it was never logged."""
        points = [(line["step"], line[key]) for line in self.lines if math.isfinite(line.get(key, math.nan))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=int), np.array(values, dtype=float)


def read_scalars(folder: Path, name: str = "") -> Scalars:
    """What the run in a folder has logged so far, without lines that are cut short; `RecipeError` if it holds none."""
    try:
        text = (folder / METRICS).read_text()
    except OSError as reason:
        raise RecipeError(f"{folder / METRICS}: {reason.strerror}; name the folder of a run") from None
    lines = []
    for line in text.splitlines():
        try:
            scalars = json.loads(line)
            lines.append({"step": int(scalars["step"])} | {key: float(value) for key, value in scalars.items()})
        except (ValueError, TypeError, KeyError, AttributeError):  # cut short, or the sentence of an alarm
            continue
    return Scalars(name or folder.name, tuple(sorted(lines, key=lambda line: line["step"])))


def draw_run(folder: Path) -> Path:
    """Draws the run in a folder as its `curves.png`; raises `ImportError` if matplotlib is missing."""
    return draw([read_scalars(folder)], folder / "curves.png")


def compare(folders: Sequence[Path], target: Path) -> str:
    """Draws several runs in one figure, and returns a table of them."""
    unique = len({folder.name for folder in folders}) == len(folders)
    runs = [read_scalars(folder, folder.name if unique else str(folder)) for folder in folders]
    draw(runs, target)
    header, rows = ["run", "best PSNR", "at step", "gain", "best SSIM", "at step", "steps", "hours", "pictures/s"], []
    for run in runs:
        (steps, psnr), (_, blurry), (at, ssim) = (run.of(f"validation/{k}") for k in ("psnr", "blurred_psnr", "ssim"))
        scores = [f"{psnr.max():.2f} dB", str(steps[psnr.argmax()]), f"{psnr.max() - blurry[-1]:+.2f} dB"]
        scores += [f"{ssim.max():.4f}", str(at[ssim.argmax()])]
        seconds, speeds = run.of("time/seconds")[1], run.of("time/pictures_per_second")[1]
        spent = [f"{seconds[-1] / 3600:.2f}", f"{np.median(speeds):.1f}"] if len(speeds) else ["-"] * 2
        last = max((line["step"] for line in run.lines), default=0)
        rows.append([run.name, *(scores if len(psnr) else ["-"] * 5), str(int(last)), *spent])
    own = [value for run in runs for value in run.of("validation/blurred_psnr")[1][-1:]]
    differ = "\n\nThe blurry inputs' own scores differ: these runs were measured on different pictures."
    return markdown(header, rows) + (differ if own and max(own) - min(own) > 1e-3 else "")


def draw(runs: Sequence[Scalars], target: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), dpi=110, layout="constrained")
    for ax, (key, title) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        for number, run in enumerate(runs):
            ax.plot(*run.of(key), color=f"C{number}", label=run.name, marker="." if key != "loss/generator" else "")
            for value in run.of(key.replace("/", "/blurred_"))[1][-1:]:
                ax.axhline(value, color=f"C{number}", linestyle=":")  # the blurry input's own score
        ax.set(title=title, xlabel="step")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        figure.savefig(part, format="png")
    return target
