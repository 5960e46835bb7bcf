"""Synthetic blur in training: what is drawn for each sharp photograph, and how it is applied.

A draw is a pure function of the generator that it is given, and consists of tensors. `apply_blur` makes pictures of a
batch of them, in a loader's worker or on the training device; both give the same up to the rounding of sums.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate

from deblur_hub import blur
from deblur_hub.blur import Exposure, expose, stack

from ..recipe import Blur, RecipeError

KERNEL_ROOM = 6  # pixels that a blur's square needs besides twice its path's length
MOST_INSTANTS = 48  # of an exposure; longer motion is sampled in coarser steps
LEAST_DEFOCUS = 0.5  # pixels; less is no blur
LEAST_EXCESS = 1.0
WAVES = 4  # in the outline of a moving object


# [blurry, sharp], or a table of tensors that `apply_blur` makes them of
Batch = list[Tensor] | tuple[Tensor, Tensor] | dict[str, Tensor]


@dataclass(frozen=True)
class PendingBlur:
    """A sharp photograph, (3, W, W) uint8 around a crop, and the exposure that will blur it."""

    window: Tensor
    exposure: Exposure
    crop: int


@dataclass(frozen=True)
class Place:
    """Where in a photograph a crop lies, in pixels."""

    crop: int  # its side
    room: int  # around it, on each side
    frame: tuple[int, int]  # the photograph's (width, height)
    centre: tuple[float, float]  # (x, y) of the crop's, from the photograph's


def made_on_device(where: str, device: torch.device) -> bool:
    """Whether `data.synthesis` leaves synthetic blur to the training device; "auto" does so unless that is a CPU."""
    return where == "device" or (where == "auto" and device.type != "cpu")


def check_blur(options: Blur) -> None:
    """Raises `RecipeError` if values do not fit each other."""
    for key in ("none", "steady", "projective", "objects", "still", "defocus", "highlights", "srgb", "noise", "jpeg"):
        if getattr(options, key) > 1:
            raise RecipeError(f"data.blur.{key} is a share and at most 1, not {getattr(options, key):g}; set it lower")
    for key, least, most in (("gammas", 1.0, 4.0), ("quality", 1, 100)):
        pair = getattr(options, key)
        if len(pair) != 2 or not least <= pair[0] <= pair[1] <= most:
            raise RecipeError(
                f"data.blur.{key} must be the least and the most, from {least:g} to {most:g}, not {list(pair)}"
            )
    for key, least in (("focal", 0.1), ("most_defocus", LEAST_DEFOCUS), ("most_excess", LEAST_EXCESS)):
        if getattr(options, key) < least:
            raise RecipeError(f"data.blur.{key} must be at least {least:g}, not {getattr(options, key):g}")


def draw_exposure(options: Blur, rng: np.random.Generator, place: Place) -> tuple[Exposure, int]:
    """An exposure of one row, and how many pixels around the crop it needs, at most `place.room`."""
    drawn: dict[str, Tensor] = {}
    margin = 0
    if rng.uniform() >= options.none:
        drawn, margin = draw_blur(options, rng, place)
    if rng.uniform() < options.highlights:
        drawn["excess"] = torch.tensor(np.exp(rng.uniform(np.log(LEAST_EXCESS), np.log(options.most_excess))))
    gamma = rng.uniform(*options.gammas)
    drawn["gamma"] = torch.tensor(blur.SRGB if rng.uniform() < options.srgb else gamma)
    if rng.uniform() < options.noise:
        levels = [rng.uniform(0, options.most_shot_noise), rng.uniform(0, options.most_read_noise)]
        drawn["noise"] = torch.tensor([*levels, 0, 0] if options.noise_in == "light" else [0, 0, *levels])
        drawn["seed"] = torch.tensor(int(rng.integers(2**31)))
    if rng.uniform() < options.jpeg:
        drawn["quality"] = torch.tensor(float(rng.integers(options.quality[0], options.quality[1] + 1)))
        drawn["corner"] = torch.from_numpy(rng.integers(0, 16, 2))
    floats = {key: value.float() if value.is_floating_point() else value for key, value in drawn.items()}
    return Exposure.plain(**floats), margin


def draw_blur(options: Blur, rng: np.random.Generator, place: Place) -> tuple[dict[str, Tensor], int]:
    """The motion and defocus of an exposure, and how far they reach."""
    turning, has_object = rng.uniform() < options.projective, rng.uniform() < options.objects
    camera_moves, defocused = rng.uniform() >= options.still, rng.uniform() < options.defocus
    lens = blur.disc_kernel(rng.uniform(LEAST_DEFOCUS, options.most_defocus)) if defocused else torch.ones(1, 1)
    if place.room - lens.shape[-1] // 2 - KERNEL_ROOM / 2 < options.shortest:
        lens = torch.ones(1, 1)
    budget = place.room - lens.shape[-1] // 2 - KERNEL_ROOM / 2
    # A moving object and a moving camera share the room; where both do not fit, the object stays.
    has_object &= budget / 2 >= options.shortest
    share = budget / 2 if has_object else budget
    # A share of 0 draws no number, so that older recipes keep their pictures.
    steady = options.steady and rng.uniform() < options.steady
    shake = blur.steady_trajectory if steady else blur.shake_trajectory
    path = shake(rng, length=rng.uniform(options.shortest, min(options.longest, share)))
    if has_object and not camera_moves:
        path, turning = np.zeros_like(path), False
    side = place.crop + lens.shape[-1] - 1
    if not (turning or has_object):
        kernel = blur.trajectory_kernel(path)
        kernel = blur.joined(kernel, lens) if lens.numel() > 1 else kernel
        return {"kernel": kernel}, kernel.shape[-1] // 2
    camera = blur.shift_path(path)
    if turning:
        # Roll and approach have a path of their own.
        length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
        turns = shake(rng, length=length * options.most_roll * rng.uniform()) / (np.hypot(*place.frame) / 2)
        camera = fitting_camera(path, turns, options.focal * max(place.frame), place.centre, side=side, room=share)
    moves, drawn = np.zeros_like(path), {"kernel": lens}
    if has_object:
        # Around its mean a path reaches about half its length, and never much more.
        moves = blur.object_path(rng, length=rng.uniform(options.shortest, min(options.longest, 2 * share - 1)))
        drawn["waves"] = draw_outline(rng, place.crop)
    lengths = blur.path_length(camera, side), float(np.linalg.norm(np.diff(moves, axis=0), axis=1).sum())
    chosen = blur.evenly(max(lengths), len(path), most=MOST_INSTANTS)
    drawn["camera"], drawn["moves"] = torch.from_numpy(camera[chosen]), torch.from_numpy(moves[chosen])
    drawn["weights"] = torch.full((len(chosen),), 1 / len(chosen))
    farthest = blur.reach(camera[chosen], side) + np.abs(moves[chosen]).max()
    return drawn, int(np.ceil(farthest)) + 1 + lens.shape[-1] // 2


def fitting_camera(
    path: np.ndarray, turns: np.ndarray, focal: float, centre: tuple[float, float], *, side: int, room: float
) -> np.ndarray:
    """`blur.camera_path`, of as large a part of the path and the turns as stays within the room."""
    part = 1.0
    while True:
        roll, zoom = (part * turns).T
        camera = blur.camera_path(part * path, roll=roll, zoom=zoom, focal=focal, place=centre)
        excess = blur.reach(camera, side) / room
        if excess <= 1:
            return camera
        part *= 0.95 / excess


def draw_outline(rng: np.random.Generator, crop: int) -> Tensor:
    """(WAVES + 1, 4): `Exposure.waves` of a rounded object that covers roughly a third of the picture."""
    heights = rng.uniform(0.5, 1, WAVES)
    wavelengths, directions = crop * rng.uniform(0.6, 1.6, WAVES), rng.uniform(0, 2 * np.pi, WAVES)
    waves = 2 * np.pi / wavelengths
    rows = [heights, waves * np.cos(directions), waves * np.sin(directions), rng.uniform(0, 2 * np.pi, WAVES)]
    level = rng.uniform(0, 0.8) * np.sqrt((heights**2).sum() / 2)
    return torch.from_numpy(np.concatenate([np.stack(rows, axis=1), [[level, 0, 0, np.pi]]]))


def collate(samples: list[tuple[Tensor, Tensor] | PendingBlur]) -> Batch:
    """A batch of samples: (blurry, sharp) if all are ready, else a table of tensors for `apply_blur`."""
    waiting = [place for place, sample in enumerate(samples) if isinstance(sample, PendingBlur)]
    if not waiting:
        return default_collate(samples)
    ready = [place for place, sample in enumerate(samples) if not isinstance(sample, PendingBlur)]
    pending = [samples[place] for place in waiting]
    none = torch.empty(0, 3, pending[0].crop, pending[0].crop)
    blurred, sharp = default_collate([samples[place] for place in ready]) if ready else (none, none)
    # Smaller windows get a black border, which their blur does not reach.
    side = max(sample.window.shape[-1] for sample in pending)
    windows = [F.pad(sample.window, ((side - sample.window.shape[-1]) // 2,) * 4) for sample in pending]
    order = torch.tensor(ready + waiting).argsort()
    table = {"blurred": blurred, "sharp": sharp, "windows": torch.stack(windows), "order": order}
    return table | vars(stack([sample.exposure for sample in pending]))


def apply_blur(batch: Batch, device: torch.device | str) -> list[Tensor] | tuple[Tensor, Tensor]:
    """[blurry, sharp], each (N, 3, crop, crop) float32 in [-1, 1], of a batch that `collate` made.

    Tensors that are ready stay where they are; the others are exposed on the device.
    """
    if not isinstance(batch, dict):
        return batch
    windows, order, *ready = (
        batch[key].to(device, non_blocking=True) for key in ("windows", "order", "blurred", "sharp")
    )
    exposed = expose(windows, exposure_in(batch), batch["sharp"].shape[-1])
    return [torch.cat([done, new * 2 - 1])[order] for done, new in zip(ready, exposed, strict=True)]


def exposure_in(batch: dict[str, Tensor]) -> Exposure:
    return Exposure(**{field.name: batch[field.name] for field in fields(Exposure)})
