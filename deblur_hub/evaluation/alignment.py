"""Aligns a restored picture with its sharp partner, as RealBlur is scored.

RealBlur's two cameras see the scene from slightly different places, and a shift of the whole restored picture is no
fault. So its authors (Rim et al., ECCV 2020, `evaluation_RealBlur_ecc.py`) first scale the restored picture's intensity
and fit a homography by the enhanced correlation coefficient (Evangelidis and Psarakis, TPAMI 2008), and score the part
that both pictures show. The steps and numbers below are theirs.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DeblurHubError

ITERATIONS = 100
EPSILON = 0  # of the correlation's increase: all iterations are run
GAUSSIAN = 5  # side of the filter that smooths both pictures for the fit


class AlignmentError(DeblurHubError):
    """Pictures that cannot be aligned here."""


@dataclass(frozen=True)
class Aligned:
    """A pair after alignment; both pictures are 0 outside the mask."""

    restored: np.ndarray  # float64 (H, W, 3), 0 to 255, which the fit and the cubic warp may exceed a little
    sharp: np.ndarray  # float64 (H, W, 3), its samples unchanged
    mask: np.ndarray  # bool (H, W, 1), the part that the warped picture covers
    gain: float  # factor of the intensities
    homography: np.ndarray  # (3, 3), from (x, y, 1) in the sharp picture to the place in the restored one, in pixels
    converged: bool  # False if no homography was found, and the picture was not moved


def align(restored: np.ndarray, sharp: np.ndarray) -> Aligned:
    """Fits the intensity and the position of a restored picture to those of its sharp partner.

    Intensity by least squares, with one factor for all channels; the homography on grey pictures, starting from the
    identity; the warp is cubic, and the mask comes from warping ones with the nearest neighbour. Both are uint8
    (H, W, 3), of one size. A warning says if the fit does not converge, as for a picture without detail, which is then
    not moved; AlignmentError that OpenCV is not installed.
    """
    cv2 = require_opencv()
    z, x = restored.astype(np.float32) / 255, sharp.astype(np.float32) / 255
    energy = np.sum(z * z, dtype=np.float64)
    gain = float(np.sum(x * z, dtype=np.float64) / energy) if energy else 1.0
    z = np.float32(gain) * z
    homography = np.eye(3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, EPSILON)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (x, z)]
    try:
        _, homography = cv2.findTransformECC(
            *grey, homography, cv2.MOTION_HOMOGRAPHY, criteria, inputMask=None, gaussFiltSize=GAUSSIAN
        )
        converged = bool(np.isfinite(homography).all())
    except cv2.error:
        converged = False
    if not converged:
        homography = np.eye(3, dtype=np.float32)
        warnings.warn("no homography fits the restored picture; it is scored where it is", stacklevel=2)

    def warped(picture: np.ndarray, filtering: int, border: int) -> np.ndarray:
        flags, size = filtering | cv2.WARP_INVERSE_MAP, x.shape[1::-1]
        moved: np.ndarray = cv2.warpPerspective(picture, homography, size, flags=flags, borderMode=border)
        return moved.astype(np.float64)

    mask = warped(np.ones(x.shape[:2], np.float32), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)[..., None] > 0
    moved = np.where(mask, warped(z, cv2.INTER_CUBIC, cv2.BORDER_REFLECT) * 255, 0)
    return Aligned(moved, np.where(mask, sharp.astype(np.float64), 0), mask, gain, homography.astype(float), converged)


def require_opencv() -> Any:
    """The module `cv2`; AlignmentError if it is not installed."""
    try:
        import cv2
    except ImportError:
        raise AlignmentError(
            "aligning pictures as RealBlur is scored needs OpenCV; install it with: pip install 'deblur-hub[eval]'"
        ) from None
    return cv2
