"""The perceptual loss against its definition and against torchvision's own networks, and its weights' many faults."""

import hashlib
import urllib.error

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision import models

from train.losses.backbones import BACKBONES, downloaded
from train.losses.perceptual import PerceptualLoss, photograph_like_noise, unit_distance
from train.recipe import Perceptual, RecipeError, load_recipe, recipe_from_table
from train.trainer import Trainer

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
CONVOLUTIONS = {  # of VGG19: index in torchvision's layout, channels
    "conv1_1": (0, 3, 64),
    "conv1_2": (2, 64, 64),
    "conv2_1": (5, 64, 128),
    "conv2_2": (7, 128, 128),
    "conv3_1": (10, 128, 256),
    "conv3_2": (12, 256, 256),
    "conv3_3": (14, 256, 256),
    "conv3_4": (16, 256, 256),
}


def pictures(seed=0, shape=(2, 3, 32, 32)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class ByHand:
    """The features of the file's first layers, as the paper writes them."""

    def __init__(self, path):
        self.weights = load_file(path)

    def conv(self, values, index):
        weight, bias = (self.weights[f"features.{index}.{key}"] for key in ("weight", "bias"))
        return F.conv2d(values, weight, bias, padding=1)

    def conv1_2(self, picture):
        return self.conv(F.relu(self.conv(picture, 0)), 2)

    def relu1_2(self, picture):
        return F.relu(self.conv1_2(picture))

    def relu2_1(self, picture):
        return F.relu(self.conv(F.max_pool2d(self.relu1_2(picture), 2), 5))


def normalised(picture):
    return ((picture + 1) / 2 - MEAN) / STD


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files with all that torchvision's networks hold, freshly started, and the networks: name -> (path, network)."""
    made = {}
    for name in ("vgg16", "mobilenetv2", "resnet50"):
        torch.manual_seed(1)
        with torch.device("meta") if name == "vgg16" else torch.device("cpu"):
            network = getattr(models, BACKBONES[name].constructor)(weights=None)
        if name == "vgg16":  # without its 120 million weights of a classifier
            network.features.to_empty(device="cpu")
            for module in network.features:
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
                    nn.init.normal_(module.bias, std=0.1)
            tensors = network.features.state_dict(prefix="features.")
        else:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.5, 2)
            tensors = network.state_dict()
        path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_file(tensors, path)
        made[name] = (path, network.eval())
    return made


@torch.no_grad()
def seen_by_torchvision(name, network, step, picture):
    """What torchvision's own forward computes at one of its modules."""
    seen = []
    handle = network.get_submodule(step).register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    if name == "vgg16":
        network.features(picture)
    else:
        network(picture)
    handle.remove()
    return seen[-1]  # of a ReLU that is called again and again, the last


@torch.no_grad()
def distance(one, other, kind=F.mse_loss):
    return kind(one, other).item()


def test_it_is_the_distance_of_the_features_of_one_layer(vgg19):
    by_hand, restored, sharp = ByHand(vgg19), pictures(6), pictures(7)
    plain = PerceptualLoss(Perceptual(layer="conv1_2", imagenet_normalised=False), vgg19)
    wanted = distance(by_hand.conv1_2(restored), by_hand.conv1_2(sharp))
    assert plain(restored, sharp).item() == pytest.approx(wanted, rel=1e-4)
    shifted = PerceptualLoss(Perceptual(layer="relu2_1"), vgg19)
    wanted = distance(by_hand.relu2_1(normalised(restored)), by_hand.relu2_1(normalised(sharp)))
    assert shifted(restored, sharp).item() == pytest.approx(wanted, rel=1e-4)
    absolute = PerceptualLoss(Perceptual(layer="relu2_1", distance="l1"), vgg19)
    wanted = distance(by_hand.relu2_1(normalised(restored)), by_hand.relu2_1(normalised(sharp)), F.l1_loss)
    assert absolute(restored, sharp).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [False, True])
