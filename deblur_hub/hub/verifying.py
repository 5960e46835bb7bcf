"""Verification of a model: the hub's checksum of a download, names and shapes, our checksum, finite values, output.

`reading` and `downloading` call these checks; whatever fails one is refused with a sentence. Golden tensors check what
the network computes: `golden.safetensors` holds "input" and "output", (1, 3, 48, 48) in [-1, 1], and in its metadata

    tolerance.float32, tolerance.float16, tolerance.bfloat16    the largest difference, as a decimal number
    norms                                                       the norm of each of the weights' tensors, as JSON
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError, did_you_mean, shown
from .files import CONFIG, Source, first_line, golden_file

Bytes = NDArray[np.uint8]

SHA256, SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
TYPES = {  # as a safetensors header names them
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
EXPONENTS = {  # of each type of floats: integers of its size, and the exponent's bits among theirs
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}
AT_ONCE = 2**20  # values whose exponents are looked at together: they stay in the processor's cache

SHAPE = (1, 3, 48, 48)  # of golden tensors
# What version 0.1.0 saved states no tolerances. In float32 another device or another order of sums was never seen to
# make more than 1e-4; in bfloat16, of three digits, the published networks differ by up to 0.07; float16 has three
# more bits, of which we trust two.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.025}
SAME_NORM = 1e-2  # relative: above what rounding to half precision changes, below what another training does
# GPUs multiply float32 with the ten bits of float16 unless they are told otherwise, which PyTorch calls TF32.
LIKE = {"tf32": "float16", "float64": "float32"}
MOST_NAMED = 3


# The hub's client compares a download's length and not its content. In its cache a file is a link to a blob whose name
# is the hub's checksum: SHA-256 of large files, git's SHA-1 of small ones.


def is_damaged(file: Path) -> bool:
    """Whether a large file in the cache differs from the hub's; small ones are named by mirrors in their own ways."""
    blob = file.resolve()
    return bool(SHA256.fullmatch(blob.name)) and not is_proved(blob)


def is_proved(file: Path) -> bool:
    """Whether a file in the cache has the checksum that the hub states."""
    blob = file.resolve()
    if SHA256.fullmatch(blob.name):
        return file_digest(blob, "sha256") == blob.name
    return bool(SHA1.fullmatch(blob.name)) and blob.name in (
        file_digest(blob, "sha1", b"blob %d\0" % blob.stat().st_size),
        file_digest(blob, "sha1"),
    )


def file_digest(path: Path, kind: str, before: bytes = b"") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, before, usedforsecurity=False)).hexdigest()


