"""What one reader of an author's key layout hands back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..config import Option


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
