"""A README that a person may have edited, renewed: what was generated is replaced, the rest stays as it is."""

import logging
import re
from typing import Any

from ..model_card import CARD_BEGIN, CARD_END

FRONT = re.compile(r"---[ \t]*\r?\n(.*?\n)?---[ \t]*(\r?\n|$)", re.DOTALL)
OURS = ("library_name", "pipeline_tag", "metrics", "model-index")  # of these weights: nothing of others may stay
LISTS = ("tags", "datasets")  # to which people add

log = logging.getLogger("deblur_hub")


def merge(existing: str, fresh: str, *, source: str = "README.md") -> str:
    """The existing README with the generated block and what belongs to it in the front matter from a fresh one.

    Keys that people added to the front matter, words that they added to its lists and their licence stay. A README
    without the two marks of a generated block is a person's own and stays, but for what the hub needs in the front
    matter; a line of the log says so, under `source`.
    """
    if existing == fresh:
        return fresh
    (held, text), (new, fresh_text) = split(existing), split(fresh)
    old_block, new_block = block(text), block(fresh_text)
    if not new_block:
        log.warning("%s is kept as it is: the new one has no generated block to put into it", source)
        return existing
    if old_block:
        front = {key: value for key, value in held.items() if key not in OURS}
        text = text.replace(old_block, new_block)
    else:
        front = held
        log.warning(
            "%s is kept, as it has no generated block; to have one, put '%s' and '%s' where it is to be",
            source,
            CARD_BEGIN,
            CARD_END,
        )
    merged = new | front | {key: new[key] for key in OURS if key in new}
    for key in LISTS:
        if isinstance(new.get(key), list) and isinstance(held.get(key), list):
            merged[key] = new[key] + [word for word in held[key] if word not in new[key]]
    if merged.get("license") != new.get("license"):
        log.warning("%s keeps its licence '%s'; the new one says '%s'", source, merged["license"], new.get("license"))
    if merged == held:
        return existing[: len(existing) - len(split(existing)[1])] + text
    if merged == new:
        return fresh[: len(fresh) - len(fresh_text)] + text
    return joined(merged, text)


def with_tags(card: str, tags: list[str]) -> str:
    """A card with further tags in its front matter."""
    front, text = split(card)
    held = front.get("tags")
    held = held if isinstance(held, list) else []
    added = [tag for tag in dict.fromkeys(tags) if tag not in held]
    return joined(front | {"tags": held + added}, text) if added else card


def split(card: str) -> tuple[dict[str, Any], str]:
    """The front matter, empty where there is none that can be read, and the text below it."""
    import yaml

    if not (match := FRONT.match(card)):
        return {}, card
    try:
        front = yaml.safe_load(match[1] or "")
    except yaml.YAMLError:
        front = None
    return front if isinstance(front, dict) else {}, card[match.end() :]


def joined(front: dict[str, Any], text: str) -> str:
    import yaml

    written = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{written}---\n{text}"


def block(text: str) -> str:
    """The generated part of a text with its marks, '' if there is none."""
    start = text.find(CARD_BEGIN)
    end = text.find(CARD_END, start)
    return text[start : end + len(CARD_END)] if 0 <= start < end else ""
