"""Asking a hub again that is overloaded, or whose line broke."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

OVERLOADED = (408, 429, 500, 502, 503, 504)
PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt, where the hub names none
LONGEST_PAUSE = 30  # whoever is told to wait longer than that gets a sentence instead


def with_retries(ask: Callable[[], Result], *, broken_lines: bool = False) -> Result:
    """The result of `ask`, which is called again after a pause if the hub is overloaded, and with `broken_lines` after
    a connection broke, too; other errors pass at once, these after the last attempt."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    for pause in PAUSES:
        try:
            return ask()
        except (HTTPError, LocalEntryNotFoundError) as error:
            # huggingface_hub says of a file that it cannot get that it is not in the cache, and why as the cause
            reason = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
            if isinstance(reason, HfHubHTTPError):
                asked = reason.response.headers.get("Retry-After", "")
                pause = float(asked) if asked.isdecimal() else pause
                if reason.response.status_code not in OVERLOADED or pause > LONGEST_PAUSE:
                    raise
            elif not (broken_lines and isinstance(reason, HTTPError)):
                raise
        time.sleep(pause)
    return ask()
