"""`deblur-hub demo` and `publish-space`."""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from ..hub.publishing import require_access
from ..hub.spaces import publish_space, publish_static_space
from .export import write_web
from .outcomes import OK, UsageError


def page_folder() -> Path:
    """Where app.py is: an installed wheel carries the page inside the package, in a checkout it stands beside it."""
    if importlib.util.find_spec("gradio") is None:
        raise UsageError("the page needs gradio; install it with: pip install 'deblur-hub[space]'")
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "space", package.parent / "space"):
        if (folder / "app.py").is_file():
            return folder
    raise UsageError(f"the page is missing from {package}; install deblur-hub again")


def run_publish_space(options: argparse.Namespace) -> int:
    if doubt := require_access(options.repo):
        raise UsageError(f"{doubt.partition(';')[0]}; try again later")
    if options.static:
        if options.hardware:
            raise UsageError("a static Space computes in the visitor's browser; omit --hardware")
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page"
            write_web(options.model, None, page, options.runtime)
            settings = {"model": options.model, "private": options.private or None}
            print(publish_static_space(page, options.repo, **settings))
        return OK
    if options.runtime:
        raise UsageError("--runtime is for --static; omit it")
    settings = {"model": options.model, "private": options.private or None, "hardware": options.hardware}
    print(publish_space(page_folder(), options.repo, **settings))
    return OK


def run_demo(options: argparse.Namespace) -> int:
    spec = importlib.util.spec_from_file_location("deblur_hub_page", page_folder() / "app.py")
    assert spec and spec.loader
    page = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = page
    spec.loader.exec_module(page)
    try:
        page.main(host=options.host, port=options.port, open_browser=not options.no_browser)
    except OSError as reason:
        raise UsageError(
            f"the page cannot be opened on {options.host}:{options.port} ({reason}); "
            "another may be running there: name another --port"
        ) from None
    return OK
