"""Evaluations as text that reads well in a terminal, and is Markdown."""

from .measures import BLURRED, Measure, label_of, measure_of
from .protocols import PROTOCOLS
from .results import Evaluation, Row, Spread
from .sets import SHARP_INPUT

ROW_METRICS = ("psnr", "ssim")  # that have room in a line; results.json has all


def heading(evaluation: Evaluation) -> str:
    """What was scored, under which protocol, and what the scores can be compared with."""
    settings = evaluation.settings
    lines = [
        f"{evaluation.model} on {evaluation.dataset}, {len(evaluation.rows)} pictures, {evaluation.precision}",
        f"protocol {settings.protocol}: {evaluation.title}; RGB, rounded to 8 bits, no border cut",
    ]
    comparable = PROTOCOLS[settings.protocol].comparable_with if settings.protocol in PROTOCOLS else ()
    beside = comparable or ["nothing but scores of the same pictures under the same protocol"]
    return "\n".join([*lines, *(f"  may stand beside {what}" for what in beside)])


def table(evaluation: Evaluation) -> str:
    """A line for each picture and one for their mean; below them the spread of all metrics."""
    return f"{rows_table(evaluation)}\n\n{markdown(*spread_lines(evaluation))}"


def rows_table(evaluation: Evaluation) -> str:
    """The pictures' PSNR and SSIM, in the order of their names, and the mean."""
    after = "{} to the input" if evaluation.settings.protocol == SHARP_INPUT.name else "restored {}"
    mean = Row("mean", {name: evaluation.mean(name) for name in evaluation.columns}, evaluation.mean("seconds"))
    rows = (*evaluation.rows, mean)
    columns = [["picture", *(row.name for row in rows)]]
    for name in ROW_METRICS:
        if name in evaluation.columns:
            measure = measure_of(name)
            if evaluation.has_blurred:
                blurred = (measure.format(row.scores[BLURRED + name]) for row in rows)
                columns.append([f"blurry {measure.label}", *blurred])
            columns.append([after.format(measure.label), *(measure.format(row.scores[name]) for row in rows)])
            if evaluation.has_blurred and name == "psnr":
                gains = [*(row.gain(name) for row in evaluation.rows), evaluation.gain(name).mean]
                columns.append(["gain", *(measure.format(gain, signed=True) for gain in gains)])
    if any(evaluation.values("seconds")):
        columns.append(["seconds", *(f"{row.seconds:.2f}" for row in rows)])
    header, *lines = map(list, zip(*columns, strict=True))
    return markdown(header, lines)


def spread_lines(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and lines: mean, standard deviation, minimum and maximum of the blurry input, restored, and the gain."""
    lines = [
        spread_line(f"{label_of(name)}, {'blurry' if what == 'blurred' else what}", spread, measure_of(name), what)
        for name in evaluation.measured
        for what, spread in evaluation.spreads(name).items()
    ]
    if "psnr_float" in evaluation.columns:
        spread = evaluation.spread("psnr_float")
        lines.append(spread_line("PSNR, restored, not rounded", spread, measure_of("psnr"), "restored"))
    return [f"over {len(evaluation.rows)} pictures", "mean", "std", "min", "max"], lines


def spread_line(label: str, spread: Spread, measure: Measure, what: str) -> list[str]:
    mean, least, most = (measure.format(one, signed=what == "gain") for one in (spread.mean, spread.min, spread.max))
    return [label, mean, "-" if spread.std is None else measure.format(spread.std), least, most]


def costs(evaluation: Evaluation) -> str:
    """The time that a picture took, and the memory."""
    parts = [f"{evaluation.seconds_per_picture():.3g} s a picture (median, restoring alone)"]
    if evaluation.peak_memory:
        parts.append(f"{evaluation.peak_memory / 2**30:.2f} GiB of memory at the peak")
    if evaluation.peak_cuda:
        parts.append(f"{evaluation.peak_cuda / 2**30:.2f} GiB of the GPU's")
    return ", ".join(parts)


def markdown(header: list[str], lines: list[list[str]], *, left: int = 1) -> str:
    """A Markdown table with aligned columns: the first `left` of them to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    columns = [("<" if place < left else ">", width) for place, width in enumerate(widths)]
    row = "".join(f" {{:{side}{width}}} |" for side, width in columns)
    rule = "".join("-" * (width + 1) + ("-|" if side == "<" else ":|") for side, width in columns)
    return "\n".join(f"|{text}" for text in (row.format(*header), rule, *(row.format(*line) for line in lines)))
