"""A model times a set: every picture restored as `deblur` does it, rounded to 8 bits, and compared under a protocol."""

import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from .. import __version__, hub, images
from ..config import QUALITIES
from ..crispness import require_use
from ..errors import DatasetError, ModelError
from ..generator import DeblurGenerator
from ..metrics import psnr
from ..restoration import Precision, dtype_for
from .baselines import BASELINES, Baseline
from .measures import BLURRED, METRICS, chosen_metrics, on_device, score, to_pixels
from .processes import Processes, enough_threads
from .protocols import PROTOCOLS, Protocol
from .results import RESTORED, RESULTS, ROWS, Evaluation, Row, RowLog, Settings, begin, settle
from .sets import SHARP_INPUT, Material, Sample, load, pairs_in, require_large_enough, restored_pictures

Progress = Callable[[int, int], None]
Restorer = DeblurGenerator | Baseline


def evaluate(
    model: Restorer,
    dataset: Path | Material,
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
        dataset: a folder of pairs, or what `sets` made of one.
        protocol: of `PROTOCOLS`, for a folder; None for `pairs`.
        metrics: further ones than `DEFAULT_METRICS`.
        precision, tile: as in `DeblurGenerator.restore`.
        output: a folder for results.json, and for the rows as they come; rows that an interrupted run left there are
            taken over.
        save: writes the restored pictures, as PNG of 8 bits, into `output`/restored as well.
        overwrite: begins anew where `output` holds rows of another run.
        command: that results.json is to name.
        processes: this one among its like, where the work is shared.
        progress: called with (pictures done, pictures in all).

    Returns:
        In every process, the rows of all.

    Raises:
        DatasetError: if there are no pairs, one of them is broken, the set is not the protocol's, or `output` holds
            another run; before any scoring starts.
        PictureError: if a picture cannot be decoded after all.
    """
    if save and output is None:
        raise DatasetError("restored pictures are saved in the output folder; give --output as well")
    processes = processes or Processes()
    with enough_threads() as threads:
        name, weights, device, dtype = described(model, precision)

        def prepared() -> tuple[Material, Settings, list[Row]]:
            chosen = protocol or PROTOCOLS["pairs"]
            material = dataset if isinstance(dataset, Material) else pairs_in(dataset, chosen)
            names = chosen_metrics(material.protocol, metrics)
            require_large_enough(material, names)
            settings = Settings(
                protocol=material.protocol.name,
                blur_folder=material.protocol.blur_folder,
                seed=material.seed,
                fingerprint=material.fingerprint,
                pictures=len(material.samples),
                model=name,
                weights=weights,
                version=__version__,
                device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                precision=str(dtype).removeprefix("torch."),
                tile=tile,
                metrics=names,
            )
            if output is None:
                return material, settings, []
            earlier = begin(output, settings, overwrite=overwrite)
            if save:
                earlier = [row for row in earlier if saved_as(output, row.name).exists()]
                settle(output, settings, earlier)
            return material, settings, earlier

        material, settings, rows = processes.agreed(prepared)
        known = {row.name for row in rows}
        open_samples = [sample for sample in material.samples if sample.name not in known]
        log = RowLog(output, settings, processes.rank) if output is not None else None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        own = []
        try:
            for sample in processes.mine(open_samples):
                row, pixels = scored(model, material, sample, settings, device, precision)
                if save and output is not None:
                    save_png(pixels, saved_as(output, sample.name))
                if log:
                    log.add(row)
                own.append(row)
                if progress:
                    done = len(known) + len(own) * processes.count
                    progress(min(done, len(material.samples)), len(material.samples))
        finally:
            if log:
                log.close()
        parts = processes.gathered((own, time.perf_counter() - started, peak_memory(), peak_cuda(device)))
        rows = sorted([*rows, *(row for part in parts for row in part[0])], key=lambda row: row.name)
        evaluation = Evaluation(
            settings,
            tuple(rows),
            dataset=str(material.folder),
            title=material.protocol.title,
            torch=torch.__version__,
            commit=commit(),
            threads=threads,
            processes=processes.count,
            seconds=max(seconds for _, seconds, _, _ in parts),
            peak_memory=max(memory for _, _, memory, _ in parts),
            peak_cuda=max(cuda for _, _, _, cuda in parts),
            command=command,
            date=now(),
        )
        if output is not None and processes.rank == 0:
            settle(output, settings, rows)
            evaluation.save(output / RESULTS)
        return evaluation


def scored(
    model: Restorer, material: Material, sample: Sample, settings: Settings, device: torch.device, precision: Precision
) -> tuple[Row, np.ndarray]:
    """The row of one picture, and the restored picture as it is scored and saved: uint8 (H, W, 3)."""
    blurred, sharp = load(material, sample)
    synchronise(device)
    started = time.perf_counter()
    restored = model.restore(blurred, tile=settings.tile, precision=precision)
    synchronise(device)
    seconds = time.perf_counter() - started
    pixels, target = to_pixels(restored), to_pixels(sharp)
    where = str(device)
    scores = score(material.protocol, settings.metrics, pixels, target, device=where)
    if not material.protocol.align:
        unit = (restored.to(device).double() + 1) / 2
        value = float(psnr(unit.clamp(0, 1), on_device(target, where).double() / 255))
        scores["psnr_float"] = round(value, METRICS["psnr"].kept)
    if material.protocol.name != SHARP_INPUT.name:
        before = score(material.protocol, settings.metrics, to_pixels(blurred), target, device=where)
        scores |= {BLURRED + name: value for name, value in before.items()}
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
    """Scores pictures that any program restored against sharp ones of the same names, at any depth; no model.

    Args:
        blurred: the blurry input, for its own scores and the gain.
        output: a folder for results.json.

    Raises:
        DatasetError: if a picture lacks its partner, the two differ in size, or one is broken; before any scoring.
    """
    material, paths = restored_pictures(restored, sharp, blurred, protocol or PROTOCOLS["pairs"])
    if output is not None and (output / RESULTS).exists() and not overwrite:
        raise DatasetError(f"{output / RESULTS}: exists already; give another --output, or --overwrite to replace it")
    if output is not None and list(output.glob("rows*.jsonl")):
        raise DatasetError(f"{output / ROWS}: holds rows of a model's run; give another --output")
    names = chosen_metrics(material.protocol, metrics)
    require_large_enough(material, names)
    results = dict(zip((sample.name for sample in material.samples), paths, strict=True))
    started = time.perf_counter()
    rows = []
    with enough_threads() as threads:
        for number, sample in enumerate(material.samples, start=1):
            pixels, target = (to_pixels(images.read(path)[0][:1]) for path in (results[sample.name], sample.sharp))
            scores = score(material.protocol, names, pixels, target)
            if sample.blurred is not None:
                before = to_pixels(images.read(sample.blurred)[0][:1])
                own = score(material.protocol, names, before, target)
                scores |= {BLURRED + name: value for name, value in own.items()}
            rows.append(Row(sample.name, scores))
            if progress:
                progress(number, len(material.samples))
    evaluation = Evaluation(
        Settings(
            protocol=material.protocol.name,
            blur_folder=material.protocol.blur_folder,
            seed=None,
            fingerprint=material.fingerprint,
            pictures=len(rows),
            model=str(restored),
            weights="",
            version=__version__,
            device="cpu",
            precision="8 bits",
            tile=None,
            metrics=names,
        ),
        tuple(rows),
        dataset=str(sharp),
        title=material.protocol.title,
        torch=torch.__version__,
        commit=commit(),
        threads=threads,
        seconds=time.perf_counter() - started,
        peak_memory=peak_memory(),
        command=command,
        date=now(),
    )
    if output is not None:
        evaluation.save(output / RESULTS)
    return evaluation


def load_model(
    name: str,
    device: str | None = None,
    *,
    quality: str | None = None,
    crispness: float = 0.0,
    crisp: str | None = None,
) -> Restorer:
    """A baseline by its name, or a generator as `DeblurGenerator.from_pretrained` finds it, that crisp (0 to 1).

    Args:
        quality: None for the model's own or else the best: scores are not to depend on how fast a machine is.

    Raises:
        ModelError: if it cannot be found, or is not to be had that crisp, or a partner is named for nothing.
    """
    require_use(crisp, crispness)
    if name not in BASELINES:
        generator = DeblurGenerator.from_pretrained(name, device=device, crisp=crisp).with_crispness(crispness)
        best = generator.qualities[-1] if generator.qualities else QUALITIES[-1]
        return generator.with_quality(quality or generator.config.quality or best)
    if crispness:
        raise ModelError(f"{name}: is no model, and has no crisp partner; leave the crispness at 0")
    return BASELINES[name]


def described(model: Restorer, precision: Precision) -> tuple[str, str, torch.device, torch.dtype]:
    """Name, hash of the weights, device, and the type that is computed in."""
    if isinstance(model, Baseline):
        return model.name, "", torch.device("cpu"), torch.float32
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ModelError(f"{model.config.name}: has no weights; there is nothing to evaluate")
    stored = parameter.dtype  # as `restoration.restore` chooses
    dtype = dtype_for(precision, parameter.device) if stored == torch.float32 else stored
    name = model.config.name or model.config.architecture
    return name, hub.checksum(model.network.state_dict()), parameter.device, dtype


def saved_as(output: Path, name: str) -> Path:
    """Where the restored picture of a name goes."""
    return output / RESTORED / PurePosixPath(name).with_suffix(".png")


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Writes uint8 (H, W, 3), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        Image.fromarray(pixels).save(aside, "PNG")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def synchronise(device: torch.device) -> None:
    """Waits for the device, without which a GPU's time is that of asking it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Bytes that this process has had in memory at the most; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_cuda(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def commit() -> str:
    """The commit of the checkout that the package lies in, "+changes" behind it if there are any; "" elsewhere."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return ""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=60)

    try:
        head, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "") if head.returncode == 0 else ""


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
