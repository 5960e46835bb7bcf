"""Makes the pictures of `examples/`: `python space/make_examples.py --gopro GOPRO_Large_test_frames/`.

Some are cut out of really blurred frames of GoPro, whose folder is given; without it they are left as they are. The
others are sharp photographs that were blurred here, in linear light, by one kind of blur, with a fixed seed: the same
command gives the same files. It needs scikit-image, scikit-learn and matplotlib for their sample photographs; the page
itself needs none of them. README.md beside this file lists the photographers.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.cbook
import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

MARGIN = 14  # pixels cut off at each edge: what a moving camera would have seen there is not known
JPEG_QUALITY = 91
CROP_QUALITY = 96  # what was saved once more should look as it was taken

Blur = Callable[[Tensor, np.random.Generator], Tensor]


def main() -> None:
    """Writes the gallery into `examples/` beside this file, or all that is made here into a folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="(default: the gallery's)")
    parser.add_argument("--gopro", type=Path, metavar="FOLDER", help="of blurred frames, named as in GoPro's test set")
    parser.add_argument("--sharp", type=Path, metavar="FOLDER", help="write the photographs as they were there, as PNG")
    options = parser.parse_args()
    folder = options.folder or Path(__file__).parent / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame, box in CROPS if options.gopro else ():
        with Image.open(options.gopro / frame) as picture:
            picture.crop(box).save(folder / name, quality=CROP_QUALITY, subsampling=0, optimize=True)
    for number, recipe in enumerate(RECIPES):
        if not (recipe.gallery or options.folder):
            continue
        photo = blurred(recipe, np.random.default_rng(1000 + number))
        photo.save(folder / recipe.name, quality=JPEG_QUALITY, subsampling=0, optimize=True)
        if options.sharp:
            options.sharp.mkdir(parents=True, exist_ok=True)
            Image.fromarray(within_margin(recipe.load())).save(options.sharp / Path(recipe.name).with_suffix(".png"))
        print(f"{recipe.name}: {photo.width} x {photo.height}, {(folder / recipe.name).stat().st_size / 1024:.0f} kB")


@dataclass(frozen=True)
class Recipe:
    """One example: the photograph, how it was blurred, and how much noise the sensor adds (standard deviation)."""

    name: str
    load: Callable[[], np.ndarray]
    blur: Blur
    noise: float = 0.003
    gallery: bool = False  # else for the cards of models alone


def blurred(recipe: Recipe, random: np.random.Generator) -> Image.Image:
    """The recipe's photograph as a camera would have taken it: light averaged, clipped, and read with noise."""
    sharp = np.asarray(recipe.load())
    if sharp.ndim == 2:
        sharp = sharp[..., None]
    light = torch.from_numpy(srgb_to_linear(sharp / 255.0)).float().permute(2, 0, 1)
    light = recipe.blur(light, random).clamp(0, 1)
    values = linear_to_srgb(within_margin(light.permute(1, 2, 0).numpy()))
    values = values + random.normal(0, recipe.noise, values.shape)
    return Image.fromarray(np.round(values.clip(0, 1) * 255).astype(np.uint8).squeeze())


