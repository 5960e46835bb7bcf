"""Evaluations as text that reads well in a terminal, and is Markdown."""

from .measures import BLURRED, UNALIGNED, Measure, measure_of
from .protocols import PROTOCOLS
from .results import Evaluation, Row, Spread
from .sets import SHARP_INPUT

ROW_METRICS = ("psnr", "ssim")  # that have room in a line; results.json has all


def heading(evaluation: Evaluation) -> str:
    """What was scored, under which protocol, and what the numbers may be compared with."""
    settings = evaluation.settings
    lines = [
        f"{evaluation.model} on {evaluation.dataset}, {len(evaluation.rows)} pictures, {evaluation.precision}",
        f"protocol {settings.protocol}: {evaluation.title}; RGB, rounded to 8 bits, no border cut",
    ]
    comparable = PROTOCOLS[settings.protocol].comparable_with if settings.protocol in PROTOCOLS else ()
    lines += [f"  may stand beside {what}" for what in comparable]
    if not comparable:
        lines.append("  may stand beside nothing but scores of the same pictures under the same protocol")
    return "\n".join(lines)


def table(evaluation: Evaluation) -> str:
    """A line for each picture and one for their mean; below them the spread of all measures."""
    return f"{rows_table(evaluation)}\n\n{spread_table(evaluation)}"


def rows_table(evaluation: Evaluation) -> str:
    """The pictures' PSNR and SSIM, in the order of their names, and the mean."""
    names = [name for name in ROW_METRICS if name in evaluation.columns]
    compared = evaluation.has_blurred
    after = "{} to the input" if evaluation.settings.protocol == SHARP_INPUT.name else "restored {}"
    timed = any(evaluation.values("seconds"))
    header = ["picture"]
    for name in names:
        label = measure_of(name).label
        header += [f"blurred {label}", after.format(label)] if compared else [after.format(label)]
        header += ["gain"] if compared and name == "psnr" else []
    mean = Row("mean", {name: evaluation.mean(name) for name in evaluation.columns}, evaluation.mean("seconds"))
    lines = []
    for row in (*evaluation.rows, mean):
        cells = [row.name]
        for name in names:
            written = measure_of(name).written
            if compared:
                cells.append(written(row.scores[BLURRED + name]))
            cells.append(written(row.scores[name]))
            if compared and name == "psnr":
                gain = evaluation.gain(name).mean if row is mean else row.gain(name)
                cells.append(written(gain, signed=True))
        lines.append([*cells, f"{row.seconds:.2f}"] if timed else cells)
    return markdown([*header, "seconds"] if timed else header, lines)


def spread_table(evaluation: Evaluation) -> str:
    """Mean, standard deviation, minimum and maximum of every measure: of the blurry input, restored, and the gain."""
    lines = []
    for name in evaluation.measured:
        measure = measure_of(name)
        label = measure.label + (", not aligned" if name.endswith(UNALIGNED) else "")
        if evaluation.has_blurred:
            lines.append(spread_line(f"{label}, blurred", evaluation.spread(BLURRED + name), measure))
        lines.append(spread_line(f"{label}, restored", evaluation.spread(name), measure))
        if evaluation.has_blurred:
            lines.append(spread_line(f"{label}, gain", evaluation.gain(name), measure, signed=True))
    if "psnr_float" in evaluation.columns:
        measure = measure_of("psnr")
        lines.append(spread_line("PSNR, restored, not rounded", evaluation.spread("psnr_float"), measure))
    return markdown([f"over {len(evaluation.rows)} pictures", "mean", "std", "min", "max"], lines)


def spread_line(label: str, spread: Spread, measure: Measure, *, signed: bool = False) -> list[str]:
    def written(value: float) -> str:
        return measure.written(value, signed=signed)

    std = "-" if spread.std is None else measure.written(spread.std)
    return [label, written(spread.mean), std, written(spread.min), written(spread.max)]


def costs(evaluation: Evaluation) -> str:
    """How long a picture took, and how much memory."""
    parts = [f"{evaluation.seconds_per_picture():.3g} s a picture (median, restoring alone)"]
    if evaluation.peak_memory:
        parts.append(f"{evaluation.peak_memory / 2**30:.2f} GiB of memory at the peak")
    if evaluation.peak_cuda:
        parts.append(f"{evaluation.peak_cuda / 2**30:.2f} GiB of the GPU's")
    return ", ".join(parts)


def markdown(header: list[str], lines: list[list[str]], *, left: int = 1) -> str:
    """A Markdown table, its columns lined up: the first ones, as many as `left`, to the left, others to the right."""
    widths = [max(len(line[place]) for line in (header, *lines)) for place in range(len(header))]

    def row(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 2) if place < left else "-" * (width + 1) + ":" for place, width in enumerate(widths)
    )
    return "\n".join([row(header), f"|{rule}|", *map(row, lines)])
