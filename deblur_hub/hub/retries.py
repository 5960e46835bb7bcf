"""Asking a hub again that is overloaded, or whose line broke."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

OVERLOADED = (408, 429, 500, 502, 503, 504)
PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt, where the hub names none
LONGEST_PAUSE = 30  # whoever is told to wait longer than that gets a sentence instead


def patiently(ask: Callable[[], Result], *, broken_lines: bool = False) -> Result:
    """What `ask` gives, which is called again after a pause if the hub says that it is overloaded.

    Args:
        ask: without harm if repeated.
        broken_lines: whether a line that broke is a reason to ask again, too.

    Raises:
        HTTPError: the last of `ask`, if it is of another kind, or after the last attempt.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    for pause in PAUSES:
        try:
            return ask()
        except HfHubHTTPError as reason:
            asked = reason.response.headers.get("Retry-After", "")
            pause = float(asked) if asked.isdecimal() else pause
            if reason.response.status_code not in OVERLOADED or pause > LONGEST_PAUSE:
                raise
        except HTTPError:
            if not broken_lines:
                raise
        time.sleep(pause)
    return ask()