def test_of_several_layers_it_is_the_weighted_sum_or_mean_whatever_their_order(vgg19, mean):
    by_hand, restored, sharp = ByHand(vgg19), pictures(6), pictures(7)
    # A convolution and its own ReLU: the one must not overwrite the other.
    layers, weights = ("relu2_1", "conv1_2", "relu1_2"), (0.5, 2.0, 1.5)
    one, other = normalised(restored), normalised(sharp)
    wanted = sum(
        weight * distance(getattr(by_hand, layer)(one), getattr(by_hand, layer)(other))
        for layer, weight in zip(layers, weights, strict=True)
    )
    options = Perceptual(layer="conv9_9", layers=layers, layer_weights=weights, mean_over_layers=mean)
    loss = PerceptualLoss(options, vgg19)(restored, sharp).item()
    assert loss == pytest.approx(wanted / (sum(weights) if mean else 1), rel=1e-4)
    flat = PerceptualLoss(Perceptual(layers=layers, mean_over_layers=True), vgg19)(restored, sharp).item()
    each = [PerceptualLoss(Perceptual(layer=layer), vgg19)(restored, sharp).item() for layer in layers]
    assert flat == pytest.approx(sum(each) / 3, rel=1e-4)


def test_it_is_zero_for_equal_pictures_and_trains_the_restored_one_alone(vgg19):
    loss = PerceptualLoss(Perceptual(layers=("relu1_2", "relu2_1")), vgg19)
    restored, sharp = pictures(6).requires_grad_(), pictures(7).requires_grad_()
    assert loss(sharp, sharp.clone()).item() == 0
    loss(restored, sharp).backward()
    assert restored.grad.abs().sum() > 0
    assert sharp.grad is None
    assert all(weight.grad is None for weight in loss.parameters())


LAYERS = [
    ("vgg16", "conv3_3", "features.14"),
    ("vgg16", "block3_conv3", "features.15"),
    ("vgg16", "block2_pool", "features.9"),
    ("vgg16", "relu4_1", "features.18"),
    ("mobilenetv2", "conv1", "features.0"),
    ("mobilenetv2", "block_2_add", "features.3"),
    ("mobilenetv2", "block_13_project_BN", "features.14"),
    ("mobilenetv2", "out_relu", "features.18"),
    ("resnet50", "conv1_relu", "bn1"),
    ("resnet50", "layer1_3", "layer1.2"),
    ("resnet50", "conv3_block4_out", "layer2.3"),
]


@pytest.mark.parametrize(("name", "layer", "step"), LAYERS)
def test_a_layer_of_every_network_is_torchvisions_own(files, name, layer, step):
    path, network = files[name]
    loss = PerceptualLoss(Perceptual(network=name, layer=layer), path).train()  # stays in evaluation mode
    picture = pictures(3, (1, 3, 64, 64))
    (found,) = loss.describe(picture).values()
    wanted = seen_by_torchvision(name, network, step, normalised(picture))
    # In place, VGG's next ReLU has gone over what the hook saw of a convolution; ResNet's ReLU has one module for all.
    wanted = F.relu(wanted) if step == "bn1" else wanted
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-3, rtol=1e-4)


def test_the_names_from_keras_say_where_something_is_added():
    """Keras names a block of MobileNetV2 after its last step, which is an addition where the sizes allow one."""
    with torch.device("meta"):
        features = models.mobilenet_v2(weights=None).features
    keras = BACKBONES["mobilenetv2"].keras
    for block in range(2, 18):
        adds = features[block].use_res_connect
        assert (f"block_{block - 1}_add" in keras) is adds
        assert keras[f"block_{block - 1}_{'add' if adds else 'project_BN'}"] == f"block{block}"


@pytest.mark.parametrize("name", BACKBONES)
def test_every_layer_of_the_table_is_a_step_and_vgg_ends_each_convolution_in_a_relu(name):
    backbone = BACKBONES[name]
    with torch.device("meta"):
        network = getattr(models, backbone.constructor)(weights=None)
    assert set(backbone.layers.values()) <= set(backbone.steps)
    assert set(backbone.keras.values()) <= backbone.layers.keys()
    for layer, step in backbone.layers.items():
        module = network.get_submodule(step)
        kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
        if name.startswith("vgg"):
            assert isinstance(module, kinds[layer[:4]]), layer
    if name.startswith("vgg"):
        assert backbone.steps == tuple(f"features.{index}" for index in range(len(network.features)))


