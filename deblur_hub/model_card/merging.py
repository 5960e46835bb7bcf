"""What is generated of a card and what people wrote: one that is generated again keeps their words, tags and licence.

Generated are the part between two marks and the keys `OURS` of the front matter, which are replaced.
"""

import logging
from typing import Any

MARK = "<!-- deblur-hub:"
CARD_BEGIN = f"{MARK} generated from here on; edits in here are replaced -->"
CARD_END = f"{MARK} end of what is generated; what you write below stays -->"
OURS = (  # of these weights or this page: nothing of others may stay
    *("library_name", "pipeline_tag", "metrics", "model-index"),
    *("sdk", "sdk_version", "app_file"),
)
AUTHORS = "authors-weights"  # a tag of these weights, too: that a paper's authors trained them
LISTS = ("tags", "datasets", "models")  # to which people add
# All that the hub writes into the README of a new Space, below a front matter with a title and colours of its choice.
NEW_SPACE = "Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference"

log = logging.getLogger("deblur_hub")


def assembled(front: str, *sections: str) -> str:
    """The front matter and, between the two marks, the sections; no other mark stands in them, whatever they quote."""
    body = "\n".join(section for section in sections if section)
    front, body = (text.replace(MARK, MARK.replace("<", "")) for text in (front, body))
    return f"{front}\n{CARD_BEGIN}\n\n{body}\n{CARD_END}\n"


def generated(text: str) -> str:
    """The generated part of a text with its two marks; "" if these are not there once each and in order."""
    start, end = text.find(CARD_BEGIN), text.find(CARD_END)
    once = text.count(CARD_BEGIN) == text.count(CARD_END) == 1
    return text[start : end + len(CARD_END)] if once and start < end else ""


def merge(existing: str, fresh: str, *, source: str = "README.md") -> str:
    """The existing card with the generated part of a fresh one, and with its front matter where people wrote none.

    A card without the two marks is a person's own: its text stays as it is, and its front matter gains what the hub
    needs. Warnings of the log begin with `source`.
    """
    (old_front, old_text), (new_front, new_text) = split(existing), split(fresh)
    if existing == fresh or old_text.strip() == NEW_SPACE:
        return fresh
    if not (new_part := generated(new_text)):
        log.warning("%s is kept as it is: the new card has no generated part", source)
        return existing
    front, text = merged_front(old_front, new_front), old_text
    if old_part := generated(text):
        text = text.replace(old_part, new_part)
    else:
        front = {key: old_front[key] for key in OURS if key in old_front} | front
        hint = f"to have one, put '{CARD_BEGIN}' and '{CARD_END}' where it is to be"
        log.warning("%s is kept, as it has no generated part; %s", source, hint)
    if "license" in new_front and front["license"] != new_front["license"]:
        log.warning("%s keeps its licence '%s'; to change it, edit that file", source, front["license"])
    if front == old_front:  # with its comments
        return existing.removesuffix(old_text) + text
    if front == new_front:
        return fresh.removesuffix(new_text) + text
    return with_front(front, text)


def merged_front(held: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A fresh front matter with what people wrote into the one before: keys, words in lists, the licence."""
    front = new | {key: value for key, value in held.items() if key not in OURS}
    for key in LISTS:
        if isinstance(held.get(key), list):
            words = [word for word in held[key] if word != AUTHORS]
            front[key] = words + [word for word in new.get(key) or () if word not in words]
    return front


def with_tags(card: str, tags: list[str]) -> str:
    """A card with further tags in its front matter."""
    front, text = split(card)
    held = front.get("tags")
    held = held if isinstance(held, list) else []
    added = [tag for tag in dict.fromkeys(tags) if tag not in held]
    return with_front(front | {"tags": held + added}, text) if added else card


def with_front_of(card: str, other: str) -> str:
    """A card with what people wrote into another card's front matter; the licence of the first counts if it has one."""
    front, (own, text) = split(other)[0], split(card)
    if own.get("license", front.get("license")) != front.get("license"):
        front = {key: value for key, value in front.items() if not key.startswith("license")}
    return with_front(merged_front(front, own), text) if front else card


def split(card: str) -> tuple[dict[str, Any], str]:
    """The front matter, as huggingface_hub reads it, and the text below; one that cannot be read counts as text."""
    from huggingface_hub import RepoCard
    from yaml import YAMLError  # which huggingface_hub reads it with

    if card.lstrip().startswith("---"):
        try:
            found = RepoCard(card)
            return found.data.to_dict(), found.text  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, RecursionError, YAMLError):
            pass
    return {}, card


def with_front(front: dict[str, Any], text: str) -> str:
    from huggingface_hub.repocard_data import CardData

    return f"---\n{CardData(**front).to_yaml()}\n---\n{text}"
