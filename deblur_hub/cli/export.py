"""`deblur-hub export`, and the folder of `publish-space --static`."""

import argparse
import time
from pathlib import Path

import torch

from ..export.files import write_onnx, write_torch_export
from ..export.notes import notes_of, quality_of
from ..export.program import Traced, trace
from ..export.web import require_replaceable, require_tiles, runtime_files, write_folder
from ..generator import DeblurGenerator
from ..hub import DEFAULT_MODEL, list_models
from ..restoration.quality import step_of
from .outcomes import OK, UsageError

SPEED_SIDE = 256  # pixels
RUNS = 3


def run_export(options: argparse.Namespace) -> int:
    target: Path = options.output
    if target.exists() and not options.overwrite:
        raise UsageError(f"{target}: is there already; name another, or give --overwrite")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{target}: its folder is not there; make it first")
    if options.format == "web":
        write_web(options.model, options.quality, target, options.runtime, half=options.half)
        print(f"written: {target}; try: python -m http.server -b 127.0.0.1 -d {target}")
        return OK
    if options.runtime:
        raise UsageError("--runtime is for --format web; omit it")
    generator = DeblurGenerator.from_pretrained(options.model, device="cpu")
    quality = quality_of(generator, options.quality)
    notes = notes_of(generator, quality, half=options.half, licence=licence_of(options.model))
    traced = traced_at(generator, quality, half=options.half)
    if options.format == "torch-export":
        difference = write_torch_export(traced, notes, target)
        print(f"written: {target}, largest difference from PyTorch {difference:.2g}")
        return OK
    difference = write_onnx(traced, notes, target)
    print(f"written: {target}, largest difference from PyTorch {difference:.2g}")
    print(compared_speeds(traced, target))
    return OK


def traced_at(generator: DeblurGenerator, quality: str, *, half: bool) -> Traced:
    return trace(generator.network, step_of(generator.network, quality), half=half)


def licence_of(model: str) -> str:
    """Of a bundled model's weights; '' where only the network's is known."""
    return next((one.license for one in list_models() if one == model), "")


def compared_speeds(traced: Traced, file: Path) -> str:
    """Seconds of the file in ONNX Runtime and of the network in PyTorch, taken by turns."""
    import onnxruntime

    from ..export.running import OnnxFile

    picture = torch.rand(1, 3, SPEED_SIDE, SPEED_SIDE)
    loaded = OnnxFile(file)
    seconds: dict[str, list[float]] = {}
    with torch.inference_mode():
        for _ in range(RUNS + 1):
            for name, run in (("ONNX Runtime", loaded.run), ("PyTorch", traced.reference)):
                started = time.perf_counter()
                run(picture)
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    best = {name: min(taken[1:]) for name, taken in seconds.items()}  # the first warms up
    return (
        f"{SPEED_SIDE}x{SPEED_SIDE} pixels on {torch.get_num_threads()} threads of the CPU: "
        f"{best['ONNX Runtime']:.3f} s in ONNX Runtime {onnxruntime.__version__}, "
        f"{best['PyTorch']:.3f} s in PyTorch {torch.__version__} (float32)"
    )


def write_web(
    model: str | None, quality: str | None, target: Path, runtime: Path | None, *, half: bool = False
) -> None:
    """The page with a model; raises ModelError before anything is computed if it cannot be."""
    require_replaceable(target)
    generator = DeblurGenerator.from_pretrained(model, device="cpu")
    require_tiles(generator)
    quality = quality_of(generator, quality or "fast")
    files = runtime_files(runtime)
    notes = notes_of(generator, quality, half=half, licence=licence_of(model or DEFAULT_MODEL))
    write_folder(traced_at(generator, quality, half=half), notes, files, target)
