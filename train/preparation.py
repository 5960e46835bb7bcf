"""Everything that a run steps with, built and checked before its first step: networks, data, losses."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deblur_hub.config import GeneratorConfig
from deblur_hub.generator import DeblurGenerator
from deblur_hub.hub import first_line
from deblur_hub.networks import PRESETS, build_network
from deblur_hub.networks.base import Generator
from deblur_hub.networks.refined import RefinedMaximGenerator

from .data.cache import PictureCache
from .data.device_pictures import DevicePictures
from .data.loading import load_batches, make_pool, sample_side
from .data.partners import check_partners
from .data.samples import TrainingData, TrainingSet, find_training_data
from .data.synthesis import Batch, made_on_device
from .losses.perceptual import PerceptualLoss
from .recipe import Data, Recipe, RecipeError, Schedule, naming
from .run import Run
from .trainer import Trainer, make_discriminator

AT_LEAST_ONE = ["validation.every", "checkpoint_every", "keep", "optimizer.accumulate", "data.batch_size"]
AT_LEAST_ONE += ["data.candidates", "loss.adversarial.critic_steps", "alarms.most_skipped", "alarms.patience"]


@dataclass
class Prepared:
    """What a run steps with; `steps` is 0 where time alone ends it.

    `recipe` is the one asked for, with the SHA-256 of the perceptual weights that were found.
    """

    recipe: Recipe
    network: Generator
    config: GeneratorConfig
    training_data: TrainingData
    samples: TrainingSet
    trainer: Trainer
    steps: int


def prepare(recipe: Recipe, run: Run, accelerator: Accelerator) -> Prepared:
    """Builds what a run needs and writes nothing but the cache; raises `DeblurHubError` for whatever does not fit."""
    data, schedule = recipe.data, recipe.schedule
    torch.manual_seed(recipe.seed)  # for the initial weights
    try:
        network = build_network(recipe.generator, **recipe.network)
    except ValueError as reason:
        raise RecipeError(f"recipe '{recipe.name}': {reason}") from None
    light = isinstance(network, RefinedMaximGenerator) and "full" not in network.refiners
    architecture, preset = PRESETS.get(recipe.generator, (recipe.generator, {}))
    options = {key: value for key, value in (preset | recipe.network).items() if key != "dropout"}
    config = GeneratorConfig(architecture, options, name=recipe.name, quality="fast" if light else "")
    check(recipe, network, accelerator)
    if recipe.compile:
        require_compiler(accelerator)
    for model in run.init_from:
        init_from(model, network)
    if isinstance(network, RefinedMaximGenerator) and network.crisp:
        network.lead_with_crisp()
    if schedule.freeze_restorer:
        network.unets.requires_grad_(False)
    found = find_training_data(run.data, data, recipe.validation)
    cache = PictureCache(run.cache, resize=data.resize)
    doubts = check_partners([*found.pairs, *found.held_out] if data.mix.pairs else found.held_out, cache)
    found = dataclasses.replace(found, notes=(*found.notes, *doubts))
    on_device = made_on_device(data.synthesis, accelerator.device)
    resident = data.pictures == "device"
    drawn = dataclasses.replace(data, crop=sample_side(data))
    samples = TrainingSet(found, drawn, seed=recipe.seed, cache=cache, on_device=on_device, resident=resident)
    pictures = DevicePictures(samples.paths, cache, accelerator.device) if resident else None
    perceptual = None
    if recipe.loss.perceptual.weight:
        perceptual = PerceptualLoss(recipe.loss.perceptual, run.perceptual_weights)
        hashed = dataclasses.replace(recipe.loss.perceptual, sha256=perceptual.sha256)
        recipe = dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, perceptual=hashed))
    # A discriminator takes fresh samples for each of its own steps.
    frozen_steps, all_steps = (
        epochs * len(samples) // recipe.pictures_per_step for epochs in (schedule.freeze_backbone, schedule.epochs)
    )
    trainer = Trainer(recipe, network, perceptual, accelerator, pictures=pictures, frozen_steps=frozen_steps)
    steps = run.steps or schedule.steps or all_steps
    if not steps and not (run.time_budget and schedule.stretch):
        raise RecipeError(f"recipe '{recipe.name}': sets neither schedule.steps nor schedule.epochs; give --steps")
    return Prepared(recipe, network, config, found, samples, trainer, steps)


def batches_of(
    ready: Prepared, accelerator: Accelerator, *, file: Path | None = None, first_batch: int = 0, oldest: int = 0
) -> Iterator[Batch]:
    """This process's part of the batches from `first_batch` on, of a pool if the recipe has one.

    Args:
        file: of the pool; None keeps it in memory.
        oldest: the pool's first generation.
    """
    data, samples, trainer = ready.recipe.data, ready.samples, ready.trainer
    if not data.pool:
        return load_batches(samples, data, accelerator, count(first_batch))
    settings = {"file": file, "first_batch": first_batch, "oldest": oldest, "frozen": trainer.frozen}
    return make_pool(samples, data, accelerator, trainer.apply_blur, **settings)


def few_batches_of(ready: Prepared, accelerator: Accelerator) -> Iterator[Batch]:
    """Batches for measuring steps: the pool is as small as possible, as filling it takes longer than they do."""
    data = ready.recipe.data
    recipe = dataclasses.replace(ready.recipe, data=dataclasses.replace(data, pool=data.batch_size if data.pool else 0))
    return batches_of(dataclasses.replace(ready, recipe=recipe), accelerator)


# Initial weights -----------------------------------------------------------------------------------------------------


def init_from(model: str, network: Generator) -> None:
    """Loads a saved model's weights: of a network of the same shapes, or of a part of this one.

    A safetensors file by itself holds any of the network's tensors by their names.
    """
    wanted = network.state_dict()
    refined = isinstance(network, RefinedMaximGenerator)
    if model.endswith(".safetensors"):
        try:
            weights = {key: tensor.float() for key, tensor in load_file(model).items()}
        except (OSError, SafetensorError) as reason:
            advice = "name a model or a safetensors file"
            raise RecipeError(f"--init-from {model}: cannot be read ({reason}); {advice}") from None
        if foreign := differing_keys(weights, wanted, among=weights):
            raise RecipeError(
                f"--init-from {model}: has a tensor '{foreign[0]}' {tuple(weights[foreign[0]].shape)}, which the "
                "recipe's network has not; take its recipe, or another file"
            )
        network.load_state_dict(wanted | weights)
        if refined and any(key.startswith("crisp.") for key in weights):
            network.crisp_begun = True
        return
    other = DeblurGenerator.from_pretrained(model).network
    try:
        if refined and network.begin_from(other):
            return
    except ValueError as reason:
        raise RecipeError(f"--init-from {model}: {reason}; take another model, or the options of its own") from None
    weights = other.state_dict()
    if differing := differing_keys(weights, wanted, among=wanted | weights):
        raise RecipeError(
            f"--init-from {model}: is another network than the recipe's ({len(differing)} tensors "
            f"differ, such as '{min(differing)}'); take its recipe or omit --init-from"
        )
    network.load_state_dict(weights)


def differing_keys(one: dict[str, Tensor], other: dict[str, Tensor], *, among: Iterable[str]) -> list[str]:
    """Those that only one of them has, or that have another shape in it."""
    return [key for key in among if key not in one or key not in other or one[key].shape != other[key].shape]


# Checks --------------------------------------------------------------------------------------------------------------


def check(recipe: Recipe, network: torch.nn.Module, accelerator: Accelerator) -> None:
    """Raises `RecipeError` for what would fail later."""
    with naming(recipe.name):
        for mistake in mistakes(recipe, network, accelerator.num_processes):
            raise RecipeError(mistake)


def mistakes(recipe: Recipe, network: torch.nn.Module, processes: int) -> Iterator[str]:
    """What is wrong, as sentences: sections by themselves, then those that must fit each other.

    Each check relies on those before it.
    """
    data, optimizer, adversarial = recipe.data, recipe.optimizer, recipe.loss.adversarial
    for key in AT_LEAST_ONE:
        if not attrgetter(key)(recipe):
            yield f"{key} must be at least 1"
    yield from mistakes_of_frozen_parts(recipe.schedule, recipe.generator, network)
    yield from mistakes_of_data(data)
    yield from mistakes_of_schedule(recipe.schedule)
    loss, pixel = recipe.loss, recipe.loss.pixel != "none" and recipe.loss.pixel_weight
    if not (pixel or loss.frequency_weight or loss.perceptual.weight or adversarial.weight):
        yield (
            "has no loss; set one of loss.pixel, loss.frequency_weight, loss.perceptual.weight and "
            "loss.adversarial.weight"
        )
    part, rest = divmod(data.batch_size, processes)
    if rest:
        yield (
            f"data.batch_size {data.batch_size} is the total over all processes and does not divide by {processes}; "
            "set a multiple of it"
        )
    if data.crop % network.size_multiple or not data.crop:
        yield f"data.crop {data.crop} must be a multiple of {network.size_multiple} for this generator"
    if len(optimizer.betas) != 2 or not max(optimizer.betas) < 1:
        yield f"optimizer.betas must be two numbers below 1, not {list(optimizer.betas)}"
    if part % optimizer.accumulate:
        yield (
            f"optimizer.accumulate {optimizer.accumulate} does not divide the {part} samples of each process; "
            "set a divisor of it"
        )
    if adversarial.weight:
        with torch.device("meta"):
            discriminator = make_discriminator(adversarial, data.crop)
            try:
                discriminator.score(torch.empty(part // optimizer.accumulate, 3, data.crop, data.crop))
            except (RuntimeError, ValueError):
                yield (
                    f"data.crop {data.crop} is too small for the critic '{adversarial.critic}'; take larger crops or "
                    "another critic"
                )


def mistakes_of_frozen_parts(schedule: Schedule, generator: str, network: torch.nn.Module) -> Iterator[str]:
    if schedule.freeze_backbone and not hasattr(network, "backbone"):
        yield (
            f"schedule.freeze_backbone freezes the classifier inside a generator, and '{generator}' has none; "
            "set it to 0, or take a generator such as deblurgan-v2-mobilenet"
        )
    if schedule.freeze_restorer and not isinstance(network, RefinedMaximGenerator):
        yield (
            f"schedule.freeze_restorer trains a refiner only, and '{generator}' has none; "
            "set it to false, or take a generator such as maxim-light"
        )


def mistakes_of_data(data: Data) -> Iterator[str]:
    frames, blur = data.frames, data.blur
    if data.pictures == "device" and data.synthesis == "loader":
        yield (
            "data.pictures 'device' leaves the loader no pictures to blur; set data.synthesis to 'auto', or "
            "data.pictures to 'disk'"
        )
    if len(data.resize) not in (0, 2):
        yield "data.resize must be [width, height], or [] for none"
    if data.resize and min(data.resize) < data.crop:
        yield f"data.crop {data.crop} is larger than data.resize {list(data.resize)}; set a smaller crop"
    if data.mix.frames and (not frames.gammas or not all(frames.gammas) or frames.least | 1 > frames.most):
        yield (
            f"data.frames needs an odd number from least {frames.least} to most {frames.most}, and gammas above 0, not "
            f"{list(frames.gammas)}"
        )
    if blur.shortest > blur.longest:
        yield f"data.blur.shortest {blur.shortest:g} exceeds data.blur.longest {blur.longest:g}; set it lower"
    if not data.pool:
        return
    if data.pool < data.batch_size:
        yield f"data.pool {data.pool} is smaller than a batch of {data.batch_size}; set it larger, or to 0 for none"
    if data.pool_side and data.pool_side < data.crop:
        yield (
            f"data.pool_side {data.pool_side} is smaller than data.crop {data.crop}; set it larger, or to 0 for two "
            "crops"
        )
    if not data.reuse:
        yield "data.reuse must be at least 1"


def mistakes_of_schedule(schedule: Schedule) -> Iterator[str]:
    milestones = schedule.milestones
    if any(not 0 < milestone < 1 for milestone in milestones) or list(milestones) != sorted(milestones):
        yield f"schedule.milestones must be rising shares of the run, between 0 and 1, not {list(milestones)}"
    if schedule.shape == "step" and not milestones:
        yield "schedule.shape 'step' needs schedule.milestones; set them"
    if schedule.ema >= 1:
        yield f"schedule.ema must be below 1, not {schedule.ema:g}"


def require_compiler(accelerator: Accelerator) -> None:
    """Compiles a small function, as nothing else shows what is missing."""
    try:
        torch.compile(lambda value: torch.sin(value) + 1)(torch.ones(8, device=accelerator.device))
    except Exception as reason:
        needed = "a C++ compiler such as g++" if accelerator.device.type == "cpu" else "Triton and a C compiler"
        raise RecipeError(
            f"compile = true, but nothing can be compiled here ({first_line(reason)}); install {needed}, or set "
            "compile=false"
        ) from None
