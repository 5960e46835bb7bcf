"""Recipes: everything that defines a training run, typed and checked before the first step."""

import dataclasses
import tomllib
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deblur_hub.errors import DeblurHubError, did_you_mean

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(DeblurHubError):
    """A recipe with an unknown key, a value of the wrong type, or parts that do not fit each other."""


@dataclass(frozen=True)
class Mix:
    """How often each kind of picture is drawn; kinds that the data folder lacks drop out."""

    pairs: float = 1.0
    frames: float = 0.0
    sharp: float = 0.0


@dataclass(frozen=True)
class Frames:
    """Blurry pictures as averages of consecutive high-speed frames."""

    least: int = 7
    most: int = 13
    gammas: tuple[float, ...] = (1.0, 2.2)


@dataclass(frozen=True)
class Blur:
    """Synthetic blur of sharp photographs; shares are of those pictures, in [0, 1], lengths in pixels.

    `deblur_hub.blur` says what each does, `train.data.synthesis` how it is drawn.
    """

    shortest: float = 2.0
    longest: float = 40.0
    none: float = 0.1
    steady: float = 0.0  # share of the blurred whose path is that of a hand that drifts, in place of a random walk
    projective: float = 0.0  # share of the blurred whose camera rolls and nears too, so that the blur varies in place
    most_roll: float = 1.0  # path of the frame's corners by roll and approach, as a share of that of its middle
    focal: float = 0.8  # length, in longer sides of the frame: 0.72 is a telephone's main camera
    objects: float = 0.0  # share in which a part of the picture moves by itself
    still: float = 0.5  # share of these in which the camera does not move
    defocus: float = 0.0
    most_defocus: float = 2.0  # radius
    highlights: float = 0.0  # share whose saturated lights are brighter than the picture shows, and streak
    most_excess: float = 10.0  # times the full well
    gammas: tuple[float, ...] = (2.2, 2.2)  # least and most of the camera's curve
    srgb: float = 0.0  # share with the curve of sRGB instead
    noise: float = 0.5
    noise_in: Literal["display", "light"] = "display"
    most_shot_noise: float = 0.03
    most_read_noise: float = 0.01
    jpeg: float = 0.0
    quality: tuple[int, ...] = (60, 95)  # least and most


@dataclass(frozen=True)
class Data:
    crop: int = 256
    batch_size: int = 1
    epoch_length: int = 0
    candidates: int = 1
    workers: int = 2
    blur_folder: str = "blur"
    sharp_folder: str = "sharp"
    synthesis: Literal["auto", "loader", "device"] = "auto"  # where blur is made; auto: on a GPU, else in the loader
    pictures: Literal["disk", "device"] = "disk"  # where decoded ones are kept; the device's memory saves loading time
    pool: int = 0  # samples that are kept and used again, see `train.data.pool`; 0 makes every sample anew
    reuse: int = 16  # of the pool: how often a sample is used, on average
    pool_side: int = 0  # of the pool: pixels of a sample, of which every use cuts another crop; 0 for 2 crops
    sets: dict[str, Any] = field(default_factory=dict)  # weights of paired sets, by name or folder; none: all alike
    resize: tuple[int, ...] = ()
    mix: Mix = field(default_factory=Mix)
    frames: Frames = field(default_factory=Frames)
    blur: Blur = field(default_factory=Blur)


@dataclass(frozen=True)
class Optimizer:
    name: Literal["adam", "adamw", "muon"] = "adam"
    lr: float = 1e-4
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0
    accumulate: int = 1  # parts in which a batch passes through the networks: less memory, more time


@dataclass(frozen=True)
class Schedule:
    steps: int = 0
    epochs: int = 0
    shape: Literal["cosine", "flat-linear", "step", "polynomial"] = "cosine"
    flat: float = 0.5  # of flat-linear: share of the run
    milestones: tuple[float, ...] = ()  # of step: shares of the run after which the rate is multiplied by `gamma`
    gamma: float = 0.5
    power: float = 1.0  # of polynomial
    stretch: bool = True  # over a time budget; else the rate follows the steps, and time only cuts them short
    warmup: int = 0
    final: float = 0.0
    ema: float = 0.0
    freeze_backbone: int = 0  # epochs at the start in which `backbone`, a part of some generators, does not learn
    freeze_restorer: bool = False  # of a generator with a refiner: it alone learns


