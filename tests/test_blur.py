"""Synthetic blur: what is known of a camera's shake, a long exposure and a sensor's noise."""

import numpy as np
import pytest
import torch

from deblur_hub import blur


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("length", [2.0, 13.7, 60.0])
def test_a_trajectory_is_as_long_as_asked_and_lies_around_the_origin(length):
    for seed in range(5):
        path = blur.shake_trajectory(generator(seed), length=length)
        assert path.shape == (512, 2)
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(length)
        assert np.allclose(path.mean(axis=0), 0, atol=1e-9)


def test_a_trajectory_depends_on_nothing_but_its_generator():
    one, other, third = (blur.shake_trajectory(generator(seed), length=20.0) for seed in (1, 1, 2))
    assert np.array_equal(one, other)
    assert not np.allclose(one, third)


def test_some_trajectories_bend_and_they_lie_in_all_directions():
    ends = []
    spans = []
    for seed in range(40):
        path = blur.shake_trajectory(generator(seed), length=20.0)
        ends.append(path[-1] - path[0])
        spans.append(np.linalg.norm(ends[-1]) / 20)
    assert min(spans) < 0.7  # curved or reversed
    quarters = {(end[0] > 0, end[1] > 0) for end in ends}
    assert len(quarters) == 4


@pytest.mark.parametrize("length", [0.5, 2.0, 25.0, 60.0])
def test_a_kernel_is_odd_not_negative_and_sums_to_one(length):
    for seed in range(5):
        kernel = blur.trajectory_kernel(blur.shake_trajectory(generator(seed), length=length))
        assert kernel.dtype == torch.float32
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
        assert kernel.shape[0] <= 2 * length + 5


def test_a_kernel_shows_the_time_spent_at_each_pixel():
    still = blur.trajectory_kernel(np.zeros((10, 2)))
    assert torch.equal(still, torch.nn.functional.pad(torch.ones(1, 1), (1, 1, 1, 1)))
    between = blur.trajectory_kernel(np.array([[0.25, 0.0]]))
    middle = between.shape[0] // 2
    assert between[middle, middle].item() == pytest.approx(0.75)
    assert between[middle, middle + 1].item() == pytest.approx(0.25)  # x is the column
    downwards = blur.trajectory_kernel(np.array([[0.0, 1.0]]))
    assert downwards[downwards.shape[0] // 2 + 1, downwards.shape[0] // 2].item() == pytest.approx(1)  # y is the row


def picture(height=24, width=31):
    return torch.from_numpy(generator(3).random((3, height, width), dtype=np.float32))


def delta(size, row, column):
    kernel = torch.zeros(size, size)
    kernel[row, column] = 1
    return kernel


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_point_kernel_gives_the_inside_of_the_picture_back(size):
    sharp, radius = picture(), size // 2
    blurred = blur.convolve(sharp, delta(size, radius, radius))
    assert blurred.shape == (3, 24 - size + 1, 31 - size + 1)
    assert torch.allclose(blurred, sharp[:, radius : 24 - radius, radius : 31 - radius], atol=1e-5)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 1), (-1, 0), (0, -1), (2, -1)])
def test_a_kernel_off_its_centre_moves_the_picture_that_way(down, right):
    sharp = picture()
    blurred = blur.convolve(sharp, delta(5, 2 + down, 2 + right))
    # A point that lay at (y, x) now lies at (y + down, x + right).
    assert torch.allclose(blurred, sharp[:, 2 - down : 22 - down, 2 - right : 29 - right], atol=1e-5)


def test_convolution_equals_the_sum_it_stands_for():
    sharp, kernel = picture(), torch.from_numpy(generator(4).random((5, 5), dtype=np.float32))
    direct = torch.nn.functional.conv2d(sharp[:, None], kernel.flip(0, 1)[None, None])[:, 0]
    assert torch.allclose(blur.convolve(sharp, kernel), direct, atol=1e-4)


def test_blur_keeps_an_even_light():
    kernel = blur.trajectory_kernel(blur.shake_trajectory(generator(), length=9.0))
    assert torch.allclose(blur.convolve(torch.full((3, 40, 40), 0.3), kernel), torch.tensor(0.3), atol=1e-5)


def test_blur_keeps_the_light_of_a_spot():
    kernel = blur.trajectory_kernel(blur.shake_trajectory(generator(), length=9.0))
    spot = torch.zeros(1, 90, 90)
    spot[0, 44:47, 44:47] = 0.8
    assert blur.convolve(spot, kernel).sum().item() == pytest.approx(spot.sum().item(), rel=1e-4)


def test_light_and_display_values_are_each_others_inverse():
    values = torch.linspace(0, 1, 256)
    assert torch.allclose(blur.to_display(blur.to_linear(values)), values, atol=1e-6)
    assert blur.to_linear(torch.tensor(0.5)).item() == pytest.approx(0.5**2.2)
    assert blur.to_display(torch.tensor([-0.5, 1.5])).tolist() == [0, 1]  # the sensor's ends


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_the_average_of_equal_frames_is_the_frame(gamma):
    frame = generator(5).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    average = blur.average_frames(np.stack([frame] * 7), gamma=gamma)
    assert average.dtype == np.float32
    assert np.allclose(average, frame / 255, atol=1e-4)


def test_frames_average_in_values_or_in_light():
    frames = generator(6).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    values = frames / 255
    assert np.allclose(blur.average_frames(frames, gamma=1.0), values.mean(axis=0), atol=1e-5)
    assert np.allclose(blur.average_frames(frames, gamma=2.2), (values**2.2).mean(axis=0) ** (1 / 2.2), atol=1e-4)


def test_noise_has_the_variance_that_it_is_asked_for():
    flat = torch.full((3, 200, 200), 0.5)
    noise = blur.add_sensor_noise(flat, generator(), shot=0.04, read=0.02) - flat
    assert noise.std().item() == pytest.approx((0.02**2 + 0.04**2 * 0.5) ** 0.5, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=5e-4)
    assert torch.equal(blur.add_sensor_noise(flat, generator(), shot=0.0, read=0.0), flat)


def test_noise_stays_in_the_range_of_pictures_and_depends_on_its_generator_alone():
    ends = torch.cat([torch.zeros(3, 9, 9), torch.ones(3, 9, 9)], dim=1)
    noisy = blur.add_sensor_noise(ends, generator(1), shot=0.5, read=0.5)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert torch.equal(noisy, blur.add_sensor_noise(ends, generator(1), shot=0.5, read=0.5))
