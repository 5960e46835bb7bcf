"""Ray Data: every row once, bit-equal to one process, also when an actor is killed."""

import importlib
import io
import os
import re
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurGenerator, DeblurHubError, GeneratorConfig
from deblur_hub.processes import min_threads
from deblur_hub.ray import Restorer, deblur
from deblur_hub.remote import place
from tests.conftest import TINY, awake


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    made = DeblurGenerator(GeneratorConfig("compact", dict(TINY)))
    awake(made.network)
    return made.save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def ray():
    """Two workers, and a core for reading, on the loopback interface."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
        alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "object_store_memory": 2**27}
        ray.init(num_cpus=3, num_gpus=0, **alone)
        importlib.import_module("ray.data")
        yield ray
        ray.shutdown()


def photo(seed: int, side: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side + seed, 3), np.uint8)


def encoded(seed: int, kind: str, side: int = 96) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(seed, side)).save(file, kind)
    return file.getvalue()


def alone(model: Path, folder: Path, content: bytes, suffix: str) -> bytes:
    """As one process restores it."""
    (folder / f"alone{suffix}").write_bytes(content)
    generator = DeblurGenerator.from_pretrained(model, device="cpu")
    with min_threads():
        return generator.deblur_file(folder / f"alone{suffix}", folder / f"made{suffix}").read_bytes()


def one_at_work() -> psutil.Process:
    """An actor that is restoring a row, as Ray says in the title of its process."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for each in psutil.Process().children(recursive=True):
            if re.search(r"Restorer.*\.submit", " ".join(each.cmdline())):
                return each
    raise AssertionError("no actor is at work")


@pytest.mark.slow
def test_rows_are_restored_by_two_workers_as_by_one_process_also_when_one_is_killed(ray, model, tmp_path):
    photos = {f"{number:02}.png": encoded(number, "PNG", 600) for number in range(6)}
    photos |= {f"{number:02}.jpg": encoded(number, "JPEG", 600) for number in range(6, 12)}
    (tmp_path / "in").mkdir()
    for name, content in (photos | {"bad.png": b"no picture"}).items():
        (tmp_path / "in" / name).write_bytes(content)
    dataset = ray.data.read_binary_files(str(tmp_path / "in"), include_paths=True, override_num_blocks=len(photos) + 1)
    rows = []
    for row in deblur(dataset, model=model, num_cpus=1, concurrency=2).iter_rows():
        rows.append(row)
        if len(rows) == 1:
            one_at_work().kill()
    assert sorted(Path(row["path"]).name for row in rows) == sorted([*photos, "bad.png"])
    for row in rows:
        name = Path(row["path"]).name
        if name == "bad.png":
            assert row["restored"] is None and row["error"].startswith("bad.png: ")
        else:
            assert row["error"] is None and row["restored"] == alone(model, tmp_path, photos[name], Path(name).suffix)
    assert set(rows[0]) == {"path", "restored", "error"}


@pytest.mark.slow
def test_arrays_come_back_as_arrays_and_what_cannot_be_is_said_before(ray, model):
    generator = DeblurGenerator.from_pretrained(model, device="cpu")
    images = [photo(1), photo(2), np.zeros((4, 4, 7), np.uint8), photo(3)]
    dataset = ray.data.from_items([{"image": image, "number": number} for number, image in enumerate(images)])
    rows = sorted(deblur(dataset, model=model).take_all(), key=lambda row: row["number"])
    assert [row["error"] is None for row in rows] == [True, True, False, True] and rows[2]["restored"] is None
    with min_threads():
        for row in (rows[0], rows[1], rows[3]):
            assert np.array_equal(row["restored"], generator.deblur(images[row["number"]]))
    with pytest.raises(DeblurHubError, match="strength"):
        deblur(dataset, model=model, strength=2)
    with pytest.raises(DeblurHubError, match="no column 'photo', but image, number"):
        deblur(dataset, model=model, column="photo")


@pytest.fixture
def restorer(model):
    """An actor without Ray."""
    threads = torch.get_num_threads()
    yield Restorer(model=model, crisp=None, column="photo", options={"jpeg_quality": 80}, on_gpu=False, cores=1)
    torch.set_num_threads(threads)


def test_the_format_of_bytes_without_a_path_is_that_of_their_content(restorer):
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        row = restorer({"photo": encoded(1, kind), "label": 3})
        assert Image.open(io.BytesIO(row["restored"])).format == kind and row["label"] == 3 and "photo" not in row
    assert restorer({"photo": b"no picture"})["error"].startswith("picture.png: ")
    with pytest.raises(DeblurHubError, match="no column 'photo', but image"):
        restorer({"image": photo(1)})


def test_what_paths_and_uris_name_is_read_by_the_workers(restorer, tmp_path):
    content = restorer({"photo": encoded(1, "PNG")})["restored"]
    (tmp_path / "a.png").write_bytes(encoded(1, "PNG"))
    place("memory://ray/a.png").write_bytes(encoded(1, "PNG"))
    for path in (str(tmp_path / "a.png"), "memory://ray/a.png"):
        assert restorer({"photo": path}) == {"photo": path, "restored": content, "error": None}
    for path in (str(tmp_path / "none.png"), "memory://ray/none.png", "nosuch://ray/a.png"):
        row = restorer({"photo": path})
        assert row["restored"] is None and Path(path).name in row["error"]
    place("memory://ray/a.png").unlink()
