"""The way out: a restored tensor becomes a Pillow picture, an array or a file, as the original was."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..atomic import replacing
from ..errors import PictureError, reason_of
from . import formats
from .deep import save_deep
from .modes import back_in_mode, to_plain_mode
from .original import Original
from .samples import to_bands


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
    plain = to_plain_mode(source) if source is not None else None
    mode = plain.mode if plain is not None else original.mode
    picture = Image.new(mode, original.size)
    little_endian: dict[str, np.dtype] = {"F": np.dtype("<f4"), "I;16": np.dtype("<u2")}
    for top, band in to_bands(restored, original, plain if plain is not None else original.kept):
        samples = band.astype(little_endian.get(mode, band.dtype)).tobytes()
        picture.paste(Image.frombytes(mode, (original.size[0], len(band)), samples), (0, top))
    if source is not None and plain is not None:
        picture = back_in_mode(picture, source, plain)
    picture.info.update(original.metadata.info())
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
    for top, band in to_bands(restored, original, original.kept):
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
    format_name = formats.format_of(target)
    if original.mode:
        picture = formats.fitted(to_image(restored, original), target, name)
    else:
        formats.require_deep(target, original.channels, whole=original.dtype.kind == "u", name=name)
        samples = to_array(restored, original).reshape(*original.size[::-1], -1)
    try:
        with replacing(target) as part:
            if original.mode:
                formats.save(picture, part, format_name, original.metadata, quality, original.progressive)
            else:
                save_deep(samples, original.channels, part, format_name, original.metadata, name)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"{target}: cannot be written ({reason_of(error)})") from error
    return target
