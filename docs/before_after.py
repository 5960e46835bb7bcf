"""Makes docs/before-after.jpg, the README's picture, from the page's examples and the bundled default model.

python docs/before_after.py
"""

from pathlib import Path

from PIL import Image

from deblur_hub import DeblurGenerator

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "space" / "examples"
# File and the corner of the part that is shown at 1:1.
PARTS = (("square.jpg", (440, 0)), ("shop.jpg", (20, 20)), ("banner.jpg", (10, 60)))
SIDE, GAP = 340, 8


def main() -> None:
    generator = DeblurGenerator.from_pretrained()
    sheet = Image.new("RGB", (len(PARTS) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    for column, (name, (left, top)) in enumerate(PARTS):
        blurred = Image.open(EXAMPLES / name)
        for row, picture in enumerate((blurred, generator.deblur(blurred, quality="best"))):
            part = picture.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
            sheet.paste(part, (column * (SIDE + GAP), row * (SIDE + GAP)))
    sheet.save(HERE / "before-after.jpg", quality=90, subsampling=0)


if __name__ == "__main__":
    main()
