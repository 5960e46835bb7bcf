"""Synthetic blur for training: what a shaken or badly focused camera makes of a sharp photograph, in linear light.

`expose` does it all to a batch, on any device; the other names are its parts.
"""

from .camera import camera_path, evenly, path_length, reach, shift_path
from .exposure import Exposure, expose, stack
from .jpeg import jpeg
from .kernels import convolve, disc_kernel, joined, trajectory_kernel
from .light import DISPLAY_GAMMA, SRGB, average_frames, brighten, to_display, to_linear
from .sensor import add_sensor_noise, standard_normal
from .trajectory import object_path, shake_trajectory, steady_trajectory

__all__ = [
    "DISPLAY_GAMMA",
    "SRGB",
    "Exposure",
    "add_sensor_noise",
    "average_frames",
    "brighten",
    "camera_path",
    "convolve",
    "disc_kernel",
    "evenly",
    "expose",
    "joined",
    "jpeg",
    "object_path",
    "path_length",
    "reach",
    "shake_trajectory",
    "shift_path",
    "stack",
    "standard_normal",
    "steady_trajectory",
    "to_display",
    "to_linear",
    "trajectory_kernel",
]
