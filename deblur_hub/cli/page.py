"""`deblur-hub demo`."""

import argparse
import importlib.util
import sys
from pathlib import Path

from .outcomes import OK, UsageError


def run_demo(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("gradio") is None:
        raise UsageError("the page needs gradio; install it with: pip install 'deblur-hub[space]'")
    package = Path(__file__).resolve().parents[1]
    # An installed wheel carries the page inside the package; in a checkout it stands beside it.
    programs = [folder / "space/app.py" for folder in (package, package.parent)]
    program = next(filter(Path.is_file, programs), None)
    spec = program and importlib.util.spec_from_file_location("deblur_hub_page", program)
    if not spec or not spec.loader:
        raise UsageError(f"the page is missing from {package}; install deblur-hub again")
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
