"""What a recipe asks for in vain is refused before the first step."""

import torch
from accelerate import Accelerator

from deblur_hub.networks.refined import RefinedMaximGenerator

from .recipe import Recipe, RecipeError
from .trainer import make_critic


def check(recipe: Recipe, network: torch.nn.Module, accelerator: Accelerator) -> None:
    """Refuses what would fail in mid-run."""
    if recipe.schedule.freeze_backbone and not hasattr(network, "backbone"):
        raise RecipeError(
            f"recipe '{recipe.name}': schedule.freeze_backbone freezes the classifier inside a generator, and "
            f"'{recipe.generator}' has none; set it to 0, or take a generator such as deblurgan-v2-mobilenet"
        )
    if recipe.schedule.freeze_restorer and not isinstance(network, RefinedMaximGenerator):
        raise RecipeError(
            f"recipe '{recipe.name}': schedule.freeze_restorer leaves a refiner alone to learn, and "
            f"'{recipe.generator}' has none; set it to false, or take a generator such as maxim-light"
        )
    check_pool(recipe)
    if recipe.data.batch_size % accelerator.num_processes:
        raise RecipeError(
            f"recipe '{recipe.name}': data.batch_size {recipe.data.batch_size} is the total over all "
            f"processes and does not divide by {accelerator.num_processes}; set a multiple of it"
        )
    if recipe.data.crop % network.size_multiple or not recipe.data.crop:
        raise RecipeError(
            f"recipe '{recipe.name}': data.crop {recipe.data.crop} must be a multiple of "
            f"{network.size_multiple} for this generator"
        )
    if recipe.data.pictures == "device" and recipe.data.synthesis == "loader":
        raise RecipeError(
            f"recipe '{recipe.name}': data.pictures 'device' leaves the loader no pictures to blur; "
            "set data.synthesis to 'auto', or data.pictures to 'disk'"
        )
    if len(recipe.data.resize) not in (0, 2):
        raise RecipeError(f"recipe '{recipe.name}': data.resize must be [width, height], or [] for none")
    if recipe.data.resize and min(recipe.data.resize) < recipe.data.crop:
        raise RecipeError(
            f"recipe '{recipe.name}': data.crop {recipe.data.crop} is larger than data.resize "
            f"{list(recipe.data.resize)}; set a smaller crop"
        )
    for key, value in (
        ("validation.every", recipe.validation.every),
        ("checkpoint_every", recipe.checkpoint_every),
        ("keep", recipe.keep),
        ("optimizer.accumulate", recipe.optimizer.accumulate),
        ("alarms.most_skipped", recipe.alarms.most_skipped),
        ("alarms.patience", recipe.alarms.patience),
        ("data.batch_size", recipe.data.batch_size),
        ("data.candidates", recipe.data.candidates),
        ("loss.adversarial.critic_steps", recipe.loss.adversarial.critic_steps),
    ):
        if not value:
            raise RecipeError(f"recipe '{recipe.name}': {key} must be at least 1")
    frames = recipe.data.frames
    if recipe.data.mix.frames and (not frames.gammas or not all(frames.gammas) or frames.least | 1 > frames.most):
        raise RecipeError(
            f"recipe '{recipe.name}': data.frames needs an odd number from least {frames.least} to most "
            f"{frames.most}, and gammas above 0, not {list(frames.gammas)}"
        )
    if recipe.data.blur.shortest > recipe.data.blur.longest:
        raise RecipeError(
            f"recipe '{recipe.name}': data.blur.shortest {recipe.data.blur.shortest:g} exceeds "
            f"data.blur.longest {recipe.data.blur.longest:g}; set it lower"
        )
    if len(recipe.optimizer.betas) != 2 or not max(recipe.optimizer.betas) < 1:
        raise RecipeError(
            f"recipe '{recipe.name}': optimizer.betas must be two numbers below 1, not {list(recipe.optimizer.betas)}"
        )
    part = recipe.data.batch_size // accelerator.num_processes
    if part % recipe.optimizer.accumulate:
        raise RecipeError(
            f"recipe '{recipe.name}': optimizer.accumulate {recipe.optimizer.accumulate} does not divide the {part} "
            "samples of each process; set a divisor of it"
        )
    milestones = recipe.schedule.milestones
    if any(not 0 < milestone < 1 for milestone in milestones) or list(milestones) != sorted(milestones):
        raise RecipeError(
            f"recipe '{recipe.name}': schedule.milestones must be rising shares of the run, between 0 and 1, not "
            f"{list(milestones)}"
        )
    if recipe.schedule.shape == "step" and not milestones:
        raise RecipeError(f"recipe '{recipe.name}': schedule.shape 'step' needs schedule.milestones; set them")
    if recipe.schedule.ema >= 1:
        raise RecipeError(f"recipe '{recipe.name}': schedule.ema must be below 1, not {recipe.schedule.ema:g}")
    if not (
        (recipe.loss.pixel != "none" and recipe.loss.pixel_weight)
        or recipe.loss.frequency_weight
        or recipe.loss.perceptual.weight
        or recipe.loss.adversarial.weight
    ):
        raise RecipeError(
            f"recipe '{recipe.name}': has no loss; set one of loss.pixel, loss.frequency_weight, "
            "loss.perceptual.weight and loss.adversarial.weight"
        )
    if recipe.loss.adversarial.weight:
        check_critic(recipe, accelerator)


def check_pool(recipe: Recipe) -> None:
    """Refuses a pool that its batches or crops do not fit."""
    data = recipe.data
    if not data.pool:
        return
    if data.pool < data.batch_size:
        raise RecipeError(
            f"recipe '{recipe.name}': data.pool {data.pool} is smaller than a batch of {data.batch_size}; set it "
            "larger, or to 0 for none"
        )
    if data.pool_side and data.pool_side < data.crop:
        raise RecipeError(
            f"recipe '{recipe.name}': data.pool_side {data.pool_side} is smaller than data.crop {data.crop}; set it "
            "larger, or to 0 for two crops"
        )
    if not data.reuse:
        raise RecipeError(f"recipe '{recipe.name}': data.reuse must be at least 1")


def check_critic(recipe: Recipe, accelerator: Accelerator) -> None:
    """Refuses a critic whose options do not fit it, or that cannot judge the recipe's crops."""
    crop = recipe.data.crop
    batch_size = recipe.data.batch_size // accelerator.num_processes // recipe.optimizer.accumulate
    with torch.device("meta"):
        critic = make_critic(recipe)
        try:
            critic.judge(torch.empty(batch_size, 3, crop, crop))
        except (RuntimeError, ValueError):
            raise RecipeError(
                f"recipe '{recipe.name}': data.crop {crop} is too small for the critic "
                f"'{recipe.loss.adversarial.critic}'; take larger crops or another critic"
            ) from None


def require_compiler(recipe: Recipe, accelerator: Accelerator) -> None:
    """Compiles a trifle, as what is missing shows in no other way."""
    try:
        torch.compile(lambda value: torch.sin(value) + 1)(torch.ones(8, device=accelerator.device))
    except Exception as reason:
        needed = "a C++ compiler such as g++" if accelerator.device.type == "cpu" else "Triton and a C compiler"
        raise RecipeError(
            f"recipe '{recipe.name}': compile = true, but nothing can be compiled here ({first_line(reason)}); install "
            f"{needed}, or set compile=false"
        ) from None


def first_line(reason: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(reason).splitlines() if line.strip()), type(reason).__name__)
