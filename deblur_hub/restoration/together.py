"""Batches of small pictures: which are restored faster so.

On two CPU cores, eight pictures at once took 0.39 to 0.87 of their time one by one, with every network whose
activations for the eight stayed below 64 MB; above that, mostly more time.
"""

from ..networks.base import Generator
from ..networks.windows import WindowedGenerator

BATCH = 8  # always filled up: in one of another size the last bits are others
BATCH_BYTES = 2**26  # of its activations; a processor's caches hold about as much


def most_pixels(network: Generator, memory_budget: float | None = None) -> int:
    """Of a picture that is restored faster in a batch; 0 for networks that work in windows.

    Args:
        memory_budget: bytes that the batch may take at most.
    """
    if isinstance(network, WindowedGenerator):
        return 0
    return int(min(BATCH_BYTES, memory_budget or BATCH_BYTES) / (4 * BATCH * network.values_per_pixel))
