"""Many files: the steps overlap, what is wrong with one costs itself, and a run that was ended goes on where it was."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurGenerator, PictureError
from deblur_hub.batch import Journals, grouped, pipeline, restore_files
from deblur_hub.batch.sizes import FEWEST
from deblur_hub.cli import main
from deblur_hub.generator import FileSteps
from deblur_hub.processes import MIN_THREADS
from deblur_hub.restoration.together import BATCH, most_pixels

ROOT = Path(__file__).parents[1]
COUNT = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from deblur_hub import GeneratorConfig
    from tests.conftest import TINY, awake

    made = DeblurGenerator(GeneratorConfig("compact", dict(TINY)))
    awake(made.network)
    return made.save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        save(folder / f"{number:02}.png", number)
    return folder


def save(path: Path, seed: int, size: tuple[int, int] = (40, 56)) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*"))}


def test_files_come_out_as_one_by_one_and_what_is_wrong_with_one_costs_itself(model, tmp_path):
    generator = DeblurGenerator.from_pretrained(model)
    save(tmp_path / "a.jpg", 1)
    (tmp_path / "b.png").write_bytes(b"no picture")
    pages = [Image.fromarray(np.full((30, 20 + page, 3), 60 * page, np.uint8)) for page in range(4)]
    pages[0].save(tmp_path / "c.tif", save_all=True, append_images=pages[1:])
    save(tmp_path / "d.png", 2)
    jobs = [(path, tmp_path / "out" / path.parent.name / path.name) for path in sorted(tmp_path.glob("*.*"))]
    jobs.insert(3, (jobs[0][0], tmp_path / "a.jpg" / "inside" / "a.jpg"))  # a folder that cannot be made
    jobs.insert(4, (jobs[0][0], tmp_path / "out" / "e" / "a.svg"))
    outcomes = list(restore_files(generator, jobs))
    assert [outcome.job for outcome in outcomes] == jobs
    assert [type(outcome.error) for outcome in outcomes] == [
        *(type(None), PictureError, type(None), PictureError, PictureError, type(None))
    ]
    for source, target in (jobs[0], jobs[2], jobs[5]):
        alone = generator.deblur_file(source, tmp_path / f"alone{source.suffix}")
        assert target.read_bytes() == alone.read_bytes()
    assert not (tmp_path / "out" / "e").exists(), "nothing was written to it"


def test_small_pictures_of_one_size_go_through_the_network_together(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "MOST_PIXELS", 1e6)  # so that the large one waits until no other is in memory
    generator = DeblurGenerator.from_pretrained(model)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(FEWEST + 3):
        save(photos / f"{number:02}-lying.png", number)
        save(photos / f"{number:02}-upright.png", 100 + number, (56, 40))
    save(photos / "30-other.png", 1, (40, 40))  # alone of its size
    save(photos / "21-large.png", 2, (1000, 1000))
    (photos / "22-lying.png").write_bytes(b"no picture")
    with Image.open(photos / "23-lying.png") as one:
        pages = [one.convert("CMYK"), one.transpose(Image.Transpose.ROTATE_180)]
    pages[0].save(photos / "24-inks.tif")
    pages[1].save(photos / "25-pages.tif", save_all=True, append_images=pages[1:])
    files = sorted(photos.iterdir())

    def restored(name: str, share: slice) -> dict[str, bytes]:
        jobs, together = grouped(
            [(path, tmp_path / name / path.name) for path in files], most_pixels(generator.network)
        )
        assert sorted(jobs) == [(path, tmp_path / name / path.name) for path in files]
        assert len(together) == 2 * FEWEST + 7
        assert {"30-other.png", "21-large.png", "22-lying.png"}.isdisjoint(path.name for path in together)
        outcomes: list[pipeline.Outcome] = []
        told: list[float] = []
        options = {"together": together, "progress": lambda job, share: told.append(job + share)}
        work = partial(outcomes.extend, restore_files(generator, jobs[share], **options))
        running = threading.Thread(target=work, daemon=True)
        running.start()
        running.join(60)
        assert not running.is_alive(), "those held back for a batch and the large one wait for each other"
        assert told == sorted(told) and len(jobs[share]) - 2 < told[-1] <= len(jobs[share])
        assert [outcome.job for outcome in outcomes] == jobs[share]
        assert [path.name for (path, _), wrong in ((each.job, each.error) for each in outcomes) if wrong] in (
            [],
            ["22-lying.png"],
        )
        return results(tmp_path / name)

    sizes: list[int] = []
    seen = generator.network.register_forward_pre_hook(lambda network, given: sizes.append(len(given[0])))
    whole = restored("whole", slice(None))
    seen.remove()
    assert len(whole) == len(files) - 1
    assert sorted(sizes) == [1] * 6 + [BATCH] * 11, "two inks, two pages, and two that are not of a size with others"
    assert restored("first", slice(0, None, 2)) | restored("second", slice(1, None, 2)) == whole
    alone = np.asarray(generator.deblur(photos / "05-lying.png")).astype(int)
    with Image.open(tmp_path / "whole" / "05-lying.png") as together:
        assert np.abs(np.asarray(together) - alone).max() <= 1


def test_what_fails_together_is_told_of_each_in_its_order(model, photos, tmp_path):
    generator = DeblurGenerator.from_pretrained(model)
    jobs = [(path, tmp_path / "out" / path.name) for path in sorted(photos.iterdir())]

    def failing(batch, progress):
        raise MemoryError

    steps = generator.file_steps()
    generator.file_steps = lambda **options: steps._replace(restore_together=failing)
    together = {source for source, _ in jobs[:-1]}
    outcomes = list(restore_files(generator, jobs, together=together))
    assert [outcome.job for outcome in outcomes] == jobs
    assert [type(outcome.error) for outcome in outcomes] == [MemoryError] * (COUNT - 1) + [type(None)]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(model, tmp_path):
    generator, process = DeblurGenerator.from_pretrained(model), psutil.Process()
    save(tmp_path / "one.png", 1)
    held = []
    for number, _ in enumerate(restore_files(generator, [(tmp_path / "one.png", tmp_path / "out.png")] * 1500)):
        if number % 500 == 499:
            held.append(process.memory_info().rss)
    assert held[2] - held[1] < 2**21, f"{(held[2] - held[1]) / 500:.0f} bytes for each file"


class Fake:
    """A generator whose steps wait for each other where a test wants it, and count what is in memory."""

    def __init__(self, sides: list[int]) -> None:
        self.sides = sides
        self.reading = [threading.Event() for _ in sides]
        self.held, self.most, self.lock = 0, 0, threading.Lock()
        self.restore = lambda blurred, progress: blurred

    def read(self, source, target):
        number = int(source.stem)
        self.reading[number].set()
        with self.lock:
            self.held += 1
            self.most = max(self.most, self.held)
        yield 0, 1, SimpleNamespace(original=SimpleNamespace(pictures=1))

    def write(self, pages, target):
        for _ in pages:
            time.sleep(0.002)
            with self.lock:
                self.held -= 1

    def file_steps(self, **options):
        return FileSteps(self.read, lambda blurred, progress: self.restore(blurred, progress), None, self.write)

    def jobs(self, folder: Path):
        return [(folder / f"{number}.png", folder / f"{number}-out.png") for number in range(len(self.sides))]


@pytest.fixture
def fake(monkeypatch):
    def made(sides: list[int]) -> Fake:
        one = Fake(sides)
        monkeypatch.setattr(pipeline, "upright_size", lambda source: (sides[int(source.stem)],) * 2)
        return one

    return made


def test_the_next_file_is_decoded_while_one_is_restored(fake, tmp_path):
    one = fake([100] * 3)

    def restore(blurred, progress):
        assert one.reading[1].wait(60), "the second is not decoded before the first is restored"
        return blurred

    one.restore = restore
    assert [outcome.error for outcome in restore_files(one, one.jobs(tmp_path))] == [None] * 3


@pytest.mark.parametrize(("side", "most"), [(100, pipeline.MOST_PICTURES), (4000, 3), (9000, 1)])
def test_only_so_many_pictures_are_in_memory_at_once(fake, tmp_path, side, most):
    one = fake([side] * 20)
    one.restore = lambda blurred, progress: time.sleep(0.002) or blurred
    assert len(list(restore_files(one, one.jobs(tmp_path)))) == 20
    assert one.held == 0 and 1 <= one.most <= most


def test_who_wants_no_more_outcomes_leaves_no_thread_and_no_half_file(fake, tmp_path):
    one = fake([100] * 50)
    before = threading.active_count()
    stream = restore_files(one, one.jobs(tmp_path))
    next(stream)
    stream.close()
    deadline = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(*typed: object) -> int:
    return main(["deblur", "-q", *map(str, typed)])


def test_a_run_goes_on_with_what_is_new_or_was_changed(model, photos, tmp_path, capsys):
    out, typed = tmp_path / "out", (photos, "-o", tmp_path / "out", "--model", model)
    (photos / "05.png").write_bytes(b"no picture")
    assert run(*typed) == 1
    first = results(out)
    assert len(first) == COUNT - 1
    save(photos / "05.png", 99)  # mended
    save(photos / "02.png", 98)  # another photo under the same name
    (out / "03.png").unlink()
    assert run(*typed, "--resume") == 0
    assert f"3 restored ({out}), {COUNT - 3} done before" in capsys.readouterr().out
    second = results(out)
    assert {name for name in second if second[name] != first.get(name)} == {"02.png", "05.png"}

    Image.new("RGB", (9, 9)).save(out / "07.png")  # somebody's own
    assert run(*typed, "--resume") == 1
    told = capsys.readouterr()
    assert "07.png: exists already" in told.err and f"{COUNT - 1} done before" in told.out
    assert Image.open(out / "07.png").size == (9, 9)

    assert run(*typed, "--resume", "--strength", "0.5") == 1  # other settings: all anew
    assert results(out)["01.png"] != second["01.png"]


def test_a_run_of_several_says_how_fast_it_was(model, photos, tmp_path, capsys):
    assert main(["deblur", str(photos), "-o", str(tmp_path / "out"), "--model", str(model)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^0\.0 megapixels in \d+ s, \d+\.\d\d a second; the network worked \d+% of the time$", told, re.M)
    assert re.search(r"^12 restored ", told, re.M)


def test_a_photo_that_cannot_be_written_does_not_make_what_lies_there_ours(model, photos, tmp_path):
    target = tmp_path / "out.png"
    generator = DeblurGenerator.from_pretrained(model)

    def failing(pages, target):
        next(pages)
        raise OSError(28, "No space left on device")

    steps = generator.file_steps()
    generator.file_steps = lambda **options: steps._replace(write=failing)
    (outcome,) = restore_files(generator, [(photos / "00.png", target)], journals=Journals("ours"))
    assert isinstance(outcome.error, OSError)
    Image.new("RGB", (9, 9)).save(target)
    assert not Journals("ours").is_ours(target)


def test_a_line_of_the_journal_that_was_cut_off_is_passed_over(model, photos, tmp_path):
    out = tmp_path / "out"
    assert run(photos, "-o", out, "--model", model) == 0
    journal = out / ".deblur-hub.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 2 * COUNT and all(json.loads(line)["result"] for line in lines)
    journal.write_text("\n".join(lines)[:-20])
    assert run(photos, "-o", out, "--model", model, "--resume") == 0


def start(*typed: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, *launcher, "-m", "deblur_hub.batch", "-q", *map(str, typed)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def killed_once(running: subprocess.Popen, out: Path, count: int) -> None:
    """Kills all processes of a run once it has written so many results."""
    deadline = time.monotonic() + 300
    while len(list(out.glob("[!.]*"))) < count:
        assert running.poll() is None and time.monotonic() < deadline, running.stderr.read()
        time.sleep(0.005)
    for each in (psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)):
        each.kill()  # by its id: the launcher puts each into a session of its own
    running.communicate()


@pytest.mark.slow
def test_a_run_of_two_that_was_killed_is_gone_on_with_by_two_and_gives_what_one_gives(model, photos, tmp_path):
    for number in range(COUNT):
        save(photos / f"{number:02}.png", number, (400, 600))
    typed = (photos, "-o", tmp_path / "two", "--model", model)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    killed_once(start(*typed, launcher=launcher), tmp_path / "two", 1)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two").glob("[!.]*")}
    assert len(before) < COUNT

    again = start(*typed, "--resume", launcher=launcher)
    assert again.wait(300) == 0, again.stderr.read()
    threads = torch.get_num_threads()
    torch.set_num_threads(MIN_THREADS)
    assert run(photos, "-o", tmp_path / "one", "--model", model) == 0
    torch.set_num_threads(threads)
    assert results(tmp_path / "two") == results(tmp_path / "one")
    made_anew = [name for name, at in before.items() if (tmp_path / "two" / name).stat().st_mtime_ns != at]
    assert len(made_anew) <= 2, "only what was being taken down when it was killed"
    done = [
        json.loads(line)["result"]
        for journal in (tmp_path / "two").glob(".deblur-hub*.jsonl")
        for line in journal.read_text().splitlines()
        if json.loads(line)["size"]
    ]
    assert len(done) <= COUNT + len(made_anew) and set(done) == set(results(photos))
