"""What the page offers: models by what they are for, and the seconds that each takes for a photo on this machine."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deblur_hub import DEFAULT_MODEL, DeblurGenerator, DeblurHubError, list_models

SETTINGS = Path(__file__).resolve().parents[1] / "space.toml"  # written by `deblur-hub publish-space --model`
AFFORDED = 60.0  # seconds that "Auto" lets a photo take

LABELS = {
    "best": ("Best", "All of MAXIM: the truest result, for photos that matter."),
    "balanced": ("Balanced", "A third of the work, most of the gain."),
    "fast": ("Fast", "Our own network; knows noise and JPEG, and can be made crisper."),
}
AUTO = "auto"
SLOWNESS: dict[str, float] = {}  # seconds that a choice takes here, as a share of those estimated


@dataclass(frozen=True)
class Choice:
    """A model at a quality; None where it has a single one."""

    key: str
    label: str
    words: str
    model: str
    quality: str | None = None

    @property
    def generator(self) -> DeblurGenerator:
        return generator_named(self.model)

    @property
    def can_be_crisp(self) -> bool:
        return self.quality == "fast" and self.generator.can_be_crisp

    def expected_seconds(self, size: Sequence[int]) -> float:
        """Of a picture of (height, width): what the machine's measured speed says, and this choice's runs so far."""
        return SLOWNESS.get(self.key, 1.0) * self.generator.expected_seconds(size)[self.quality or ""]

    def learn(self, size: Sequence[int], seconds: float) -> None:
        """Takes what a picture of (height, width) took in truth; small ones say little."""
        expected = self.generator.expected_seconds(size)[self.quality or ""]
        if expected > 1:
            SLOWNESS[self.key] = (SLOWNESS.get(self.key, 1.0) + seconds / expected) / 2


@cache
def generator_named(model: str) -> DeblurGenerator:
    """The model, loaded once for as long as the page runs."""
    return DeblurGenerator.from_pretrained(model)


def named_model() -> str | None:
    """The model that this Space was published with."""
    try:
        return str(tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["model"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as reason:
        raise DeblurHubError(f'space.toml: names no model ({reason}); write: model = "owner/name"') from None


@cache
def choices() -> dict[str, Choice]:
    """All of them by key, those of the first model first and the best of it first.

    Raises:
        DeblurHubError: if no model can be loaded.
    """
    named = named_model()
    bundled = sorted(list_models(), key=lambda name: name != DEFAULT_MODEL)
    models = list(dict.fromkeys([*([named] if named else []), *bundled]))
    if not models:
        raise DeblurHubError("no model is bundled with this deblur-hub; install it again")
    made: list[Choice] = []
    for model in models:
        prefix = "" if model == DEFAULT_MODEL else f"{model}, "
        qualities = generator_named(model).qualities if model in (named, DEFAULT_MODEL) else ()
        shown = [quality for quality in reversed(qualities) if quality in LABELS] or list(reversed(qualities))
        for quality in shown:
            label, words = LABELS.get(quality, (quality, ""))
            made.append(Choice(f"{prefix}{quality}", f"{prefix}{label}", words, model, quality))
        if not shown and model == "compact":
            made.append(Choice("instant", "Instant", "A small network that takes only the edge off.", model))
        elif not shown:
            made.append(Choice(model, model, "", model))
    return {choice.key: choice for choice in made}


def chosen(key: str, size: Sequence[int]) -> Choice:
    """The choice of a key, or the best of a model, for "auto" the first, that is estimated to take at most a minute."""
    if key in choices():
        return choices()[key]
    of_model = [choice for choice in choices().values() if choice.model == key]
    if len(of_model) == 1:
        return of_model[0]
    if key != AUTO and not of_model:
        raise DeblurHubError(f"the choice '{key}' is not known; take one of {', '.join([AUTO, *choices()])}")
    first = of_model[0].model if of_model else next(iter(choices().values())).model
    own = [choice for choice in choices().values() if choice.model == first]
    return next((choice for choice in own if choice.expected_seconds(size) <= AFFORDED), own[-1])


def labels(size: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """(label, key) of each choice for the page, with the seconds for a picture of (height, width)."""
    if size is None:
        return [("Auto", AUTO), *((choice.label, key) for key, choice in choices().items())]
    listed = [(f"Auto ({chosen(AUTO, size).label.lower()})", AUTO)]
    for key, choice in choices().items():
        listed.append((f"{choice.label} · {spoken(choice.expected_seconds(size))}", key))
    return listed


def spoken(seconds: float) -> str:
    """A time as people say it: "1 s", "40 s", "3 min"."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 5) * 5} s" if seconds < 100 else f"{round(seconds / 60)} min"
