"""The released models that the package itself holds."""

from functools import cached_property
from math import prod
from pathlib import Path

from safetensors import safe_open

from ..model_card import CardFacts, read_facts
from .files import CARD, CONFIG, weights_file

BUNDLED = Path(__file__).parents[1] / "weights"
DEFAULT_MODEL = "maxim"


class BundledModel(str):
    """The name of a bundled model, which is all that `from_pretrained` wants, and what is known of it beside.

    It is a string like any other; the rest is read from the model's card and weights when somebody asks.

    """

    @cached_property
    def facts(self) -> CardFacts:
        card = bundled_folder(self) / CARD
        return read_facts(card.read_text(encoding="utf-8")) if card.is_file() else CardFacts()

    @property
    def scores(self) -> dict[str, float]:
        """Means on `dataset`, by measure as in results.json (decibels, or as the measure has it), those of the blurry
        input with `blurred_` before them; empty where none were measured."""
        return dict(self.facts.scores)

    @property
    def dataset(self) -> str:
        return self.facts.dataset

    @property
    def license(self) -> str:
        """Of the weights, as the hub abbreviates it."""
        return self.facts.license

    @property
    def origin(self) -> str:
        return "authors' weights" if self.facts.by_authors else "trained here"

    @cached_property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        with safe_open(bundled_folder(self) / weights_file(None), framework="pt") as file:
            return sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - no mapping

    def describe(self) -> str:
        """Size and scores in one line; `repr` stays that of a text, as messages quote names by it."""
        told, scores = f"{self}: {self.parameters / 1e6:.2f} M parameters, {self.origin}", self.scores
        if {"psnr", "blurred_psnr"} <= scores.keys():
            told += f", PSNR {scores['psnr']:.2f} dB (blurry input {scores['blurred_psnr']:.2f} dB) on {self.dataset}"
        return told


def list_models() -> list[BundledModel]:
    """The released models that are bundled, the default first: their names, which know their scores."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    return [BundledModel(name) for name in sorted(names, key=lambda name: name != DEFAULT_MODEL)]


def bundled_folder(name: str) -> Path:
    return BUNDLED / name
