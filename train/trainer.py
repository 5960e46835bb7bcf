"""One step of training: the generator, its critic, their optimizers and the moving average, and their state."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .critics import CRITICS
from .losses import PerceptualLoss, critic_loss, frequency_loss, pixel_loss
from .recipe import Optimizer, Recipe
from .schedule import WeightAverage, rate_factor


class NonFiniteLossError(Exception):
    """A loss, or weights, that are not a number or infinite; the message names the step."""


class Trainer:
    """Holds what changes during a run.

    Args:
        network: the generator, (N, 3, crop, crop) in [-1, 1] to the same.
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
            critic = CRITICS[adversarial.critic](layers=adversarial.layers)
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
        self.averaging.update(self.accelerator.unwrap_model(self.generator), step)
        return log

    def update_critic(self, blurred: Tensor, sharp: Tensor, chance: torch.Generator, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            restored = self.generator(blurred).float()
        # Drawn for the whole batch, of which each process takes its part: the same with one process or several.
        share = torch.rand(len(sharp) * self.accelerator.num_processes, generator=chance)
        loss, log = critic_loss(
            self.critic,
            restored,
            sharp,
            penalty=self.recipe.loss.adversarial.gradient_penalty,
            share=share[self.accelerator.process_index * len(sharp) :][: len(sharp)],
        )
        self.descend(loss, self.critic, self.critic_optimizer, "critic", step)
        return {"loss/critic": loss.detach()} | {f"critic/{key}": value for key, value in log.items()}

    def update_generator(self, blurred: Tensor, sharp: Tensor, step: int) -> dict[str, Tensor]:
        options = self.recipe.loss
        restored = self.generator(blurred).float()
        terms = {}
        if options.pixel != "none":
            terms["pixel"] = options.pixel_weight * pixel_loss(options.pixel, restored, sharp)
        if options.frequency_weight:
            terms["frequency"] = options.frequency_weight * frequency_loss(restored, sharp)
        if self.perceptual:
            terms["perceptual"] = options.perceptual.weight * self.perceptual(restored, sharp)
        if self.critic:
            critic = self.accelerator.unwrap_model(self.critic).requires_grad_(False)
            terms["adversarial"] = -options.adversarial.weight * critic(restored).mean()
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

    def require_finite_weights(self, step: int) -> None:
        """Raises `NonFiniteLossError` if a gradient has spoilt the weights, though its loss was finite."""
        if not all(torch.isfinite(weight).all() for weight in self.generator.parameters()):
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


def make_optimizer(network: nn.Module, options: Optimizer, lr: float) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
    return kind(network.parameters(), lr=lr, betas=options.betas, weight_decay=options.weight_decay)


def set_rate(optimizer: Any, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
