"""Protocols are data: a set is scored under the one it belongs to, or under none of them."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image
from skimage import data

from deblur_hub.datasets import Pair, find_pairs
from deblur_hub.errors import DatasetError, DeblurHubError
from deblur_hub.evaluation import alignment
from deblur_hub.evaluation.protocols import PROTOCOLS, check_protocol, find_protocol, prepare, resized
from deblur_hub.metrics import psnr


@pytest.fixture
def gopro_like(tmp_path):
    """1111 pairs of 1280x720, which are one picture under many names."""
    for folder in ("blur", "sharp"):
        (tmp_path / folder).mkdir()
    first = tmp_path / "first.png"
    Image.new("RGB", (1280, 720)).save(first)
    for number in range(1111):
        for folder in ("blur", "sharp"):
            (tmp_path / folder / f"{number:04}.png").hardlink_to(first)
    return tmp_path


def pairs_of(folder, count: int = 2, size: tuple[int, int] = (40, 30)) -> list[Pair]:
    path = folder / "one.png"
    Image.new("RGB", size).save(path)
    return [Pair(path, path, f"scene{number}") for number in range(count)]


def test_the_table_says_of_the_published_sets_what_their_papers_do():
    counts = {name: (protocol.count, protocol.size) for name, protocol in PROTOCOLS.items()}
    assert counts == {
        "gopro": (1111, (1280, 720)),
        "gopro-gamma": (1111, (1280, 720)),
        "hide": (2025, (1280, 720)),
        "realblur-j": (980, None),
        "realblur-r": (980, None),
        "resized-256": (None, None),
        "pairs": (None, None),
    }
    assert {name for name, protocol in PROTOCOLS.items() if protocol.align} == {"realblur-j", "realblur-r"}
    assert PROTOCOLS["gopro-gamma"].blur_folder == "blur_gamma"
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert bool(protocol.comparable_with) == (name != "pairs")
        assert all(
            sentence.partition(":")[0].split(" and ")[0] in protocol.metrics for sentence in protocol.comparable_with
        )
        json.dumps(dataclasses.asdict(protocol))  # as results keep it


def test_gopro_has_two_ways_of_blurring_and_each_its_name():
    assert find_protocol("gopro") == PROTOCOLS["gopro"]
    assert find_protocol("gopro", blur="gamma") == PROTOCOLS["gopro-gamma"] == find_protocol("gopro-gamma")
    assert find_protocol("pairs", blur="gamma").blur_folder == "blur_gamma"
    with pytest.raises(DatasetError, match="the set of 'hide' has only one way of blurring; omit 'gamma'"):
        find_protocol("hide", blur="gamma")


def test_a_name_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(DatasetError, match=r"no protocol is called 'gopo' \(did you mean 'gopro'\?\); take gopro, "):
        find_protocol("gopo")
    with pytest.raises(DatasetError, match="'linea' is not a way to blur; take linear or gamma"):
        find_protocol("gopro", blur="linea")


@pytest.mark.slow
def test_gopro_is_known_by_its_count_and_its_sizes(gopro_like):
    pairs = find_pairs(gopro_like)
    check_protocol(PROTOCOLS["gopro"], pairs)
    odd = gopro_like / "odd.png"
    Image.new("RGB", (1280, 721)).save(odd)
    with pytest.raises(DatasetError, match=r"not the set of 'gopro': .*odd.png has 1280x721 pixels, not 1280x720"):
        check_protocol(PROTOCOLS["gopro"], [*pairs[:-1], Pair(odd, odd, "")])


@pytest.mark.parametrize("name", ["gopro", "gopro-gamma", "hide", "realblur-j", "realblur-r"])
def test_another_set_is_refused(name, tmp_path):
    pairs = pairs_of(tmp_path)
    count = PROTOCOLS[name].count
    with pytest.raises(DatasetError, match=rf"'{name}': it has 2 pairs, not {count}; use --protocol pairs for it"):
        check_protocol(PROTOCOLS[name], pairs)


@pytest.mark.parametrize("name", ["pairs", "resized-256"])
def test_any_set_goes_but_an_empty_one(name, tmp_path):
    check_protocol(PROTOCOLS[name], pairs_of(tmp_path))
    with pytest.raises(DatasetError, match="no pairs to score"):
        check_protocol(PROTOCOLS[name], [])


def test_without_opencv_realblur_is_refused_before_scoring_starts(tmp_path, monkeypatch):
    pairs = pairs_of(tmp_path, count=980)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DeblurHubError, match=r"needs OpenCV; install it with: pip install 'deblur-hub\[eval\]'"):
        check_protocol(PROTOCOLS["realblur-j"], pairs)


def test_pairs_are_scored_as_they_are():
    sharp = data.chelsea()[:50, :60]
    found = prepare(PROTOCOLS["pairs"], sharp[::-1], sharp)
    assert (found[0] == sharp[::-1]).all() and (found[1] == sharp).all() and found[2] is None
    with pytest.raises(DatasetError, match="has 60x49 pixels, its sharp partner 60x50"):
        prepare(PROTOCOLS["pairs"], sharp[1:], sharp)


def test_the_reports_protocol_resizes_both_pictures_as_pillow_does_and_a_picture_of_that_size_not_again():
    protocol, sharp = PROTOCOLS["resized-256"], data.chelsea()
    small = resized(protocol, sharp)
    assert small.shape == (256, 256, 3) and small.dtype == np.uint8
    assert (small == np.asarray(Image.fromarray(sharp).resize((256, 256)))).all()
    restored, partner, mask = prepare(protocol, small, sharp)
    assert (restored == small).all() and (partner == small).all() and mask is None
    assert resized(PROTOCOLS["pairs"], sharp) is sharp


def test_resizing_flatters_a_blurred_picture():
    sharp = data.astronaut()
    blurred = np.mean([np.roll(sharp, shift, 1) for shift in range(-4, 5)], axis=0).astype(np.uint8)
    scores = [psnr(*prepare(PROTOCOLS[name], blurred, sharp)[:2], data_range=255) for name in ("pairs", "resized-256")]
    assert scores[1] > scores[0] + 1


def test_realblur_is_aligned_and_masked():
    pytest.importorskip("cv2")
    sharp = data.chelsea()[:120, :150]
    restored = np.roll(sharp, 2, 1)
    aligned, partner, mask = prepare(PROTOCOLS["realblur-j"], restored, sharp)
    expected = alignment.align(restored, sharp)
    assert (aligned == expected.restored).all() and (partner == expected.sharp).all() and (mask == expected.mask).all()
    assert aligned.dtype == np.float64 and mask.dtype == bool and mask.shape == (120, 150, 1)
    assert 0.95 < mask.mean() < 1 and PROTOCOLS["realblur-j"].metrics == ("psnr", "ssim")
