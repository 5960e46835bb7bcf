"""All that a run steps with, built before its first step: networks, data, losses."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file

from deblur_hub.config import GeneratorConfig
from deblur_hub.generator import DeblurGenerator
from deblur_hub.networks import PRESETS, build_network
from deblur_hub.networks.base import Generator
from deblur_hub.networks.refined import RefinedMaximGenerator

from .checks import check, require_compiler
from .data.cache import PictureCache
from .data.device_pictures import Shelf
from .data.loading import draw_from, make_pool, sample_side
from .data.samples import Material, TrainingSet, find_material
from .data.synthesis import Batch, made_on_device
from .losses.perceptual import PerceptualLoss
from .recipe import Recipe, RecipeError
from .run import Run
from .trainer import Trainer


@dataclass
class Prepared:
    """All that a run steps with, before its first step; `steps` is 0 where time alone ends it.

    `recipe` is the one asked for, with the SHA-256 of the perceptual weights that were found.
    """

    recipe: Recipe
    network: Generator
    config: GeneratorConfig
    material: Material
    samples: TrainingSet
    trainer: Trainer
    steps: int


def prepare(recipe: Recipe, run: Run, accelerator: Accelerator) -> Prepared:
    """Builds what a run needs and writes nothing but the cache; raises `DeblurHubError` for what will not do."""
    torch.manual_seed(recipe.seed)  # of the fresh weights
    try:
        network = build_network(recipe.generator, **recipe.network)
    except ValueError as reason:
        raise RecipeError(f"recipe '{recipe.name}': {reason}") from None
    light = isinstance(network, RefinedMaximGenerator) and "full" not in network.refiners
    config = GeneratorConfig(*architecture(recipe), name=recipe.name, quality="fast" if light else "")
    check(recipe, network, accelerator)
    if recipe.compile:
        require_compiler(recipe, accelerator)
    for model in run.init_from:
        begin_from(model, network)
    if isinstance(network, RefinedMaximGenerator) and network.crisp:
        network.lead_with_crisp()
    if recipe.schedule.freeze_restorer:
        network.unets.requires_grad_(False)
    material = find_material(run.data, recipe.data, recipe.validation)
    cache = PictureCache(run.cache, resize=recipe.data.resize)
    on_device = made_on_device(recipe.data.synthesis, accelerator.device)
    resident = recipe.data.pictures == "device"
    data = dataclasses.replace(recipe.data, crop=sample_side(recipe.data))
    samples = TrainingSet(material, data, seed=recipe.seed, cache=cache, on_device=on_device, resident=resident)
    shelf = Shelf(samples.paths, cache, accelerator.device) if resident else None
    perceptual = None
    if recipe.loss.perceptual.weight:
        perceptual = PerceptualLoss(recipe.loss.perceptual, run.perceptual_weights)
        recipe = with_hash(recipe, perceptual.sha256)
    frozen_steps = steps_of(recipe.schedule.freeze_backbone, len(samples), recipe)
    trainer = Trainer(recipe, network, perceptual, accelerator, shelf=shelf, frozen_steps=frozen_steps)
    steps = run.steps or recipe.schedule.steps or steps_of(recipe.schedule.epochs, len(samples), recipe)
    if not steps and not (run.time_budget and recipe.schedule.stretch):
        raise RecipeError(f"recipe '{recipe.name}': sets neither schedule.steps nor schedule.epochs; give --steps")
    return Prepared(recipe, network, config, material, samples, trainer, steps)


def batches_of(
    ready: Prepared, accelerator: Accelerator, *, file: Path | None = None, first_batch: int = 0, oldest: int = 0
) -> Iterator[Batch]:
    """This process's part of the batches from one on, of a pool where the recipe has one; each for `Trainer.step`.

    Args:
        file: of the pool; None keeps it in memory.
        oldest: of the pool's generations, the first.
    """
    recipe, trainer = ready.recipe, ready.trainer
    if not recipe.data.pool:
        return draw_from(ready.samples, recipe, accelerator, count(first_batch))
    return make_pool(
        ready.samples,
        recipe,
        accelerator,
        trainer.develop,
        file=file,
        first_batch=first_batch,
        oldest=oldest,
        frozen=trainer.frozen,
    )


def few_batches_of(ready: Prepared, accelerator: Accelerator) -> Iterator[Batch]:
    """The same, to measure steps with: a pool is then as small as can be, as to fill it takes longer than they do."""
    data = ready.recipe.data
    recipe = dataclasses.replace(ready.recipe, data=dataclasses.replace(data, pool=data.batch_size if data.pool else 0))
    return batches_of(dataclasses.replace(ready, recipe=recipe), accelerator)


def steps_of(epochs: int, samples: int, recipe: Recipe) -> int:
    """The generator's steps in so many passes over the data; a critic takes fresh samples at each of its own steps."""
    return epochs * samples // recipe.pictures_per_step


def architecture(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """The architecture and all options of a recipe's generator, presets resolved; dropout is of training alone."""
    name, options = PRESETS.get(recipe.generator, (recipe.generator, {}))
    return name, {key: value for key, value in (options | recipe.network).items() if key != "dropout"}


def with_hash(recipe: Recipe, sha256: str) -> Recipe:
    """The recipe with the SHA-256 of the perceptual weights that are used, for the run's records."""
    perceptual = dataclasses.replace(recipe.loss.perceptual, sha256=sha256)
    return dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, perceptual=perceptual))


def begin_from(model: str, network: Generator) -> None:
    """Takes the weights of a saved model over: of a network of the same shapes, or of a part of this one.

    A safetensors file by itself holds any of the network's tensors by their names.
    """
    if model.endswith(".safetensors"):
        take_part(Path(model), network)
        return
    other = DeblurGenerator.from_pretrained(model).network
    if isinstance(network, RefinedMaximGenerator):
        try:
            if network.begin_from(other):
                return
        except ValueError as reason:
            raise RecipeError(f"--init-from {model}: {reason}; take another model, or the options of its own") from None
    weights, wanted = other.state_dict(), network.state_dict()
    differing = [
        key
        for key in wanted.keys() | weights.keys()
        if key not in wanted or key not in weights or wanted[key].shape != weights[key].shape
    ]
    if differing:
        raise RecipeError(
            f"--init-from {model}: is another network than the recipe's ({len(differing)} tensors "
            f"differ, such as '{min(differing)}'); take its recipe or leave --init-from away"
        )
    network.load_state_dict(weights)


def take_part(file: Path, network: Generator) -> None:
    try:
        weights = {key: tensor.float() for key, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as reason:
        raise RecipeError(
            f"--init-from {file}: cannot be read ({reason}); name a model or a safetensors file"
        ) from None
    wanted = network.state_dict()
    for key, tensor in weights.items():
        if key not in wanted or wanted[key].shape != tensor.shape:
            raise RecipeError(
                f"--init-from {file}: has a tensor '{key}' {tuple(tensor.shape)}, which the recipe's network has not; "
                "take its recipe, or another file"
            )
    network.load_state_dict(wanted | weights)
    if isinstance(network, RefinedMaximGenerator) and any(key.startswith("crisp.") for key in weights):
        network.crisp_begun = True
