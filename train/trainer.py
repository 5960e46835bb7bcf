"""One step of training: the generator, its discriminator, their optimizers and the moving average, and their state."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deblur_hub.errors import ModelError
from deblur_hub.restoration.restore import restore

from .data.device_pictures import DevicePictures
from .data.pool import Frozen
from .data.synthesis import Batch, apply_blur
from .losses.adversarial import adversarial_loss
from .losses.discriminators import Discriminator, build_discriminator
from .losses.perceptual import PerceptualLoss
from .losses.pixels import at_every_scale, frequency_loss, grid_loss, harm_loss, pixel_loss
from .optim.dropout import use_sample_dropout
from .optim.schedule import WeightAverage, lr_multiplier
from .optim.step import OptimizerStep
from .recipe import Adversarial, Recipe, RecipeError

LEAST_BLUR = 1e-4  # mean difference of blurry and sharp values below which there was nothing to restore
Log = dict[str, Tensor]


class NonFiniteLossError(Exception):
    """Losses that are not finite again and again, or weights that are not; the message names the step."""


class Trainer:
    """Everything that changes from step to step.

    Args:
        network: the generator, (N, 3, crop, crop) in [-1, 1] to the same, or in training to a list of outputs, coarse
            to fine. Pixel and frequency losses are summed over all outputs; the others, and the discriminator, see
            the finest only. Batch normalisation takes its statistics over each process's part of the batch.
        pictures: the training pictures, if they are kept on the device.
        frozen_steps: how many steps at the start leave the network's `backbone` as it is.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        perceptual: PerceptualLoss | None,
        accelerator: Accelerator,
        *,
        pictures: DevicePictures | None = None,
        frozen_steps: int = 0,
    ) -> None:
        self.recipe, self.accelerator, self.pictures = recipe, accelerator, pictures
        self.frozen_steps, self.backbone = frozen_steps, getattr(network, "backbone", None)
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = network.to(memory_format=self.layout)
        self.average = WeightAverage(network, recipe.schedule.ema)
        self.dropout = use_sample_dropout(network)
        if recipe.compile:
            network.compile()  # in place: the names of its weights stay as they are
        self.generator_step = OptimizerStep(network, recipe.optimizer, recipe.optimizer.lr, accelerator)
        self.generator = self.generator_step.network
        self.discriminator, options = None, recipe.loss.adversarial
        if options.weight:
            self.adversarial = adversarial_loss(options)
            discriminator = make_discriminator(options, recipe.data.crop).to(memory_format=self.layout)
            if recipe.compile and options.loss != "wgan-gp":
                discriminator.compile()  # compiled networks lack the second derivative of a gradient penalty
            self.discriminator_step = OptimizerStep(discriminator, recipe.optimizer, options.lr, accelerator)
            self.discriminator = self.discriminator_step.network
        self.perceptual = perceptual.to(accelerator.device) if perceptual else None
        self.average.module.to(accelerator.device)
        # Steps with an update that was not finite and not made: in all, in a row by now, in a row at most.
        self.skipped = torch.zeros(3, device=accelerator.device)

    @property
    def evaluated(self) -> nn.Module:
        """The network to validate and save, in evaluation mode: the moving average of the weights."""
        return self.average.module

    def step(self, batches: list[Batch], *, step: int, progress: float) -> Log:
        """Updates all networks once, except where gradients are not finite.

        Args:
            batches: `Recipe.batches_per_step` of (blurry, sharp), each (N, 3, crop, crop) in [-1, 1], or what the
                loader left to `apply_blur`; perhaps followed by the output of a frozen part, which the generator gets
                as well.
            step: its number, which seeds whatever is random in it.
            progress: the part of the run that is done, for the learning rate.

        Returns:
            Scalars for the log, still on the device, for which nothing here waits.
        """
        seed = (self.recipe.seed * 1_000_003 + step) * 1009
        torch.manual_seed(seed + self.accelerator.process_index)
        generator = torch.Generator().manual_seed(seed)
        factor = lr_multiplier(self.recipe.schedule, progress, step)
        log = {"lr": torch.tensor(self.recipe.optimizer.lr * factor)}
        batches = [self.on_device(batch) for batch in batches]
        self.generator.train()
        before = [statistic.clone() for statistic in self.statistics()]
        non_finite = []
        if self.discriminator:
            for number, batch in enumerate(batches):
                update, bad = self.update_discriminator(batch, generator, (seed, number), factor)
                log, non_finite = log | update, [*non_finite, bad]
        update, bad = self.update_generator(batches[-1], (seed, len(batches)), step, factor)
        self.share_statistics(before)
        self.average.update(self.accelerator.unwrap_model(self.generator), step)
        return log | update | self.count_skipped(torch.stack([*non_finite, bad]).any())

    def on_device(self, batch: Batch) -> tuple[Tensor, ...]:
        """A batch on the device, in the memory format of the networks."""
        placed = {"device": self.accelerator.device, "memory_format": self.layout, "non_blocking": True}
        return tuple(picture.to(**placed) for picture in self.apply_blur(batch))

    def apply_blur(self, batch: Batch) -> Sequence[Tensor]:
        """[blurry, sharp] of a loader's batch, and the frozen part's output if there is one."""
        return self.pictures.crops(batch) if self.pictures else apply_blur(batch, self.accelerator.device)

    @property
    def frozen(self) -> Frozen | None:
        """The frozen part of the generator, whose output is kept beside blurry pictures; None if there is none."""
        if not self.recipe.schedule.freeze_restorer:
            return None
        network = self.accelerator.unwrap_model(self.generator)
        precision = {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision, "float32")

        def frozen(blurred: Tensor, number: int) -> Tensor:
            step = network.unrefined[number % len(network.unrefined)]
            return restore(network, blurred, precision=precision, quality=step)

        return frozen

    def update_discriminator(
        self, batch: Sequence[Tensor], generator: torch.Generator, seed: tuple[int, int], factor: float
    ) -> tuple[Log, Tensor]:
        """Updates the discriminator; returns scalars, and whether the update was skipped."""
        blurred, sharp, *kept = batch
        # Drawn for the whole batch, of which each process takes its part: the same with one process or several.
        share = torch.rand(len(sharp) * self.accelerator.num_processes, generator=generator)
        share = share[self.accelerator.process_index * len(sharp) :][: len(sharp)]
        logs = []
        self.discriminator_step.zero_grad()
        for part_sharp, part_share, *given in self.parts(self.discriminator_step, seed, sharp, share, blurred, *kept):
            with torch.no_grad():
                restored = outputs_of(self.generator, *given)[-1]
            loss, log = self.adversarial.discriminator_loss(self.discriminator, restored, part_sharp, share=part_share)
            self.discriminator_step.backward(loss / self.recipe.optimizer.accumulate)
            logs.append({"loss/critic": loss.detach()} | {f"critic/{key}": value for key, value in log.items()})
        norm, bad = self.discriminator_step.apply(self.recipe.loss.adversarial.lr * factor)
        return mean_log(logs) | {"gradient/critic": norm}, bad

    def update_generator(
        self, batch: Sequence[Tensor], seed: tuple[int, int], step: int, factor: float
    ) -> tuple[Log, Tensor]:
        """Updates the generator; returns scalars, and whether the update was skipped."""
        logs, discriminator = [], None
        self.generator_step.zero_grad()
        if self.discriminator:
            discriminator = self.accelerator.unwrap_model(self.discriminator).requires_grad_(False)
        for blurred, sharp, *kept in self.parts(self.generator_step, seed, *batch):
            outputs = outputs_of(self.generator, blurred, *kept)
            terms, slope = self.terms(outputs, sharp, discriminator, (blurred, *kept))
            loss = sum(terms.values())
            self.generator_step.backward(loss / self.recipe.optimizer.accumulate)
            log = {"loss/generator": loss} | {f"loss/{key}": value for key, value in terms.items()}
            logs.append({key: value.detach() for key, value in log.items()} | slope)
            logs[-1]["generator/change"] = change(outputs[-1].detach(), blurred, sharp)
        if discriminator:
            discriminator.requires_grad_(True)
        if self.backbone is not None and step < self.frozen_steps:
            # Computed and dropped: data-parallel wrappers wait for the same gradients in each step.
            self.backbone.zero_grad(set_to_none=True)
        norm, bad = self.generator_step.apply(self.recipe.optimizer.lr * factor)
        return mean_log(logs) | {"gradient/generator": norm}, bad

    def terms(
        self, outputs: list[Tensor], sharp: Tensor, discriminator: nn.Module | None, given: Sequence[Tensor]
    ) -> tuple[Log, Log]:
        """The terms of the generator's loss, and scalars for the log that the backward pass fills in."""
        options = self.recipe.loss
        restored, terms, slope = outputs[-1], {}, {}
        if options.pixel != "none":
            distance = at_every_scale(partial(pixel_loss, options.pixel), outputs, sharp)
            terms["pixel"] = options.pixel_weight * distance
        if options.frequency_weight:
            terms["frequency"] = options.frequency_weight * at_every_scale(frequency_loss, outputs, sharp)
        if options.grid_weight:
            terms["grid"] = options.grid_weight * grid_loss(restored, sharp)
        if options.harm_weight:
            terms["harm"] = options.harm_weight * harm_loss(restored, sharp, given)
        if self.perceptual:
            with self.accelerator.autocast():
                terms["perceptual"] = options.perceptual.weight * self.perceptual(restored, sharp)
        if discriminator:
            scored = restored.view_as(restored)  # whose gradient comes from the discriminator alone
            unit = options.adversarial.weight / self.recipe.optimizer.accumulate

            def measure(gradient: Tensor) -> None:
                size = len(gradient) * gradient.flatten(1).norm(dim=1).mean() / unit
                slope["critic/slope"] = size / self.loss_scale()

            scored.register_hook(measure)
            loss = self.adversarial.generator_loss(discriminator, scored, sharp)
            terms["adversarial"] = options.adversarial.weight * loss
        return terms, slope

    def parts(
        self, optimizer_step: OptimizerStep, seed: tuple[int, int], *batch: Tensor
    ) -> Iterator[tuple[Tensor, ...]]:
        """A batch in `optimizer.accumulate` parts, each for one forward and backward pass."""
        size = len(batch[0]) // self.recipe.optimizer.accumulate
        first = self.accelerator.process_index * len(batch[0])
        chunks = list(zip(*(tensor.split(size) for tensor in batch), strict=True))
        for number, chunk in enumerate(chunks):
            self.dropout.seed, self.dropout.first = seed, first + number * size
            with optimizer_step.accumulate(last=number == len(chunks) - 1):
                yield chunk

    def loss_scale(self) -> Tensor | float:
        """The factor of losses in fp16; read without waiting for the device."""
        scaler = self.accelerator.scaler
        return scaler.scale(torch.ones((), device=self.accelerator.device)) if scaler else 1.0

    def count_skipped(self, non_finite: Tensor) -> Log:
        total, row, longest = self.skipped.unbind()
        row = (row + 1) * non_finite
        self.skipped = torch.stack([total + non_finite, row, torch.maximum(longest, row)])
        return {"skipped": self.skipped[0]}

    def statistics(self) -> list[Tensor]:
        """Running means and variances of batch normalisation."""
        modules = [module for module in self.generator.modules() if isinstance(module, nn.BatchNorm2d)]
        tracked = [module for module in modules if module.track_running_stats]
        return [statistic for module in tracked for statistic in (module.running_mean, module.running_var)]

    def share_statistics(self, before: list[Tensor]) -> None:
        """Averages running statistics over the processes; what is not finite is as before the step."""
        statistics = self.statistics()
        if self.accelerator.num_processes > 1 and statistics:
            shared = self.accelerator.reduce(torch.cat(statistics), reduction="mean")
            for statistic, value in zip(statistics, shared.split([len(own) for own in statistics]), strict=True):
                statistic.copy_(value)
        for statistic, old in zip(statistics, before, strict=True):
            statistic.copy_(torch.where(torch.isfinite(statistic), statistic, old))

    def require_finite_weights(self, step: int) -> None:
        """Raises `NonFiniteLossError` if the weights are not finite, which finite losses do not rule out."""
        if not all(torch.isfinite(tensor).all() for tensor in self.generator.state_dict().values()):
            raise NonFiniteLossError(f"the generator's weights are not finite after step {step}")

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, for `load_state`."""
        unwrap = self.accelerator.unwrap_model
        state = {
            "generator": unwrap(self.generator).state_dict(),
            "optimizer": self.generator_step.state(),
            "average": self.average.module.state_dict(),
            "skipped": self.skipped[0],
        }
        if self.accelerator.scaler:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.discriminator:
            state |= {
                "critic": unwrap(self.discriminator).state_dict(),
                "critic_optimizer": self.discriminator_step.state(),
                "adversarial": self.adversarial.state(),
            }
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        unwrap = self.accelerator.unwrap_model
        unwrap(self.generator).load_state_dict(state["generator"])
        self.generator_step.load_state(state["optimizer"])
        self.average.module.load_state_dict(state["average"])
        self.skipped[0] = state.get("skipped", 0.0)
        if self.accelerator.scaler and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.discriminator:
            unwrap(self.discriminator).load_state_dict(state["critic"])
            self.discriminator_step.load_state(state["critic_optimizer"])
            self.adversarial.load_state(state.get("adversarial", {}))


def make_discriminator(options: Adversarial, crop: int) -> Discriminator:
    """A recipe's discriminator with fresh weights.

    Raises:
        RecipeError: if its options do not fit it, or it does not fit the crops or the loss.
    """
    own = ({"layers": options.layers} if options.layers else {}) | options.options
    try:
        discriminator = build_discriminator(options.critic, crop=crop, **own)
    except (ModelError, ValueError) as reason:
        raise RecipeError(f"loss.adversarial: {reason}") from None
    if options.loss == "wgan-gp" and discriminator.sees_batch:
        raise RecipeError(
            "loss.adversarial.loss 'wgan-gp' takes the gradient of each picture's score, which batch normalisation "
            "mixes with the others; take a critic with norm 'instance', or another loss"
        )
    return discriminator


def outputs_of(generator: nn.Module, *given: Tensor) -> list[Tensor]:
    """A generator's outputs in float32, coarse to fine; most have one output only."""
    outputs = generator(*given)
    return [output.float() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]


def mean_log(logs: list[Log]) -> Log:
    """The mean over the parts of a batch."""
    return {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}


def change(restored: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """How far a generator changed its input, as a fraction of how far it should; NaN where nothing was to do."""
    wanted = (sharp - blurred).abs().mean()
    return torch.where(wanted > LEAST_BLUR, (restored - blurred).abs().mean() / wanted, torch.nan)
