"""Finds the pictures of paired sets on disk, and reports what is wrong with a set before any work on it starts.

`find_pairs` knows the layouts of GoPro, HIDE, RealBlur-J and -R and REDS as they unpack, and two plain folders.
"""

from ..pictures.suffixes import PICTURE_SUFFIXES
from .files import (
    by_stem,
    folders_below,
    missed_note,
    named,
    passed_over,
    picture_size,
    pictures_in,
    require_one_size,
)
from .pairs import BLUR, SHARP, Pair, count_notes, find_pairs, pair_up

__all__ = [
    "BLUR",
    "PICTURE_SUFFIXES",
    "SHARP",
    "Pair",
    "by_stem",
    "count_notes",
    "find_pairs",
    "folders_below",
    "missed_note",
    "named",
    "pair_up",
    "passed_over",
    "picture_size",
    "pictures_in",
    "require_one_size",
]
