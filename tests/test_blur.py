"""Synthetic blur: what is known of a camera's shake, a long exposure and a sensor's noise."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_hub import blur


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("trajectory", [blur.shake_trajectory, blur.steady_trajectory])
@pytest.mark.parametrize("length", [2.0, 13.7, 60.0])
def test_a_trajectory_is_as_long_as_asked(trajectory, length):
    for seed in range(5):
        path = trajectory(generator(seed), length=length)
        assert path.shape == (512, 2)
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(length)


def test_a_random_walk_lies_around_the_origin():
    for seed in range(5):
        path = blur.shake_trajectory(generator(seed), length=13.7)
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


def test_a_steady_path_is_at_the_origin_at_half_time():
    for seed in range(20):
        path = blur.steady_trajectory(generator(seed), length=13.7)
        assert np.allclose((path[255] + path[256]) / 2, 0, atol=1e-9)


def spread(path):
    """Standard deviations of a path's points along and across its main direction."""
    return np.linalg.svd(path - path.mean(axis=0), compute_uv=False) / len(path) ** 0.5


def test_a_steady_path_is_long_and_narrow_and_a_random_walk_is_not():
    """A straight line of length 1 deviates by 1 / sqrt(12) = 0.29 along itself."""
    steady = np.median([spread(blur.steady_trajectory(generator(seed), length=1.0)) for seed in range(200)], axis=0)
    walk = np.median([spread(blur.shake_trajectory(generator(seed), length=1.0)) for seed in range(200)], axis=0)
    assert steady[0] > 0.25
    assert steady[1] < 0.05
    assert walk[0] < 0.15


def test_steady_paths_bend_change_their_pace_and_lie_in_all_directions():
    paths = [blur.steady_trajectory(generator(seed), length=20.0) for seed in range(60)]
    ends = [path[-1] - path[0] for path in paths]
    assert {(end[0] > 0, end[1] > 0) for end in ends} == {(True, True), (True, False), (False, True), (False, False)}
    assert min(np.linalg.norm(end) for end in ends) < 18
    paces = [np.linalg.norm(np.diff(path, axis=0), axis=1) for path in paths]
    assert max(pace.max() / pace.min() for pace in paces) > 3
    turns = [np.abs(np.diff(path, n=2, axis=0)).max() for path in paths]
    assert max(turns) < 0.05 * 20 / 511 * 20  # smooth: no instant turns the path


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


def test_a_disc_sums_to_one_is_round_and_has_its_area():
    for radius in (0.0, 0.3, 1.0, 2.5, 7.2):
        kernel = blur.disc_kernel(radius)
        assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
        assert torch.equal(kernel, kernel.T) and torch.equal(kernel, kernel.flip(0))
        if radius >= 1:
            assert 1 / kernel.max().item() == pytest.approx(np.pi * radius**2, rel=0.06)
    assert blur.disc_kernel(0.0).max() == 1


def test_a_joined_kernel_does_what_its_parts_do_one_after_the_other():
    one, other = blur.trajectory_kernel(np.array([[0.0, 0.0], [2.0, 1.0]])), blur.disc_kernel(1.7)
    sharp = picture(40, 40)
    both = blur.joined(one, other)
    assert both.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(blur.convolve(sharp, both), blur.convolve(blur.convolve(sharp, one), other), atol=1e-5)


def test_pictures_of_a_batch_are_convolved_each_with_its_own_kernel():
    sharp, kernels = torch.stack([picture(), picture().flip(-1)]), torch.stack([delta(5, 1, 3), delta(5, 4, 4)])
    both = blur.convolve(sharp, kernels[:, None])
    for row in (0, 1):
        assert torch.allclose(both[row], blur.convolve(sharp[row], kernels[row]), atol=1e-6)


def test_an_object_passes_by_on_an_arc_around_the_origin():
    headings = set()
    for seed in range(12):
        path = blur.object_path(generator(seed), length=20.0)
        assert np.allclose(path.mean(axis=0), 0, atol=1e-9)
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(20)
        assert np.linalg.norm(path[-1] - path[0]) > 19
        headings.add(tuple(path[-1] > path[0]))
    assert len(headings) == 4


