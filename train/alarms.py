"""What a run tells of itself when it goes wrong: each alarm is a sentence, given once.

Updates that are not finite are never made, and too many of them in a row stop the run. A critic that has saturated and
a generator that returns its input are told of, and nothing more: the recipe may have meant it.
"""

import math

from torch import Tensor

from . import recipe
from .trainer import NonFiniteLossError


class Alarms:
    """Watches the scalars of a run's log."""

    def __init__(self, options: recipe.Alarms) -> None:
        self.options = options
        self.given: set[str] = set()
        self.rows: dict[str, int] = {}

    def require_progress(self, skipped: Tensor, step: int) -> None:
        """Waits for the device; all processes come to the same end.

        Args:
            skipped: the trainer's.

        Raises:
            NonFiniteLossError: if `most_skipped` steps in a row had an update that was not finite.
        """
        row = int(skipped[2])
        if row >= self.options.most_skipped:
            raise NonFiniteLossError(
                f"the loss or its gradient was not finite in {row} step{'s' if row > 1 else ''} in a row up to step "
                f"{step}, and none of these updates was made (alarms.most_skipped = {self.options.most_skipped})"
            )

    def listen(self, step: int, line: dict[str, float]) -> list[str]:
        """The sentences that a line of the log gives rise to, each once in a run."""
        options, sentences = self.options, []
        if line.get("skipped", 0) > 0 and self.first("skipped"):
            sentences.append(
                f"step {step}: a loss or its gradient was not finite; such updates are not made, and the run stops "
                f"after {options.most_skipped} of them in a row; a lower optimizer.lr or optimizer.clip may help"
            )
        if self.low("critic/slope", line, options.least_slope):
            sentences.append(
                f"step {step}: the critic is saturated: what it says of a picture does not change with the picture "
                f"(slope {line['critic/slope']:.1e}, alarms.least_slope = {options.least_slope:g}), so the generator "
                "learns nothing from it; a critic with a linear head or with a gradient penalty does not saturate"
            )
        if step > options.change_after and self.low("generator/change", line, options.least_change):
            sentences.append(
                f"step {step}: the generator returns its input: it changes a picture by "
                f"{line['generator/change']:.1%} of what it should (alarms.least_change = {options.least_change:g}); "
                "a higher optimizer.lr, or pairs that are blurred at all, may help"
            )
        return sentences

    def low(self, key: str, line: dict[str, float], least: float) -> bool:
        """Whether a scalar has now been below its least value for `patience` lines in a row, for the first time."""
        value = line.get(key, math.nan)
        if not math.isnan(value):
            self.rows[key] = self.rows.get(key, 0) + 1 if value < least else 0
        return self.rows.get(key, 0) >= self.options.patience and self.first(key)

    def first(self, key: str) -> bool:
        fresh = key not in self.given
        self.given.add(key)
        return fresh
