"""What a user can do wrong, and mend: each message is one sentence that names the thing, the reason and the way out."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class DeblurHubError(Exception):
    """Base of all our errors; the shell prints it without a traceback, the page shows it as it is."""


class PictureError(DeblurHubError):
    """A picture that cannot be read, is too large to be taken in, or cannot be written."""

    def of(self, path: Path) -> str:
        """The sentence with the whole path, for who works on a set rather than on this picture."""
        return f"{path.parent / str(self).removesuffix('; nothing was written')}; replace it or take it out"


class ModelError(DeblurHubError):
    """A model that cannot be found, is not what it should be, or lacks what is asked of it."""


class RestorationError(DeblurHubError):
    """A picture that cannot be restored here: too large for the memory at hand, or a precision the device lacks."""


class DatasetError(DeblurHubError):
    """A dataset that is empty, unpaired or unreadable."""


LONGEST_SHOWN = 60  # characters
LONGEST_WORD = 200  # characters: nothing that anybody mistyped is longer, and comparing takes their square


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' (did you mean 'lr'?)' for the known word nearest to `word`, else '' : to be put behind an error about it."""
    near = get_close_matches(word, list(known), n=1) if len(word) <= LONGEST_WORD else []
    return f" (did you mean {shown(near[0])}?)" if near else ""


def shown(value: object) -> str:
    """Anything that a stranger wrote, as Python writes it, on one line and short: fit for a sentence."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} in itself without end"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def reason_of(error: BaseException) -> str:
    """What an error of the system or of a library says, to be put in brackets behind a sentence of ours."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
