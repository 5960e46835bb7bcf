"""results.json, which says what was measured and how, and rows.jsonl beside it, to which every picture adds a line.

    evaluation.save(Path("out/results.json"))
    Evaluation.read(Path("out/results.json"))

`Settings` holds all that the rows depend on and nothing else: two runs of equal settings give equal rows. Times are
kept apart from the rows for that reason.
"""

import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import DatasetError
from .measures import BLURRED

SCHEMA = 1
RESULTS, ROWS, RESTORED = "results.json", "rows.jsonl", "restored"


@dataclass(frozen=True)
class Row:
    """One picture.

    Attributes:
        name: of the picture in its set.
        scores: by column: a metric's name for the restored picture, the same with the prefix `blurred_` for the blurry
            input, and `psnr_float` for the restored samples before they were rounded.
        seconds: that restoring took; 0 where nothing was restored.
    """

    name: str
    scores: Mapping[str, float]
    seconds: float = 0.0

    def gain(self, metric: str) -> float:
        """Score of the restored picture minus that of the blurry input; 0 where both are perfect."""
        return difference(self.scores[BLURRED + metric], self.scores[metric])


@dataclass(frozen=True)
class Settings:
    """All that the rows depend on.

    Attributes:
        protocol, blur_folder, seed: how the pictures were made and compared; the seed of a synthetic blur, or None.
        fingerprint, pictures: SHA-256 of the names and sizes of the set, and how many there are.
        model, weights: its name, and the SHA-256 of its tensors; "" where there are none.
        version: of deblur-hub.
        device: "cpu", or the GPU's name.
        precision: of the arithmetic.
        tile: side of a tile in pixels; 0 for whole frames, None for as large as memory allowed.
        metrics: in the order of the columns.
    """

    protocol: str
    blur_folder: str
    seed: int | None
    fingerprint: str
    pictures: int
    model: str
    weights: str
    version: str
    device: str
    precision: str
    tile: int | None
    metrics: tuple[str, ...]

    def difference(self, other: "Settings", names: Iterable[str] | None = None) -> str:
        """The first setting that differs, in words such as "precision bfloat16 and float32"; "" if none does."""
        for name in names or [item.name for item in fields(self)]:
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                one, two = (", ".join(value) if isinstance(value, tuple) else value for value in (one, two))
                return f"{name} {one} and {two}"
        return ""


@dataclass(frozen=True)
class Spread:
    """Mean, population standard deviation, minimum and maximum.

    Where a value is infinite, so is the mean, and there is no standard deviation.
    """

    mean: float
    std: float | None
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)) if math.isfinite(mean) else None
        return cls(mean, std, min(values), max(values))


@dataclass(frozen=True)
class Evaluation:
    """The rows of a set, sorted by name, and how they were made.

    Attributes:
        dataset: the folder, as it was given.
        title: of the protocol.
        torch, commit: version of PyTorch, and the commit of the checkout that it ran in, or "".
        threads, processes: of the run.
        seconds: from the first picture of the run to its last; of a resumed run, since it was resumed.
        peak_memory, peak_cuda: bytes, of the largest process and of the GPU.
        command, date: the command that made it, and when it ended (UTC).
    """

    settings: Settings
    rows: tuple[Row, ...]
    dataset: str = ""
    title: str = ""
    torch: str = ""
    commit: str = ""
    threads: int = 0
    processes: int = 1
    seconds: float = 0.0
    peak_memory: int = 0
    peak_cuda: int = 0
    command: str = ""
    date: str = ""
    schema: int = field(default=SCHEMA)

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
        content = {
            "schema": self.schema,
            **asdict(self.settings),
            **{item.name: getattr(self, item.name) for item in fields(self) if item.name not in NOT_FLAT},
            "seconds_per_picture": self.seconds_per_picture(),
            "summary": {
                name: {what: asdict(spread) for what, spread in self.spreads(name).items()} for name in self.measured
            },
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
        """Reads a file that `save` wrote, or the folder that holds it.

        Raises:
            DatasetError: if there is none, it is no such file, or it is of another schema.
        """
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
            raise DatasetError(
                f"{path}: has schema {content['schema']}, this version of deblur-hub reads {SCHEMA}; evaluate again"
            )
        expected = json_keys()
        for key in sorted(expected ^ content.keys()):
            what = "lacks" if key in expected else "has the unknown key"
            raise DatasetError(f"{path}: {what} '{key}'; evaluate again")
        try:
            settings = settings_from(content)
            times = content["timings"]
            rows = tuple(row_from(row, times[row["name"]]) for row in content["rows"])
            rest = {item.name: content[item.name] for item in fields(cls) if item.name not in NOT_FLAT}
        except (KeyError, TypeError, ValueError, AttributeError) as reason:
            raise DatasetError(f"{path}: is damaged ({type(reason).__name__}: {reason}); evaluate again") from None
        if len(rows) != settings.pictures or len({frozenset(row.scores) for row in rows}) != 1:
            raise DatasetError(f"{path}: its rows are not those of {settings.pictures} pictures; evaluate again")
        return cls(settings, rows, **rest)


NOT_FLAT = ("settings", "rows", "schema")


def json_keys() -> set[str]:
    """The keys of results.json."""
    own = {item.name for item in fields(Evaluation)} - {"settings"}
    return own | {item.name for item in fields(Settings)} | {"seconds_per_picture", "summary", "timings"}


def settings_from(content: Mapping[str, Any]) -> Settings:
    chosen = {item.name: content[item.name] for item in fields(Settings)}
    return Settings(**chosen | {"metrics": tuple(chosen["metrics"])})


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


class RowLog:
    """Rows, one line each, flushed to the disk before the next picture; each process writes a file of its own."""

    def __init__(self, folder: Path, settings: Settings, rank: int) -> None:
        path = folder / (ROWS if rank == 0 else f"rows.{rank}.jsonl")
        fresh = not path.exists()
        self.file = path.open("a", encoding="utf-8")
        if fresh:
            self.write(header(settings))

    def add(self, row: Row) -> None:
        self.write(line(row))

    def write(self, text: str) -> None:
        self.file.write(text)
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def header(settings: Settings) -> str:
    return json.dumps({"schema": SCHEMA, "settings": asdict(settings)}) + "\n"


def line(row: Row) -> str:
    content = {"row": {"name": row.name, **row.scores}, "seconds": row.seconds}
    return json.dumps(jsonable(content), allow_nan=False) + "\n"


def resumable_rows(folder: Path, settings: Settings, *, overwrite: bool = False) -> list[Row]:
    """Prepares the folder for a run, and returns the rows that an earlier run of equal settings left there.

    Raises:
        DatasetError: if the folder holds rows of another run, or cannot be written; nothing is changed then.
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
        raise DatasetError(
            f"{path}: is not a log of rows that this version reads, or is damaged ({type(reason).__name__}: {reason}); "
            "give another --output, or --overwrite to start anew"
        ) from None
    require_equal(path, found, settings)
    return rows


def require_equal(path: Path, found: Settings, settings: Settings) -> None:
    if other := found.difference(settings):
        raise DatasetError(
            f"{path}: holds rows of another run, which differs from this one in {other}; "
            "give another --output, or --overwrite to start anew"
        )
