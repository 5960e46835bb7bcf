"""Every recipe of train/recipes: it resolves, its parts fit, and it runs to a model with a card.

The networks are narrowed by --set, the pictures are small, and the perceptual weights random: what is tried is that a
recipe works, not how well it learns.
"""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import save_file

from deblur_hub import DeblurGenerator
from deblur_hub.networks import build_network
from tests.train.tiny_runs import photograph
from train.__main__ import main
from train.checkpoint import load_checkpoint
from train.losses.backbones import BACKBONES, torchvision_network
from train.preparation import check
from train.recipe import RECIPES, RecipeError, known_recipes, load_recipe

ALL = [
    "autoencoder",
    "compact",
    "compact-gan",
    "deblurgan",
    "deblurgan-corrected",
    "deblurgan-mobilenet",
    "deblurgan-multilayer",
    "deblurgan-v2-inception",
    "deblurgan-v2-mobilenet",
    "deblurgan-vgg16",
    "deepdeblur",
    "maxim-light",
    "maxim-light-gan",
    "maxim-refined",
    "mimo-unet",
    "nafnet-w32",
    "resnet6-bce-l1",
    "resnet6-bce-l1-448",
    "unet",
]
VARIANTS = [
    ("deblurgan-vgg16", "critic=corrected"),
    ("deblurgan-mobilenet", "critic=corrected"),
    ("deblurgan-multilayer", "critic=as-published"),
    ("deblurgan-multilayer", "features=vgg19"),
    ("deblurgan-multilayer", "features=resnet50"),
    ("resnet6-bce-l1", "critic=as-published"),
    ("resnet6-bce-l1-448", "critic=as-published"),
]
EVERY = [(name,) for name in ALL] + VARIANTS
HEAVY = [("deblurgan-v2-inception",)]  # its network stays large, however narrowed

RESNET = ("network.width=8", "network.blocks=1")
CRITIC = ("loss.adversarial.options.width=8",)
TWICE = ("loss.adversarial.critic_steps=2",)
WHOLE = ("data.resize=[32, 32]",)
KERAS = (*RESNET, *CRITIC, *TWICE, *WHOLE)
FPN = ("network.width=8", *CRITIC, "data.crop=64", "data.epoch_length=2")
REFINED = (
    "network.width=4",
    "network.refiner_widths=[8, 8]",
    "network.refiner_blocks=[1, 1]",
    "data.pool=4",
    "data.reuse=2",
)
NARROWED = {  # how each recipe's networks and pictures are made small
    "autoencoder": ("network.width=8", "network.blocks=[1, 1]", *WHOLE),
    "compact": ("network.widths=[8, 8]", "network.blocks=[1, 1]", "data.pool=8"),
    "compact-gan": ("network.widths=[8, 8]", "network.blocks=[1, 1]", "data.pool=8", *CRITIC),
    "deblurgan": (*RESNET, *CRITIC, *TWICE, "data.resize=[72, 40]"),
    "deblurgan-corrected": (*RESNET, *CRITIC),
    "deblurgan-mobilenet": KERAS,
    "deblurgan-multilayer": KERAS,
    "deblurgan-v2-inception": FPN,
    "deblurgan-v2-mobilenet": FPN,
    "deblurgan-vgg16": KERAS,
    "deepdeblur": ("network.width=8", "network.blocks=1", "data.blur_folder=blur"),
    "maxim-light": REFINED,
    "maxim-light-gan": (*REFINED, *CRITIC, "network.stages=1"),
    "maxim-refined": (*REFINED, "network.stages=2"),
    "mimo-unet": ("network.width=8", "network.blocks=1"),
    "nafnet-w32": ("network.width=8", "network.encoder_blocks=[1, 1]", "network.decoder_blocks=[1, 1]"),
    "resnet6-bce-l1": (*RESNET, *CRITIC, "data.resize=[64, 36]", "data.crop=36"),
    "resnet6-bce-l1-448": (*RESNET, *CRITIC, *WHOLE),
    "unet": ("network.width=8", *WHOLE),
}
TINY = (
    "data.crop=32",
    "data.pool_side=40",
    "data.batch_size=2",
    "data.workers=0",
    "data.frames.least=3",
    "data.frames.most=5",
    "data.blur.longest=6.0",
    "precision=no",
    "validation.scenes=['held']",
)
STEPS = 2


def test_the_recipes_are_these():
    assert known_recipes() == ALL


@pytest.mark.slow
@pytest.mark.parametrize("change", EVERY, ids=" ".join)
def test_every_recipe_and_variant_resolves_and_its_parts_fit(change):
    name, *changes = change
    recipe = load_recipe(name, changes)
    assert recipe.name == name
    with torch.device("meta"):
        network = build_network(recipe.generator, **recipe.network)
    check(recipe, network, Accelerator(cpu=True))
    assert recipe.schedule.steps or recipe.schedule.epochs
    perceptual = recipe.loss.perceptual
    known = BACKBONES[perceptual.network].known()
    assert set(perceptual.layers or [perceptual.layer]) <= set(known)
    assert len(perceptual.layer_weights) in (0, len(perceptual.layers))


