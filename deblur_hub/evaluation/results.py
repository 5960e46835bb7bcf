"""results.json, which says what was measured and how, and rows.jsonl beside it, to which every picture adds a line.

`Settings` holds all that the rows depend on and nothing else: two runs of equal settings give equal rows. Times are
kept apart from the rows for that reason.
"""

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import DatasetError
from .measures import BLURRED

SCHEMA = 1
ANEW = "give another --output, or --overwrite to start anew"
RESULTS, ROWS, RESTORED = "results.json", "rows.jsonl", "restored"


@dataclass(frozen=True)
class Row:
    """One picture of a set."""

    name: str
    # By column: a metric's name for the restored picture, the same with the prefix `blurred_` for the blurry input, and
    # `psnr_float` for the restored samples before they were rounded.
    scores: Mapping[str, float]
    seconds: float = 0.0  # that restoring took; 0 where nothing was restored

    def gain(self, metric: str) -> float:
        """Score of the restored picture minus that of the blurry input; 0 where both are perfect."""
        return difference(self.scores[BLURRED + metric], self.scores[metric])


@dataclass(frozen=True)
class Settings:
    """All that the rows depend on."""

    protocol: str
    blur_folder: str
    seed: int | None  # of a synthetic blur
    fingerprint: str  # SHA-256 of the names and sizes of the pictures
    pictures: int  # how many there are
    model: str
    weights: str  # SHA-256 of its tensors; "" where there are none
    version: str  # of deblur-hub
    device: str  # "cpu", or the GPU's name
    precision: str  # of the arithmetic
    tile: int | None  # side in pixels; 0 for whole frames, None for as large as memory allowed
    metrics: tuple[str, ...]  # in the order of the columns

    def difference(self, other: "Settings", names: Iterable[str] | None = None) -> str:
        """The first setting that differs, in words such as "precision bfloat16 and float32"; "" if none does."""
        for name in names or SETTINGS:
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                one, two = (", ".join(value) if isinstance(value, tuple) else value for value in (one, two))
                return f"{name} {one} and {two}"
        return ""


@dataclass(frozen=True)
class Spread:
    """Mean, population standard deviation, minimum and maximum."""

    mean: float  # infinite where a value is
    std: float | None  # None where the mean is infinite
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)) if math.isfinite(mean) else None
        return cls(mean, std, min(values), max(values))


@dataclass(frozen=True)
class Evaluation:
    """The rows of a set, sorted by name, and how they were made."""

    settings: Settings
    rows: tuple[Row, ...]
    dataset: str = ""  # the folder, as it was given
    title: str = ""  # of the protocol
    torch: str = ""  # its version
    commit: str = ""  # of the checkout that it ran in
    threads: int = 0
    processes: int = 1
    seconds: float = 0.0  # from the first picture of the run to its last; of a resumed run, since it was resumed
    peak_memory: int = 0  # bytes, of the largest process
    peak_cuda: int = 0  # bytes, of the GPU
    command: str = ""  # that made it
    date: str = ""  # when it ended (UTC)

    @property
    def model(self) -> str:
        return self.settings.model

    @property
    def precision(self) -> str:
        return self.settings.precision

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.rows[0].scores)

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns of the restored picture that the blurry input can have as well."""
        return tuple(name for name in self.columns if not name.startswith(BLURRED) and name != "psnr_float")

    @property
    def has_blurred(self) -> bool:
        return BLURRED + self.measured[0] in self.columns

    def values(self, column: str) -> list[float]:
        return [row.seconds if column == "seconds" else row.scores[column] for row in self.rows]

    def mean(self, column: str) -> float:
        """The mean of the per-picture values, as all papers on deblurring average."""
        return self.spread(column).mean

    def spread(self, column: str) -> Spread:
        return Spread.of(self.values(column))

    def gain(self, metric: str) -> Spread:
        return Spread.of([row.gain(metric) for row in self.rows])

    def spreads(self, metric: str) -> dict[str, Spread]:
        """Of the restored pictures; with a blurry input, of that and of the gain as well."""
        restored = {"restored": self.spread(metric)}
        if not self.has_blurred:
            return restored
        return {"blurred": self.spread(BLURRED + metric)} | restored | {"gain": self.gain(metric)}

    def seconds_per_picture(self) -> float:
        """The median, on which a first picture that warms the device up has no influence."""
        return statistics.median(row.seconds for row in self.rows)

    def to_json(self) -> str:
        """One flat object, `rows` and `timings` apart; infinity, which JSON lacks, is the string "inf"."""
        spreads = {name: self.spreads(name).items() for name in self.measured}
        content = {
            "schema": SCHEMA,
            **asdict(self.settings),
            **{name: getattr(self, name) for name in FACTS},
            "seconds_per_picture": self.seconds_per_picture(),
            "summary": {name: {what: asdict(spread) for what, spread in found} for name, found in spreads.items()},
            "rows": [{"name": row.name, **row.scores} for row in self.rows],
            "timings": {row.name: row.seconds for row in self.rows},
        }
        return json.dumps(jsonable(content), indent=1, allow_nan=False) + "\n"

    def save(self, path: Path) -> Path:
        """Writes it whole or not at all."""
        atomic.write_text(path, self.to_json())
        return path

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """Reads a file that `save` wrote, or the folder that holds it; DatasetError if it is anything else."""
        path = path / RESULTS if path.is_dir() else path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such file; 'deblur-hub evaluate ... --output folder' writes one") from None
        except (OSError, ValueError) as reason:
            raise DatasetError(f"{path}: cannot be read ({reason}); evaluate again") from None
        if not isinstance(content, dict) or "schema" not in content:
            raise DatasetError(f"{path}: is not a results.json of deblur-hub; evaluate again")
        if content["schema"] != SCHEMA:
            found = f"has schema {content['schema']}, this version of deblur-hub reads {SCHEMA}"
            raise DatasetError(f"{path}: {found}; evaluate again")
        for key in sorted(KEYS ^ content.keys()):
            what = "lacks" if key in KEYS else "has the unknown key"
            raise DatasetError(f"{path}: {what} '{key}'; evaluate again")
        try:
            settings = settings_from(content)
            times = content["timings"]
            rows = tuple(row_from(row, times[row["name"]]) for row in content["rows"])
        except (KeyError, TypeError, ValueError, AttributeError) as reason:
            raise DatasetError(f"{path}: is damaged ({type(reason).__name__}: {reason}); evaluate again") from None
        if len(rows) != settings.pictures or len({frozenset(row.scores) for row in rows}) != 1:
            raise DatasetError(f"{path}: its rows are not those of {settings.pictures} pictures; evaluate again")
        return cls(settings, rows, **{name: content[name] for name in FACTS})


SETTINGS = tuple(item.name for item in fields(Settings))
FACTS = tuple(item.name for item in fields(Evaluation) if item.name not in ("settings", "rows"))
KEYS = {"schema", *SETTINGS, *FACTS, "seconds_per_picture", "summary", "rows", "timings"}  # of results.json


def settings_from(content: Mapping[str, Any]) -> Settings:
    return Settings(**{name: content[name] for name in SETTINGS} | {"metrics": tuple(content["metrics"])})


def row_from(content: Mapping[str, Any], seconds: float) -> Row:
    """A row of JSON; ValueError if a score is not a number."""
    scores = {name: float(value) for name, value in content.items() if name != "name"}
    if not isinstance(content["name"], str) or not scores or any(map(math.isnan, scores.values())):
        raise ValueError(f"row {content!r:.80}")
    return Row(content["name"], scores, float(seconds))


def difference(a: float, b: float) -> float:
    """b - a; 0 where both are infinite."""
    return 0.0 if a == b else b - a


def jsonable(value: Any) -> Any:
    """The same without infinities: equal pictures have an infinite PSNR."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {key: jsonable(inner) for key, inner in value.items()}
    return [jsonable(inner) for inner in value] if isinstance(value, list | tuple) else value