class Stored(NamedTuple):
    """A tensor in a file: its type as the file names it, its shape, and where its bytes are among the values."""

    type: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """What a safetensors file says of itself: its metadata, its tensors, and the byte at which their values begin."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]
    begin: int


def read_header(what: str, path: Path) -> Header:
    """The header of a whole safetensors file; `ModelError`, which begins with `what`, if it is none."""
    try:
        with safe_open(path, framework="np") as file:  # the library checks the header and the file's length
            metadata = file.metadata() or {}
        with path.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            entries = json.loads(content.read(length))
    except (SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as reason:
        raise ModelError(
            f"{what} is not a safetensors file, or is cut short ({first_line(reason)}); download or save it again"
        ) from None
    entries.pop("__metadata__", None)
    tensors = {key: Stored(it["dtype"], tuple(it["shape"]), *it["data_offsets"]) for key, it in entries.items()}
    return Header(metadata, tensors, 8 + length)


def check_header(what: str, header: Header, expected: Mapping[str, Tensor]) -> None:
    """Refuses a file that holds other tensors than expected, by name, shape or type.

    Types may be any floats where floats are expected; a count, such as of batches, must be of the same integers.
    """
    check_names(what, header.tensors.keys(), expected.keys())
    for key, stored in header.tensors.items():
        shape, kind = tuple(expected[key].shape), expected[key].dtype
        if stored.shape != shape:
            raise ModelError(
                f"{what}: tensor '{key}' is {shown(list(stored.shape))} where the network wants {list(shape)}; the "
                f"weights are of another size than {CONFIG}"
            )
        found = TYPES.get(stored.type)
        if found is not kind and (found not in EXPONENTS or kind not in EXPONENTS):
            given = str(found)[6:] if found else stored.type
            wanted = "floats" if kind in EXPONENTS else str(kind)[6:]
            raise ModelError(f"{what}: tensor '{key}' is of type {given}, not of {wanted}; save it again")


def check_names(what: str, names: Set[str], expected: Set[str]) -> None:
    missing, surplus = sorted(expected - names), sorted(names - expected)
    if surplus:
        example = f"{shown(surplus[0])}{did_you_mean(surplus[0], missing)}"
        what += f" has {len(surplus)} tensor(s) that this network lacks, such as {example}"
    elif missing:
        what += f" lacks {len(missing)} tensor(s), such as '{missing[0]}'"
    if surplus or missing:
        raise ModelError(f"{what}; the weights are of another architecture than {CONFIG}")


def verified_tensors(what: str, header: Header, values: Bytes) -> dict[str, Tensor]:
    """The tensors in a file whose header was checked; refused if they fail its checksum or are not finite."""
    tensors = {key: tensor_at(values, stored) for key, stored in header.tensors.items()}
    stated, content = header.metadata.get("sha256"), values.data
    parts = ((key, tensors[key], content[stored.start : stored.stop]) for key, stored in header.tensors.items())
    if stated and stated != digest_of(parts):
        raise ModelError(f"{what} fails its checksum; download or save it again")
    if not all(map(finite, runs(values, header))):
        key = next(key for key, tensor in tensors.items() if not finite(tensor))
        raise ModelError(f"{what}: tensor '{key}' holds values that are not finite; take an earlier checkpoint")
    return tensors


def tensor_at(values: Bytes, stored: Stored) -> Tensor:
    """A tensor in the bytes of a file; its storage is its own: what saves or copies it takes no other's bytes along."""
    if stored.start == stored.stop:
        return torch.empty(stored.shape, dtype=TYPES[stored.type])
    return torch.frombuffer(values[stored.start : stored.stop], dtype=TYPES[stored.type]).reshape(stored.shape)


def runs(values: Bytes, header: Header) -> Iterator[Tensor]:
    """The values of a file in as few tensors as its types allow; 3,000 single ones would take three times as long."""
    held = sorted((stored for stored in header.tensors.values() if stored.stop > stored.start), key=lambda it: it.start)
    for kind, same in groupby(held, key=lambda it: it.type):
        run = list(same)
        yield tensor_at(values, Stored(kind, (-1,), run[0].start, run[-1].stop))


def finite(tensor: Tensor) -> bool:
    """Whether every value is a finite number; counts always are.

    One that is not has all bits of its exponent set. To look at the bits takes a tenth of the time of `torch.isfinite`,
    and no threads, for which a load of many small tensors would wait again and again.
    """
    if tensor.dtype not in EXPONENTS or not tensor.numel():
        return True
    bits, exponent = EXPONENTS[tensor.dtype]
    values = tensor.detach().cpu().contiguous().view(bits).numpy().reshape(-1)
    return all((values[at : at + AT_ONCE] & exponent).max() != exponent for at in range(0, len(values), AT_ONCE))


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    return digest_of((key, tensor, tensor.reshape(-1).view(torch.uint8).numpy().data) for key, tensor in plain.items())


def digest_of(parts: Iterable[tuple[str, Tensor, memoryview]]) -> str:
    """Of names, types and shapes as the tensors have them, and of the bytes beside them."""
    digest = hashlib.sha256()
    for key, tensor, content in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


@dataclass(frozen=True)
class Golden:
    """What a model must compute."""

    name: str
    input: Tensor  # (1, 3, 48, 48) float32 in [-1, 1], as the output
    output: Tensor
    tolerances: dict[str, float]  # the largest absolute difference of an output, by the precision of the arithmetic
    norms: dict[str, float]  # of each of the weights' tensors when they were saved; empty where they were not kept


