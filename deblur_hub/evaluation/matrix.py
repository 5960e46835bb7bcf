"""Models, qualities, precisions, sizes and runtimes: each measured in a process of its own, beside a matrix product."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DeblurHubError
from ..generator import DeblurGenerator
from ..machine import processor
from ..networks.windows import WindowedGenerator
from ..restoration.quality import step_of
from ..restoration.restore import DTYPES
from .benchmark import STARTER, interleaved, load, product_seconds, seconds_of, work_of
from .tables import markdown

RUNTIMES = {"eager": "torch", "compiled": "torch", "onnx": "onnxruntime", "openvino": "openvino"}  # and their packages
PRECISIONS = {  # that each computes in on a CPU
    "eager": ("float32", "bfloat16"),
    "compiled": ("float32", "bfloat16"),
    "onnx": ("float32",),
    "openvino": ("float32", "bfloat16"),
}
SIDE = 2048  # of the matrices
CHILD = "from deblur_hub.evaluation.matrix import main; main()"

Run = Callable[[Tensor], Tensor]  # (1, 3, H, W) in [-1, 1] to the same


@dataclass(frozen=True)
class Cell:
    """What is measured. `file` is the model as an ONNX file, for those that need one."""

    model: str
    quality: str  # "" of a model that has a single one
    precision: str
    width: int
    height: int
    runtime: str
    file: str = ""


@dataclass(frozen=True)
class Measured:
    """What came of it: the median seconds of a picture, the first one's, which prepares; the peak of the process in
    GiB, without the matrix product; multiply-adds a second of that product, and the share of them that was reached; or
    the reason why there is nothing."""

    cell: Cell
    seconds: float = 0.0
    first: float = 0.0
    peak: float = 0.0
    rate: float = 0.0
    share: float = 0.0
    problem: str = ""


def cells(
    models: Sequence[str],
    qualities: Sequence[str],
    precisions: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    runtimes: Sequence[str],
) -> Iterator[Cell]:
    """All that can be measured here, sizes as (width, height); without qualities, each model's own."""
    for model in models:
        own = load(model, "cpu").qualities or ("",)
        chosen = [quality for quality in own if quality in qualities] if qualities and own != ("",) else own
        for quality, precision, size, runtime in product(chosen, precisions, sizes, runtimes):
            if precision in PRECISIONS[runtime] and find_spec(RUNTIMES[runtime]) is not None:
                yield Cell(model, quality, precision, *size, runtime)


def measured(cells: Sequence[Cell], *, runs: int) -> Iterator[Measured]:
    """Measures one after another; a model is exported once."""
    with tempfile.TemporaryDirectory() as folder:
        files: dict[tuple[str, str], Path | str] = {}
        for cell in cells:
            if cell.runtime in ("onnx", "openvino"):
                key = cell.model, cell.quality
                if key not in files:
                    files[key] = exported(cell, Path(folder) / f"{len(files)}.onnx")
                if isinstance(found := files[key], str):
                    yield Measured(cell, problem=found)
                    continue
                cell = replace(cell, file=str(found))
            yield in_process(cell, runs)


def exported(cell: Cell, target: Path) -> Path | str:
    """The file, or the reason why there is none."""
    from ..export.files import write_onnx
    from ..export.notes import notes_of
    from ..export.program import trace

    generator = load(cell.model, "cpu")
    step = step_of(generator.network, cell.quality) if cell.quality else None
    try:
        write_onnx(trace(generator.network, step), notes_of(generator, cell.quality, half=False, licence=""), target)
    except DeblurHubError as reason:
        return str(reason)
    return target


def in_process(cell: Cell, runs: int) -> Measured:
    command = [sys.executable, "-c", CHILD, json.dumps(asdict(cell)), str(runs)]
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", STARTER, *command], capture_output=True, text=True, check=False
    )
    *_, found, _ = ["", "", *said.stdout.splitlines()]
    try:
        return Measured(cell, **json.loads(found))
    except ValueError:
        last = (said.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return Measured(cell, problem=last)


def main() -> None:
    """In the process of a cell: prints what was measured as JSON."""
    cell, runs = Cell(**json.loads(sys.argv[1])), int(sys.argv[2])
    generator = load(cell.model, "cpu")
    picture = torch.rand(1, 3, cell.height, cell.width) * 2 - 1
    with torch.inference_mode():
        run = MAKERS[cell.runtime](cell, generator)
        first = seconds_of(run, picture)
        run(picture)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
        tasks: dict[str, Callable[[], float]] = {"run": lambda: seconds_of(run, picture)}
        tasks["product"] = lambda: product_seconds("cpu", DTYPES[cell.precision], SIDE)
        medians = {name: float(np.median(times)) for name, times in interleaved(tasks, runs).items()}
    rate = SIDE**3 / medians["product"]
    share = work_of(generator.network, cell.quality, (cell.width, cell.height)) / medians["run"] / rate
    print(json.dumps({"seconds": medians["run"], "first": first, "peak": peak, "rate": rate, "share": share}))


def eager(cell: Cell, generator: DeblurGenerator) -> Run:
    return lambda picture: generator.restore(picture, quality=cell.quality or None, precision=cell.precision)  # type: ignore[arg-type]


def compiled(cell: Cell, generator: DeblurGenerator) -> Run:
    """The network's own layers through `torch.compile`, window by window of one that has windows."""
    network, dtype = generator.network, DTYPES[cell.precision]

    def in_precision(compute: Callable[[Tensor], Tensor]) -> Run:
        def run(picture: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return compute(picture).float()

        return run

    if not isinstance(network, WindowedGenerator):
        return in_precision(torch.compile(network))
    step = step_of(network, cell.quality) or network.best
    window = in_precision(torch.compile(lambda picture: network.restore_window(picture, step)))
    return lambda picture: network.restore(picture, step, lambda windows: map(window, windows))


def onnx(cell: Cell, generator: DeblurGenerator) -> Run:
    from ..export.running import OnnxFile

    file = OnnxFile(cell.file)
    return lambda picture: file.restore((picture + 1) / 2) * 2 - 1


def openvino(cell: Cell, generator: DeblurGenerator) -> Run:
    from ..export.running import OpenVinoFile

    file = OpenVinoFile(cell.file, cell.precision)
    return lambda picture: file.restore((picture + 1) / 2) * 2 - 1


MAKERS = {"eager": eager, "compiled": compiled, "onnx": onnx, "openvino": openvino}


def matrix_table(results: Sequence[Measured]) -> str:
    lines = []
    for each in results:
        cell = each.cell
        what = [cell.model, cell.quality or "-", cell.precision, f"{cell.width}x{cell.height}", cell.runtime]
        if each.problem:
            lines.append([*what, "-", "-", "-", each.problem])
            continue
        speed = f"{cell.width * cell.height / each.seconds / 1e6:.2f}"
        lines.append([*what, f"{each.seconds:.2f}", speed, f"{each.peak:.2f}", f"{each.share:.0%}"])
    header = [
        "model",
        "quality",
        "precision",
        "size",
        "runtime",
        "seconds",
        "MP/s",
        "peak GiB",
        "of the product's rate",
    ]
    return markdown(header, lines, left=5)


def as_json(results: Sequence[Measured]) -> str:
    """All figures, and on what they were measured."""
    machine = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    machine["measured"] = time.strftime("%Y-%m-%d")
    rows = [{**asdict(each), "cell": {**asdict(each.cell), "file": None}} for each in results]
    return json.dumps({"machine": machine, "results": rows}, indent=2) + "\n"
