"""A run from the first step to the saved model: data, steps, validation, checkpoints, and what one watches."""

import json
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from deblur_hub.config import GeneratorConfig
from deblur_hub.generator import DeblurGenerator
from deblur_hub.model_card import training_card

from .alarms import Alarms
from .checkpoint import Checkpoints
from .console import Log, describe
from .data.loading import draw
from .data.pool import Pool
from .distributed import Agreement, StopRequest, Warnings, by_main
from .preparation import batches_of, prepare
from .recipe import Recipe, RecipeError
from .run import Length, Progress, Run, StepError
from .sheets import SampleSheet
from .study.carrying import unpack
from .study.curves import draw_run
from .study.efficiency import bare_rate, efficiency
from .toml_text import as_toml
from .trainer import NonFiniteLossError, Trainer
from .validation import mean_score, merit, validate
from .watching import Meter, ProgressBar

LOG_EVERY = 20


def train(recipe: Recipe, run: Run, accelerator: Accelerator) -> Path:
    """Trains, and returns the folder of the saved model, `<output>/model`.

    The output folder holds `recipe.json`, `checkpoints/`, `best/` and `last/` (the model at the best validation
    so far, by the recipe's `validation.select`, and at the last one), `samples/*.png`, `metrics.jsonl` and
    `tensorboard/`.

    Raises:
        StopRequest: on every process, after SIGTERM or SIGUSR1 to any of them, once a checkpoint is kept.
        DeblurHubError: for a data folder, recipe, checkpoint or weights that will not do, before the first step where
            that can be known.
    """
    main = accelerator.is_main_process
    ready = prepare(recipe, run, accelerator)
    recipe, config, material, trainer, steps = ready.recipe, ready.config, ready.material, ready.trainer, ready.steps
    checkpoints = Checkpoints(run.output / "checkpoints", keep=recipe.keep)
    if run.publisher:
        run.publisher.check(accelerator)
    progress = Progress()
    if (run.resume_from or not run.resume) and by_main(checkpoints.paths, accelerator):
        raise RecipeError(f"{run.output}: holds a run already; go on with --resume, or name another --output")
    if run.resume_from:
        progress = resume(trainer, run.resume_from, by_main(partial(unpack, run.resume_from), accelerator), recipe)
        progress.forget_best()
    elif run.resume:
        progress = resume(trainer, *by_main(checkpoints.newest, accelerator), recipe)
    log = Log(run.output, progress.step) if main else None
    if main:
        (run.output / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=2) + "\n")
        print(describe(recipe, ready, run, accelerator))

    def measure() -> None:
        progress.measured = progress.step
        if not material.held_out:
            return
        sheet = SampleSheet()
        scores = validate(trainer.evaluated, material.held_out, recipe.data.resize, accelerator, sheet=sheet)
        sheet.save(run.output / "samples" / f"step-{progress.step:07d}.png", accelerator)
        mean = mean_score(scores)
        progress.blurred = {key: mean[key] for key in ("blurred_psnr", "blurred_ssim")}
        select = recipe.validation.select
        better = merit(select, mean) > merit(select, progress.best)
        if better:
            progress.best, progress.best_psnr, progress.best_step = mean, mean["psnr"], progress.step
        if main:
            log.write(progress.step, {f"validation/{key}": value for key, value in mean.items()})
            tqdm.write(
                f"step {progress.step}: {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.4f} on {len(scores)} "
                f"held-out pairs (blurred: {mean['blurred_psnr']:.2f} dB, {mean['blurred_ssim']:.4f})"
                f"{', the best so far' if better else ''}"
            )
            model = DeblurGenerator(config, trainer.evaluated)
            card = training_card(
                recipe.as_dict(),
                mean,
                [asdict(score) for score in scores],
                progress.step,
                progress.seconds,
                recipe_text=as_toml(recipe.as_dict()),
            )
            for name in ("last", "best") if better else ("last",):
                model.save_pretrained(run.output / name, card=card)
            if better and run.publisher:
                run.publisher.offer(run.output / "best", progress.step)

    def keep() -> None:
        trainer.require_finite_weights(progress.step)
        header = {"recipe": json.dumps(recipe.as_dict()), "progress": asdict(progress)}
        by_main(lambda: checkpoints.save(progress.step, header | trainer.state()), accelerator)

    per_step = recipe.batches_per_step
    length = Length(steps, run.time_budget, stretch=recipe.schedule.stretch)
    first_batch = progress.step * per_step
    if run.resume_from and recipe.data.pool:  # the pool stayed behind
        progress.oldest = first_batch // recipe.data.reuse
    pool_file = run.output / f"pool-{accelerator.process_index}.bin"
    loader = batches_of(ready, accelerator, file=pool_file, first_batch=first_batch, oldest=progress.oldest)
    agreement, alarms = Agreement(accelerator), Alarms(recipe.alarms)
    before, started = progress.seconds, time.monotonic()
    meter, bare = Meter(recipe.pictures_per_step), 0.0
    bar = ProgressBar(recipe.name, steps=0 if length.by_time else steps, share=length.share(progress), shown=main)
    # Reading a number from a GPU waits for all that it has still to do: not at every step.
    look_every = 1 if accelerator.device.type == "cpu" else LOG_EVERY

    with Warnings() as warnings, bar:

        def asked_to_stop() -> bool:
            progress.seconds = before + time.monotonic() - started
            progress.seconds, stop = agreement.on(progress.seconds, bool(warnings.heard))
            return stop

        try:
            stop = asked_to_stop()
            # What it was stopped before; and what was carried here, the best so far in this folder.
            if (progress.overdue(recipe.validation.every) or (run.resume_from and progress.step)) and not stop:
                measure()
            while not stop and length.share(progress) < 1:
                with meter.step():
                    with meter.waiting():
                        batches = [draw(loader) for _ in range(per_step)]
                    scalars = trainer.step(batches, step=progress.step, progress=length.of_schedule(progress))
                bare = bare or bare_rate(trainer, trainer.on_device(batches[-1]))
                progress.step += 1
                bar.show(progress.step, length.share(progress))
                if progress.step % look_every == 0:
                    alarms.require_progress(trainer.skipped, progress.step)
                if main and (progress.step % LOG_EVERY == 0 or progress.step in (1, steps)):
                    epoch = progress.step * meter.pictures / len(ready.samples)
                    line = {key: float(value) for key, value in scalars.items()} | meter.read()
                    log.write(progress.step, {"epoch": epoch} | line | {"time/seconds": progress.seconds})
                    for sentence in alarms.listen(progress.step, line):
                        log.warn(progress.step, sentence)
                    bar.read(line)
                stop = asked_to_stop()
                if progress.overdue(recipe.validation.every) and not stop:
                    measure()
                    stop = asked_to_stop()
                if progress.step % recipe.checkpoint_every == 0 and not stop:
                    keep()
            bar.show(progress.step, length.share(progress))
            if not stop and progress.measured != progress.step:
                measure()
            keep()
            if stop:
                log and log.close()
                heard = warnings.heard or "a signal to another process"
                raise StopRequest(f"stopped by {heard} at step {progress.step}")
        except NonFiniteLossError as reason:
            kept = by_main(checkpoints.paths, accelerator)
            before_it = f"the checkpoint in {checkpoints.folder} is from before it: resume" if kept else "start again"
            raise StepError(f'{reason}; {before_it} with a lower optimizer.lr, or with precision = "no"') from None
        bar.close()
        pool = loader if isinstance(loader, Pool) else None
        if main and bare:
            print(efficiency(meter, bare, pool.frozen_seconds if pool else 0.0))
        if pool:
            pool.remove()
        return finish(trainer, config, recipe, progress, run, accelerator, log)


