"""A page about an evaluation: its summary, a histogram of the gains, the worst and the best pictures, all rows.

    write_report(evaluation, Path("report.html"), pictures=pairs, restored=Path("out/restored"))

The page is one file that loads nothing else; `report.css` and `report.js` are copied into it. Its pictures are
compressed and may be reduced in size; its numbers come from the evaluation alone.
"""

import base64
import io
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from .. import atomic
from ..errors import DatasetError
from .measures import BLURRED, METRICS, label_of, measure_of, to_pixels
from .protocols import PROTOCOLS
from .results import Evaluation, Row
from .sets import EvaluationSet
from .tables import costs, spread_lines

SHOWN = 5  # of the best and of the worst pictures
LONGEST_SIDE, QUALITY = 1280, 80  # of the pictures, which are WebP: at most some 10 MB in all
BIN_WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # dB
MAX_BINS = 16
TONES = {1: "better", 0: "", -1: "worse"}  # of a cell
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(evaluation: Evaluation, path: Path, *, pictures: EvaluationSet, restored: Path) -> Path:
    """Writes the page, whole or not at all, of the set that was scored and the folder that `evaluate(save=True)` fills.

    DatasetError if a restored picture is missing, or the page cannot be written.
    """
    samples = {sample.name: sample for sample in pictures.samples}
    shown: dict[str, Sequence[np.ndarray]] = {}
    for row in worst_and_best(evaluation):
        file = restored / PurePosixPath(row.name).with_suffix(".png")
        blurred, sharp = (to_pixels(one) for one in pictures.load(samples[row.name]))
        try:
            with Image.open(file) as picture:
                after = np.asarray(picture.convert("RGB"))
        except OSError:
            raise DatasetError(f"{file}: is missing or damaged; evaluate again with --overwrite") from None
        shown[row.name] = (blurred, after, sharp) if evaluation.has_blurred else (sharp, after)
    try:
        atomic.write_text(path, page(evaluation, shown))
    except OSError as reason:
        raise DatasetError(f"{path}: cannot be written ({reason.strerror}); give --html another file") from None
    return path


def require_writable(path: Path) -> None:
    """Raises DatasetError if the page cannot be written there, so that this is known before the scoring."""
    folder = next(above for above in path.absolute().parents if above.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DatasetError(f"{path}: no page can be written there; give --html the name of a file in a folder of yours")


def worst_and_best(evaluation: Evaluation) -> list[Row]:
    """The rows whose pictures are shown, those of least gain (or PSNR, without a blurry input) first."""
    gained = evaluation.has_blurred
    order = sorted(evaluation.rows, key=lambda row: (row.gain("psnr") if gained else row.scores["psnr"], row.name))
    return order if len(order) <= 2 * SHOWN else order[:SHOWN] + order[-SHOWN:]


def page(evaluation: Evaluation, pictures: dict[str, Sequence[np.ndarray]]) -> str:
    """The text of the page.

    Args:
        pictures: by row, in order: (blurry, restored, sharp), or (sharp, restored) without a blurry input; uint8.
    """
    style, script = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))
    rows = {row.name: row for row in evaluation.rows}
    figures = "".join(figure(rows[name], shown) for name, shown in pictures.items())
    which = "All pictures" if len(pictures) == len(rows) else f"The {SHOWN} worst and the {SHOWN} best pictures"
    title = f"{evaluation.model} on {Path(evaluation.dataset).name or 'a set'}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body>
<h1>{text(title)}</h1>
{facts(evaluation)}
<h2>Summary</h2>
<div class="wide">{summary(evaluation)}</div>
{histogram([row.gain("psnr") for row in evaluation.rows]) if evaluation.has_blurred else ""}
<h2>{which} <small>by {"gain in PSNR" if evaluation.has_blurred else "PSNR"}, worst first</small></h2>
{figures}
<h2>All rows <small>a click on a heading sorts</small></h2>
<div class="wide">{all_rows(evaluation)}</div>
<script>{script}</script>
</body>
</html>
"""


def text(value: object) -> str:
    """Escapes anything as text or the value of an attribute; bytes of a file's name that are not text become `?`."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def facts(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    beside = PROTOCOLS[settings.protocol].comparable_with if settings.protocol in PROTOCOLS else ()
    found = {
        "Protocol": f"{settings.protocol}: {evaluation.title}; RGB, rounded to 8 bits, no border cut",
        "Comparable with": "; ".join(beside) or "nothing but scores of the same pictures under the same protocol",
        "Run on": f"{settings.device}, {settings.precision}, deblur-hub {settings.version}, torch {evaluation.torch}",
        "Cost": costs(evaluation) if any(evaluation.values("seconds")) else "",
        "Weights": settings.weights and f"SHA-256 {settings.weights[:16]}",
        "Set": f"SHA-256 {settings.fingerprint[:16]} of names and sizes",
        "Command": evaluation.command,
        "Date": evaluation.date,
    }
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{text(fact)}</dd>' for name, fact in found.items() if fact)}</dl>"


