"""What a card says that cannot be measured: a TOML file, written by whoever releases the model.

    license = "apache-2.0"                  # of the weights; omitted where it is not known
    training = "On two cores for two hours ..."
    recipe = "accelerate launch train/ --recipe compact --data pictures/ --output runs/compact"
    fails = "On strong defocus ..."
    authors = "Tu et al., Google LLC"       # whose weights these are; omitted where they were trained here
    notice = "Changed from theirs: ..."     # what their licence asks to be said

    [pairs]                                 # what the set is called that it was scored on
    folder = "eval/gopro"
    title = "5 of GoPro's test pairs"
    dataset = "snah/GOPRO_Large"
    fingerprint = "0123..."                 # of results.json: so that no other set goes by this name

    [[data]]                                # what it was trained on
    name = "GoPro"
    by = "Nah, Kim and Lee, CVPR 2017"
    licence = "CC BY 4.0"
    dataset = "snah/GOPRO_Large"            # its name on the hub, if it is there

    [[pictures]]                            # to be shown: their files are given when the card is made
    name = "coffee.jpg"
    corner = [140, 40]
    credit = "by Rachel Michetti, CC0"

Prose is Markdown, and stands in the card as it is written.
"""

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ModelError, did_you_mean


@dataclass(frozen=True)
class PairsTold:
    """What a set of pairs is called: in commands, for people, and on the hub; and its fingerprint in results.json."""

    folder: str = ""
    title: str = ""
    dataset: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Data:
    """A set that the model was trained on."""

    name: str
    by: str = ""
    licence: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Shown:
    """A picture that may be published: its name in its set, the corner (left, top) of what is shown, and the credit."""

    name: str
    credit: str
    corner: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class About:
    """The file's content; what is empty is left out of the card."""

    license: str = ""
    training: str = ""
    recipe: str = ""
    fails: str = ""
    citation: str = ""
    authors: str = ""
    notice: str = ""
    pairs: PairsTold = PairsTold()
    data: tuple[Data, ...] = ()
    pictures: tuple[Shown, ...] = ()


NOTHING_KNOWN = About()


def read_about(path: Path) -> About:
    """Reads such a file; `ModelError` if it cannot be read, or holds what it should not."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise ModelError(f"{path}: cannot be read ({reason}); correct it, or omit it") from None
    pairs, data, pictures = (content.pop(key, empty) for key, empty in (("pairs", {}), ("data", []), ("pictures", [])))
    for key, kind in (("data", data), ("pictures", pictures)):
        if not isinstance(kind, list):
            raise ModelError(f"{path}: '{key}' is a list of tables; write [[{key}]] above each")
    return About(
        **texts(path, About, content),
        pairs=PairsTold(**texts(path, PairsTold, pairs)),
        data=tuple(Data(**texts(path, Data, entry)) for entry in data),
        pictures=tuple(Shown(**texts(path, Shown, entry)) for entry in pictures),
    )


def texts(path: Path, kind: type, entry: Any) -> dict[str, Any]:
    """A table whose keys are the texts of a dataclass, and perhaps a corner; all that have no default are there."""
    if not isinstance(entry, dict):
        raise ModelError(f"{path}: holds {entry!r:.60} where a table belongs; see 'deblur-hub card --help'")
    known = {item.name: item for item in fields(kind) if item.type in (str, tuple[int, int])}
    for key, value in entry.items():
        if key not in known:
            raise ModelError(f"{path}: unknown key '{key:.60}'{did_you_mean(key, known)}; it may be {', '.join(known)}")
        if known[key].type is not str:
            if not (isinstance(value, list) and len(value) == 2 and all(type(n) is int and n >= 0 for n in value)):
                raise ModelError(f"{path}: '{key}' is {value!r:.60}, not two whole numbers such as [140, 40]")
        elif not isinstance(value, str):
            raise ModelError(f"{path}: '{key}' must be a text, not {value!r:.60}")
    for name, item in known.items():
        if item.default is MISSING and not entry.get(name):
            raise ModelError(f"{path}: an entry has no '{name}'; add it")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
