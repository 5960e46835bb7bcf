"""A found model's configuration and tensors, read strictly; `verifying` holds the checks."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..config import LONGEST_FILE, GeneratorConfig
from ..errors import ModelError, shown
from ..networks import NETWORKS, build_network
from ..networks.base import Generator
from ..networks.state import EmptyWeights
from .files import CONFIG, Source, first_line, index_file, weights_file
from .verifying import Header, check_header, check_names, is_proved, read_header, verified_tensors

LONGEST_INDEX = 2**24  # bytes; a hundred for each tensor
BESIDE = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)  # the name of a file, which cannot lead to another folder


def drop(file: Path) -> None:
    """Removes a file from the hub's cache, its blob and the link to it."""
    for path in {file.resolve(), file}:
        path.unlink(missing_ok=True)


@contextmanager
def dropping_damaged_files(source: Source) -> Iterator[None]:
    """If a model is refused, removes from the cache those of its files that are not proved to be the hub's, so that the
    next load fetches them anew. To fetch the hub's own again would change nothing."""
    try:
        yield
    except ModelError:
        if source.commit:
            for file in source.folder.iterdir():
                if file.is_file() and not is_proved(file):
                    drop(file)
        raise


def read_model(source: Source, variant: str | None) -> tuple[GeneratorConfig, Generator, dict[str, Tensor]]:
    """The configuration of a found model, its network without memory for weights, and the tensors that fit it.

    Raises ModelError: before values are read, if this version cannot build the network, a file is no safetensors file
    or not where the index says, or tensors do not fit; then, if a file fails its checksum or a value is not finite.
    """
    with dropping_damaged_files(source):
        config = read_config(source)
    with EmptyWeights():  # takes no memory before all is known to fit
        network = build_configured(config, f"{source.name}: {CONFIG}")
    with dropping_damaged_files(source):
        return config, network, read_tensors(source, variant, network.state_dict())


def build_configured(config: GeneratorConfig, source: str) -> Generator:
    """The network of a configuration; errors name where it came from."""
    if config.architecture not in NETWORKS:
        raise ModelError(
            f"{source} asks for architecture {shown(config.architecture)}, which this version does not "
            f"know (it knows: {', '.join(NETWORKS)})"
        )
    try:
        return build_network(config.architecture, **config.options)
    except (ModelError, ValueError, TypeError) as reason:
        raise ModelError(f"{source}: {reason}") from None


def read_config(source: Source) -> GeneratorConfig:
    try:
        with (source.folder / CONFIG).open(encoding="utf-8") as file:
            text = file.read(LONGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as reason:
        raise ModelError(
            f"{source.name}: {CONFIG} cannot be read ({reason}); download or save the model again"
        ) from None
    return GeneratorConfig.from_json(text, source=f"{source.name}: {CONFIG}")


def read_tensors(source: Source, variant: str | None, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a found model, with the expected names and shapes, from one file or several and an index."""
    if (source.folder / (whole := weights_file(variant))).is_file():
        parts = {whole: expected}
    else:
        index = index_file(variant)
        places = read_index(f"{source.name}: {index}", source.folder / index)
        check_names(f"{source.name}: {index}", places.keys(), expected.keys())
        parts = {
            name: {key: expected[key] for key, place in places.items() if place == name}
            for name in sorted(set(places.values()))
        }
        if missing := [name for name in parts if not (source.folder / name).is_file()]:
            raise ModelError(
                f"{source.name}: has no {missing[0]}, which {index} names; download or save the model again"
            )
    headers: dict[str, Header] = {}
    for name, part in parts.items():
        headers[name] = read_header(f"{source.name}: {name}", source.folder / name)
        check_header(f"{source.name}: {name}", headers[name], part)
    tensors: dict[str, Tensor] = {}
    for name, header in headers.items():
        what = f"{source.name}: {name}"
        try:
            tensors |= verified_tensors(what, header, np.fromfile(source.folder / name, np.uint8, offset=header.begin))
        except (OSError, ValueError, RuntimeError) as reason:
            raise ModelError(f"{what} cannot be read ({first_line(reason)}); download or save it again") from None
    return tensors


def read_index(what: str, path: Path) -> dict[str, str]:
    """The name of the file beside the index that holds each tensor, as huggingface_hub's index states it; `ModelError`
    if the index cannot be read or is none, or names a file that is elsewhere."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_INDEX + 1)
        content: Any = json.loads(text) if len(text) <= LONGEST_INDEX else None
    except (OSError, ValueError, RecursionError) as reason:
        raise ModelError(f"{what} cannot be read ({first_line(reason)}); download or save the model again") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{what} has no 'weight_map' of tensors to files; download or save the model again")
    for name in places.values():
        if not isinstance(name, str) or not BESIDE.fullmatch(name):
            raise ModelError(
                f"{what} names {shown(name)}, which is not a safetensors file beside it; nothing else is opened"
            )
    return places