@pytest.mark.parametrize("gamma", [1.8, 2.2, blur.SRGB])
def test_each_curve_is_the_inverse_of_the_other_and_keeps_the_ends(gamma):
    values = torch.linspace(0, 1, 256)
    assert torch.allclose(blur.to_display(blur.to_linear(values, gamma), gamma), values, atol=2e-6)
    assert blur.to_linear(torch.tensor([0.0, 1.0]), gamma).tolist() == pytest.approx([0, 1])


def test_the_curve_of_srgb_has_its_published_values():
    assert blur.to_linear(torch.tensor([0.04, 0.5]), blur.SRGB).tolist() == pytest.approx(
        [0.0030960, 0.2140411], abs=1e-6
    )


def test_pictures_of_a_batch_have_each_their_own_curve():
    values, gammas = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)), [2.4, blur.SRGB, 1.9]
    light = blur.to_linear(values, torch.tensor(gammas))
    for row, gamma in enumerate(gammas):
        assert torch.allclose(light[row], blur.to_linear(values[row], gamma), atol=1e-6)


FAR = 1e7  # a focal length at which a turn is a shift


def window(side=80, seed=7):
    """A photograph of smooth and sharp parts, (1, 3, side, side) uint8."""
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1) * 255).byte()


def exposure(**parts):
    return blur.Exposure.plain(**{key: torch.as_tensor(value) for key, value in parts.items()})


def motion(homographies):
    count = len(homographies)
    return {
        "camera": torch.from_numpy(homographies).float(),
        "moves": torch.zeros(count, 2),
        "weights": torch.full((count,), 1 / count),
    }


def values(picture, crop=48):
    rim = (picture.shape[-1] - crop) // 2
    return picture[..., rim : rim + crop, rim : rim + crop].float() / 255


def levels_apart(one, other):
    return ((one - other).abs() * 255).max().item()


def test_an_exposure_without_motion_is_the_picture():
    for still in (exposure(), exposure(**motion(np.tile(np.eye(3), (7, 1, 1))))):
        blurred, sharp = blur.expose(window(), still, 48)
        assert torch.equal(sharp, values(window()))
        assert torch.equal(blurred, sharp)


def test_a_camera_that_only_shifts_does_what_the_kernel_of_its_path_does():
    path = blur.shake_trajectory(generator(2), length=24.0)
    by_kernel, _ = blur.expose(window(), exposure(kernel=blur.trajectory_kernel(path)), 48)
    for homographies in (blur.camera_path(path, focal=FAR), blur.shift_path(path)):
        by_instants, sharp = blur.expose(window(), exposure(**motion(homographies)), 48)
        assert levels_apart(by_kernel, by_instants) <= 1.01
    assert levels_apart(by_kernel, sharp) > 20


def test_the_instants_that_training_looks_at_stand_for_the_whole_path():
    path = blur.shake_trajectory(generator(5), length=20.0)
    whole = blur.camera_path(path, roll=path[:, 0] / 300, focal=700)
    chosen = blur.evenly(blur.path_length(whole, 48), len(path), most=48)
    assert 20 <= len(chosen) <= 30
    few, all_of_them = (blur.expose(window(), exposure(**motion(part)), 48)[0] for part in (whole[chosen], whole))
    assert (few - all_of_them).abs().mean().item() * 255 < 0.5
    assert (few - values(window())).abs().mean().item() * 255 > 2


def test_a_camera_that_turns_moves_the_middle_of_its_frame_as_asked_and_points_back_there():
    shift = np.array([[30.0, -12.0], [0.0, 0.0], [-3.0, 55.0]])
    homographies = blur.camera_path(shift, focal=600)
    middle = homographies @ np.append(0, [0, 1.0])
    for row, (dx, dy) in enumerate(shift):
        at = homographies[row] @ np.array([dx, dy, 1.0])  # where the scene's middle is seen
        assert np.allclose(at[:2] / at[2], 0, atol=1e-9)
    assert np.allclose(middle[1], [0, 0, 1])


