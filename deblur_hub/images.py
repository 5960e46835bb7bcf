"""The former place of `deblur_hub.pictures`; deprecated since 0.2, gone in 0.3."""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def moved(module: str, places: dict[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose names have moved: for each its place, "module:name"."""

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = places[name].partition(":")
        text = f"{module}.{name} is now {place}.{new}; the old name goes in version 0.3"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(import_module(place), new)

    return find


NAMES = ("Metadata", "Original", "read", "to_array", "to_image", "write")
__getattr__ = moved(__name__, {name: f"deblur_hub.pictures:{name}" for name in NAMES})
