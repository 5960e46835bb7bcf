"""One HTML page about an evaluation: its summary, a histogram of the gains, the worst and the best pictures, all rows.

    write_report(evaluation, Path("report.html"), material=material, restored=Path("out/restored"))

The page is one file and asks for nothing outside it. Its look and its behaviour are in `report.css` and `report.js`,
which are written into it. Numbers come from the evaluation alone: pictures on the page are there to be looked at, and
may be smaller than they were when they were scored.
"""

import base64
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..errors import DatasetError
from .measures import BLURRED, METRICS, Measure, measure_of, to_pixels
from .protocols import PROTOCOLS
from .results import Evaluation, Row, Spread, write_aside
from .sets import Material, load
from .tables import costs

SHOWN = 10  # of the best and of the worst pictures
PAGE_BYTES = 24_000_000  # of all pictures together; a page of 25 MB still opens at once
STEPS = ((1280, 90), (1280, 80), (1280, 65), (960, 65), (640, 60), (400, 40), (200, 30))  # longest side, WebP quality
MAP_QUALITY = 70
MAP_LEVELS = 64  # of error that the map's brightest colour stands for, the same on all pictures
MAP_COLOURS = ("#000004", "#56106e", "#bb3754", "#f98c0a", "#fcffa4")  # in even steps, each brighter than the last
BIN_WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # dB
MOST_BINS = 16  # and no more than twice the root of the number of pictures
HEADLINES = ("psnr", "ssim", "ssim_matlab")
SEALED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def write_report(evaluation: Evaluation, path: Path, *, material: Material, restored: Path) -> Path:
    """Writes the page, whole or not at all.

    Args:
        material: what was scored.
        restored: the folder of the restored pictures, as `evaluate(save=True)` leaves them.

    Raises:
        DatasetError: if a restored picture is missing, or the page cannot be written.
    """
    samples = {sample.name: sample for sample in material.samples}

    def pictures(name: str) -> Triple:
        blurred, sharp = (to_pixels(picture) for picture in load(material, samples[name]))
        file = restored / PurePosixPath(name).with_suffix(".png")
        try:
            with Image.open(file) as picture:
                return blurred, np.asarray(picture.convert("RGB")), sharp
        except OSError:
            raise DatasetError(f"{file}: is missing or damaged; evaluate again with --overwrite") from None

    try:
        write_aside(path, page(evaluation, pictures))
    except OSError as reason:
        raise DatasetError(f"{path}: cannot be written ({reason.strerror}); give --html another file") from None
    return path


