"""Photos whose blur is known are called by its name, or "unsure"; those with nothing to see in them are "unsure"."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from deblur_hub.blur import (
    add_sensor_noise,
    convolve,
    disc_kernel,
    jpeg,
    steady_trajectory,
    to_display,
    to_linear,
    trajectory_kernel,
)
from deblur_hub.metrics import blur_kind
from deblur_hub.pictures import read
from train.study import blur_kinds

EXAMPLES = Path(__file__).parents[1] / "space/examples"
ASTRONAUT = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 127.5 - 1
SHAKE = trajectory_kernel(steady_trajectory(np.random.default_rng(0), length=15))


def blurred(picture, kernel):
    return to_display(convolve(to_linear((picture + 1) / 2), kernel)) * 2 - 1


def test_a_sharp_photo_is_sharp():
    assert blur_kind(ASTRONAUT).kind == "sharp"


@pytest.mark.parametrize("name", ["banner", "cup", "shop"])
def test_a_photo_out_of_focus_is_told_from_a_shaken_one(name):
    photo = read(EXAMPLES / f"{name}.jpg")[0]
    assert blur_kind(blurred(photo, disc_kernel(3))).kind == "defocus"
    assert blur_kind(blurred(photo, SHAKE)).kind == "motion"


@pytest.mark.parametrize("shot", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("quality", [50, 90])
def test_noise_and_jpeg_do_not_make_a_shaken_photo_sharp(shot, quality):
    noisy = add_sensor_noise((blurred(ASTRONAUT, SHAKE) + 1) / 2, np.random.default_rng(0), shot=shot, read=shot / 3)
    assert blur_kind(jpeg(noisy, torch.tensor([quality])) * 2 - 1).kind in ("motion", "unsure")


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (127, 300), (300, 127), (256, 256)])
def test_a_flat_or_tiny_photo_and_noise_alone_leave_it_unsure(size):
    assert blur_kind(torch.zeros(1, 3, *size)).kind == "unsure"
    assert blur_kind(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1).kind == "unsure"


def test_a_grey_photo_in_one_channel_or_three_gets_one_answer():
    grey = ASTRONAUT[:, :1]
    one, three = blur_kind(grey), blur_kind(grey.expand(1, 3, -1, -1))
    assert one.kind == three.kind == "sharp" and one.sharp == pytest.approx(three.sharp, abs=1e-3)


def test_several_photos_at_once_are_refused():
    with pytest.raises(ValueError, match="one picture"):
        blur_kind(torch.zeros(2, 3, 256, 256))


def test_the_study_separates_what_can_be_separated_and_counts_every_picture():
    rows = np.array([[0.0, 1], [1, 1], [3, 1], [4, 1]])
    assert ((rows @ blur_kinds.logistic(rows[2:], rows[:2]) > 0) == [False, False, True, True]).all()
    found = [
        blur_kinds.Case(blur_kinds.SHARP, 0.0, ASTRONAUT),
        blur_kinds.Case(blur_kinds.SHAKEN, 9.0, -ASTRONAUT[..., :9]),
    ]
    assert [line.split("|")[2:-1] for line in blur_kinds.table(iter(found)).replace(" ", "").splitlines()[2:]] == [
        ["1", "100.0", "0.0", "0.0", "0.0"],
        ["1", "0.0", "0.0", "0.0", "100.0"],
    ]
