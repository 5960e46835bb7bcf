"""Where a run reads and writes, when it ends, and how far it has come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblur_hub.errors import DeblurHubError

from .publish import Publisher


class StepError(DeblurHubError):
    """An error that stops a run, perhaps on one process alone: a broken picture, a loss of NaN, a lost process."""


@dataclass
class Run:
    """Where a run reads and writes, and when it ends: the options of the command line.

    `time_budget` is in seconds of training, validation included, over all sessions; the schedule then stretches over it
    instead of over the steps, unless the recipe says otherwise.
    """

    data: Path
    output: Path
    cache: Path
    steps: int = 0  # of the generator; 0 takes the recipe's
    time_budget: float = 0.0  # 0 for none
    resume: bool = False
    init_from: Sequence[str] = ()  # models whose weights the generator, or a part of it, starts from
    perceptual_weights: Path | None = None
    publisher: Publisher | None = None
    resume_from: Path | None = None  # a folder with the state of another run


@dataclass
class Progress:
    """How far a run has come; saved in its checkpoints."""

    step: int = 0
    seconds: float = 0.0
    best_psnr: float = float("-inf")
    best_step: int = 0
    measured: int = -1  # the step of the last validation
    best: dict[str, float] = field(default_factory=dict)  # mean scores at `best_step`
    blurred: dict[str, float] = field(default_factory=dict)
    oldest: int = 0  # the first generation of the sample pool, if there is one

    def __post_init__(self) -> None:
        if not self.best and self.best_psnr > float("-inf"):  # a checkpoint from when PSNR alone could choose
            self.best = {"psnr": self.best_psnr}

    def validation_due(self, every: int) -> bool:
        return self.step > 0 and self.step % every == 0 and self.measured != self.step


@dataclass(frozen=True)
class RunLength:
    """When a run ends, by its steps or its time, and how far its schedule is by then."""

    steps: int  # 0 for none, where there is a budget
    budget: float  # in seconds; 0 for none
    stretch: bool  # a budget alone ends the run, and the schedule stretches over it; else whichever comes first

    @property
    def by_time(self) -> bool:
        return bool(self.budget and self.stretch)

    def fraction(self, progress: Progress) -> float:
        """The part of the run that is done; 1 and more at its end."""
        return max(self.schedule_fraction(progress), progress.seconds / self.budget if self.budget else 0.0)

    def schedule_fraction(self, progress: Progress) -> float:
        return progress.seconds / self.budget if self.by_time else progress.step / self.steps
