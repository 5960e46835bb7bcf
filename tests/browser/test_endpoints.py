"""The page's endpoints for programs, as docs/api.md shows them, and under the load of many clients."""

import asyncio
import base64
import io
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

gradio_client = pytest.importorskip("gradio_client", reason="the page needs the extra 'space'")

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
CLIENTS, PICTURES = 20, 200
HOSTILE_EVERY = 10
BACK = 1.1  # of the memory before

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


@pytest.fixture
def at_work(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the page of documentation speaks of."""
    shutil.copy(ROOT / "space" / "examples" / "shop.jpg", tmp_path / "photo.jpg")
    shutil.copy(ROOT / "space" / "examples" / "cat.jpg", tmp_path / "other.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_calls_of_the_documentation_run_as_printed(served, at_work, capsys):
    (program,) = blocks("python")
    exec(program.replace("http://127.0.0.1:7860", served.address), {})
    printed = capsys.readouterr().out
    with Image.open("photo-deblurred.jpg") as restored, Image.open("photo.jpg") as photo:
        assert restored.size == photo.size and not np.array_equal(np.asarray(restored), np.asarray(photo))
    with zipfile.ZipFile("deblurred.zip") as packed:
        assert sorted(packed.namelist()) == ["other-deblurred.jpg", "photo-deblurred.jpg"]
    assert "seconds_for_a_megapixel" in printed and "'failed': []" in printed


def test_the_curl_calls_of_the_documentation_run_as_printed(served, at_work):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (script,) = blocks("bash")
    script = script.replace("http://127.0.0.1:7860", served.address)
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, timeout=300)
    with Image.open("photo-deblurred.jpg") as restored, Image.open("photo.jpg") as photo:
        assert restored.size == photo.size


def test_a_mistake_is_answered_with_its_sentence_and_no_file_of_the_server_is_read(served, tmp_path):
    client = gradio_client.Client(served.address, verbose=False, download_files=tmp_path)
    bad = tmp_path / "broken.jpg"
    bad.write_text("no picture")
    with pytest.raises(Exception, match=r"^broken\.jpg: "):
        client.predict(gradio_client.handle_file(bad), api_name="/deblur")
    good = gradio_client.handle_file(ROOT / "space" / "examples" / "cat.jpg")
    with pytest.raises(Exception, match="the choice 'magic' is not known; take one of auto, best"):
        client.predict(good, model="magic", api_name="/deblur")
    with pytest.raises(Exception, match="strength 3 is not between 0"):
        client.predict(good, strength=3, api_name="/deblur")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("/etc/passwd", str(ROOT / "pyproject.toml"), f"{ROOT}/space/examples/../app.py"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            direct.open(f"{served.address}/gradio_api/file={path}")


def test_the_endpoints_are_tools_of_an_mcp_server(served):
    mcp = pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")
    from mcp.client.streamable_http import streamablehttp_client

    with Image.open(ROOT / "space" / "examples" / "cat.jpg") as photo:
        small = photo.resize((96, 64))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG")
    sent = f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"

    async def ask():
        async with (
            streamablehttp_client(f"{served.address}/gradio_api/mcp/") as (answers, questions, _),
            mcp.ClientSession(answers, questions) as session,
        ):
            await session.initialize()
            tools = {tool.name for tool in (await session.list_tools()).tools}
            restored = await session.call_tool("deblur", {"photo": sent, "model": "instant"})
            fetching = await session.call_tool("deblur", {"photo": f"{served.address}/favicon.ico"})
            return tools, restored, fetching

    tools, restored, fetching = asyncio.run(ask())
    assert tools == {"deblur", "deblur_batch", "models"}
    with Image.open(io.BytesIO(base64.b64decode(restored.content[0].data))) as picture:
        assert picture.size == small.size and not np.array_equal(np.asarray(picture), np.asarray(small))
    assert fetching.isError and "403" in fetching.content[0].text


def patches(seed: int, size: tuple[int, int]) -> Image.Image:
    """A picture that no other one looks like: four by four patches of random colours."""
    colours = np.random.default_rng(seed).integers(40, 216, (4, 4, 3), np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def looks_like(picture: Image.Image, seed: int) -> bool:
    small = np.asarray(picture.convert("RGB").resize((4, 4), Image.Resampling.BOX), dtype=float)
    wanted = np.asarray(patches(seed, picture.size).resize((4, 4), Image.Resampling.BOX), dtype=float)
    return bool(np.abs(small - wanted).mean() < 8)


def hostile(number: int) -> bytes:
    """What is no picture, or one that nobody should decode."""
    bomb = io.BytesIO()
    if number % 5 == 0:
        Image.new("1", (12_000, 9_500)).save(bomb, "PNG")
        return bomb.getvalue()
    patches(number, (64, 64)).save(bomb, "PNG")
    kinds = [
        bomb.getvalue()[:60],
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<html><script>alert(1)</script></html>",
        bytes(200),
    ]
    return kinds[number % 4]


@pytest.mark.full
def test_twenty_clients_each_get_their_own_pictures_and_memory_comes_back(served, tmp_path):
    random = np.random.default_rng(7)
    sizes = [tuple(int(side) for side in random.integers(16, 300, 2)) for _ in range(PICTURES - 2)]
    sizes += [(1, 1), (1, 20_000)]
    left, lock, wrong, answered = list(range(PICTURES)), threading.Lock(), [], []

    def ask(client, number: int) -> None:
        file = tmp_path / f"{number}.png"
        if number % HOSTILE_EVERY == 0:
            file.write_bytes(hostile(number // HOSTILE_EVERY))
            try:
                client.predict(gradio_client.handle_file(file), model="instant", api_name="/deblur")
            except Exception as error:
                if not str(error).startswith(f"{number}.png: ") or "\n" in str(error):
                    wrong.append(f"{number}: {error}")
            else:
                wrong.append(f"{number}: was taken for a picture")
            return
        patches(number, sizes[number]).save(file)
        result = client.predict(gradio_client.handle_file(file), model="instant", api_name="/deblur")
        with Image.open(result) as picture:
            if picture.size != sizes[number] or (min(picture.size) >= 16 and not looks_like(picture, number)):
                wrong.append(f"{number}: got another picture")

    def work(name: int) -> None:
        client = gradio_client.Client(served.address, verbose=False, download_files=tmp_path / f"of-{name}")
        while True:
            with lock:
                if not left:
                    return
                number = left.pop()
            ask(client, number)
            answered.append(number)

    for number in range(5):  # after which each model is loaded and each buffer has its size
        warm = gradio_client.Client(served.address, verbose=False, download_files=tmp_path / f"warm-{number}")
        for side in (100, 200, 300):
            patches(side, (side, side)).save(tmp_path / "warm.png")
            warm.predict(gradio_client.handle_file(tmp_path / "warm.png"), model="instant", api_name="/deblur")
    before, started = served.resident(), time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(work, name) for name in range(CLIENTS)]:
            done.result(timeout=600)
    seconds = time.monotonic() - started
    time.sleep(2)
    after = served.resident()
    print(f"{PICTURES} pictures of {CLIENTS} clients in {seconds:.0f} s; memory {before >> 20} -> {after >> 20} MiB")
    assert not wrong and len(answered) == PICTURES
    assert after <= BACK * before