def test_a_camera_that_rolls_leaves_the_middle_of_its_frame_still_and_smears_the_rim():
    roll = np.linspace(-0.1, 0.1, 41)
    blurred, sharp = blur.expose(
        window(), exposure(**motion(blur.camera_path(np.zeros((41, 2)), roll=roll, focal=700))), 48
    )
    change = (blurred - sharp).abs().mean(dim=(0, 1)) * 255
    assert change[22:26, 22:26].max() < 3
    assert change[:4].mean() > 3 * change[21:27, 21:27].mean()
    # The middle of the frame need not be that of the crop: here it lies 20 pixels to the right of it.
    aside = blur.camera_path(np.zeros((41, 2)), roll=roll, focal=700, place=(-20.0, 0.0))
    change = (blur.expose(window(), exposure(**motion(aside)), 48)[0] - sharp).abs().mean(dim=(0, 1)) * 255
    assert change[22:26, 42:46].max() < 3
    assert change[:, :6].mean() > 3 * change[21:27, 41:47].mean()


def test_a_roll_turns_a_point_by_its_angle_and_an_approach_moves_it_outwards():
    quarter = blur.camera_path(np.zeros((1, 2)), roll=np.pi / 2, focal=500)[0] @ np.array([10.0, 0, 1])
    assert np.allclose(quarter[:2] / quarter[2], [0, -10])  # the scene turned from there to here
    nearer = blur.camera_path(np.zeros((1, 2)), zoom=np.log(2), focal=500)[0] @ np.array([10.0, 4, 1])
    assert np.allclose(nearer[:2] / nearer[2], [5, 2])


def test_reach_is_how_far_the_corners_take_their_light_from():
    homographies = blur.camera_path(np.zeros((1, 2)), zoom=np.log(2), focal=500)
    assert blur.reach(homographies, 41) == pytest.approx(10)
    assert blur.reach(blur.shift_path(np.array([[3.0, -7.0]])), 41) == pytest.approx(7)


@pytest.mark.parametrize("kind", ["kernel", "instants", "disc"])
def test_blur_keeps_the_mean_in_linear_light(kind):
    """Of a spot far from the rim; after the camera's curve the mean is another."""
    path = blur.shake_trajectory(generator(1), length=12.0)
    spot = torch.zeros(1, 3, 120, 120, dtype=torch.uint8)
    spot[..., 56:64, 56:64] = 230
    change = {
        "kernel": exposure(kernel=blur.trajectory_kernel(path)),
        "instants": exposure(**motion(blur.shift_path(path))),
        "disc": exposure(kernel=blur.disc_kernel(3.0)),
    }[kind]
    blurred, sharp = blur.expose(spot, change, 96)
    light, true = blur.to_linear(blurred).mean().item(), blur.to_linear(sharp).mean().item()
    assert light == pytest.approx(true, rel=0.01)  # of 8 bits
    assert blurred.mean().item() > 1.05 * sharp.mean().item()


def test_a_light_brighter_than_the_sensor_streaks_where_a_clipped_one_fades():
    dark = torch.full((1, 3, 80, 80), 20, dtype=torch.uint8)
    dark[..., 39:41, 39:41] = 255
    smear = blur.trajectory_kernel(np.stack([np.linspace(-10, 10, 200), np.zeros(200)], axis=1))
    faded, _ = blur.expose(dark, exposure(kernel=smear), 48)
    streak, sharp = blur.expose(dark, exposure(kernel=smear, excess=30.0), 48)
    # A twentieth of the time of a light of 1 and of one of 31 at each place.
    assert faded[0, 0, 23, 20].item() == pytest.approx(0.1 ** (1 / 2.2), abs=0.02)
    assert streak[0, 0, 23, 20].item() == 1
    assert torch.equal(sharp, values(dark))
    assert torch.equal(streak[..., :10, :], faded[..., :10, :])  # what is dark is as it was


