"""The cards: of a model as it was saved, converted, trained or released. Each says what is known of it and no more."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .. import __version__
from ..config import GeneratorConfig
from .about import About
from .front_matter import front_matter
from .markdown import block, clean, code, literal, plain, table
from .merging import assembled
from .scores import PSNR, SSIM, Cost, Scores, gain, means_table, numbers, rows_table

SHEET = "triptychs.jpg"  # beside the card
HERE = "path/to/this/folder"  # until the model has a name or an address


def plain_card(config: GeneratorConfig) -> str:
    """A card that says what the model is and how to use it, where nothing was measured."""
    name = called(config)
    return assembled(
        front_matter(name),
        f"# {plain(name)}\n\nA photo deblurring generator of {architecture(config)}, saved by deblur-hub. No scores "
        "were measured when it was saved.\n",
        use(HERE),
        citation(""),
    )


def converted_card(config: GeneratorConfig, layout: str, file: str) -> str:
    """The card of a model that was made elsewhere and brought into our format."""
    name = called(config)
    return assembled(
        front_matter(name),
        f"# {plain(name)}\n\nWeights of {plain(layout)}, converted by deblur-hub from {code(file)} to "
        f"{architecture(config)}. They are their authors', under the authors' licence; deblur-hub measured no scores "
        "when it converted them.\n",
        use(HERE),
    )


def training_card(
    recipe: Mapping[str, Any],
    mean: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    steps: int,
    seconds: float,
    *,
    recipe_text: str = "",
) -> str:
    """The card of a model as training leaves it.

    `mean` is of psnr, ssim, blurred_psnr and blurred_ssim, empty where nothing was held out; `rows` have the same for
    each held-out pair, with its `name`. `recipe_text` is the recipe as a file that trains such a model again.
    """
    name, data = str(recipe["name"]), recipe["data"]
    size = f"resized to {'x'.join(map(str, data['resize']))}" if data.get("resize") else "at full size"
    rules = f"pairs held out of training, {size}, RGB, rounded to 8 bits"
    title = f"{len(rows)} pairs held out of the training data"
    scores = Scores(title, "held-out-pairs", "validation", rules, (PSNR, SSIM), mean, rows) if mean else None
    told = again = ""
    if scores:
        told = (
            f"## Scores while training\n\nOn the {rules}; where these pairs chose the checkpoint they flatter it a "
            f"little.\n\n{rows_table(scores)}"
        )
    if recipe_text:
        file = f"{clean(name)}.toml"
        command = f"accelerate launch train/ --recipe {file} --data DATA --output runs/{clean(name)}"
        again = f"## Recipe\n\nSaved as {code(file)}, it trains such a model again: {code(command)}.\n\n"
        again += block(recipe_text, "toml")
    return assembled(
        front_matter(name, scores=scores),
        f"# {plain(name)}\n\nA photo deblurring generator, trained with deblur-hub's recipe {code(name)} for {steps} "
        f"steps ({seconds / 60:.0f} minutes) of {data['batch_size']} crops of {data['crop']} pixels.\n",
        told,
        use(HERE),
        again,
        "## Data\n\nIt was trained on the folder that it was given, of which deblur-hub knows no licences; what may be "
        "done with the weights depends on them.\n",
        citation(""),
    )


def release_card(
    config: GeneratorConfig,
    scores: Scores,
    cost: Cost,
    about: About,
    *,
    qualities: Mapping[str, tuple[Scores, Cost]] | None = None,
    address: str = HERE,
    pictures: bool = False,
) -> str:
    """The card of a model that is released: all that was measured, and what its makers say.

    `qualities` are what was measured at each, of a model that has several; `scores` and `cost` are those of one.
    `pictures` is whether `SHEET` is to stand beside the card.
    """
    name = called(config)
    made_by = f", with the weights that its authors trained ({plain(about.authors)})" if about.authors else ""
    return assembled(
        front_matter(name, scores=scores, about=about),
        f"# {plain(name)}\n\nA photo deblurring generator of {architecture(config)}{made_by}.\n",
        show(about) if pictures else "",
        use(address),
        steps(qualities or {}),
        measured(scores),
        costs(cost, address),
        training(about),
        failures(about, scores),
        licences(about),
        citation(about.citation),
    )


def called(config: GeneratorConfig) -> str:
    return config.name or config.architecture


def architecture(config: GeneratorConfig) -> str:
    """`the architecture compact (widths [64, 128, 256])`, as Markdown."""
    options = ", ".join(f"{key} {value}" for key, value in config.options.items()) or "defaults"
    return f"the architecture {code(config.architecture)} ({plain(options)})"


def steps(qualities: Mapping[str, tuple[Scores, Cost]]) -> str:
    """The section of a model's qualities: what each scores and takes."""
    if not qualities:
        return ""
    first, _ = next(iter(qualities.values()))
    lines = [["blurry input", PSNR.written(first.mean["blurred_psnr"]), SSIM.written(first.mean["blurred_ssim"]), ""]]
    for name, (scores, cost) in qualities.items():
        psnr, ssim = PSNR.written(scores.mean["psnr"]), SSIM.written(scores.mean["ssim"])
        lines.append([code(name), psnr, ssim, f"{cost.seconds:.2g} s"])
    return (
        "## Qualities\n\n`quality` says how much of the network runs: in Python `deblur(photo, quality=...)`, in the "
        "shell `--quality`; the best that takes at most a minute is the default. On the set below, in "
        f"{plain(first.precision)}:\n\n{table(['quality', 'PSNR', 'SSIM', 'a picture'], lines)}"
    )


