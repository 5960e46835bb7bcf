"""What kind of picture was opened: described, turned upright and brought to a plain mode."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..errors import PictureError
from .jpeg import Compression
from .metadata import Metadata, read_metadata
from .modes import extrema, to_plain_mode
from .opening import Opened
from .tiff import SAMPLE_FORMAT

TURNS = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]
UPRIGHT = {orientation: Image.Transpose[turn] for orientation, turn in enumerate(TURNS, 2)}


@dataclass(frozen=True)
class Original:
    """What a restored tensor needs to become the picture that was read.

    `notes` are sentences for the user. `kept` is the source itself where that is needed: alpha comes back as it was,
    and a pixel that comes back unchanged keeps its palette index, its hue in the dark or its colour under full
    transparency.
    """

    kind: str  # "file", "pil" or "array"
    name: str
    size: tuple[int, int]  # width, height, upright
    mode: str  # Pillow's, or "" where Pillow has none
    channels: str  # as restored: "L", "LA", "RGB", "RGBA" or "CMYK"
    dtype: np.dtype  # of the samples as restored
    span: tuple[float, float]  # the samples that become -1 and 1
    shape: tuple[int, ...]  # of the array that came in, or (H, W, C)
    bits: int = 16  # a channel, where Pillow has no mode for it
    alpha: float | None = None  # where it is the same everywhere
    format: str | None = None
    pages: int = 1  # pictures in its file, of a TIFF
    progressive: bool = False
    lossless: bool = False  # of a WebP
    compression: Compression | None = None  # of a JPEG
    kept: Image.Image | np.ndarray | None = field(default=None, repr=False, compare=False)
    metadata: Metadata = field(default_factory=Metadata, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """P of the tensor: 2 if a black ink is restored beside the colours."""
        return 2 if self.channels == "CMYK" else 1


def describe(picture: Opened) -> tuple[Image.Image | np.ndarray, Original]:
    """The picture's samples, upright and in a plain mode or (H, W, C), and what turns them back."""
    if isinstance(picture.samples, Image.Image):
        return describe_pillow(picture, picture.samples)
    return describe_array(picture, picture.samples)


def describe_pillow(picture: Opened, stored: Image.Image) -> tuple[Image.Image, Original]:
    turn = UPRIGHT.get(picture.orientation)
    source = stored.transpose(turn) if turn is not None else stored
    plain = to_plain_mode(source)
    channels = plain.mode if plain.mode in ("LA", "RGB", "RGBA", "CMYK") else "L"
    low, high = map(int, extrema(plain.getchannel("A"))) if channels.endswith("A") else (1, 1)
    kept = None
    if low != high or low == 0 or "transparency" in source.info or source.mode != plain.mode:
        kept = source.copy()  # pixels, palette and transparency, without an open file behind them
        kept.info = {key: value for key, value in source.info.items() if key == "transparency"}
    span, notes = span_of(plain, picture)
    metadata, dropped = metadata_of(picture, source.size)
    return plain, Original(
        kind=picture.kind,
        name=picture.name,
        size=source.size,
        mode=stored.mode,
        channels=channels,
        dtype=np.asarray(Image.new(plain.mode, (1, 1))).dtype,
        span=span,
        shape=(source.height, source.width, len(channels)),
        alpha=low if low == high and channels.endswith("A") else None,
        format=stored.format,
        pages=picture.pages,
        progressive=bool(stored.info.get("progressive") or stored.info.get("progression")),
        lossless=picture.lossless,
        compression=picture.compression,
        kept=kept,
        metadata=metadata,
        notes=(*picture.notes, *notes, *dropped),
    )


def describe_array(picture: Opened, stored: np.ndarray) -> tuple[np.ndarray, Original]:
    deep, channels = picture.deep, picture.channels
    samples = upright(stored, picture.orientation)
    size = (samples.shape[1], samples.shape[0])
    kind, span = samples.dtype.kind, (0.0, 1.0 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max)
    mode = channels if samples.dtype == np.uint8 else ""
    if channels == "L" and not mode:
        mode = "F" if kind == "f" else "I;16"
    low, high = (samples[..., -1].min(), samples[..., -1].max()) if channels.endswith("A") else (1, 1)
    kept: Image.Image | np.ndarray | None = None
    if low != high or low == 0:  # full transparency hides colours, which are to be kept
        kept = Image.fromarray(samples) if mode else samples.copy()
    notes: tuple[str, ...] = ()
    if deep is not None and kind == "f":
        span = span_of_floats(samples, picture.name)
    elif deep is not None and channels != "CMYK" and samples.dtype == np.uint16:
        brightest, notes = span_of_16_bits(int(samples.max()), picture.most_sample)
        span = (0, brightest)
    metadata, dropped = metadata_of(picture, size)
    return samples.reshape(*samples.shape[:2], -1), Original(
        kind=picture.kind,
        name=picture.name,
        size=size,
        mode=mode,
        channels=channels,
        dtype=samples.dtype,
        span=span[::-1] if channels == "CMYK" else span,
        shape=samples.shape,
        bits=deep.bits if deep is not None else 16,
        alpha=low if low == high and channels.endswith("A") else None,
        format=deep.format if deep else None,
        pages=picture.pages,
        kept=kept,
        metadata=metadata,
        notes=(*picture.notes, *notes, *dropped),
    )


def metadata_of(picture: Opened, size: tuple[int, int]) -> tuple[Metadata, tuple[str, ...]]:
    return read_metadata(picture.header, size, png=picture.png, page=picture.page, segments=picture.segments)


def span_of(plain: Image.Image, picture: Opened) -> tuple[tuple[float, float], tuple[str, ...]]:
    """The samples that become -1 and 1, and a note where those are not the mode's own.

    Raises:
        PictureError: if they cannot be told.
    """
    name, mode = picture.name, plain.mode
    if mode == "CMYK":
        return (255, 0), ()  # ink is the absence of light
    if mode not in ("I", "F") and not mode.startswith("I;16"):
        return (0, 255), ()
    if mode == "F":
        return span_of_floats(np.asarray(plain), name), ()
    low, high = extrema(plain)
    if mode == "I" and low < 0 and picture.page is not None and picture.page.value(SAMPLE_FORMAT, 1) == 1:
        raise PictureError(f"{name}: holds whole numbers above 2147483647, which are not read here; divide them first")
    if mode.startswith("I;16") or (mode == "I" and low >= 0 and high < 65536):
        top, notes = span_of_16_bits(int(high), picture.most_sample)
        return (0, top), notes
    return (low, high if high > low else low + 1), ()


def span_of_floats(samples: np.ndarray, name: str) -> tuple[float, float]:
    """From 0 to 1, or as far as the samples go.

    Raises:
        PictureError: if they are not finite.
    """
    if not np.isfinite(samples).all():
        raise PictureError(f"{name}: holds NaN or infinite samples; fill those pixels first")
    low, high = float(samples.min()), float(samples.max())
    return (0, 1) if 0 <= low <= high <= 1 else (low, high if high > low else low + 1)


def span_of_16_bits(high: int, declared: int | None) -> tuple[int, tuple[str, ...]]:
    """The brightest sample that 16-bit samples up to `high` can have: cameras put 10, 12 or 14 bits into 16.

    Args:
        declared: what the file says of it; believed if no sample is greater.
    """
    top = declared if declared and declared >= high else (1 << max(8, high.bit_length())) - 1
    if top >= 65535 or not high:
        return 65535, ()
    return top, (f"samples up to {high} of 65535; restored as {top.bit_length()}-bit ones",)


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) or (H, W, C) turned as the EXIF orientation says."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return samples[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
