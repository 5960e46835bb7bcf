"""deblur-hub: a blurry photo in, a sharper one out.

from deblur_hub import DeblurGenerator

generator = DeblurGenerator.from_pretrained()
generator.deblur("photo.jpg").save("sharp.png")
"""

__version__ = "0.2.0"

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .errors import DatasetError, DeblurHubError, ModelError, PictureError, RestorationError

if TYPE_CHECKING:
    from .config import GeneratorConfig
    from .generator import DeblurGenerator
    from .hub import DEFAULT_MODEL, BundledModel, list_models

# What comes with PyTorch is imported once somebody asks for it: the shell's help and mistakes need none of it.
LATER = {
    "BundledModel": "hub",
    "DEFAULT_MODEL": "hub",
    "DeblurGenerator": "generator",
    "GeneratorConfig": "config",
    "list_models": "hub",
}

__all__ = [
    "DEFAULT_MODEL",
    "BundledModel",
    "DatasetError",
    "DeblurGenerator",
    "DeblurHubError",
    "GeneratorConfig",
    "ModelError",
    "PictureError",
    "RestorationError",
    "__version__",
    "list_models",
]


def __getattr__(name: str) -> object:
    if name in LATER:
        return globals().setdefault(name, getattr(import_module(f".{LATER[name]}", __name__), name))
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LATER})
