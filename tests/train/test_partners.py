"""Pairs whose pictures do not belong to each other are found before anything is learnt from them."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deblur_hub.datasets import find_pairs
from deblur_hub.errors import DatasetError
from train.data.cache import PictureCache
from train.data.partners import check_partners, correlation


def photograph(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
    return small.resize((160, 120), Image.Resampling.BICUBIC)


def pairs(root, change, changed: int = 10):
    for side in ("blur", "sharp"):
        (root / side).mkdir(parents=True)
    for number in range(10):
        sharp = photograph(number)
        blurred = sharp.filter(ImageFilter.BoxBlur(6))
        sharp.save(root / "sharp" / f"{number}.png")
        (change(blurred, number) if number < changed else blurred).save(root / "blur" / f"{number}.png")
    return find_pairs(root), PictureCache(root / "cache")


WRONG = {
    "turned": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_180),
    "shuffled": lambda _, number: photograph((number + 1) % 10),
    "white": lambda picture, _: Image.new("RGB", picture.size, "white"),
    "inverted": lambda picture, _: picture.point(lambda value: 255 - value),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_set_of_pictures_that_do_not_belong_together_is_refused(kind, tmp_path):
    with pytest.raises(DatasetError, match=r"of \d+ of 10 pairs do not show the same: .*blur/\d.png and .*sharp"):
        check_partners(*pairs(tmp_path, WRONG[kind]))


def test_a_few_of_them_are_named_the_worst_first(tmp_path):
    (note,) = check_partners(*pairs(tmp_path, WRONG["inverted"], 2))
    assert note.startswith("the blurry and sharp pictures of 2 of 10 pairs do not show the same: ")
    assert "blur/0.png and" in note and "blur/1.png and" in note


def test_true_partners_pass_without_a_word(tmp_path):
    assert check_partners(*pairs(tmp_path, lambda picture, _: picture.filter(ImageFilter.BoxBlur(9)))) == ()


def test_correlation_is_that_of_the_pictures_whatever_their_brightness():
    picture = np.asarray(photograph(0))
    assert correlation(picture, picture // 2 + 20) == pytest.approx(1, abs=1e-3)
    assert correlation(picture, 255 - picture) == pytest.approx(-1, abs=1e-3)
    assert correlation(picture, np.full_like(picture, 7)) == 0
    assert correlation(picture[:3, :5], picture[:3, :5]) == pytest.approx(1)