def require_place(path: Path) -> None:
    """Raises `DatasetError` where no page can be written, which is better known before the scoring than after it."""
    folder = next(above for above in path.absolute().parents if above.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DatasetError(f"{path}: no page can be written there; give --html the name of a file in a folder of yours")


def page(evaluation: Evaluation, pictures: Callable[[str], Triple]) -> str:
    """The page's text.

    Args:
        pictures: gives for a row's name the blurred, the restored and the sharp picture, uint8 (H, W, 3), one size.
            Asked for the pictures that are shown, one after the other.
    """
    here = Path(__file__).parent
    style, script = ((here / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    title = f"{evaluation.model}: {len(evaluation.rows)} pictures, protocol {evaluation.settings.protocol}"
    parts = [masthead(evaluation), summary(evaluation), gallery(evaluation, pictures), rows_section(evaluation)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{SEALED}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>
{style}.legend i {{ background-image: linear-gradient(90deg, {", ".join(MAP_COLOURS)}); }}
</style>
</head>
<body>
{map_filter()}
<main>
{"".join(parts)}</main>
<script>
{script}</script>
</body>
</html>
"""


def text(value: object) -> str:
    """Anything as HTML text or the value of an attribute; bytes of a file's name that are no text become `?`."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def shown_name(row: Row) -> str:
    """A row's name as HTML, which may go on in the next line at the places where people would break it."""
    return text(row.name).replace("/", "/<wbr>").replace("_", "_<wbr>")


# What was measured, and how -------------------------------------------------------------------------------------------


def masthead(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    comparable = PROTOCOLS[settings.protocol].comparable_with if settings.protocol in PROTOCOLS else ()
    beside = (
        "<p>May stand beside</p><ul>" + "".join(f"<li>{text(what)}</li>" for what in comparable) + "</ul>"
        if comparable
        else "<p>May stand beside nothing but scores of the same pictures under the same protocol.</p>"
    )
    tile = {None: "by memory", 0: "whole frames"}.get(settings.tile, f"{settings.tile} px")
    facts = [
        ("Pictures", f"{settings.pictures}, in {evaluation.dataset}" if evaluation.dataset else settings.pictures),
        ("Scored", "RGB, rounded to 8 bits, no border cut"),
        ("Run on", f"{settings.device}, {settings.precision}" + (f", tiles {tile}" if settings.weights else "")),
        ("Cost", costs(evaluation) if any(evaluation.values("seconds")) else ""),
        ("Versions", f"deblur-hub {settings.version}" + (f", torch {evaluation.torch}" if evaluation.torch else "")),
        ("Weights", settings.weights and f"SHA-256 {settings.weights[:16]}"),
        ("Set", f"SHA-256 {settings.fingerprint[:16]} of names and sizes"),
        ("Command", evaluation.command),
        ("Date", evaluation.date),
    ]
    on = f" on {text(Path(evaluation.dataset).name)}" if Path(evaluation.dataset).name else ""
    listed = "".join(f"<div><dt>{text(name)}</dt><dd>{text(fact)}</dd></div>" for name, fact in facts if fact)
    return f"""<header>
<h1>{text(evaluation.model)}{on}</h1>
<p class="lede">Protocol <strong>{text(settings.protocol)}</strong>: {text(evaluation.title or "not described")}</p>
<div class="beside">{beside}</div>
<details><summary>How it was run</summary><dl>{listed}</dl></details>
</header>
"""


def summary(evaluation: Evaluation) -> str:
    shown = [name for name in HEADLINES if name in evaluation.columns]
    cards = "".join(card(evaluation, name) for name in shown)
    chart = histogram(evaluation)
    side = f'<div class="panel"><h2>Gain in PSNR</h2>{chart}</div>' if chart else ""
    return f"""<section aria-label="Summary">
<div class="cards">{cards}</div>
<div class="columns"><div class="panel"><h2>Mean and spread</h2>{spread_table(evaluation)}</div>{side}</div>
</section>
"""


def card(evaluation: Evaluation, name: str) -> str:
    measure = METRICS[name]
    value = f"<strong>{text(measure.written(evaluation.mean(name)))}</strong>"
    before = ""
    if evaluation.has_blurred:
        gain = evaluation.gain(name).mean
        before = (
            f"<p>blurred {text(measure.written(evaluation.mean(BLURRED + name)))}, "
            f'<span class="{tone(gain, measure)}">gain {text(signed(measure, gain))}</span></p>'
        )
    return f'<div class="card"><h2>{text(measure.label)}</h2><p class="value">{value}</p>{before}</div>'


def spread_table(evaluation: Evaluation) -> str:
    """For each measure the blurry input, the restored picture and the gain: mean, standard deviation, least, most."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "mean", "std", "min", "max"))
    bodies = []
    for name in evaluation.measured:
        measure = measure_of(name)
        label = measure.label + (", not aligned" if measure is not METRICS.get(name) else "")
        lines = [("restored", evaluation.spread(name), False)]
        if evaluation.has_blurred:
            lines = [
                ("blurred", evaluation.spread(BLURRED + name), False),
                *lines,
                ("gain", evaluation.gain(name), True),
            ]
        title = f"{label}, {measure.unit.strip()}" if measure.unit else label
        bodies.append(
            f'<tbody><tr><th scope="rowgroup" colspan="5">{text(title)}</th></tr>'
            + "".join(spread_row(what, spread, measure, gain) for what, spread, gain in lines)
            + "</tbody>"
        )
    return f'<table class="spread"><thead><tr>{head}</tr></thead>{"".join(bodies)}</table>'


def spread_row(what: str, spread: Spread, measure: Measure, gain: bool) -> str:
    mean, least, most = (number(measure, value, plus=gain) for value in (spread.mean, spread.min, spread.max))
    std = "–" if spread.std is None else number(measure, spread.std)
    classes = f' class="{tone(spread.mean, measure)}"' if gain else ""
    cells = f"<td{classes}>{mean}</td><td>{std}</td><td>{least}</td><td>{most}</td>"
    return f'<tr><th scope="row">{what}</th>{cells}</tr>'


def number(measure: Measure, value: float, *, plus: bool = False) -> str:
    """A value without its unit, for columns that name it once; with a minus sign that is as wide as a plus."""
    if math.isinf(value):
        return ("+" if plus and value > 0 else "−" if value < 0 else "") + "∞"
    return f"{value:{'+' if plus else ''}.{measure.digits}f}".replace("-", "−")


def signed(measure: Measure, value: float) -> str:
    return number(measure, value, plus=True) + measure.unit


def tone(gain: float, measure: Measure) -> str:
    """The class of a gain: better, worse, or neither."""
    better = gain * measure.better
    return "better" if better > 0 else "worse" if better < 0 else "same"


# The histogram --------------------------------------------------------------------------------------------------------


def bins(values: Sequence[float]) -> tuple[float, list[tuple[float, int]]]:
    """Bins of one width over finite values, all edges its multiples: the width, and (left edge, count) of each."""
    most = min(MOST_BINS, math.ceil(2 * math.sqrt(len(values))))
    spans = {step: place(max(values), step) - place(min(values), step) + 1 for step in BIN_WIDTHS}
    width = next((step for step, span in spans.items() if span <= most), BIN_WIDTHS[-1])
    first, last = place(min(values), width), place(max(values), width)
    counts = [0] * (last - first + 1)
    for value in values:
        counts[place(value, width) - first] += 1
    return width, [((first + index) * width, count) for index, count in enumerate(counts)]


def place(value: float, width: float) -> int:
    """The number of the bin that a value is in; the small part mends 0.3 / 0.1 = 2.9999..."""
    return math.floor(value / width + 1e-9)


def histogram(evaluation: Evaluation) -> str:
    """The gains in PSNR as bars of inline SVG; "" where there are none to show."""
    if "psnr" not in evaluation.columns or not evaluation.has_blurred:
        return ""
    gains = [row.gain("psnr") for row in evaluation.rows]
    finite = [gain for gain in gains if math.isfinite(gain)]
    if not finite:
        return ""
    width, counted = bins(finite)
    measure = METRICS["psnr"]
    left, right, top, bottom, bar = 46, 430, 12, 186, 384 / len(counted)
    most = max(count for _, count in counted)
    decimals = max(0, -math.floor(math.log10(width)))
    rounded = Measure("", measure.function, digits=decimals)

    def edge(value: float) -> str:
        return number(rounded, value + 0.0, plus=True)

    def at(value: float) -> float:
        return left + (value - counted[0][0]) / width * bar

    shapes = []
    for value in grid(most):
        y = bottom - (bottom - top) * value / most
        shapes.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        shapes.append(f'<text class="count" x="{left - 6}" y="{y + 4:.1f}">{value}</text>')
    for start, count in counted:
        height = (bottom - top) * count / most
        kind = "worse" if start < -width / 2 else "better"
        note = f"{count} of {len(gains)}: {edge(start)} to {edge(start + width)} dB"
        shapes.append(
            f'<rect class="{kind}" x="{at(start) + 1:.1f}" y="{bottom - height:.1f}" width="{max(bar - 2, 1):.1f}" '
            f'height="{height:.1f}"><title>{note}</title></rect>'
        )
    every = math.ceil((len(counted) + 1) / 8)
    first = round(counted[0][0] / width)
    for index in range(first, first + len(counted) + 1):
        if index % every == 0:  # so that zero has its label
            shapes.append(
                f'<text class="edge" x="{at(index * width):.1f}" y="{bottom + 23}">{edge(index * width)}</text>'
            )
    mean = math.fsum(finite) / len(finite)
    shapes.append(f'<path class="mean" d="M{at(mean):.1f} {top - 8}V{bottom}"/>')
    shapes.append(f'<text class="edge" x="{(left + right) / 2}" y="{bottom + 46}">gain, dB (line: mean)</text>')
    label = (
        f"Histogram of the gain in PSNR of {len(gains)} pictures: from {signed(measure, min(gains))} to "
        f"{signed(measure, max(gains))}, mean {signed(measure, mean)}"
    )
    rest = len(gains) - len(finite)
    left_out = f"<p>{rest} not shown: restored or blurred without any error.</p>" if rest else ""
    worse = sum(gain < 0 for gain in gains)
    told = f"<p>{worse} of {len(gains)} became worse.</p>" if worse else f"<p>None of {len(gains)} became worse.</p>"
    return (
        f'<svg class="histogram" viewBox="0 0 460 240" role="img" aria-label="{text(label)}">{"".join(shapes)}</svg>'
        f"{told}{left_out}"
    )


def grid(most: int) -> list[int]:
    """Up to five whole numbers from 0 to the highest bar."""
    raw = max(1, math.ceil(most / 4))
    scale = 10 ** (len(str(raw)) - 1)
    step = next(scale * unit for unit in (1, 2, 5, 10) if scale * unit >= raw)
    return list(range(0, most + 1, step))


# The pictures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A picture as it is on the page: its files, the errors' files, and how they were made smaller."""

    panes: tuple[bytes, ...]
    maps: tuple[bytes, ...]
    size: tuple[int, int]
    quality: int


def gallery(evaluation: Evaluation, pictures: Callable[[str], Triple]) -> str:
    """The worst and the best, or all where there are few."""
    compared = evaluation.has_blurred
    value = gain_of("psnr") if compared else score_of("psnr")
    order = sorted(evaluation.rows, key=lambda row: (value(row), row.name))
    by = "gain in PSNR" if compared else "PSNR"
    if len(order) <= 2 * SHOWN:
        heading = f"All {len(order)} pictures" if len(order) > 1 else "The picture"
        groups = [(heading, f"least {by} first" if len(order) > 1 else "", order)]
    else:
        groups = [
            (f"The {SHOWN} worst", f"least {by} first", order[:SHOWN]),
            (f"The {SHOWN} best", f"most {by} first", order[::-1][:SHOWN]),
        ]
    numbers = {row.name: index for index, row in enumerate(evaluation.rows)}
    budget = PAGE_BYTES * 3 // 4 // sum(len(rows) for *_, rows in groups)  # base64 makes four bytes of three
    sections = []
    for heading, note, rows in groups:
        figures = "".join(figure(row, numbers[row.name], pictures(row.name), compared, budget) for row in rows)
        how = f' <small class="muted">{text(note)}</small>' if note else ""
        sections.append(f"<section><h2>{text(heading)}{how}</h2>{figures}</section>\n")
    hint = (
        "Click a picture, then zoom with the wheel and drag; two fingers do both. Keys: <kbd>+</kbd> <kbd>−</kbd> "
        "zoom, arrows move, <kbd>1</kbd> pixel for pixel, <kbd>0</kbd> fit, <kbd>E</kbd> error map, <kbd>Esc</kbd> "
        "leave. The error map is of the pixels that were scored."
    )
    aligned = evaluation.settings.protocol.startswith("realblur")
    caveat = (
        " Pictures and error maps are shown without the alignment that the scores were made with." if aligned else ""
    )
    return f'<p class="hint muted">{hint}{caveat}</p>\n{"".join(sections)}'


def figure(row: Row, index: int, triple: Triple, compared: bool, budget: int) -> str:
    """One row's pictures side by side, the errors of each but the sharp one, and a bar of buttons."""
    blurred, restored, sharp = triple
    panes = [("blurred", blurred, BLURRED), ("restored", restored, "")] if compared else [("restored", restored, "")]
    shown = encoded([pixels for _, pixels, _ in panes], sharp, budget)
    cells = []
    for (what, _, prefix), picture, errors in zip(panes, shown.panes, shown.maps, strict=False):
        alternative = f"{row.name}, {what}"
        cells.append(
            pane(
                f"{image(picture, alternative)}{image(errors, f'error map of {alternative}', 'map')}",
                f"{what}{scores(row, prefix)}",
                shown.size,
            )
        )
    cells.append(
        pane(image(shown.panes[-1], f"{row.name}, sharp"), "sharp" if compared else "sharp, the input", shown.size)
    )
    size, height = f"{sharp.shape[1]}×{sharp.shape[0]}", sharp.shape[0]
    how = f"{size}, WebP quality {shown.quality}"
    if shown.size[1] != height:
        how = f"{size} made smaller to {shown.size[0]}×{shown.size[1]}, WebP quality {shown.quality}"
    gain = row.gain("psnr") if compared else None
    told = (
        f'<span class="{tone(gain, METRICS["psnr"])}">{text(signed(METRICS["psnr"], gain))}</span>'
        if gain is not None
        else f"<span>{text(METRICS['psnr'].written(row.scores['psnr']))}</span>"
    )
    label = f"{row.name}, zoom and move with plus, minus, arrows, 1, 0, E"
    return f"""<figure id="picture-{index}" class="viewer">
<figcaption><h3>{shown_name(row)}</h3>{told}<small class="muted">{how}</small></figcaption>
<div class="panes" tabindex="0" role="group" aria-label="{text(label)}">{"".join(cells)}</div>
<div class="tools" hidden>
<button type="button" data-do="out" aria-label="zoom out">−</button>
<button type="button" data-do="in" aria-label="zoom in">+</button>
<button type="button" data-do="one">1:1</button>
<button type="button" data-do="fit">Fit</button>
<output aria-live="polite"></output>
<button type="button" data-do="errors" aria-pressed="false">Error map</button>
<span class="legend" hidden>0 <i></i> {MAP_LEVELS} of 255 levels and more</span>
</div>
</figure>
"""


def pane(pictures: str, label: str, size: tuple[int, int]) -> str:
    return (
        f'<div class="pane"><div class="frame" style="aspect-ratio:{size[0]}/{size[1]}">{pictures}</div>'
        f"<p>{label}</p></div>"
    )


def scores(row: Row, prefix: str) -> str:
    """' 27.12 dB, SSIM 0.8312', of the blurred or the restored picture."""
    told = []
    for name in ("psnr", "ssim"):
        if prefix + name in row.scores:
            value = METRICS[name].written(row.scores[prefix + name])
            told.append(value if name == "psnr" else f"SSIM {value}")
    return f' <span class="muted">{text(", ".join(told))}</span>'


def image(file: bytes, alternative: str, kind: str = "") -> str:
    source = base64.b64encode(file).decode()
    classes = f' class="{kind}" hidden' if kind else ""
    return (
        f'<img{classes} alt="{text(alternative)}" src="data:image/webp;base64,{source}" loading="lazy" '
        'decoding="async" draggable="false">'
    )


def encoded(inputs: Sequence[np.ndarray], sharp: np.ndarray, budget: int) -> Shown:
    """Pictures and error maps as WebP, as large and as good as fits.

    Args:
        inputs: uint8 (H, W, 3) each; `sharp` is put behind them.
        budget: bytes for all of them together.
    """
    errors = [error_map(picture, sharp) for picture in inputs]
    for longest, quality in STEPS:
        panes = tuple(webp(picture, longest, quality, Image.Resampling.LANCZOS) for picture in (*inputs, sharp))
        maps = tuple(webp(error, longest, min(quality, MAP_QUALITY), Image.Resampling.BOX) for error in errors)
        if sum(map(len, (*panes, *maps))) <= budget:
            break
    return Shown(panes, maps, scaled(sharp.shape[1::-1], longest), quality)


def error_map(picture: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """uint8 (H, W): the root of the channels' mean squared error, where 255 stands for `MAP_LEVELS` and more."""
    error = np.sqrt(np.square(picture.astype(np.float32) - sharp).mean(axis=2))
    levels: np.ndarray = (error * (255 / MAP_LEVELS)).round().clip(0, 255).astype(np.uint8)
    return levels


def scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height) with no side longer than `longest`; never larger than it was."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def webp(pixels: np.ndarray, longest: int, quality: int, how: Image.Resampling) -> bytes:
    picture = Image.fromarray(pixels)
    size = scaled(picture.size, longest)
    if size != picture.size:
        picture = picture.resize(size, how)
    file = io.BytesIO()
    picture.convert("RGB").save(file, "WEBP", quality=quality)
    return file.getvalue()


def map_filter() -> str:
    """What colours the grey error maps."""
    channels = [
        " ".join(f"{int(colour[start : start + 2], 16) / 255:.3f}" for colour in MAP_COLOURS) for start in (1, 3, 5)
    ]
    functions = "".join(
        f'<feFunc{channel} type="table" tableValues="{values}"/>'
        for channel, values in zip("RGB", channels, strict=True)
    )
    return (
        '<svg width="0" height="0" aria-hidden="true" class="defs">'
        '<filter id="heat" color-interpolation-filters="sRGB">'
        f"<feComponentTransfer>{functions}</feComponentTransfer></filter></svg>"
    )


# All rows -------------------------------------------------------------------------------------------------------------


def score_of(column: str) -> Callable[[Row], float]:
    return lambda row: row.scores[column]


def gain_of(metric: str) -> Callable[[Row], float]:
    return lambda row: row.gain(metric)


def rows_section(evaluation: Evaluation) -> str:
    """Every picture and every measure, to be sorted by any of them."""
    columns: list[tuple[str, Measure, Callable[[Row], float], bool]] = []
    for name in evaluation.measured:
        measure = measure_of(name)
        label = measure.label + (", not aligned" if measure is not METRICS.get(name) else "")
        if evaluation.has_blurred:
            columns.append((f"{label} blurred", measure, score_of(BLURRED + name), False))
        columns.append((f"{label} restored", measure, score_of(name), False))
        if evaluation.has_blurred:
            columns.append((f"{label} gain", measure, gain_of(name), True))
    timed = any(evaluation.values("seconds"))
    labels = ["picture", *(label for label, *_ in columns), *(["seconds"] if timed else [])]
    head = "".join(
        f'<th scope="col" aria-sort="{"none" if column else "ascending"}">'
        f'<button type="button">{text(label)}</button></th>'
        for column, label in enumerate(labels)
    )
    lines = []
    for index, row in enumerate(evaluation.rows):
        cells = [f'<th scope="row" data-shown="{index}">{shown_name(row)}</th>']
        for _, measure, value, gain in columns:
            found = value(row)
            classes = f' class="{tone(found, measure)}"' if gain else ""
            cells.append(f'<td{classes} data-value="{found!r}">{number(measure, found, plus=gain)}</td>')
        if timed:
            cells.append(f'<td data-value="{row.seconds!r}">{row.seconds:.2f}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    newline = "\n"
    return f"""<section>
<h2>All rows <small class="muted">PSNR in dB; a click on a heading sorts</small></h2>
<div class="scroll" tabindex="0" role="region" aria-label="Scores of every picture">
<table class="rows"><thead><tr>{head}</tr></thead><tbody>
{newline.join(lines)}
</tbody></table>
</div>
</section>
"""
