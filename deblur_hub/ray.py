"""Data sets of photos on a Ray cluster (extra `ray`): restored row by row by actors that hold the weights.

import ray
from deblur_hub.ray import deblur

photos = ray.data.read_binary_files("s3://bucket/photos/", include_paths=True)
deblur(photos, quality="fast").write_parquet("s3://bucket/restored/")
"""

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from .errors import DeblurHubError, reason_of
from .generator import DeblurGenerator
from .pictures.suffixes import result_suffix
from .processes import MIN_THREADS
from .remote import fetch, is_remote, place
from .restoration.memory import free_memory
from .restoration.restore import MEMORY_SHARE

if TYPE_CHECKING:
    from ray.data import Dataset

COLUMNS = ("bytes", "image", "path")  # of pictures, as Ray's own readers call them
NO_COLUMN = "the rows have no column '{}', but {}; name the one with the pictures (column=...)"
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}  # of formats; others are called so


def deblur(
    dataset: "Dataset",
    *,
    model: str | os.PathLike[str] | None = None,
    crisp: str | os.PathLike[str] | None = None,
    column: str | None = None,
    num_gpus: float | None = None,
    num_cpus: float | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> "Dataset":
    """Restores the pictures of a data set, each row once, also where an actor or its node is lost meanwhile.

    Args:
        dataset: with a column of files' contents (bytes), of arrays (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16 or
            floats in [0, 1], or of paths and URIs (str), which the actors read.
        model, crisp: as `DeblurGenerator.from_pretrained` takes them; a folder must be there on every node.
        column: its name; None for the first of "bytes", "image" and "path" that a row has.
        num_gpus, num_cpus: of each actor. None for one GPU if the cluster has any, else `MIN_THREADS` cores; PyTorch
            takes as many threads, but never fewer than `MIN_THREADS`, so that the pixels are the same.
        concurrency: actors, each of which loads the weights once; None for as many as the cluster has room for, with a
            core left for reading.
        options: as `DeblurGenerator.deblur_file` takes them. Without `quality` each node chooses by its own speed.

    Returns:
        A lazy data set of the same rows. In place of a column of pictures (one of paths stays) there is "restored": an
        array for an array, else a file's content, in the format that the picture had. Where a picture cannot be
        restored, it is None, and "error" says why in a sentence, which is None for the others.

    Raises:
        DeblurHubError: if Ray is missing, or for a model or options as `DeblurGenerator` refuses them.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError:
        raise DeblurHubError("Ray Data is another package; pip install 'deblur-hub[ray]'") from None
    DeblurGenerator.from_pretrained(model, device="cpu", crisp=crisp).file_steps(**options)  # its mistakes, found here
    known = dataset.columns(fetch_if_missing=False)
    if column and known and column not in known:
        raise DeblurHubError(NO_COLUMN.format(column, ", ".join(known)))
    cluster = ray.cluster_resources()
    if num_gpus is None:
        num_gpus = 1 if cluster.get("GPU", 0) >= 1 else 0
    if num_cpus is None:
        num_cpus = 1 if num_gpus else MIN_THREADS
    if concurrency is None:
        room = cluster["GPU"] / num_gpus if num_gpus else (cluster["CPU"] - 1) / num_cpus
        concurrency = max(1, int(room))
    held = {"model": model, "crisp": crisp, "column": column, "options": options}
    return dataset.map(
        Restorer,
        fn_constructor_kwargs=held | {"on_gpu": bool(num_gpus), "cores": num_cpus},
        compute=ActorPoolStrategy(size=concurrency),
        num_gpus=num_gpus,
        num_cpus=num_cpus,
    )


class Restorer:
    """An actor: the weights are loaded when it starts."""

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] | None,
        crisp: str | os.PathLike[str] | None,
        column: str | None,
        options: dict[str, Any],
        on_gpu: bool,
        cores: float,
    ) -> None:
        torch.set_num_threads(max(MIN_THREADS, int(cores)))
        self.generator = DeblurGenerator.from_pretrained(model, device="cuda" if on_gpu else "cpu", crisp=crisp)
        self.column, self.options = column, options
        if not on_gpu:  # actors share the memory of a machine as they share its cores
            share = min(1.0, cores / (os.cpu_count() or 1))
            self.options = {"memory_budget": MEMORY_SHARE * free_memory(torch.device("cpu")) * share} | options

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        column = self.column or next((name for name in COLUMNS if name in row), COLUMNS[0])
        if column not in row:
            raise DeblurHubError(NO_COLUMN.format(column, ", ".join(row)))
        made, picture = dict(row), row[column]
        if not isinstance(picture, str):
            del made[column]
        called = row.get("path") if isinstance(row.get("path"), str) else None
        try:
            return made | {"restored": self.restored(picture, called), "error": None}
        except DeblurHubError as error:
            sentence = str(error)
        except Exception as error:  # the other rows are none the worse for it
            sentence = f"{called or 'the picture'}: cannot be restored ({type(error).__name__}: {reason_of(error)})"
        return made | {"restored": None, "error": sentence}

    def restored(self, picture: Any, called: str | None) -> np.ndarray | bytes:
        if isinstance(picture, np.ndarray):
            options = {name: value for name, value in self.options.items() if name not in ("jpeg_quality", "strip")}
            return self.generator.deblur(picture, **options)
        with tempfile.TemporaryDirectory() as folder:
            if isinstance(picture, str):
                source = place(picture)
                source = fetch(source, Path(folder)) if is_remote(source) else source
            else:
                name = Path(called).name if called else f"picture{suffix_of(picture)}"
                source = Path(folder) / name
                source.write_bytes(picture)
            target = Path(folder) / f"{source.stem}-deblurred{result_suffix(source.suffix)}"
            return self.generator.deblur_file(source, target, **self.options).read_bytes()


def suffix_of(content: bytes) -> str:
    """That of the format of a file's content; of what is no picture, which reading it will tell, any."""
    with suppress(Exception), Image.open(io.BytesIO(content)) as picture:
        return SUFFIXES.get(str(picture.format), f".{picture.format}".lower())
    return ".png"