# Resuming: rows.jsonl ------------------------------------------------------------------------------------------------


@contextmanager
def row_log(folder: Path | None, settings: Settings, rank: int) -> Iterator[Callable[[Row], None]]:
    """Takes rows, one line each, to the disk before the next picture; each process writes a file of its own."""
    if folder is None:
        yield lambda row: None
        return
    with (folder / (ROWS if rank == 0 else f"rows.{rank}.jsonl")).open("a", encoding="utf-8") as file:

        def add(row: Row) -> None:
            file.write(line(row) if file.tell() else header(settings) + line(row))
            file.flush()
            os.fsync(file.fileno())

        yield add


def header(settings: Settings) -> str:
    return json.dumps({"schema": SCHEMA, "settings": asdict(settings)}) + "\n"


def line(row: Row) -> str:
    content = {"row": {"name": row.name, **row.scores}, "seconds": row.seconds}
    return json.dumps(jsonable(content), allow_nan=False) + "\n"


def resumable_rows(folder: Path, settings: Settings, *, overwrite: bool = False) -> list[Row]:
    """Prepares the folder for a run, and returns the rows that an earlier run of equal settings left there.

    DatasetError if the folder holds rows of another run, or cannot be written; nothing is changed then.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logs = sorted(folder.glob("rows*.jsonl"))
        rows: dict[str, Row] = {}
        if not overwrite:
            for path in logs:
                rows |= {row.name: row for row in read_rows(path, settings)}
            if not logs and (folder / RESULTS).exists():
                earlier = Evaluation.read(folder)
                require_equal(folder / RESULTS, earlier.settings, settings)
                rows = {row.name: row for row in earlier.rows}
        write_rows(folder, settings, rows.values())
    except OSError as reason:
        raise DatasetError(f"{folder}: cannot be written ({reason.strerror}); give another --output") from None
    return list(rows.values())


def write_rows(folder: Path, settings: Settings, rows: Iterable[Row]) -> None:
    """Writes all rows to one file, sorted, and then removes those of single processes."""
    ordered = sorted(rows, key=lambda row: row.name)
    atomic.write_text(folder / ROWS, header(settings) + "".join(map(line, ordered)))
    for path in folder.glob("rows.*.jsonl"):
        path.unlink()


def read_rows(path: Path, settings: Settings) -> list[Row]:
    """The rows of a log, without a last line that a killed process left unfinished."""
    whole = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    if not whole:
        return []
    try:
        first, *contents = map(json.loads, whole)
        if first["schema"] != SCHEMA:
            raise ValueError(f"schema {first['schema']}")
        found = settings_from(first["settings"])
        rows = [row_from(content["row"], content["seconds"]) for content in contents]
    except (ValueError, KeyError, TypeError) as reason:
        why = f"is not a log of rows that this version reads, or is damaged ({type(reason).__name__}: {reason})"
        raise DatasetError(f"{path}: {why}; {ANEW}") from None
    require_equal(path, found, settings)
    return rows


def require_equal(path: Path, found: Settings, settings: Settings) -> None:
    if other := found.difference(settings):
        raise DatasetError(f"{path}: holds rows of another run, which differs from this one in {other}; {ANEW}")
