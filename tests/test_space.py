"""The folder that becomes a Space: its card, its pictures and their credits, and a page that builds. No browser."""

import io
import json
import os
import re
import socket
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurHubError, list_models
from deblur_hub.cli import main

pytest.importorskip("gradio", reason="the page needs the extra 'space'")

import app
from deblur_page import choices, folders, guard, many, one, runs, views, words
from deblur_page.line import Cancelled, Job, Line

SPACE = Path(__file__).resolve().parents[1] / "space"
CARD = (SPACE / "README.md").read_text(encoding="utf-8")
MAX_EXAMPLES_BYTES = 1_500_000
SMALL = SPACE / "examples/lost.jpg"


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path) -> Path:
    """The folder for visitors' files."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def restore(source: Path, choice: str, **options) -> runs.Run:
    made = runs.plan(runs.Request(source, choice, **options))
    return runs.restored(made, Job(lambda job: None, 0.0))


def local(address: str) -> Path:
    """The file of an address on the page."""
    return Path(unquote(address.removeprefix("gradio_api/file=")))


def front_matter() -> dict[str, str]:
    matter = re.match(r"---\n(.*?)\n---\n", CARD, re.DOTALL).group(1)
    return dict(line.split(": ", 1) for line in matter.splitlines() if ": " in line)


def test_the_card_tells_the_hub_how_to_run_the_space():
    matter = front_matter()
    assert matter["sdk"] == "gradio"
    assert matter["license"] == "apache-2.0"
    assert re.fullmatch(r"6\.\d+\.\d+", matter["sdk_version"])
    assert (SPACE / matter["app_file"]).is_file()
    assert len(matter["short_description"]) <= 60  # the Hub refuses longer ones
    assert (SPACE / "requirements.txt").read_text().split() == ["deblur-hub[space]"]


def test_the_gallery_has_eight_to_twelve_small_examples():
    files = set(one.EXAMPLES)
    assert 8 <= len(files) <= 12
    assert len(set(one.EXAMPLES.values())) == len(files)
    assert files == set((SPACE / "examples").iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_EXAMPLES_BYTES


def test_every_example_decodes_and_is_credited_with_its_kind_of_blur():
    for path, caption in one.EXAMPLES.items():
        with Image.open(path) as picture:
            picture.load()
        (row,) = [line for line in CARD.splitlines() if line.startswith(f"| `{path.name}` |")]
        assert f"| {caption} |" in row
        assert re.search(r"CC0|CC BY|public domain|no known copyright", row)


@pytest.mark.slow
def test_the_page_builds_and_offers_three_documented_endpoints(monkeypatch):
    monkeypatch.setattr(app, "opening_run", lambda line: restore(SMALL, "instant"))
    page = app.build_app(Line())
    public = [event for event in page.config["dependencies"] if event["api_visibility"] == "public"]
    assert [event["api_name"] for event in public] == ["deblur", "deblur_batch", "models"]
    described = page.get_api_info()["named_endpoints"]
    assert described["/deblur"]["description"].startswith("Restores a blurry photo")
    assert all(endpoint["description"] for endpoint in described.values())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_picture_of_any_mode_gives_two_views_that_browsers_show(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (32, 1))
    grey = Image.fromarray(ramp)
    pictures = {
        "I;16": lambda: Image.fromarray(ramp.astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(ramp.astype(np.float32) / 255),
        "RGBA": lambda: Image.merge("RGBA", [grey, grey, grey, grey]),
        "LA": lambda: Image.merge("LA", [grey, grey]),
        "P": lambda: grey.convert("P"),
    }
    file = tmp_path / "ramp.tif"
    pictures.get(mode, lambda: grey.convert("RGB").convert(mode))().save(file)

    run = restore(file, "instant")

    assert run.file.name == "ramp-deblurred.tif" and run.size == (48, 32)
    for address in (run.view.before, run.view.after):
        with Image.open(local(address)) as shown:
            assert shown.format == "PNG" and shown.size == (48, 32)
            assert shown.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
            if shown.mode == "RGB":
                row = np.asarray(shown.convert("L"))[16].astype(int)
                assert row[4] < 60 < 200 < row[43]  # dark stays dark, nothing clips to white
    half, _ = runs.rewritten(run, replace(run.request, strength=0.0))
    with Image.open(half) as same, Image.open(file) as original:
        assert np.abs(np.asarray(same, dtype=float) - np.asarray(original, dtype=float)).max() <= 1 / 65535


@pytest.mark.slow
def test_what_a_format_cannot_hold_comes_back_in_another_and_is_told(tmp_path):
    file = tmp_path / "inks.png"
    Image.new("CMYK", (20, 20), (40, 80, 0, 10)).save(tmp_path / "inks.tif")
    (tmp_path / "inks.tif").rename(file)
    run = restore(file, "instant")
    assert run.file.suffix == ".tif" and "The download is TIF, since .png cannot hold it." in run.notes


def test_camera_raw_is_downloaded_as_a_tiff_of_16_bits(tmp_path):
    pytest.importorskip("rawpy")
    from tests import camera_files

    file = tmp_path / "x.dng"
    file.write_bytes(camera_files.dng())
    run = restore(file, "instant")
    assert run.file.name == "x-deblurred.tif" and "developed in sRGB" in "".join(run.notes)
    assert runs.pictures.read(run.file)[1].dtype == np.uint16


def test_a_large_picture_is_viewed_smaller_and_closer_and_downloaded_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "FITTING", 100)
    file = tmp_path / "large.png"
    Image.effect_noise((301, 203), 60).save(file)
    run = restore(file, "instant")
    view = run.view
    assert [Image.open(local(address)).size for address in (view.before, view.after)] == [(100, 67)] * 2
    assert [Image.open(local(address)).size for address in (view.full_before, view.full_after)] == [(301, 203)] * 2
    assert Image.open(run.file).size == (301, 203) == (view.width, view.height)


def test_the_most_changed_region_is_found_wherever_it_is():
    before = torch.zeros(1, 3, 900, 1200)
    after = before.clone()
    after[..., 640:700, 810:900] = 0.5
    x, y, width, height = views.most_changed(before, after)
    assert x <= 810 and x + width >= 900 and y <= 640 and y + height >= 700
    assert views.most_changed(before[..., :3, :5], after[..., :3, :5]) == (0, 0, 5, 3)


@pytest.mark.slow
def test_a_taken_port_is_told_with_the_way_to_another(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port), "--no-browser"]) == 2
    words = capsys.readouterr().err
    assert f"port {port} is taken" in words and "deblur-hub demo --port" in words and words.count("\n") == 1


@pytest.mark.slow
def test_every_bundled_model_is_offered_by_what_it_is_for_with_its_seconds():
    offered = choices.choices()
    assert [choice.label for choice in offered.values()] == ["Best", "Balanced", "Fast", "Instant"]
    assert {choice.model for choice in offered.values()} == set(list_models())
    times = [choice.expected_seconds((500, 800)) for choice in offered.values()]
    assert times == sorted(times, reverse=True) and times[-1] > 0
    assert choices.chosen("auto", (100, 100)).key == "best" and choices.chosen("compact", (9, 9)).key == "instant"
    assert choices.chosen("auto", (10**5, 10**5)).key == "fast"
    with pytest.raises(DeblurHubError, match="take one of auto, best"):
        choices.chosen("magic", (9, 9))


def test_a_choice_learns_how_long_it_takes(monkeypatch):
    monkeypatch.setattr(choices, "SLOWNESS", {})
    best = choices.choices()["best"]
    before = best.expected_seconds((2000, 3000))
    best.learn((2000, 3000), 2 * before)
    assert best.expected_seconds((2000, 3000)) == pytest.approx(1.5 * before)
    best.learn((3, 2), 60.0)  # reading and starting take longer than such a picture
    assert best.expected_seconds((2000, 3000)) == pytest.approx(1.5 * before)


def test_people_are_told_what_to_expect_of_a_photo_that_is_not_shaken():
    blurred, _ = runs.pictures.read(SPACE / "examples/cat.jpg")
    assert "may be out of focus" in runs.expectations(blurred)[0]
    assert not runs.expectations(torch.zeros(1, 3, 200, 200))


def test_what_is_no_picture_or_too_large_leaves_nothing_behind_and_is_told_safely(kept, tmp_path):
    kept.mkdir()
    file = tmp_path / "<b>notes.jpg"
    for content in (b"dear diary", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!doctype html><script>1</script>"):
        file.write_bytes(content)
        with pytest.raises(DeblurHubError) as trouble:
            restore(file, "instant")
        assert "<b>" not in words.trouble(trouble.value)
    Image.new("1", (22001, 5000)).save(tmp_path / "bomb.png")
    with pytest.raises(DeblurHubError, match="megapixels"):
        restore(tmp_path / "bomb.png", "instant")
    assert not list(kept.iterdir())


# The line ------------------------------------------------------------------------------------------------------------


def test_the_line_tells_places_and_lets_go_of_who_leaves():
    line, go, order = Line(longest=2), threading.Event(), []

    def work(name):
        def run(job):
            go.wait(10)
            order.append(name)
            job.report(1, 2)

        return Job(run, 8.0, name, line.begin(name))

    first, second, third = (line.join(work(name)) for name in "abc")
    assert line.before(third)[0] == 2 and 8 <= line.before(third)[1] <= 16
    with pytest.raises(DeblurHubError, match="3 pictures wait already; come back in about 1 min"):
        line.join(work("d"))
    again = line.join(work("b")) if not line.leave(second) else None
    assert line.before(again) == (2, pytest.approx(16, abs=1)) and second.future.cancelled()
    line.leave(first)
    go.set()
    with pytest.raises(Cancelled):
        first.future.result()  # at its next report
    assert again.future.result() is None and order == ["a", "c", "b"]
    line.close()


def test_a_visitors_last_request_counts_whichever_is_planned_first():
    line = Line()
    early, late = line.begin("a"), line.begin("a")
    with pytest.raises(Cancelled):
        line.join(Job(lambda job: 1, 0.0, "a", early))
    job = line.join(Job(lambda job: 2, 0.0, "a", late))
    assert job.future.result(10) == 2
    line.forget("a")
    with pytest.raises(Cancelled):
        line.join(Job(lambda job: 3, 0.0, "a", late))
    line.close()


def test_the_time_left_follows_the_estimate_first_and_the_pace_later(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("deblur_page.line.time.monotonic", lambda: now[0])
    job = Job(lambda job: None, 20.0)
    assert job.seconds_left() == 20
    job.started = 100.0
    now[0] = 105.0
    assert job.seconds_left() == 15
    job.report(1, 100)  # after what comes before the first window
    now[0] = 110.0
    job.report(21, 100)  # a fifth in five seconds
    assert job.seconds_left() == pytest.approx(5 * 79 / 20)


# Strangers -----------------------------------------------------------------------------------------------------------


def test_files_are_gone_after_an_hour_and_sooner_where_the_disk_is_full(kept, monkeypatch):
    kept.mkdir()
    old, new = folders.make_folder(), folders.make_folder()
    for folder in (old, new):
        (folder / "photo.png").write_bytes(b"x")
    past = time.time() - folders.HOUR - 1
    for path in (old / "photo.png", old):
        os.utime(path, (past, past))
    folders.sweep(kept, ours={old})
    assert set(kept.iterdir()) == {old, new}
    folders.sweep(kept)
    assert list(kept.iterdir()) == [new]
    folders.sweep(kept, least_free=2**62)
    assert not list(kept.iterdir())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/gradio_api/file=http://127.0.0.1:1/x.png", b"", 403),
        ("GET", "/gradio_api/file=%68ttps://example.org/x.png", b"", 403),
        ("GET", "/gradio_api/proxy=http://example.org", b"", 403),
        ("POST", "/gradio_api/queue/join", {"data": [{"path": "http://127.0.0.1:1/x.png"}]}, 403),
        ("POST", "/gradio_api/call/deblur", {"data": [[{"path": "ftp://a/b", "meta": {}}]]}, 403),
        ("POST", "/gradio_api/run/deblur", {"data": json.dumps([{"path": "HTTP://a/b"}])}, 403),
        ("POST", "/gradio_api/queue/join", {"data": ["x" * 2**20]}, 413),
        ("POST", "/gradio_api/queue/join", {"data": [{"path": "/tmp/a/photo.jpg"}, "http://is.text"]}, 200),
        ("GET", "/gradio_api/file=/tmp/a/http.png", b"", 200),
    ],
)
def test_no_request_makes_the_server_fetch_an_address(method, path, body, status):
    from starlette.testclient import TestClient

    async def behind(scope, receive, send):
        message = await receive()
        await guard.refuse(send, 200, message["body"].decode())

    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = TestClient(guard.Guard(behind)).request(method, path, content=content)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["error"] == (content if isinstance(content, str) else content.decode())  # unchanged
    else:
        assert "upload" in answer.json()["error"] and answer.headers["x-content-type-options"] == "nosniff"


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name.replace("__", "/"), content)
    return path


def test_archives_are_taken_apart_safely(tmp_path, monkeypatch):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    bad = tmp_path / "bad.zip"
    bad.write_bytes(
        archive(tmp_path / "whole.zip", **{"a.png": picture.getvalue()}).read_bytes()[:-30] + b"PK\5\6" + 18 * b"\0"
    )
    good = archive(tmp_path / "good.zip", **{"..__..__a.png": picture.getvalue(), "b.txt": b"x", ".hidden__c.png": b""})
    found, _ = many.entries([good, bad])
    assert [entry.name for entry in found] == ["a.png"]
    taken = found[0].take(tmp_path)
    assert taken == tmp_path / "a.png" and taken.read_bytes() == picture.getvalue()
    monkeypatch.setattr(many, "LARGEST", 10)
    with pytest.raises(DeblurHubError, match="larger than"):
        found[0].take(tmp_path)
    with pytest.raises(DeblurHubError, match="more than the 100"):
        many.entries([archive(tmp_path / "many.zip", **{f"{n}.png": b"" for n in range(101)})])
    with pytest.raises(DeblurHubError, match="no picture in it"):
        many.entries([archive(tmp_path / "none.zip", **{"a.txt": b""})])
