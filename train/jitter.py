"""Crops at another place in each step, for losses that look at pictures through a grid of their own."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def jittered(most: int, seed: Sequence[int], *pictures: Tensor) -> list[Tensor]:
    """Crops pictures that are alike in size by `most` pixels a side, all at the same random place.

    Classifiers that pool and critics that stride lay a grid over a picture, whose period is a power of 2, and their
    gradients are stronger at some of its places than at others. A generator that works at a part of the resolution has
    such a grid as well, and both begin at the corner of the crop: what the gradients differ by, it learns as a mesh.
    Moved about by as much as the period, they favour no place.

    Args:
        most: pixels, 0 for the pictures as they are.
        seed: numbers of at least 0 that name the step, so that all parts of a batch are moved alike.
        pictures: (N, 3, H, W), with H and W above `most`.

    Returns:
        Views of (N, 3, H - most, W - most).
    """
    if not most:
        return list(pictures)
    top, left = (int(word) % (most + 1) for word in np.random.SeedSequence(list(seed)).generate_state(2))
    height, width = (side - most for side in pictures[0].shape[-2:])
    return [picture[..., top : top + height, left : left + width] for picture in pictures]
