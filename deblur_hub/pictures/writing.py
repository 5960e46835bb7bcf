"""The way out: a restored tensor becomes a Pillow picture, an array or a file, as the original was."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter
from torch import Tensor

from ..atomic import replacing
from ..errors import DeblurHubError, PictureError, reason_of
from . import formats
from .deep import save_deep
from .metadata import RESOLUTION
from .modes import back_in_mode, to_plain_mode
from .original import Original
from .samples import Piece, in_bands, to_samples
from .tiff import append_entries

Restored = Tensor | Iterable[Piece] | np.ndarray


def to_image(restored: Restored, original: Original) -> Image.Image:
    """The restored tensor as a Pillow picture of the original's size and mode, with ICC profile, EXIF and `notes` in
    `info`.

    Args:
        restored: (P, 3, H, W) as `read` gave it, or pieces of it, any floating type, clipped to [-1, 1]; or samples
            that `to_samples` made of them.

    Raises:
        PictureError: if Pillow has no mode for it (16 bits or floats in several channels).
    """
    if not original.mode:
        raise PictureError(
            f"{original.name}: Pillow holds no {original.channels} of {original.dtype}; write it as .tif or .png, "
            "or hand in an array and get an array back"
        )
    samples = restored if isinstance(restored, np.ndarray) else to_samples(restored, original)
    source = original.kept if isinstance(original.kept, Image.Image) else None
    plain = to_plain_mode(source) if source is not None else None
    mode = plain.mode if plain is not None else original.mode
    picture = Image.new(mode, original.size)
    little_endian: dict[str, np.dtype] = {"F": np.dtype("<f4"), "I;16": np.dtype("<u2")}
    for rows in in_bands(range(len(samples)), samples[0].size):
        band = samples[rows.start : rows.stop]
        stored = band.astype(little_endian.get(mode, band.dtype)).tobytes()
        picture.paste(Image.frombytes(mode, (original.size[0], len(band)), stored), (0, rows.start))
    if source is not None and plain is not None:
        picture = back_in_mode(picture, source, plain)
    picture.info.update(original.metadata.info())
    if original.notes:
        picture.info["notes"] = original.notes
    return picture


def to_array(restored: Restored, original: Original) -> np.ndarray:
    """The restored tensor as an array of the dtype and layout that came in; for pictures and files, (H, W[, C]).

    Args:
        restored: as `to_image` takes it.
    """
    if original.kind != "array" and original.mode:
        return np.array(to_image(restored, original))
    samples = restored if isinstance(restored, np.ndarray) else to_samples(restored, original)
    return samples.reshape(original.shape)


def require_target(original: Original, target: Path) -> str:
    """That the target's format holds what will be restored, so that nobody waits for what cannot be written.

    Returns:
        The mode that will be written, or the channels where Pillow has no mode for them.

    Raises:
        PictureError: if the format is not known, or would lose alpha, depth, inks or size.
    """
    target, name = Path(target), original.name
    formats.require_size(original.size, target, name)
    if not original.mode:
        formats.require_deep(target, original.channels, whole=original.dtype.kind == "u", bits=original.bits, name=name)
        return original.channels
    kept = original.kept
    probe = kept.crop((0, 0, 1, 1)) if isinstance(kept, Image.Image) else Image.new(original.mode, (1, 1))
    if probe.mode in ("LA", "RGBA"):
        opacity = 128 if original.alpha is None else int(original.alpha)
        probe.putalpha(opacity)
    elif probe.mode == "I":
        probe.putpixel((0, 0), int(max(original.span, key=abs)))
    return formats.fitted(probe, target, name).mode


def write(
    restored: Tensor,
    original: Original,
    target: Path,
    *,
    quality: int | None = None,
) -> Path:
    """Writes the restored tensor in the format of the target's suffix, whole or not at all.

    Args:
        restored: (P, 3, H, W) as `read` gave it, any floating type; clipped to [-1, 1].
        quality: of JPEG, WebP, AVIF and HEIC, up to 100; None for that of the source, or 95 if it was of
            another format.

    Returns:
        The target.

    Raises:
        PictureError: if the format is not known, would lose alpha, depth or inks, or the file cannot be written.
    """
    return write_pages(iter([(to_samples(restored, original), original)]), target, quality=quality)


def write_pages(
    pages: Iterator[tuple[np.ndarray, Original]],
    target: Path,
    *,
    quality: int | None = None,
) -> Path:
    """Writes one picture after another into one file, of which all but a TIFF take one only; as `write` does."""
    target = Path(target)
    format_name = formats.format_of(target)
    try:
        with replacing(target) as part:
            for number, (restored, original) in enumerate(pages):
                page = part if not number else part.with_suffix(".page.part")
                try:
                    write_page(restored, original, target, page, format_name, quality)
                    if number:
                        append_page(page, part)
                        append_entries(part, *original.metadata.tiff_entries(), instead_of=RESOLUTION)
                finally:
                    if number:
                        page.unlink(missing_ok=True)
    except DeblurHubError:
        raise
    except Exception as error:
        raise PictureError(f"{target}: cannot be written ({reason_of(error)})") from error
    return target


def write_page(
    restored: np.ndarray,
    original: Original,
    target: Path,
    path: Path,
    format_name: str,
    quality: int | None,
) -> None:
    name = original.name
    if not original.mode:
        formats.require_deep(target, original.channels, whole=original.dtype.kind == "u", bits=original.bits, name=name)
        return save_deep(
            restored,
            original.channels,
            path,
            format_name,
            original.metadata,
            name,
            bits=original.bits,
            quality=quality or 95,
        )
    picture = formats.fitted(to_image(restored, original), target, name)
    return formats.save(
        picture,
        path,
        format_name,
        original.metadata,
        quality=quality,
        compression=original.compression,
        progressive=original.progressive,
        lossless=original.lossless,
    )


def append_page(page: Path, whole: Path) -> None:
    """Adds the picture of one TIFF to another, as its last; without directories inside its own."""
    with AppendingTiffWriter(str(whole)) as file:
        file.write(page.read_bytes())
        file.newFrame()
