"""A run from the first step to the saved model: steps, validation, checkpoints and logs."""

import json
import sys
import time
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
from accelerate import Accelerator
from tqdm import tqdm

from deblur_hub.generator import DeblurGenerator
from deblur_hub.model_card import training_card

from .checkpoint import Checkpoints
from .console import Alarms, Log, Meter, ProgressBar, describe
from .data.loading import next_batch
from .data.pool import Pool
from .distributed import ProcessSync, StopRequest, noted_signals, run_on_main
from .preparation import Prepared, batches_of, prepare
from .recipe import Recipe, RecipeError
from .run import Progress, Run, RunLength, StepError
from .study.benchmark import bare_rate, efficiency
from .study.curves import draw_run
from .study.portable_state import unpack
from .trainer import NonFiniteLossError, Trainer
from .validation import mean_score, save_sheet, selection_score, validate

LOG_EVERY = 20


def train(recipe: Recipe, run: Run, accelerator: Accelerator) -> Path:
    """Trains, and returns the folder of the saved model, `<output>/model`.

    The output folder holds `recipe.json`, `checkpoints/`, `best/` and `last/` (the model at the best validation so far,
    by the recipe's `validation.select`, and at the last one), `samples/*.png`, `metrics.jsonl` and `tensorboard/`.

    Raises:
        StopRequest: on every process, after SIGTERM or SIGUSR1 to any of them, once a checkpoint is saved.
        DeblurHubError: for what does not fit, before the first step if that can be known.
    """
    main = accelerator.is_main_process
    ready = prepare(recipe, run, accelerator)
    recipe, trainer, steps, held_out = ready.recipe, ready.trainer, ready.steps, ready.training_data.held_out
    checkpoints = Checkpoints(run.output / "checkpoints", keep=recipe.keep)
    if run.publisher:
        run_on_main(run.publisher.check, accelerator)
    progress = Progress()
    if (run.resume_from or not run.resume) and run_on_main(checkpoints.paths, accelerator):
        raise RecipeError(f"{run.output}: holds a run already; go on with --resume, or name another --output")
    if run.resume_from:
        state = run_on_main(partial(unpack, run.resume_from), accelerator)
        progress = resume(trainer, run.resume_from, state, recipe)
        # The best model is in another run's folder.
        progress.best_psnr, progress.best_step, progress.best, progress.measured = float("-inf"), 0, {}, -1
    elif run.resume:
        progress = resume(trainer, *run_on_main(checkpoints.newest, accelerator), recipe)
    log = Log(run.output, progress.step) if main else None
    if main:
        (run.output / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=2) + "\n")
        print(describe(ready, run, accelerator))

    def measure() -> None:
        progress.measured = progress.step
        if not held_out:
            return
        scores, rows = validate(trainer.evaluated, held_out, recipe.data.resize, accelerator)
        mean = mean_score(scores)
        progress.blurred = {key: mean[key] for key in ("blurred_psnr", "blurred_ssim")}
        select = recipe.validation.select
        better = selection_score(select, mean) > selection_score(select, progress.best)
        if better:
            progress.best, progress.best_psnr, progress.best_step = mean, mean["psnr"], progress.step
        if not main:
            return
        save_sheet(run.output / "samples" / f"step-{progress.step:07d}.png", scores, rows)
        log.write(progress.step, {f"validation/{key}": value for key, value in mean.items()})
        tqdm.write(
            f"step {progress.step}: {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.4f} on {len(scores)} held-out pairs "
            f"(blurry: {mean['blurred_psnr']:.2f} dB, {mean['blurred_ssim']:.4f})"
            f"{', the best so far' if better else ''}"
        )
        card = card_of(recipe, progress, mean, [asdict(score) for score in scores])
        for name in ("last", "best") if better else ("last",):
            DeblurGenerator(ready.config, trainer.evaluated).save_pretrained(run.output / name, card=card)
        if better and run.publisher:
            run.publisher.offer(run.output / "best", progress.step)

    def save() -> None:
        trainer.require_finite_weights(progress.step)
        header = {"recipe": json.dumps(recipe.as_dict()), "progress": asdict(progress)}
        run_on_main(lambda: checkpoints.save(progress.step, header | trainer.state()), accelerator)

    per_step = recipe.batches_per_step
    length = RunLength(steps, run.time_budget, stretch=recipe.schedule.stretch)
    first_batch = progress.step * per_step
    if run.resume_from and recipe.data.pool:  # the pool is not in the state
        progress.oldest = first_batch // recipe.data.reuse
    pool_file = run.output / f"pool-{accelerator.process_index}.bin"
    loader = batches_of(ready, accelerator, file=pool_file, first_batch=first_batch, oldest=progress.oldest)
    sync, alarms = ProcessSync(accelerator), Alarms(recipe.alarms)
    before, started = progress.seconds, time.monotonic()
    meter, bare = Meter(recipe.pictures_per_step), 0.0
    bar = ProgressBar(recipe.name, steps=0 if length.by_time else steps, fraction=length.fraction(progress), shown=main)
    # Reading a number from a GPU waits for all that it has still to do: not at every step.
    check_every = 1 if accelerator.device.type == "cpu" else LOG_EVERY

    with noted_signals() as signals, closing(bar):

        def asked_to_stop() -> bool:
            seconds = before + time.monotonic() - started
            progress.seconds, stop = sync.share(seconds, bool(signals))
            return stop

        try:
            stop = asked_to_stop()
            # Validates what was stopped before its validation, and a state from another folder.
            if (progress.validation_due(recipe.validation.every) or (run.resume_from and progress.step)) and not stop:
                measure()
            while not stop and length.fraction(progress) < 1:
                with meter.step():
                    with meter.waiting():
                        batches = [next_batch(loader) for _ in range(per_step)]
                    scalars = trainer.step(batches, step=progress.step, progress=length.schedule_fraction(progress))
                bare = bare or bare_rate(trainer, trainer.on_device(batches[-1]))
                progress.step += 1
                bar.show(progress.step, length.fraction(progress))
                if progress.step % check_every == 0:
                    alarms.require_progress(trainer.skipped, progress.step)
                if main and (progress.step % LOG_EVERY == 0 or progress.step in (1, steps)):
                    epoch = progress.step * meter.pictures / len(ready.samples)
                    line = {key: float(value) for key, value in scalars.items()} | meter.read()
                    log.write(progress.step, {"epoch": epoch} | line | {"time/seconds": progress.seconds})
                    for sentence in alarms.listen(progress.step, line):
                        log.warn(progress.step, sentence)
                    bar.read(line)
                stop = asked_to_stop()
                if progress.validation_due(recipe.validation.every) and not stop:
                    measure()
                    stop = asked_to_stop()
                if progress.step % recipe.checkpoint_every == 0 and not stop:
                    save()
            bar.show(progress.step, length.fraction(progress))
            if not stop and progress.measured != progress.step:
                measure()
            save()
            if stop:
                if main:
                    log.close()
                received = signals[-1] if signals else "a signal to another process"
                raise StopRequest(f"stopped by {received} at step {progress.step}")
        except NonFiniteLossError as reason:
            saved = run_on_main(checkpoints.paths, accelerator)
            advice = f"the checkpoint in {checkpoints.folder} is from before it: resume" if saved else "start again"
            raise StepError(f'{reason}; {advice} with a lower optimizer.lr, or with precision = "no"') from None
        bar.close()
        pool = loader if isinstance(loader, Pool) else None
        if main and bare:
            print(efficiency(meter, bare, pool.frozen_seconds if pool else 0.0))
        if pool:
            pool.remove()
        return finish(ready, progress, run, accelerator, log)


