"""The speed of a recipe's steps: plain float32 against other variants, each in a process of its own; and a whole run's.

Ratios are of rounds in which every variant has its turn, so that a machine that is slow for a while is so for all. Each
process also measures a plain matrix product, before and after its steps: what the machine can do at that time.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deblur_hub.evaluation.tables import markdown
from deblur_hub.restoration.restore import has_fast_bfloat16

from ..console import Meter
from ..data.loading import next_batch
from ..preparation import Prepared, few_batches_of, prepare
from ..recipe import Data, Recipe, RecipeError
from ..run import Run
from ..trainer import Trainer, outputs_of
from .estimate import peak_memory, synchronise

# Names of variants, and their values of the recipe.
VARIANTS = {
    "float32": ("precision=no", "channels_last=false", "compile=false"),
    "float32, channels-last": ("precision=no", "channels_last=true", "compile=false"),
    "float32, channels-last, compiled": ("precision=no", "channels_last=true", "compile=true"),
    "bf16, channels-last": ("precision=bf16", "channels_last=true", "compile=false"),
    "bf16, channels-last, compiled": ("precision=bf16", "channels_last=true", "compile=true"),
}
PLAIN = next(iter(VARIANTS))
LEAST_STEPS = 2  # that count, however slow
PASSES = 2  # of the bare rate
PRODUCT = {"cpu": 1024, "cuda": 8192}  # side of the plain product's matrices
PRODUCT_SECONDS = 0.5


@dataclass(frozen=True)
class Measurement:
    """One variant in one round."""

    seconds: float  # of one step
    waited: float  # fraction of that time in which the networks waited for data
    memory: float  # peak, in bytes
    multiply_adds: int  # of one step, forwards and backwards, with critic and perceptual loss; 0 if compiled
    product: float  # multiply-adds a second of a plain matrix product in the same precision


@dataclass(frozen=True)
class Row:
    """One variant: medians over the rounds; steps, pictures and multiply-adds are those of a second."""

    variant: str
    steps: float
    pictures: float
    waited: float
    memory: float
    multiply_adds: float
    product: float  # of the plain matrix product in its precision or in float32, whichever is faster
    ratio: float  # how many times as fast as plain float32


def measure_step(ready: Prepared, accelerator: Accelerator, *, seconds: float) -> Measurement:
    """Measures steps of this process for so many seconds, two steps at least, after a warm-up."""
    trainer, recipe = ready.trainer, ready.recipe
    batches = few_batches_of(ready, accelerator)
    meter, before = Meter(1), plain_product(accelerator)

    def step() -> None:
        with meter.step():
            with meter.waiting():
                drawn = [next_batch(batches) for _ in range(recipe.batches_per_step)]
            trainer.step(drawn, step=meter.all_steps, progress=0.0)
            synchronise(accelerator)

    step()  # allocates, compiles, and lets workers fill their queues
    counter = FlopCounterMode(display=False)
    with nullcontext() if recipe.compile else counter:
        step()
    meter.reset()
    while meter.steps < LEAST_STEPS or meter.seconds < seconds:
        step()
    memory, product = peak_memory(accelerator), max(before, plain_product(accelerator))
    counted = counter.get_total_flops() // 2  # it counts a multiply-add as two operations
    return Measurement(meter.seconds / meter.steps, meter.waited / meter.seconds, memory, counted, product)


def plain_product(accelerator: Accelerator) -> float:
    """Multiply-adds a second of square matrices, in the precision of the steps."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)
    side = PRODUCT.get(accelerator.device.type, PRODUCT["cpu"])
    one, other = (torch.randn(side, side, device=accelerator.device, dtype=kind) for _ in range(2))
    best, begun = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begun < PRODUCT_SECONDS:
        synchronise(accelerator)
        started = time.perf_counter()
        one @ other
        synchronise(accelerator)
        best = min(best, time.perf_counter() - started)
    if accelerator.device.type == "cuda":
        del one, other
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return side**3 / best


