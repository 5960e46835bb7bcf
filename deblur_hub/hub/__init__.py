"""From a name to a configuration and tensors, strictly; and from those to a folder or a hub repository.

A model is a folder, or the same files in a hub repository:

    config.json         the configuration, see `config.py`
    model.safetensors   the tensors, with the SHA-256 of their bytes in the file's metadata
    README.md           the model card
    golden.safetensors  a small input and the output that these weights give for it
"""

from .bundled import BUNDLED, DEFAULT_MODEL, list_models
from .files import CARD, CONFIG, GOLDEN, Source, checksum, first_line, weights_file
from .finding import REPO_ID, find
from .reading import read_config, read_tensors
from .uploading import commit_holding, push
from .writing import write_model

__all__ = [
    "BUNDLED",
    "CARD",
    "CONFIG",
    "DEFAULT_MODEL",
    "GOLDEN",
    "REPO_ID",
    "Source",
    "checksum",
    "commit_holding",
    "find",
    "first_line",
    "list_models",
    "push",
    "read_config",
    "read_tensors",
    "weights_file",
    "write_model",
]
