"""TensorFlow.js graph models: a `model.json` with the graph's nodes, and shards that hold its constants."""

import base64
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError, shown

MODEL = "model.json"
TYPES = {"float32": "<f4", "int32": "<i4", "bool": "|b1", "uint8": "|u1"}  # of constants that are not packed
MOST_BYTES = 2**31  # of all constants


class Graph:
    """A graph's nodes, as the file has them ("op", "input", "attr"), and its constants, both by name."""

    def __init__(self, nodes: dict[str, dict[str, Any]], constants: dict[str, np.ndarray]) -> None:
        self.nodes, self.constants = nodes, constants
        self.readers: dict[str, list[str]] = defaultdict(list)  # of a node: those that it is an input of
        for name, node in nodes.items():
            for given in inputs_of(node):
                self.readers[given].append(name)

    def constant(self, node: str) -> str:
        """The name of the one constant of floats among a node's inputs; ValueError if there is not just one."""
        given = [name for name in inputs_of(self.nodes[node]) if name in self.constants]
        (name,) = (name for name in given if self.constants[name].dtype == np.float32)
        return name

    def reader(self, node: str, op: str) -> str:
        """The one node that reads a node; ValueError or LookupError if there is not just one, or it is no `op`."""
        (name,) = self.readers[node]
        if self.nodes[name]["op"] != op:
            raise LookupError(f"{name} is no {op}")
        return name

    def equation(self, node: str) -> str:
        """Of an Einsum."""
        return base64.b64decode(self.nodes[node]["attr"]["equation"]["s"]).decode()


def inputs_of(node: dict[str, Any]) -> list[str]:
    return [given.split(":")[0].removeprefix("^") for given in node.get("input", [])]


def is_model(source: Path) -> bool:
    """Whether it is such a model's folder or its `model.json`."""
    return source.name == MODEL or (source.is_dir() and (source / MODEL).is_file())


def read(source: Path) -> Graph:
    """The graph of a folder, or of its `model.json`. Nothing of it is run."""
    file = source if source.name == MODEL else source / MODEL
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        listed = document["modelTopology"]["node"]
        nodes = {str(node["name"]): node for node in listed if isinstance(node["op"], str)}
        constants: dict[str, np.ndarray] = {}
        for group in document["weightsManifest"]:
            shards = [shard(file, str(path)) for path in group["paths"]]
            constants |= unpacked(file, b"".join(shards), group["weights"])
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file; give the folder with {MODEL} and its shards") from None
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(
            f"{file}: is no graph model of TensorFlow.js; give the folder with {MODEL} and its shards, or download it "
            "again"
        ) from None
    return Graph(nodes, constants)


def shard(file: Path, name: str) -> bytes:
    """A shard's bytes; it must lie beside the model."""
    path = file.parent / name
    if Path(name).name != name:
        raise ModelError(f"{file}: names a shard {shown(name)} outside of its folder; download the model again")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: is missing, which {MODEL} asks for; download the model again") from None


def unpacked(file: Path, data: bytes, weights: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The constants of a group of shards, laid end to end."""
    found, at = {}, 0
    for weight in weights:
        name, kind, shape = str(weight["name"]), weight["dtype"], [int(side) for side in weight["shape"]]
        if "quantization" in weight or kind not in TYPES:
            packing = weight.get("quantization", {}).get("dtype", kind)
            raise ModelError(
                f"{file}: '{name:.60}' is packed as {packing!s:.20}; convert takes models of plain float32"
            )
        count = math.prod(shape)
        length = count * np.dtype(TYPES[kind]).itemsize
        if min([0, *shape]) < 0 or at + length > min(len(data), MOST_BYTES):
            raise ModelError(f"{file}: its shards end before '{name:.60}' does; download the model again")
        found[name] = np.frombuffer(data, TYPES[kind], count, at).reshape(shape)
        at += length
    if at != len(data):
        raise ModelError(f"{file}: its shards hold {len(data) - at} bytes more than it says; download the model again")
    return found
