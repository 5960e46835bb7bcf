"""A camera that turns and moves while its shutter is open: a homography for each instant.

Whyte, Sivic, Zisserman and Ponce, "Non-uniform deblurring for shaken images" (CVPR 2010, IJCV 2012): the blurred
picture is the mean of what the camera sees from each pose, and a pose sees the scene through K R K^-1. The blur then
differs from place to place: under roll it is still in the middle and long at the rim.
"""

import numpy as np

SPACING = 1.0  # pixels between instants at most: farther apart, the streak of a small light falls into dots


def camera_path(
    shift: np.ndarray,
    *,
    roll: np.ndarray | float = 0.0,
    zoom: np.ndarray | float = 0.0,
    focal: float,
    place: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Where each point of a blurred picture looks for its light, instant by instant.

    Args:
        shift: (T, 2), pixels (x, y) that the middle of the frame moves by yaw and pitch of the camera.
        roll, zoom: (T,), radians around the optical axis; logarithm of the scale, as from a step towards the scene.
        focal: length, in pixels.
        place: (x, y), pixels from the middle of the frame to the origin of the coordinates of the result.

    Returns:
        (T, 3, 3) float64: a point (x, y, 1) of the blurred picture takes its light at that instant from where the
        homography puts it in the sharp one. A shift alone with an endless focal length is (x - dx, y - dy).
    """
    count = len(shift)
    roll, zoom = np.broadcast_to(roll, count), np.broadcast_to(zoom, count)
    yaw = np.arctan(shift[:, 0] / focal)
    pitch = np.arctan(shift[:, 1] / focal * np.cos(yaw))
    zero, one = np.zeros(count), np.ones(count)

    def matrix(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    turn_x = matrix((one, zero, zero), (zero, np.cos(pitch), np.sin(pitch)), (zero, -np.sin(pitch), np.cos(pitch)))
    turn_y = matrix((np.cos(yaw), zero, np.sin(yaw)), (zero, one, zero), (-np.sin(yaw), zero, np.cos(yaw)))
    turn_z = matrix((np.cos(roll), -np.sin(roll), zero), (np.sin(roll), np.cos(roll), zero), (zero, zero, one))
    scale = matrix((np.exp(zoom), zero, zero), (zero, np.exp(zoom), zero), (zero, zero, one))
    lens = np.diag([focal, focal, 1.0])
    seen = lens @ turn_y @ turn_x @ turn_z @ np.linalg.inv(lens) @ scale
    middle = np.array([[1, 0, place[0]], [0, 1, place[1]], [0, 0, 1.0]])
    sampled: np.ndarray = np.linalg.inv(middle) @ np.linalg.inv(seen) @ middle
    sampled /= sampled[:, 2:, 2:]
    return sampled


def shift_path(path: np.ndarray) -> np.ndarray:
    """(T, 2) pixels to (T, 3, 3): `camera_path` of an endless focal length, which is the same all over the frame."""
    homographies = np.tile(np.eye(3), (len(path), 1, 1))
    homographies[:, :2, 2] = -path
    return homographies


def corner_offsets(homographies: np.ndarray, side: int) -> np.ndarray:
    """(T, 4, 2): how far each instant's light comes from, in pixels, at the corners of a square around the origin."""
    half = (side - 1) / 2
    corners = np.array([[x, y, 1.0] for x in (-half, half) for y in (-half, half)])
    at = corners @ homographies.transpose(0, 2, 1)
    offsets: np.ndarray = at[..., :2] / at[..., 2:] - corners[:, :2]
    return offsets


def reach(homographies: np.ndarray, side: int) -> float:
    """The farthest that light comes from, in pixels along an axis, anywhere in a square around the origin."""
    # Among homographies near the identity the farthest is at a corner.
    return float(np.abs(corner_offsets(homographies, side)).max())


def evenly(length: float, samples: int, *, most: int) -> np.ndarray:
    """(T,) int64, the samples of a path of so many pixels to look at: the middles of T equal parts of the exposure."""
    # No two are over `SPACING` apart, unless that takes more than `most`.
    count = int(np.clip(np.ceil(length / SPACING), 1, min(most, samples)))
    return ((np.arange(count) + 0.5) * samples / count).astype(int)


def path_length(homographies: np.ndarray, side: int) -> float:
    """Of the corner of a square around the origin that moves farthest, in pixels."""
    steps = np.diff(corner_offsets(homographies, side), axis=0)
    return float(np.linalg.norm(steps, axis=-1).sum(axis=0).max(initial=0.0))
