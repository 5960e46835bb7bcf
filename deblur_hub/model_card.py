"""The README of a saved model, from what was measured."""

import json
from typing import Any

from .config import GeneratorConfig

CARD_BEGIN = "<!-- deblur-hub: generated from here on; edits in here are replaced -->"
CARD_END = "<!-- deblur-hub: end of what is generated; what you write below stays -->"
SHEET = "triptychs.jpg"  # beside the card
HERE = "path/to/this/folder"  # until the model has a name or an address

FRONT_MATTER = """---
library_name: deblur-hub
pipeline_tag: image-to-image
license: {license}
tags:
- deblurring
- image-restoration
---
"""
USE = """## Use

```python
from deblur_hub import DeblurGenerator

generator = DeblurGenerator.from_pretrained("{name}")
generator.deblur("photo.jpg").save("sharp.png")
```
"""


def plain_card(config: GeneratorConfig, *, license: str = "apache-2.0") -> str:
    """A card that says what the model is and how to use it, where nothing was measured."""
    name = config.name or config.architecture
    options = ", ".join(f"{key} {value}" for key, value in config.options.items()) or "defaults"
    return (
        FRONT_MATTER.format(license=license) + f"\n# {name}\n\nA photo deblurring generator of the architecture "
        f"`{config.architecture}` ({options}), saved by deblur-hub. No scores were measured when it was saved.\n\n"
        + USE.format(name="path/to/this/folder")
    )


def converted_card(config: GeneratorConfig, layout: str, file: str) -> str:
    """The card of a model that was made elsewhere and brought into our format."""
    name = config.name or config.architecture
    options = ", ".join(f"{key} {value}" for key, value in config.options.items()) or "defaults"
    return (
        FRONT_MATTER.format(license="other")
        + f"\n# {name}\n\nWeights of {layout}, converted by deblur-hub from `{file}` to its architecture "
        f"`{config.architecture}` ({options}). They are their authors', under the authors' licence; deblur-hub "
        "measured no scores when it converted them.\n\n" + USE.format(name="path/to/this/folder")
    )


def training_card(
    recipe: dict[str, Any],
    mean: dict[str, float],
    rows: list[dict[str, Any]],
    steps: int,
    seconds: float,
    *,
    recipe_text: str = "",
) -> str:
    """The card of a model as training leaves it.

    Args:
        recipe: as a nested dict.
        mean: psnr, ssim, blurred_psnr, blurred_ssim; empty where nothing was held out.
        rows: the same for each held-out pair, with its `name`.
        steps, seconds: how far and how long it was trained.
        recipe_text: the recipe as a file that trains such a model again.
    """
    name = recipe["name"]
    front = FRONT_MATTER.format(license="apache-2.0")
    if mean:
        front = front.removesuffix("---\n") + model_index(name, mean, len(rows)) + "---\n"
    text = front + (
        f"\n# {name}\n\nA photo deblurring generator, trained with deblur-hub's recipe `{name}` for {steps} steps "
        f"({seconds / 60:.0f} minutes) of {recipe['data']['batch_size']} crops of {recipe['data']['crop']} pixels.\n\n"
    )
    if mean:
        text += (
            "## Scores while training\n\nOn the pairs held out of training, at full size, RGB, rounded to 8 bits; "
            "where these pairs chose the checkpoint they flatter it a little.\n\n" + score_table(mean, rows) + "\n"
        )
    text += USE.format(name="path/to/this/folder")
    if recipe_text:
        text += (
            f"\n## Recipe\n\nSaved as `{name}.toml`, it trains such a model again: "
            f"`accelerate launch train/ --recipe {name}.toml --data DATA --output runs/{name}`.\n\n"
            f"```toml\n{recipe_text.strip()}\n```\n"
        )
    return text


def model_index(name: str, mean: dict[str, float], pairs: int) -> str:
    """The measured means as the hub's pages list them, in YAML."""
    metrics = "".join(
        f"    - type: {key}\n      name: {title}\n      value: {mean[key]:.{places}f}\n"
        for key, title, places in (
            ("psnr", "PSNR, dB", 2),
            ("ssim", "SSIM", 4),
            ("blurred_psnr", "PSNR of the blurred input, dB", 2),
            ("blurred_ssim", "SSIM of the blurred input", 4),
        )
    )
    return (
        f"model-index:\n- name: {json.dumps(name)}\n  results:\n  - task:\n      type: image-to-image\n"
        f"      name: Image deblurring\n    dataset:\n      type: held-out-pairs\n"
        f"      name: {pairs} pairs held out of the training data\n    metrics:\n{metrics}"
    )


def release_card(
    config: GeneratorConfig, mean: dict[str, float], rows: list[dict[str, Any]], *, dataset: str, training: str
) -> str:
    """The card of a released model; arguments as in `training_card`, `dataset` the folder it was scored on."""
    return (
        FRONT_MATTER.format(license="apache-2.0")
        + f"""
# {config.name}

A photo deblurring generator of the architecture `{config.architecture}`, stored in half precision.

{USE.format(name=config.name)}
## Scores

At full size, RGB, restored in float32 and rounded to 8 bits, mean of the per-picture values; SSIM with a Gaussian
window of 11, sigma 1.5, per channel. The blurry input's own scores stand beside. Made by

    deblur-hub evaluate {config.name} {dataset} --precision float32

{score_table(mean, rows)}
These are {len(rows)} pairs, an indication and not a benchmark.

## Training

{training or "Not described."}

## Where it fails

It was trained on camera shake and motion. Strong defocus, blur longer than some forty pixels, small text, faces that
are blurred beyond recognition, and noisy pictures of the night come back little better than they went in. It does not
invent detail: where nothing is left of it, the result stays soft.
"""
    )


def score_table(mean: dict[str, float], rows: list[dict[str, Any]]) -> str:
    """A Markdown table: blurred and restored PSNR and SSIM of each picture, and their means."""
    lines = [
        "| picture | blurred PSNR | restored PSNR | gain | blurred SSIM | restored SSIM |",
        "|---|---|---|---|---|---|",
    ]
    for row in [*rows, {"name": "**mean**"} | mean]:
        lines.append(
            f"| {row['name']} | {row['blurred_psnr']:.2f} dB | {row['psnr']:.2f} dB "
            f"| {row['psnr'] - row['blurred_psnr']:+.2f} dB | {row['blurred_ssim']:.4f} | {row['ssim']:.4f} |"
        )
    return "\n".join(lines) + "\n"