def within_margin(picture: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) without its edges."""
    return np.ascontiguousarray(picture[MARGIN:-MARGIN, MARGIN:-MARGIN])


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 0.0031308) ** (1 / 2.4) - 0.055)


def seen_from(light: Tensor, *, dx: float = 0, dy: float = 0, turn: float = 0, zoom: float = 1) -> Tensor:
    """(C, H, W) as seen after the camera has moved by (dx, dy) pixels, turned by `turn` degrees and zoomed."""
    _, height, width = light.shape
    cos, sin = math.cos(math.radians(turn)) / zoom, math.sin(math.radians(turn)) / zoom
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    grid = torch.stack(((cos * x - sin * y + dx) * 2 / (width - 1), (sin * x + cos * y + dy) * 2 / (height - 1)), -1)
    return F.grid_sample(light[None], grid[None], mode="bicubic", padding_mode="reflection", align_corners=True)[0]


def average(light: Tensor, views: list[dict[str, float]]) -> Tensor:
    """The mean of `light` over all views: what a sensor collects while its shutter is open."""
    return torch.stack([seen_from(light, **view) for view in views]).mean(0)


def camera_shake(length: float, wander: float, roll: float = 0) -> Blur:
    """A hand that cannot keep still: a curved path of `length` pixels whose direction wanders, and a slight roll."""

    def blur(light: Tensor, random: np.random.Generator) -> Tensor:
        steps = 48
        direction = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, wander, steps))
        speed = np.abs(1 + np.cumsum(random.normal(0, 0.15, steps)))
        speed *= length / speed.sum()
        xs, ys = np.cumsum(speed * np.cos(direction)), np.cumsum(speed * np.sin(direction))
        turns = np.linspace(-roll / 2, roll / 2, steps)
        views = zip(xs - xs.mean(), ys - ys.mean(), turns, strict=True)
        return average(light, [{"dx": x, "dy": y, "turn": turn} for x, y, turn in views])

    return blur


def straight_path(length: float, degrees: float) -> list[dict[str, float]]:
    """Views along `length` pixels in one direction."""
    angle = math.radians(degrees)
    return [{"dx": a * math.cos(angle), "dy": a * math.sin(angle)} for a in np.linspace(-length / 2, length / 2, 32)]


def straight_motion(length: float, degrees: float) -> Blur:
    """A pan: everything moves by `length` pixels in one direction."""
    return lambda light, _: average(light, straight_path(length, degrees))


def rotation(degrees: float) -> Blur:
    """A camera that rolls around its axis: still in the middle, worst in the corners."""
    return lambda light, _: average(light, [{"turn": turn} for turn in np.linspace(-degrees / 2, degrees / 2, 32)])


def zooming(share: float) -> Blur:
    """A camera that moves in during the exposure: still in the middle, streaks towards the edges."""
    return lambda light, _: average(light, [{"zoom": zoom} for zoom in np.linspace(1, 1 + share, 32)])


def defocus(radius: float) -> Blur:
    """A lens focused a little too near: every point becomes a disc of `radius` pixels."""
    return lambda light, _: convolve(light, disc(radius))


def moving_petals(length: float, degrees: float) -> Blur:
    """A dahlia that moves in front of a background that does not."""

    def blur(light: Tensor, _: np.random.Generator) -> Tensor:
        mask = orange_petals(light)
        away = 1 - (convolve(mask, disc(6)) > 0.02).float()
        wide = gaussian(24)
        filled = convolve(light * away, wide) / convolve(away, wide).clamp_min(1e-4)  # what may be behind the subject
        background = light * away + filled * (1 - away)
        frames = []
        for shift in straight_path(length, degrees):
            here = seen_from(mask, **shift).clamp(0, 1)
            frames.append(seen_from(light, **shift) * here + background * (1 - here))
        return torch.stack(frames).mean(0)

    return blur


def low_light(shake: Blur, lamps: float) -> Blur:
    """Lamps are `lamps` times brighter than white: smeared first and clipped afterwards, they leave solid streaks."""

    def blur(light: Tensor, random: np.random.Generator) -> Tensor:
        brightness = light.amax(0, keepdim=True)
        return shake(light * (1 + (lamps - 1) * ((brightness - 0.75) / 0.25).clamp(0, 1)), random)

    return blur


def convolve(light: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of (C, H, W) with a square kernel of odd size, which is made to sum to 1."""
    reach = kernel.shape[-1] // 2
    padded = F.pad(light[:, None], (reach,) * 4, mode="reflect")
    return F.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def disc(radius: float) -> Tensor:
    """A disc with a soft rim."""
    reach = math.ceil(radius) + 1
    axis = torch.arange(-reach, reach + 1).float()
    return (radius + 0.5 - torch.hypot(axis[:, None], axis[None])).clamp(0, 1)


def gaussian(sigma: float) -> Tensor:
    """A round Gaussian, cut off at three sigma."""
    axis = torch.arange(-round(3 * sigma), round(3 * sigma) + 1).float()
    bell = torch.exp(-0.5 * (axis / sigma) ** 2)
    return bell[:, None] * bell[None]


def orange_petals(light: Tensor) -> Tensor:
    """Mask of the dahlia: petals are far redder than anything behind them."""
    red, _, blue = light
    petals = ((red - blue) > 0.12).float()[None]
    return (convolve((convolve(petals, disc(5)) > 0.4).float(), gaussian(1.2))).clamp(0, 1)


def hopper() -> np.ndarray:
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as photo:
        return np.asarray(photo.convert("RGB"))


RECIPES = (
    Recipe("pagoda.jpg", partial(load_sample_image, "china.jpg"), camera_shake(13, 0.12, roll=0.3)),
    Recipe("coffee.jpg", skimage.data.coffee, straight_motion(10, degrees=30)),
    Recipe("astronaut.jpg", skimage.data.astronaut, rotation(2.0)),
    Recipe("rocket.jpg", skimage.data.rocket, low_light(camera_shake(12, 0.16), lamps=8), noise=0.010, gallery=True),
    Recipe("dahlia.jpg", partial(load_sample_image, "flower.jpg"), moving_petals(11, degrees=20), gallery=True),
    Recipe("admiral.jpg", hopper, zooming(0.035)),
    Recipe("cat.jpg", skimage.data.chelsea, defocus(2.2), gallery=True),
    Recipe("coins.jpg", skimage.data.coins, camera_shake(9, 0.25), noise=0.008),
    Recipe("cup.jpg", skimage.data.coffee, lambda light, _: light, gallery=True),
    Recipe("lost.jpg", skimage.data.astronaut, camera_shake(90, 0.35, roll=4), noise=0.010, gallery=True),
)

# Parts of really blurred frames, GoPro, Nah, Kim and Lee, CVPR 2017, CC BY 4.0: left, top, right and bottom.
CROPS = (
    ("square.jpg", "GOPR0384_11_00_000001.png", (500, 150, 1280, 640)),
    ("shop.jpg", "GOPR0385_11_01_003014.png", (640, 20, 1280, 600)),
    ("banner.jpg", "GOPR0881_11_01_000203.png", (180, 170, 820, 680)),
    ("kiosk.jpg", "GOPR0410_11_00_000161.png", (540, 300, 1280, 700)),
    ("street.jpg", "GOPR0854_11_00_000001.png", (560, 0, 1280, 560)),
)

if __name__ == "__main__":
    main()
