"""Between the values of a picture and the light that made them: the camera's curve, lights that outshine it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

DISPLAY_GAMMA = 2.2
SRGB = 0.0  # in place of an exponent: the curve of IEC 61966-2-1, a straight line in the shadows and 2.4 above
LUMA = (0.299, 0.587, 0.114)
DIMMEST_LIGHT = 0.9  # the display value from which something may be brighter than the picture can show


def to_linear(picture: Tensor, gamma: float | Tensor = DISPLAY_GAMMA) -> Tensor:
    """Display values in [0, 1], of any shape, to linear light in [0, 1].

    `gamma` is the exponent (2.2 as GoPro's `blur_gamma` takes it), or `SRGB`; or (N,) of these for (N, C, H, W).
    """
    return by_curve(picture.clamp(0, 1), gamma, lambda value, power: value**power, srgb_to_linear)


def to_display(light: Tensor, gamma: float | Tensor = DISPLAY_GAMMA) -> Tensor:
    """Linear light to display values in [0, 1], the inverse of `to_linear`; what exceeds the full well clips to 1."""
    return by_curve(light.clamp(0, 1), gamma, lambda value, power: value ** (1 / power), srgb_to_display)


def by_curve(
    values: Tensor,
    gamma: float | Tensor,
    power_curve: Callable[[Tensor, float | Tensor], Tensor],
    srgb_curve: Callable[[Tensor], Tensor],
) -> Tensor:
    """Applies to each picture the curve that it asks for; asks on the host, so that a GPU is not waited for."""
    kinds = set(gamma.tolist()) if isinstance(gamma, Tensor) else {gamma}
    if len(kinds) == 1:
        (one,) = kinds
        return srgb_curve(values) if one == SRGB else power_curve(values, one)
    each = torch.as_tensor(gamma)[:, None, None, None]
    curved = power_curve(values, torch.where(each == SRGB, 1.0, each).to(values))
    return torch.where((each == SRGB).to(values.device), srgb_curve(values), curved) if SRGB in kinds else curved


def srgb_to_linear(values: Tensor) -> Tensor:
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_to_display(light: Tensor) -> Tensor:
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)


def brighten(light: Tensor, values: Tensor, excess: Tensor) -> Tensor:
    """Gives lamps and glints the light that the sensor's full well cut off, so that under motion they streak.

    From the display value `DIMMEST_LIGHT` up to 1 of their luma, pixels are multiplied by 1 to 1 + excess, (N,); light
    and values are (N, 3, H, W), linear and as displayed.
    """
    luma = (values * values.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    ramp = ((luma - DIMMEST_LIGHT) / (1 - DIMMEST_LIGHT)).clamp(0, 1)
    return light * (1 + excess.to(light)[:, None, None, None] * ramp.square())


def average_frames(frames: np.ndarray, *, gamma: float) -> np.ndarray:
    """The frame that a longer exposure over frames (T, H, W, 3) uint8 would have taken: (H, W, 3) float32 in [0, 1].

    A gamma of 2.2 averages linear light (GoPro's `blur_gamma`), 1 the values as they are (GoPro's `blur`).
    """
    curve = (np.arange(256, dtype=np.float32) / 255) ** gamma
    total = np.zeros(frames.shape[1:], np.float32)
    for frame in frames:
        total += curve[frame]
    return (total / len(frames)) ** (1 / gamma)
