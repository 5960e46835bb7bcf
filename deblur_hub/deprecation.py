"""Old names that go on working for one release, and say where their things are now."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(module: str, places: Mapping[str, str], *, until: str = "0.3") -> Callable[[str], Any]:
    """A `__getattr__` for a module whose names have moved.

        __getattr__ = moved(__name__, {"read": "deblur_hub.pictures:read"})

    Args:
        module: its own name.
        places: for each of its names the module and the name there, "module:name".
        until: the version that no longer has the old ones.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = places[name].partition(":")
        warnings.warn(
            f"{module}.{name} is now {place}.{new}; the old name goes in version {until}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(place), new)

    return find
