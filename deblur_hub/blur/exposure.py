"""One exposure of a batch of sharp photographs: everything between the scene's light and the file.

What happens is drawn beforehand, as plain tensors; here is no chance. So a worker on a CPU that exposes one picture and
a GPU that exposes a batch make the same of the same draw.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .jpeg import UNIT, jpeg
from .kernels import convolve
from .light import DISPLAY_GAMMA, brighten, to_display, to_linear
from .sensor import add_sensor_noise, standard_normal

CHUNK = 8  # instants that a GPU looks at in one go; a CPU's cache holds one
RIM = 2.0  # pixels over which an object gives way to what is behind it


@dataclass(frozen=True)
class Exposure:
    """What happens to N pictures, one row each; all on the host."""

    camera: Tensor  # (N, T, 3, 3), from the middle of the crop; see `camera.camera_path`
    moves: Tensor  # (N, T, 2), pixels that an object has moved in the scene
    weights: Tensor  # (N, T), the part of the exposure that each instant lasts; sums to one
    # (N, M, 4), of which the object's outline is made: height, radians a pixel along x and y, phase. The object is
    # where they sum to more than 0. No object where all heights are 0.
    waves: Tensor
    kernel: Tensor  # (N, K, K), the same all over the picture, K odd; sums to one
    gamma: Tensor  # (N,), of the camera's curve, or `SRGB`
    excess: Tensor  # (N,), times its full well that a saturated light is brighter; see `brighten`
    noise: Tensor  # (N, 4), shot and read noise in linear light, shot and read noise in display values
    seed: Tensor  # (N,) int64 in [0, 2^31), of the noise
    quality: Tensor  # (N,), of JPEG, 1 to 100; 0 for none
    corner: Tensor  # (N, 2) int64, down and right of the crop in a unit of JPEG

    @classmethod
    def plain(cls, **changes: Tensor) -> "Exposure":
        """A row that leaves its picture as it is, but for `changes`, which come without the dimension of rows."""
        still = {
            "camera": torch.eye(3)[None],
            "moves": torch.zeros(1, 2),
            "weights": torch.ones(1),
            "waves": torch.zeros(1, 4),
            "kernel": torch.ones(1, 1),
            "gamma": torch.tensor(DISPLAY_GAMMA),
            "excess": torch.tensor(0.0),
            "noise": torch.zeros(4),
            "seed": torch.tensor(0),
            "quality": torch.tensor(0.0),
            "corner": torch.zeros(2, dtype=torch.int64),
        }
        return cls(**{name: value[None] for name, value in (still | changes).items()})

    def __len__(self) -> int:
        return len(self.gamma)

    def rows(self, chosen: Tensor) -> "Exposure":
        """Those rows alone, in that order; instants and kernels no longer than they need."""
        part = {name: tensor[chosen] for name, tensor in vars(self).items()}
        lasting = int(part["weights"].any(dim=0).sum())
        for name in ("camera", "moves", "weights"):
            part[name] = part[name][:, :lasting]
        return Exposure(**part)


def stack(exposures: list[Exposure]) -> Exposure:
    """Several exposures as one: shorter ones are filled up with instants that last no time, kernels with zeros."""
    parts = [dict(vars(exposure)) for exposure in exposures]
    times, waves, side = (max(part[name].shape[1] for part in parts) for name in ("weights", "waves", "kernel"))
    for part in parts:
        late, rim = times - part["weights"].shape[1], (side - part["kernel"].shape[-1]) // 2
        part["camera"] = torch.cat([part["camera"], part["camera"][:, -1:].expand(-1, late, 3, 3)], dim=1)
        part["moves"] = F.pad(part["moves"], (0, 0, 0, late))
        part["weights"] = F.pad(part["weights"], (0, late))
        part["waves"] = F.pad(part["waves"], (0, 0, 0, waves - part["waves"].shape[1]))
        part["kernel"] = F.pad(part["kernel"], (rim, rim, rim, rim))
    return Exposure(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def expose(window: Tensor, exposure: Exposure, crop: int) -> tuple[Tensor, Tensor]:
    """Takes blurred photographs of sharp ones.

    The order is the camera's: lights brighter than the sensor, motion and defocus in linear light, noise of the light,
    clipping, the camera's curve, noise of the values, 8 bits, JPEG.

    Args:
        window: (N, 3, W, W) uint8 on the device to compute on: the crop in its middle, and around it what may move
            into it. W and crop differ by an even number.

    Returns:
        Blurred and sharp, each (N, 3, crop, crop) float32 in [0, 1], of 8 bits.
    """
    values = window.float() / 255
    moving = (exposure.camera != torch.eye(3)).flatten(1).any(dim=1) | exposure.moves.flatten(1).any(dim=1)
    radius = exposure.kernel.shape[-1] // 2
    spread = exposure.kernel[:, radius, radius] < 1
    bright, noise = exposure.excess > 0, exposure.noise.any(dim=0)
    sharp = middle(values, crop)
    if not (moving.any() or spread.any() or bright.any() or noise[:2].any()):
        blurred = sharp
    else:
        light = to_linear(values, exposure.gamma)
        if bright.any():
            light = brighten(light, values, exposure.excess)
            sharp = to_8_bits(to_display(middle(light, crop), exposure.gamma))
        side = crop + 2 * radius if spread.any() else crop
        still, light = light, middle(light, side)
        if moving.any():
            chosen = moving.nonzero()[:, 0]
            light = put(light, chosen, average_instants(take(still, chosen), exposure.rows(chosen), side))
        if spread.any():
            light = convolve(light, exposure.kernel.to(light)[:, None])
        if noise[:2].any():
            # A well that overflowed does not count its photons: clipped before the noise, and after it.
            light = noisy(light.clamp(0, 1), exposure, 0)
        blurred = to_display(light, exposure.gamma)
    if noise[2:].any():
        blurred = noisy(blurred, exposure, 2)
    blurred = to_8_bits(blurred)
    for corner in set(map(tuple, exposure.corner[exposure.quality > 0].tolist())):
        alike = (exposure.corner == torch.tensor(corner)).all(dim=1) & (exposure.quality > 0)
        chosen = alike.nonzero()[:, 0]
        squeezed = jpeg(take(blurred, chosen), exposure.quality[chosen], tuple(part % UNIT for part in corner))
        blurred = put(blurred, chosen, squeezed)
    return blurred, sharp.contiguous()


def average_instants(light: Tensor, exposure: Exposure, side: int) -> Tensor:
    """The mean of what the camera sees from instant to instant: (N, C, W, W) to (N, C, side, side).

    An object in the scene moves over what is behind it, which stays: its picture and its outline are moved as one and
    laid over the still picture, so that where its edge passes both show for their part of the time.
    """
    count, channels, width = light.shape[:3]
    device = light.device
    chunk = CHUNK if device.type == "cuda" else 1
    drawn = exposure.camera, exposure.moves, exposure.weights
    camera, moves, weights = (part.to(device, non_blocking=True) for part in drawn)
    inhabited = bool(exposure.waves[..., 0].any())
    if inhabited:
        layer = torch.cat([light, outline(exposure.waves.to(device), width)], dim=1)
    # `grid_sample` counts from -1 to 1 over the middles of the outermost pixels.
    scale = 2 / (width - 1)
    camera = torch.cat([camera[..., :2, :] * scale, camera[..., 2:, :]], dim=-2)
    moves = moves[:, :, None, None] * scale
    total = light.new_zeros(count, channels, side, side)
    for first in range(0, weights.shape[1], chunk):
        times = slice(first, first + chunk)
        at = sampling_grid(camera[:, times], side)
        seen = look(light, at)
        if inhabited:
            moved = look(layer, at.sub_(moves[:, times]))
            seen = torch.lerp(seen, moved[:, :channels], moved[:, channels:])
        share = weights[:, None, times, None, None]
        if chunk == 1:
            total.addcmul_(seen[:, :, 0], share[:, :, 0])
        else:
            total += (seen * share).sum(dim=2)
    return total


def sampling_grid(homographies: Tensor, side: int) -> Tensor:
    """(N, T, 3, 3) to (N, T, side, side, 2): where they put the pixels of a square around the origin."""
    along = torch.arange(side, device=homographies.device) - (side - 1) / 2
    # Each row of a homography is a sum of a term for the column and a term for the row of the pixel.
    column = homographies[..., 0, None] * along
    row = homographies[..., 1, None] * along + homographies[..., 2, None]
    at = column[..., None, :] + row[..., :, None]
    return (at[:, :, :2] / at[:, :, 2:]).permute(0, 1, 3, 4, 2)


def look(picture: Tensor, at: Tensor) -> Tensor:
    """Bilinear samples: (N, C, W, W) at (N, T, side, side, 2) to (N, C, T, side, side)."""
    count, times, side = at.shape[:3]
    # One below the other, so that a picture need not be copied for each of its instants.
    seen = F.grid_sample(picture, at.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=True)
    return seen.view(count, -1, times, side, side)


def outline(waves: Tensor, side: int) -> Tensor:
    """(N, 1, side, side): 1 on an object, 0 beside it, with a soft rim; see `Exposure.waves`."""
    along = torch.arange(side, device=waves.device) - (side - 1) / 2
    height, x, y, phase = (part[..., None, None] for part in waves.unbind(dim=-1))
    field = (height * torch.cos(x * along + y * along[:, None] + phase)).sum(dim=1, keepdim=True)
    # The slope that such waves have where they cross zero, so that the rim is about as wide everywhere.
    slope = (height.square() * (x.square() + y.square()) / 2).sum(dim=1, keepdim=True).sqrt()
    return torch.where(slope > 0, (0.5 + field / (slope * RIM).clamp(min=1e-9)).clamp(0, 1), 0.0)


def noisy(picture: Tensor, exposure: Exposure, first: int) -> Tensor:
    """With the noise of two columns of `Exposure.noise`."""
    deviates = standard_normal(exposure.seed + first, picture.shape[1:], picture.device)
    shot, read = (exposure.noise[:, first + part].to(picture)[:, None, None, None] for part in (0, 1))
    return add_sensor_noise(picture, deviates, shot=shot, read=read)


def middle(picture: Tensor, side: int) -> Tensor:
    top = (picture.shape[-1] - side) // 2
    return picture[..., top : top + side, top : top + side]


def take(picture: Tensor, chosen: Tensor) -> Tensor:
    return picture if len(chosen) == len(picture) else picture[chosen.to(picture.device)]


def put(picture: Tensor, chosen: Tensor, part: Tensor) -> Tensor:
    return part if len(chosen) == len(picture) else picture.index_copy(0, chosen.to(picture.device), part)


def to_8_bits(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255 + 0.5).floor() / 255
