"""The pool of samples: what it draws, how often, the same however it is run; its file; what is kept beside samples."""

import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from deblur_hub.networks import build_network
from deblur_hub.restoration.restore import restore
from tests.conftest import awake
from tests.train.tiny_runs import EVEN, ROOT, TINY, arguments, last_of, same_state, tensors_of
from train.__main__ import main
from train.data.pool import Pool
from train.recipe import RecipeError, load_recipe
from train.trainer import Trainer

SIDE, CROP, DEPTH, REUSE = 24, 16, 8, 4


class Source:
    """Samples that can be told apart: the green of each is its generation, the red its place; counts what it makes."""

    def __init__(self, places=range(4)) -> None:
        self.places, self.made = places, []

    def __call__(self, numbers):
        for number in numbers:
            self.made.append(number)
            sharp = torch.zeros(len(self.places), 3, SIDE, SIDE, dtype=torch.uint8)
            sharp[:, 1] = number % 256
            sharp[:, 0] = torch.tensor(list(self.places))[:, None, None]
            sharp[:, 2] = torch.randint(256, (SIDE, SIDE), generator=torch.Generator().manual_seed(number))
            values = sharp.float() / 127.5 - 1
            yield values, values


def pool(source, file=None, places=None, **options) -> Pool:
    settings = {"side": SIDE, "crop": CROP, "depth": DEPTH, "reuse": REUSE, "seed": 3} | options
    return Pool(source, file=file, device=torch.device("cpu"), places=places or source.places, **settings)


def drawn(batch: tuple[torch.Tensor, ...]) -> list[tuple[int, int]]:
    """(place, generation) of each crop: the two colours that are even all over, in any order."""
    found = []
    for picture in ((batch[0] + 1) * 127.5).round().int():
        even = sorted(int(colour[0, 0]) for colour in picture if colour.unique().numel() == 1)
        found.append(tuple(even))
    return found