def finish(
    trainer: Trainer,
    config: GeneratorConfig,
    recipe: Recipe,
    progress: Progress,
    run: Run,
    accelerator: Accelerator,
    log: Log | None,
) -> Path:
    """Saves the best model, or the last where nothing was held out to choose by, as `<output>/model`."""
    folder = run.output / "model"
    if accelerator.is_main_process:
        log.close()
        show_curves(run.output)
        best = run.output / "best"
        if progress.best_psnr > float("-inf"):
            DeblurGenerator.from_pretrained(best).save_pretrained(folder, card=(best / "README.md").read_text())
            print(
                f"best by {recipe.validation.select}: step {progress.best_step}, {progress.best_psnr:.2f} dB on the "
                "held-out pairs "
                f"(blurred: {progress.blurred['blurred_psnr']:.2f} dB)"
            )
        else:
            DeblurGenerator(config, trainer.evaluated).save_pretrained(
                folder,
                card=training_card(
                    recipe.as_dict(),
                    {},
                    [],
                    progress.step,
                    progress.seconds,
                    recipe_text=as_toml(recipe.as_dict()),
                ),
            )
        if run.publisher:
            run.publisher.choose(folder, progress.best_step or progress.step)
        print(f"saved {folder} after {progress.step} steps in {progress.seconds / 60:.1f} minutes")
    accelerator.wait_for_everyone()
    return folder


def show_curves(output: Path) -> None:
    """Draws what the run has logged; a plot that cannot be drawn is no reason for a run to fail."""
    try:
        print(f"drew {draw_run(output)}")
    except ImportError:
        print("train: no curves were drawn, as matplotlib is missing: pip install matplotlib", file=sys.stderr)
    except Exception as reason:
        print(f"train: no curves were drawn ({type(reason).__name__}: {reason})", file=sys.stderr)


def resume(trainer: Trainer, path: Path, state: dict[str, Any], recipe: Recipe) -> Progress:
    """Puts a checkpoint's state in place; the recipe may differ in schedule and rates, not in the networks."""
    former = json.loads(state["recipe"]).get("optimizer", {}).get("name", recipe.optimizer.name)
    if former != recipe.optimizer.name and "muon" in (former, recipe.optimizer.name):
        raise RecipeError(
            f"{path}: its optimizer was '{former}', not '{recipe.optimizer.name}'; "
            "keep it, or start anew with --init-from"
        )
    try:
        trainer.load_state(state)
    except (KeyError, RuntimeError, ValueError):
        raise RecipeError(
            f"{path}: comes from a run of recipe '{json.loads(state['recipe'])['name']}' whose networks "
            f"are not those of '{recipe.name}'; resume with the same recipe"
        ) from None
    return Progress(**state["progress"])
