"""How processes were launched and find each other; what launchers get wrong without a word is a sentence here."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import distributed

from deblur_hub.restoration.restore import has_fast_bfloat16

from .recipe import Recipe, RecipeError
from .run import StepError

SPEAK_AFTER = 20.0  # seconds of waiting for the others
BY_TORCHRUN = "'ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ ...'"


def make_accelerator(recipe: Recipe, patience: float) -> Accelerator:
    """accelerate's view of this process and the others.

    Args:
        patience: seconds that processes wait for each other, at the start and later.

    Raises:
        RecipeError: where accelerate refuses.
        StepError: where the others do not come.
    """
    timeout = InitProcessGroupKwargs(timeout=timedelta(seconds=patience))
    try:
        with telling_of_waiting(patience):
            accelerator = Accelerator(mixed_precision=precision(recipe.precision), kwargs_handlers=[timeout])
    except (distributed.DistError, TimeoutError) as reason:
        raise StepError(
            f"the other processes did not come within {patience:g} seconds ({whereabouts()}): {type(reason).__name__}; "
            "start all of them with the same MASTER_ADDR and MASTER_PORT, or unset WORLD_SIZE and RANK for one alone"
        ) from None
    except ValueError as reason:
        raise RecipeError(
            f"accelerate cannot start here ({str(reason).rstrip('.')}); check the recipe's precision "
            f"'{recipe.precision}' and the line that launched this"
        ) from None
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise RecipeError(f"recipe '{recipe.name}': precision 'fp16' needs a GPU; take 'auto', 'bf16' or 'no' on a CPU")
    return accelerator


def require_sound_launch(accelerator: Accelerator) -> None:
    """Refuses what would train something else than was meant, or several times the same; raises `RecipeError`."""
    environment = os.environ
    if int(environment.get("WORLD_SIZE", 1)) > 1 and accelerator.num_processes == 1:
        raise RecipeError(
            f"several processes were launched, but each believes that it is alone; for CPUs launch with {BY_TORCHRUN}"
        )
    # accelerate launch names a main process to all of several; with --cpu it then starts one of them.
    alone = "ACCELERATE_DYNAMO_BACKEND" in environment and "WORLD_SIZE" not in environment
    if alone and "MASTER_ADDR" in environment and accelerator.device.type == "cpu":
        raise RecipeError(
            "accelerate launch was asked for several processes and started one, as it does for CPUs; launch with "
            f"{BY_TORCHRUN}, or with --num_processes 1"
        )
    if accelerator.distributed_type in (
        DistributedType.FSDP,
        DistributedType.DEEPSPEED,
        DistributedType.MEGATRON_LM,
        DistributedType.XLA,
    ):
        raise RecipeError(
            f"accelerate is configured for {accelerator.distributed_type.value}, and the networks here are trained "
            "whole on each GPU; launch with --multi_gpu, or with torchrun"
        )
    if environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        raise RecipeError(
            "whether networks are compiled is the recipe's; leave --dynamo_backend away, and --set compile=true"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise RecipeError(
            "in how many parts a batch is computed is the recipe's; leave --gradient_accumulation_steps away, "
            "and --set optimizer.accumulate=N"
        )


def lost_partner(reason: RuntimeError) -> bool:
    """Whether an error says that another process of this run is gone, in the words of gloo and NCCL."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return False
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(reason, distributed.DistError) or any(word in str(reason) for word in words)


@contextmanager
def telling_of_waiting(patience: float) -> Iterator[None]:
    """Says whom this process waits for, if that takes long."""

    def tell() -> None:
        print(f"train: waiting for the others, for at most {patience:g} seconds ({whereabouts()})", file=sys.stderr)

    teller = threading.Timer(SPEAK_AFTER, tell)
    teller.daemon = True
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        teller.start()
    try:
        yield
    finally:
        teller.cancel()


def whereabouts() -> str:
    rank, world, address, port = (
        os.environ.get(key, "?") for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    )
    return f"this is process {rank} of {world}, counted from 0; they meet at {address}:{port}"


def precision(wanted: str) -> str:
    """What accelerate computes in: bf16 where the hardware does."""
    if wanted != "auto":
        return wanted
    fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast or (not torch.cuda.is_available() and has_fast_bfloat16()) else "no"


def usable_cores() -> int:
    """Those that this process may run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
