"""Pictures kept on the training device: the same samples as from the disk, cut and blurred where they lie."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.train.test_synthesis import DATA
from tests.train.tiny_runs import last_of, photograph, save, tensors_of
from train.data import device_pictures
from train.data.cache import PictureCache
from train.data.device_pictures import DevicePictures, Window
from train.data.samples import TrainingSet, find_training_data, positions
from train.data.sources import turned
from train.data.synthesis import apply_blur, collate
from train.recipe import Mix, RecipeError, Validation

CPU = torch.device("cpu")


@pytest.fixture
def on_device(tmp_path) -> DevicePictures:
    paths = [save(photograph(number, (40 + number, 50)), tmp_path / f"{number}.png") for number in range(3)]
    return DevicePictures(paths, PictureCache(tmp_path / "cache"), CPU)


def test_a_window_is_what_the_picture_has_there_in_each_of_the_eight_symmetries(on_device):
    windows = [Window(3, 5 + turns, 16, flip, turns) for flip in (False, True) for turns in range(4)]
    found = on_device.windows(torch.tensor([2] * 8), torch.tensor(windows), 16)
    picture = torch.from_numpy(photograph(2, (42, 50))).permute(2, 0, 1)
    for square, window in zip(found, windows, strict=True):
        wanted = picture[:, window.top : window.top + 16, window.left : window.left + 16]
        assert torch.equal(square, turned(wanted, window.flip, window.turns))
    assert len({square.numpy().tobytes() for square in found}) == 8


def test_a_smaller_window_lies_in_the_middle_with_the_picture_around_it(on_device):
    small, corner = Window(10, 20, 8, False, 1), Window(0, 33, 8, True, 0)
    found = on_device.windows(torch.tensor([0, 1]), torch.tensor([small, corner]), 12)
    first, second = (torch.from_numpy(photograph(n, (40 + n, 50))).permute(2, 0, 1) for n in (0, 1))
    assert torch.equal(found[0], turned(first[:, 8:20, 18:30], False, 1))
    assert torch.equal(found[1][:, 2:10, 2:10], second[:, :8, 33:].flip(-1))
    assert torch.equal(found[1][:, 0], found[1][:, 2])  # beyond the border it repeats


def drawn(root, cache, mix, **where):
    data = dataclasses.replace(DATA, mix=mix)
    samples = TrainingSet(
        find_training_data(root, data, Validation(scenes=("held",))), data, seed=0, cache=cache, **where
    )
    sampler = positions(range(12), batch_size=4, rank=0, world=1)
    collated = (
        (lambda batch: device_pictures.collate(batch, data.crop, samples.numbers)) if samples.numbers else collate
    )
    return samples, list(DataLoader(samples, batch_sampler=sampler, collate_fn=collated))


@pytest.mark.parametrize(
    ("mix", "most"), [(Mix(1, 0, 0), 0.0), (Mix(0, 1, 0), 1.01), (Mix(0, 0, 1), 1.01), (Mix(0.4, 0.3, 0.3), 1.01)]
)
def test_samples_are_those_that_the_loader_makes_from_the_disk(pictures, tmp_path, mix, most):
    """What is averaged or exposed but for a value that rounds to the next level, which differs among processors."""
    cache = PictureCache(tmp_path / "cache")
    _, from_disk = drawn(pictures, cache, mix, on_device=True)
    samples, placed = drawn(pictures, cache, mix, resident=True)
    kept = DevicePictures(samples.paths, cache, CPU)
    for here, there in zip(from_disk, placed, strict=True):
        assert sum(tensor.numel() for tensor in there.values()) < here_size(here) / 4
        (blurred, sharp), (other_blurred, other_sharp) = apply_blur(here, "cpu"), kept.crops(there)
        assert torch.equal(sharp, other_sharp)
        apart = (blurred - other_blurred).abs() * 127.5
        assert apart.max() <= most and (apart > 0.5).float().mean() < 0.002


def here_size(batch) -> int:
    return sum(tensor.numel() for tensor in (batch.values() if isinstance(batch, dict) else batch))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_learns_the_same_from_pictures_on_the_device(start, tmp_path, workers):
    changes = [f"data.workers={workers}", "data.synthesis=device", "data.mix.frames=0.0", "validation.every=99"]
    for where in ("disk", "device"):
        assert start("compact", f"data.pictures={where}", *changes, output=tmp_path / where, steps=4)[0] == 0
    one, other = (tensors_of(last_of(tmp_path / where)) for where in ("disk", "device"))
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        assert np.allclose(tensor, other[key], atol=1e-5), key


def test_pictures_without_room_on_the_device_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 2**30, 8 * 2**30))
    with pytest.raises(RecipeError) as refusal:
        device_pictures.require_memory(3 * 2**30, torch.device("cuda"))
    assert str(refusal.value) == (
        'the pictures take 3.0 GiB, too much of the 4.0 GiB that are free on cuda; set data.pictures = "disk"'
    )
    device_pictures.require_memory(2**30, torch.device("cuda"))


def test_pictures_on_the_device_are_not_blurred_in_the_loader(start):
    code, words = start("compact", "data.pictures=device", "data.synthesis=loader")
    assert code == 2 and "leaves the loader no pictures to blur" in words
