"""Two evaluations of the same pictures: by how much they differ, and whether so few pictures can show it.

print(comparison_text(compare(Evaluation.read(Path("a.json")), Evaluation.read(Path("b.json")))))
"""

from dataclasses import dataclass

import numpy as np

from ..errors import DatasetError
from .measures import METRICS
from .results import Evaluation, Spread
from .tables import markdown

RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95
AT_ONCE = 1 << 22  # indices drawn in one go
COMPARABLE = ("protocol", "blur_folder", "seed", "fingerprint")  # settings that two evaluations must share


@dataclass(frozen=True)
class Difference:
    """Of one metric, b minus a, on the same pictures.

    Attributes:
        a, b: the two means.
        mean: of the differences.
        interval: its 95 % bootstrap interval; None for a single picture, or where a difference is infinite.
    """

    metric: str
    a: float
    b: float
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        differences: one for each metric that both have.
        rows: (picture, {metric: (a, b)}), those where b is worst beside a first.
        warning: what makes it questionable; "" if nothing does.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    rows: tuple[tuple[str, dict[str, tuple[float, float]]], ...]
    warning: str = ""


def compare(a: Evaluation, b: Evaluation, *, by: str = "psnr", force: bool = False) -> Comparison:
    """Compares b with a, picture by picture.

    Args:
        by: the metric that the rows are sorted by.
        force: compares what was not made for it, on the pictures whose names they share.

    Raises:
        DatasetError: if protocol or pictures differ and it is not forced, or they share no picture or not the metric.
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
    rows.sort(key=lambda row: METRICS[by].better * minus(*row[1][by]))
    differences = []
    for metric in metrics:
        one, two = ([of[name][metric] for name in names] for of in (of_a, of_b))
        gaps = [minus(x, y) for x, y in zip(one, two, strict=True)]
        differences.append(Difference(metric, mean(one), mean(two), mean(gaps), bootstrap_interval(gaps)))
    label_a, label_b = (f"{one.model}, {one.precision}" for one in (a, b))
    return Comparison(label_a, label_b, tuple(differences), tuple(rows), warning)


def mean(values: list[float]) -> float:
    return Spread.of(values).mean


def minus(a: float, b: float) -> float:
    """b - a; 0 where both are infinite."""
    return 0.0 if a == b else b - a


def bootstrap_interval(
    differences: list[float], *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of the mean of paired differences (Efron 1979): pictures drawn with return.

    Returns:
        None for fewer than two differences, or where one is infinite.
    """
    values = np.array(differences, float)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, AT_ONCE // len(values))
    for first in range(0, resamples, step):
        drawn = rng.integers(0, len(values), (min(step, resamples - first), len(values)))
        means.append(values[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def comparison_text(comparison: Comparison) -> str:
    """The mean differences with their intervals, and the rows, worst first."""
    lines = []
    for found in comparison.differences:
        measure = METRICS[found.metric]
        interval = "-"
        if found.interval:
            low, high = (measure.written(value, signed=True) for value in found.interval)
            interval = f"{low} to {high}" + (", 0 within" if found.interval[0] <= 0 <= found.interval[1] else "")
        values = measure.written(found.a), measure.written(found.b), measure.written(found.mean, signed=True)
        lines.append([measure.label, *values, interval])
    rows = []
    for name, scores in comparison.rows:
        cells = [name]
        for metric in ("psnr", "ssim"):
            if metric in scores:
                one, two = scores[metric]
                written = METRICS[metric].written
                cells += [written(one), written(two), written(minus(one, two), signed=True)]
        rows.append(cells)
    labels = [METRICS[metric].label for metric in ("psnr", "ssim") if metric in comparison.rows[0][1]]
    header = ["picture, worst first", *(f"{label}{part}" for label in labels for part in (" a", " b", " b - a"))]
    return (
        f"a: {comparison.a}\nb: {comparison.b}\n\n"
        + markdown([f"mean of {len(rows)}", "a", "b", "b - a", "95 % interval"], lines)
        + "\n\n"
        + markdown(header, rows)
    )
