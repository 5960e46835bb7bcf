"""A model's files into a folder: all of them or none."""

import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..config import GeneratorConfig
from ..errors import ModelError
from .files import CARD, CONFIG, GOLDEN, checksum, finite, weights_file


def write_model(
    folder: Path,
    config: GeneratorConfig,
    tensors: dict[str, Tensor],
    *,
    variant: str | None = None,
    card: str = "",
    golden: dict[str, Tensor] | None = None,
) -> None:
    """Writes a model's files aside and then puts them in place, so that a failure leaves what was there.

    Raises:
        ModelError: if the folder cannot be written, or a value is not finite: such weights could not be read back.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if not finite(tensor):
            raise ModelError(
                f"{folder}: not written, as tensor '{key}' holds values that are not finite in "
                f"{str(tensor.dtype)[6:]}; save it in float32, or take an earlier checkpoint"
            )
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    except OSError as reason:
        raise ModelError(f"{folder}: cannot be written ({reason.strerror}); name another folder") from None
    try:
        # One entry alone: safetensors writes several in random order, and equal models are to be equal files.
        save_file(tensors, aside / weights_file(variant), {"sha256": checksum(tensors)})
        (aside / CONFIG).write_text(config.to_json(), encoding="utf-8")
        if card:
            (aside / CARD).write_text(card, encoding="utf-8")
        if golden:
            save_file(golden, aside / GOLDEN)
        mode, files = (aside / CONFIG).stat().st_mode, sorted(aside.iterdir())
        for file in files:
            if (folder / file.name).is_dir():
                raise IsADirectoryError(f"there is a folder called {file.name}")
            file.chmod(mode)  # safetensors writes for the owner's eyes alone
        for file in files:
            file.replace(folder / file.name)
    except (OSError, SafetensorError) as reason:
        raise ModelError(f"{folder}: cannot be written ({reason}); free some space or name another folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if fresh and not any(folder.iterdir()):
            folder.rmdir()