def benchmark(recipe: Recipe, command: list[str], *, data: Path | None, rounds: int, seconds: float) -> list[Row]:
    """Measures all variants, round after round, so many seconds of steps each; raises `RecipeError` if one fails.

    Args:
        command: runs one variant when its data, `--set` and `--benchmark-one SECONDS` are added, and prints a
            `Measurement` as JSON in its last line.
        data: a data folder, or None for generated pictures.
    """
    found: dict[str, list[Measurement]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = generate_data(Path(folder) / "data", recipe.data)
        for number in range(rounds):
            for variant, changes in VARIANTS.items():
                print(f"round {number + 1} of {rounds}: {variant}", file=sys.stderr, flush=True)
                full = [*command, "--data", str(data), "--cache", f"{folder}/cache"]
                full += [part for change in changes for part in ("--set", change)]
                full += ["--benchmark-one", str(seconds)]
                done = subprocess.run(full, stdout=subprocess.PIPE, text=True, check=False)
                if code := done.returncode:
                    raise RecipeError(f"--benchmark: '{variant}' ended with exit code {code}, for the reason above")
                found[variant].append(Measurement(**json.loads(done.stdout.splitlines()[-1])))
    work = max(each.multiply_adds for each in found[PLAIN])
    rows = []
    for variant, measured in found.items():
        rounds = list(zip(found[PLAIN], measured, strict=True))
        steps, waited = median(1 / each.seconds for each in measured), median(each.waited for each in measured)
        product = median(max(plain.product, each.product) for plain, each in rounds)
        ratio = median(plain.seconds / each.seconds for plain, each in rounds)
        memory = max(each.memory for each in measured)
        rows.append(Row(variant, steps, recipe.pictures_per_step * steps, waited, memory, work * steps, product, ratio))
    return rows


def measure_one(recipe: Recipe, run: Run, accelerator: Accelerator, *, seconds: float) -> None:
    """Prints the measurement of one variant for `benchmark`, which runs this in a process."""
    print(json.dumps(asdict(measure_step(prepare(recipe, run, accelerator), accelerator, seconds=seconds))))


def generate_data(folder: Path, data: Data) -> Path:
    """Writes pictures of every kind that a recipe draws from, as large as GoPro's or as its crops need."""
    least = int(data.crop + 2 * data.blur.longest + 16)
    rows, columns = np.mgrid[0 : max(720, least), 0 : max(1280, least)].astype(np.uint16)
    files = {
        "pairs": [f"scene/{kind}/{n}.jpg" for kind in (data.blur_folder, data.sharp_folder) for n in range(6)],
        "frames": [f"240fps/run/{number:03}.jpg" for number in range(18)],
        "sharp": [f"photographs/{data.sharp_folder}/{number}.jpg" for number in range(6)],
    }
    for kind, names in files.items():
        for number, name in enumerate(names if getattr(data.mix, kind) else ()):
            pixels = np.stack([rows * 3 + columns + number, rows ^ (columns + number), columns * 5], axis=-1)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
    return folder


def report(recipe: Recipe, rows: list[Row], *, device: str, rounds: int) -> str:
    """A Markdown table of the variants, and facts about the machine."""
    data = recipe.data
    title = (
        f"training steps of recipe '{recipe.name}' on {device}: {recipe.generator}, {recipe.pictures_per_step} crops "
        f"of {data.crop}x{data.crop} a step, {data.workers} loader worker(s); medians of {rounds} round(s)"
    )
    header = ["variant", "steps/s", "pictures/s", "waiting for data", "peak memory", "multiply-adds/s"]
    header += ["of a matrix product", "times as fast"]
    lines = []
    for row in rows:
        cost = [f"{row.waited:.1%}", f"{row.memory / 2**30:.2f} GiB", f"{row.multiply_adds / 1e9:.4g} G"]
        compared = [f"{row.multiply_adds / row.product:.0%}", f"{row.ratio:.2f}"]
        lines.append([row.variant, f"{row.steps:.3g}", f"{row.pictures:.3g}", *cost, *compared])
    single = max(row.product for row in rows if not row.variant.startswith("bf16"))
    half = max((row.product for row in rows if row.variant.startswith("bf16")), default=0.0)
    product = f"a plain matrix product: {single / 1e9:.4g} G multiply-adds/s in float32"
    if half > 1.05 * single:
        product += f", {half / 1e9:.4g} G in bf16"
    if device == "cpu" and not has_fast_bfloat16():
        product += "\nThis CPU has no instructions for bf16 and emulates them, which gains nothing."
    return "\n\n".join([title, markdown(header, lines), product])


# A whole run ---------------------------------------------------------------------------------------------------------


def bare_rate(trainer: Trainer, batch: Sequence[Tensor]) -> float:
    """Pictures a second, over all processes, of forward and backward passes and losses only.

    Weights, statistics and random numbers stay as they are. To be called after a step, which has allocated memory, and
    with its `batch` on the device.
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
            unwrapped = accelerator.unwrap_model(discriminator) if discriminator else None
            terms, _ = trainer.terms(outputs, sharp, unwrapped, (blurred, *kept))
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
    """A sentence about all steps of a session, `frozen` seconds of which a frozen part computed what the pool keeps."""
    rate = meter.all_steps * meter.pictures / meter.all_seconds
    sentence = (
        f"{rate:.3g} pictures a second, {rate / bare:.0%} of the {bare:.3g} of forward and backward passes alone; "
        f"{(meter.all_waited - frozen) / meter.all_seconds:.0%} of the time waiting for data"
    )
    return f"{sentence}, {frozen / meter.all_seconds:.0%} in the frozen part" if frozen else sentence
