"""What kind of picture was opened: described, turned upright and brought to a plain mode."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..errors import PictureError
from .metadata import Metadata, orientation_of, read_metadata
from .modes import extrema, to_plain_mode
from .opening import Opened

TURNS = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]
UPRIGHT = {orientation: Image.Transpose[turn] for orientation, turn in enumerate(TURNS, 2)}


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


def describe(picture: Opened) -> tuple[Image.Image | np.ndarray, Original]:
    """The picture's samples, upright and in a plain mode or (H, W, C), and what turns them back."""
    if isinstance(picture.samples, Image.Image):
        return describe_pillow(picture, picture.samples)
    return describe_array(picture, picture.samples)


def describe_pillow(picture: Opened, stored: Image.Image) -> tuple[Image.Image, Original]:
    turn = UPRIGHT.get(orientation_of(stored))
    source = stored.transpose(turn) if turn is not None else stored
    plain = to_plain_mode(source)
    channels = plain.mode if plain.mode in ("LA", "RGB", "RGBA", "CMYK") else "L"
    low, high = map(int, extrema(plain.getchannel("A"))) if channels.endswith("A") else (1, 0)
    kept = None
    if low == 0 or "transparency" in source.info or source.mode != plain.mode:
        kept = source.copy()  # pixels, palette and transparency, without an open file behind them
        kept.info = {key: value for key, value in source.info.items() if key == "transparency"}
    return plain, Original(
        kind=picture.kind,
        name=picture.name,
        size=source.size,
        mode=stored.mode,
        channels=channels,
        dtype=np.asarray(Image.new(plain.mode, (1, 1))).dtype,
        span=span_of(plain, picture.name),
        shape=(source.height, source.width, len(channels)),
        alpha=low if low == high else None,
        format=stored.format,
        progressive=bool(stored.info.get("progressive") or stored.info.get("progression")),
        kept=kept,
        metadata=read_metadata(stored, source.size),
        notes=picture.notes,
    )


def describe_array(picture: Opened, stored: np.ndarray) -> tuple[np.ndarray, Original]:
    header, deep, channels = picture.header, picture.deep, picture.channels
    samples = upright(stored, orientation_of(header) if header else deep.orientation if deep else 1)
    size = (samples.shape[1], samples.shape[0])
    floats = samples.dtype.kind == "f"
    brightest = 1 if floats else np.iinfo(samples.dtype).max
    mode = channels if samples.dtype == np.uint8 else ""
    if channels == "L" and not mode:
        mode = "F" if floats else "I;16"
    metadata = Metadata(icc_profile=deep.icc_profile if deep else None)
    low, high = (samples[..., -1].min(), samples[..., -1].max()) if channels.endswith("A") else (1, 0)
    kept: Image.Image | np.ndarray | None = None
    if low == 0:  # full transparency hides colours, which are to be kept
        kept = Image.fromarray(samples) if mode else samples.copy()
    return samples.reshape(*samples.shape[:2], -1), Original(
        kind=picture.kind,
        name=picture.name,
        size=size,
        mode=mode,
        channels=channels,
        dtype=samples.dtype,
        span=(brightest, 0) if channels == "CMYK" else (0, brightest),
        shape=samples.shape,
        alpha=low if low == high else None,
        format=deep.format if deep else None,
        kept=kept,
        metadata=read_metadata(header, size) if header else metadata,
        notes=picture.notes,
    )


def span_of(plain: Image.Image, name: str) -> tuple[float, float]:
    """The samples that become -1 and 1: the mode's own, or the picture's for I and F, whose samples have no range."""
    if plain.mode == "CMYK":
        return (255, 0)  # ink is the absence of light
    if plain.mode not in ("I", "F"):
        return (0, 65535 if plain.mode.startswith("I;16") else 255)
    usual = 1 if plain.mode == "F" else 65535
    if plain.mode == "F" and not np.isfinite(np.asarray(plain)).all():
        raise PictureError(f"{name}: holds NaN or infinite samples; fill those pixels first")
    low, high = extrema(plain)
    if low >= 0 and high <= usual:
        return (0, usual)
    return (low, high if high > low else low + 1)


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) or (H, W, C) turned as the EXIF orientation says."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return samples[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
