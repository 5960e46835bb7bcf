"""Sheets of samples: a few held-out pairs as they came, restored, and sharp, with their scores, for the eye."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SHEET_ROWS, SHEET_SIDE = 4, 360
LABEL, TEXT = 20, 13  # height of a row's label and of its letters, in pixels
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass
class SampleSheet:
    """Rows of blurred | restored | sharp under their labels: the centres of the first pairs, at 1:1.

    Each process adds those that it restored for its scores; none is restored twice.
    """

    rows: list[tuple[int, list[str], np.ndarray]] = field(default_factory=list)

    def add(self, number: int, labels: list[str], pictures: list[Tensor]) -> None:
        """Takes a pair if it is one of the first.

        Args:
            number: its place among the held-out pairs.
            labels: of the three columns.
            pictures: blurred, restored and sharp, each (1, 3, H, W) in [0, 1] at 8 bits.
        """
        if number < SHEET_ROWS:
            row = [centre(picture[0]).mul(255).round().byte().permute(1, 2, 0).cpu().numpy() for picture in pictures]
            self.rows.append((number, labels, np.concatenate(row, axis=1)))

    def save(self, path: Path, accelerator: Accelerator) -> None:
        """Writes the PNG, on the main process, with the rows of all; every process must call it."""
        rows = sorted(gather_object(self.rows), key=lambda row: row[0])
        if not accelerator.is_main_process or not rows:
            return
        widest = max(row.shape[1] for _, _, row in rows)
        sheet = Image.new("RGB", (widest, sum(LABEL + row.shape[0] for _, _, row in rows)), PAPER)
        draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT), 0
        for _, labels, row in rows:
            for column, label in enumerate(labels):
                left = column * row.shape[1] // len(labels)
                draw.text((left + 4, top + LABEL // 2), label, fill=INK, font=font, anchor="lm")
            sheet.paste(Image.fromarray(row), (0, top + LABEL))
            top += LABEL + row.shape[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)


def centre(picture: Tensor) -> Tensor:
    top, left = (max(0, (side - SHEET_SIDE) // 2) for side in picture.shape[-2:])
    return picture[:, top : top + SHEET_SIDE, left : left + SHEET_SIDE]
