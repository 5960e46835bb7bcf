"""Tiles leave no trace, memory that runs out is lived with, and every pixel is written once."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deblur_hub import machine
from deblur_hub.errors import RestorationError
from deblur_hub.networks import build_network
from deblur_hub.networks.base import Generator, gathered, reflect
from deblur_hub.restoration import memory
from deblur_hub.restoration import restore as restoration
from deblur_hub.restoration.restore import choose_tile, dtype_for, restore
from deblur_hub.restoration.strips import restore_strips
from deblur_hub.restoration.tiles import cut, within
from deblur_hub.restoration.windowed import MOST_WORKERS, workers_within
from tests.conftest import TINY, awake

CPU = torch.device("cpu")
ONE_STEP = 1 / 255 * 2  # of a picture in [-1, 1]


def picture(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Wrapped(Generator):
    """A real network, and what was asked of it."""

    def __init__(self, network: Generator) -> None:
        super().__init__()
        self.network = network
        self.size_multiple, self.receptive_field = network.size_multiple, network.receptive_field
        self.values_per_pixel = network.values_per_pixel
        self.sizes: list[tuple[int, int]] = []

    def compute(self, blurred):
        self.sizes.append(tuple(blurred.shape[-2:]))
        return self.network(blurred)


class Short(Wrapped):
    """Runs out of memory where there are more pixels than `limit`."""

    def __init__(self, network: Generator, limit: int, error: Exception) -> None:
        super().__init__(network)
        self.limit, self.error = limit, error

    def compute(self, blurred):
        output = super().compute(blurred)
        if blurred.shape[-1] * blurred.shape[-2] > self.limit:
            raise self.error
        return output


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 1000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:83] data. DefaultCPUAllocator: not enough memory: you tried to "
        "allocate 1000 bytes."
    ),
]


# --- tiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 333), (333, 1), (17, 1031), (251, 199), (128, 192), (65, 129)]
)
@pytest.mark.parametrize("tile", [64, 101])
def test_a_tiled_result_equals_the_whole_frame(compact, height, width, tile):
    blurred = picture(height, width)
    whole, tiled = restore(compact, blurred, tile=0), restore(compact, blurred, tile=tile)
    assert (whole - blurred).abs().max() > 0.1
    assert (tiled - whole).abs().max() < ONE_STEP / 100


@pytest.mark.slow
def test_a_tiled_photograph_equals_the_whole_one_with_the_released_size_of_network(photo):
    network = awake(build_network("compact"))
    whole, tiled = restore(network, photo, tile=0), restore(network, photo, tile=256)
    assert (whole - photo).abs().max() > 0.1
    assert (tiled - whole).abs().max() < ONE_STEP / 100


def test_a_tiled_result_equals_the_whole_frame_in_bfloat16(compact):
    blurred = picture(73, 133)
    whole, tiled = (restore(compact, blurred, tile=tile, precision="bfloat16") for tile in (0, 64))
    assert (tiled - whole).abs().max() <= ONE_STEP
    assert 0 < (whole - restore(compact, blurred, precision="float32")).abs().max() < 0.2


def test_a_margin_any_narrower_would_leave_a_trace(compact):
    """So that the tests above can fail."""
    blurred = picture(128, 192)
    whole = restore(compact, blurred, tile=0)
    compact.receptive_field = 2
    assert (restore(compact, blurred, tile=64) - whole).abs().max() > ONE_STEP


def test_a_network_that_cannot_be_tiled_gets_the_frame_whole(resnet):
    network = Wrapped(resnet)  # says nothing of stages
    blurred = picture(66, 130)
    assert torch.equal(restore(network, blurred, tile=64), restore(network, blurred, tile=0))
    assert network.sizes == [(68, 132)] * 2


def test_pictures_of_a_batch_are_restored_as_if_alone(compact):
    pictures = picture(40, 70, count=3)
    batched = restore(compact, pictures, tile=64)
    assert torch.equal(batched, torch.cat([restore(compact, one[None], tile=64) for one in pictures]))


@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.one_of(st.just(0), st.integers(64, 800)),
    st.integers(0, 90),
    st.integers(1, 32),
)
def test_tiles_write_every_pixel_once_and_read_as_far_as_the_margin_goes(height, width, tile, margin, multiple):
    margin = -(-margin // multiple) * multiple
    written = np.zeros((height, width), int)
    for part in cut((height, width), tile, margin, multiple):
        target = tuple(within(own, length) for own, length in ((part.own_rows, height), (part.own_columns, width)))
        written[target] += 1
        for length, read, inner, out in (
            (height, part.rows, part.inner[0], target[0]),
            (width, part.columns, part.inner[1], target[1]),
        ):
            frame = -(-length // multiple) * multiple
            assert len(read) % multiple == 0 and read.start % multiple == 0
            assert read[inner.start] == out.start and read[inner.stop - 1] == out.stop - 1
            assert read.start == max(0, out.start - margin)
            assert read.stop >= min(frame, out.stop + margin) and read.stop <= frame
            assert out.stop - out.start <= max(tile, multiple) or tile == 0
    assert (written == 1).all()


def test_progress_counts_every_tile_of_every_picture_up_to_the_end(compact):
    seen = []
    restore(compact, picture(130, 200, count=2), tile=64, progress=lambda *count: seen.append(count))
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]
    assert len(seen) == 2 * len(list(cut((130, 200), 64, 0, compact.size_multiple)))


def test_the_result_stays_within_the_range_of_pictures(compact):
    compact.head.bias.data += 3
    restored = restore(compact, picture(20, 20))
    assert restored.max() == 1 and restored.min() >= -1


# --- reflection --------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), *[st.integers(0, 30)] * 4)
@example(1, 1, 5, 5, 5, 5)
def test_what_lies_beyond_a_picture_is_its_reflection(height, width, above, below, before, behind):
    numbers = np.arange(3 * height * width, dtype=np.float32).reshape(1, 3, height, width)
    expected = np.pad(numbers, [(0, 0), (0, 0), (above, below), (before, behind)], mode="reflect")
    found = reflect(torch.from_numpy(numbers), range(-above, height + below), range(-before, width + behind))
    assert np.array_equal(found.numpy(), expected)


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "linux", "windows"])
def test_where_memory_runs_out_smaller_tiles_give_the_same_picture(compact, error):
    blurred = picture(300, 421)
    network = Short(compact, limit=150 * 150, error=error)
    assert (restore(network, blurred) - restore(compact, blurred, tile=0)).abs().max() < ONE_STEP / 100
    areas = [height * width for height, width in network.sizes]
    failed = [area for area in areas if area > network.limit]
    assert failed == sorted(failed, reverse=True) and 1 < len(failed) < 4 and areas[-1] <= network.limit


def test_a_tile_that_was_larger_than_the_picture_is_not_tried_again(compact):
    network = Short(compact, limit=150 * 150, error=OUT_OF_MEMORY[0])
    restore(network, picture(200, 200), tile=4096)
    assert network.sizes.count((200, 200)) == 1


def test_where_memory_does_not_suffice_for_the_smallest_tile_one_sentence_says_so(compact):
    with pytest.raises(
        RestorationError,
        match=r"^a picture of 400x300 pixels does not fit in the memory of cpu; free "
        r"some, take a smaller picture or the model 'compact'$",
    ):
        restore(Short(compact, limit=0, error=OUT_OF_MEMORY[1]), picture(300, 400))


def test_a_network_that_cannot_be_tiled_gives_up_at_once_where_memory_runs_out(resnet):
    network = Short(resnet, limit=0, error=OUT_OF_MEMORY[0])
    with pytest.raises(RestorationError):
        restore(network, picture(300, 400))
    assert len(network.sizes) == 1


def test_other_errors_of_a_network_are_not_taken_for_a_lack_of_memory(compact):
    with pytest.raises(RuntimeError, match="of another kind"):
        restore(Short(compact, limit=0, error=RuntimeError("of another kind")), picture(100, 100))


@settings(max_examples=50)
@given(st.integers(20, 45), st.integers(1, 8000), st.integers(1, 8000))
def test_a_tile_takes_no_more_than_its_share_of_the_memory(log_memory, height, width):
    network = build_network("compact", **TINY)
    side = choose_tile(network, (height, width), 2**log_memory, torch.float32)
    read = min(side + 2 * network.receptive_field, max(height, width)) if side else max(height, width)
    cost = read**2 * network.values_per_pixel * 4
    assert side == restoration.SMALLEST_TILE or cost <= 2**log_memory
    assert side <= restoration.LARGEST_TILE and (side > 0 or max(height, width) <= restoration.LARGEST_TILE)


def test_less_memory_means_smaller_tiles_and_the_same_picture(compact, monkeypatch):
    blurred = picture(260, 390)
    whole = restore(compact, blurred, tile=0)
    network, counts = Wrapped(compact), []
    for megabytes in (10_000, 10, 1):
        monkeypatch.setattr(restoration, "free_memory", lambda device, held=megabytes: held * 2**20)
        network.sizes.clear()
        assert (restore(network, blurred) - whole).abs().max() < ONE_STEP / 100
        counts.append(len(network.sizes))
    assert counts[0] == 1 and counts == sorted(counts) and counts[-1] > counts[0]


def test_a_budget_of_memory_is_kept_to_and_a_wrong_one_refused(compact):
    blurred, network = picture(260, 390), Wrapped(compact)
    whole = restore(network, blurred, memory_budget=1e10)
    assert len(network.sizes) == 1
    network.sizes.clear()
    cut = restore(network, blurred, memory_budget=1e6)
    assert len(network.sizes) > 1 and (cut - whole).abs().max() < ONE_STEP / 100
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(RestorationError, match="memory budget"):
            restore(compact, blurred, memory_budget=wrong)


def test_windows_side_by_side_are_as_many_as_the_budget_holds():
    network = build_network("maxim", width=4, stages=1)
    each = network.window_values(network.best) * 4
    found = [workers_within(network, network.best, share * each, torch.float32) for share in (0.1, 1, 3.5, 100)]
    assert found == [1, 1, 3, MOST_WORKERS]


def test_the_free_memory_of_this_machine_is_a_sensible_number():
    assert 2**24 < memory.free_memory(CPU) < 2**50


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_is_held_to_the_tightest_of_its_control_groups(version, tmp_path, monkeypatch):
    root = tmp_path / "memory" if version == 1 else tmp_path
    limit, used, cached = memory.FILES[version]
    for folder, most in ((root, 2**63 if version == 1 else "max"), (root / "a", 900), (root / "a/b", 2000)):
        folder.mkdir(exist_ok=True)
        (folder / limit).write_text(f"{most}\n")
        (folder / used).write_text("500\n")
        (folder / "memory.stat").write_text(f"anon 7\n{cached} 100\n")
    own = tmp_path / "own"
    own.write_text("9:name=systemd:/\n4:memory:/a/b\n0::/\n" if version == 1 else "0::/a/b\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", own)
    assert memory.free_memory(CPU) == 900 - 500 + 100
    own.write_text("0::/\n")
    assert memory.free_in_cgroups() is None


# --- strips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [TINY, {"widths": [8], "blocks": [2], "unshuffle": 1}, {}], ids=str)
@pytest.mark.parametrize(
    ("height", "width", "rows"), [(150, 70, 8), (150, 70, 40), (1, 90, 1), (97, 3, 1), (64, 48, 64)]
)
def test_strips_give_what_the_whole_frame_gives(options, height, width, rows):
    network = awake(build_network("compact", **options))
    with torch.inference_mode():
        network.head.weight.mul_(0.1)  # that little is cut off at black or white
    blurred, seen = picture(height, width), []
    read = partial(reflect, blurred)
    settings = {"device": CPU, "dtype": torch.float32, "progress": lambda *count: seen.append(count)}
    with torch.inference_mode():
        pieces = list(restore_strips(network, (height, width), read, pixels=rows * width, **settings))
    whole = restore(network, blurred, tile=0, precision="float32")
    assert (whole - blurred).abs().max() > 0.1
    assert (gathered(pieces, blurred) - whole).abs().max() < ONE_STEP / 100
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
    assert len(pieces) > 1 or rows >= height


def test_compact_takes_a_large_picture_in_strips_in_either_precision(compact, monkeypatch):
    monkeypatch.setattr(restoration, "WHOLE_PIXELS", 100 * 100)
    monkeypatch.setattr(restoration, "STRIP_PIXELS", (0, 40 * 120))
    blurred, settings = picture(130, 120), ("float32", "bfloat16")
    whole = [restore(compact, blurred, tile=0, precision=precision) for precision in settings]
    monkeypatch.setattr(restoration, "restore_tiles", None)  # is not called any more
    for precision, expected in zip(settings, whole, strict=True):
        assert (restore(compact, blurred, precision=precision) - expected).abs().max() < ONE_STEP / 2


# --- precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has_it", "gain", "expected"),
    [(True, 3.0, torch.bfloat16), (True, 0.6, torch.float32), (False, 3.0, torch.float32)],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_it_in_hardware_and_gains(
    monkeypatch, tmp_path, has_it, gain, expected
):
    """Some processors have the instructions of AVX-512 for it, and are slower with them."""
    monkeypatch.setenv("DEBLUR_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "FIGURES", {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    monkeypatch.setattr(restoration, "bfloat16_gain", lambda: gain)
    assert dtype_for("auto", CPU) == expected


def test_the_gain_of_bfloat16_is_measured():
    assert 0.01 < restoration.bfloat16_gain() < 100


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("float16", "precision 'float16' needs a GPU; take 'bfloat16' or 'float32' on a CPU"),
        ("int8", "precision 'int8' is not known; take one of auto, float32, bfloat16, float16"),
    ],
)
def test_a_precision_that_is_not_to_be_had_is_one_sentence(compact, precision, message):
    with pytest.raises(RestorationError) as error:
        restore(compact, picture(20, 20), precision=precision)
    assert str(error.value) == message


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float16, 0.03), (torch.bfloat16, 0.2)])
def test_weights_of_another_type_compute_in_their_own(compact, dtype, tolerance):
    blurred = picture(30, 41)
    expected = restore(compact, blurred, precision="float32")
    found = restore(compact.to(dtype), blurred)
    assert found.dtype == torch.float32 and (found - expected).abs().max() < tolerance
    with pytest.raises(RestorationError, match="needs weights in float32"):
        restore(compact, blurred, precision="float32")


# --- what is no picture ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 20, 20), (1, 4, 20, 20), (1, 3, 0, 20), (0, 3, 20, 20)])
def test_what_is_no_batch_of_pictures_is_refused(compact, shape):
    with pytest.raises(ValueError, match="pictures must be"):
        restore(compact, torch.zeros(shape))


@pytest.mark.parametrize("tile", [-64, 1, 63])
def test_a_tile_too_small_to_be_of_use_is_refused_in_one_sentence(compact, tile):
    with pytest.raises(RestorationError, match=f"^a tile of {tile} pixels is too small; give at least 64, or 0"):
        restore(compact, picture(100, 100), tile=tile)


def test_the_picture_that_came_in_is_left_as_it_was(compact):
    blurred = picture(50, 90)
    before = blurred.clone()
    restore(compact, blurred, tile=64)
    assert torch.equal(blurred, before)
