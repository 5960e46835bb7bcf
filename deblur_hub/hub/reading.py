"""A found model's configuration and tensors, strictly."""

from collections.abc import Set
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..config import LONGEST_FILE, GeneratorConfig
from ..errors import ModelError, did_you_mean, shown
from .cache import dropping_what_is_damaged
from .files import CONFIG, FLOATS, Source, checksum, finite, first_line, index_file, weights_file
from .shards import read_index

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


@dropping_what_is_damaged
def read_config(source: Source) -> GeneratorConfig:
    """The configuration of a found model; `ModelError` if it is not one that this version knows."""
    try:
        with (source.folder / CONFIG).open(encoding="utf-8") as file:
            text = file.read(LONGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as reason:
        raise ModelError(
            f"{source.name}: {CONFIG} cannot be read ({reason}); download or save the model again"
        ) from None
    return GeneratorConfig.from_json(text, source=f"{source.name}: {CONFIG}")


@dropping_what_is_damaged
def read_tensors(source: Source, variant: str | None, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a found model, exactly those that are expected, from one file or from several and their index.

    Args:
        expected: name -> tensor of the right shape, for instance on the meta device.

    Raises:
        ModelError: before a tensor is read, if a file is no safetensors file or not where the index says; or a tensor
            is missing, not expected, of another shape, or is not of floats where floats are expected, nor of the
            integers where a count is. Then, if a file fails its checksum or a tensor holds values that are not finite.
    """
    whole = source.folder / weights_file(variant)
    if whole.is_file():
        return read_file(source.name, whole, expected)
    places = read_index(source.name, source.folder / index_file(variant))
    check_names(f"{source.name}: {index_file(variant)}", places.keys(), expected)
    parts = {
        name: {key: expected[key] for key, place in places.items() if place == name} for name in set(places.values())
    }
    for name in parts:  # all are looked at before one is read
        check_header(source.name, source.folder / name, parts[name])
    tensors: dict[str, Tensor] = {}
    for name in sorted(parts):
        tensors |= read_file(source.name, source.folder / name, parts[name])
    return tensors


def check_header(called: str, path: Path, expected: dict[str, Tensor]) -> str:
    """Sees to it that a file holds the expected tensors, by its header alone; returns the checksum that it states."""
    what = f"{called}: {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            shapes = {key: tuple(found.get_shape()) for key, found in slices.items()}
            types = {key: str(found.get_dtype()) for key, found in slices.items()}
    except (SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as reason:
        raise ModelError(
            f"{what} is not a safetensors file, or is cut short ({first_line(reason)}); download or save it again"
        ) from None
    check_names(what, shapes.keys(), expected)
    for key, shape in shapes.items():
        kind = expected[key].dtype
        if shape != tuple(expected[key].shape):
            raise ModelError(
                f"{what}: tensor '{key}' is {shown(list(shape))} where the network wants "
                f"{list(expected[key].shape)}; the weights are of another size than {CONFIG}"
            )
        counts = not kind.is_floating_point  # such as batch normalisation's number of batches
        found = TYPES.get(types[key])
        if found not in ((kind,) if counts else FLOATS):
            given, wanted = str(found)[6:] if found else types[key], str(kind)[6:] if counts else "floats"
            raise ModelError(f"{what}: tensor '{key}' is of type {given}, not of {wanted}; save it again")
    return str(metadata.get("sha256", ""))


def read_file(called: str, path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    stated = check_header(called, path, expected)
    what = f"{called}: {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in expected}
    except (SafetensorError, OSError, ValueError, RuntimeError) as reason:
        raise ModelError(f"{what} cannot be read ({first_line(reason)}); download or save it again") from None
    if stated and stated != checksum(tensors):
        raise ModelError(f"{what} fails its checksum; download or save it again")
    for key, tensor in tensors.items():
        if not finite(tensor):
            raise ModelError(f"{what}: tensor '{key}' holds values that are not finite; take an earlier checkpoint")
    return tensors


def check_names(what: str, names: Set[str], expected: dict[str, Tensor]) -> None:
    missing, surplus = sorted(expected.keys() - names), sorted(names - expected.keys())
    if surplus:
        raise ModelError(
            f"{what} has {len(surplus)} tensor(s) that this network lacks, such as {shown(surplus[0])}"
            f"{did_you_mean(surplus[0], missing)}; the weights are of another architecture than {CONFIG}"
        )
    if missing:
        raise ModelError(
            f"{what} lacks {len(missing)} tensor(s), such as '{missing[0]}'; "
            f"the weights are of another architecture than {CONFIG}"
        )
