"""results.json, which says what was measured and how, and the rows beside it, which grow with every picture.

    evaluation.save(Path("out/results.json"))
    Evaluation.read(Path("out/results.json"))

What the rows depend on is in `Settings`, and nothing else is: two runs whose settings are equal give equal rows. Times
stand apart from the rows for that reason.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .measures import BLURRED

SCHEMA = 1
RESULTS, ROWS, RESTORED = "results.json", "rows.jsonl", "restored"


@dataclass(frozen=True)
class Row:
    """One picture.

    Attributes:
        name: of the picture in its set.
        scores: by column: a metric's name for the restored picture, `blurred_` before it for the blurry input, and
            `psnr_float` of the restored samples before they were rounded. In decibels, or as the metric has it.
        seconds: that restoring took; 0 where nothing was restored.
    """

    name: str
    scores: Mapping[str, float]
    seconds: float = 0.0

    def gain(self, metric: str) -> float:
        """What the restored picture has more than the blurry input; 0 where both are perfect."""
        after, before = self.scores[metric], self.scores[BLURRED + metric]
        return 0.0 if after == before else after - before


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
        tile: side of a tile in pixels; 0 for whole frames, None for what memory allowed.
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
        """The first of the settings that differ, in words: "precision bfloat16 and float32"; "" if none does."""
        for name in names or [item.name for item in fields(self)]:
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                one, two = (", ".join(value) if isinstance(value, tuple) else value for value in (one, two))
                return f"{name} {one} and {two}"
        return ""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of these pictures, divided by their number), smallest and largest.

    The mean of values of which one is infinite is infinite, and there is no standard deviation.
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
        torch, commit: versions; the commit of the checkout that it ran in, or "".
        threads, processes: of the run.
        seconds: of the run, from its first picture to its last; of an interrupted run, of its last part.
        peak_memory, peak_cuda: bytes: of the largest process, and of the GPU.
        command, date: that made it, and when it ended (UTC).
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
        """The columns of the restored picture that have one of the blurry input beside them, or could have."""
        return tuple(name for name in self.columns if not name.startswith(BLURRED) and name != "psnr_float")

    @property
    def has_blurred(self) -> bool:
        return BLURRED + self.measured[0] in self.columns

    def values(self, column: str) -> list[float]:
        return [row.seconds if column == "seconds" else row.scores[column] for row in self.rows]

    def mean(self, column: str) -> float:
        """The mean of the per-picture values, as all papers on deblurring average."""
        return Spread.of(self.values(column)).mean

    def spread(self, column: str) -> Spread:
        return Spread.of(self.values(column))

    def gain(self, metric: str) -> Spread:
        return Spread.of([row.gain(metric) for row in self.rows])

    def seconds_per_picture(self) -> float:
        """The median, which a first picture that warms the device up does not move."""
        times = sorted(row.seconds for row in self.rows)
        middle = len(times) // 2
        return times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2

    def to_json(self) -> str:
        """One flat object; `rows` is the same for equal settings, `timings` is not. Infinity is the string "inf"."""
        content = {
            "schema": self.schema,
            **asdict(self.settings),
            **{item.name: getattr(self, item.name) for item in fields(self) if item.name not in NOT_FLAT},
            "seconds_per_picture": self.seconds_per_picture(),
            "summary": {
                name: {"restored": asdict(self.spread(name))}
                | (
                    {"blurred": asdict(self.spread(BLURRED + name)), "gain": asdict(self.gain(name))}
                    if self.has_blurred
                    else {}
                )
                for name in self.measured
            },
            "rows": [{"name": row.name, **row.scores} for row in self.rows],
            "timings": {row.name: row.seconds for row in self.rows},
        }
        return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"

    def save(self, path: Path) -> Path:
        """Writes it whole or not at all."""
        write_aside(path, self.to_json())
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
    """A row of JSON; ValueError where a score is no number."""
    scores = {name: float(value) for name, value in content.items() if name != "name"}
    if not isinstance(content["name"], str) or not scores or any(map(math.isnan, scores.values())):
        raise ValueError(f"row {content!r:.80}")
    return Row(content["name"], scores, float(seconds))


def plain(value: Any) -> Any:
    """JSON has no infinity; equal pictures have that PSNR."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def write_aside(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


# The rows of a run that goes on ---------------------------------------------------------------------------------------


class RowLog:
    """The rows as they come, one line each, on disk before the next picture is begun; each process has its own file."""

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
    return json.dumps(plain({"row": {"name": row.name, **row.scores}, "seconds": row.seconds}), allow_nan=False) + "\n"


def begin(folder: Path, settings: Settings, *, overwrite: bool = False) -> list[Row]:
    """Prepares the folder for a run, and gives the rows that an earlier one of equal settings left there.

    Raises:
        DatasetError: if the folder holds rows of another run, or cannot be written; nothing is changed then.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logs = sorted(folder.glob("rows*.jsonl"))
        rows: dict[str, Row] = {}
        if not overwrite:
            for path in logs:
                rows |= {row.name: row for row in logged(path, settings)}
            if not logs and (folder / RESULTS).exists():
                earlier = Evaluation.read(folder)
                require_equal(folder / RESULTS, earlier.settings, settings)
                rows = {row.name: row for row in earlier.rows}
        settle(folder, settings, rows.values())
    except OSError as reason:
        raise DatasetError(f"{folder}: cannot be written ({reason.strerror}); give another --output") from None
    return list(rows.values())


def settle(folder: Path, settings: Settings, rows: Iterable[Row]) -> None:
    """All rows in one file, sorted; those of the single processes go once theirs are in it."""
    ordered = sorted(rows, key=lambda row: row.name)
    write_aside(folder / ROWS, header(settings) + "".join(map(line, ordered)))
    for path in folder.glob("rows.*.jsonl"):
        path.unlink()


def logged(path: Path, settings: Settings) -> list[Row]:
    """The whole rows of a log; a last line that a killed process left unfinished is passed over."""
    whole = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    if not whole:
        return []
    try:
        first = json.loads(whole[0])
        if first["schema"] != SCHEMA:
            raise ValueError(f"schema {first['schema']}")
        found = settings_from(first["settings"])
    except (ValueError, KeyError, TypeError) as reason:
        raise DatasetError(
            f"{path}: is not a log of rows that this version reads ({type(reason).__name__}: {reason}); "
            "give another --output, or --overwrite to begin anew"
        ) from None
    require_equal(path, found, settings)
    try:
        contents = [json.loads(text) for text in whole[1:]]
        return [row_from(content["row"], content["seconds"]) for content in contents]
    except (ValueError, KeyError, TypeError) as reason:
        raise DatasetError(
            f"{path}: is damaged ({type(reason).__name__}: {reason}); "
            "give another --output, or --overwrite to begin anew"
        ) from None


def require_equal(path: Path, found: Settings, settings: Settings) -> None:
    if difference := found.difference(settings):
        raise DatasetError(
            f"{path}: holds rows of another run, which differs from this one in {difference}; "
            "give another --output, or --overwrite to begin anew"
        )