def finish(ready: Prepared, progress: Progress, run: Run, accelerator: Accelerator, log: Log | None) -> Path:
    """Saves the best model, or the last if no pairs were held out, as `<output>/model`."""
    folder = run.output / "model"
    if accelerator.is_main_process:
        log.close()
        try:
            print(f"drew {draw_run(run.output)}")
        except ImportError:
            print("train: no curves were drawn, as matplotlib is missing: pip install matplotlib", file=sys.stderr)
        except Exception as reason:  # a plot that cannot be drawn does not fail the run
            print(f"train: no curves were drawn ({type(reason).__name__}: {reason})", file=sys.stderr)
        best = run.output / "best"
        if progress.best_psnr > float("-inf"):
            DeblurGenerator.from_pretrained(best).save_pretrained(folder, card=(best / "README.md").read_text())
            print(
                f"best by {ready.recipe.validation.select}: step {progress.best_step}, {progress.best_psnr:.2f} dB on "
                f"the held-out pairs (blurry: {progress.blurred['blurred_psnr']:.2f} dB)"
            )
        else:
            card = card_of(ready.recipe, progress, {}, [])
            DeblurGenerator(ready.config, ready.trainer.evaluated).save_pretrained(folder, card=card)
        if run.publisher:
            run.publisher.choose(folder, progress.best_step or progress.step)
        print(f"saved {folder} after {progress.step} steps in {progress.seconds / 60:.1f} minutes")
    accelerator.wait_for_everyone()
    return folder


def card_of(recipe: Recipe, progress: Progress, mean: dict[str, float], scores: list[dict[str, Any]]) -> str:
    table = recipe.as_dict()
    return training_card(table, mean, scores, progress.step, progress.seconds, recipe_text=tomli_w.dumps(table))


def resume(trainer: Trainer, path: Path, state: dict[str, Any], recipe: Recipe) -> Progress:
    """Loads a checkpoint's state; the recipe may differ in schedule and rates, not in the networks."""
    former, wanted = json.loads(state["recipe"]), recipe.optimizer.name
    name = former.get("optimizer", {}).get("name", wanted)
    if name != wanted and "muon" in (name, wanted):
        raise RecipeError(
            f"{path}: its optimizer was '{name}', not '{wanted}'; keep it, or start anew with --init-from"
        )
    try:
        trainer.load_state(state)
    except (KeyError, RuntimeError, ValueError):
        differ = f"comes from a run of recipe '{former['name']}' whose networks are not those of '{recipe.name}'"
        raise RecipeError(f"{path}: {differ}; resume with the same recipe") from None
    return Progress(**state["progress"])