def test_under_autocast_the_features_are_in_half_precision_and_the_distance_is_not(vgg19):
    loss, restored, sharp = PerceptualLoss(Perceptual(layer="relu2_1"), vgg19), pictures(6), pictures(7)
    seen = []
    loss.features.register_forward_hook(lambda _m, _i, output: seen.extend(t.dtype for t in output.values()))
    exact = loss(restored, sharp)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = loss(restored, sharp)
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_a_run_computes_the_features_in_its_own_precision(vgg19, precision, kind):
    options = {"weight": 1.0, "layer": "relu1_2"}
    table = {"generator": "any", "data": {"crop": 32}, "loss": {"pixel": "none", "perceptual": options}}
    recipe, seen = recipe_from_table(table, "any"), []
    loss = PerceptualLoss(recipe.loss.perceptual, vgg19)
    loss.features.register_forward_hook(lambda _m, _i, output: seen.extend(t.dtype for t in output.values()))
    trainer = Trainer(recipe, nn.Conv2d(3, 3, 1), loss, Accelerator(mixed_precision=precision, cpu=True))
    trainer.step([(pictures(1), pictures(2))], step=0, progress=0.0)
    assert seen == [kind, kind]


@pytest.mark.slow
def test_calibrated_losses_are_the_same_whatever_the_scale_of_the_filters(vgg19, tmp_path):
    tensors = load_file(vgg19)
    scaled = dict(tensors)
    for key in ("features.5.weight", "features.5.bias"):
        scaled[key] = tensors[key] * 30
    save_file(scaled, tmp_path / "scaled.safetensors")
    restored, sharp = pictures(6), pictures(7)
    for kind, factor in (("mse", 900), ("l1", 30)):
        options = {"layers": ("relu1_2", "relu2_1"), "distance": kind, "layer_weights": (0.0, 1.0)}
        plain, calibrated = (
            [
                PerceptualLoss(Perceptual(**options, calibrated=calibrated), path)(restored, sharp).item()
                for path in (vgg19, tmp_path / "scaled.safetensors")
            ]
            for calibrated in (False, True)
        )
        assert plain[1] == pytest.approx(factor * plain[0], rel=1e-4)
        assert calibrated[1] == pytest.approx(calibrated[0], rel=1e-4)
        by_hand = ByHand(vgg19).relu2_1(normalised(photograph_like_noise()))
        size = by_hand.square().mean() if kind == "mse" else by_hand.abs().mean()
        assert calibrated[0] == pytest.approx(plain[0] / size.item(), rel=1e-4)


def test_it_draws_no_random_number_that_others_would_miss(vgg19):
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    PerceptualLoss(Perceptual(layer="relu2_1", calibrated=True), vgg19)
    assert torch.equal(torch.rand(3), wanted)


def test_the_hash_of_the_file_is_known_and_compared(vgg19):
    digest = hashlib.sha256(vgg19.read_bytes()).hexdigest()
    assert PerceptualLoss(Perceptual(layer="relu1_1"), vgg19).sha256 == digest
    assert PerceptualLoss(Perceptual(layer="relu1_1", sha256=digest.upper()), vgg19).sha256 == digest
    with pytest.raises(RecipeError, match=f"has the SHA-256 {digest}, and the recipe's .* wants 00ff; name that file"):
        PerceptualLoss(Perceptual(layer="relu1_1", sha256="00ff"), vgg19)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"layer": "conv3_33"},
            r"loss\.perceptual\.layer 'conv3_33' is not known \(did you mean 'conv3_3'\?\); VGG",
        ),
        ({"layers": ("relu1_1", "block9")}, r"loss\.perceptual\.layers 'block9' is not known.*VGG19 has conv1_1, "),
        ({"network": "resnet50", "layer": "layer1_9"}, r"'layer1_9' is not known \(did you mean 'layer1_\d'"),
        ({"network": "vgg16", "layer": "conv3_4"}, r"'conv3_4' is not known.*; VGG16 has "),
        ({"layers": ("relu1_1",), "layer_weights": (1.0, 2.0)}, "layer_weights are 2 numbers for 1 layers"),
        ({"layers": ("relu1_1",), "layer_weights": (0.0,)}, "layer_weights are all 0"),
    ],
)
def test_a_mistake_in_the_layers_is_a_sentence(vgg19, options, sentence):
    with pytest.raises(RecipeError, match=sentence):
        PerceptualLoss(Perceptual(**options), vgg19)


