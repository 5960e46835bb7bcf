"""What a run would cost: `--dry-run` measures two real steps and writes nothing but the cache."""

import math
import resource
import sys
import time
from textwrap import indent

import tomli_w
import torch
from accelerate import Accelerator

from deblur_hub.datasets import picture_size
from deblur_hub.networks.description import multiply_adds

from ..console import describe, parameters
from ..data.loading import next_batch
from ..preparation import Prepared, few_batches_of, prepare
from ..recipe import Recipe
from ..run import Run

STEPS = 2  # the first allocates gradients and the optimizer's state, and compiles; the second is timed


def dry_run(recipe: Recipe, run: Run, accelerator: Accelerator) -> None:
    """Prints the recipe as it would be used, the model's cost, the run's length, and its memory and time.

    Raises `DeblurHubError` for all that would stop the run before its first step.
    """
    ready = prepare(recipe, run, accelerator)
    batches = few_batches_of(ready, accelerator)
    computing = waiting = 0.0
    for step in range(STEPS):
        started = time.perf_counter()
        drawn = [next_batch(batches) for _ in range(ready.recipe.batches_per_step)]
        synchronise(accelerator)
        waiting = time.perf_counter() - started
        ready.trainer.step(drawn, step=step, progress=0.0)
        synchronise(accelerator)
        computing = time.perf_counter() - started - waiting
    memory = peak_memory(accelerator)
    if accelerator.is_main_process:
        print(tomli_w.dumps(ready.recipe.as_dict()))
        lines = [describe(ready, run, accelerator), *report(ready, run, accelerator, computing, waiting, memory)]
        print(indent("\n".join(lines), "# "))  # as TOML comments: the whole output can be kept as a recipe


def report(
    ready: Prepared, run: Run, accelerator: Accelerator, computing: float, waiting: float, memory: float
) -> list[str]:
    """The lines about cost, from the measured seconds of one step and the peak memory in bytes."""
    recipe, network, crop = ready.recipe, ready.network, ready.recipe.data.crop
    pictures = recipe.pictures_per_step
    for_crop, for_frame = multiply_adds(network, (crop, crop)), multiply_adds(network, (1280, 720))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    lines = [
        f"model: {parameters(network)}, {size(weights)} of weights; {for_crop / 1e9:.3g} G multiply-adds for a crop of "
        f"{crop}x{crop}, {for_frame / 1e9:.3g} G for a picture of 1280x720",
    ]
    if ready.trainer.discriminator:
        lines.append(f"critic: {parameters(ready.trainer.discriminator)}")
    where = "of the GPU" if accelerator.device.type == "cuda" else "of each process, beside the loader's workers"
    lines.append(f"memory: {size(memory)} at the peak, {where}")
    seconds = computing + (waiting if not recipe.data.workers else 0.0)  # workers load the next batch meanwhile
    lines.append(
        f"a step: {computing:.3g} s of computing, {pictures / seconds:.3g} pictures a second; its data took "
        f"{waiting:.3g} s, {'before it' if not recipe.data.workers else 'mostly while another step computes'}"
    )
    validation = validation_seconds(ready, accelerator, computing)
    epochs = len(ready.samples) / pictures
    if run.time_budget:
        rate = seconds + validation / recipe.validation.every
        steps = math.floor(run.time_budget / rate)
        lines.append(f"length: {span(run.time_budget)} of training, about {steps} steps or {steps / epochs:.3g} epochs")
    else:
        total = ready.steps * seconds + math.ceil(ready.steps / recipe.validation.every) * validation
        lines.append(f"length: {ready.steps} steps or {ready.steps / epochs:.3g} epochs, about {span(total)}")
    if ready.training_data.held_out:
        lines.append(
            f"validation: {len(ready.training_data.held_out)} pairs every {recipe.validation.every} steps, about "
            f"{span(validation)} each time, estimated by the multiply-adds and included above"
        )
    return [*lines, "Two steps are few: an estimate, to tell minutes from days."]


def validation_seconds(ready: Prepared, accelerator: Accelerator, computing: float) -> float:
    """Seconds of one validation, if it computes at the rate of training, which takes three passes over each crop."""
    network, resize = ready.network, ready.recipe.data.resize
    crop = (ready.recipe.data.crop, ready.recipe.data.crop)
    part = ready.recipe.pictures_per_step / accelerator.num_processes
    rate = 3 * multiply_adds(network, crop) * part / computing
    sizes = [tuple(resize) or picture_size(pair.sharp) for pair in ready.training_data.held_out]
    costs = {each: multiply_adds(network, each) for each in set(sizes)}
    return sum(costs[each] for each in sizes) / rate / accelerator.num_processes


def synchronise(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def peak_memory(accelerator: Accelerator) -> float:
    """Bytes at the peak: of the GPU what PyTorch held, else of the memory what this process used."""
    if accelerator.device.type == "cuda":
        return float(torch.cuda.max_memory_reserved())
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def size(memory: float) -> str:
    return f"{memory / 2**30:.2f} GiB" if memory >= 2**30 else f"{memory / 2**20:.0f} MiB"


def span(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.2g} seconds"
