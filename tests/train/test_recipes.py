"""Recipes: what they hold, and what a mistake in one is answered with."""

import pytest
import torch

from deblur_hub.networks import build_network
from train.recipe import RecipeError, known_recipes, load_recipe
from train.trainer import make_discriminator


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_loads_and_its_generator_can_be_built(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert build_network(recipe.generator, **recipe.network).size_multiple
    assert recipe.schedule.steps or recipe.schedule.epochs


def test_deblurgan_holds_the_numbers_of_the_paper():
    recipe = load_recipe("deblurgan")
    assert (recipe.data.crop, recipe.data.batch_size) == (256, 1)
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.betas) == ("adam", 1e-4, (0.5, 0.999))
    assert (recipe.schedule.epochs, recipe.schedule.shape, recipe.schedule.flat) == (300, "flat-linear", 0.5)
    assert (recipe.loss.perceptual.weight, recipe.loss.perceptual.layer) == (100, "conv3_3")
    adversarial = recipe.loss.adversarial
    assert (adversarial.weight, adversarial.critic_steps, adversarial.gradient_penalty) == (1, 5, 10)
    assert recipe.loss.pixel == "none"


def test_set_changes_nested_values_of_every_type():
    recipe = load_recipe(
        "compact",
        [
            "optimizer.lr=2e-4",
            "network.widths=[8, 16]",
            "data.mix.sharp=1",
            "generator=deblurgan",
            "loss.perceptual.imagenet_normalised=false",
            "validation.scenes=['one', 'two']",
        ],
    )
    assert recipe.optimizer.lr == 2e-4
    assert recipe.network["widths"] == [8, 16]
    assert recipe.data.mix.sharp == 1.0
    assert recipe.generator == "deblurgan"
    assert recipe.loss.perceptual.imagenet_normalised is False
    assert recipe.validation.scenes == ("one", "two")
    assert recipe.optimizer.clip == load_recipe("compact").optimizer.clip  # the rest stays


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("optimiser.lr=1e-4", "unknown key 'optimiser.lr' (did you mean 'optimizer.lr'?)"),
        ("optimizer.ir=1e-4", "unknown key 'optimizer.ir' (did you mean 'optimizer.lr'?)"),
        ("data.frames.leest=3", "unknown key 'data.frames.leest' (did you mean 'data.frames.least'?)"),
        ("sede=1", "unknown key 'sede' (did you mean 'seed'?)"),
        (
            "loss.adversarial.penalty.weight=1",
            "unknown key 'loss.adversarial.penalty.weight' (did you mean 'loss.adversarial.weight'?)",
        ),
        ("whatever=1", "unknown key 'whatever'"),
        ("optimizer.lr=fast", "'optimizer.lr' must be a number, not 'fast'"),
        ("optimizer.lr=-1.0", "'optimizer.lr' must be zero or more, and finite, not -1.0"),
        ("optimizer.lr=nan", "'optimizer.lr' must be zero or more, and finite, not nan"),
        ("data.crop=2.5", "'data.crop' must be a whole number, not 2.5"),
        ("data.crop=true", "'data.crop' must be a whole number, not True"),
        ("data.frames=3", "'data.frames' must be a table, not 3"),
        ("data.frames.gammas=2.2", "'data.frames.gammas' must be a list, not 2.2"),
        ("data.frames.gammas=['a']", "'data.frames.gammas' must be a number, not 'a'"),
        ("network=3", "'network' must be a table, not 3"),
        ("precision=half", "'precision' must be one of auto, no, bf16, fp16, not 'half'"),
        ("optimizer.name=sgd", "'optimizer.name' must be one of adam, adamw, muon, not 'sgd'"),
        (
            "loss.adversarial.critic=patchgann",
            "'loss.adversarial.critic' must be one of patchgan, double-scale, keras, bce-patchgan, not 'patchgann' "
            "(did you mean 'patchgan'?)",
        ),
        (
            "loss.adversarial.loss=ragan",
            "'loss.adversarial.loss' must be one of wgan-gp, ragan-ls, bce, wasserstein, not 'ragan' (did you mean "
            "'ragan-ls'?)",
        ),
        ("loss.adversarial.los=bce", "unknown key 'loss.adversarial.los' (did you mean 'loss.adversarial.loss'?)"),
        ("loss.adversarial.options=3", "'loss.adversarial.options' must be a table, not 3"),
        ("data.blur_folder=3", "'data.blur_folder' must be a text, not 3"),
        ("loss.perceptual.imagenet_normalised=1", "'loss.perceptual.imagenet_normalised' must be true or false, not 1"),
        ("seed.value=1", "'seed.value' goes through 'seed', which is a value, not a table"),
        ("seed", "--set takes key=value, not 'seed'"),
    ],
)
def test_a_change_that_does_not_fit_is_one_sentence(start, tmp_path, change, sentence):
    assert start("compact", change) == (2, f"train: recipe 'compact': {sentence}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("data.batch_size=0", "data.batch_size must be at least 1"),
        ("data.crop=30", "data.crop 30 must be a multiple of 8 for this generator"),
        ("data.crop=0", "data.crop 0 must be a multiple of 8 for this generator"),
        ("data.resize=[640]", "data.resize must be [width, height], or [] for none"),
        ("data.resize=[640, 16]", "data.crop 32 is larger than data.resize [640, 16]; set a smaller crop"),
        ("data.candidates=0", "data.candidates must be at least 1"),
        ("data.frames.least=9", "data.frames needs an odd number from least 9 to most 5"),
        ("data.frames.gammas=[0.0]", "and gammas above 0, not [0.0]"),
        ("data.blur.shortest=50.0", "data.blur.shortest 50 exceeds data.blur.longest 6"),
        ("validation.every=0", "validation.every must be at least 1"),
        ("checkpoint_every=0", "checkpoint_every must be at least 1"),
        ("loss.adversarial.critic_steps=0", "loss.adversarial.critic_steps must be at least 1"),
        ("optimizer.betas=[0.9]", "optimizer.betas must be two numbers below 1, not [0.9]"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas must be two numbers below 1, not [0.9, 1.0]"),
        ("schedule.ema=1.0", "schedule.ema must be below 1, not 1"),
        ("precision=fp16", "precision 'fp16' needs a GPU; take 'auto', 'bf16' or 'no' on a CPU"),
        ("generator=nafnet2", "architecture 'nafnet2' is not known to this version"),
        ("network.width=8", "unknown option 'width' (did you mean 'widths'?)"),
        ("network.widths=[8]", "widths [8] and blocks [1, 1] differ in length"),
        ("loss.perceptual.weight=1.0", "loss.perceptual.layer 'conv9_9' is not known"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_one_sentence_before_the_first_step(start, tmp_path, change, part):
    code, words = start("compact", "loss.perceptual.layer=conv9_9", change)
    assert code == 2
    assert part in words
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (["options.layer=3"], "loss.adversarial: critic 'patchgan': unknown option 'layer' (did you mean 'layers'?)"),
        (["critic=keras", "layers=3"], "loss.adversarial: critic 'keras': unknown option 'layers'"),
        (["critic=keras", "options.side=64", "loss=wasserstein"], "critic 'keras': side 64 is not the crops' 32"),
        (["critic=keras"], "'wgan-gp' takes the gradient of each picture's score, which batch normalisation mixes"),
        (["options.norm=batch"], "take a critic with norm 'instance', or another loss"),
        (
            ["critic=bce-patchgan", "loss=bce", "size=8"],
            "data.crop 8 is too small for the critic 'bce-patchgan'; take larger crops or another critic",
        ),
    ],
)
def test_a_critic_that_does_not_fit_is_one_sentence_before_the_first_step(start, tmp_path, changes, part):
    full = [
        change.replace("size", "data.crop") if change.startswith("size") else f"loss.adversarial.{change}"
        for change in changes
    ]
    code, words = start("compact", "loss.adversarial.weight=0.1", *full)
    assert code == 2
    assert part in words
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "layers"), [([], 3), (["layers=5"], 5), (["options.layers=4"], 4), (["layers=2", "options.width=8"], 2)]
)
def test_a_patch_critics_layers_are_a_key_of_their_own_or_one_of_its_options(options, layers):
    recipe = load_recipe("compact", [f"loss.adversarial.{option}" for option in options])
    critic = make_discriminator(recipe.loss.adversarial, recipe.data.crop)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in critic.modules()) == layers + 2


