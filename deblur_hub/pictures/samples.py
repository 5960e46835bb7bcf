"""Pictures as tensors and back, with everything that must survive the trip.

    tensor, original = read("photo.jpg")
    write(network(tensor), original, Path("sharp.jpg"))

A picture becomes one or two tensors of three channels: its colours (a grey repeated), and beside them, as a grey
picture of its own, the alpha or the black ink that must be restored with them. `Original` remembers the rest: mode,
depth, palette, profile, EXIF. Handing the tensor back unchanged gives the same samples back; the formats themselves
are `image_files`' concern.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from PIL import Image, ImagePalette
from torch import Tensor

from deblur_hub.errors import PictureError
from deblur_hub.pictures import files as image_files
from deblur_hub.pictures.files import Metadata, converted

BAND_SAMPLES = 1 << 21  # float temporaries are made for bands of rows of this many samples, not for whole pictures

# The plainer mode that each mode is restored in; those with a palette become RGB or RGBA.
WORKING = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
}
KNOWN_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F",
               "I;16", "I;16B", "I;16L", "I;16N"}  # fmt: skip
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Original:
    """What a restored tensor needs to become the picture that was read.

    `notes` are sentences for the user. `kept` is the source itself where that is needed: a pixel that comes back
    unchanged keeps its palette index, its hue in the dark or its colour under full transparency.
    """

    kind: str  # "file", "pil" or "array"
    name: str
    size: tuple[int, int]  # width, height, upright
    mode: str  # Pillow's, or "" where Pillow has none
    channels: str  # as restored: "L", "LA", "RGB", "RGBA" or "CMYK"
    dtype: np.dtype  # of the samples as restored
    span: tuple[float, float]  # the samples that become -1 and 1
    shape: tuple[int, ...]  # of the array that came in, or (H, W, C)
    alpha: float | None = None  # where it is the same everywhere
    format: str | None = None
    progressive: bool = False
    kept: Image.Image | np.ndarray | None = field(default=None, repr=False, compare=False)
    metadata: Metadata = field(default_factory=Metadata, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """P of the tensor: 2 if an alpha or a black ink is restored beside the colours."""
        return 2 if self.channels == "CMYK" or (self.channels.endswith("A") and self.alpha is None) else 1


def read(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray, *, max_megapixels: float = 100
) -> tuple[Tensor, Original]:
    """Reads a picture, upright, with its header checked before its pixels are decoded.

    Args:
        source: a path, a file's bytes, a binary file, a Pillow picture of any mode, or an array: (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4); uint8, uint16, or floating point in [0, 1].
        max_megapixels: the largest picture taken in.

    Returns:
        (P, 3, H, W) float32 in [-1, 1]: the colours, then (P = 2) alpha or the black ink of CMYK as light; and what
        `to_image`, `to_array` and `write` need to turn the restored tensor back.

    Raises:
        PictureError: if there is no picture, or it is damaged, too large, or not in range.
    """
    if isinstance(source, np.ndarray):
        return _read_array(source, max_megapixels)
    if isinstance(source, Image.Image):
        name = Path(os.fsdecode(getattr(source, "filename", "") or "the picture")).name
        image_files.check_size(source.size, name, max_megapixels=max_megapixels)
        return _read_pillow(source, "pil", name)
    with image_files.opened(source) as (file, name):
        deep = image_files.deep_header(file, name)
        if deep is not None:
            image_files.check_size(deep.size, name, max_megapixels=max_megapixels)
            return _read_deep(file, deep, name)
        picture = image_files.identify(file, name)
        image_files.check_size(picture.size, name, max_megapixels=max_megapixels)
        return _read_pillow(picture, "file", name)


def to_image(restored: Tensor, original: Original) -> Image.Image:
    """The restored tensor as a Pillow picture of the original's size and mode, with ICC profile and EXIF in `info`.

    Args:
        restored: (P, 3, H, W) as `read` gave it, any floating type; clipped to [-1, 1].

    Raises:
        PictureError: if Pillow has no mode for it (16 bits or floats in several channels).
    """
    if not original.mode:
        raise PictureError(
            f"{original.name}: Pillow holds no {original.channels} of {original.dtype}; write it as .tif or .png, "
            "or hand in an array and get an array back"
        )
    source = original.kept if isinstance(original.kept, Image.Image) else None
    plain = converted(source, _working_mode(source)) if source is not None else None
    mode = plain.mode if plain is not None else original.mode
    picture = Image.new(mode, original.size)
    samples: dict[str, np.dtype] = {"F": np.dtype("<f4"), "I;16": np.dtype("<u2")}
    for top, band in _bands(restored, original, plain if plain is not None else original.kept):
        rows = band[..., 0] if band.shape[2] == 1 else band
        rows = rows.astype(samples.get(mode, rows.dtype))
        part = Image.frombytes(mode, (original.size[0], len(rows)), rows.tobytes())
        picture.paste(part, (0, top))
    if source is not None and plain is not None:
        picture = _in_its_mode(picture, source, plain)
    for key, value in original.metadata.info().items():
        picture.info[key] = value
    return picture


def to_array(restored: Tensor, original: Original) -> np.ndarray:
    """The restored tensor as an array of the dtype and layout that came in; for pictures and files, (H, W[, C]).

    Args:
        restored: (P, 3, H, W) as `read` gave it, any floating type; clipped to [-1, 1].
    """
    if original.kind != "array" and original.mode:
        return np.array(to_image(restored, original))
    width, height = original.size
    samples = np.empty((height, width, len(original.channels)), original.dtype)
    for top, band in _bands(restored, original, original.kept):
        samples[top : top + len(band)] = band
    return samples.reshape(original.shape)


def write(restored: Tensor, original: Original, target: Path, *, quality: int = 95) -> Path:
    """Writes the restored tensor in the format of the target's suffix, whole or not at all.

    Args:
        restored: (P, 3, H, W) as `read` gave it, any floating type; clipped to [-1, 1].
        quality: of JPEG, WebP and AVIF, up to 100.

    Returns:
        The target.

    Raises:
        PictureError: if the format is not known, would lose alpha, depth or inks, or the file cannot be written.
    """
    target, name = Path(target), original.name
    if not original.mode:
        samples = to_array(restored, original).reshape(*original.size[::-1], -1)
        return image_files.save_deep(samples, original.channels, original.metadata, target, name=name)
    return image_files.save(
        to_image(restored, original),
        original.metadata,
        target,
        name=name,
        quality=quality,
        progressive=original.progressive,
    )


# --- in ----------------------------------------------------------------------------------------------------------


def _read_pillow(picture: Image.Image, kind: str, name: str) -> tuple[Tensor, Original]:
    mode = picture.mode
    if mode not in KNOWN_MODES:
        raise PictureError(f"{name}: mode {mode} is not one that can be restored; convert it to RGB first")
    notes = tuple(filter(None, (image_files.frame_note(picture), image_files.depth_note(picture))))
    image_files.load(picture, name)
    turn = UPRIGHT.get(image_files.orientation(picture))
    source = picture.transpose(turn) if turn is not None else picture
    plain = converted(source, _working_mode(source))
    channels = plain.mode if plain.mode in ("L", "LA", "RGB", "RGBA", "CMYK") else "L"
    original = Original(
        kind=kind,
        name=name,
        size=source.size,
        mode=mode,
        channels=channels,
        dtype=_rows(plain, 0, 1).dtype,
        span=_span(plain, name),
        shape=(source.height, source.width, len(channels)),
        format=picture.format,
        progressive=bool(picture.info.get("progressive") or picture.info.get("progression")),
        metadata=image_files.metadata(picture, source.size),
        notes=notes,
    )
    hidden = False
    if channels in ("LA", "RGBA"):
        low, high = map(int, image_files.extrema(plain.getchannel("A")))
        original, hidden = replace(original, alpha=low if low == high else None), low == 0
    if hidden or "transparency" in source.info or mode != plain.mode:
        original = replace(original, kept=_bare_copy(source))
    return _tensor(plain, original), original


def _read_array(samples: np.ndarray, max_megapixels: float) -> tuple[Tensor, Original]:
    name, dtype, shape = "the array", samples.dtype, samples.shape
    if samples.size == 0:
        raise PictureError(f"{name}: has no pixels (shape {shape})")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise PictureError(f"{name}: of shape {shape}, but pictures are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    image_files.check_size((shape[1], shape[0]), name, max_megapixels=max_megapixels)
    if dtype.kind == "b":
        raise PictureError(f"{name}: bool is not restored; give it as uint8 of 0 and 255")
    if dtype.kind == "f" and dtype.itemsize <= 8:
        low, high = samples.min(), samples.max()
        if np.isnan(low) or np.isnan(high):
            raise PictureError(f"{name}: holds NaN; fill those pixels first")
        if low < 0 or high > 1:
            raise PictureError(f"{name}: floats from {low:g} to {high:g}, but they must be in [0, 1]; divide first")
    elif dtype.kind != "u" or dtype.itemsize > 2:
        raise PictureError(f"{name}: of {dtype}, but pictures are uint8, uint16 or floating point in [0, 1]")
    channels = {1: "L", 3: "RGB", 4: "RGBA"}[shape[2] if len(shape) == 3 else 1]
    mode = channels if dtype == np.uint8 else ""
    if channels == "L" and not mode:
        mode = "F" if dtype.kind == "f" else "I;16"
    return _read_samples(
        samples.reshape(*shape[:2], -1),
        Original(
            kind="array",
            name=name,
            size=(shape[1], shape[0]),
            mode=mode,
            channels=channels,
            dtype=dtype,
            span=(0, {"f": 1}.get(dtype.kind, 2 ** (8 * dtype.itemsize) - 1)),
            shape=shape,
        ),
    )


def _read_deep(file: BinaryIO, header: image_files.DeepHeader, name: str) -> tuple[Tensor, Original]:
    notes: tuple[str | None, ...] = ()
    metadata = Metadata(icc_profile=header.icc_profile)
    turned, size = header.orientation, header.size
    try:
        picture = image_files.identify(file, name)  # for its metadata; its pixels stay undecoded
    except PictureError:
        picture = None  # 16-bit grey with alpha, which Pillow does not know
    if picture is not None:
        notes = (image_files.frame_note(picture),)
        turned = image_files.orientation(picture) if header.format == "TIFF" or "exif" in picture.info else turned
    size = size[::-1] if turned >= 5 else size
    if picture is not None:
        metadata = image_files.metadata(picture, size)
    samples = _upright(image_files.read_deep(file, header, name), turned)
    return _read_samples(
        samples,
        Original(
            kind="file",
            name=name,
            size=size,
            mode="",
            channels=header.channels,
            dtype=samples.dtype,
            span=(65535, 0) if header.channels == "CMYK" else (0, 65535),
            shape=samples.shape,
            format=header.format,
            metadata=metadata,
            notes=tuple(filter(None, notes)),
        ),
    )


def _read_samples(samples: np.ndarray, original: Original) -> tuple[Tensor, Original]:
    if original.channels.endswith("A"):
        low, high = samples[..., -1].min(), samples[..., -1].max()
        original = replace(original, alpha=low if low == high else None)
        if low == 0:  # full transparency hides colours, which are to be kept
            original = replace(original, kept=Image.fromarray(samples) if original.mode else samples.copy())
    return _tensor(samples, original), original


def _tensor(samples: Image.Image | np.ndarray, original: Original) -> Tensor:
    """(P, 3, H, W) in [-1, 1], filled in bands of rows."""
    width, height = original.size
    low, high = original.span
    tensor = torch.empty(original.pictures, 3, height, width)
    for top, bottom in _band_rows(original):
        rows = _rows(samples, top, bottom)
        unit = (rows.astype(_arithmetic(rows.dtype)) - low) / (high - low) * 2 - 1
        planes = torch.from_numpy(unit).permute(2, 0, 1).float()
        tensor[0, :, top:bottom] = planes[: 1 if original.channels in ("L", "LA") else 3]
        if original.pictures == 2:
            tensor[1, :, top:bottom] = planes[-1:]
    return tensor


def _span(plain: Image.Image, name: str) -> tuple[float, float]:
    """The samples that become -1 and 1: the mode's own, or the picture's for I and F, whose samples have no range."""
    if plain.mode == "CMYK":
        return (255, 0)  # ink is the absence of light
    if plain.mode not in ("I", "F"):
        return (0, 65535 if plain.mode.startswith("I;16") else 255)
    usual = 1 if plain.mode == "F" else 65535
    if plain.mode == "F" and not np.isfinite(np.asarray(plain)).all():
        raise PictureError(f"{name}: holds NaN or infinite samples; fill those pixels first")
    low, high = image_files.extrema(plain)
    if low >= 0 and high <= usual:
        return (0, usual)
    return (low, high if high > low else low + 1)


# --- out ---------------------------------------------------------------------------------------------------------


def _bands(
    restored: Tensor, original: Original, source: Image.Image | np.ndarray | None
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, (h, W, C) in the original's dtype), from top to bottom.

    `source` holds the samples that were read, for the colours that full transparency hides.
    """
    width, height = original.size
    if restored.shape != (original.pictures, 3, height, width):
        raise ValueError(
            f"restored is {tuple(restored.shape)}, but {original.name} was {(original.pictures, 3, height, width)}"
        )
    low, high = original.span
    for top, bottom in _band_rows(original):
        precision = torch.float64 if original.dtype.itemsize > 2 else torch.float32
        part = restored[:, :, top:bottom].detach().to("cpu", precision)
        colours = part[0].mean(0, keepdim=True) if original.channels in ("L", "LA") else part[0]
        planes = torch.cat([colours, part[1].mean(0, keepdim=True)]) if original.pictures == 2 else colours
        values = (planes.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) / 2 * (high - low) + low
        band = (np.floor(values + 0.5) if original.dtype.kind in "ui" else values).astype(original.dtype)
        if original.alpha is not None:
            opacity = np.full((*band.shape[:2], 1), original.alpha, band.dtype)
            band = np.concatenate([band, opacity], axis=2)
        if source is not None and original.channels.endswith("A"):
            before = _rows(source, top, bottom)
            hidden = (before[..., -1] == 0) & (band[..., -1] == 0)
            band[hidden] = before[hidden]
        yield top, band


