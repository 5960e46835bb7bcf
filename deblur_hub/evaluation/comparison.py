"""Two evaluations of the same pictures: by how much they differ, and whether that many pictures can show it."""

from dataclasses import dataclass

import numpy as np

from ..errors import DatasetError
from .measures import METRICS
from .results import Evaluation, Spread, difference
from .tables import ROW_METRICS, markdown

LEVEL = 0.95
MAX_INDICES = 1 << 22  # drawn at once
COMPARABLE = ("protocol", "blur_folder", "seed", "fingerprint")  # settings that two evaluations must share


@dataclass(frozen=True)
class Difference:
    """Difference of one metric, b minus a, on the same pictures."""

    metric: str
    a: float  # its mean
    b: float
    mean: float  # of the differences
    interval: tuple[float, float] | None  # 95 % bootstrap; None for one picture, or where a difference is infinite


@dataclass(frozen=True)
class Comparison:
    """The differences between two evaluations, and the pictures, those first where b is worst compared with a."""

    a: str
    b: str
    differences: tuple[Difference, ...]  # one for each metric that both have
    rows: tuple[tuple[str, dict[str, tuple[float, float]]], ...]  # (picture, {metric: (a, b)})
    warning: str = ""  # the reason to doubt it


def compare(a: Evaluation, b: Evaluation, *, by: str = "psnr", force: bool = False) -> Comparison:
    """Compares b with a, picture by picture.

    Args:
        by: the metric that the rows are sorted by; DatasetError if one lacks it.
        force: compares evaluations of other protocols or sets, too, on the pictures whose names they share.
    """
    warning = a.settings.difference(b.settings, COMPARABLE)
    if warning and not force:
        raise DatasetError(f"the two cannot be compared: {warning}; --force compares the pictures of the same names")
    metrics = [name for name in METRICS if name in a.settings.metrics and name in b.settings.metrics]
    sortable = [name for name in metrics if METRICS[name].better]
    if by not in sortable:
        raise DatasetError(f"'{by}' is not a metric that both have; sort by {' or '.join(sortable) or 'none'}")
    of_a, of_b = ({row.name: row.scores for row in one.rows} for one in (a, b))
    names = sorted(of_a.keys() & of_b.keys())
    if not names:
        raise DatasetError("the two have no picture in common; evaluate both on the same set")
    rows = [(name, {metric: (of_a[name][metric], of_b[name][metric]) for metric in metrics}) for name in names]
    rows.sort(key=lambda row: METRICS[by].better * difference(*row[1][by]))
    differences = []
    for metric in metrics:
        one, two = ([of[name][metric] for name in names] for of in (of_a, of_b))
        gaps = [difference(x, y) for x, y in zip(one, two, strict=True)]
        mean_a, mean_b, mean = (Spread.of(values).mean for values in (one, two, gaps))
        differences.append(Difference(metric, mean_a, mean_b, mean, bootstrap_interval(gaps)))
    label_a, label_b = (f"{one.model}, {one.precision}" for one in (a, b))
    return Comparison(label_a, label_b, tuple(differences), tuple(rows), warning)


def bootstrap_interval(
    differences: list[float], *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean of paired differences (Efron 1979); see `Difference`."""
    values = np.array(differences, float)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, MAX_INDICES // len(values))
    for first in range(0, resamples, step):
        drawn = rng.integers(0, len(values), (min(step, resamples - first), len(values)))
        means.append(values[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def comparison_text(comparison: Comparison) -> str:
    """The mean differences with their intervals, and the rows, worst first."""
    lines = []
    for found in comparison.differences:
        measure = METRICS[found.metric]
        interval = "-"
        if found.interval:
            low, high = (measure.format(value, signed=True) for value in found.interval)
            interval = f"{low} to {high}" + (", 0 within" if found.interval[0] <= 0 <= found.interval[1] else "")
        change = measure.format(found.mean, signed=True)
        lines.append([measure.label, measure.format(found.a), measure.format(found.b), change, interval])
    shown = {name: METRICS[name] for name in ROW_METRICS if name in comparison.rows[0][1]}
    header = [f"{measure.label}{part}" for measure in shown.values() for part in (" a", " b", " b - a")]
    rows = [[name] for name, _ in comparison.rows]
    for (_, scores), row in zip(comparison.rows, rows, strict=True):
        for name, measure in shown.items():
            one, two = scores[name]
            row += [measure.format(one), measure.format(two), measure.format(difference(one, two), signed=True)]
    means = markdown([f"mean of {len(rows)}", "a", "b", "b - a", "95 % interval"], lines)
    return f"a: {comparison.a}\nb: {comparison.b}\n\n{means}\n\n{markdown(['picture, worst first', *header], rows)}"