def summary(evaluation: Evaluation) -> str:
    header, lines = spread_lines(evaluation)
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = ""
    for label, *cells in lines:
        body += f'<tr><th scope="row">{text(label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bins(values: Sequence[float]) -> tuple[float, list[tuple[float, int]]]:
    """The width of all bins, and (left edge, count) of each; edges are multiples of the width."""
    most = min(MAX_BINS, math.ceil(2 * math.sqrt(len(values))))
    for width in BIN_WIDTHS:
        places = [math.floor(value / width + 1e-9) for value in values]  # 0.3 / 0.1 is 2.9999...
        if max(places) - min(places) < most:
            break
    return width, [(place * width, places.count(place)) for place in range(min(places), max(places) + 1)]


def histogram(gains: Sequence[float]) -> str:
    finite = [gain for gain in gains if math.isfinite(gain)]
    if not finite:
        return ""
    width, counted = bins(finite)
    bar, most = 600 / len(counted), max(count for _, count in counted)
    shapes = []
    for place, (edge, count) in enumerate(counted):
        height, kind = 140 * count / most, "worse" if edge < -width / 2 else "better"
        shapes.append(
            f'<rect class="{kind}" x="{20 + place * bar + 1:.1f}" y="{160 - height:.1f}" width="{bar - 2:.1f}" '
            f'height="{height:.1f}"/><text x="{20 + (place + 0.5) * bar:.1f}" y="{154 - height:.1f}">{count}</text>'
            f'<text x="{20 + place * bar:.1f}" y="178">{edge + 0.0:+.3g}</text>'
        )
    mean = math.fsum(finite) / len(finite)
    at = 20 + (mean - counted[0][0]) / width * bar
    told = f"Mean {mean:+.2f} dB (dashed); {sum(gain < 0 for gain in gains)} of {len(gains)} pictures became worse."
    if len(finite) < len(gains):
        told += f" {len(gains) - len(finite)} without any error, before or after, are not shown."
    return (
        f'<h2>Gain in PSNR <small>dB</small></h2><svg viewBox="0 0 640 190" role="img" aria-label="{told}">'
        f'{"".join(shapes)}<line x1="{at:.1f}" x2="{at:.1f}" y1="20" y2="160"/></svg><p>{told}</p>'
    )


def figure(row: Row, pictures: Sequence[np.ndarray]) -> str:
    """A row's pictures: the one before, the one after, and the sharp one where that is another."""
    measure, gained = METRICS["psnr"], len(pictures) > 2
    before = "blurry" if gained else "the sharp input"
    told = f"restored {measure.format(row.scores['psnr'])}"
    if gained:
        own, gain = measure.format(row.scores[BLURRED + "psnr"]), measure.format(row.gain("psnr"), signed=True)
        told = f"blurry {own}, {told}, gain {gain}"
    kinds = (("before", before), ("after", "restored"), ("sharp", "sharp"))
    images = "".join(
        f'<img class="{kind}" alt="{text(f"{row.name}, {name}")}" src="data:image/webp;base64,{webp(pixels)}">'
        for (kind, name), pixels in zip(kinds, pictures, strict=False)
    )
    sharp = '<label><input type="checkbox"> the sharp picture in place of the restored one</label>' if gained else ""
    slider = f'<input type="range" min="0" max="100" value="50" aria-label="left {before}, right restored">'
    return (
        f"<figure><h3>{text(row.name)} <small>{told}</small></h3>"
        f'<div class="pictures">{images}</div><div class="controls" hidden>{slider}'
        f"{sharp}</div><figcaption>left {before}, right restored</figcaption></figure>\n"
    )


def webp(pixels: np.ndarray) -> str:
    """The file of a picture, in base64, no side longer than `LONGEST_SIDE`."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    picture.save(file, "WEBP", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def all_rows(evaluation: Evaluation) -> str:
    """Every picture and every metric, in a table that sorts by any column."""
    kinds = ("blurry", "restored", "gain") if evaluation.has_blurred else ("restored",)
    columns = [(name, kind) for name in evaluation.measured for kind in kinds]
    timed = any(evaluation.values("seconds"))
    labels = ["picture", *(f"{label_of(name)} {kind}" for name, kind in columns), *(["seconds"] if timed else [])]
    sorts = ["ascending", *["none"] * (len(labels) - 1)]
    buttons = [f"<button>{text(label)}</button>" for label in labels]
    head = "".join(f'<th scope="col" aria-sort="{s}">{b}</th>' for s, b in zip(sorts, buttons, strict=True))
    lines = []
    for row in evaluation.rows:
        cells = [f'<th scope="row">{text(row.name)}</th>']
        for name, kind in columns:
            value = row.gain(name) if kind == "gain" else row.scores[(BLURRED if kind == "blurry" else "") + name]
            measure = measure_of(name)
            better = np.sign(value) * measure.better if kind == "gain" else 0
            shown = measure.format(value, signed=kind == "gain")
            cells.append(f'<td class="{TONES[better]}" data-value="{value!r}">{shown}</td>')
        cells += [f'<td data-value="{row.seconds!r}">{row.seconds:.2f}</td>'] if timed else []
        lines.append(f"<tr>{''.join(cells)}</tr>\n")
    return f'<table id="rows"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
