"""A model's files into a folder: all of them or none."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..config import GeneratorConfig
from ..errors import ModelError
from ..model_card import CARD_BEGIN, merge
from .files import CARD, CONFIG, golden_file, index_file, weights_among, weights_file
from .verifying import checksum, finite

LARGEST_FILE = "5GB"


def write_model(
    folder: Path,
    config: GeneratorConfig,
    tensors: dict[str, Tensor],
    *,
    variant: str | None = None,
    max_shard_size: int | str = LARGEST_FILE,
    card: str = "",
    golden: dict[str, Tensor] | None = None,
    golden_notes: dict[str, str] | None = None,
) -> None:
    """Writes a model's files aside and then puts them in place, so that a failure leaves what was there.

    What the folder held of the same variant in another form, one file or several, is removed. A generated card renews
    the generated part of one that is there already; any other takes its place. `golden_notes` are the metadata of the
    golden tensors' file. Raises ModelError if the folder cannot be written, or a value is not finite.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if not finite(tensor):
            raise ModelError(
                f"{folder}: not written, as tensor '{key}' holds values that are not finite in "
                f"{str(tensor.dtype)[6:]}; save it in float32, or take an earlier checkpoint"
            )
    pattern = weights_file(variant).replace(".safetensors", "{suffix}.safetensors")
    try:
        if isinstance(max_shard_size, int) and max_shard_size < 1:
            raise ValueError
        split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=max_shard_size)
    except ValueError:
        raise ModelError(
            f"max_shard_size {max_shard_size!r}: is no size of a file; give bytes, or a text such as '5GB'"
        ) from None
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".saving-", dir=folder) as made:
            aside = Path(made)
            for name, keys in split.filename_to_tensors.items():
                part = {key: tensors[key] for key in keys}
                write_tensors(aside / name, part, {"format": "pt", "sha256": checksum(part)})
            if split.is_sharded:
                index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
                (aside / index_file(variant)).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
            (aside / CONFIG).write_text(config.to_json(), encoding="utf-8")
            if card:
                (aside / CARD).write_text(renewed(folder / CARD, card), encoding="utf-8", newline="")
            if golden:
                write_tensors(aside / golden_file(variant), golden, golden_notes or {})
            written = put_in_place(sorted(aside.iterdir()), folder)
        for name in weights_among((path.name for path in folder.iterdir()), variant):
            if name not in written:
                (folder / name).unlink()
    except (OSError, SafetensorError) as reason:
        raise ModelError(f"{folder}: cannot be written ({reason}); name another folder or free some space") from None
    finally:
        if fresh and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def put_in_place(files: list[Path], folder: Path) -> set[str]:
    """Moves files into a folder, none if one cannot be moved; returns their names."""
    mode = next(file for file in files if file.name == CONFIG).stat().st_mode
    for file in files:
        if (folder / file.name).is_dir():
            raise IsADirectoryError(f"there is a folder called {file.name}")
        file.chmod(mode)  # safetensors writes for the owner's eyes alone
    for file in files:
        file.replace(folder / file.name)
    return {file.name for file in files}


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file with its metadata in order, so that equal models are equal files."""
    save_file(tensors, path, metadata)
    if len(metadata) < 2:
        return
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))


def renewed(path: Path, card: str) -> str:
    """A generated card with what people wrote into the one that is there; any other card as it is."""
    if CARD_BEGIN not in card or not path.is_file():
        return card
    try:
        return merge(path.read_bytes().decode("utf-8"), card, source=str(path))
    except UnicodeDecodeError:
        return card