@pytest.mark.parametrize("reaches", [1, 2, 3, 4, 5, 6, 7])
def test_the_suggested_layer_is_one_that_the_file_holds(tmp_path, reaches):
    tensors = {}
    for index, narrow, wide in list(CONVOLUTIONS.values())[:reaches]:
        tensors[f"features.{index}.weight"] = torch.zeros(wide, narrow, 3, 3)
        tensors[f"features.{index}.bias"] = torch.zeros(wide)
    path = tmp_path / "part.safetensors"
    save_file(tensors, path)
    last = list(CONVOLUTIONS)[reaches - 1].replace("conv", "relu")
    with pytest.raises(RecipeError, match=f"ends before conv3_4; .* --set loss.perceptual.layer={last}, or the whole"):
        PerceptualLoss(Perceptual(layer="conv3_4"), path)
    PerceptualLoss(Perceptual(layer=last), path)
    with pytest.raises(RecipeError) as raised:
        PerceptualLoss(Perceptual(layers=("relu1_1", "conv3_4")), path)
    change = str(raised.value).partition('--set "')[2].partition('"')[0]
    PerceptualLoss(load_recipe("compact", [change]).loss.perceptual, path)


@pytest.mark.slow
def test_weights_of_another_network_are_refused(files):
    with pytest.raises(RecipeError, match=r"its 'features\.0\.0\.weight' is not MobileNetV2's conv1; --perceptual-w"):
        PerceptualLoss(Perceptual(network="mobilenetv2", layer="block3"), files["vgg16"][0])
    with pytest.raises(RecipeError, match=r"its 'conv1\.weight' is not ResNet50's conv1"):
        PerceptualLoss(Perceptual(network="resnet50", layer="layer1_1"), files["mobilenetv2"][0])


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache of torch's without weights, and no network."""

    def refuse(*_arguments, **_options):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("name", BACKBONES)
def test_without_network_and_file_the_sentence_says_where_the_weights_are(empty_cache, name):
    with pytest.raises(RecipeError) as raised:
        PerceptualLoss(Perceptual(network=name, layer=next(iter(BACKBONES[name].layers))), None)
    words = str(raised.value)
    assert words.startswith(f"the {BACKBONES[name].title} weights of the perceptual loss cannot be downloaded (")
    assert "fetch https://download.pytorch.org/models/" in words and f"put it into {empty_cache}, or name" in words
    assert words.endswith("--perceptual-weights")


def test_a_file_in_the_cache_is_taken_if_its_hash_is_that_of_its_name(empty_cache, monkeypatch, vgg19):
    empty_cache.mkdir(parents=True)
    aside = empty_cache / "made.pth"
    torch.save(load_file(vgg19), aside)
    digest = hashlib.sha256(aside.read_bytes()).hexdigest()

    class Weights:
        class IMAGENET1K_V1:
            url = f"https://example.org/vgg19-{digest[:8]}.pth"

    monkeypatch.setattr(models, "get_model_weights", lambda _name: Weights)
    kept = aside.rename(empty_cache / f"vgg19-{digest[:8]}.pth")
    assert downloaded(BACKBONES["vgg19"]) == kept
    loss = PerceptualLoss(Perceptual(layer="relu2_1"), None)
    assert loss.sha256 == digest
    from_file = PerceptualLoss(Perceptual(layer="relu2_1"), vgg19)
    assert torch.equal(loss(pictures(1), pictures(2)), from_file(pictures(1), pictures(2)))
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(RecipeError, match="is not the file of its name, or broken; remove it"):
        PerceptualLoss(Perceptual(layer="relu2_1"), None)


def test_the_unit_distance_looks_at_what_features_are_there_and_not_at_how_strong(vgg19):
    options = Perceptual(weight=1.0, layer="relu1_2", distance="unit", calibrated=True)
    loss = PerceptualLoss(options, vgg19)
    features = torch.rand(2, 5, 4, 4, generator=torch.Generator().manual_seed(1)) + 0.1
    assert unit_distance(3 * features, features) == pytest.approx(0, abs=1e-6)
    across = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    across[0][0, 0], across[1][0, 1] = 5, 0.1
    assert unit_distance(*across) == pytest.approx(2, rel=1e-4)  # at right angles
    one, other = pictures(1), pictures(2)
    by_hand = [F.normalize(loss.describe(picture)["relu1_2"], dim=1) for picture in (one, other)]
    by_hand = float((by_hand[0] - by_hand[1]).square().sum(dim=1).mean())
    assert loss(one, other).item() == pytest.approx(by_hand, rel=1e-3)
    black = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)
    loss(black, other[:1]).backward()
    assert torch.isfinite(black.grad).all()
