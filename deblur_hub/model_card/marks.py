"""The two marks between which a card is generated, and how a card is generated again around what a person wrote."""

import re

OURS = "<!-- deblur-hub:"
CARD_BEGIN = f"{OURS} generated from here on; edits in here are replaced -->"
CARD_END = f"{OURS} end of what is generated; what you write below stays -->"
FRONT_MATTER = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)


def assembled(front: str, *sections: str) -> str:
    """The front matter and, between the two marks, the sections; no other mark stands in them, whatever they quote."""
    body = "\n".join(section for section in sections if section)
    front, body = (text.replace(OURS, OURS.replace("<", "")) for text in (front, body))
    return f"{front}\n{CARD_BEGIN}\n\n{body}\n{CARD_END}\n"


def renewed(before: str, after: str) -> str:
    """A generated card, `after`, with what a person wrote in the one before it above and below its marks.

    Raises:
        ValueError: if the one before has not both marks once and in order: then nobody knows what is whose.
    """
    before = before.replace("\r\n", "\n")
    if [before.count(mark) for mark in (CARD_BEGIN, CARD_END)] != [1, 1]:
        raise ValueError("it has not the two marks around what is generated")
    above, _, rest = before.partition(CARD_BEGIN)
    _, mark, below = rest.partition(CARD_END)
    if not mark:
        raise ValueError("its marks around what is generated are in the wrong order")
    front, begin, body = after.partition(CARD_BEGIN)
    kept = FRONT_MATTER.sub("", above).strip("\n")
    return "".join((front, f"{kept}\n\n" if kept else "", begin, body.partition(CARD_END)[0], CARD_END, below))
