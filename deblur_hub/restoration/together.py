"""Pictures that are restored faster together: small ones of one size.

On two CPU cores, eight pictures at once took 0.39 to 0.87 of their time one by one, with every network whose
activations for the eight stayed below 64 MB; above that, mostly more time. Networks that work in windows took 0.51 to
0.67 of it for pictures of one window, since two threads then take a window each.
"""

from ..networks.base import Generator
from ..networks.windows import WindowedGenerator

BATCH = 8  # always filled up: in one of another size the last bits are others
BATCH_BYTES = 2**26  # of its activations; a processor's caches hold about as much


def most_pixels(network: Generator, memory_budget: float | None = None) -> int:
    """Of a picture that is restored faster in a batch.

    Args:
        memory_budget: bytes that the batch may take at most.
    """
    if isinstance(network, WindowedGenerator):
        return network.windows.side**2
    return int(min(BATCH_BYTES, memory_budget or BATCH_BYTES) / (4 * BATCH * network.values_per_pixel))