@pytest.mark.parametrize("name", ALL)
def test_every_number_of_a_recipe_is_in_its_file(name):
    """Nothing that a recipe's own tables are about is left to defaults which a later version may change."""
    table = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    recipe = load_recipe(name).as_dict()
    assert {"lr", "betas", "name"} <= table["optimizer"].keys()
    assert {"crop", "batch_size", "epoch_length", "blur_folder", "mix"} <= table["data"].keys()
    assert {"shape", "ema"} <= table["schedule"].keys() and table["schedule"].keys() & {"steps", "epochs"}
    assert "pixel" in table["loss"] and "every" in table["validation"]
    if recipe["loss"]["adversarial"]["weight"]:
        assert {"critic", "critic_steps", "lr", "weight"} <= table["loss"]["adversarial"].keys()
    if recipe["loss"]["perceptual"]["weight"]:
        assert {"weight", "imagenet_normalised"} <= table["loss"]["perceptual"].keys()


def test_the_numbers_of_the_papers_and_reports():
    v2 = load_recipe("deblurgan-v2-inception")
    assert (v2.loss.pixel, v2.loss.pixel_weight, v2.loss.perceptual.weight) == ("mse", 0.5, 0.006)
    assert (v2.loss.adversarial.weight, v2.loss.adversarial.loss, v2.loss.adversarial.pool) == (0.01, "ragan-ls", 50)
    assert (v2.loss.adversarial.critic, v2.schedule.freeze_backbone) == ("double-scale", 3)
    assert load_recipe("deblurgan-v2-mobilenet").loss == v2.loss
    keras = load_recipe("deblurgan-vgg16")
    assert (keras.schedule.epochs, keras.data.resize, keras.data.crop) == (200, (256, 256), 256)
    assert (keras.loss.perceptual.network, keras.loss.perceptual.layer) == ("vgg16", "block3_conv3")
    assert (keras.loss.perceptual.weight, keras.validation.select) == (100, "psnr+ssim")
    resnet = load_recipe("resnet6-bce-l1")
    assert (resnet.data.resize, resnet.schedule.epochs, resnet.validation.select) == ((640, 360), 80, "l1")
    assert (resnet.loss.pixel, resnet.loss.pixel_weight, resnet.loss.adversarial.loss) == ("l1", 100, "bce")
    assert load_recipe("resnet6-bce-l1-448").data.resize == (448, 448)
    assert load_recipe("autoencoder").data.resize == (224, 224)
    mimo = load_recipe("mimo-unet")
    assert (mimo.loss.pixel, mimo.loss.frequency_weight, mimo.schedule.epochs) == ("l1", 0.1, 3000)
    nafnet = load_recipe("nafnet-w32")
    assert (nafnet.loss.pixel, nafnet.optimizer.name, nafnet.optimizer.betas) == ("psnr", "adamw", (0.9, 0.9))
    deep = load_recipe("deepdeblur")
    assert (deep.data.batch_size, deep.data.blur_folder, deep.schedule.epochs) == (16, "blur_gamma", 1000)


def test_one_key_switches_between_the_critic_as_published_and_corrected():
    published, corrected = load_recipe("deblurgan-vgg16"), load_recipe("deblurgan-vgg16", ["critic=corrected"])
    one, other = published.loss.adversarial, corrected.loss.adversarial
    assert (one.loss, one.options) == ("wasserstein", {"head": "sigmoid", "norm": "batch"})
    assert (other.loss, other.options) == ("wgan-gp", {"head": "linear", "norm": "instance"})
    assert load_recipe("deblurgan-vgg16", ["critic='as-published'"]) == published
    assert load_recipe("deblurgan-vgg16", ["critic=corrected", "critic=as-published"]) == published
    narrow = load_recipe("deblurgan-vgg16", ["loss.adversarial.options.norm=none", "critic=corrected"])
    assert narrow.loss.adversarial.options == {"head": "linear", "norm": "none"}


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (
            "deblurgan-vgg16",
            "critic=correct",
            r"'critic' must be one of as-published, corrected, not 'correct' \(did you mean 'corrected'\?\)",
        ),
        ("deblurgan-multilayer", "features=vgg17", r"'features' must be one of vgg16, vgg19, resnet50, not 'vgg17'"),
        ("deblurgan", "critic=corrected", "unknown key 'critic'"),
    ],
)
def test_a_variant_that_is_not_there_is_a_sentence(name, change, sentence):
    with pytest.raises(RecipeError, match=f"recipe '{name}': {sentence}"):
        load_recipe(name, [change])