def _in_its_mode(picture: Image.Image, source: Image.Image, plain: Image.Image) -> Image.Image:
    """The restored picture in the mode of `source`, whose own samples stay where `plain` comes back unchanged."""
    if source.mode in ("P", "PA"):
        back = _with_palette(picture, source)
        if back.getpalette() != source.getpalette():  # new colours: no old index means the same in it
            return back
    else:
        back = converted(picture, source.mode)
    if source.mode == "RGBX":
        back = Image.merge("RGBX", (*back.split()[:3], source.split()[3]))
    back.info = dict(source.info)
    key = _color_key(source)
    if key is not None:
        return _with_color_key(back, source, key)
    same = np.asarray(picture) == np.asarray(plain)
    back.paste(source, mask=Image.fromarray(same if same.ndim == 2 else same.all(axis=2)))
    return back


def _with_palette(picture: Image.Image, source: Image.Image) -> Image.Image:
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
    wanted, known = (_packed(x[..., : 4 if see_through else 3]) for x in (pixels, colours))
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


def _with_color_key(picture: Image.Image, source: Image.Image, key: int | tuple[int, ...]) -> Image.Image:
    """PNG's other transparency, one colour that means "clear": just the pixels that had it have it again."""
    pixels, before = (np.atleast_3d(np.array(x)) for x in (picture, source))
    clear = (before == key).all(axis=2)
    by_chance = (pixels == key).all(axis=2) & ~clear
    pixels[by_chance, -1] ^= 1  # one step aside
    pixels[clear] = key
    back = Image.frombytes(picture.mode, picture.size, pixels.tobytes())
    back.info = dict(source.info)
    return back


