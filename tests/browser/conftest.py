"""Starts the real page on a free loopback port and a real Chromium in front of it."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300  # seconds are enough, but not on a machine that is busy with training
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing(what: str) -> None:
    """Skips with a sentence; where the tests must run, in CI, fails with it."""
    sentence = f"the page is not tested in a browser: {what}"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium; `CHROMIUM` overrides the search."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        missing("no Chromium is installed (Debian: apt-get install chromium)")
    return found


@dataclass(frozen=True)
class Served:
    """A page that runs: where, and the process."""

    address: str
    process: subprocess.Popen

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status).group(1))


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Served]:
    """The page, served by a process of its own that ends with the tests."""
    if importlib.util.find_spec("gradio") is None:
        missing("gradio is not installed (the extra 'space')")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("page")
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)])),
    }
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, ROOT / "space" / "app.py"], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process, log)
        yield Served(url, process)
        assert "Traceback" not in log.read_text(errors="replace")
    finally:
        process.terminate()
        assert process.wait(60) == 0  # SIGTERM ends it in order


@pytest.fixture(scope="session")
def address(served) -> str:
    return served.address


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            direct.open(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the page did not start; it said:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def browser(chromium):
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install playwright)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_OPTIONS))
        yield running
        running.close()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page at a size; `page.requested` lists every address that the page asked for."""
    contexts = []

    def opened(width: int = 1280, height: int = 900, query: str = ""):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("websocket", lambda channel: page.requested.append(channel.url))
        page.goto(f"{address}/{query}", wait_until="domcontentloaded")
        page.wait_for_selector(".viewer[data-from=view][data-shown]")  # the scripts have run
        return page

    yield opened
    for context in contexts:
        context.close()
