"""The page as a Space: what is uploaded, what of a Space stays, and that what was uploaded runs by itself."""

import json
import re
import runpy
import subprocess
import sys
import sysconfig
import threading
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from deblur_hub.cli import main
from deblur_hub.export.web import RUNTIME
from deblur_hub.hub import spaces
from tests.hub_client import ROOT, Client
from tests.hub_server import READ_TOKEN

gradio_client = pytest.importorskip("gradio_client", reason="the page needs the extra 'space'")
handle_file = gradio_client.handle_file

PAGE_SECONDS = 240
FRONT = ["title", "emoji", "colorFrom", "colorTo", "sdk", "python_version", "app_file", "license", "short_description"]


@pytest.fixture
def publish(play, tmp_path):
    """Publishes the page with a package of two modules; further keywords as `publish_space` takes them."""
    package = tmp_path / "package"
    for name in ("__init__.py", "old.py", "__pycache__/old.pyc", "weights/tiny/model.safetensors"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)

    def published(repo: str, **options: object) -> str:
        ((said, _),) = play(f"""
            from pathlib import Path
            from deblur_hub.hub import spaces
            spaces.PACKAGE = Path({str(package)!r})
            step(spaces.publish_space, Path({str(ROOT / "space")!r}), {repo!r}, **{options!r})
            """)
        return said

    published.package = package
    return published


def front_matter(files: dict[str, bytes]) -> dict[str, object]:
    return yaml.safe_load(files["README.md"].decode().split("---\n")[1])


def test_a_space_holds_the_page_the_package_and_what_they_need(hub, publish):
    address = publish("tester/page", private=True)
    repository = hub.repositories["spaces/tester/page"]
    assert address == f"{hub.address}/spaces/tester/page/commit/{repository.branches['main']}"
    assert repository.private and len(repository.commits) == 3, "the empty one, the hub's own and one commit"
    files, page = repository.head, ROOT / "space"
    assert files["app.py"] == (page / "app.py").read_bytes()
    assert {f"examples/{path.name}" for path in (page / "examples").iterdir()} < files.keys()
    assert {name for name in files if name.startswith("deblur_hub/")} == {
        "deblur_hub/__init__.py",
        "deblur_hub/old.py",
        "deblur_hub/weights/tiny/model.safetensors",
    }
    needed = files["requirements.txt"].decode().splitlines()
    assert "torch>=2.11" in needed and any(line.startswith("gradio") for line in needed)
    assert not [line for line in needed if "deblur" in line or "pytest" in line or "accelerate" in line]
    front = front_matter(files)
    assert front.keys() >= {*FRONT} and front["title"] == "deblur-hub"
    assert front["sdk_version"] == version("gradio")
    assert files["README.md"].decode().count("## Run it") == 1 and "space.toml" not in files


def test_a_space_published_again_keeps_what_is_not_ours(hub, publish):
    publish("tester/kept")
    repository = hub.repositories["spaces/tester/kept"]
    assert publish("tester/kept").endswith(repository.branches["main"]) and len(repository.commits) == 3
    written = repository.head["README.md"].decode().replace("title: deblur-hub", "title: Our photos")
    written = written.replace(f"sdk_version: {version('gradio')}", "sdk_version: 5.0.0") + "\nAsk Ada.\n"
    repository.commit("main", repository.head | {"README.md": written.encode(), "notes.txt": b"mine"})
    (publish.package / "old.py").unlink()
    (publish.package / "new.py").write_text("new")

    publish("tester/kept")

    files = repository.head
    assert files["notes.txt"] == b"mine" and files["README.md"].decode().endswith("\nAsk Ada.\n")
    assert front_matter(files)["title"] == "Our photos"
    assert front_matter(files)["sdk_version"] == version("gradio")
    assert "deblur_hub/new.py" in files and "deblur_hub/old.py" not in files


def test_a_space_names_the_model_that_it_was_published_with(hub, play, publish):
    play("""step(generator.push_to_hub, "tester/tiny")""")
    publish("tester/named", model="tester/tiny")
    files = hub.repositories["spaces/tester/named"].head
    assert files["space.toml"] == b'model = "tester/tiny"\n' and front_matter(files)["models"] == ["tester/tiny"]
    publish("tester/named")
    assert hub.repositories["spaces/tester/named"].head == files


def test_a_static_space_holds_the_folder_and_asks_for_the_headers_of_threads(hub, play, tmp_path):
    for name in ("index.html", "model.onnx", "runtime/new.wasm"):
        (tmp_path / "page" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "page" / name).write_text(name)
    scene = f"""
        from pathlib import Path
        from deblur_hub.hub import spaces
        step(spaces.publish_static_space, Path({str(tmp_path / "page")!r}), "tester/still", model="tester/tiny")
        """
    ((address, _),) = play(scene)
    repository = hub.repositories["spaces/tester/still"]
    assert address == f"{hub.address}/spaces/tester/still/commit/{repository.branches['main']}"
    repository.commit("main", repository.head | {"runtime/old.wasm": b"old", "notes.txt": b"mine"})
    play(scene)
    files = repository.head
    assert {"index.html", "model.onnx", "runtime/new.wasm", "notes.txt"} <= files.keys()
    assert "runtime/old.wasm" not in files and files["index.html"] == b"index.html"
    front = front_matter(files)
    assert (front["sdk"], front["app_file"], front["models"]) == ("static", "index.html", ["tester/tiny"])
    assert front["custom_headers"]["cross-origin-embedder-policy"] == "require-corp"


