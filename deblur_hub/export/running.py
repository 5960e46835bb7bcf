"""Exported ONNX files, run by ONNX Runtime or by OpenVINO on the CPU."""

import json
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from ..networks.base import reflect
from ..networks.windows import Windows


class OnnxFile:
    """An exported file.

        restored = OnnxFile("compact.onnx").restore(picture)

    Attributes:
        notes: its metadata, texts by name.
    """

    def __init__(self, path: Path | str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; it warns of its own choices
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.notes: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def run(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) float32 in [0, 1], a picture or a window as the notes say, to the same."""
        return torch.from_numpy(self.session.run(None, {"picture": picture.numpy()})[0])

    def restore(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) float32 in [0, 1], of any size, to the same."""
        if "windows" not in self.notes:
            return self.run(picture)
        restored = torch.zeros_like(picture)
        for window in Windows(**json.loads(self.notes["windows"])).plan((picture.shape[-2], picture.shape[-1])):
            inside = window.inside(self.run(reflect(picture, window.rows.read, window.columns.read).contiguous()))
            restored[..., window.rows.place, window.columns.place] += inside * window.weights()
        return restored.clamp_(0, 1)


class OpenVinoFile(OnnxFile):
    """The same file in OpenVINO, which is a package of its own: `pip install openvino`; in float32 or bfloat16."""

    def __init__(self, path: Path | str, precision: str = "float32") -> None:
        import onnx
        import openvino

        core = openvino.Core()
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self.compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        self.notes = {one.key: one.value for one in onnx.load(str(path)).metadata_props}

    def run(self, picture: Tensor) -> Tensor:
        return torch.from_numpy(self.compiled(picture.numpy())[0])
