"""Pillow's modes: the plain one that each is restored in, and the way back to palettes and transparent colours."""

from typing import cast

import numpy as np
from PIL import Image, ImageCms, ImagePalette

# The plain mode that each other one is restored in; of "P" it depends on its palette.
PLAIN = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
KNOWN_MODES = {*PLAIN, "P", "L", "LA", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def converted(picture: Image.Image, mode: str) -> Image.Image:
    """`Image.convert`, which knows nothing of LAB; the picture itself if it has the mode."""
    if picture.mode == mode:
        return picture
    if "LAB" in (picture.mode, mode):
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        pair = (lab, srgb) if picture.mode == "LAB" else (srgb, lab)
        return cast(Image.Image, ImageCms.profileToProfile(picture, *pair, outputMode=mode))  # None if done in place
    return picture.convert(mode, dither=Image.Dither.NONE)


def to_plain_mode(source: Image.Image) -> Image.Image:
    """The picture in the mode that it is restored in."""
    if source.mode == "P":
        return converted(source, "RGBA" if source.has_transparency_data else "RGB")
    return converted(source, PLAIN.get(source.mode, source.mode))


def extrema(picture: Image.Image) -> tuple[float, float]:
    """The least and the greatest sample of a picture of one channel."""
    return cast(tuple[float, float], picture.getextrema())


def back_in_mode(picture: Image.Image, source: Image.Image, plain: Image.Image) -> Image.Image:
    """The restored picture in the mode of `source`, whose own samples stay where `plain` comes back unchanged."""
    if source.mode in ("P", "PA"):
        back = with_palette(picture, source)
        if back.getpalette() != source.getpalette():  # new colours: no old index means the same in it
            return back
    else:
        back = converted(picture, source.mode)
    if source.mode == "RGBX":
        back = Image.merge("RGBX", (*back.split()[:3], source.split()[3]))
    back.info = dict(source.info)
    key = source.info.get("transparency")
    if source.mode in ("L", "I;16", "RGB") and isinstance(key, tuple if source.mode == "RGB" else int):
        return with_color_key(back, source, key)
    same = np.asarray(picture) == np.asarray(plain)
    back.paste(source, mask=Image.fromarray(same if same.ndim == 2 else same.all(axis=2)))
    return back


def with_palette(picture: Image.Image, source: Image.Image) -> Image.Image:
    """`picture` (RGB or RGBA) in the palette of `source` if that has all its colours, else in 256 of its own."""
    colours = np.array(source.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    pixels = np.array(picture)
    see_through = source.mode == "P" and picture.mode == "RGBA"
    if see_through:
        clear = source.info.get("transparency")
        if isinstance(clear, int):
            colours[clear, 3] = 0
        elif clear is not None:
            colours[: len(clear), 3] = np.frombuffer(clear, np.uint8)[: len(colours)]
        hard_edged = np.isin(colours[:, 3], (0, 255)).all()
        if hard_edged:
            hidden = pixels[..., 3] < 128
            pixels[..., 3] = np.where(hidden, 0, 255)
            pixels[hidden] = colours[colours[:, 3] == 0][0]
    wanted, known = (packed_colours(x[..., : 4 if see_through else 3]) for x in (pixels, colours))
    order = np.argsort(known, kind="stable")
    index = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    if (known[index] == wanted).all():
        back = Image.frombytes("P", source.size, index.astype(np.uint8).tobytes())
        back.putpalette(cast(ImagePalette.ImagePalette, source.palette))
    elif not see_through:
        back = picture.convert("RGB").quantize(256)
    elif hard_edged:
        back = Image.fromarray(pixels[..., :3].copy()).quantize(255)
        palette = [*(back.getpalette() or []), *[0] * 768][:765]
        back = Image.fromarray(np.where(hidden, 255, np.asarray(back)).astype(np.uint8))
        back.putpalette([*palette, 0, 0, 0])
        back.info["transparency"] = 255
    else:
        back = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    if source.mode == "PA":
        found = back.palette
        back = Image.merge("PA", (Image.frombytes("L", back.size, back.tobytes()), picture.getchannel("A")))
        back.putpalette(cast(ImagePalette.ImagePalette, found))
    return back


def with_color_key(picture: Image.Image, source: Image.Image, key: int | tuple[int, ...]) -> Image.Image:
    """PNG's other transparency, one colour that means "clear": just the pixels that had it have it again."""
    pixels, before = (np.atleast_3d(np.array(x)) for x in (picture, source))
    clear = (before == key).all(axis=2)
    by_chance = (pixels == key).all(axis=2) & ~clear
    pixels[by_chance, -1] ^= 1  # one step aside
    pixels[clear] = key
    back = Image.frombytes(picture.mode, picture.size, pixels.tobytes())
    back.info = dict(source.info)
    return back


def packed_colours(colours: np.ndarray) -> np.ndarray:
    """One integer for each colour of (..., 3 or 4) bytes."""
    packed = np.zeros(colours.shape[:-1], np.uint32)
    for channel in range(colours.shape[-1]):
        packed = packed << 8 | colours[..., channel]
    return packed
