"""Long exposures put together from short ones."""

import numpy as np


def average_frames(frames: np.ndarray, *, gamma: float) -> np.ndarray:
    """The frame that a longer exposure over consecutive sharp frames would have taken.

    Args:
        frames: (T, H, W, 3) uint8.
        gamma: of the camera's curve: 2.2 averages linear light (GoPro's `blur_gamma`), 1 the values as they are
            (GoPro's `blur`).

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    curve = (np.arange(256, dtype=np.float32) / 255) ** gamma
    total = np.zeros(frames.shape[1:], np.float32)
    for frame in frames:
        total += curve[frame]
    return (total / len(frames)) ** (1 / gamma)
