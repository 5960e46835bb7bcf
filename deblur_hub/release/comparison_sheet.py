"""The comparison sheet of a model's card: blurry, restored and sharp pictures side by side in one small JPEG file."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from ..errors import DatasetError
from ..evaluation import pairs_in
from ..evaluation.protocols import PROTOCOLS
from ..generator import DeblurGenerator
from ..model_card import Shown

SIDE, GAP = 256, 6
MOST_BYTES = 300_000  # it comes with every download of the model
QUALITIES = (92, 85, 75, 60, 40, 20)


def comparison_sheet(generator: DeblurGenerator, folder: Path, pictures: Sequence[Shown]) -> bytes:
    """A JPEG file of the parts of the pictures that are to be shown, at 1:1, under `MOST_BYTES`.

    Args:
        folder: of pairs, which may be published.
        pictures: which of them, in the order of the rows.

    Raises:
        DatasetError: if there is nothing to show, a picture is not in the folder, or the file would be too large.
        PictureError: if one cannot be decoded.
    """
    if not pictures:
        raise DatasetError(
            f"{folder}: no pictures of it are named to be shown; list them as [[pictures]] with a credit"
        )
    samples = {sample.name: sample for sample in pairs_in(folder, PROTOCOLS["pairs"]).samples}
    sheet = Image.new("RGB", (3 * (SIDE + GAP) - GAP, len(pictures) * (SIDE + GAP) - GAP), "white")
    for row, shown in enumerate(pictures):
        sample = samples.get(shown.name)
        if sample is None or sample.blurred is None:
            raise DatasetError(f"{folder}: has no pair called '{shown.name}'; it has {', '.join(sorted(samples)):.200}")
        left, top = shown.corner
        if left + SIDE > sample.size[0] or top + SIDE > sample.size[1]:
            raise DatasetError(
                f"{folder}: '{shown.name}' has {sample.size[0]}x{sample.size[1]} pixels, too few for {SIDE}x{SIDE} of "
                f"them from ({left}, {top}) on; choose another corner"
            )
        with Image.open(sample.blurred) as blurred, Image.open(sample.sharp) as sharp:
            three = (blurred, generator.deblur(blurred), sharp)
            for column, picture in enumerate(three):
                part = picture.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
                sheet.paste(part, (column * (SIDE + GAP), row * (SIDE + GAP)))
    for quality in QUALITIES:
        file = BytesIO()
        sheet.save(file, "JPEG", quality=quality, subsampling=0)
        if file.tell() < MOST_BYTES:
            return file.getvalue()
    raise DatasetError(f"{folder}: {len(pictures)} pictures are too many for {MOST_BYTES} bytes; show fewer")
