"""Baselines: nothing, more edges, and the deconvolution of a straight motion that the picture itself tells."""

import sys

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage import data
from skimage.filters import unsharp_mask

from deblur_hub.evaluation.baselines import BASELINES, BaselineError, Motion, estimate_motion, motion_kernel
from deblur_hub.metrics import psnr


def blurred_and_sharp(name: str, motion: Motion, noise: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (H, W, 3): a photograph moved during the exposure, and the part of it that this shows."""
    sharp = getattr(data, name)()[:330, :360, :3]
    kernel = motion_kernel(motion)
    moved = np.stack([fftconvolve(sharp[..., channel] / 255, kernel, mode="valid") for channel in range(3)], axis=-1)
    moved = moved + np.random.default_rng(0).normal(0, noise, moved.shape)
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    return to_8_bits(moved), sharp[top : top + moved.shape[0], left : left + moved.shape[1]]


def to_8_bits(unit: np.ndarray) -> np.ndarray:
    return np.floor(unit.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def restore(name: str, picture: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    restored = BASELINES[name].restore(tensor)
    assert restored.shape == tensor.shape and restored.dtype == torch.float32 and restored.abs().max() <= 1
    return to_8_bits((restored[0].permute(1, 2, 0).numpy() + 1) / 2)


def turn(one: float, other: float) -> float:
    """Degrees between two directions that have no sense."""
    return abs((one - other + 90) % 180 - 90)


MOTIONS = [Motion(9, 0), Motion(12, 30), Motion(15, 75), Motion(20, 120), Motion(31, 10), Motion(25, 160)]


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: f"{motion.length} px at {motion.angle}")
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_a_straight_motion_is_found_in_the_picture(name, motion):
    blurred, _ = blurred_and_sharp(name, motion, noise=0.005)
    found = estimate_motion(blurred.mean(axis=2))
    assert abs(found.length - motion.length) < 1 and turn(found.angle, motion.angle) < 3


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_no_motion_is_found_where_there_was_none(name):
    sharp = getattr(data, name)()[:300, :400]
    assert estimate_motion(sharp.mean(axis=2)) is None
    assert (restore("richardson-lucy", sharp) == sharp).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_richardson_lucy_gains_over_the_picture_as_it_is(name):
    blurred, sharp = blurred_and_sharp(name, Motion(15, 75))
    identity, gained = (psnr(restore(baseline, blurred), sharp) for baseline in ("identity", "richardson-lucy"))
    assert identity == psnr(blurred, sharp)
    assert gained > identity + 1.5


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_kernel_has_sum_one_its_middle_and_the_spread_of_its_motion(motion):
    kernel = motion_kernel(motion)
    assert kernel.sum() == pytest.approx(1) and kernel.min() >= 0 and all(side % 2 for side in kernel.shape)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]] - np.array(kernel.shape)[:, None, None] // 2
    angle = np.radians(motion.angle)
    along = x * np.cos(angle) - y * np.sin(angle)
    variance = (kernel * along**2).sum()  # of a segment L^2 / 12, and a little for the pixels
    assert variance == pytest.approx(motion.length**2 / 12, abs=0.5)


def test_unsharp_is_scikit_images_and_raises_edges():
    sharp = data.chelsea()[:80, :90]
    expected = to_8_bits(unsharp_mask(sharp / 255, radius=1, amount=1, channel_axis=2))
    difference = restore("unsharp", sharp).astype(int) - expected
    assert np.abs(difference[5:-5, 5:-5]).max() <= 1  # at the border one reflects and the other repeats
    assert restore("unsharp", sharp).std() > sharp.std()


def test_baselines_are_called_as_a_generator_is():
    batch = torch.rand(2, 3, 20, 24) * 2 - 1
    for name, baseline in BASELINES.items():
        seen = []
        restored = baseline.restore(
            batch, tile=0, precision="auto", progress=lambda *done, seen=seen: seen.append(done)
        )
        assert baseline.name == name and restored.shape == batch.shape and seen == [(1, 2), (2, 2)]
    assert torch.equal(BASELINES["identity"].restore(batch), batch)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 18), (64, 64)])
def test_pictures_of_any_size_go_through(size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for name in BASELINES:
        assert restore(name, picture).shape == picture.shape


def test_a_plain_picture_has_no_motion():
    assert estimate_motion(np.full((80, 80), 0.5)) is None


def test_without_scikit_image_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(BaselineError, match=r"needs scikit-image; install it with: pip install 'deblur-hub\[eval\]'"):
        BASELINES["richardson-lucy"].restore(torch.zeros(1, 3, 20, 20))
