"""Training samples: a pure function of seed and position; what is wrong with a folder is said before the first step."""

import multiprocessing
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from deblur_hub import blur
from deblur_hub.errors import DatasetError
from tests.train.tiny_runs import arguments, make_frames, make_pairs, photograph, save
from train.__main__ import main
from train.data.cache import PictureCache
from train.data.samples import TrainingData, TrainingSet, find_training_data, positions
from train.data.sources import SharpSource, cut, draw_symmetry, turned
from train.data.synthesis import apply_blur, collate
from train.recipe import Blur, Data, Frames, Mix, RecipeError, Validation

DATA = Data(
    crop=32,
    batch_size=4,
    epoch_length=12,
    candidates=2,
    mix=Mix(0.4, 0.3, 0.3),
    frames=Frames(3, 5),
    blur=Blur(longest=6.0),
)


@pytest.fixture
def samples(pictures, tmp_path):
    def make(seed=0, data=DATA, root=pictures, scenes=("held",)):
        return TrainingSet(
            find_training_data(root, data, Validation(scenes=scenes)),
            data,
            seed=seed,
            cache=PictureCache(tmp_path / "cache", resize=data.resize),
        )

    return make


def batches(samples, *, workers=0, rank=0, world=1, first=0, count=9, size=4):
    sampler = positions(range(first, count), batch_size=size, rank=rank, world=world)
    return list(DataLoader(samples, batch_sampler=sampler, num_workers=workers))


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_a_sample_is_a_pure_function_of_seed_and_position(samples):
    one, other, third = samples(), samples(), samples(seed=1)
    positions = list(range(30))
    forwards = [one[position] for position in positions]
    backwards = [other[position] for position in reversed(positions)][::-1]
    assert all(map(equal, forwards, backwards))
    assert all(map(equal, forwards, [one[position] for position in positions]))
    assert not any(map(equal, forwards, [third[position] for position in positions]))
    assert len({sample[1].numpy().tobytes() for sample in forwards}) == len(forwards)  # nor is one like another


@pytest.mark.slow
def test_batches_are_equal_with_0_and_2_workers_and_from_any_start(samples):
    alone, two = batches(samples()), batches(samples(), workers=2)
    assert len(alone) == 9
    assert all(map(equal, alone, two))
    assert all(map(equal, alone[5:], batches(samples(), workers=2, first=5)))


def test_the_batches_of_two_ranks_are_disjoint_and_together_the_whole(samples):
    whole = batches(samples(), count=5)
    parts = [batches(samples(), rank=rank, world=2, count=5) for rank in (0, 1)]
    for number, batch in enumerate(whole):
        joined = [torch.cat([parts[rank][number][column] for rank in (0, 1)]) for column in (0, 1)]
        assert equal(batch, joined)
        assert not equal(parts[0][number], parts[1][number])


@pytest.mark.slow
def test_samples_are_crops_in_the_range_of_networks_and_of_8_bits(samples):
    for blurred, sharp in (samples()[position] for position in range(24)):
        for picture in (blurred, sharp):
            assert (picture.shape, picture.dtype) == ((3, 32, 32), torch.float32)
            assert picture.min() >= -1
            assert picture.max() <= 1
            levels = (picture + 1) * 127.5
            assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_each_item_of_a_source_comes_once_before_any_comes_again(samples):
    made = samples()
    for number, source in enumerate(made.sources):
        drawn = [int(item) for epoch in range(9) for which, item in made.plan(epoch) if which == number]
        by_epoch = [sorted(int(item) for which, item in made.plan(epoch) if which == number) for epoch in range(9)]
        assert len(drawn) > 2 * len(source.items)
        counts = Counter()
        for items in by_epoch:  # within an epoch the order is shuffled, so laps are seen at its ends
            counts.update(items)
            assert max(counts.values()) - min(counts[item] for item in range(len(source.items))) <= 1


def test_sources_are_drawn_from_by_their_weights_and_absent_ones_drop_out(samples, tmp_path):
    made = samples()
    counts = Counter(int(which) for epoch in range(4) for which, _ in made.plan(epoch))
    assert [counts[number] for number in range(3)] == [24, 12, 12]  # of 48, rounded in each epoch of 12
    make_pairs(tmp_path / "pairs", 3, seed=0)
    alone = samples(root=tmp_path / "pairs")
    assert len(alone.sources) == 1
    assert {int(which) for which, _ in alone.plan(0)} == {0}


