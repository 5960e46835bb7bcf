"""A run from the first step to the saved model: data, steps, validation, checkpoints, and what one watches."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from deblur_hub.config import GeneratorConfig
from deblur_hub.errors import DatasetError, DeblurHubError
from deblur_hub.generator import DeblurGenerator
from deblur_hub.model_card import training_card
from deblur_hub.networks import PRESETS, build_network

from .checkpoint import load_checkpoint, save_checkpoint
from .data import Material, PictureCache, PositionSampler, TrainingSet, find_material
from .losses import PerceptualLoss
from .recipe import Recipe, RecipeError
from .trainer import NonFiniteLossError, Trainer, make_critic
from .validation import mean_score, sample_sheet, validate

LOG_EVERY = 20


class StepError(DeblurHubError):
    """What stops a run after its start, perhaps on one process alone: a broken picture, a loss that is not finite."""


@dataclass
class Run:
    """Where a run reads and writes, and when it ends.

    Args:
        steps: of the generator; 0 takes the recipe's.
        time_budget: seconds of training, validation included, in all sessions together; the schedule then stretches
            over it instead of over the steps. 0 for none.
        init_from: a model whose weights the generator starts from.
    """

    data: Path
    output: Path
    cache: Path
    steps: int = 0
    time_budget: float = 0.0
    resume: bool = False
    init_from: str = ""
    perceptual_weights: Path | None = None


@dataclass
class Progress:
    """How far a run has come; kept in its checkpoints."""

    step: int = 0
    seconds: float = 0.0
    best_psnr: float = float("-inf")
    best_step: int = 0
    blurred: dict[str, float] = field(default_factory=dict)


def train(recipe: Recipe, run: Run, accelerator: Accelerator) -> Path:
    """Trains, and returns the folder of the saved model, `<output>/model`.

    The output folder holds `recipe.json`, `checkpoints/last.pt`, `best/` and `last/` (the model at the best validation
    so far, by PSNR on the held-out pairs, and at the last one), `samples/*.png`, `metrics.jsonl` and `tensorboard/`.

    Raises:
        DeblurHubError: for a data folder, recipe, checkpoint or weights that will not do, before the first step where
            that can be known.
    """
    main = accelerator.is_main_process
    torch.manual_seed(recipe.seed)  # of the fresh weights
    try:
        network = build_network(recipe.generator, **recipe.network)
    except ValueError as reason:
        raise RecipeError(f"recipe '{recipe.name}': {reason}") from None
    config = GeneratorConfig(*architecture(recipe), name=recipe.name)
    check(recipe, network, accelerator)
    if run.init_from:
        network.load_state_dict(initial_weights(run.init_from, network))
    material = find_material(run.data, recipe.data, recipe.validation)
    cache = PictureCache(run.cache, resize=recipe.data.resize)
    samples = TrainingSet(material, recipe.data, seed=recipe.seed, cache=cache)
    perceptual = None
    if recipe.loss.perceptual.weight:
        perceptual = PerceptualLoss(recipe.loss.perceptual, run.perceptual_weights)
    trainer = Trainer(recipe, network, perceptual, accelerator)
    steps = run.steps or recipe.schedule.steps or recipe.schedule.epochs * len(samples) // recipe.data.batch_size
    if not steps and not run.time_budget:
        raise RecipeError(f"recipe '{recipe.name}': sets neither schedule.steps nor schedule.epochs; give --steps")

    last = run.output / "checkpoints" / "last.pt"
    progress = Progress()
    if run.resume:
        progress = resume(trainer, load_checkpoint(last), recipe, last)
    elif last.exists():
        raise RecipeError(f"{run.output}: holds a run already; go on with --resume, or name another --output")
    log = Log(run.output, progress.step) if main else None
    if main:
        (run.output / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=2) + "\n")
        print(describe(recipe, network, material, samples, steps, run, accelerator))

    def measure() -> None:
        if not material.held_out:
            return
        scores = validate(trainer.evaluated, material.held_out, recipe.data.resize, accelerator)
        mean = mean_score(scores)
        progress.blurred = {key: mean[key] for key in ("blurred_psnr", "blurred_ssim")}
        better = mean["psnr"] > progress.best_psnr
        if better:
            progress.best_psnr, progress.best_step = mean["psnr"], progress.step
        if main:
            log.write(progress.step, {f"validation/{key}": value for key, value in mean.items()})
            tqdm.write(
                f"step {progress.step}: {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.4f} on {len(scores)} "
                f"held-out pairs (blurred: {mean['blurred_psnr']:.2f} dB, {mean['blurred_ssim']:.4f})"
                f"{', the best so far' if better else ''}"
            )
            sample_sheet(
                trainer.evaluated,
                material.held_out,
                recipe.data.resize,
                run.output / "samples" / f"step-{progress.step:07d}.png",
            )
            model = DeblurGenerator(config, trainer.evaluated)
            card = training_card(
                recipe.as_dict(), mean, [asdict(score) for score in scores], progress.step, progress.seconds
            )
            for name in ("last", "best") if better else ("last",):
                model.save_pretrained(run.output / name, card=card)

    def keep() -> None:
        trainer.require_finite_weights(progress.step)
        if main:
            header = {"recipe": json.dumps(recipe.as_dict()), "progress": asdict(progress)}
            save_checkpoint(last, header | trainer.state())
        accelerator.wait_for_everyone()

    per_step = trainer.batches_per_step
    sampler = PositionSampler(
        first_batch=progress.step * per_step,
        batches=steps * per_step if not run.time_budget else 2**40,
        batch_size=recipe.data.batch_size,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = iter(
        DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=recipe.data.workers,
            pin_memory=accelerator.device.type == "cuda",
            worker_init_fn=leave_interrupts_to_main,
        )
    )
    before, started = progress.seconds, time.monotonic()
    try:
        with tqdm(
            total=steps if not run.time_budget else None,
            initial=progress.step,
            desc=recipe.name,
            unit="step",
            disable=not main,
            mininterval=2,
        ) as bar:
            while True:
                progress.seconds = before + time.monotonic() - started
                if run.time_budget:
                    progress.seconds = common(progress.seconds, accelerator)
                share = progress.seconds / run.time_budget if run.time_budget else progress.step / steps
                if share >= 1:
                    break
                scalars = trainer.step([draw(loader) for _ in range(per_step)], step=progress.step, progress=share)
                progress.step += 1
                bar.update()
                if main and progress.step % LOG_EVERY == 0:
                    log.write(progress.step, {key: float(value) for key, value in scalars.items()})
                    bar.set_postfix({"loss": f"{float(scalars['loss/generator']):.4f}"}, refresh=False)
                if progress.step % recipe.validation.every == 0:
                    measure()
                if progress.step % recipe.checkpoint_every == 0:
                    keep()
        if progress.step % recipe.validation.every or not progress.step:
            measure()
        keep()
    except NonFiniteLossError as reason:
        before_it = f"the checkpoint in {last.parent} is from before it: resume" if last.exists() else "start again"
        raise StepError(f'{reason}; {before_it} with a lower optimizer.lr, or with precision = "no"') from None
    return finish(trainer, config, recipe, progress, run, accelerator, log)


def finish(
    trainer: Trainer,
    config: GeneratorConfig,
    recipe: Recipe,
    progress: Progress,
    run: Run,
    accelerator: Accelerator,
    log: "Log | None",
) -> Path:
    """Saves the best model, or the last where nothing was held out to choose by, as `<output>/model`."""
    folder = run.output / "model"
    if accelerator.is_main_process:
        log.close()
        best = run.output / "best"
        if progress.best_psnr > float("-inf"):
            DeblurGenerator.from_pretrained(best).save_pretrained(folder, card=(best / "README.md").read_text())
            print(
                f"best: step {progress.best_step}, {progress.best_psnr:.2f} dB on the held-out pairs "
                f"(blurred: {progress.blurred['blurred_psnr']:.2f} dB)"
            )
        else:
            DeblurGenerator(config, trainer.evaluated).save_pretrained(
                folder, card=training_card(recipe.as_dict(), {}, [], progress.step, progress.seconds)
            )
        print(f"saved {folder} after {progress.step} steps in {progress.seconds / 60:.1f} minutes")
    accelerator.wait_for_everyone()
    return folder


def architecture(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """The architecture and all options of a recipe's generator, presets resolved; dropout is of training alone."""
    name, options = PRESETS.get(recipe.generator, (recipe.generator, {}))
    return name, {key: value for key, value in (options | recipe.network).items() if key != "dropout"}


