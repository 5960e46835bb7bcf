"""Whether the pictures of pairs belong to each other, before a run learns from pictures that do not."""

from pathlib import Path

import numpy as np

from deblur_hub.datasets import Pair
from deblur_hub.errors import DatasetError

from .cache import PictureCache

MOST_COMPARED = 64  # pairs, evenly spread over the set
CELLS = 24  # a side: pictures are compared as so many mean values, which blur hardly changes
LEAST = 0.6  # correlation; GoPro's least among its training pairs that lie at hand is above 0.95
NAMED = 3


def check_partners(pairs: list[Pair], cache: PictureCache) -> tuple[str, ...]:
    """A sentence on pairs whose pictures do not look like each other, if there are a few.

    Raises:
        DatasetError: if most of them do not.
    """
    spread = [pairs[i * len(pairs) // MOST_COMPARED] for i in range(MOST_COMPARED)] if pairs else []
    compared = list(dict.fromkeys(spread))
    likeness = {pair: correlation(cache(pair.blurred), cache(pair.sharp)) for pair in compared}
    odd = sorted((pair for pair in compared if likeness[pair] < LEAST), key=lambda pair: likeness[pair])
    if not odd:
        return ()
    worst = "; ".join(f"{shown(pair.blurred)} and {shown(pair.sharp)} ({likeness[pair]:.2f})" for pair in odd[:NAMED])
    text = f"the blurry and sharp pictures of {len(odd)} of {len(compared)} pairs do not show the same: {worst}"
    if 2 * len(odd) > len(compared):
        raise DatasetError(f"{text}; are they turned, shuffled or empty? Put partners of one name into both folders")
    return (f"{text} (correlation; the worst first)",)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two pictures (H, W, 3), from -1 to 1, each reduced to means of cells; 0 if one of them is plain."""
    first, second = (cells(picture).ravel() for picture in (one, other))
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / scale if scale > 1e-6 else 0.0


def cells(picture: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, side, min(CELLS, side) + 1).astype(int)[:-1] for side in picture.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(picture.mean(axis=2), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, picture.shape[0]]), np.diff([*columns, picture.shape[1]]))
    return np.asarray(sums / counts)


def shown(path: Path) -> str:
    return "/".join(path.parts[-3:])