def use(name: str) -> str:
    return "## Use\n\n" + block(
        "from deblur_hub import DeblurGenerator\n\n"
        f"generator = DeblurGenerator.from_pretrained({literal(name)})\n"
        'generator.deblur("photo.jpg").save("sharp.png")',
        "python",
    )


def show(about: About) -> str:
    credits = "".join(f"- {plain(picture.name)}: {picture.credit.strip()}\n" for picture in about.pictures)
    return (
        f"![Blurry, restored and sharp, at 1:1]({SHEET})\n\nFrom left to right: blurry, restored by this model, and "
        f"the sharp photograph; at 1:1. From top to bottom:\n\n{credits}"
    )


def measured(scores: Scores) -> str:
    """The section of scores: on what, by which rules, how to measure them again, and what they may stand beside."""
    notes = "".join(f"- {plain(column.label)}: {plain(column.note)}.\n" for column in scores.columns if column.note)
    beside = "They may stand beside\n\n" + "".join(f"- {plain(text)}\n" for text in scores.comparable)
    if not scores.comparable:
        beside = (
            f"These are {len(scores.rows)} pairs, an indication and not a benchmark: they stand beside nothing but "
            "scores of the same pictures under the same protocol.\n"
        )
    return (
        f"## Scores\n\nOn {plain(scores.title)}. Protocol {code(scores.protocol)}: {plain(scores.rules)}; RGB, rounded "
        f"to 8 bits, no border cut, mean of the per-picture values, restored in {plain(scores.precision)}. The blurry "
        f"input's own scores stand beside. Made by\n\n    {clean(scores.command)}\n\n{rows_table(scores)}\n"
        f"{means_table(scores)}\n{notes}\n{beside}"
    )


def costs(cost: Cost, address: str) -> str:
    threads = f" with {cost.threads} threads" if cost.threads and not cost.gpu_memory else ""
    where = ("a CPU" if cost.device == "cpu" else plain(cost.device)) + threads
    memory = [f"{cost.memory / 2**30:.2f} GiB of memory"] if cost.memory else []
    memory += [f"{cost.gpu_memory / 2**30:.2f} GiB of the GPU's"] if cost.gpu_memory else []
    peak = f" Measuring took at most {' and '.join(memory)}, reading and scoring included." if memory else ""
    return (
        f"## Speed and memory\n\n{cost.seconds:.2g} s a picture of the set above on {where} in {plain(cost.precision)} "
        f"(median of {cost.pictures}, restoring alone).{peak} Against ResNet-9, on the machine at hand:\n\n"
        f"    deblur-hub benchmark {shlex.quote(clean(address))} --size 1280x720\n"
    )


def training(about: About) -> str:
    command = f"\n\n    {clean(about.recipe)}" if about.recipe else ""
    return f"## Training\n\n{about.training.strip()}{command}\n" if about.training or command else ""


def failures(about: About, scores: Scores) -> str:
    worst = min(scores.rows, key=lambda row: gain(numbers(row)))
    told = f"{about.fails.strip()}\n\n" if about.fails else ""
    return (
        f"## Where it fails\n\n{told}Of the pictures above it did least for {plain(str(worst['name']))}: "
        f"{PSNR.written(gain(numbers(worst)), signed=True)} of PSNR.\n"
    )


def licences(about: About) -> str:
    """The weights' licence, and what they were trained on."""
    lines = [[data.name, data.by, data.licence] for data in about.data]
    told = f"## Licence and credits\n\nThe weights: {plain(about.license) or 'their licence is not known'}." + (
        f" They were trained on\n\n{table(['data', 'by', 'licence'], lines)}" if lines else "\n"
    )
    return f"{told}\n{about.notice.strip()}\n" if about.notice else told


def citation(entry: str) -> str:
    ours = (
        "@software{deblur_hub,\n  title = {deblur-hub: a blurry photo in, a sharper one out},\n"
        f"  author = {{{{The deblur-hub authors}}}},\n  version = {{{__version__}}}\n}}"
    )
    return f"## Citation\n\n{block(entry or ours, 'bibtex')}"
