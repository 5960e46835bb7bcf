"""Curves of runs, from their `metrics.jsonl` alone: of one run at its end, and of several in one plot.

matplotlib is imported when something is drawn, and draws into memory: no window, no global state.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..recipe import RecipeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS, CURVES = "metrics.jsonl", "curves.png"
# Okabe and Ito's colours, which people who confuse some colours can tell apart as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222", "#8C6D31", "#7F3C8D", "#A5AA99")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # for a second and a third round of the colours
GREY = "#777777"
PANEL = (5.2, 4.0)  # inches
DECADES = 1.3  # a panel whose values span more has a logarithmic scale
SMOOTHED_FROM = 60  # points, from which a running mean says more than the points do


@dataclass(frozen=True)
class Scalars:
    """What a run logged: `lines` as they are in `metrics.jsonl`, by step."""

    name: str
    lines: tuple[dict[str, float], ...]

    def of(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and finite values of one scalar; empty where it was never logged."""
        points = [(line["step"], line[key]) for line in self.lines if math.isfinite(line.get(key, math.nan))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps), np.array(values, dtype=float)

    def keys(self, prefix: str) -> list[str]:
        """Those scalars that begin with a prefix and have a finite value, in the order in which they came."""
        found = dict.fromkeys(key for line in self.lines for key in line if key.startswith(prefix))
        return [key for key in found if len(self.of(key)[0])]

    def best(self, key: str) -> tuple[int, float] | None:
        """The step and value at which a score was highest; None where nothing was measured."""
        steps, values = self.of(key)
        return (int(steps[values.argmax()]), float(values.max())) if len(steps) else None

    def last(self, key: str) -> float | None:
        _, values = self.of(key)
        return float(values[-1]) if len(values) else None