def test_pairs_are_cut_at_one_place_and_turned_alike(samples, pictures, tmp_path):
    data = Data(crop=32, epoch_length=12, mix=Mix(1.0, 0.0, 0.0))
    for number in range(3):
        picture = photograph(number)
        save(picture, tmp_path / "data" / "sharp" / f"{number}.png")
        save(255 - picture, tmp_path / "data" / "blur" / f"{number}.png")
    made = samples(data=data, root=tmp_path / "data")
    for blurred, sharp in (made[position] for position in range(20)):
        assert torch.allclose(blurred, -sharp, atol=1e-6)


def test_augmentation_gives_the_eight_symmetries_of_a_square():
    picture = torch.arange(12.0).view(3, 2, 2)
    seen = Counter()
    for seed in range(400):
        seen[tuple(turned(picture, *draw_symmetry(np.random.default_rng(seed))).flatten().tolist())] += 1
    assert len(seen) == 8
    assert min(seen.values()) > 20


def test_frames_are_averaged_around_their_middle_one(samples, tmp_path):
    make_frames(tmp_path / "data" / "240fps" / "run", 5, seed=3)
    data = Data(crop=64, epoch_length=6, mix=Mix(0.0, 1.0, 0.0), frames=Frames(least=5, most=5, gammas=(1.0,)))
    folder = tmp_path / "data" / "240fps" / "run"
    frames = [np.asarray(Image.open(folder / f"{number:03}.png"), float) for number in range(5)]
    average, middle = np.floor(np.mean(frames, axis=0) + 0.5), frames[2]
    for blurred, sharp in (samples(data=data, root=tmp_path / "data")[position] for position in range(6)):
        windows = [(average[:, left : left + 64], middle[:, left : left + 64]) for left in range(9)]
        turned = [symmetries(np.concatenate(window, axis=-1)) for window in windows]
        found = ((torch.cat([blurred, sharp]).permute(1, 2, 0).numpy() + 1) * 127.5).round()
        assert any(np.abs(found - candidate).max() <= 1 for group in turned for candidate in group)


def symmetries(picture):
    return [np.rot90(flipped, turns) for flipped in (picture, picture[:, ::-1]) for turns in range(4)]


def drawn_from(source, size, seed):
    pending = cut(source.draw(0, size, np.random.default_rng(seed)), source.cache, size)
    return [picture[0] for picture in apply_blur(collate([pending]), "cpu")]


def test_a_symmetric_blur_leaves_the_middle_of_a_spot_where_it_is(tmp_path, monkeypatch):
    """So the sharp crop lies exactly under the blurred one."""
    kernel = torch.zeros(7, 7)
    kernel[3, 1:6] = 0.2
    monkeypatch.setattr(blur, "trajectory_kernel", lambda _trajectory: kernel)
    spot = np.zeros((64, 64, 3), np.uint8)
    spot[30:33, 30:33] = 200
    path = save(spot, tmp_path / "spot.png")
    options = Blur(shortest=2.0, longest=4.0, none=0.0, noise=0.0)
    source = SharpSource([path], options, 48, PictureCache(tmp_path / "cache"))
    for seed in range(5):
        blurred, sharp = drawn_from(source, 48, seed)
        light, true_light = (blur.to_linear((picture + 1) / 2)[0].double() for picture in (blurred, sharp))
        assert not torch.equal(light, true_light)
        assert torch.allclose(light.sum(), true_light.sum(), rtol=0.02)
        for axis in (0, 1):
            at = torch.arange(48.0).double()
            centres = [(picture.sum(1 - axis) * at).sum() / picture.sum() for picture in (light, true_light)]
            assert centres[0] == pytest.approx(centres[1].item(), abs=0.02)


@pytest.mark.slow
def test_the_longest_blur_fits_even_the_smallest_picture_that_is_taken(tmp_path):
    path = save(photograph(0, (52, 52)), tmp_path / "small.png")
    options = Blur(shortest=5.0, longest=40.0, none=0.0, noise=1.0)
    source = SharpSource([path], options, 32, PictureCache(tmp_path / "cache"))
    for seed in range(60):
        blurred, sharp = drawn_from(source, 32, seed)
        assert blurred.shape == sharp.shape == (3, 32, 32)


def test_pictures_are_scaled_before_they_are_cut_and_measured(samples, tmp_path):
    data = Data(crop=32, epoch_length=4, resize=(40, 48), mix=Mix(1.0, 0.0, 0.0))
    make_pairs(tmp_path / "data", 2, seed=0, size=(20, 24))  # too small as they are
    made = samples(data=data, root=tmp_path / "data")
    assert made[0][0].shape == (3, 32, 32)
    assert made.sources[0].cache(made.sources[0].items[0].sharp).shape == (48, 40, 3)
    with pytest.raises(DatasetError, match="20x24 pixels are too few for a crop of 32"):
        samples(data=Data(crop=32), root=tmp_path / "data")