def test_a_recipe_of_ones_own_that_forgets_to_choose_is_told(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('generator = "compact"\n[variants.size.small.network]\nwidths = [8, 8]\nblocks = [1, 1]\n')
    with pytest.raises(RecipeError, match="'size' must be one of small, not ''"):
        load_recipe(str(path))
    assert load_recipe(str(path), ["size=small"]).network == {"widths": [8, 8], "blocks": [1, 1]}


@pytest.fixture(scope="session")
def perceptual_weights(tmp_path_factory):
    """Makes a file with random weights of a network, up to the layers that a recipe wants."""
    folder = tmp_path_factory.mktemp("perceptual")

    def make(options) -> Path:
        backbone = BACKBONES[options.network]
        layers = [backbone.layers[backbone.layer(name)] for name in options.layers or [options.layer]]
        path = folder / f"{options.network}-{'-'.join(layers)}.safetensors"
        if not path.exists():
            network, tensors = torchvision_network(backbone), {}
            generator = torch.Generator().manual_seed(0)
            for step in backbone.steps[: max(map(backbone.steps.index, layers)) + 1]:
                for key, tensor in network.get_submodule(step).state_dict(prefix=f"{step}.").items():
                    if tensor.ndim > 1:
                        filled = torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
                    else:
                        filled = torch.full(tensor.shape, float(key.endswith(("weight", "var"))))
                    tensors[key] = filled
            save_file(tensors, path)
        return path

    return make


def line_of(change, pictures, output, weights_of, *options):
    """The command line of a narrowed recipe."""
    name, *changes = change
    changes = [*changes, *TINY, *NARROWED[name]]
    perceptual = load_recipe(name, changes).loss.perceptual
    if perceptual.weight:
        options = (*options, "--perceptual-weights", str(weights_of(perceptual)))
    line = ["--recipe", name, "--data", str(pictures), "--output", str(output), "--steps", str(STEPS)]
    line += ["--threads", "1", "--cache", str(output.parent / "cache"), *options]
    return line + [part for change in changes for part in ("--set", change)]


def require_a_model_with_a_card(change, output):
    """What every run leaves: a model that restores, a card, a checkpoint, and a log of all its losses."""
    model = output / "model"
    generator = DeblurGenerator.from_pretrained(model, device="cpu")
    restored = generator.deblur(Image.fromarray(photograph(1)))
    assert (restored.size, restored.mode) == ((72, 64), "RGB")
    card = (model / "README.md").read_text()
    assert f"`{change[0]}`" in card and "restored PSNR" in card

    recipe = json.loads((output / "recipe.json").read_text())
    assert bool(recipe["loss"]["perceptual"]["sha256"]) == bool(recipe["loss"]["perceptual"]["weight"])
    state = load_checkpoint(output / "checkpoints" / "last.pt")
    assert state["progress"]["step"] == STEPS
    if recipe["loss"]["adversarial"]["pool"]:
        remembered = state["adversarial"]
        assert {scale: scores.shape[0] for scale, scores in remembered.items()} == {"0": 2, "1": 2}
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    logged = {key for line in lines for key in line}
    loss = recipe["loss"]
    wanted = {"loss/generator", "validation/psnr", "validation/l1"}
    wanted |= {"loss/pixel"} if loss["pixel"] != "none" else set()
    wanted |= {"loss/perceptual"} if loss["perceptual"]["weight"] else set()
    wanted |= {"loss/adversarial", "loss/critic"} if loss["adversarial"]["weight"] else set()
    assert wanted <= logged


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [pytest.param(one, marks=pytest.mark.full if one in HEAVY else ()) for one in EVERY], ids=" ".join
)
def test_every_recipe_takes_two_steps_and_leaves_a_model_with_a_card(change, pictures, tmp_path, perceptual_weights):
    assert main(line_of(change, pictures, tmp_path / "run", perceptual_weights)) == 0
    require_a_model_with_a_card(change, tmp_path / "run")


@pytest.mark.slow
def test_compact_gan_starts_from_compact(released_model, pictures, tmp_path, perceptual_weights):
    """The released model, by its name, in the recipe's full size."""
    name = "compact-gan"
    weights = perceptual_weights(load_recipe(name).loss.perceptual)
    still = ("optimizer.lr=0.0", "schedule.ema=0.0", "loss.adversarial.options.width=8")
    line = ["--recipe", name, "--data", str(pictures), "--output", str(tmp_path / "run"), "--steps", "1"]
    line += ["--cache", str(tmp_path / "cache"), "--threads", "1", "--init-from", "compact"]
    line += ["--perceptual-weights", str(weights)]
    assert main([*line, *(part for change in (*TINY, "data.pool=8", *still) for part in ("--set", change))]) == 0
    trained = DeblurGenerator.from_pretrained(tmp_path / "run" / "model", device="cpu").network.state_dict()
    released = released_model("compact").network.state_dict()
    assert all(torch.equal(trained[key], tensor) for key, tensor in released.items())
