"""The protocols under which pictures are scored, as data: two numbers can be compared if their protocols agree.

`check_protocol` comes before all, `resized` before the network, `prepare` after it and before the metrics. The blurry
input is prepared like the restored picture; otherwise part of the gain under a protocol that aligns pictures would be
the alignment's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..datasets import Pair, picture_size
from ..errors import DatasetError, did_you_mean
from .alignment import align, require_opencv

MATLAB_TABLES = "ssim_matlab: the SSIM of SRN, MPRNet, Restormer and NAFNet"
BLUR_FOLDERS = {"linear": "blur", "gamma": "blur_gamma"}  # GoPro's own names for the two ways of averaging frames


@dataclass(frozen=True)
class Protocol:
    """All that a score depends on besides the model and the metric: in RGB, rounded to 8 bits, no border cut off."""

    name: str  # as `--protocol` takes it and results keep it
    title: str
    blur_folder: str = "blur"
    count: int | None = None  # of the pairs; None for any
    size: tuple[int, int] | None = None  # (width, height) of every picture; None for any
    resize: tuple[int, int] | None = None  # (width, height) of both pictures before the network sees the blurry one
    align: bool = False  # RealBlur's intensity fit and ECC homography, and its mask, which only psnr and ssim take
    comparable_with: tuple[str, ...] = ()  # metrics, and the published columns that their numbers can stand beside

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are defined under it."""
        whole_frame = ("ssim_matlab", "cw_ssim", "psnr_y", "ssim_y", "lpips", "features", "edges")
        return ("psnr", "ssim", *(() if self.align else whole_frame))


GOPRO = Protocol(
    name="gopro",
    title="GoPro_Large test, 1111 pairs of 1280x720, frames averaged as they are (folder blur)",
    count=1111,
    size=(1280, 720),
    comparable_with=(
        "psnr: DMPHN, MPRNet, Restormer and NAFNet; MIMO-UNet, which does not round (0.01 dB higher at 32 dB); SRN and "
        "PSS-NSC, which cut the fraction off (0.03 dB lower at 32 dB); DeblurGAN's weights as users measured them, not "
        "as printed",
        MATLAB_TABLES,
        "cw_ssim: the kind of SSIM that DeblurGAN prints, whose 0.958 users cannot reproduce",
    ),
)
REALBLUR = Protocol(
    name="realblur-j",
    title="RealBlur-J test, 980 pairs, intensity fit and ECC homography as in evaluation_RealBlur_ecc.py",
    count=980,
    align=True,
    comparable_with=(
        "psnr and ssim: the RealBlur tables made with the authors' script, among models trained on the same sets "
        "(GoPro alone, RealBlur alone, or RealBlur with BSD-B and GoPro)",
    ),
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        GOPRO,
        replace(
            GOPRO,
            name="gopro-gamma",
            title="GoPro_Large test, 1111 pairs of 1280x720, frames averaged in linear light (folder blur_gamma)",
            blur_folder="blur_gamma",
            comparable_with=("psnr and ssim: DeepDeblur in its PyTorch version",),
        ),
        Protocol(
            name="hide",
            title="HIDE test, 2025 pairs of 1280x720",
            count=2025,
            size=(1280, 720),
            comparable_with=(
                "psnr: the HIDE column of models trained on GoPro alone, such as MIMO-UNet+, MPRNet and Restormer",
                "ssim_matlab: the SSIM of MPRNet and Restormer",
            ),
        ),
        REALBLUR,
        replace(REALBLUR, name="realblur-r", title=REALBLUR.title.replace("RealBlur-J", "RealBlur-R")),
        Protocol(
            name="resized-256",
            title="both pictures resized to 256x256 (bicubic) before the network",
            resize=(256, 256),
            comparable_with=(
                "psnr: student reports that resize GoPro to 256x256 (25.4 to 26.4 dB); no paper, for blur shrinks with "
                "the picture",
            ),
        ),
        Protocol(name="pairs", title="pairs of any size and number, at full size"),
    )
}


def find_protocol(name: str, *, blur: str = "linear") -> Protocol:
    """The protocol of a name; `blur="gamma"` takes GoPro's other folder of blurry pictures, `blur_gamma`.

    DatasetError if no protocol has that name, or its set has no pictures blurred in that way.
    """
    if name not in PROTOCOLS:
        other = did_you_mean(name, PROTOCOLS)
        raise DatasetError(f"no protocol is called '{name}'{other}; take {', '.join(PROTOCOLS)}")
    if blur not in BLUR_FOLDERS:
        raise DatasetError(f"'{blur}' is not a way to blur; take {' or '.join(BLUR_FOLDERS)}")
    protocol = PROTOCOLS[name]
    if blur == "linear" or protocol.blur_folder == BLUR_FOLDERS[blur]:
        return protocol
    if name == "gopro":
        return PROTOCOLS["gopro-gamma"]
    if protocol.count is not None:
        raise DatasetError(f"the set of '{name}' has only one way of blurring; omit '{blur}'")
    return replace(protocol, blur_folder=BLUR_FOLDERS[blur])


def check_protocol(protocol: Protocol, pairs: Sequence[Pair]) -> None:
    """Raises DatasetError, before any scoring, if there are no pairs, or by count or size not those of a protocol.

    RealBlur's two halves have the same number of pairs and cannot be told apart so. AlignmentError without OpenCV.
    """
    if not pairs:
        raise DatasetError(f"there are no pairs to score under '{protocol.name}'; give a folder with pairs")
    if reason := mismatch(protocol, pairs):
        raise DatasetError(f"this is not the set of '{protocol.name}': {reason}; use --protocol pairs for it")
    if protocol.align:
        require_opencv()


def mismatch(protocol: Protocol, pairs: Sequence[Pair]) -> str:
    """The reason why a set is not the protocol's; "" if it is."""
    if protocol.count not in (None, len(pairs)):
        return f"it has {len(pairs)} pairs, not {protocol.count}"
    if protocol.size:
        for pair in pairs:
            if (size := picture_size(pair.sharp)) != protocol.size:
                return "{} has {}x{} pixels, not {}x{}".format(pair.sharp, *size, *protocol.size)
    return ""


def resized(protocol: Protocol, picture: np.ndarray) -> np.ndarray:
    """A uint8 picture (H, W, 3) in the size that the protocol asks for; unchanged if it asks for none.

    Bicubic as Pillow does it by default, which the reports' code relies on; each axis by its own factor.
    """
    if protocol.resize is None or picture.shape[1::-1] == protocol.resize:
        return picture
    return np.asarray(Image.fromarray(picture).resize(protocol.resize, Image.Resampling.BICUBIC))


def prepare(
    protocol: Protocol, restored: np.ndarray, sharp: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Both pictures, uint8 (H, W, 3), as the metrics are to see them; DatasetError if they differ in size.

    Under `resized-256` the restored one should already come from a resized input; one that does not is resized here,
    which is not the same.

    Returns:
        Both from 0 to 255, uint8, or float64 if aligned; and the mask, bool (H, W, 1), of what is scored; None for all.
    """
    restored, sharp = resized(protocol, restored), resized(protocol, sharp)
    if restored.shape != sharp.shape:
        raise DatasetError(
            f"the restored picture has {restored.shape[1]}x{restored.shape[0]} pixels, its sharp partner "
            f"{sharp.shape[1]}x{sharp.shape[0]}; partners must have one size"
        )
    if not protocol.align:
        return restored, sharp, None
    aligned = align(restored, sharp)
    return aligned.restored, aligned.sharp, aligned.mask