def test_only_what_is_nearly_white_is_brightened():
    shown = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.2, 0.1], [0.95, 0.95, 0.95], [1.0, 1.0, 1.0]]).T[None, :, None]
    light = blur.brighten(torch.ones_like(shown), shown, torch.tensor([8.0]))
    assert light[0, 0, 0].tolist() == pytest.approx([1, 1, 1 + 8 / 4, 9], abs=1e-4)


def disc_of_waves(side):
    """An outline that is an object in the middle column band and nothing beside it."""
    return torch.tensor([[1.0, 2 * np.pi / side, 0.0, 0.0], [0.5, 0.0, 0.0, np.pi]], dtype=torch.float32)


def test_an_object_moves_over_a_background_that_stays():
    sharp = window(96)
    moves = torch.stack([torch.zeros(21), torch.linspace(-10, 6, 21)], dim=1)
    changed = exposure(
        camera=torch.eye(3).expand(21, 3, 3), moves=moves, weights=torch.full((21,), 1 / 21), waves=disc_of_waves(72)
    )
    blurred, still = blur.expose(sharp, changed, 64)
    # cos(x) > 1/2 is a band of a third of the wavelength.
    assert torch.equal(blurred[..., :18], still[..., :18])
    assert torch.equal(blurred[..., -18:], still[..., -18:])
    whole, _ = blur.expose(sharp, exposure(kernel=blur.trajectory_kernel(moves.double().numpy())), 64)
    assert levels_apart(blurred[..., 24:40], whole[..., 24:40]) <= 1.01
    assert levels_apart(blurred[..., 24:40], still[..., 24:40]) > 10


def test_the_edge_of_a_moving_object_is_laid_over_the_background_instant_by_instant():
    """An outline that stayed, over a blurred picture, would keep its edge sharp; one that moves softens it."""
    even = torch.full((1, 3, 96, 96), 180, dtype=torch.uint8)
    moves = torch.stack([torch.linspace(-9, 9, 31), torch.zeros(31)], dim=1)
    passing = {"camera": torch.eye(3).expand(31, 3, 3), "moves": moves, "weights": torch.full((31,), 1 / 31)}
    blurred, still = blur.expose(even, exposure(**passing, waves=disc_of_waves(60)), 64)
    assert torch.equal(blurred, still)  # neither light nor dark comes in at the edge
    # On stripes across the motion the object's inside is even grey, and its edges go over into still stripes.
    stripes = (torch.arange(96) % 6 < 3).to(torch.uint8).expand(1, 3, 96, 96).contiguous() * 200
    blurred, _ = blur.expose(stripes, exposure(**passing, waves=disc_of_waves(60)), 64)
    contrast = blurred[0, 0].unfold(1, 6, 1).std(dim=-1)[0]  # of each six neighbours, a whole period
    inside, edge, outside = contrast[29], contrast[19], contrast[2]
    assert inside < 0.1 * outside
    assert inside + 0.1 < edge < outside - 0.1


def test_the_noise_of_an_exposure_has_the_variance_that_it_is_asked_for():
    grey = torch.full((1, 3, 200, 200), 128, dtype=torch.uint8)
    shown, sharp = blur.expose(grey, exposure(noise=[0.0, 0.0, 0.04, 0.02], seed=5), 200)
    assert (shown - sharp).std().item() == pytest.approx((0.02**2 + 0.04**2 * 128 / 255) ** 0.5, rel=0.03)
    light, _ = blur.expose(grey, exposure(noise=[0.03, 0.01, 0.0, 0.0], seed=5), 200)
    true = (128 / 255) ** 2.2
    assert (blur.to_linear(light) - true).std().item() == pytest.approx((0.01**2 + 0.03**2 * true) ** 0.5, rel=0.03)
    assert (light - shown).abs().max() > 0.01


