"""From a name to a configuration and tensors, strictly; and from those to a folder or a hub repository.

A model is a folder, or the same files in a hub repository:

    config.json         the configuration, see `config.py`
    model.safetensors   the tensors, with the SHA-256 of their bytes in the file's metadata
    README.md           the model card
    golden.safetensors  a small input, the output that these weights give for it, see `verifying.py`

A variant, such as `fp16`, has `model.fp16.safetensors` and `golden.fp16.safetensors`. Weights above `max_shard_size`
are spread over `model-00001-of-00002.safetensors` and so on, each with a SHA-256 of its own, and listed in
`model.safetensors.index.json`.
"""

from .bundled import BUNDLED, DEFAULT_MODEL, BundledModel, list_models
from .files import CARD, CONFIG, Source, first_line, weights_file
from .finding import find
from .publishing import push
from .reading import read_model
from .verifying import Golden, Match, check_golden, checksum, golden_metadata, read_golden
from .writing import LARGEST_FILE, write_model

__all__ = [
    "BUNDLED",
    "CARD",
    "CONFIG",
    "DEFAULT_MODEL",
    "LARGEST_FILE",
    "BundledModel",
    "Golden",
    "Match",
    "Source",
    "check_golden",
    "checksum",
    "find",
    "first_line",
    "golden_metadata",
    "list_models",
    "push",
    "read_golden",
    "read_model",
    "weights_file",
    "write_model",
]
