"""What a model's config.json holds: the architecture and its options, flat, of JSON types, with a schema version."""

import json
from dataclasses import dataclass, field
from typing import Any

from . import __version__
from .errors import ModelError, did_you_mean, shown

SCHEMA_VERSION = 1
MOST_MEGAPIXELS = 110  # of a picture, unless more is asked for: the largest cameras have 102
QUALITIES = ("draft", "fast", "balanced", "best")
HEADER = ("schema_version", "library_name", "library_version", "architecture", "name", "quality")
LONGEST_FILE = 2**20  # bytes; ours have a few hundred
LONGEST_NAME = 100  # characters
Option = bool | int | float | str | list[int] | list[float]


@dataclass(frozen=True)
class GeneratorConfig:
    """The architecture of a generator and the options it is built with.

    Args:
        architecture: a key of `deblur_hub.networks.NETWORKS`.
        options: keyword arguments of that class; what is absent has the class's default.
        name: what the model is called in a repr, a page, a table; one line.
        quality: of `qualities.QUALITIES`, at which it restores where none is asked for; "" chooses by the machine.

    Raises:
        ModelError: for a name or a quality that is none.
    """

    architecture: str
    options: dict[str, Option] = field(default_factory=dict)
    name: str = ""
    quality: str = ""

    def __post_init__(self) -> None:
        if self.quality not in ("", *QUALITIES):
            raise ModelError(f"'quality' must be one of {', '.join(QUALITIES)}, not {shown(self.quality)}")
        if len(self.name) > LONGEST_NAME or not self.name.isprintable():
            text = f"one line of at most {LONGEST_NAME} printable characters"
            raise ModelError(f"'name' must be {text}, not {shown(self.name)}")

    def to_json(self) -> str:
        header = {
            "schema_version": SCHEMA_VERSION,
            "library_name": "deblur-hub",
            "library_version": __version__,
            "architecture": self.architecture,
            "name": self.name,
        }
        if self.quality:
            header["quality"] = self.quality
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options.items()}
        return json.dumps(header | options, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "config.json") -> "GeneratorConfig":
        """Reads what `to_json` wrote. Options are checked where the network is built.

        Raises:
            ModelError: naming `source`, if this is no such JSON object or comes from a newer schema.
        """
        if len(text) > LONGEST_FILE:
            raise ModelError(f"{source}: is longer than any of ours ({LONGEST_FILE} bytes); it is no configuration")
        try:
            content: Any = json.loads(text)
        except (ValueError, RecursionError) as reason:
            raise ModelError(f"{source}: not valid JSON ({reason}); download or save the model again") from None
        if not isinstance(content, dict):
            raise ModelError(f"{source}: holds no JSON object; download or save the model again")
        schema = content.get("schema_version")
        if type(schema) is not int or schema < 1:
            raise ModelError(f"{source}: has no 'schema_version'; it is not a model saved by deblur-hub")
        if schema > SCHEMA_VERSION:
            raise ModelError(
                f"{source}: was written by a newer deblur-hub (schema {schema!s:.20}, this one reads up "
                f"to {SCHEMA_VERSION}); run 'pip install --upgrade deblur-hub'"
            )
        for key in ("architecture", "name", "quality"):
            if not isinstance(content.get(key, ""), str):
                raise ModelError(f"{source}: '{key}' must be a text, not {shown(content[key])}")
        if "architecture" not in content:
            raise ModelError(f"{source}: names no 'architecture'{did_you_mean('architecture', content)}")
        options = {key: value for key, value in content.items() if key not in HEADER}
        try:
            return cls(content["architecture"], options, content.get("name", ""), content.get("quality", ""))
        except ModelError as reason:
            raise ModelError(f"{source}: {reason}") from None