def test_held_out_scenes_never_appear_in_training(pictures, tmp_path):
    make_pairs(tmp_path / "gopro" / "seen", 3, seed=0)
    make_pairs(tmp_path / "gopro" / "kept", 2, seed=10)
    make_frames(tmp_path / "240fps" / "seen", 5, seed=20)
    make_frames(tmp_path / "240fps" / "kept", 5, seed=30)
    save(photograph(1), tmp_path / "sharp" / "seen" / "1.png")
    save(photograph(2), tmp_path / "sharp" / "kept" / "2.png")
    training_data = find_training_data(tmp_path, DATA, Validation(scenes=("kept",)))
    assert [pair.name for pair in training_data.held_out] == ["gopro/kept/000.png", "gopro/kept/001.png"]
    frames = [path for run in training_data.frames for path in run]
    trained = [*(pair.sharp for pair in training_data.pairs), *frames, *training_data.sharp]
    assert len(trained) == 3 + 5 + 1
    assert not any("kept" in path.parts for path in trained)


@pytest.mark.parametrize(("count", "asked", "kept"), [(30, 8, 3), (30, 2, 2), (4, 8, 1), (1, 8, 0), (30, 0, 0)])
def test_where_no_scene_is_named_a_tenth_of_the_pairs_at_most_is_held_out(tmp_path, count, asked, kept):
    make_pairs(tmp_path, count, seed=0, size=(12, 12))
    training_data = find_training_data(tmp_path, DATA, Validation(pairs=asked))
    assert len(training_data.held_out) == kept
    assert len(training_data.pairs) == count - kept
    assert not set(training_data.pairs) & set(training_data.held_out)


def test_sharp_halves_of_pairs_are_no_sharp_photographs(pictures):
    training_data = find_training_data(pictures, DATA, Validation(scenes=("held",)))
    assert [path.parent for path in training_data.sharp] == [pictures / "sharp"] * 3
    assert (len(training_data.pairs), len(training_data.held_out), [len(run) for run in training_data.frames]) == (
        5,
        3,
        [9],
    )


def nothing_written(tmp_path):
    return not (tmp_path / "run").exists()


def test_a_picture_without_its_partner_is_named(start, tmp_path):
    make_pairs(tmp_path / "data", 3, seed=0)
    (tmp_path / "data" / "sharp" / "001.png").unlink()
    assert start("compact", data=tmp_path / "data") == (
        2,
        f"train: {tmp_path}/data/blur/001.png: has no partner of that name in {tmp_path}/data/sharp; "
        "add it or take this one out",
    )
    assert nothing_written(tmp_path)


def test_partners_of_two_sizes_are_named(start, tmp_path):
    make_pairs(tmp_path / "data", 3, seed=0)
    save(photograph(1, (70, 64)), tmp_path / "data" / "sharp" / "001.png")
    assert start("compact", data=tmp_path / "data") == (
        2,
        f"train: {tmp_path}/data/blur/001.png: 72x64 pixels, but its sharp partner {tmp_path}/data/sharp/001.png "
        "has 70x64; partners must have one size",
    )
    assert nothing_written(tmp_path)


@pytest.mark.parametrize("kind", ["pair", "frame", "sharp"])
def test_a_picture_that_is_too_small_is_named_before_the_first_step(start, tmp_path, kind):
    data, small = tmp_path / "data", photograph(9, (40, 30))
    make_pairs(data / "pairs" / "held", 2, seed=0)
    make_pairs(data / "pairs" / "first", 2, seed=5)
    if kind == "pair":
        save(small, data / "pairs" / "first" / "sharp" / "001.png")
        path = save(small, data / "pairs" / "first" / "blur" / "001.png")
    elif kind == "frame":
        for number in range(5):
            save(small, data / "240fps" / f"{number}.png")
        path = data / "240fps" / "0.png"
    else:
        path = save(photograph(9, (41, 60)), data / "sharp" / "wide.png")  # enough for a crop, not for its blur
    code, words = start("compact", data=data)
    assert code == 2
    assert words.startswith(f"train: {path}: ")
    assert "pixels are too few for a crop of 32" in words
    assert words.endswith("; take it out or set a smaller data.crop, or data.pool_side of a pool")
    assert nothing_written(tmp_path)