@dataclass(frozen=True)
class Perceptual:
    """`layers`, if any, take the place of `layer`; `sha256` is that of the file with the weights, empty for any."""

    weight: float = 0.0
    network: Literal["vgg19", "vgg16", "mobilenetv2", "resnet50"] = "vgg19"
    layer: str = "conv3_3"
    layers: tuple[str, ...] = ()
    layer_weights: tuple[float, ...] = ()  # of `layers`; none for 1 each
    mean_over_layers: bool = False  # their weighted mean, instead of the sum
    distance: Literal["mse", "l1", "unit"] = "mse"
    calibrated: bool = False
    imagenet_normalised: bool = True
    sha256: str = ""


@dataclass(frozen=True)
class Adversarial:
    """`options` are those of the critic's class in `losses.discriminators`; `layers` is an old key of one."""

    weight: float = 0.0
    loss: Literal["wgan-gp", "ragan-ls", "bce", "wasserstein"] = "wgan-gp"
    critic: Literal["patchgan", "double-scale", "keras", "bce-patchgan"] = "patchgan"
    layers: int = 0  # 0 leaves it to `options`
    options: dict[str, Any] = field(default_factory=dict)
    critic_steps: int = 5
    gradient_penalty: float = 10.0  # of wgan-gp alone
    pool: int = 0  # of ragan-ls alone: pictures whose scores make the means that it compares with; 0 for the batch's
    lr: float = 1e-4


@dataclass(frozen=True)
class Loss:
    """Of generators with outputs at several scales, pixel and frequency losses take all, the others the finest.

    `grid_weight` is that of `losses.pixels.grid_loss`, `harm_weight` that of `harm_loss` there.
    """

    pixel: Literal["l1", "mse", "charbonnier", "psnr", "none"] = "l1"
    pixel_weight: float = 1.0
    frequency_weight: float = 0.0
    grid_weight: float = 0.0
    harm_weight: float = 0.0
    perceptual: Perceptual = field(default_factory=Perceptual)
    adversarial: Adversarial = field(default_factory=Adversarial)


@dataclass(frozen=True)
class Validation:
    """`select` says which score chooses the best model; see `validation.selection_score`."""

    every: int = 1000
    select: Literal["psnr", "psnr+ssim", "l1"] = "psnr"
    scenes: tuple[str, ...] = ()
    pairs: int = 8


@dataclass(frozen=True)
class Alarms:
    """When a run warns or stops; see `console.Alarms`. A least value of 0 switches its alarm off."""

    most_skipped: int = 10  # steps in a row with an update that was not finite, after which the run stops
    patience: int = 5  # lines of the log in a row that the alarms below wait for
    least_slope: float = 1e-6  # of the critic's score by the restored picture
    least_change: float = 0.01  # between blurred and restored, as a share of that between blurred and sharp
    change_after: int = 1000  # steps before which a generator may return its input


@dataclass(frozen=True)
class Recipe:
    """One training run. `network` holds the options of the generator's class; every other table is typed above."""

    name: str
    generator: str
    network: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    checkpoint_every: int = 500
    keep: int = 3  # checkpoints
    compile: bool = False
    channels_last: bool = True  # memory format of pictures and weights
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    loss: Loss = field(default_factory=Loss)
    validation: Validation = field(default_factory=Validation)
    alarms: Alarms = field(default_factory=Alarms)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def batches_per_step(self) -> int:
        """Batches in a step: one for each critic update; the generator learns from the last."""
        return self.loss.adversarial.critic_steps if self.loss.adversarial.weight else 1

    @property
    def pictures_per_step(self) -> int:
        """On all processes together."""
        return self.data.batch_size * self.batches_per_step


