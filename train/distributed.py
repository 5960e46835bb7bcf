"""What the processes of a run decide together, and how the cluster's wish to stop reaches all of them."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import distributed

from deblur_hub.errors import DeblurHubError

Answer = TypeVar("Answer")
WARNINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopRequest(Exception):
    """The run was asked to stop, and its checkpoint is kept; the message names signal and step."""


class Warnings:
    """Notes a SIGTERM or SIGUSR1, with which clusters announce an end, instead of dying of it: a context manager."""

    def __init__(self) -> None:
        self.heard = ""

    def __enter__(self) -> "Warnings":
        self.before = {number: signal.signal(number, self.note) for number in WARNINGS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.heard = signal.Signals(number).name


class Agreement:
    """Brings processes to one view: of the time, of a wish to stop that only one of them heard.

    They talk through the CPUs, so that no one waits for a GPU.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.main = accelerator.is_main_process
        self.group = distributed.new_group(backend="gloo") if accelerator.num_processes > 1 else None

    def on(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The main process's clock, and whether any process wants to stop."""
        if self.group is None:
            return seconds, stop
        told = torch.tensor([seconds if self.main else 0.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(told, group=self.group)
        return float(told[0]), bool(told[1] > 0)


def by_main(action: Callable[[], Answer], accelerator: Accelerator) -> Answer:
    """What the main process's action returns, or its `DeblurHubError`, on every process, once it is done."""
    answer: list[Answer | DeblurHubError | None] = [None]
    if accelerator.is_main_process:
        try:
            answer = [action()]
        except DeblurHubError as reason:
            answer = [reason]
    if accelerator.num_processes > 1:
        broadcast_object_list(answer)
    if isinstance(answer[0], DeblurHubError):
        raise answer[0]
    return answer[0]