@pytest.mark.slow
def test_samples_are_used_as_often_as_asked_and_then_replaced():
    source = Source()
    batches = pool(source)
    span, uses = [], {}
    for number in range(400):
        for place, crop in enumerate(drawn(next(batches))):
            generation = crop[1] if crop[0] == place else crop[0]
            uses[generation] = uses.get(generation, 0) + 1
            span.append(number // REUSE + 1 - generation)
    assert min(span) >= 0 and max(span) <= DEPTH
    assert source.made == list(range(len(source.made)))
    steady = [uses.get(generation, 0) / 4 for generation in range(10, 90)]
    assert np.mean(steady) == pytest.approx(REUSE, rel=0.03)


def test_crops_are_parts_of_samples_turned_mirrored_and_with_their_colours_in_any_order():
    source = Source(range(1))
    batches = pool(source, depth=1, reuse=10_000)
    ((sample, _),) = [next(Source(range(1))(iter([0])))]
    crops = [next(batches)[0][0] for _ in range(60)]
    blue = sample[0, 2]
    windows = blue.unfold(0, CROP, 1).unfold(1, CROP, 1).reshape(-1, CROP, CROP)
    orders, symmetries, places = set(), set(), set()
    for crop in crops:
        found = False
        for flip in (False, True):
            for turns in range(4):
                back = crop.rot90(-turns, (-2, -1))
                back = back.flip(-1) if flip else back
                for channel in range(3):
                    hits = (windows == back[channel]).all(dim=2).all(dim=1).nonzero()
                    if len(hits):
                        found = True
                        orders.add(channel), symmetries.add((flip, turns)), places.add(int(hits[0]))
        assert found
    assert len(orders) == 3 and len(symmetries) == 8 and len(places) > 20


def test_what_the_frozen_part_makes_lies_beside_its_sample_and_is_cut_like_it():
    calls = []

    def frozen(blurred, number):
        calls.append(number)
        return blurred * 0.5

    batches = pool(Source(), frozen=frozen)
    for _ in range(20):
        blurred, sharp, kept = next(batches)
        assert torch.equal(blurred, sharp)
        assert torch.allclose(kept, blurred * 0.5, atol=1e-3)
    assert len(calls) == len(set(calls)) == 5  # of 20 batches, each generation once


def test_two_processes_draw_what_one_draws():
    whole = pool(Source())
    parts = [pool(Source(range(first, first + 2))) for first in (0, 2)]
    for _ in range(30):
        joined = torch.cat([next(part)[0] for part in parts])
        assert torch.equal(next(whole)[0], joined)


def test_a_pool_goes_on_from_its_file_and_without_it(tmp_path):
    source = Source()
    batches = pool(source, tmp_path / "pool.bin")
    for _ in range(50):
        next(batches)
    expected = [next(batches)[0] for _ in range(20)]
    for file, most in ((tmp_path / "pool.bin", 5 + DEPTH), (None, 5 + 2 * DEPTH)):
        again = Source()
        resumed = pool(again, file, first_batch=50)
        assert all(torch.equal(next(resumed)[0], crop) for crop in expected)
        assert len(again.made) <= most


def test_a_file_whose_samples_are_damaged_is_made_again_where_it_is(tmp_path):
    file = tmp_path / "pool.bin"
    first = pool(Source(), file, first_batch=100)
    expected = next(first)[0]
    del first
    content = bytearray(file.read_bytes())
    content[16 * DEPTH + 1000] ^= 255
    file.write_bytes(content)
    source = Source()
    assert torch.equal(next(pool(source, file, first_batch=100))[0], expected)
    assert len([number for number in source.made if number < 26]) == 1


def test_a_pool_that_begins_in_mid_run_waits_for_no_more_than_one_at_the_start():
    source = Source()
    next(pool(source, first_batch=1000, oldest=1000 // REUSE))
    assert source.made == [250]


def test_the_disk_must_have_room(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    with pytest.raises(RecipeError, match=r"the pool takes 0.0 GiB, for which the disk has no room to spare; free"):
        pool(Source(), tmp_path / "pool.bin")
    assert not (tmp_path / "pool.bin").exists()


# --- in runs -----------------------------------------------------------------------------------------------------

POOLED = ("data.pool=16", "data.reuse=3", "data.pool_side=40")


@pytest.mark.slow
def test_a_resumed_run_with_a_pool_is_an_uninterrupted_one(start, tmp_path):
    assert start("compact", *POOLED, *EVEN, steps=9, output=tmp_path / "whole")[0] == 0
    assert start("compact", *POOLED, *EVEN, steps=4, output=tmp_path / "parts")[0] == 0
    assert start("compact", *POOLED, *EVEN, steps=9, output=tmp_path / "parts", options=("--resume",))[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "parts"))
    assert not list(tmp_path.glob("*/pool-*.bin"))


@pytest.mark.slow
def test_a_refiner_learns_and_the_rest_stays_as_it_is(pictures, tmp_path, capfd):
    networks = ("network.width=4", "network.refiner_widths=[8,8]", "network.refiner_blocks=[1,1]")
    changes = [change for change in (*TINY, *POOLED, *networks) if "network.widths" not in change]
    changes = [change for change in changes if "network.blocks" not in change]
    command = ["--recipe", "maxim-light", "--data", str(pictures), "--output", str(tmp_path / "run"), "--steps", "5"]
    command += ["--cache", str(tmp_path / "cache"), "--threads", "1"]
    assert main(command + [part for change in changes for part in ("--set", change)]) == 0
    assert "in the frozen part" in capfd.readouterr().out
    torch.manual_seed(0)
    begun = build_network("maxim-light", **load_recipe("maxim-light", networks).network).state_dict()
    ended = tensors_of(last_of(tmp_path / "run"))
    changed = {key for key, tensor in begun.items() if not torch.equal(tensor, ended[f"generator.{key}"])}
    assert changed and all(key.startswith("refiners.") for key in changed)


@pytest.mark.slow
def test_the_full_size_steps_lie_beside_generations_in_turn():
    accelerator = Accelerator(cpu=True)
    recipe = load_recipe(
        "maxim-refined", ["network.width=4", "network.refiner_widths=[8,8]", "network.refiner_blocks=[1,1]"]
    )
    network = awake(build_network(recipe.generator, **recipe.network))
    frozen = Trainer(recipe, network, None, accelerator).frozen
    blurred = torch.rand(1, 3, 64, 64) * 2 - 1
    balanced, best = (frozen(blurred, number) for number in (4, 5))
    assert not torch.allclose(balanced, best, atol=1e-2)
    for number, kept, step in ((6, balanced, 0), (7, best, 1)):
        assert torch.equal(frozen(blurred, number), kept)
        assert torch.equal(kept, restore(network, blurred, precision="float32", quality=network.unrefined[step]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("data.pool=3",), "data.pool 3 is smaller than a batch of 4; set it larger, or to 0 for none"),
        ((*POOLED, "data.pool_side=30"), "data.pool_side 30 is smaller than data.crop 32; set it larger"),
        ((*POOLED, "data.reuse=0"), "data.reuse must be at least 1"),
        (("schedule.freeze_restorer=true",), "schedule.freeze_restorer trains a refiner only, and 'compact'"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused(start, changes, sentence):
    code, words = start("compact", *changes)
    assert code == 2 and sentence in words


@pytest.mark.slow
def test_a_run_killed_in_mid_pool_goes_on_as_if_it_had_not_been(start, warm, pictures, tmp_path):
    """A real kill -9, between any two writes."""
    changes = ("compact", *POOLED, *EVEN, "checkpoint_every=5", "validation.every=100000")
    killed = warm.start(
        "train/",
        *arguments(*changes, data=pictures, output=tmp_path / "killed", cache=tmp_path / "cache", steps=100_000),
        folder=ROOT,
        ACCELERATE_USE_CPU="true",
    )
    while not list((tmp_path / "killed" / "checkpoints").glob("step-*.pt")):
        assert killed.poll() is None
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    assert (tmp_path / "killed" / "pool-0.bin").exists()
    steps = last_of(tmp_path / "killed")["progress"]["step"] + 15
    assert start(*changes, output=tmp_path / "killed", steps=steps, options=["--resume"])[0] == 0
    assert start(*changes, output=tmp_path / "whole", steps=steps)[0] == 0
    assert same_state(last_of(tmp_path / "whole"), last_of(tmp_path / "killed"))