def test_a_frame_of_another_size_is_named_before_the_first_step(start, tmp_path):
    make_frames(tmp_path / "data" / "240fps", 6, seed=0)
    odd = save(photograph(1, (80, 64)), tmp_path / "data" / "240fps" / "003.png")
    assert start("compact", data=tmp_path / "data") == (
        2,
        f"train: {odd}: is of another size than 000.png; frames of a run must have one",
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_decoded_is_named_in_one_sentence(start, tmp_path, workers):
    for number in range(3):
        path = save(photograph(number), tmp_path / "data" / "sharp" / f"{number}.png")
    path.write_bytes(path.read_bytes()[:2000])  # its header is whole
    code, words = start("compact", f"data.workers={workers}", data=tmp_path / "data", steps=9)
    assert code == 2
    assert words == f"train: {path}: truncated; replace it or take it out"
    assert words.endswith("; replace it or take it out")
    assert len(words.splitlines()) == 1
    assert multiprocessing.active_children() == []  # gone with the run, and not with the program
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_text_file_among_the_pictures_is_named_before_the_first_step(start, tmp_path):
    make_pairs(tmp_path / "data", 3, seed=0)
    (tmp_path / "data" / "blur" / "002.png").write_text("not a picture")
    code, words = start("compact", data=tmp_path / "data")
    assert code == 2
    assert words == (
        f"train: {tmp_path}/data/blur/002.png: not a picture that can be read (none of the formats that Pillow "
        "knows); replace it or take it out"
    )
    assert nothing_written(tmp_path)


def test_a_folder_that_is_missing_or_holds_nothing_is_named(start, tmp_path):
    assert start("compact", data=tmp_path / "none") == (
        2,
        f"train: {tmp_path}/none: no such folder; give the folder that holds the pictures",
    )
    (tmp_path / "empty").mkdir()
    code, words = start("compact", data=tmp_path / "empty")
    assert code == 2
    assert words.startswith(f"train: {tmp_path}/empty: nothing to train on; it needs folders 'blur' and 'sharp'")
    assert nothing_written(tmp_path)


def test_pictures_of_a_kind_that_the_recipe_does_not_draw_from_are_not_enough(start, tmp_path):
    save(photograph(0), tmp_path / "data" / "sharp" / "0.png")
    code, words = start("compact", "data.mix.sharp=0", data=tmp_path / "data")
    assert code == 2
    assert "none of the kinds of pictures that the recipe draws from is in the data folder" in words


def test_a_cache_that_cannot_be_written_is_named(start, tmp_path):
    (tmp_path / "cache").write_text("a file")
    code, words = start("compact")
    assert code == 2
    assert "the cache of decoded pictures cannot be written" in words
    assert words.endswith("name another folder with --cache")


def test_a_picture_that_changed_or_is_wanted_in_another_size_is_decoded_anew(tmp_path):
    cache = PictureCache(tmp_path / "cache")
    path = save(photograph(0), tmp_path / "x.png")
    assert np.array_equal(cache(path), photograph(0))
    save(photograph(1, (100, 64)), path)
    assert np.array_equal(cache(path), photograph(1, (100, 64)))
    assert PictureCache(tmp_path / "cache", resize=(50, 32))(path).shape == (32, 50, 3)


def test_an_empty_material_is_refused():
    with pytest.raises(DatasetError, match="none of the kinds of pictures"):
        TrainingSet(TrainingData([], [], [], []), DATA, seed=0, cache=None)


def test_sets_are_mixed_by_their_weights(samples, tmp_path):
    root = tmp_path / "data"
    make_pairs(root / "train" / "GOPR0001_11_00", 4, seed=0)
    make_pairs(root / "mine" / "a", 3, seed=10)
    make_pairs(root / "other", 2, seed=20)
    make_pairs(root / "held", 1, seed=30)
    data = Data(crop=32, epoch_length=12, sets={"GoPro": 3, "mine": 1.0})
    made = samples(data=data, root=root)
    assert [len(source.items) for source in made.sources] == [4, 3]
    counts = Counter(int(which) for epoch in range(4) for which, _ in made.plan(epoch))
    assert [counts[number] for number in (0, 1)] == [36, 12]
    assert {pair.scene for source in made.sources for pair in source.items} == {"train/GOPR0001_11_00", "mine/a"}
    with pytest.raises(DatasetError) as error:
        samples(data=Data(crop=32, sets={"REDS": 1.0}), root=root)
    assert str(error.value).endswith("of that name (there are: GoPro, mine, other, train)")
    with pytest.raises(RecipeError, match=r"data\.sets\.mine is a weight and must be a number above 0, not 'much'"):
        samples(data=Data(crop=32, sets={"mine": "much"}), root=root)


def test_the_test_part_of_a_set_is_not_trained_on_unless_it_is_all_there_is(tmp_path):
    for part, count in (("train/GOPR0001_11_00", 4), ("test/GOPR0002_11_00", 3)):
        make_pairs(tmp_path / part, count, seed=0)
    save(photograph(5), tmp_path / "test" / "sharp" / "x.png")
    make_frames(tmp_path / "val" / "240fps", 5, seed=1)
    training_data = find_training_data(tmp_path, DATA, Validation(pairs=1))
    assert {pair.scene for pair in (*training_data.pairs, *training_data.held_out)} == {"train/GOPR0001_11_00"}
    assert (training_data.sharp, training_data.frames) == ([], [])
    assert "3 pairs of 'test' are not trained on" in training_data.notes
    asked = find_training_data(tmp_path, DATA, Validation(scenes=("test",)))
    assert (len(asked.pairs), {pair.split for pair in asked.held_out}) == (4, {"test"})
    assert len(find_training_data(tmp_path / "test", DATA, Validation(pairs=0)).pairs) == 3


def test_a_folder_of_photographs_is_enough(tmp_path):
    paths = [save(photograph(number), tmp_path / "album" / f"{number}.png") for number in range(2)]
    assert find_training_data(tmp_path / "album", DATA, Validation()).sharp == paths
    with pytest.raises(DatasetError, match="nothing to train on"):
        find_training_data(tmp_path, DATA, Validation())  # whose pictures may be of any kind
    for number in range(2):
        save(photograph(number), tmp_path / "sharp" / "deeper" / f"{number}.png")
    assert len(find_training_data(tmp_path / "sharp", DATA, Validation()).sharp) == 2


def test_what_a_set_lacks_is_said_when_a_run_starts(start, tmp_path, capfd):
    make_pairs(tmp_path / "data" / "train" / "GOPR0001_11_00", 4, seed=0)
    code = main(
        arguments("compact", data=tmp_path / "data", output=tmp_path / "run", cache=tmp_path / "cache", steps=1)
    )
    assert code == 0
    assert "\nGoPro: 4 of the 2103 pairs of 'train' are here; say so beside any score\n" in capfd.readouterr().out


def test_folders_of_pairs_may_have_other_names(start, tmp_path):
    make_pairs(tmp_path / "data", 3, seed=0)
    (tmp_path / "data" / "blur").rename(tmp_path / "data" / "input")
    (tmp_path / "data" / "sharp").rename(tmp_path / "data" / "target")
    names = ("data.blur_folder=input", "data.sharp_folder=target")
    assert start("compact", *names, data=tmp_path / "data", steps=1)[0] == 0
    (tmp_path / "data" / "target" / "001.png").unlink()
    code, words = start("compact", *names, data=tmp_path / "data", output=tmp_path / "other")
    assert (code, words.split(": ")[1]) == (2, f"{tmp_path}/data/input/001.png")


READER = """
import sys
from pathlib import Path
from train.data.cache import PictureCache
cache = PictureCache(Path(sys.argv[1]))
total = 0
for path in sorted(Path(sys.argv[2]).glob("*.png")):
    total += int(cache(path).sum())
print(total)
"""


@pytest.mark.slow
def test_two_processes_may_build_the_cache_at_once(warm, tmp_path):
    program = tmp_path / "reader.py"
    program.write_text(READER)
    total = 0
    for number in range(24):
        total += int(photograph(number, (200, 160)).sum())
        save(photograph(number, (200, 160)), tmp_path / "data" / f"{number:02}.png")
    readers = [warm.start(program, tmp_path / "cache", tmp_path / "data", folder=tmp_path) for _ in range(2)]
    for reader in readers:
        said, complaint = reader.communicate(timeout=120)
        assert (said.strip(), complaint) == (str(total), "")
    files = list((tmp_path / "cache").iterdir())
    assert len(files) == 24
    assert {path.suffix for path in files} == {".npy"}
    assert isinstance(PictureCache(tmp_path / "cache")(tmp_path / "data" / "00.png"), np.memmap)


def test_a_disk_without_room_to_spare_is_left_alone(tmp_path, monkeypatch):
    path = save(photograph(0), tmp_path / "a.png")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(10**12, 10**12, 2**30))
    with pytest.warns(UserWarning, match="has under 2 GiB to spare"):
        picture = PictureCache(tmp_path / "cache")(path)
    assert np.array_equal(picture, photograph(0))
    assert list((tmp_path / "cache").iterdir()) == []