def known_recipes() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name_or_path: str, overrides: list[str] = ()) -> Recipe:
    """A recipe by name or file, with `key=value` overrides applied.

    Raises:
        RecipeError: for an unknown recipe or key (naming the nearest known one) or a value that does not fit.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else RECIPES / f"{name_or_path}.toml"
    with naming(name_or_path):
        if not path.is_file():
            known = known_recipes()
            raise RecipeError(f"not known (known: {', '.join(known)}){did_you_mean(name_or_path, known)}")
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as reason:
            raise RecipeError(f"cannot be read as TOML: {reason}") from None
        for override in choose_variants(table, overrides):
            apply_override(table, override)
    return recipe_from_table(table, path.stem)


def recipe_from_table(table: dict[str, Any], source: str) -> Recipe:
    """A checked recipe from nested tables; errors name `source`."""
    with naming(source):
        return build(Recipe, {"name": source} | table)


@contextmanager
def naming(recipe: str) -> Iterator[None]:
    """Puts the recipe's name before the sentence of a `RecipeError`."""
    try:
        yield
    except RecipeError as reason:
        raise RecipeError(f"recipe '{recipe}': {reason}") from None


def choose_variants(table: dict[str, Any], overrides: list[str]) -> list[str]:
    """Resolves the variants of a recipe's table in place, and returns the overrides that are not about them.

    `[variants.critic.corrected.loss.adversarial]` holds what `critic = "corrected"`, at the top of the recipe or by
    `--set critic=corrected`, changes in `[loss.adversarial]`; `--set` for one of these values still has the last word.
    """
    variants, others = table.pop("variants", {}), []
    wanted = {key: table.pop(key, "") for key in variants}
    for override in overrides:
        key, _, text = override.partition("=")
        if key.strip() in variants:
            wanted[key.strip()] = text.strip().strip("'\"")
        else:
            others.append(override)
    for key, choices in variants.items():
        if wanted[key] not in choices:
            near = did_you_mean(str(wanted[key]), choices)
            raise RecipeError(f"'{key}' must be one of {', '.join(choices)}, not {wanted[key]!r}{near}")
        merge(table, choices[wanted[key]])
    return others


def merge(table: dict[str, Any], changes: dict[str, Any]) -> None:
    """Puts the changes over a nested table, in place."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            merge(table[key], value)
        else:
            table[key] = value


def apply_override(table: dict[str, Any], override: str) -> None:
    """Sets one dotted key of a nested table from 'key=value'; the value is TOML, or a bare word taken as text."""
    key, _, text = override.partition("=")
    key = key.strip()
    if "=" not in override or not key:
        raise RecipeError(f"--set takes key=value, not '{override}'")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"'{key}' goes through '{parent}', which is a value, not a table")
    table[last] = value


def build(kind: type, table: dict[str, Any], prefix: str = "") -> Any:
    """An instance of a dataclass from a table, with every key and type checked; its keys begin with `prefix`."""
    fields = typing.get_type_hints(kind)
    for key, value in table.items():
        if key not in fields:
            unknown = prefix + key
            while isinstance(value, dict) and value:  # a user knows the first value below it
                inner, value = next(iter(value.items()))
                unknown = f"{unknown}.{inner}"
            raise RecipeError(f"unknown key '{unknown}'{did_you_mean(unknown, dotted_keys(Recipe))}")
    if kind is Recipe and "generator" not in table:  # every other key has a default
        raise RecipeError("lacks the key 'generator'; add it")
    return kind(**{key: convert(fields[key], value, prefix + key) for key, value in table.items()})


def dotted_keys(kind: type, prefix: str = "") -> list[str]:
    """All keys of a recipe, as `--set` takes them."""
    keys = []
    for name, inner in typing.get_type_hints(kind).items():
        keys += dotted_keys(inner, f"{prefix}{name}.") if dataclasses.is_dataclass(inner) else [prefix + name]
    return keys


def convert(kind: Any, value: Any, key: str) -> Any:
    """A value as its annotation wants it, else `RecipeError`."""

    def wrong(expected: str) -> RecipeError:
        return RecipeError(f"'{key}' must be {expected}, not {value!r}")

    origin, known = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) or origin is dict:
        if not isinstance(value, dict):
            raise wrong("a table")
        return value if origin is dict else build(kind, value, key + ".")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise wrong("a list")
        return tuple(convert(known[0], entry, key) for entry in value)
    if origin is Literal:
        if value not in known:
            raise RecipeError(str(wrong("one of " + ", ".join(known))) + did_you_mean(str(value), known))
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise wrong({int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind])
    if kind in (int, float) and not 0 <= value < float("inf"):
        raise wrong("zero or more, and finite")
    return value
