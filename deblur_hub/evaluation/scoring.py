"""Scores a model on a set: every picture is restored as by `deblur`, rounded to 8 bits and compared."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import __version__, atomic, hub
from ..config import QUALITIES
from ..errors import DatasetError, ModelError
from ..generator import DeblurGenerator
from ..metrics import psnr
from ..pictures import read
from ..processes import Processes, min_threads
from ..restoration.crispness import require_use
from ..restoration.restore import Precision, dtype_for
from .baselines import BASELINES, Baseline
from .measures import METRICS, chosen_metrics, on_device, score, to_pixels
from .protocols import PROTOCOLS, Protocol
from .results import RESTORED, RESULTS, ROWS, Evaluation, Row, Settings, resumable_rows, row_log, write_rows
from .sets import SHARP_INPUT, EvaluationSet, Sample, pairs_in, restored_pictures

Progress = Callable[[int, int], None]
Restorer = DeblurGenerator | Baseline


def evaluate(
    model: Restorer,
    dataset: Path | EvaluationSet,
    *,
    protocol: Protocol | None = None,
    metrics: Sequence[str] = (),
    precision: Precision = "auto",
    tile: int | None = None,
    output: Path | None = None,
    save: bool = False,
    overwrite: bool = False,
    command: str = "",
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores a model on a set.

        evaluate(DeblurGenerator.from_pretrained("compact"), Path("eval/gopro")).mean("psnr")

    Args:
        model: a generator, or one of `BASELINES`.
        dataset: a folder of pairs, or a set that was made from one.
        protocol: of `PROTOCOLS`, for a folder; None for `pairs`.
        metrics: further ones than `DEFAULT_METRICS`.
        precision, tile: as in `DeblurGenerator.restore`.
        output: a folder for results.json and the rows; rows that an interrupted run left there are reused.
        save: writes the restored pictures, as PNG of 8 bits, into `output`/restored as well.
        overwrite: starts anew where `output` holds rows of another run.
        command: that results.json is to name.
        processes: this process among those that share the work; each gets the rows of all.
        progress: called with (pictures done, pictures in all).

    Raises:
        DatasetError: if there are no pairs, one of them is damaged, the set is not the protocol's, or `output` holds
            another run; before any scoring starts.
        PictureError: if a picture cannot be decoded after all.
    """
    if save and output is None:
        raise DatasetError("restored pictures are saved in the output folder; give --output as well")
    processes = processes or Processes()
    with min_threads() as threads:
        device, run = described(model, precision)

        def prepare() -> tuple[EvaluationSet, Settings, list[Row]]:
            chosen = protocol or PROTOCOLS["pairs"]
            pictures = dataset if isinstance(dataset, EvaluationSet) else pairs_in(dataset, chosen)
            settings = settings_for(pictures, metrics, tile=tile, **run)
            if output is None:
                return pictures, settings, []
            earlier = resumable_rows(output, settings, overwrite=overwrite)
            if save:
                earlier = [row for row in earlier if saved_as(output, row.name).exists()]
                write_rows(output, settings, earlier)
            return pictures, settings, earlier

        pictures, settings, rows = processes.run_on_main(prepare)
        known = {row.name for row in rows}
        missing = [sample for sample in pictures.samples if sample.name not in known]
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        own: list[Row] = []
        with row_log(output, settings, processes.rank) as log:
            for sample in processes.shard(missing):
                row, pixels = restore_and_score(model, pictures, sample, settings, device, precision)
                if save and output is not None:
                    file = saved_as(output, sample.name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with atomic.replacing(file) as part:
                        Image.fromarray(pixels).save(part, "PNG")
                log(row)
                own.append(row)
                if progress:
                    done = len(known) + len(own) * processes.count
                    progress(min(done, len(pictures.samples)), len(pictures.samples))
        cuda = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        parts = processes.gather((own, time.perf_counter() - started, peak_memory(), cuda))
        scored, seconds, memories, cudas = zip(*parts, strict=True)
        evaluation = evaluation_of(
            pictures,
            settings,
            chain(rows, *scored),
            threads=threads,
            processes=processes.count,
            seconds=max(seconds),
            peak_memory=max(memories),
            peak_cuda=max(cudas),
            command=command,
        )
        if output is not None and processes.rank == 0:
            write_rows(output, settings, evaluation.rows)
            evaluation.save(output / RESULTS)
        return evaluation


def restore_and_score(
    model: Restorer,
    pictures: EvaluationSet,
    sample: Sample,
    settings: Settings,
    device: torch.device,
    precision: Precision,
) -> tuple[Row, np.ndarray]:
    """The row of one picture, and the restored picture as it is scored and saved: uint8 (H, W, 3)."""
    blurred, sharp = pictures.load(sample)
    synchronise(device)
    started = time.perf_counter()
    restored = model.restore(blurred, tile=settings.tile, precision=precision)
    synchronise(device)
    seconds = time.perf_counter() - started
    pixels, target, where = to_pixels(restored), to_pixels(sharp), str(device)
    before = None if pictures.protocol.name == SHARP_INPUT.name else to_pixels(blurred)
    scores = score(pictures.protocol, settings.metrics, pixels, target, before, device=where)
    if not pictures.protocol.align:
        unit = (restored.to(device).double() + 1) / 2
        value = float(psnr(unit.clamp(0, 1), on_device(target, where).double() / 255))
        scores["psnr_float"] = round(value, METRICS["psnr"].decimals)
    return Row(sample.name, scores, seconds), pixels


def score_pictures(
    restored: Path,
    sharp: Path,
    *,
    blurred: Path | None = None,
    protocol: Protocol | None = None,
    metrics: Sequence[str] = (),
    output: Path | None = None,
    overwrite: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Scores pictures that any program restored against sharp ones of the same names, at any depth; needs no model.

    `blurred` is the blurry input, for its own scores and the gain; the rest is as of `evaluate`. DatasetError, before
    any scoring, if a picture lacks its partner, the two differ in size, or one is damaged.
    """
    pictures = restored_pictures(restored, sharp, blurred, protocol or PROTOCOLS["pairs"])
    if output is not None and (output / RESULTS).exists() and not overwrite:
        raise DatasetError(f"{output / RESULTS}: exists already; give another --output, or --overwrite to replace it")
    if output is not None and list(output.glob("rows*.jsonl")):
        raise DatasetError(f"{output / ROWS}: holds rows of a model's run; give another --output")
    settings = settings_for(
        pictures, metrics, model=str(restored), weights="", device="cpu", precision="8 bits", tile=None
    )
    started = time.perf_counter()
    rows: list[Row] = []
    with min_threads() as threads:
        for sample in pictures.samples:
            files = sample.restored, sample.sharp, sample.blurred
            result, target, before = (None if path is None else to_pixels(read(path)[0][:1]) for path in files)
            assert result is not None and target is not None
            rows.append(Row(sample.name, score(pictures.protocol, settings.metrics, result, target, before)))
            if progress:
                progress(len(rows), len(pictures.samples))
    seconds, peak = time.perf_counter() - started, peak_memory()
    evaluation = evaluation_of(
        pictures, settings, rows, threads=threads, seconds=seconds, peak_memory=peak, command=command
    )
    if output is not None:
        evaluation.save(output / RESULTS)
    return evaluation


def settings_for(pictures: EvaluationSet, metrics: Sequence[str], **run: Any) -> Settings:
    """The settings of a run on a set; raises DatasetError if a picture is too small for a metric."""
    names = chosen_metrics(pictures.protocol, metrics)
    pictures.require_size_for(names)
    return Settings(
        protocol=pictures.protocol.name,
        blur_folder=pictures.protocol.blur_folder,
        seed=pictures.seed,
        fingerprint=pictures.fingerprint,
        pictures=len(pictures.samples),
        version=__version__,
        metrics=names,
        **run,
    )


def evaluation_of(pictures: EvaluationSet, settings: Settings, rows: Iterable[Row], **run: Any) -> Evaluation:
    ordered = tuple(sorted(rows, key=lambda row: row.name))
    run |= {"dataset": str(pictures.folder), "title": pictures.protocol.title, "torch": torch.__version__}
    return Evaluation(settings, ordered, commit=commit(), date=datetime.now(UTC).isoformat(timespec="seconds"), **run)


def load_model(
    name: str,
    device: str | None = None,
    *,
    quality: str | None = None,
    crispness: float = 0.0,
    crisp: str | None = None,
) -> Restorer:
    """A baseline by its name, or a generator that `DeblurGenerator.from_pretrained` finds, at a crispness from 0 to 1.

    Args:
        quality: None for the model's own or else the best: scores must not depend on the speed of the machine.
        crisp: the crisp partner, of a model that has none.

    Raises:
        ModelError: if it cannot be found, has no crisp partner, or a partner is named while the crispness is 0.
    """
    require_use(crisp, crispness)
    if name not in BASELINES:
        generator = DeblurGenerator.from_pretrained(name, device=device, crisp=crisp).with_crispness(crispness)
        best = generator.qualities[-1] if generator.qualities else QUALITIES[-1]
        return generator.with_quality(quality or generator.config.quality or best)
    if crispness:
        raise ModelError(f"{name}: is not a model and has no crisp partner; leave the crispness at 0")
    return BASELINES[name]


def described(model: Restorer, precision: Precision) -> tuple[torch.device, dict[str, str]]:
    """The device, and what `Settings` says of a model: name, hash of the weights, device and precision."""
    if isinstance(model, Baseline):
        run = {"model": model.name, "weights": "", "device": "cpu", "precision": "float32"}
        return torch.device("cpu"), run
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ModelError(f"{model.config.name}: has no weights; there is nothing to evaluate")
    device, stored = parameter.device, parameter.dtype  # as `restoration.restore` chooses
    dtype = dtype_for(precision, device) if stored == torch.float32 else stored
    return device, {
        "model": model.config.name or model.config.architecture,
        "weights": hub.checksum(model.network.state_dict()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": str(dtype).removeprefix("torch."),
    }


def saved_as(output: Path, name: str) -> Path:
    """The file of a restored picture."""
    return output / RESTORED / PurePosixPath(name).with_suffix(".png")


def synchronise(device: torch.device) -> None:
    """Waits for the device; without it, a GPU's time would be that of launching the work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Most bytes that this process has had in memory; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def commit() -> str:
    """The commit of the checkout that holds the package, with "+changes" if there are any; "" elsewhere."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        said = subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, timeout=60, check=True)
        return said.stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
