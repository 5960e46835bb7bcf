"""Golden tensors: a small input and the output that the weights gave for it when they were saved, to check them by.

`golden.safetensors` holds "input" and "output", (1, 3, 48, 48) in [-1, 1], and in its metadata

    tolerance.float32, tolerance.float16, tolerance.bfloat16    the largest difference, as a decimal number
    norms                                                       the norm of each of the weights' tensors, as JSON
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError, shown
from .files import Source, finite, first_line, golden_file

SIDE = 48
SHAPE = (1, 3, SIDE, SIDE)
# What version 0.1.0 saved states no tolerances. In float32 another device or another order of sums was never seen to
# make more than 1e-4; in bfloat16, of three digits, the published networks differ by up to 0.07; float16 has three
# more bits, of which we trust two.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.025}
SAME_NORM = 1e-2  # relative: above what rounding to half precision changes, below what another training does
# GPUs multiply float32 with the ten bits of float16 unless they are told otherwise, which PyTorch calls TF32.
LIKE = {"tf32": "float16", "float64": "float32"}
MOST_NAMED = 3


@dataclass(frozen=True)
class Golden:
    """What a model must do.

    Args:
        input, output: (1, 3, 48, 48) float32 in [-1, 1].
        tolerances: the largest absolute difference of an output, by the precision of the arithmetic.
        norms: of each of the weights' tensors when they were saved; empty where they were not kept.
    """

    name: str
    input: Tensor
    output: Tensor
    tolerances: dict[str, float]
    norms: dict[str, float]


class Match(NamedTuple):
    """Of an output as it should be: its largest difference from the golden one, what is allowed, the precision."""

    difference: float
    tolerance: float
    precision: str


def norms_of(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The Euclidean norm of each tensor of floats, to six digits, by its name."""
    return {
        key: float(f"{torch.linalg.vector_norm(tensor.detach().float()).item():.6g}")
        for key, tensor in tensors.items()
        if tensor.is_floating_point()
    }


def golden_metadata(tensors: dict[str, Tensor], tolerances: dict[str, float]) -> dict[str, str]:
    """What golden.safetensors says of the weights and of its output, beside the output itself.

    Args:
        tensors: the weights as they are stored.
        tolerances: the largest difference in each precision.
    """
    stated = {f"tolerance.{precision}": f"{tolerance:.6f}" for precision, tolerance in tolerances.items()}
    return stated | {"norms": json.dumps(norms_of(tensors))}


def read_golden(source: Source, variant: str | None = None) -> Golden:
    """The golden tensors of a found model.

    Raises:
        ModelError: if there are none, or the file is not what it should be.
    """
    path = source.folder / golden_file(variant)
    what = f"{source.name}: {path.name}"
    if not path.is_file():
        raise ModelError(f"{source.name}: has no {path.name} to verify it by; save the model again")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            if {key: (tuple(one.get_shape()), one.get_dtype()) for key, one in found.items()} != dict.fromkeys(
                ("input", "output"), (SHAPE, "F32")
            ):
                raise ModelError(f"{what} does not hold an input and an output of {list(SHAPE)}; save the model again")
            blurred, restored = file.get_tensor("input"), file.get_tensor("output")
    except (SafetensorError, OSError, ValueError, RuntimeError) as reason:
        raise ModelError(
            f"{what} is not a safetensors file, or is cut short ({first_line(reason)}); download or save it again"
        ) from None
    if not (finite(blurred) and finite(restored)):
        raise ModelError(f"{what} holds values that are not finite; save the model again")
    try:
        tolerances = {
            precision: float(metadata.get(f"tolerance.{precision}", default))
            for precision, default in TOLERANCES.items()
        }
        norms = {str(key): float(norm) for key, norm in json.loads(metadata.get("norms", "{}")).items()}
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise ModelError(f"{what}: its tolerances or norms cannot be read; save the model again") from None
    if not all(0 < tolerance <= 2 for tolerance in tolerances.values()):
        raise ModelError(f"{what}: states tolerances that would pass nothing, or anything; save the model again")
    return Golden(source.name, blurred, restored, tolerances, norms)


def check_golden(golden: Golden, output: Tensor, precision: str, tensors: dict[str, Tensor]) -> Match:
    """Compares an output with the golden one.

    Args:
        output: what the network gives for the golden input.
        precision: of the arithmetic, one of the tolerances' or a key of `LIKE`.
        tensors: the network's weights, among which the cause is looked for.

    Raises:
        ModelError: if it is above the tolerance; says by how much, and which tensors have another norm than when they
            were saved.
    """
    difference = (output - golden.output).abs().max().item()
    tolerance = golden.tolerances[LIKE.get(precision, precision)]
    if difference <= tolerance:  # not so for NaN
        return Match(difference, tolerance, precision)
    raise ModelError(
        f"{golden.name}: gives another output than when it was saved: the largest difference in {precision} is "
        f"{difference:.4g}, allowed are {tolerance:g}; {suspects(golden.norms, norms_of(tensors))}"
    )


def suspects(saved: dict[str, float], found: dict[str, float]) -> str:
    """Which tensors have changed, worst first."""
    if not saved:
        return "no norms were kept that would tell where the weights differ"
    changes = {key: abs(norm - saved[key]) / max(abs(saved[key]), 1e-12) for key, norm in found.items() if key in saved}
    changed = sorted((key for key in changes if not changes[key] <= SAME_NORM), key=lambda key: -changes[key])
    if not changed:
        return "the norms of all weights are as they were saved, so it is the arithmetic that differs"
    named = ", ".join(f"{shown(key)} {found[key]:.4g} in place of {saved[key]:.4g}" for key in changed[:MOST_NAMED])
    return f"the norms of {len(changed)} of {len(found)} tensors have changed, most of all {named}"