def read_scalars(folder: Path, name: str = "") -> Scalars:
    """What the run in a folder has logged so far; lines that are cut short are passed over.

    Raises:
        RecipeError: if it holds no run.
    """
    try:
        text = (folder / METRICS).read_text()
    except OSError as reason:
        raise RecipeError(
            f"{folder}: is not the folder of a run ({METRICS}: {reason.strerror}); name what --output named"
        ) from None
    lines = []
    for line in text.splitlines():
        try:
            scalars = json.loads(line)
            lines.append({"step": int(scalars["step"])} | {key: float(value) for key, value in scalars.items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return Scalars(name or folder.name, tuple(sorted(lines, key=lambda line: line["step"])))


def draw_run(folder: Path) -> Path:
    """Draws the run in a folder as its `curves.png`: losses, the critic's if it has one, PSNR and SSIM.

    Raises:
        RecipeError: if it holds no run.
        ImportError: where matplotlib is missing.
    """
    run = read_scalars(folder)
    losses = [key for key in run.keys("loss/") if key not in ("loss/critic", "loss/generator")]
    generator = (["loss/generator"] if run.keys("loss/generator") else []) + (losses if len(losses) > 1 else [])
    critic = [*run.keys("loss/critic"), *run.keys("critic/")]
    panels = [("generator's loss", generator)] if generator else []
    panels += [("critic", critic)] if critic else []
    measured = [key for key in ("psnr", "ssim") if run.best(f"validation/{key}")]
    figure, axes = make_figure(len(panels) + len(measured), run.name)
    for ax, (title, keys) in zip(axes, panels, strict=False):
        for number, key in enumerate(keys):
            whole = key in ("loss/generator", "loss/critic")
            colour = COLOURS[6] if whole else COLOURS[number - 1]
            label = "total" if whole else key.partition("/")[2].replace("/", " ")
            plot_noisy(ax, *run.of(key), colour=colour, label=label, width=1.8 if whole else 1.3)
        scale(ax, [run.of(key)[1] for key in keys])
        ax.set_title(title)
        if len(keys) > 1:
            ax.legend()
    for ax, key in zip(axes[len(panels) :], measured, strict=True):
        plot_score(ax, run, key, colour=COLOURS[0], label="restored", told=True)
        plot_blurred(ax, [run], key)
        ax.set_title(score_title(key))
        ax.legend()
    for ax in axes:
        add_steps(ax, run)
    return write(figure, folder / CURVES)


def compare(folders: Sequence[Path], target: Path) -> str:
    """Draws several runs into one picture, and returns a table of them.

    Raises:
        RecipeError: if one of them is not the folder of a run, or there is none.
    """
    names = short_names(folders)
    runs = [read_scalars(folder, name) for folder, name in zip(folders, names, strict=True)]
    measured = [key for key in ("psnr", "ssim") if any(run.best(f"validation/{key}") for run in runs)]
    with_loss = any(run.keys("loss/generator") for run in runs)
    figure, axes = make_figure(with_loss + len(measured), "")
    for number, run in enumerate(runs):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        if with_loss:
            plot_noisy(axes[0], *run.of("loss/generator"), colour=colour, label=run.name, style=dash)
        for ax, key in zip(axes[with_loss:], measured, strict=True):
            plot_score(ax, run, key, colour=colour, label=run.name, style=dash)
    if with_loss:
        scale(axes[0], [run.of("loss/generator")[1] for run in runs])
        axes[0].set_title("generator's loss")
    for ax, key in zip(axes[with_loss:], measured, strict=True):
        plot_blurred(ax, runs, key)
        ax.set_title(score_title(key))
    for ax in axes:
        add_steps(ax)
    if axes:
        shown = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(4, len(shown)))
    write(figure, target)
    return table(runs)


def table(runs: Iterable[Scalars]) -> str:
    """Best PSNR and SSIM of each run with their steps, its length and its hours, as Markdown."""
    runs = list(runs)
    rows = [("run", "best PSNR", "at step", "gain", "best SSIM", "at step", "steps", "hours", "pictures/s")]
    for run in runs:
        psnr, ssim, blurred = (
            run.best("validation/psnr"),
            run.best("validation/ssim"),
            run.last("validation/blurred_psnr"),
        )
        seconds, (_, speeds) = run.last("time/seconds"), run.of("time/pictures_per_second")
        rows.append(
            (
                run.name,
                f"{psnr[1]:.2f} dB" if psnr else "-",
                str(psnr[0]) if psnr else "-",
                f"{psnr[1] - blurred:+.2f} dB" if psnr and blurred is not None else "-",
                f"{ssim[1]:.4f}" if ssim else "-",
                str(ssim[0]) if ssim else "-",
                str(max((int(line["step"]) for line in run.lines), default=0)),
                f"{seconds / 3600:.2f}" if seconds is not None else "-",
                f"{np.median(speeds):.1f}" if len(speeds) else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"| {row[0]:<{widths[0]}} | "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    if not one_set(runs, "psnr"):
        lines.append("\nThe blurred inputs' own scores differ: these runs were measured on different pictures.")
    return "\n".join(lines)


def short_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; where two are equal, as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


# Drawing -------------------------------------------------------------------------------------------------------------


def make_figure(panels: int, title: str) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    columns = 2 if panels == 4 else max(1, panels)
    rows = math.ceil(panels / columns) or 1
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), dpi=110, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(panels)]
    for ax in axes:
        ax.grid(color="#e4e4e4", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    if not axes:
        figure.text(0.5, 0.5, "nothing was logged yet", ha="center", va="center", color=GREY)
    return figure, axes


def plot_noisy(
    ax: "Axes",
    steps: np.ndarray,
    values: np.ndarray,
    *,
    colour: str,
    label: str,
    width: float = 1.6,
    style: object = "-",
) -> None:
    """The values, or where there are many, their running mean with the values behind it."""
    if len(steps) >= SMOOTHED_FROM:
        ax.plot(steps, values, color=colour, alpha=0.18, linewidth=0.7)
        values = running_mean(values, len(values) // 30)
    marker = "o" if len(steps) < 12 else None
    ax.plot(steps, values, color=colour, label=label, linewidth=width, marker=marker, markersize=3, linestyle=style)


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value and its neighbours up to `reach` on both sides, of fewer near the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def plot_score(
    ax: "Axes", run: Scalars, key: str, *, colour: str, label: str, style: object = "-", told: bool = False
) -> None:
    """A score with a star at its best, which `told` puts into words."""
    steps, values = run.of(f"validation/{key}")
    best = run.best(f"validation/{key}")
    if best is None:
        return
    ax.plot(steps, values, color=colour, label=label, linewidth=1.6, linestyle=style)
    if len(steps) < 30:
        ax.plot(steps, values, color=colour, linestyle="none", marker="o", markersize=3)
    star = {"label": f"best: {best[1]:{digits(key)}} at step {best[0]}"} if told else {}
    ax.plot(*best, color=colour, linestyle="none", marker="*", markersize=14, markeredgecolor="white", **star)


def plot_blurred(ax: "Axes", runs: Sequence[Scalars], key: str) -> None:
    """The blurry inputs' own score as a line; one for each run where their pictures differ."""
    same = one_set(runs, key)
    for number, run in enumerate(runs):
        own = run.last(f"validation/blurred_{key}")
        if own is None:
            continue
        colour = GREY if same else COLOURS[number % len(COLOURS)]
        label = "blurred input" if len(runs) > 1 else f"blurred input: {own:{digits(key)}}"
        ax.axhline(own, color=colour, linestyle=":", linewidth=1.4, label=label if same or number == 0 else None)
        if same:
            return


def one_set(runs: Sequence[Scalars], key: str) -> bool:
    """Whether the blurry inputs' own scores agree, as they do for runs that are measured on the same pictures."""
    own = [score for run in runs if (score := run.last(f"validation/blurred_{key}")) is not None]
    return not own or max(own) - min(own) < 1e-4 * max(1.0, abs(max(own)))


def scale(ax: "Axes", series: Sequence[np.ndarray]) -> None:
    """A logarithmic scale where the values span decades, on both sides of zero if they lie there."""
    sizes = np.abs(np.concatenate([*series, np.zeros(0)]))
    sizes = sizes[sizes > 0]
    if not len(sizes) or np.log10(sizes.max() / np.quantile(sizes, 0.01)) < DECADES:
        return
    if all((values > 0).all() for values in series):
        ax.set_yscale("log")
    else:
        # The part around zero is linear, up to a power of ten, so that its marks do not run into each other.
        ax.set_yscale("symlog", linthresh=10.0 ** math.ceil(np.log10(np.quantile(sizes, 0.1))), linscale=0.6)


def add_steps(ax: "Axes", run: Scalars | None = None) -> None:
    """Names the lower axis; a run that saw its pictures twice and more has its epochs on top."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_xlabel("step")
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if run is None:
        return
    steps, epochs = run.of("epoch")
    if len(steps) and epochs[-1] >= 2:
        rate = epochs[-1] / steps[-1]
        top = ax.secondary_xaxis("top", functions=(lambda step: step * rate, lambda epoch: epoch / rate))
        top.set_xlabel("epoch")
        top.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def score_title(key: str) -> str:
    return {"psnr": "PSNR on the held-out pairs, dB", "ssim": "SSIM on the held-out pairs"}[key]


def digits(key: str) -> str:
    return {"psnr": ".2f", "ssim": ".4f"}[key]


def write(figure: "Figure", target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".part")
    try:
        figure.savefig(aside, format="png")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target
