"""What our own training keeps: the whole state of a run, whose averaged generator becomes a model."""

import json
from typing import Any

from torch import Tensor

from ..networks import PRESETS
from .layout import Converted

AVERAGE = "average"


def from_run(content: Any) -> Converted | None:
    """The averaged generator of `checkpoints/last.pt`, whose recipe lies beside it; None if it is something else."""
    if not isinstance(content, dict) or not {"schema_version", "recipe", AVERAGE} <= content.keys():
        return None
    recipe = json.loads(content["recipe"])
    architecture, options = PRESETS.get(recipe["generator"], (recipe["generator"], {}))
    options = {key: value for key, value in (options | recipe["network"]).items() if key != "dropout"}
    average: dict[str, Tensor] = content[AVERAGE]
    dropped = {key: "of the run, not of the model" for key in content if key != AVERAGE}
    return Converted(f"training state of recipe '{recipe['name']}'", architecture, options, dict(average), dropped)
