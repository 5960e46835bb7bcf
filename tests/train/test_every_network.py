"""Every generator that has a name takes a step of the real trainer and comes back from disk; some train and resume.

The networks are narrowed where their options allow it: what is tried is that training fits the architecture, not how
well the published size learns.
"""

import functools
import inspect
import typing

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.errors import ModelError
from deblur_hub.networks import NETWORKS, PRESETS, build_network
from tests.train.tiny_runs import tensors_of
from train.checkpoint import load_checkpoint, save_checkpoint
from train.recipe import recipe_from_table
from train.trainer import Trainer

SIDE, STEPS = 32, 10
NARROW, FEW, TWICE = 8, 1, 2


@functools.cache
def narrowed(preset: str) -> dict:
    """The preset's options with few channels, blocks and stages and no dropout, or as they are if those do not fit."""
    architecture, options = PRESETS[preset]
    smaller = dict(options)
    for name, parameter in inspect.signature(NETWORKS[architecture]).parameters.items():
        value = options.get(name, parameter.default)
        size = FEW if "blocks" in name else TWICE if "iterations" in name else NARROW
        if name.startswith(("dropout", "drop")):
            smaller[name] = 0.0
        elif name == "stages":
            smaller[name] = min(value, TWICE)
        elif "width" in name or "channels" in name or name == "dim" or size != NARROW:
            smaller[name] = (size,) * len(value) if typing.get_origin(parameter.annotation) is tuple else size
    for attempt in (smaller, options):
        try:
            with torch.device("meta"):
                build_network(architecture, **attempt).train()(torch.empty(2, 3, 2 * SIDE, 2 * SIDE))
        except (ModelError, ValueError, RuntimeError):
            continue
        return attempt
    raise AssertionError(f"{preset} cannot be built and run on the meta device")


# One of each way in which a network trains: with statistics of the batch, at several scales, recurrent, by attention.
TRAINED = {"resnet6-bn": "no", "mimo-unet": "bf16", "srn-lstm": "no", "nafnet-w16": "bf16"}


def made(preset: str, precision: str = "no", **loss) -> Trainer:
    torch.manual_seed(0)
    architecture, options = PRESETS[preset][0], narrowed(preset)
    recipe = recipe_from_table(
        {
            "generator": architecture,
            "network": options,
            "data": {"crop": SIDE, "batch_size": 2},
            "optimizer": {"lr": 1e-3},
            "schedule": {"steps": STEPS, "shape": "flat-linear", "flat": 1.0},
            "loss": {"pixel": "l1"} | loss,
        },
        preset,
    )
    network = build_network(architecture, **options)
    return Trainer(recipe, network, None, Accelerator(mixed_precision=precision, cpu=True))


