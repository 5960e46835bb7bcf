"""One step of training: the generator, its critic, their optimizers and the moving average, and their state."""

from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deblur_hub.errors import ModelError

from .adversarial import adversarial_loss
from .critics import Critic, build_critic
from .losses import PerceptualLoss, at_every_scale, frequency_loss, pixel_loss
from .recipe import Optimizer, Recipe, RecipeError
from .schedule import WeightAverage, rate_factor


class NonFiniteLossError(Exception):
    """A loss, or weights, that are not a number or infinite; the message names the step."""


class Trainer:
    """Holds what changes during a run.

    Args:
        network: the generator, (N, 3, crop, crop) in [-1, 1] to the same, or in training to a list of outputs, coarse
            to fine. Pixel and frequency losses are taken of every output and summed, perceptual and adversarial ones,
            and the critic's own, of the finest alone. Batch normalisation takes its statistics over each process's
            part of the batch.
        perceptual: the perceptual loss if the recipe has one.
    """

    def __init__(
        self, recipe: Recipe, network: nn.Module, perceptual: PerceptualLoss | None, accelerator: Accelerator
    ) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        network = network.to(memory_format=torch.channels_last)
        self.averaging = WeightAverage(network, recipe.schedule.ema)
        optimizer = make_optimizer(network, recipe.optimizer, recipe.optimizer.lr)
        self.generator, self.optimizer = accelerator.prepare(network, optimizer)
        self.critic = None
        if recipe.loss.adversarial.weight:
            adversarial = recipe.loss.adversarial
            self.adversarial = adversarial_loss(adversarial)
            critic = make_critic(recipe)
            self.critic, self.critic_optimizer = accelerator.prepare(
                critic, make_optimizer(critic, recipe.optimizer, adversarial.lr)
            )
        self.perceptual = perceptual.to(accelerator.device) if perceptual else None
        self.averaging.network.to(accelerator.device)

    @property
    def batches_per_step(self) -> int:
        """How many batches a step takes: one for each critic update, the last of which the generator learns from."""
        return self.recipe.loss.adversarial.critic_steps if self.critic else 1

    @property
    def evaluated(self) -> nn.Module:
        """The network to measure and to keep, in evaluation mode: the moving average of the weights."""
        return self.averaging.network

    def step(self, batches: list[tuple[Tensor, Tensor]], *, step: int, progress: float) -> dict[str, Tensor]:
        """Updates all networks once.

        Args:
            batches: `batches_per_step` pairs (blurred, sharp), each (N, 3, crop, crop) in [-1, 1].
            step: its number, which seeds whatever is random in it.
            progress: the share of the run that is done, for the learning rate.

        Returns:
            Scalars for the log, still on the device.

        Raises:
            NonFiniteLossError: before the update that it would have spoilt.
        """
        seed = (self.recipe.seed * 1_000_003 + step) * 1009
        torch.manual_seed(seed + self.accelerator.process_index)  # of dropout, which differs from process to process
        chance = torch.Generator().manual_seed(seed)
        factor = rate_factor(self.recipe.schedule, progress, step)
        log = {"lr": torch.tensor(self.recipe.optimizer.lr * factor)}
        batches = [
            tuple(
                picture.to(self.accelerator.device, memory_format=torch.channels_last, non_blocking=True)
                for picture in batch
            )
            for batch in batches
        ]
        self.generator.train()
        if self.critic:
            set_rate(self.critic_optimizer, self.recipe.loss.adversarial.lr * factor)
            for blurred, sharp in batches:
                log |= self.update_critic(blurred, sharp, chance, step)
        set_rate(self.optimizer, self.recipe.optimizer.lr * factor)
        log |= self.update_generator(*batches[-1], step)
        self.share_statistics()
        self.averaging.update(self.accelerator.unwrap_model(self.generator), step)
        return log

    def update_critic(self, blurred: Tensor, sharp: Tensor, chance: torch.Generator, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            restored = outputs_of(self.generator, blurred)[-1]
        # Drawn for the whole batch, of which each process takes its part: the same with one process or several.
        share = torch.rand(len(sharp) * self.accelerator.num_processes, generator=chance)
        loss, log = self.adversarial.of_critic(
            self.critic,
            restored,
            sharp,
            share=share[self.accelerator.process_index * len(sharp) :][: len(sharp)],
        )
        self.descend(loss, self.critic, self.critic_optimizer, "critic", step)
        return {"loss/critic": loss.detach()} | {f"critic/{key}": value for key, value in log.items()}

    def update_generator(self, blurred: Tensor, sharp: Tensor, step: int) -> dict[str, Tensor]:
        options = self.recipe.loss
        outputs = outputs_of(self.generator, blurred)
        restored = outputs[-1]
        terms = {}
        if options.pixel != "none":
            distance = at_every_scale(partial(pixel_loss, options.pixel), outputs, sharp)
            terms["pixel"] = options.pixel_weight * distance
        if options.frequency_weight:
            terms["frequency"] = options.frequency_weight * at_every_scale(frequency_loss, outputs, sharp)
        if self.perceptual:
            terms["perceptual"] = options.perceptual.weight * self.perceptual(restored, sharp)
        if self.critic:
            critic = self.accelerator.unwrap_model(self.critic).requires_grad_(False)
            deceit = self.adversarial.of_generator(critic, restored, sharp)
            terms["adversarial"] = options.adversarial.weight * deceit
        loss = sum(terms.values())
        self.descend(loss, self.generator, self.optimizer, "generator", step)
        if self.critic:
            critic.requires_grad_(True)
        return {"loss/generator": loss.detach()} | {f"loss/{key}": value.detach() for key, value in terms.items()}

    def descend(self, loss: Tensor, network: nn.Module, optimizer: Any, what: str, step: int) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the {what}'s loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.recipe.optimizer.clip:
            self.accelerator.clip_grad_norm_(network.parameters(), self.recipe.optimizer.clip)
        optimizer.step()

    def share_statistics(self) -> None:
        """Brings remembered statistics to their mean over the processes, each of which saw its part of the batches."""
        remembered = [
            statistic
            for module in self.generator.modules()
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
            for statistic in (module.running_mean, module.running_var)
        ]
        if self.accelerator.num_processes == 1 or not remembered:
            return
        shared = self.accelerator.reduce(torch.cat(remembered), reduction="mean")
        for statistic, value in zip(remembered, shared.split([len(own) for own in remembered]), strict=True):
            statistic.copy_(value)

    def require_finite_weights(self, step: int) -> None:
        """Raises `NonFiniteLossError` if a gradient has spoilt the weights, though its loss was finite."""
        if not all(torch.isfinite(tensor).all() for tensor in self.generator.state_dict().values()):
            raise NonFiniteLossError(f"the generator's weights are not finite after step {step}")

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, for `load_state`."""
        unwrap = self.accelerator.unwrap_model
        state = {
            "generator": unwrap(self.generator).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.averaging.network.state_dict(),
        }
        if self.accelerator.scaler:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.critic:
            state |= {
                "critic": unwrap(self.critic).state_dict(),
                "critic_optimizer": self.critic_optimizer.state_dict(),
            }
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        unwrap = self.accelerator.unwrap_model
        unwrap(self.generator).load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaging.network.load_state_dict(state["average"])
        if self.accelerator.scaler and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.critic:
            unwrap(self.critic).load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])


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


def outputs_of(generator: nn.Module, blurred: Tensor) -> list[Tensor]:
    """What a generator makes of a picture in float32, coarse to fine; most make one output alone."""
    outputs = generator(blurred)
    return [output.float() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]


def make_optimizer(network: nn.Module, options: Optimizer, lr: float) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
    return kind(network.parameters(), lr=lr, betas=options.betas, weight_decay=options.weight_decay)


def set_rate(optimizer: Any, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
