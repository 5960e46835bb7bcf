"""What a reader of an author's key layout hands back, and what all of them need."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..config import Option
from ..errors import ModelError, shown

PARTS = ("weight", "bias")


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our terms.

    Args:
        layout: whose it is, for the report: "NAFNet (megvii-research)".
        architecture: a key of `deblur_hub.networks.NETWORKS`.
        options: of its class, as far as they differ from its defaults.
        tensors: our key -> tensor; every key of the network, none besides.
        dropped: key in the file -> why it is not used.
        tried: what became of a picture in the converted model, in words; "" before it was tried.
    """

    layout: str
    architecture: str
    options: Mapping[str, Option]
    tensors: dict[str, Tensor]
    dropped: dict[str, str] = field(default_factory=dict)
    tried: str = ""


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


def unlike(published: Mapping[str, Any], **found: Option) -> dict[str, Option]:
    """Those options that differ from the published ones."""
    return {name: value for name, value in found.items() if value != published[name]}


def numbers_after(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """One more than the highest number that follows a prefix in the keys: how many blocks there are, gaps counted."""
    numbers = {key.removeprefix(prefix).partition(".")[0] for key in tensors if key.startswith(prefix)}
    highest = max((int(number) for number in numbers if number.isdecimal() and len(number) < 4), default=-1)
    return min(highest + 1, len(tensors))