def batch(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures of the smallest side that the network takes without padding; the blurred ones are paler, too."""
    side = trainer.generator.padded(SIDE)
    coarse = torch.rand(2, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    sharp = F.interpolate(coarse, scale_factor=4)
    return 0.5 * F.avg_pool2d(sharp, 5, stride=1, padding=2) + 0.2, sharp


def train(trainer: Trainer, steps: range) -> list[dict[str, float]]:
    repeated = batch(trainer)
    logs = []
    for step in steps:
        log = trainer.step([repeated] * trainer.recipe.batches_per_step, step=step, progress=step / STEPS)
        logs.append({key: value.item() for key, value in log.items()})
    trainer.require_finite_weights(steps.stop)
    return logs


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "precision"), TRAINED.items())
def test_ten_steps_on_one_batch_bring_the_pixel_loss_down(preset, precision):
    trainer = made(preset, precision)
    losses = [log["loss/pixel"] for log in train(trainer, range(STEPS))]
    assert min(losses[-3:]) < 0.97 * losses[0], losses


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",  # test_maxim.py trains a narrower one
    [pytest.param(name, marks=pytest.mark.full if name == "maxim" else ()) for name in PRESETS],
)
def test_a_step_reaches_all_of_a_network_which_comes_back_from_disk_as_it_was(preset, tmp_path):
    trainer = made(preset)
    train(trainer, range(1))
    # Distributed training waits for the gradient of each.
    without = [name for name, weight in trainer.generator.named_parameters() if weight.grad is None]
    assert without == []
    with torch.no_grad():
        restored = trainer.evaluated(batch(trainer)[0])
    assert isinstance(restored, torch.Tensor)  # of several scales the finest alone
    assert restored.isfinite().all()

    config = GeneratorConfig(PRESETS[preset][0], narrowed(preset), name=preset)
    saved = DeblurGenerator(config, trainer.evaluated).eval()
    loaded = DeblurGenerator.from_pretrained(saved.save_pretrained(tmp_path / "model"), device="cpu")
    theirs = loaded.network.state_dict()
    for key, tensor in saved.network.state_dict().items():
        assert torch.equal(theirs[key], tensor) and theirs[key].dtype == tensor.dtype, key
    blurred = batch(trainer)[0][..., :-3, :-1]
    with torch.no_grad():
        assert torch.allclose(loaded(blurred), saved(blurred), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("preset", TRAINED)
def test_a_resumed_step_is_the_one_that_would_have_been(preset, tmp_path):
    trainer, resumed = made(preset), made(preset)
    train(trainer, range(1))
    save_checkpoint(tmp_path / "last.pt", trainer.state())
    train(trainer, range(1, 2))
    resumed.load_state(load_checkpoint(tmp_path / "last.pt"))
    train(resumed, range(1, 2))
    one, other = tensors_of(trainer.state()), tensors_of(resumed.state())
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


ADVERSARIAL = [
    {"critic": "patchgan", "loss": "wgan-gp"},
    {"critic": "double-scale", "loss": "ragan-ls"},
    {"critic": "keras", "loss": "wasserstein"},
    {"critic": "keras", "loss": "wasserstein", "options": {"head": "linear"}},
    {"critic": "bce-patchgan", "loss": "bce"},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adversarial", "preset", "precision"),
    [
        (part, ("resnet6-bn", "mimo-unet")[number % 2], ("no", "bf16")[number // 2 % 2])
        for number, part in enumerate(ADVERSARIAL)
    ],
    ids=lambda part: f"{part['critic']}, {part['loss']}" if isinstance(part, dict) else None,
)
def test_every_critic_trains_against_one_scale_and_against_several(preset, adversarial, precision):
    options = {"width": 4} | adversarial.get("options", {})
    table = {"weight": 0.01, "critic_steps": 2, "lr": 1e-3} | adversarial | {"options": options}
    trainer = made(preset, precision, adversarial=table)
    before = {key: weight.clone() for key, weight in trainer.discriminator.named_parameters() if weight.ndim > 1}
    logs = train(trainer, range(3))
    assert {"loss/adversarial", "loss/critic", "loss/pixel"} <= logs[-1].keys()
    after = dict(trainer.discriminator.named_parameters())
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(weight.requires_grad for weight in trainer.discriminator.parameters())
    assert logs[-1]["loss/critic"] < logs[0]["loss/critic"]


class TwoScales(nn.Module):
    """Restores half the size, 0.25 too bright, and the full size, 0.5 too bright, plus a weight that begins at 0."""

    def __init__(self):
        super().__init__()
        self.more = nn.Parameter(torch.zeros(1))

    def forward(self, blurred):
        return [F.avg_pool2d(blurred, 2) + 0.25 + self.more, blurred + 0.5 + self.more]


def test_pixel_and_frequency_losses_take_all_scales_and_the_others_the_finest():
    table = {
        "generator": "any",
        "data": {"crop": 16},
        "loss": {
            "pixel_weight": 2.0,
            "frequency_weight": 1.0,
            "adversarial": {"weight": 1.0, "loss": "wasserstein", "options": {"width": 4}, "critic_steps": 1},
        },
    }
    seen = []

    class Finest(nn.Module):
        def forward(self, restored, sharp):
            seen.append(restored)
            return (restored - sharp).mean()

    table["loss"]["perceptual"] = {"weight": 3.0}
    trainer = Trainer(recipe_from_table(table, "any"), TwoScales(), Finest(), Accelerator(cpu=True))
    trainer.discriminator.register_forward_pre_hook(lambda _, pictures: seen.append(pictures[0]))
    sharp = torch.rand(2, 3, 16, 16) * 0.2
    log = trainer.step([(sharp, sharp)], step=0, progress=0.0)
    assert log["loss/pixel"].item() == pytest.approx(2 * (0.25 + 0.5))
    # Of a constant difference one coefficient is not zero: of the 8x5 and 16x9 that the two spectra have, in two parts.
    assert log["loss/frequency"].item() == pytest.approx(0.25 * 64 / (8 * 5 * 2) + 0.5 * 256 / (16 * 9 * 2), rel=1e-4)
    assert log["loss/perceptual"].item() == pytest.approx(3 * 0.5)
    of_critic, of_perceptual, of_generator = seen
    assert torch.allclose(of_critic, torch.cat([sharp + 0.5, sharp]), atol=1e-6)
    assert torch.allclose(of_perceptual, sharp + 0.5, atol=1e-6) and torch.equal(of_generator, of_perceptual)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_moving_average_takes_statistics_along_and_counts_whole(ema):
    """An average of weights with the statistics of others would restore in wrong colours."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    recipe = recipe_from_table({"generator": "any", "data": {"crop": 8}, "schedule": {"ema": ema}}, "any")
    trainer = Trainer(recipe, network, None, Accelerator(cpu=True))
    wanted = network[1].running_var.clone()
    for step in range(5):
        trainer.step([tuple(torch.randn(2, 4, 3, 8, 8))], step=step, progress=0.0)
        decay = min(ema, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * network[1].running_var
    average = trainer.evaluated[1]
    assert torch.allclose(average.running_var, wanted)
    assert not torch.equal(average.running_var, torch.ones(3))
    assert (average.num_batches_tracked.dtype, average.num_batches_tracked.item()) == (torch.int64, 5)
