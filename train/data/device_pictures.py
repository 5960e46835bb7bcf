"""Pictures kept in the memory of the training device, which cuts and blurs the crops itself.

A GPU learns from thousands of crops a second, more than workers can cut out, blur and transfer. Here workers only draw
a `CropSpec` for each sample: which pictures, where in them, and under which exposure.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deblur_hub.blur import Exposure, expose, stack, to_display, to_linear
from deblur_hub.datasets import picture_size

from ..recipe import RecipeError
from .cache import PictureCache
from .synthesis import exposure_in

MEMORY_SHARE = 0.5  # of a device's free memory, for pictures: the rest is for the networks

# Row and column of a picture behind row i and column j of the same turned by 0 to 3 quarters, as in `torch.rot90`:
# factors of i and of j, and whether they count from the far side.
ROWS = torch.tensor([[1, 0, 0], [0, 1, 0], [-1, 0, 1], [0, -1, 1]])
COLUMNS = torch.tensor([[0, 1, 0], [-1, 0, 1], [0, -1, 1], [1, 0, 0]])


class Window(NamedTuple):
    """A square of a picture, mirrored left to right or not, and then turned by quarters."""

    top: int
    left: int
    side: int
    flip: bool
    turns: int


@dataclass(frozen=True)
class CropSpec:
    """A sample: pictures, a window of them, and how to blur it.

    A pair has two pictures, blurry and sharp; an average of frames all of them, the middle one sharp, and the camera's
    gamma; a sharp photograph an exposure.
    """

    pictures: tuple[Path, ...]
    window: Window
    gamma: float = 0.0
    exposure: Exposure | None = None

    @property
    def kind(self) -> str:
        return "photographs" if self.exposure else "frames" if self.gamma else "pairs"


class DevicePictures:
    """Decoded pictures in the memory of a device, in one tensor; their numbers are their places in `paths`.

    Raises:
        RecipeError: if they take more than a share of the device's free memory.
        DatasetError: if one cannot be decoded.
    """

    def __init__(self, paths: Sequence[Path], cache: PictureCache, device: torch.device) -> None:
        sizes = [cache.resize or picture_size(path) for path in paths]
        pixels = sum(width * height for width, height in sizes)
        require_memory(3 * pixels, device)
        self.pixels = torch.empty(pixels, 3, dtype=torch.uint8, device=device)
        self.widths, self.heights = torch.tensor(sizes, device=device).unbind(dim=1)
        self.starts = (self.widths * self.heights).cumsum(0) - self.widths * self.heights
        with ThreadPoolExecutor() as decoders:  # decoding releases the interpreter's lock
            for start, picture in zip(self.starts.tolist(), decoders.map(cache, paths), strict=True):
                flat = torch.tensor(picture).view(-1, 3)
                self.pixels[start : start + len(flat)] = flat.to(device)

    def windows(self, pictures: Tensor, windows: Tensor, side: int) -> Tensor:
        """(N, 3, side, side) uint8: windows (N, 5), each a `Window`, of pictures (N,).

        A smaller window is extended by what is around it in the picture, whose border is repeated.
        """
        device = self.pixels.device
        top, left, own, flip, turns = (part[:, None, None] for part in windows.to(device).unbind(dim=1))
        pictures = pictures.to(device)
        width, height, start = (part[pictures][:, None, None] for part in (self.widths, self.heights, self.starts))
        rows, columns = (table.to(device)[turns[:, 0, 0]][:, :, None, None] for table in (ROWS, COLUMNS))
        down = torch.arange(side, device=device)[:, None]
        right = down.T
        row = rows[:, 0] * down + rows[:, 1] * right + rows[:, 2] * (side - 1)
        column = columns[:, 0] * down + columns[:, 1] * right + columns[:, 2] * (side - 1)
        column = torch.where(flip == 1, side - 1 - column, column)
        row = (top + row - (side - own) // 2).clamp_(min=0).minimum(height - 1)
        column = (left + column - (side - own) // 2).clamp_(min=0).minimum(width - 1)
        return self.pixels[start + row * width + column].permute(0, 3, 1, 2)

    def crops(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """[blurry, sharp], each (N, 3, crop, crop) float32 in [-1, 1], of a table that `collate` made."""
        crop, done = int(batch["crop"]), []
        if len(batch["pairs"]):
            windows = batch["pairs_windows"]
            done.append([to_values(self.windows(one, windows, crop)) for one in batch["pairs"].unbind(1)])
        if len(batch["frames"]):
            done.append(self.averages(batch["frames"], batch["frames_windows"], batch["gammas"], crop))
        if len(batch["photographs"]):
            side = int(batch["photographs_windows"][:, 2].max())
            windows = self.windows(batch["photographs"][:, 0], batch["photographs_windows"], side)
            done.append([picture * 2 - 1 for picture in expose(windows, exposure_in(batch), crop)])
        order = batch["order"].to(self.pixels.device, non_blocking=True)
        return [torch.cat(parts)[order] for parts in zip(*done, strict=True)]

    def averages(self, frames: Tensor, windows: Tensor, gammas: Tensor, crop: int) -> list[Tensor]:
        """Averages of frames (N, T), -1 where there is none, and their middle ones; see `blur.average_frames`."""
        counts = (frames >= 0).sum(dim=1)
        total = torch.zeros(len(frames), 3, crop, crop, device=self.pixels.device)
        for moment in frames.unbind(dim=1):
            share = (moment >= 0) / counts
            values = self.windows(moment.clamp(min=0), windows, crop).float() / 255
            total += to_linear(values, gammas) * share.to(total.device)[:, None, None, None]
        blurred = (to_display(total, gammas) * 255 + 0.5).floor()  # to 8 bits like a file
        middle = frames.gather(1, counts[:, None] // 2)[:, 0]
        return [blurred / 127.5 - 1, to_values(self.windows(middle, windows, crop))]


def require_memory(wanted: int, device: torch.device) -> None:
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0]
    if wanted > MEMORY_SHARE * free:
        raise RecipeError(
            f"the pictures take {wanted / 2**30:.1f} GiB, too much of the {free / 2**30:.1f} GiB that are free on "
            f'{device}; set data.pictures = "disk"'
        )


def collate(samples: Sequence[CropSpec], crop: int, numbers: dict[Path, int]) -> dict[str, Tensor]:
    """A batch of samples as a table of small tensors, for `DevicePictures.crops`; `numbers` are those of pictures."""
    order, table = [], {}
    for kind in ("pairs", "frames", "photographs"):
        places = [place for place, sample in enumerate(samples) if sample.kind == kind]
        order += places
        pictures = [torch.tensor([numbers[path] for path in samples[place].pictures]) for place in places]
        # Shorter averages are filled up with frames that do not count.
        table[kind] = pad_sequence(pictures, batch_first=True, padding_value=-1) if places else torch.empty(0, 0)
        windows = [samples[place].window for place in places]
        table[f"{kind}_windows"] = torch.tensor(windows, dtype=torch.int64).view(len(places), 5)
    table["gammas"] = torch.tensor([sample.gamma for sample in samples if sample.kind == "frames"])
    table["order"] = torch.tensor(order).argsort()
    table["crop"] = torch.tensor(crop)
    if exposures := [sample.exposure for sample in samples if sample.exposure]:
        table |= vars(stack(exposures))
    return table


def to_values(picture: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]; floats keep their value."""
    return picture.float() if picture.is_floating_point() else picture.float().div_(127.5).sub_(1)
