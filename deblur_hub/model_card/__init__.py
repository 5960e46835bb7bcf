"""The README of a model, from what was measured: front matter for the hub, and what people ask before they use it.

All that is generated lies between `CARD_BEGIN` and `CARD_END`, but for the front matter, which stands before them. What
a person writes outside of the two is that person's.
"""

from .about import NOTHING_KNOWN, About, Data, Shown, read_about
from .cards import HERE, SHEET, converted_card, plain_card, release_card, training_card
from .front_matter import CardFacts, read_facts
from .merging import CARD_BEGIN, CARD_END, generated, merge, with_front_of, with_tags
from .scores import PSNR, SSIM, Column, Cost, Scores

__all__ = [
    "CARD_BEGIN",
    "CARD_END",
    "HERE",
    "NOTHING_KNOWN",
    "PSNR",
    "SHEET",
    "SSIM",
    "About",
    "CardFacts",
    "Column",
    "Cost",
    "Data",
    "Scores",
    "Shown",
    "converted_card",
    "generated",
    "merge",
    "plain_card",
    "read_about",
    "read_facts",
    "release_card",
    "training_card",
    "with_front_of",
    "with_tags",
]