def check(recipe: Recipe, network: torch.nn.Module, accelerator: Accelerator) -> None:
    """Refuses what would fail in mid-run."""
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


def check_critic(recipe: Recipe, accelerator: Accelerator) -> None:
    """Refuses a critic whose options do not fit it, or that cannot judge the recipe's crops."""
    crop, batch_size = recipe.data.crop, recipe.data.batch_size // accelerator.num_processes
    with torch.device("meta"):
        critic = make_critic(recipe)
        try:
            critic.judge(torch.empty(batch_size, 3, crop, crop))
        except (RuntimeError, ValueError):
            raise RecipeError(
                f"recipe '{recipe.name}': data.crop {crop} is too small for the critic "
                f"'{recipe.loss.adversarial.critic}'; take larger crops or another critic"
            ) from None


def initial_weights(model: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a saved model for a network of the same shapes."""
    weights = DeblurGenerator.from_pretrained(model).network.state_dict()
    wanted = network.state_dict()
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
    return weights


def draw(loader: Iterator[list[torch.Tensor]]) -> list[torch.Tensor]:
    """The next batch (blurred, sharp).

    Raises:
        StepError: with the sentence of a `DatasetError`, which arrives from a worker wrapped in its traceback.
    """
    try:
        return next(loader)
    except DatasetError as reason:
        raise StepError(str(reason).rpartition("DatasetError: ")[2].strip()) from None


def leave_interrupts_to_main(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal: workers end with the main one, without a traceback of their own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = pass_over_hang_ups


def pass_over_hang_ups(kind: type[BaseException], reason: BaseException, trace: TracebackType | None) -> None:
    """A worker's thread that hands over batches may find the main process gone in mid-transfer, which is no news."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, reason, trace)


def resume(trainer: Trainer, state: dict[str, Any], recipe: Recipe, path: Path) -> Progress:
    """Puts a checkpoint's state in place; the recipe may differ in schedule and rates, not in the networks."""
    try:
        trainer.load_state(state)
    except (KeyError, RuntimeError, ValueError):
        raise RecipeError(
            f"{path}: comes from a run of recipe '{json.loads(state['recipe'])['name']}' whose networks "
            f"are not those of '{recipe.name}'; resume with the same recipe"
        ) from None
    return Progress(**state["progress"])


def common(seconds: float, accelerator: Accelerator) -> float:
    """The main process's clock, so that all processes stop at the same step."""
    if accelerator.num_processes == 1:
        return seconds
    clock = torch.tensor([seconds], dtype=torch.float64, device=accelerator.device)
    torch.distributed.broadcast(clock, src=0)
    return float(clock)


def describe(
    recipe: Recipe,
    network: torch.nn.Module,
    material: Material,
    samples: TrainingSet,
    steps: int,
    run: Run,
    accelerator: Accelerator,
) -> str:
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    length = f"{run.time_budget / 60:.0f} minutes" if run.time_budget else f"{steps} steps"
    return (
        f"recipe '{recipe.name}': {recipe.generator}, {parameters:.2f} M parameters, {length} of "
        f"{recipe.data.batch_size} crops of {recipe.data.crop}x{recipe.data.crop}, {accelerator.num_processes} "
        f"process(es) on {accelerator.device.type}, precision {accelerator.mixed_precision}\n"
        f"data: {len(material.pairs)} pairs, {sum(map(len, material.frames))} high-speed frames, "
        f"{len(material.sharp)} sharp photographs; held out: {len(material.held_out)} pairs; "
        f"{len(samples)} samples an epoch"
    )


class Log:
    """Scalars to `metrics.jsonl` and tensorboard; lines from after the step that a run resumes at are dropped."""

    def __init__(self, output: Path, step: int) -> None:
        self.path = output / "metrics.jsonl"
        output.mkdir(parents=True, exist_ok=True)
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    kept += [line] if json.loads(line)["step"] <= step else []
                except (ValueError, KeyError):  # the line that a kill cut short
                    continue
        self.path.write_text("".join(line + "\n" for line in kept if step))
        self.board = SummaryWriter(str(output / "tensorboard"), purge_step=step or None)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step} | scalars) + "\n")
        for key, value in scalars.items():
            self.board.add_scalar(key, value, step)

    def close(self) -> None:
        self.board.close()
