"""The processes of a run: how they start, what they decide together, and how a signal to stop reaches all of them."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list
from torch import distributed

from deblur_hub.errors import DeblurHubError
from deblur_hub.restoration.restore import has_fast_bfloat16

from .recipe import RecipeError
from .run import StepError

Answer = TypeVar("Answer")
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
REPORT_AFTER = 20.0  # seconds of waiting for other processes
TORCHRUN = "'ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ ...'"


# The start -----------------------------------------------------------------------------------------------------------


def make_accelerator(precision: str, patience: float) -> Accelerator:
    """accelerate's view of this process and the others, which wait for each other for `patience` seconds at most.

    Raises:
        RecipeError: if accelerate refuses.
        StepError: if the other processes do not come.
    """
    timeout = InitProcessGroupKwargs(timeout=timedelta(seconds=patience))
    try:
        with report_waiting(patience):
            accelerator = Accelerator(mixed_precision=mixed_precision(precision), kwargs_handlers=[timeout])
    except (distributed.DistError, TimeoutError) as reason:
        raise StepError(
            f"the other processes did not come within {patience:g} seconds ({rank_and_address()}): "
            f"{type(reason).__name__}; "
            "start all of them with the same MASTER_ADDR and MASTER_PORT, or unset WORLD_SIZE and RANK for one alone"
        ) from None
    except ValueError as reason:
        raise RecipeError(
            f"accelerate cannot start here ({str(reason).rstrip('.')}); check the recipe's precision "
            f"'{precision}' and the line that launched this"
        ) from None
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise RecipeError("precision 'fp16' needs a GPU; take 'auto', 'bf16' or 'no' on a CPU")
    return accelerator


def check_launch(accelerator: Accelerator) -> None:
    """Raises `RecipeError` if launcher options would be lost, or would train several copies of one run."""
    environment = os.environ
    if world_size() > 1 and accelerator.num_processes == 1:
        raise RecipeError(
            f"several processes were launched, but each believes that it is alone; for CPUs launch with {TORCHRUN}"
        )
    # accelerate launch names a main process to all of several; with --cpu it then starts one of them.
    alone = "ACCELERATE_DYNAMO_BACKEND" in environment and "WORLD_SIZE" not in environment
    if alone and "MASTER_ADDR" in environment and accelerator.device.type == "cpu":
        raise RecipeError(
            "accelerate launch was asked for several processes and started one, as it does for CPUs; launch with "
            f"{TORCHRUN}, or with --num_processes 1"
        )
    sharded = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)
    if accelerator.distributed_type in sharded:
        raise RecipeError(
            f"accelerate is configured for {accelerator.distributed_type.value}, and the networks here are trained "
            "whole on each GPU; launch with --multi_gpu, or with torchrun"
        )
    if environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        raise RecipeError("the recipe says whether networks are compiled; omit --dynamo_backend and --set compile=true")
    if accelerator.gradient_accumulation_steps != 1:
        raise RecipeError(
            "the recipe says how gradients are accumulated; omit --gradient_accumulation_steps and "
            "--set optimizer.accumulate=N"
        )


@contextmanager
def report_waiting(patience: float) -> Iterator[None]:
    """Prints which processes this one waits for, if that takes long."""
    sentence = f"train: waiting for the others, for at most {patience:g} seconds ({rank_and_address()})"
    timer = threading.Timer(REPORT_AFTER, print, [sentence], {"file": sys.stderr})
    timer.daemon = True
    if world_size() > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def rank_and_address() -> str:
    keys = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    rank, world, address, port = (os.environ.get(key, "?") for key in keys)
    return f"this is process {rank} of {world}, counted from 0; they meet at {address}:{port}"


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def mixed_precision(wanted: str) -> str:
    """accelerate's name of a recipe's precision: "auto" is bf16 where the hardware computes in it."""
    if wanted != "auto":
        return wanted
    fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast or (not torch.cuda.is_available() and has_fast_bfloat16()) else "no"


def usable_cores() -> int:
    """Cores that this process may run on, perhaps fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The run -------------------------------------------------------------------------------------------------------------


class StopRequest(Exception):
    """The run was asked to stop, and its checkpoint is saved; the message names signal and step."""


@contextmanager
def noted_signals() -> Iterator[list[str]]:
    """Collects SIGTERM and SIGUSR1, with which clusters announce an end, by their names, instead of dying of them."""
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    handlers = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class ProcessSync:
    """Shares clock and stop signals among the processes, over gloo so that nobody waits for a GPU."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.main = accelerator.is_main_process
        self.group = distributed.new_group(backend="gloo") if accelerator.num_processes > 1 else None

    def share(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The main process's clock, and whether any process wants to stop."""
        if self.group is None:
            return seconds, stop
        values = torch.tensor([seconds if self.main else 0.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(values, group=self.group)
        return float(values[0]), bool(values[1] > 0)


def run_on_main(action: Callable[[], Answer], accelerator: Accelerator) -> Answer:
    """Runs an action on the main process; returns its result, or raises its `DeblurHubError`, on all of them."""
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


def is_lost_process(reason: RuntimeError) -> bool:
    """Whether an error says, in the words of gloo or NCCL, that another process of this run is gone."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    lost = isinstance(reason, distributed.DistError) or any(word in str(reason) for word in words)
    return world_size() > 1 and lost
