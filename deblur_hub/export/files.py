"""ONNX and torch.export files, which appear once they give what PyTorch gives."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from ..atomic import replacing
from ..errors import ModelError, reason_of
from .program import Traced

if TYPE_CHECKING:
    import onnx

NOTES = "metadata.json"  # beside a torch.export program
OPSET = 18


def write_torch_export(traced: Traced, notes: dict[str, str], target: Path) -> float:
    """Writes what `torch.export.load` reads, with the notes as its extra file; returns the largest difference.

    Raises:
        ModelError: if it differs from PyTorch by more than it may, or cannot be written.
    """
    with written(target) as part:
        with part.open("wb") as file:  # of a path it would judge the suffix
            torch.export.save(traced.program, file, extra_files={NOTES: json.dumps(notes, indent=2)})
        with part.open("rb") as file:
            return compared(traced, torch.export.load(file).module(), target)


def write_onnx(traced: Traced, notes: dict[str, str], target: Path) -> float:
    """Writes an ONNX file with the notes as its metadata; returns the largest difference in ONNX Runtime on the CPU.

    Raises:
        ModelError: if it differs from PyTorch by more than it may, cannot be written, or the extra is not installed.
    """
    require_extra()
    import onnx

    from .running import OnnxFile

    model = halved_where_equal(converted(traced))
    opset = max(one.version for one in model.opset_import if not one.domain)
    onnx.helper.set_model_props(model, notes | {"opset": str(opset)})
    with written(target) as part:
        onnx.save(model, part)
        return compared(traced, OnnxFile(part).run, target)


def require_extra() -> None:
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ModelError(f"an ONNX file needs {', '.join(missing)}; install with: pip install 'deblur-hub[onnx]'")


def compared(traced: Traced, run: Callable[[Tensor], Tensor], target: Path) -> float:
    """The largest difference at the sizes of `traced`, on pictures of noise."""
    noise = torch.Generator().manual_seed(0)
    pictures = [torch.rand(1, 3, *size, generator=noise) for size in traced.sizes]
    try:
        with torch.inference_mode():
            restored = [run(picture) for picture in pictures]
    except Exception as reason:  # of what ONNX Runtime raises there is no list
        raise ModelError(f"{target.name}: does not run here ({reason_of(reason)}); nothing was written") from None
    return max(traced.require_same(*pair, target.name) for pair in zip(restored, pictures, strict=True))


def converted(traced: Traced) -> "onnx.ModelProto":
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                traced.program,
                (),
                dynamo=True,
                optimize=False,  # ONNX Runtime does that when it loads a file, in a hundredth of the time
                verbose=False,
                opset_version=OPSET,
                input_names=["picture"],
                output_names=["restored"],
            )
    except torch.onnx.errors.OnnxExporterError as reason:
        why = reason_of(reason.__cause__ or reason).splitlines()[0]
        raise ModelError(f"PyTorch {torch.__version__} cannot write this network as ONNX ({why})") from None
    finally:
        log.setLevel(level)
    return cast(torch.onnx.ONNXProgram, made).model_proto


def halved_where_equal(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Keeps weights that float16 holds exactly, as those of released models, in half the space; they are read as
    float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if half.size > 1 and np.array_equal(half.astype(np.float32), values):
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """A path that becomes the target; errors of the system are a ModelError."""
    try:
        with replacing(target) as part:
            yield part
    except OSError as reason:
        raise ModelError(f"{target}: cannot be written ({reason_of(reason)})") from None
