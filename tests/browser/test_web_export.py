"""The exported page in a real browser: a photo restored there as here, without leaving the machine."""

import functools
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_hub import DeblurGenerator
from deblur_hub.cli import main
from deblur_hub.errors import ModelError
from deblur_hub.export.web import runtime_files
from deblur_hub.networks.windows import Windows

pytest.importorskip("onnxruntime", reason="exporting needs the extra 'onnx'")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
PHOTO = Path(__file__).resolve().parents[2] / "space" / "examples" / "street.jpg"


class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:  # with which a page may use several threads
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def page_address(tmp_path_factory):
    try:  # a package that is there already, or npm's
        runtime = runtime_files(Path(os.environ["ONNXRUNTIME_WEB"]) if "ONNXRUNTIME_WEB" in os.environ else None)
    except ModelError as reason:
        pytest.skip(str(reason))  # npm is out of reach
    folder = tmp_path_factory.mktemp("export") / "web"
    assert main(["export", "compact", "--format", "web", "-o", str(folder), "--runtime", str(runtime)]) == 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(browser, page_address):
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(page_address, wait_until="domcontentloaded")
    page.wait_for_selector("#model:not(:empty)")
    yield page
    context.close()


def downloaded(page, tmp_path) -> np.ndarray:
    with page.expect_download() as download:
        page.click("#download")
    target = tmp_path / download.value.suggested_filename
    download.value.save_as(target)
    assert target.name == "photo-deblurred.png"
    return np.asarray(Image.open(target).convert("RGB")).astype(int)


def test_a_photo_is_restored_in_the_browser_as_here_and_goes_nowhere(page, page_address, tmp_path):
    photo = Image.open(PHOTO).convert("RGB")
    photo = photo.resize((601, 173))  # two tiles, and sides that are no multiples
    photo.save(tmp_path / "photo.png")
    page.set_input_files("#file", tmp_path / "photo.png")
    page.wait_for_selector("#result:not([hidden])")
    generator = DeblurGenerator.from_pretrained("compact", device="cpu")
    expected = {
        strength: np.asarray(generator.deblur(photo, strength=strength, precision="float32")).astype(int)
        for strength in (1.0, 0.4)
    }
    full = downloaded(page, tmp_path)
    assert np.abs(full - expected[1.0]).max() <= 2
    assert np.abs(full - np.asarray(photo)).max() > 8, "or nothing was restored"
    page.fill("#strength", "40")
    assert page.inner_text("#share") == "40 %"
    assert np.abs(downloaded(page, tmp_path) - expected[0.4]).max() <= 2
    page.fill("#slider", "25")
    assert page.evaluate("getComputedStyle(document.getElementById('after')).clipPath") == "inset(0px 0px 0px 25%)"
    elsewhere = [url for url in page.requested if not url.startswith((page_address, f"blob:{page_address}", "data:"))]
    assert not elsewhere and any(url.endswith("model.onnx") for url in page.requested)


def test_a_cancelled_photo_leaves_the_page_ready_for_the_next(page, tmp_path):
    Image.open(PHOTO).save(tmp_path / "photo.png")
    page.set_input_files("#file", tmp_path / "photo.png")
    page.click("#cancel")
    assert page.inner_text("#said") == "Cancelled." and page.is_hidden("#working") and page.is_hidden("#result")
    Image.open(PHOTO).resize((40, 30)).save(tmp_path / "photo.png")
    page.set_input_files("#file", tmp_path / "photo.png")
    page.wait_for_selector("#result:not([hidden])")
    assert downloaded(page, tmp_path).shape == (30, 40, 3)


def test_what_is_no_picture_is_one_sentence(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("nothing to see")
    page.set_input_files("#file", tmp_path / "notes.jpg")
    page.wait_for_selector("#wrong:not(:empty)")
    assert page.inner_text("#wrong").startswith("notes.jpg: is not a picture that this browser opens")


def test_the_page_cuts_windows_as_the_package_does(page):
    windows, lengths = Windows(side=512, overlap=64, multiple=64), [1, 63, 511, 512, 513, 960, 1333, 1800, 4001]
    found = page.evaluate(
        """async ([windows, lengths]) => {
            const { cut, reflected } = await import("./plan.js");
            return lengths.map((length) =>
              cut(length, 1, { windows: JSON.stringify(windows) }).map(({ rows }) => ({
                read: Array.from({ length: rows.size }, (_, at) => reflected(rows.start + at, length)),
                own: [rows.from, rows.to],
                weights: Array.from({ length: rows.to - rows.from }, (_, at) => rows.weight(rows.from + at)),
              })));
        }""",
        [vars(windows), lengths],
    )
    for length, spans in zip(lengths, found, strict=True):
        for span, window in zip(spans, windows.plan((length, 1)), strict=True):
            read = np.pad(np.arange(length), (600, 600), mode="reflect") if length > 1 else np.zeros(1201, int)
            start = window.rows.read.start + 600
            assert span["own"] == [window.rows.own.start, window.rows.own.stop]
            assert span["read"] == read[start : start + len(window.rows.read)].tolist()
            assert np.allclose(span["weights"], window.rows.weights().numpy())
