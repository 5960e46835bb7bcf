"""A picture that is moved and dimmed comes back over its partner; what it cannot show is masked."""

import sys

import numpy as np
import pytest
from skimage import data

from deblur_hub.evaluation.alignment import AlignmentError, align
from deblur_hub.metrics import psnr, ssim

cv2 = pytest.importorskip("cv2")

MOVED = np.array([[1.004, 0.006, 3.4], [-0.005, 0.997, -2.6], [4e-6, -3e-6, 1]])


def photograph(name: str) -> np.ndarray:
    return np.ascontiguousarray(getattr(data, name)()[:300, :320])


def moved_and_dimmed(sharp: np.ndarray, factor: float = 0.9) -> np.ndarray:
    """What stood at a place stands where MOVED brings it, in the dark."""
    size = sharp.shape[1], sharp.shape[0]
    moved = cv2.warpPerspective(sharp, MOVED, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.floor(moved * factor + 0.5).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "decibels"), [("astronaut", 28), ("coffee", 33), ("chelsea", 35)])
def test_a_moved_and_dimmed_picture_comes_back(name, decibels):
    sharp = photograph(name)
    restored = moved_and_dimmed(sharp)
    found = align(restored, sharp)
    assert found.converged
    assert psnr(restored, sharp) < 22
    assert psnr(found.restored, found.sharp, data_range=255, mask=found.mask) > decibels
    assert ssim(found.restored, found.sharp, data_range=255, mask=found.mask) > 0.97 > 0.65 > ssim(restored, sharp)
    corners = np.array([[0, 319, 0, 319], [0, 0, 299, 299], [1, 1, 1, 1]], dtype=float)
    places = [homography @ corners for homography in (found.homography, MOVED)]
    assert np.abs(places[0][:2] / places[0][2] - places[1][:2] / places[1][2]).max() < 0.2  # pixels


@pytest.mark.slow
def test_the_intensity_is_fitted_by_least_squares_before_the_place():
    sharp = photograph("coffee")
    restored = np.floor(sharp * 0.8 + 0.5).astype(np.uint8)
    found = align(restored, sharp)
    z, x = restored.astype(float), sharp.astype(float)
    assert found.gain == pytest.approx((x * z).sum() / (z * z).sum(), rel=1e-5)
    assert psnr(found.restored, found.sharp, data_range=255, mask=found.mask) > 50 > 25 > psnr(restored, sharp)


@pytest.mark.slow
def test_the_mask_hides_what_the_restored_picture_does_not_show():
    sharp = photograph("chelsea")
    size = (sharp.shape[1], sharp.shape[0])
    shifted = cv2.warpAffine(sharp, np.float32([[1, 0, 6], [0, 1, 0]]), size, borderMode=cv2.BORDER_CONSTANT)
    found = align(shifted, sharp)  # the sharp picture's last 6 columns have left it
    assert found.mask[:, :310].all() and not found.mask[:, -5:].any()
    assert not found.restored[~found.mask[..., 0]].any() and not found.sharp[~found.mask[..., 0]].any()
    assert (found.sharp == np.where(found.mask, sharp, 0)).all()


@pytest.mark.slow
def test_a_picture_that_needs_no_alignment_stays():
    sharp = photograph("astronaut")
    found = align(sharp, sharp)
    assert found.gain == pytest.approx(1) and found.converged and found.mask.mean() > 0.99
    assert np.abs(found.homography - np.eye(3)).max() < 1e-4
    assert psnr(found.restored, found.sharp, data_range=255, mask=found.mask) > 60


@pytest.mark.parametrize("level", [0, 77])
def test_a_picture_without_detail_is_scored_where_it_is_and_a_warning_says_so(level):
    flat, sharp = np.full((60, 70, 3), level, np.uint8), photograph("chelsea")[:60, :70]
    with pytest.warns(UserWarning, match="no homography fits the restored picture; it is scored where it is"):
        found = align(flat, sharp)
    assert not found.converged and (found.homography == np.eye(3)).all() and found.mask.all()
    assert np.isfinite(found.restored).all()


def test_without_opencv_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(AlignmentError, match=r"needs OpenCV; install it with: pip install 'deblur-hub\[eval\]'"):
        align(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8))
