"""Serves the page: `python space/app.py` here or as a Hugging Face Space; `deblur-hub demo` does the same."""

import importlib.util
import os
import signal
import socket
import sys
import threading
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: with it the page touches no network at all
os.environ["GRADIO_RUN_HISTORY"] = "False"  # visitors' photos are not listed in their browser

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gradio as gr
from starlette.middleware import Middleware

from deblur_hub import DeblurHubError
from deblur_page import folders, words
from deblur_page.api import build_api
from deblur_page.compare import build_compare
from deblur_page.guard import Guard
from deblur_page.line import Line
from deblur_page.many import build_many
from deblur_page.one import build_one, opening_run
from deblur_page.theme import theme

HERE = Path(__file__).resolve().parent
MAX_FILE_SIZE = "400mb"  # a 16-bit PNG of 60 megapixels
SCRIPTS = ("viewer.js", "page.js")


def build_app(line: Line) -> gr.Blocks:
    """The page, opening on the first example as it was restored just now.

    Raises:
        DeblurHubError: if no model can be loaded.
    """
    opening = opening_run(line)
    with gr.Blocks(title="deblur-hub", analytics_enabled=False) as app:
        gr.HTML(words.HEADER)
        with gr.Tab("One photo", id="one"):
            build_one(line, opening, app)
        with gr.Tab("Many photos", id="many"):
            build_many(line, app)
        with gr.Tab("Compare", id="compare"):
            build_compare(line, app)
        build_api(line)
    return app.queue(max_size=200, default_concurrency_limit=None)


def main(*, host: str | None = None, port: int | None = None, open_browser: bool = False) -> None:
    """Serves the page until Ctrl-C or SIGTERM; without a host and a port, where Gradio's environment variables say.

    Raises:
        DeblurHubError: if no model can be loaded or the port is taken.
    """
    if port:
        require_free(host or "127.0.0.1", port)  # before anybody waits for the first picture
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, while the page is not open yet
    line = Line()
    try:
        app = build_app(line)
        address = launch(app, host, port, open_browser)
        folders.keep_sweeping()
        print(f"deblur-hub is open at {address} (Ctrl-C ends it)", flush=True)
        wait_for_the_end()
        line.close()
        app.close(verbose=False)
    except KeyboardInterrupt:
        pass
    finally:
        line.close()


def launch(app: gr.Blocks, host: str | None, port: int | None, open_browser: bool) -> str:
    """Opens the page; its address."""
    scripts = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    try:
        return app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MAX_FILE_SIZE,
            allowed_paths=[str(HERE / "examples")],
            app_kwargs={"middleware": [Middleware(Guard)]},
            theme=theme(),
            css_paths=[HERE / "style.css"],
            js=f"() => {{ {scripts}\nstartPage(); }}",
            footer_links=["api"],
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=importlib.util.find_spec("mcp") is not None,
        )[1]
    except OSError:
        raise taken(port) from None


def require_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        raise taken(port) from None


def taken(port: int | None) -> DeblurHubError:
    at = f"port {port} is" if port else "the ports from 7860 on are"
    return DeblurHubError(
        f"the page cannot be opened: {at} taken or not allowed; choose another, such as deblur-hub demo --port 8000"
    )


def wait_for_the_end() -> None:
    """Returns at Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(1):  # a wait without an end would not see the signal on Windows
        pass


if __name__ == "__main__":
    try:
        main()
    except DeblurHubError as error:
        sys.exit(f"deblur-hub: {error}")
