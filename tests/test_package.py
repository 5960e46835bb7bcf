"""What people install: the wheel holds the package, its weights and the page, and works by itself."""

import os
import subprocess
import sys
import time
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest

import deblur_hub

ROOT = Path(__file__).parents[1]
MODEL_FILES = ("model.safetensors", "config.json", "golden.safetensors", "README.md", "triptychs.jpg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel unpacked where nothing of the checkout can be imported from."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, *command: str, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        cwd=installed,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def test_the_version_is_stated_once_for_all():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == deblur_hub.__version__


def test_the_wheel_is_small_enough_to_be_fetched_without_a_second_thought(wheel):
    assert wheel.stat().st_size < 95e6


def test_the_wheel_holds_the_weights_and_the_page_and_nothing_of_the_workshop(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for model in deblur_hub.list_models():
        assert {f"deblur_hub/weights/{model}/{file}" for file in MODEL_FILES} <= set(names)
    assert {
        "deblur_hub/py.typed",
        "deblur_hub/space/app.py",
        "deblur_hub/space/style.css",
        "deblur_hub/space/examples/square.jpg",
        "deblur_hub/weights/maxim/LICENSE",
        "deblur_hub/weights/maxim/NOTICE",
    } <= set(names)
    assert {name.split("/")[0] for name in names} == {"deblur_hub", f"deblur_hub-{deblur_hub.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_an_installed_wheel_restores_a_picture(installed):
    code = (
        "import deblur_hub, numpy; g = deblur_hub.DeblurGenerator.from_pretrained(); print(deblur_hub.__file__);"
        "print(g.deblur(numpy.zeros((9, 7, 3), numpy.uint8)).shape)"
    )
    process = run(installed, "-c", code)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert str(installed) in out and "(9, 7, 3)" in out


@pytest.mark.slow
def test_the_page_opens_from_an_installed_wheel(installed, unused_port):
    process = run(installed, "-m", "deblur_hub.cli", "demo", "--port", str(unused_port), "--no-browser")
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/", timeout=5).read().decode()
                break
            except OSError:
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.5)
        assert "deblur" in page
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
