"""Turns a trained model into a released one: half precision, measured as it will be shipped, with a card of its own."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..config import QUALITIES
from ..errors import ModelError
from ..evaluation import Evaluation, evaluate
from ..generator import DeblurGenerator
from ..model_card import NOTHING_KNOWN, About, read_facts, with_front_of
from ..restoration.crispness import same_network
from .card import card_of, comparison_sheet, existing_card, pictures_beside


def release(
    models: list[Path],
    name: str,
    pairs: Path,
    folder: Path,
    *,
    about: About = NOTHING_KNOWN,
    pictures: Path | None = None,
    metrics: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores a trained model as it will be loaded, and writes it with its card to `folder`/`name`.

    Args:
        models: folders that training or `save_pretrained` wrote. Several, of one run, are averaged weight by weight,
            which often generalises better than either (Wortsman et al., ICML 2022, "Model soups").
        pairs: the set to score on; the card holds the command that scores it again.
        folder: of released models, such as `deblur_hub/weights`.
        about: what the card is to say that cannot be measured. Its licence counts where a card that is there states
            none; where both do not, that of `models` does.
        pictures: pairs that may be published, of which the card shows those that `about` names.
        metrics: further ones than PSNR and the SSIMs.

    Returns the scores at the best of its qualities.

    Raises:
        DeblurHubError: if a model, the pairs or the pictures will not do, or the models are of different architectures;
            what was released before is then untouched.
    """
    generator = averaged([DeblurGenerator.from_pretrained(Path(model)) for model in models])
    generator.config = replace(generator.config, name=name)
    with tempfile.TemporaryDirectory() as trial:
        generator.save_pretrained(trial, dtype=torch.float16)
        shipped = DeblurGenerator.from_pretrained(Path(trial))
    sheet = comparison_sheet(shipped, pictures, about.pictures) if pictures else b""
    evaluations = [
        evaluate(shipped.with_quality(quality), pairs, metrics=metrics, precision="float32", progress=progress)
        for quality in shipped.qualities or QUALITIES[-1:]
    ]
    before, source = existing_card(folder / name), card_of_all(models)
    about = replace(about, license=read_facts(before).license or about.license or read_facts(source).license)
    card = with_front_of(card_of(folder / name, shipped.config, evaluations, about, pictures=bool(sheet)), source)
    with pictures_beside(folder / name, sheet):
        generator.save_pretrained(folder / name, dtype=torch.float16, card=card)
    return evaluations[-1]


def card_of_all(models: Sequence[Path]) -> str:
    """The card of the first of several models; "" if their licences differ, as that of their mean is then unknown."""
    cards = [existing_card(Path(model)) for model in models]
    return cards[0] if len({read_facts(card).license for card in cards}) == 1 else ""


def averaged(generators: list[DeblurGenerator]) -> DeblurGenerator:
    """The first generator with the mean of all their weights."""
    first = generators[0]
    for other in generators[1:]:
        if not same_network(other.config, first.config):
            raise ModelError(
                f"{other} and {first} differ in architecture or options and cannot be averaged; release one of them"
            )
    states = [generator.network.state_dict() for generator in generators]
    first.network.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})
    return first
