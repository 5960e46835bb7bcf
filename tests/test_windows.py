"""Windows: a plan by the size alone, weights that add up to one, progress, an end within moments, small memory."""

import itertools
import threading
import time
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_hub.networks import build_network
from deblur_hub.networks.base import Quality, gathered, reflect
from deblur_hub.networks.windows import WindowedGenerator, Windows
from deblur_hub.restoration.restore import restore, restore_pieces
from tests.conftest import awake

WINDOWS = Windows(side=512, overlap=64, multiple=64)


class Same(WindowedGenerator):
    """Gives every window back as it is, and remembers its size."""

    windows = Windows(side=128, overlap=32, multiple=64)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.qualities = {"draft": Quality(1, halved=True), "balanced": Quality(1)}
        self.sizes = []

    def compute(self, blurred):
        return blurred + self.weight

    def compute_window(self, blurred, depth):
        self.sizes.append(tuple(blurred.shape[-2:]))
        return self.compute(blurred)


class Darker(Same):
    """Takes each window's own mean off: what it gives depends on what it sees."""

    def compute(self, blurred):
        return blurred - blurred.mean((2, 3), keepdim=True) * 0.5


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000))
def test_the_windows_of_a_side_cover_it_with_enough_overlap_and_weights_that_add_up_to_one(length):
    spans = list(WINDOWS.spans(length))
    total = torch.zeros(length)
    for span in spans:
        assert len(span.read) % 64 == 0 and len(span.read) <= 512
        assert set(span.own) <= set(range(length)) and set(span.own) == set(span.read) & set(range(length))
        weights = span.weights()
        assert (weights > 0).all() and (weights <= 1).all()
        total[span.place] += weights
    assert torch.allclose(total, torch.ones(length), atol=1e-5)
    sides = [len(span.read) for span in spans]
    assert sides == sorted(sides, reverse=True) and sides[0] - sides[-1] <= (64 if len(spans) > 3 else 0)
    for before, after in itertools.pairwise(spans):
        assert before.read.stop - after.read.start >= 64


def test_a_frame_of_720p_is_six_windows():
    plan = WINDOWS.plan((720, 1280))
    assert len(plan) == 6 and {(len(one.rows.read), len(one.columns.read)) for one in plan} == {(448, 512)}


def test_photos_of_all_sizes_take_about_as_much_work_a_pixel():
    twice = WINDOWS.doubled()  # of quality "fast"
    for width, height in ((1224, 816), (4000, 3000), (6000, 4000), (8192, 6144), (11648, 8736)):
        computed = sum(len(one.rows.read) * len(one.columns.read) for one in twice.plan((height, width)))
        assert 1.26 < computed / (height * width) < 1.38


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (129, 257), (300, 100)])
def test_what_a_network_leaves_alone_comes_back_as_it_was(size):
    blurred = torch.rand(2, 3, *size) * 2 - 1
    for quality in (None, *Same().qualities.values()):
        assert torch.allclose(restore(Same(), blurred, quality=quality), blurred, atol=1e-5)


def test_forward_and_restore_are_the_same_whatever_the_tile():
    blurred = torch.rand(1, 3, 200, 300) * 2 - 1
    network = Darker().eval()
    with torch.no_grad():
        expected = network(blurred).clamp(-1, 1)
    for tile in (None, 0, 64, 2048):
        assert torch.allclose(restore(network, blurred, tile=tile), expected, atol=1e-6)


def test_the_draft_works_at_half_size():
    network = Same()
    restore(network, torch.zeros(1, 3, 130, 250), quality=network.qualities["draft"])
    assert set(network.sizes) == {(128, 128)} and len(network.sizes) == 1


@pytest.fixture
def maxim():
    network = awake(build_network("maxim", width=4, stages=1))
    for name, parameter in network.named_parameters():
        if "outputs" in name:
            parameter.data *= 0.01  # that nothing is cut off at black or white
    return network


@pytest.mark.slow
@pytest.mark.parametrize("size", [(100, 60), (100, 600)])
def test_pictures_restored_side_by_side_are_what_each_is_alone(maxim, size):
    blurred, told = torch.rand(3, 3, *size) * 2 - 1, []
    read, progress = partial(reflect, blurred), lambda done, total: told.append(done / total)
    together = gathered(restore_pieces(maxim, size, read, precision="float32", progress=progress), blurred)
    assert torch.equal(together, restore(maxim, blurred, precision="float32"))
    assert told == sorted(told) and told[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(100, 60), (700, 900)])
def test_the_result_is_the_same_with_one_thread_and_with_three(maxim, size):
    blurred = torch.rand(1, 3, *size) * 2 - 1
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(restore(maxim, blurred, precision="float32"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(*found, atol=1e-6)
    assert (found[0] - blurred).abs().max() > 0.01


@pytest.mark.slow
def test_progress_moves_in_small_steps_in_the_caller_s_thread(maxim):
    told = []
    restore(
        maxim,
        torch.zeros(1, 3, 700, 900),
        precision="float32",
        progress=lambda done, total: told.append((threading.current_thread(), time.perf_counter(), done / total)),
    )
    assert {thread for thread, _, _ in told} == {threading.current_thread()}
    shares = [0.0, *(share for _, _, share in told)]
    assert shares == sorted(shares) and shares[-1] == 1
    steps = itertools.pairwise(told)
    assert all(after[2] - before[2] <= 0.02 or after[1] - before[1] <= 1 for before, after in steps)


@pytest.mark.slow
def test_what_progress_raises_ends_the_work_and_passes_on(maxim):
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    others = set(threading.enumerate())
    started = time.perf_counter()
    restore(maxim, torch.zeros(1, 3, 200, 200), precision="float32")
    one_window = time.perf_counter() - started
    started = time.perf_counter()
    with pytest.raises(Enough):
        restore(maxim, torch.zeros(1, 3, 3000, 3000), precision="float32", progress=stop)
    assert time.perf_counter() - started < 3 + 10 * one_window  # of some fifty windows, each larger
    assert set(threading.enumerate()) <= others


def test_a_window_ends_between_two_pieces_of_a_layer(maxim, monkeypatch):
    """Who cancels a photo at the best quality waits for no block of a large window, which takes a second."""
    from deblur_hub.restoration.fused import maxim as fused

    class Enough(Exception):
        pass

    def tick(work: float) -> None:
        told.append(work)
        if len(told) == 20:
            raise Enough

    told: list[float] = []
    monkeypatch.setattr(fused, "PIECE", 2**12)
    folded = fused.FusedMaxim(maxim, torch.float32)
    folded.prepare(1)
    with pytest.raises(Enough):
        folded.restore(torch.zeros(1, 3, 128, 128), 1, tick)
    assert sum(told) == 0  # not even the first block was done


def test_a_batch_on_an_accelerator_is_what_single_windows_are(monkeypatch):
    """The way of a GPU, taken on a CPU: batches through the network itself."""
    from deblur_hub.restoration import windowed

    blurred = torch.rand(1, 3, 300, 200) * 2 - 1
    network = Darker()
    work = windowed.WorkDone(None)
    run = windowed.runner(network, network.best, 4, device=torch.device("cpu"), dtype=torch.float32, work=work)
    assert torch.allclose(network.restore(blurred, network.best, run), network.restore(blurred, network.best))
