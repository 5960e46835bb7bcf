"""One step of training: the generator, its critic, their optimizers and the moving average, and their state."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deblur_hub.errors import ModelError
from deblur_hub.restoration.restore import restore

from .data import device_pictures as resident
from .data.device_pictures import Shelf
from .data.pool import Frozen
from .data.synthesis import Batch, develop
from .losses.adversarial import adversarial_loss
from .losses.discriminators import Critic, build_critic
from .losses.perceptual import PerceptualLoss
from .losses.pixels import at_every_scale, frequency_loss, grid_loss, pixel_loss
from .optim.dropout import draw_by_sample
from .optim.schedule import WeightAverage, rate_factor
from .optim.step import Descent
from .recipe import Recipe, RecipeError

LEAST_BLUR = 1e-4  # mean difference of blurred and sharp values below which there was nothing to restore
Log = dict[str, Tensor]


class NonFiniteLossError(Exception):
    """Losses again and again, or weights, that are not a number or infinite; the message names the step."""


class Trainer:
    """Holds what changes during a run.

    Args:
        network: the generator, (N, 3, crop, crop) in [-1, 1] to the same, or in training to a list of outputs, coarse
            to fine. Pixel and frequency losses are taken of every output and summed; those of grid, features and
            critic, and the critic's own, of the finest alone. Batch normalisation takes its statistics over each
            process's part of the batch.
        perceptual: the perceptual loss if the recipe has one.
        shelf: the training pictures, if they are kept on the device.
        frozen_steps: how many steps at the start leave the network's `backbone` as it is.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        perceptual: PerceptualLoss | None,
        accelerator: Accelerator,
        *,
        shelf: Shelf | None = None,
        frozen_steps: int = 0,
    ) -> None:
        self.shelf = shelf
        self.recipe, self.accelerator = recipe, accelerator
        self.frozen_steps, self.backbone = frozen_steps, getattr(network, "backbone", None)
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = network.to(memory_format=self.layout)
        self.averaging = WeightAverage(network, recipe.schedule.ema)
        self.dropout = draw_by_sample(network)
        if recipe.compile:
            network.compile()  # in place: the names of its weights stay as they are
        self.descent = Descent(network, recipe.optimizer, recipe.optimizer.lr, accelerator)
        self.generator = self.descent.network
        self.critic = None
        if recipe.loss.adversarial.weight:
            self.adversarial = adversarial_loss(recipe.loss.adversarial)
            critic = make_critic(recipe).to(memory_format=self.layout)
            if recipe.compile and recipe.loss.adversarial.loss != "wgan-gp":
                critic.compile()  # compiled networks have no second derivative, which a gradient penalty takes
            self.critic_descent = Descent(critic, recipe.optimizer, recipe.loss.adversarial.lr, accelerator)
            self.critic = self.critic_descent.network
        self.perceptual = perceptual.to(accelerator.device) if perceptual else None
        self.averaging.network.to(accelerator.device)
        # Steps with an update that was not finite and not made: in all, in a row by now, in a row at most.
        self.skipped = torch.zeros(3, device=accelerator.device)

    @property
    def evaluated(self) -> nn.Module:
        """The network to measure and to keep, in evaluation mode: the moving average of the weights."""
        return self.averaging.network

    def step(self, batches: list[Batch], *, step: int, progress: float) -> dict[str, Tensor]:
        """Updates all networks once; none of whose gradients are not finite.

        Args:
            batches: `Recipe.batches_per_step` of (blurred, sharp), each (N, 3, crop, crop) in [-1, 1], or what the
                loader left to `develop`. What a frozen part of the generator makes of blurred may stand behind them,
                and is given to the generator as well.
            step: its number, which seeds whatever is random in it.
            progress: the share of the run that is done, for the learning rate.

        Returns:
            Scalars for the log, still on the device, for which nothing here waits.
        """
        seed = (self.recipe.seed * 1_000_003 + step) * 1009
        torch.manual_seed(seed + self.accelerator.process_index)
        chance = torch.Generator().manual_seed(seed)
        factor = rate_factor(self.recipe.schedule, progress, step)
        log = {"lr": torch.tensor(self.recipe.optimizer.lr * factor)}
        batches = [self.on_device(batch) for batch in batches]
        self.generator.train()
        before = [statistic.clone() for statistic in self.statistics()]
        spoilt = []
        if self.critic:
            for number, batch in enumerate(batches):
                log |= self.update_critic(batch, chance, (seed, number), factor, spoilt)
        log |= self.update_generator(batches[-1], (seed, len(batches)), step, factor, spoilt)
        self.share_statistics(before)
        self.averaging.update(self.accelerator.unwrap_model(self.generator), step)
        return log | self.count_skipped(torch.stack(spoilt).any())

    def on_device(self, batch: Batch) -> tuple[Tensor, ...]:
        """A batch where and as the networks take it."""
        device = self.accelerator.device
        return tuple(
            picture.to(device, memory_format=self.layout, non_blocking=True) for picture in self.develop(batch)
        )

    def develop(self, batch: Batch) -> Sequence[Tensor]:
        """[blurred, sharp] of what the loader drew, and what stands behind them."""
        return resident.develop(batch, self.shelf) if self.shelf else develop(batch, self.accelerator.device)

    @property
    def frozen(self) -> Frozen | None:
        """What a frozen part of the generator makes of blurred pictures, to be kept beside them; None if none is."""
        if not self.recipe.schedule.freeze_restorer:
            return None
        network = self.accelerator.unwrap_model(self.generator)
        half = {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision, "float32")

        def frozen(blurred: Tensor, number: int) -> Tensor:
            step = network.unrefined[number % len(network.unrefined)]
            return restore(network, blurred, precision=half, quality=step)

        return frozen

    def update_critic(
        self,
        batch: Sequence[Tensor],
        chance: torch.Generator,
        seed: tuple[int, int],
        factor: float,
        spoilt: list[Tensor],
    ) -> Log:
        blurred, sharp, *kept = batch
        # Drawn for the whole batch, of which each process takes its part: the same with one process or several.
        share = torch.rand(len(sharp) * self.accelerator.num_processes, generator=chance)
        share = share[self.accelerator.process_index * len(sharp) :][: len(sharp)]
        logs = []
        self.critic_descent.begin()
        for part in self.parts(self.critic_descent, seed, sharp, share, blurred, *kept):
            with part as (sharp_part, share_part, *given):
                with torch.no_grad():
                    restored = outputs_of(self.generator, *given)[-1]
                loss, log = self.adversarial.of_critic(self.critic, restored, sharp_part, share=share_part)
                self.critic_descent.add(loss / self.recipe.optimizer.accumulate)
            logs.append({"loss/critic": loss.detach()} | {f"critic/{key}": value for key, value in log.items()})
        norm, bad = self.critic_descent.end(self.recipe.loss.adversarial.lr * factor)
        spoilt.append(bad)
        return mean_log(logs) | {"gradient/critic": norm}

    def update_generator(
        self,
        batch: Sequence[Tensor],
        seed: tuple[int, int],
        step: int,
        factor: float,
        spoilt: list[Tensor],
    ) -> Log:
        logs = []
        self.descent.begin()
        critic = self.accelerator.unwrap_model(self.critic).requires_grad_(False) if self.critic else None
        for part in self.parts(self.descent, seed, *batch):
            with part as (blurred_part, sharp_part, *kept):
                outputs = outputs_of(self.generator, blurred_part, *kept)
                terms, slope = self.terms(outputs, sharp_part, critic)
                loss = sum(terms.values())
                self.descent.add(loss / self.recipe.optimizer.accumulate)
            log = {"loss/generator": loss} | {f"loss/{key}": value for key, value in terms.items()}
            logs.append({key: value.detach() for key, value in log.items()} | slope)
            logs[-1]["generator/change"] = change(outputs[-1].detach(), blurred_part, sharp_part)
        if critic:
            critic.requires_grad_(True)
        if self.backbone is not None and step < self.frozen_steps:
            # Dropped, rather than never computed: data-parallel wrappers wait for the gradients that they began with.
            self.backbone.zero_grad(set_to_none=True)
        norm, bad = self.descent.end(self.recipe.optimizer.lr * factor)
        spoilt.append(bad)
        return mean_log(logs) | {"gradient/generator": norm}

    def terms(self, outputs: list[Tensor], sharp: Tensor, critic: nn.Module | None) -> tuple[Log, Log]:
        """The terms of the generator's loss; and for the log what comes with the backward pass alone."""
        options = self.recipe.loss
        restored, terms, slope = outputs[-1], {}, {}
        if options.pixel != "none":
            distance = at_every_scale(partial(pixel_loss, options.pixel), outputs, sharp)
            terms["pixel"] = options.pixel_weight * distance
        if options.frequency_weight:
            terms["frequency"] = options.frequency_weight * at_every_scale(frequency_loss, outputs, sharp)
        if options.grid_weight:
            terms["grid"] = options.grid_weight * grid_loss(restored, sharp)
        if self.perceptual:
            with self.accelerator.autocast():
                terms["perceptual"] = options.perceptual.weight * self.perceptual(restored, sharp)
        if critic:
            judged = restored.view_as(restored)  # so that the gradient that comes from the critic can be told apart
            unit = options.adversarial.weight / self.recipe.optimizer.accumulate

            def measure(gradient: Tensor) -> None:
                size = len(gradient) * gradient.flatten(1).norm(dim=1).mean() / unit
                slope["critic/slope"] = size / self.scale()

            judged.register_hook(measure)
            terms["adversarial"] = options.adversarial.weight * self.adversarial.of_generator(critic, judged, sharp)
        return terms, slope

    def parts(
        self, descent: Descent, seed: tuple[int, int], *batch: Tensor
    ) -> list[AbstractContextManager[tuple[Tensor, ...]]]:
        """A batch in `optimizer.accumulate` parts, each to be entered for its forward and backward passes."""
        count = self.recipe.optimizer.accumulate
        size = len(batch[0]) // count
        first = self.accelerator.process_index * len(batch[0])
        chunks = list(zip(*(tensor.split(size) for tensor in batch), strict=True))

        @contextmanager
        def entered(number: int) -> Iterator[tuple[Tensor, ...]]:
            self.dropout.seed, self.dropout.first = seed, first + number * size
            with descent.part(last=number == count - 1):
                yield chunks[number]

        return [entered(number) for number in range(count)]

    def scale(self) -> Tensor | float:
        """What fp16 multiplies losses by; read without waiting for the device."""
        scaler = self.accelerator.scaler
        return scaler.scale(torch.ones((), device=self.accelerator.device)) if scaler else 1.0

    def count_skipped(self, spoilt: Tensor) -> Log:
        total, row, longest = self.skipped.unbind()
        row = (row + 1) * spoilt
        self.skipped = torch.stack([total + spoilt, row, torch.maximum(longest, row)])
        return {"skipped": self.skipped[0]}

    def statistics(self) -> list[Tensor]:
        """What batch normalisation remembers of the pictures it saw."""
        return [
            statistic
            for module in self.generator.modules()
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
            for statistic in (module.running_mean, module.running_var)
        ]

    def share_statistics(self, before: list[Tensor]) -> None:
        """Brings statistics to their mean over the processes, each of which saw its part of the batches.

        What is not finite then becomes again what it was before the step.
        """
        remembered = self.statistics()
        if self.accelerator.num_processes > 1 and remembered:
            shared = self.accelerator.reduce(torch.cat(remembered), reduction="mean")
            for statistic, value in zip(remembered, shared.split([len(own) for own in remembered]), strict=True):
                statistic.copy_(value)
        for statistic, old in zip(remembered, before, strict=True):
            statistic.copy_(torch.where(torch.isfinite(statistic), statistic, old))

    def require_finite_weights(self, step: int) -> None:
        """Raises `NonFiniteLossError` if a gradient has spoilt the weights, though its loss was finite."""
        if not all(torch.isfinite(tensor).all() for tensor in self.generator.state_dict().values()):
            raise NonFiniteLossError(f"the generator's weights are not finite after step {step}")

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, for `load_state`."""
        unwrap = self.accelerator.unwrap_model
        state = {
            "generator": unwrap(self.generator).state_dict(),
            "optimizer": self.descent.state(),
            "average": self.averaging.network.state_dict(),
            "skipped": self.skipped[0],
        }
        if self.accelerator.scaler:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.critic:
            state |= {
                "critic": unwrap(self.critic).state_dict(),
                "critic_optimizer": self.critic_descent.state(),
                "adversarial": self.adversarial.state(),
            }
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        unwrap = self.accelerator.unwrap_model
        unwrap(self.generator).load_state_dict(state["generator"])
        self.descent.load_state(state["optimizer"])
        self.averaging.network.load_state_dict(state["average"])
        self.skipped[0] = state.get("skipped", 0.0)
        if self.accelerator.scaler and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.critic:
            unwrap(self.critic).load_state_dict(state["critic"])
            self.critic_descent.load_state(state["critic_optimizer"])
            self.adversarial.load_state(state.get("adversarial", {}))


def make_critic(recipe: Recipe) -> Critic:
    """The recipe's critic with fresh weights.

    Raises:
        RecipeError: if its options do not fit it, or it does not fit the crops or the loss.
    """
    adversarial = recipe.loss.adversarial
    options = ({"layers": adversarial.layers} if adversarial.layers else {}) | adversarial.options
    try:
        critic = build_critic(adversarial.critic, crop=recipe.data.crop, **options)
    except (ModelError, ValueError) as reason:
        raise RecipeError(f"recipe '{recipe.name}': loss.adversarial: {reason}") from None
    if adversarial.loss == "wgan-gp" and critic.sees_batch:
        raise RecipeError(
            f"recipe '{recipe.name}': loss.adversarial.loss 'wgan-gp' takes the gradient of each picture's score, "
            "which batch normalisation mixes with the others; take a critic with norm 'instance', or another loss"
        )
    return critic


def outputs_of(generator: nn.Module, *given: Tensor) -> list[Tensor]:
    """What a generator makes of a picture in float32, coarse to fine; most make one output alone."""
    outputs = generator(*given)
    return [output.float() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]


def mean_log(logs: list[Log]) -> Log:
    """Of the parts of a batch."""
    return {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}


def change(restored: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """How far a generator went, as a share of how far it should; not a number where nothing was to do."""
    wanted = (sharp - blurred).abs().mean()
    return torch.where(wanted > LEAST_BLUR, (restored - blurred).abs().mean() / wanted, torch.nan)
