"""PSNR by its closed forms, SSIM by an independent implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deblur_hub.metrics import psnr, ssim


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def reference(restored: np.ndarray, sharp: np.ndarray, data_range: float) -> float:
    return structural_similarity(
        restored,
        sharp,
        data_range=data_range,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def worse(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Blurred and noisy, in float64 of [0, 1]."""
    unit = pixels / 255
    blurred = (unit + np.roll(unit, 3, 1) + np.roll(unit, 1, 0)) / 3
    return np.clip(blurred + np.random.default_rng(seed).normal(0, 0.03, unit.shape), 0, 1)


@given(st.floats(0.001, 1), st.floats(0.5, 300))
def test_a_constant_shift_has_the_psnr_of_its_closed_form(shift, data_range):
    sharp = torch.rand(2, 3, 8, 9, dtype=torch.float64) * data_range
    expected = -20 * np.log10(shift)
    assert psnr(sharp + shift * data_range, sharp, data_range=data_range).numpy() == pytest.approx([expected] * 2)


def test_equal_pictures_have_infinite_psnr_and_a_similarity_of_one():
    picture = torch.rand(2, 3, 20, 30)
    assert psnr(picture, picture).tolist() == [float("inf")] * 2
    assert ssim(picture, picture).numpy() == pytest.approx(1, abs=1e-12)


def test_black_against_white_has_0_db_and_no_similarity():
    black, white = torch.zeros(1, 3, 20, 20), torch.ones(1, 3, 20, 20)
    assert psnr(black, white).item() == 0
    assert ssim(black, white).item() == pytest.approx(0.01**2 / (1 + 0.01**2))


@pytest.mark.parametrize("name", ["chelsea", "astronaut", "coffee"])
def test_both_agree_with_scikit_image_on_photographs_of_odd_size(name):
    sharp = getattr(data, name)()[:151, 30:247]
    blurred, sharp = worse(sharp), sharp / 255
    decibels = peak_signal_noise_ratio(sharp, blurred, data_range=1)
    assert psnr(tensor(blurred), tensor(sharp)).item() == pytest.approx(decibels)
    assert ssim(tensor(blurred), tensor(sharp)).item() == pytest.approx(reference(blurred, sharp, 1), abs=1e-6)
    assert 0.2 < ssim(tensor(blurred), tensor(sharp)).item() < 0.95


@settings(max_examples=20, deadline=None)
@given(st.integers(11, 40), st.integers(11, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_similarity_of_any_picture_is_that_of_scikit_image(height, width, channels, seed):
    draw = np.random.default_rng(seed)
    one, other = (draw.random((height, width, channels)) ** 3 * 255 for _ in range(2))
    found = ssim(tensor(one), tensor(other), data_range=255).item()
    assert found == pytest.approx(reference(one, other, 255), abs=1e-6)


def test_pictures_of_a_batch_are_scored_as_if_alone_and_the_order_of_the_two_does_not_matter():
    one, other = torch.rand(3, 3, 17, 23), torch.rand(3, 3, 17, 23)
    for metric in (psnr, ssim):
        scores = metric(one, other)
        assert scores.shape == (3,) and scores.dtype == torch.float64
        assert torch.allclose(scores, torch.cat([metric(a[None], b[None]) for a, b in zip(one, other, strict=True)]))
        assert torch.allclose(scores, metric(other, one))
        assert torch.allclose(scores, metric(one * 255, other * 255, data_range=255), atol=1e-5)


def test_pictures_of_8_bits_are_scored_without_overflow():
    zero, top = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert psnr(zero, top, data_range=255).item() == 0
    assert ssim(zero, top, data_range=255).item() == pytest.approx(1e-4, rel=1e-3)


def test_pictures_of_two_sizes_are_refused():
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r"one size are needed, not \(1, 3, 20, 20\) and \(1, 3, 20, 21\)"):
            metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 21))
        with pytest.raises(ValueError, match="one size"):  # which would broadcast without a word
            metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 1, 20, 20))


def test_a_picture_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 11x11 pixels, not 30x10"):
        ssim(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))
