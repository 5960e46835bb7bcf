"""Synthetic blur: what is drawn, and that a loader on a CPU and a training device make the same of it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deblur_hub import blur
from tests.train.tiny_runs import photograph, save
from train.data.cache import PictureCache
from train.data.samples import TrainingSet, find_training_data, positions
from train.data.sources import SharpSource, cut
from train.data.synthesis import PendingBlur, Place, apply_blur, check_blur, collate, draw_exposure, made_on_device
from train.recipe import Blur, Data, Frames, Mix, RecipeError, Validation

NOTHING = Blur(none=1.0, noise=0.0)
EVERYTHING = Blur(
    shortest=2.0,
    longest=8.0,
    none=0.1,
    projective=0.5,
    objects=0.4,
    defocus=0.4,
    highlights=0.4,
    gammas=(1.8, 2.4),
    srgb=0.3,
    noise=0.5,
    jpeg=0.3,
)


def drawn(options, seed, *, crop=32, room=20):
    return draw_exposure(options, np.random.default_rng(seed), Place(crop, room, (90, 72), (10.0, -8.0)))


def same(one, other):
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(blur.Exposure))


def test_a_draw_depends_on_nothing_but_its_generator():
    for seed in range(20):
        (one, margin), (other, again) = drawn(EVERYTHING, seed), drawn(EVERYTHING, seed)
        assert same(one, other)
        assert margin == again
    assert not same(drawn(EVERYTHING, 0)[0], drawn(EVERYTHING, 1)[0])


def test_what_has_no_share_never_happens_and_what_has_all_always_does():
    for seed in range(20):
        exposure, margin = drawn(NOTHING, seed)
        assert same(exposure, blur.Exposure.plain())
        assert margin == 0
    happens = {
        "projective": lambda e: (e.camera[:, :, 0, 1] != 0).any() and e.weights.shape[1] > 1,
        "objects": lambda e: e.waves[..., 0].any() and e.moves.any(),
        "defocus": lambda e: e.kernel.shape[-1] > 1 and e.kernel.count_nonzero() > 4,
        "highlights": lambda e: e.excess > 0,
        "srgb": lambda e: e.gamma == blur.SRGB,
        "noise": lambda e: e.noise[0, 2:].any() and not e.noise[0, :2].any(),
        "jpeg": lambda e: e.quality >= 60,
    }
    for key, seen in happens.items():
        options = dataclasses.replace(Blur(none=0.0, noise=0.0, longest=6.0), **{key: 1.0})
        assert all(seen(drawn(options, seed)[0]) for seed in range(10)), key
        assert not any(seen(drawn(dataclasses.replace(options, **{key: 0.0}), seed)[0]) for seed in range(10)) or (
            key == "defocus"  # as spread out as a camera's path
        )
    in_light, _ = drawn(Blur(none=1.0, noise=1.0, noise_in="light"), 0)
    assert in_light.noise[0, :2].any() and not in_light.noise[0, 2:].any()


@pytest.mark.slow
def test_shares_are_those_of_the_recipe():
    options = Blur(none=0.25, projective=0.5, noise=0.4, jpeg=0.2, longest=6.0)
    exposures = [drawn(options, seed)[0] for seed in range(600)]
    turning = sum(e.weights.shape[1] > 1 for e in exposures)
    moving = sum(e.kernel.shape[-1] > 1 for e in exposures) + turning
    assert moving / 600 == pytest.approx(0.75, abs=0.06)
    assert turning / moving == pytest.approx(0.5, abs=0.08)
    assert sum(bool(e.noise.any()) for e in exposures) / 600 == pytest.approx(0.4, abs=0.07)
    assert sum(bool(e.quality > 0) for e in exposures) / 600 == pytest.approx(0.2, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("room", [5, 9, 40])
def test_no_exposure_looks_beyond_its_margin_nor_its_margin_beyond_the_room(room):
    """Whatever lies outside of the margin may be anything."""
    options = dataclasses.replace(
        EVERYTHING, longest=50.0, most_roll=2.0, noise=0.0, highlights=0.0, none=0.0, jpeg=0.0
    )
    kinds = set()
    for seed in range(60):
        exposure, margin = drawn(options, seed, room=room)
        assert 0 < margin <= room
        side = 32 + 2 * room
        noise = torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(seed)).byte()
        rim, other = room - margin, torch.full_like(noise, 255)
        other[..., rim : side - rim, rim : side - rim] = noise[..., rim : side - rim, rim : side - rim]
        apart = (blur.expose(noise, exposure, 32)[0] - blur.expose(other, exposure, 32)[0]).abs()
        assert apart.max() < 1.01 / 255 and (apart > 0).float().mean() < 0.01
        kinds.add((exposure.weights.shape[1] > 1, bool(exposure.waves.any())))
    assert len(kinds) >= 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"jpeg": 1.5}, "data.blur.jpeg is a share and at most 1, not 1.5; set it lower"),
        ({"quality": (0, 90)}, "data.blur.quality must be the least and the most, from 1 to 100, not [0, 90]"),
        ({"quality": (90, 60)}, "data.blur.quality must be the least and the most, from 1 to 100, not [90, 60]"),
        ({"gammas": (2.2,)}, "data.blur.gammas must be the least and the most, from 1 to 4, not [2.2]"),
        ({"focal": 0.0}, "data.blur.focal must be at least 0.1, not 0"),
        ({"most_defocus": 0.1}, "data.blur.most_defocus must be at least 0.5, not 0.1"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_a_sentence(change, sentence):
    with pytest.raises(RecipeError) as error:
        check_blur(dataclasses.replace(Blur(), **change))
    assert str(error.value) == sentence


def test_a_share_above_one_stops_a_run_before_its_first_step(start, tmp_path):
    assert start("compact", "data.blur.objects=2.0") == (
        2,
        "train: data.blur.objects is a share and at most 1, not 2; set it lower",
    )
    assert not (tmp_path / "run").exists()


DATA = Data(
    crop=32, batch_size=4, epoch_length=16, mix=Mix(0.3, 0.2, 0.5), frames=Frames(3, 5), blur=EVERYTHING, workers=0
)


def batches(root, cache, *, on_device, workers=0):
    samples = TrainingSet(
        find_training_data(root, DATA, Validation(scenes=("held",))), DATA, seed=0, cache=cache, on_device=on_device
    )
    sampler = positions(range(16), batch_size=4, rank=0, world=1)
    return list(DataLoader(samples, batch_sampler=sampler, num_workers=workers, collate_fn=collate))


@pytest.mark.slow
def test_the_loader_and_the_device_make_the_same_pictures(pictures, tmp_path):
    """But for a value that rounds to the next level, and for the block of JPEG that such a value lies in."""
    cache = PictureCache(tmp_path / "cache")
    in_loader, left_open = (batches(pictures, cache, on_device=where) for where in (False, True))
    assert all(not isinstance(batch, dict) for batch in in_loader)
    assert sum(isinstance(batch, dict) for batch in left_open) > 8
    apart = []
    for here, there in zip(in_loader, left_open, strict=True):
        there = apply_blur(there, "cpu")
        assert torch.equal(here[1], there[1])  # sharp ones, in their order
        assert [picture.dtype for picture in there] == [torch.float32] * 2
        apart.append((here[0] - there[0]).abs() * 127.5)
    apart = torch.cat(apart)
    assert (apart.flatten(1).max(dim=1).values <= 1.01).float().mean() > 0.9
    assert (apart > 0.5).float().mean() < 0.002


@pytest.mark.slow
def test_batches_that_wait_for_the_device_are_equal_with_0_and_2_workers(pictures, tmp_path):
    cache = PictureCache(tmp_path / "cache")
    for alone, two in zip(*(batches(pictures, cache, on_device=True, workers=count) for count in (0, 2)), strict=True):
        one, other = apply_blur(alone, "cpu"), apply_blur(two, "cpu")
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_a_window_that_waits_is_8_bits_and_no_larger_than_its_blur_needs(tmp_path):
    cache = PictureCache(tmp_path / "c")
    source = SharpSource([save(photograph(0, (100, 90)), tmp_path / "a.png")], NOTHING, 32, cache)
    sample = cut(source.draw(0, 32, np.random.default_rng(0)), cache, 32)
    assert isinstance(sample, PendingBlur)
    assert (sample.window.dtype, sample.window.shape) == (torch.uint8, (3, 32, 32))


def test_blur_is_made_where_the_recipe_says():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [made_on_device(where, cpu) for where in ("auto", "loader", "device")] == [False, False, True]
    assert [made_on_device(where, gpu) for where in ("auto", "loader", "device")] == [True, False, True]


@pytest.mark.slow
def test_a_run_trains_with_blur_made_on_the_device(start, tmp_path):
    changes = ["data.blur.projective=0.5", "data.blur.jpeg=0.5", "data.mix.sharp=3.0", "validation.every=99"]
    losses = []
    for where in ("loader", "device"):
        assert start("compact", f"data.synthesis={where}", *changes, output=tmp_path / where, steps=3)[0] == 0
        state = torch.load(tmp_path / where / "checkpoints" / "last.pt", weights_only=True)
        losses.append(torch.cat([tensor.flatten().float() for tensor in state["generator"].values()]))
    assert torch.allclose(*losses, atol=2e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_pictures_that_a_cpu_makes(pictures, tmp_path):
    cache = PictureCache(tmp_path / "cache")
    for batch in batches(pictures, cache, on_device=True):
        for here, there in zip(apply_blur(batch, "cpu"), apply_blur(batch, "cuda"), strict=True):
            assert ((here - there.cpu()).abs() > 1.5 / 127.5).float().mean() < 0.01