# --- small things ------------------------------------------------------------------------------------------------


def _working_mode(source: Image.Image) -> str:
    if source.mode == "P":
        return "RGBA" if source.has_transparency_data else "RGB"
    return WORKING.get(source.mode, source.mode)


def _color_key(source: Image.Image) -> int | tuple[int, ...] | None:
    key = source.info.get("transparency")
    fits = isinstance(key, tuple) if source.mode == "RGB" else isinstance(key, int)
    return key if fits and source.mode in ("L", "I;16", "RGB") else None


def _bare_copy(source: Image.Image) -> Image.Image:
    """Pixels, palette and transparency, without an open file behind them."""
    copy = source.copy()
    copy.info = {key: value for key, value in source.info.items() if key == "transparency"}
    return copy


def _rows(samples: Image.Image | np.ndarray, top: int, bottom: int) -> np.ndarray:
    """(bottom - top, W, C)"""
    if isinstance(samples, np.ndarray):
        return samples[top:bottom]
    rows = np.asarray(samples.crop((0, top, samples.width, bottom)))
    return rows.reshape(*rows.shape[:2], -1)


def _band_rows(original: Original) -> Iterator[tuple[int, int]]:
    width, height = original.size
    step = max(1, BAND_SAMPLES // (width * len(original.channels)))
    for top in range(0, height, step):
        yield top, min(top + step, height)


def _arithmetic(dtype: np.dtype) -> type:
    """float32 counts 16-bit samples exactly; longer ones need more."""
    return np.float32 if dtype.itemsize <= 2 else np.float64


def _packed(colours: np.ndarray) -> np.ndarray:
    """One integer for each colour of (..., 3 or 4) bytes."""
    packed = np.zeros(colours.shape[:-1], np.uint32)
    for channel in range(colours.shape[-1]):
        packed = packed << 8 | colours[..., channel]
    return packed


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) turned as the EXIF orientation says."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return samples[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
