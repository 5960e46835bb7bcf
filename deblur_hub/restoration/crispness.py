"""Crispness: a blend of a faithful network, trained on pixels, and its partner, trained against a discriminator."""

import copy
from collections.abc import Mapping

from torch import Tensor

from ..config import GeneratorConfig
from ..errors import ModelError
from ..networks import build_options
from ..networks.base import Generator


def require_share(crispness: float) -> float:
    """The crispness; raises ModelError unless it lies in [0, 1], which NaN does not."""
    if not 0 <= crispness <= 1:
        raise ModelError(
            f"crispness {crispness:g} is not between 0, which is true to the photo, and 1, which is crisp; give 0.5"
        )
    return float(crispness)


def require_partners(plain: GeneratorConfig, crisp: GeneratorConfig, *, of: str, partner: str) -> None:
    """Raises ModelError unless the weights of two configurations can be blended."""
    if not same_network(plain, crisp):
        raise ModelError(
            f"{partner}: differs from {of} in its architecture or options, so that their weights cannot be blended; "
            f"take a model that was trained with --init-from {of}"
        )


def same_network(one: GeneratorConfig, other: GeneratorConfig) -> bool:
    """Whether two configurations build the same network, stated defaults or not."""
    first, second = (build_options(config.architecture, config.options) for config in (one, other))
    return one.architecture == other.architecture and first == second


def require_use(crisp: object, crispness: float) -> None:
    """Raises ModelError if a partner is named and the crispness is 0."""
    if crisp is not None and crispness == 0:
        raise ModelError(
            f"{crisp}: is to be the crisp partner, but the crispness is 0; add --crispness 0.5, or omit the partner"
        )


def blended(plain: Generator, crisp: Mapping[str, Tensor], crispness: float) -> Generator:
    """A copy of a network with each weight (1 - crispness) times its own plus crispness times its partner's.

    Network interpolation (Wang et al., CVPR 2019, eq. 3): between a network and one fine-tuned from it the results
    change smoothly, while a mix of their pictures would show the edges of both.

    Args:
        crisp: the partner's weights by name, all or some; of any type, on any device.
        crispness: in [0, 1].
    """
    network = copy.deepcopy(plain)
    for name, weight in network.state_dict().items():
        if name in crisp and weight.is_floating_point():
            weight.lerp_(crisp[name].to(weight), crispness)
    return network
