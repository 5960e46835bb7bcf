"""How near a run comes to the rate of its networks' forward and backward passes, and what it waits for."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ..console import Meter
from ..trainer import Trainer, outputs_of
from .estimate import synchronise

PASSES = 2


def bare_rate(trainer: Trainer, batch: Sequence[Tensor]) -> float:
    """Pictures a second, over all processes, of forward and backward passes and losses only.

    Nothing is loaded, updated or averaged; weights, statistics and random numbers stay as they are. To be called after
    a step, which has allocated memory, and with its `batch` on the device.
    """
    recipe, accelerator, discriminator = trainer.recipe, trainer.accelerator, trainer.discriminator
    networks = [network for network in (trainer.generator, discriminator) if network]
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    adversarial = trainer.adversarial.state() if discriminator else {}
    blurred, sharp, *kept = batch
    with torch.random.fork_rng(devices=[accelerator.device] if accelerator.device.type == "cuda" else []):
        synchronise(accelerator)
        started = time.perf_counter()
        for _ in range(PASSES):
            for _ in range(recipe.batches_per_step if discriminator else 0):
                with torch.no_grad():
                    restored = outputs_of(trainer.generator, blurred, *kept)[-1]
                share = torch.rand(len(sharp))
                loss, _ = trainer.adversarial.discriminator_loss(discriminator, restored, sharp, share=share)
                accelerator.backward(loss)
            outputs = outputs_of(trainer.generator, blurred, *kept)
            terms, _ = trainer.terms(outputs, sharp, accelerator.unwrap_model(discriminator) if discriminator else None)
            accelerator.backward(sum(terms.values()))
        synchronise(accelerator)
        seconds = time.perf_counter() - started
    for network in networks:
        network.zero_grad()
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    if discriminator:
        trainer.adversarial.load_state(adversarial)
    return PASSES * recipe.pictures_per_step / seconds


def efficiency(meter: Meter, bare: float, frozen: float) -> str:
    """A sentence about all steps of a session.

    Args:
        bare: from `bare_rate`.
        frozen: seconds in which a frozen part computed what the pool keeps.
    """
    rate = meter.all_steps * meter.pictures / meter.all_seconds
    sentence = (
        f"{rate:.3g} pictures a second, {rate / bare:.0%} of the {bare:.3g} of forward and backward passes alone; "
        f"{(meter.all_waited - frozen) / meter.all_seconds:.0%} of the time waiting for data"
    )
    return f"{sentence}, {frozen / meter.all_seconds:.0%} in the frozen part" if frozen else sentence