@pytest.mark.slow
def test_the_shell_makes_the_page_of_a_model_and_uploads_it_as_a_static_space(hub, play, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs the extra 'onnx'")
    for name in RUNTIME:
        (tmp_path / name).write_text(name)
    _, (code, _) = play(f"""
        import contextlib
        from deblur_hub.cli import main
        step(generator.push_to_hub, "tester/small")
        typed = ["publish-space", "tester/here", "--static", "--model", "tester/small", "--runtime", {str(tmp_path)!r}]
        with contextlib.redirect_stdout(sys.stderr):  # this one's is for the answers
            step(main, typed)
        """)
    assert code == 0
    files = hub.repositories["spaces/tester/here"].head
    assert {"app.js", "index.html", "model.onnx", *(f"runtime/{name}" for name in RUNTIME)} <= files.keys()
    assert json.loads(files["model.json"])["model"] == "tiny"
    assert front_matter(files)["models"] == ["tester/small"]


def test_what_the_hub_refuses_is_one_sentence_and_makes_no_space(hub, publish):
    assert "neither a bundled model" in publish("tester/none", model="tester/absent")
    assert "neither a bundled model" in publish("tester/none", model='a"/b')
    assert "subscribe" in publish("tester/none", hardware="t4-small")
    assert "the token may not write there" in publish("tester/none", token=READ_TOKEN)
    assert "spaces/tester/none" not in hub.repositories


def test_the_shell_refuses_what_is_no_name(capsys):
    assert main(["publish-space", "no name"]) == 2
    assert capsys.readouterr().err == "deblur-hub: 'no name' is not a hub repository; name it as 'owner/name'\n"


def test_a_page_inside_the_package_as_wheels_carry_it_is_uploaded_once(tmp_path, monkeypatch):
    for name in ("__init__.py", "space/app.py", "space/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(spaces, "PACKAGE", tmp_path)
    files = spaces.page_files(tmp_path / "space", "compact")
    assert files.keys() == {"app.py", "deblur_hub/__init__.py", "requirements.txt", "space.toml"}


@pytest.mark.parametrize("zero", [True, False])
def test_work_for_zero_gpu_asks_for_its_seconds_and_keeps_its_progress_to_itself(zero, monkeypatch):
    """The package of the hub gives a function back as it is where the Space has other hardware."""

    def lend(duration):
        return lambda function: (lambda *given, **named: (duration, function(*given, **named))) if zero else function

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    module = runpy.run_path(str(ROOT / "space/deblur_page/zero_gpu.py"))
    work = module["on_zero_gpu"](lambda photo, progress=None: (photo, progress), duration=9)
    assert work("photo", progress="bar") == ((9, ("photo", None)) if zero else ("photo", "bar"))


@pytest.mark.slow
@pytest.mark.full
def test_a_published_space_runs_by_itself_and_restores_with_its_model(hub, play, generator, tmp_path):
    """In an environment without deblur-hub, whose other packages are those of this one."""
    space, fresh = tmp_path / "space", tmp_path / "fresh"
    _, (code, _), _ = play(f"""
        import contextlib
        import huggingface_hub
        from pathlib import Path
        from deblur_hub.cli import main
        from deblur_hub.hub import spaces
        spaces.PACKAGE = Path(spaces.__file__).parents[1]
        step(generator.push_to_hub, "tester/small")
        with contextlib.redirect_stdout(sys.stderr):  # this one's is for the answers
            step(main, ["publish-space", "tester/runs", "--model", "tester/small"])
        step(huggingface_hub.snapshot_download, "tester/runs", repo_type="space", local_dir={str(space)!r})
        """)
    assert code == 0
    settings = Client.environment(tmp_path / "home", hub.address)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(fresh)], check=True)
    (site,) = fresh.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    del settings["PYTHONPATH"]
    pip = [sys.executable, "-m", "pip", "--python", str(fresh), "install", "--no-index", "-r", "requirements.txt"]
    subprocess.run(pip, check=True, cwd=space, env=settings, capture_output=True)

    program = [str(fresh / "bin/python"), "app.py"]
    with subprocess.Popen(program, cwd=space, env=settings, text=True, stdout=subprocess.PIPE) as page:
        watchdog = threading.Timer(PAGE_SECONDS, page.kill)
        watchdog.start()
        try:
            # Where the package mcp is installed, Gradio speaks first.
            address = next(told[1] for line in page.stdout if (told := re.search(r"open at (\S+)", line)))
            photo = space / "examples/cat.jpg"
            page_of_it = gradio_client.Client(address, verbose=False)
            answer = page_of_it.predict(handle_file(photo), file_format="PNG", api_name="/deblur")
        finally:
            watchdog.cancel()
            page.terminate()
    expected = np.asarray(generator.deblur(photo), dtype=int)
    assert np.abs(np.asarray(Image.open(answer), dtype=int) - expected).max() <= 1
    hub.forget()
