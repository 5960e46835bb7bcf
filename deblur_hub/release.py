"""Turns a trained model into a released one: half precision, measured as it will be shipped, with a card of its own."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .evaluation import Evaluation, evaluate
from .generator import DeblurGenerator
from .model_card import release_card


def release(
    model: Path,
    name: str,
    pairs: Path,
    folder: Path,
    *,
    training: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores a trained model as it will be loaded, and writes it with its card to `folder`/`name`.

    Args:
        model: a folder that training or `save_pretrained` wrote.
        pairs: the set to score on; the card holds the command that scores it again.
        folder: of released models, such as `deblur_hub/weights`.
        training: a sentence or more on how it was trained, for the card.

    Raises:
        DeblurHubError: if the model or the pairs will not do; what was released before is then untouched.
    """
    generator = DeblurGenerator.from_pretrained(Path(model))
    generator.config = replace(generator.config, name=name)
    with tempfile.TemporaryDirectory() as trial:
        generator.save_pretrained(trial, dtype=torch.float16)
        shipped = DeblurGenerator.from_pretrained(Path(trial))
    evaluation = evaluate(shipped, pairs, precision="float32", progress=progress)
    columns = ("psnr", "ssim", "blurred_psnr", "blurred_ssim")
    card = release_card(
        generator.config,
        {column: evaluation.mean(column) for column in columns},
        [asdict(row) for row in evaluation.rows],
        dataset=str(pairs),
        training=training,
    )
    generator.save_pretrained(folder / name, dtype=torch.float16, card=card)
    return evaluation
