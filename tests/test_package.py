"""What people install: wheel and sdist hold the package, its weights and the page, and work in a fresh environment."""

import os
import subprocess
import sys
import sysconfig
import tarfile
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
def built(tmp_path_factory) -> dict[str, Path]:
    """The wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built["wheel"]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the package, which sees what else is installed here but nothing of the checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    # A path in a .pth file is searched, and the .pth files there, an editable install's among them, are not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["--no-deps", "--no-index", "--quiet", "--ignore-installed"]
    command = [sys.executable, "-m", "pip", "--python", str(folder), "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True, env=clean())
    return folder


def clean() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


def run(installed: Path, *command: str) -> subprocess.Popen:
    """A program of the environment, away from the checkout."""
    return subprocess.Popen(
        [str(installed / "bin" / command[0]), *command[1:]],
        env=clean() | {"PYTHONSAFEPATH": "1"},
        cwd=installed,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_version_is_stated_once_for_all():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == deblur_hub.__version__


@pytest.mark.slow
def test_the_wheel_is_small_enough_to_be_fetched_without_a_second_thought(wheel):
    assert wheel.stat().st_size < 95e6


@pytest.mark.slow
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
def test_the_sdist_holds_what_builds_tests_and_explains_the_package(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile"}
    wanted |= {"docs/training.md", "docs/before-after.jpg", "space/app.py", "train/__main__.py", "tests/test_readme.py"}
    wanted |= {f"deblur_hub/weights/{model}/{file}" for model in deblur_hub.list_models() for file in MODEL_FILES}
    assert not wanted - names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
@pytest.mark.full
def test_the_sdist_builds_the_wheel_that_the_checkout_builds(built, wheel, tmp_path):
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "built")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (again,) = (tmp_path / "built").glob("*.whl")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, int]:
    """A checksum of each file."""
    return {file.filename: file.CRC for file in zipfile.ZipFile(wheel).infolist()}


@pytest.mark.slow
def test_an_installed_package_restores_a_picture(installed):
    code = (
        "import deblur_hub, numpy; g = deblur_hub.DeblurGenerator.from_pretrained(); print(deblur_hub.__file__);"
        "print(g.deblur(numpy.zeros((9, 7, 3), numpy.uint8)).shape)"
    )
    process = run(installed, "python", "-c", code)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert str(installed) in out and "(9, 7, 3)" in out


@pytest.mark.slow
@pytest.mark.full
def test_the_command_and_the_page_of_an_installed_package_open(installed, unused_port):
    version, _ = run(installed, "deblur-hub", "--version").communicate(timeout=60)
    assert version.strip() == f"deblur-hub {deblur_hub.__version__}"
    process = run(installed, "deblur-hub", "demo", "--port", str(unused_port), "--no-browser")
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