def test_a_recipe_without_any_loss_is_refused(start):
    code, words = start("compact", "loss.pixel=none", "loss.frequency_weight=0")
    assert (code, "has no loss; set one of loss.pixel" in words) == (2, True)


def test_an_unknown_recipe_names_those_that_are_known(start, tmp_path):
    assert start("compct") == (
        2,
        f"train: recipe 'compct': not known (known: {', '.join(known_recipes())}) (did you mean 'compact'?)",
    )
    code, words = start(str(tmp_path / "mine.toml"))
    assert code == 2
    assert words.startswith(f"train: recipe '{tmp_path}/mine.toml': not known")


@pytest.mark.parametrize("content", [b"this is = not = TOML", b"\xff\xfe\x00binary"])
def test_a_file_that_is_not_toml_is_named(start, tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    code, words = start(str(tmp_path / "mine.toml"))
    assert code == 2
    assert words.startswith(f"train: recipe '{tmp_path}/mine.toml': cannot be read as TOML: ")
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_ones_own_is_a_file(start, tmp_path):
    (tmp_path / "mine.toml").write_text('generator = "compact"\n')
    assert start(str(tmp_path / "mine.toml"), steps=1)[0] == 0
    assert "recipe `mine`" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_recipe_that_lacks_its_generator_says_so(tmp_path):
    (tmp_path / "mine.toml").write_text("seed = 1\n")
    with pytest.raises(RecipeError, match="recipe 'mine': lacks the key 'generator'; add it"):
        load_recipe(str(tmp_path / "mine.toml"))