def test_normal_deviates_are_normal_and_depend_on_their_seed_alone():
    deviates = blur.standard_normal(torch.tensor([1, 2, 2**31 - 1, 1]), (3, 101, 99)).double()
    assert torch.equal(deviates[0], deviates[3])
    for row in deviates[:3]:
        assert row.mean().item() == pytest.approx(0, abs=0.02)
        assert row.std().item() == pytest.approx(1, abs=0.02)
        assert (row**4).mean().item() == pytest.approx(3, abs=0.25)
        assert (row.flatten()[1:] * row.flatten()[:-1]).mean().item() == pytest.approx(0, abs=0.02)
    assert torch.corrcoef(deviates[:3].flatten(1)).fill_diagonal_(0).abs().max() < 0.02


@pytest.mark.parametrize("quality", [30, 60, 80, 92, 100])
@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_jpeg_is_what_pillow_makes_of_the_file(quality, size):
    """Within what separates two correct codecs: roundings of the transform and of chroma."""
    shape = (1, 3, *size)
    coarse = torch.nn.functional.interpolate(
        torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1)), size=size, mode="bicubic"
    )
    grain = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 0.15
    true = ((coarse * 0.85 + grain).clamp(0, 1) * 255).round()
    file = io.BytesIO()
    Image.fromarray(true[0].byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float()
    ours = blur.jpeg(true / 255, torch.tensor([float(quality)])) * 255
    assert ours.shape == shape
    assert torch.allclose(ours, ours.round(), atol=1e-3)
    assert (ours - theirs).abs().mean() < 1
    assert (ours - theirs).square().mean() < 0.25 * (true - theirs).square().mean() + 0.7


def test_the_corner_of_a_crop_decides_where_the_blocks_of_jpeg_lie():
    flat = torch.full((1, 3, 32, 32), 0.5)
    flat[..., 5:, :] = 0.6  # an edge, whose ripples end with their block
    low = torch.tensor([5.0])
    for down in (0, 3, 11):
        rows = blur.jpeg(flat, low, (down, 0))[0, 0, :, 0]
        changed = (rows[5:] - rows[-1]).abs() > 1e-3
        assert not changed[(8 - (5 + down) % 8) :].any()


def test_pictures_of_a_batch_are_saved_each_with_its_own_quality():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    both = blur.jpeg(pictures, torch.tensor([20.0, 95.0]))
    for row, quality in ((0, 20.0), (1, 95.0)):
        assert torch.equal(both[row], blur.jpeg(pictures[row : row + 1], torch.tensor([quality]))[0])


def test_a_batch_of_exposures_gives_what_each_gives_alone():
    path = blur.shake_trajectory(generator(3), length=9.0)
    turning = motion(blur.camera_path(path[::40], roll=path[::40, 0] / 100, focal=300))
    passing = motion(np.tile(np.eye(3), (5, 1, 1))) | {
        "moves": torch.arange(10.0).view(5, 2) - 4,
        "waves": disc_of_waves(40),
    }
    rows = [
        exposure(),
        exposure(kernel=blur.trajectory_kernel(path), gamma=blur.SRGB),
        exposure(**turning, kernel=blur.disc_kernel(1.5), excess=4.0),
        exposure(**passing, noise=[0.02, 0.01, 0.01, 0.0], seed=9),
        exposure(quality=40.0, corner=[3, 9], gamma=1.9),
    ]
    pictures = torch.cat([window(seed=seed) for seed in range(5)])
    blurred, sharp = blur.expose(pictures, blur.stack(rows), 40)
    for row, alone in enumerate(rows):
        blurred_alone, sharp_alone = blur.expose(pictures[row : row + 1], alone, 40)
        assert torch.equal(sharp[row], sharp_alone[0])
        assert levels_apart(blurred[row], blurred_alone[0]) <= 1.01
        assert ((blurred[row] - blurred_alone[0]).abs() > 1e-3).float().mean() < 0.01
        assert row == 0 or levels_apart(blurred[row], sharp[row]) > 3


def test_an_exposure_takes_no_part_that_it_does_not_know():
    with pytest.raises(TypeError, match="unexpected keyword argument 'kernels'"):
        exposure(kernels=1.0)
