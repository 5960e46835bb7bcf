"""What a reader of an author's key layout hands back, and what all of them need."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..config import Option
from ..errors import ModelError, shown
from ..networks import NETWORKS

PARTS = ("weight", "bias")


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our terms."""

    layout: str  # whose it is, for the report: "NAFNet (megvii-research)"
    architecture: str
    options: Mapping[str, Option]  # as far as they differ from the defaults of the network's class
    tensors: dict[str, Tensor]  # by our keys: every one of the network, none besides
    dropped: dict[str, str] = field(default_factory=dict)  # key in the file -> why it is not used
    tried: str = ""  # what became of a picture in the converted model, in words


def keys_of(layers: Mapping[str, str], parts: Collection[str] = PARTS) -> dict[str, str]:
    """Author's key -> ours of the weight and the bias of each layer, or of other parts."""
    return {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in parts}


def require_keys(layout: str, wanted: Collection[str], found: Collection[str]) -> None:
    """Raises `ModelError` if a file has other keys than the layout."""
    strange = sorted(set(wanted) ^ set(found))
    if strange:
        state = "lacks" if strange[0] in wanted else "has besides"
        raise ModelError(
            f"is {layout}, but {state} {shown(strange[0])}; the file may be cut or altered, give it as it was published"
        )


def renamed(layout: str, keys: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our keys; `ModelError` if there are others than `keys` names."""
    require_keys(layout, keys, tensors)
    return {ours: tensors[theirs] for theirs, ours in keys.items()}


def unlike(architecture: str, **found: Option) -> dict[str, Option]:
    """Those options that differ from the defaults of a network's class."""
    parameters = inspect.signature(NETWORKS[architecture]).parameters
    defaults = {name: parameters[name].default for name in found}
    defaults |= {name: list(value) for name, value in defaults.items() if isinstance(value, tuple)}
    return {name: value for name, value in found.items() if value != defaults[name]}


def numbers_after(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """One more than the highest number that follows a prefix in the keys: how many blocks there are, gaps counted."""
    numbers = {key.removeprefix(prefix).partition(".")[0] for key in tensors if key.startswith(prefix)}
    highest = max((int(number) for number in numbers if number.isdecimal() and len(number) < 4), default=-1)
    return min(highest + 1, len(tensors))