class Match(NamedTuple):
    """An output that passed: its largest difference from the golden one, what is allowed, and the precision."""

    difference: float
    tolerance: float
    precision: str


def norms_of(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """The Euclidean norm of each tensor of floats, to six digits, by its name."""
    norms = {}
    for key, tensor in tensors.items():
        if tensor.is_floating_point():
            norms[key] = float(f"{torch.linalg.vector_norm(tensor.detach().float()).item():.6g}")
    return norms


def golden_metadata(tensors: Mapping[str, Tensor], tolerances: Mapping[str, float]) -> dict[str, str]:
    """The metadata of golden.safetensors, for weights as they are stored and the tolerance in each precision."""
    stated = {f"tolerance.{precision}": f"{tolerance:.6f}" for precision, tolerance in tolerances.items()}
    return stated | {"norms": json.dumps(norms_of(tensors))}


def read_golden(source: Source, variant: str | None = None) -> Golden:
    """The golden tensors of a found model; `ModelError` if there are none, or the file is not what it should be."""
    path = source.folder / golden_file(variant)
    what = f"{source.name}: {path.name}"
    if not path.is_file():
        raise ModelError(f"{source.name}: has no {path.name} to verify it by; save the model again")
    header = read_header(what, path)
    held = {key: (stored.type, stored.shape) for key, stored in header.tensors.items()}
    if held != dict.fromkeys(("input", "output"), ("F32", SHAPE)):
        raise ModelError(f"{what} does not hold an input and an output of {list(SHAPE)}; save the model again")
    try:
        found = verified_tensors(what, header, np.fromfile(path, np.uint8, offset=header.begin))
        stated = header.metadata
        tolerances = {kind: float(stated.get(f"tolerance.{kind}", usual)) for kind, usual in TOLERANCES.items()}
        norms = {str(key): float(norm) for key, norm in json.loads(stated.get("norms", "{}")).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise ModelError(f"{what}: its tolerances or norms cannot be read; save the model again") from None
    if not all(0 < tolerance <= 2 for tolerance in tolerances.values()):
        raise ModelError(f"{what}: states tolerances that would pass nothing, or anything; save the model again")
    return Golden(source.name, found["input"], found["output"], tolerances, norms)


def check_golden(golden: Golden, output: Tensor, precision: str, tensors: Mapping[str, Tensor]) -> Match:
    """Compares what a network of these tensors gives for the golden input with the golden output; `ModelError` if it
    differs by more than the tolerance of the `precision`, with by how much, and which norms have changed."""
    difference = (output - golden.output).abs().max().item()
    tolerance = golden.tolerances[LIKE.get(precision, precision)]
    if difference <= tolerance:  # not so for NaN
        return Match(difference, tolerance, precision)
    raise ModelError(
        f"{golden.name}: gives another output than when it was saved: the largest difference in {precision} is "
        f"{difference:.4g}, allowed are {tolerance:g}; {changed_norms(golden.norms, norms_of(tensors))}"
    )


def changed_norms(saved: Mapping[str, float], found: Mapping[str, float]) -> str:
    """Which tensors have another norm than when they were saved, in words, the most changed first."""
    if not saved:
        return "no norms were kept that would tell where the weights differ"
    changes = {key: abs(norm - saved[key]) / max(abs(saved[key]), 1e-12) for key, norm in found.items() if key in saved}
    changed = sorted((key for key in changes if not changes[key] <= SAME_NORM), key=lambda key: -changes[key])
    if not changed:
        return "the norms of all weights are as they were saved, so it is the arithmetic that differs"
    named = ", ".join(f"{shown(key)} {found[key]:.4g} in place of {saved[key]:.4g}" for key in changed[:MOST_NAMED])
    return f"the norms of {len(changed)} of {len(found)} tensors have changed, most of all {named}"
