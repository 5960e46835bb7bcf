"""Weights of DeblurGAN's Keras port: `data/keras` holds what Keras itself saved and computed, small.

`fixtures/make_keras_deblurgan.py` made them.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deblur_hub import DeblurGenerator
from deblur_hub.cli import main
from deblur_hub.conversion import convert, keras, read
from deblur_hub.errors import ModelError
from deblur_hub.networks import PRESETS, build_network

SAVED = Path(__file__).parents[1] / "data" / "keras"
WEIGHTS, MODEL, GAN = (SAVED / f"{name}.h5" for name in ("generator", "whole-model", "gan"))
KERAS = {"norm": "batch", "downsampling": "same", "upsampling": "nearest", "residual": "half"}


def picture(name: str) -> torch.Tensor:
    with np.load(SAVED / "picture.npz") as arrays:
        return torch.from_numpy(arrays[name])


def stored(path: Path) -> dict[str, np.ndarray]:
    """Every array of a file but the optimizer's, by its path."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {name: array for name, array in found.items() if not name.startswith("optimizer_weights")}


def write(path: Path, layers: dict[str, dict[str, np.ndarray]]) -> Path:
    """A file of weights in Keras's layout, as Keras of 2017 wrote it: names as bytes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for name, weights in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{kind}:0".encode() for kind in weights])
            for kind, array in weights.items():
                group[f"{name}/{kind}:0"] = array
    return path


def convolution(side: int, given: int, made: int) -> dict[str, np.ndarray]:
    return {"kernel": np.zeros((side, side, given, made), "float32"), "bias": np.zeros(made, "float32")}


def port(*, width: int, blocks: int) -> dict[str, dict[str, np.ndarray]]:
    """The port's generator, all zeros."""
    sizes = [(7, 3, width), (3, width, 2 * width), (3, 2 * width, 4 * width)]
    sizes += [(3, 4 * width, 4 * width)] * (2 * blocks)
    sizes += [(3, 4 * width, 2 * width), (3, 2 * width, width), (7, width, 3)]
    layers = {}
    for number, (side, given, made) in enumerate(sizes, 25):
        layers[f"conv2d_{number}"] = convolution(side, given, made)
        kinds = ("gamma", "beta", "moving_mean", "moving_variance")
        layers[f"batch_normalization_{number}"] = {kind: np.zeros(made, "float32") for kind in kinds}
    layers.popitem()  # nothing behind the last convolution
    return layers


@pytest.mark.parametrize(
    ("path", "blocks", "output"),
    [(WEIGHTS, 2, "generator"), (MODEL, 1, "whole-model"), (GAN, 1, "whole-model")],
    ids=lambda value: getattr(value, "stem", None),
)
def test_a_converted_file_restores_as_keras_does(tmp_path, path, blocks, output):
    converted = convert(path, tmp_path / "model")
    assert (converted.architecture, converted.options) == ("resnet", KERAS | {"blocks": blocks, "width": 2})
    network = DeblurGenerator.from_pretrained(tmp_path / "model", device="cpu").network
    blurred, expected = picture("input"), picture(output)
    assert (expected - blurred / 2).abs().mean() > 0.1
    with torch.no_grad():
        assert torch.allclose(network(blurred), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", [WEIGHTS, MODEL], ids=lambda path: path.stem)
def test_every_tensor_is_used_and_the_optimizer_is_told_of(path):
    converted = read(path)
    used = {name: tensor for name, tensor in converted.tensors.items() if not name.endswith("num_batches_tracked")}
    assert sum(tensor.numel() for tensor in used.values()) == sum(array.size for array in stored(path).values())
    assert len(used) == len(stored(path))
    assert list(converted.dropped) == (["optimizer_weights"] if path == MODEL else [])


def test_of_a_whole_gan_the_generator_is_taken_and_the_rest_told_of():
    converted = read(GAN)
    assert converted.tensors.keys() == read(MODEL).tensors.keys()
    assert all(torch.equal(tensor, converted.tensors[name]) for name, tensor in read(MODEL).tensors.items())
    assert converted.dropped.keys() == {name for name in stored(GAN) if name.startswith("Discriminator/")}


def test_the_published_size_is_the_preset():
    converted = keras.recognise(
        {
            f"{layer}/{kind}:0": torch.from_numpy(array)
            for layer, weights in port(width=64, blocks=9).items()
            for kind, array in weights.items()
        }
    )
    assert (
        converted is not None and converted.options == PRESETS["deblurgan-keras"][1] | {"downsampling": "same"} == KERAS
    )
    with torch.device("meta"):
        wanted = build_network("deblurgan-keras").state_dict()
    assert {name: tensor.shape for name, tensor in converted.tensors.items()} == {
        name: tensor.shape for name, tensor in wanted.items()
    }


def test_names_as_bytes_and_lists_in_parts_are_read_as_well(tmp_path):
    path = write(tmp_path / "generator.h5", port(width=2, blocks=3))
    assert read(path).options["blocks"] == 3
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:9], names[9:]
        del file.attrs["layer_names"]
    assert read(path).options["blocks"] == 3


def test_numbers_in_the_names_of_layers_say_nothing(tmp_path):
    """Keras counts them through all that a process has made; its groups are sorted by name, 10 before 9."""
    layers = port(width=2, blocks=1)
    renamed = {f"layer_{100 - number}": weights for number, weights in enumerate(layers.values())}
    assert read(write(tmp_path / "generator.h5", renamed)).options == KERAS | {"blocks": 1, "width": 2}


def without(layers: dict, number: int) -> dict:
    return {name: weights for place, (name, weights) in enumerate(layers.items()) if place != number}


SMALL = port(width=2, blocks=1)
DENSE = {"kernel": np.zeros((8, 1), "float32"), "bias": np.zeros(1, "float32")}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            {"conv2d_26": convolution(4, 3, 8), "conv2d_27": convolution(4, 8, 1), "dense_1": DENSE},
            "is a Keras file of 3 layers, the first of which, 'conv2d_26/conv2d_26', has kernel [4, 4, 3, 8], bias [8] "
            "where the generator of DeblurGAN's Keras port has kernel [7, 7, 3, 64], so it may be the discriminator or",
        ),
        ({"block1_conv1": convolution(3, 3, 64)}, "so it may be the discriminator or VGG; give the port's generator"),
        (without(SMALL, 6), "but has 14 layers with weights, where that has 11 and 4 for each residual block"),
        (port(width=2, blocks=0), "but has 11 layers with weights, where that has 11 and 4 for each residual block"),
        (SMALL | {"conv2d_26": convolution(4, 2, 4)}, "'conv2d_26/conv2d_26' has kernel [4, 4, 2, 4], bias [4] where"),
        (SMALL | {"conv2d_26": {"kernel": np.zeros((3, 3, 2, 4))}}, "where that has kernel [3, 3, 2, 4], bias [4]"),
        (SMALL | {"conv2d_25": {"kernel": np.zeros((7, 7, 3, 2), int)}}, "holds int64 where weights are floats"),
        ({"input_1": {}}, "holds no tensors by name"),
    ],
    ids=["discriminator", "VGG", "a layer less", "no blocks", "a wider kernel", "no bias", "whole numbers", "nothing"],
)
def test_another_network_is_refused_in_one_sentence(tmp_path, layers, message):
    path = write(tmp_path / "net.h5", layers)
    with pytest.raises(ModelError) as error:
        convert(path, tmp_path / "model")
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.7, 0.999])
def test_a_truncated_file_is_one_sentence(tmp_path, share):
    path = tmp_path / "generator.h5"
    path.write_bytes(WEIGHTS.read_bytes()[: int(WEIGHTS.stat().st_size * share)])
    with pytest.raises(ModelError, match=r"^[^\n]*generator\.h5: cannot be read \([^\n]*\); download it again$"):
        convert(path, tmp_path / "model")


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("layers/conv2d/vars", "is in the layout of Keras 3 (.weights.h5), which does not keep the order of layers"),
        ("x", "is an HDF5 file without a list of layers, so none of Keras 2; give the port's generator*.h5"),
        ("optimizer_weights/Adam", "without a list of layers"),
    ],
)
def test_hdf5_that_is_not_of_keras_2_is_one_sentence(tmp_path, group, message):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file[f"{group}/0"] = np.zeros(3)
    with pytest.raises(ModelError) as error:
        convert(tmp_path / "net.h5", tmp_path / "model")
    assert message in str(error.value) and "\n" not in str(error.value)


def linked_elsewhere(file: h5py.File, path: str, secret: Path) -> None:
    file[path] = h5py.ExternalLink(str(secret), "x")


def stored_elsewhere(file: h5py.File, path: str, secret: Path) -> None:
    file.create_dataset(path, (2,), "float32", external=[(str(secret), 0, 8)])


def without_content(file: h5py.File, path: str, _secret: Path) -> None:
    file.create_dataset(path, (2**40,), "float32")


def compressed(file: h5py.File, path: str, _secret: Path) -> None:
    file.create_dataset(path, (2**20,), "float32", data=np.zeros(2**20, "float32"), compression="gzip")


@pytest.mark.parametrize("place", [linked_elsewhere, stored_elsewhere, without_content, compressed])
def test_nothing_but_the_file_is_read_and_no_more_than_its_size(tmp_path, place):
    path = write(tmp_path / "generator.h5", SMALL)
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["x"] = np.ones(2, "float32")
    with h5py.File(path, "r+") as file:
        del file["conv2d_25/conv2d_25/bias:0"]
        place(file, "conv2d_25/conv2d_25/bias:0", tmp_path / "secret.h5")
    with pytest.raises(ModelError, match=r"but does not hold it|does not lie whole and uncompressed in the file"):
        convert(path, tmp_path / "model")


@pytest.mark.parametrize("name", ["model_weights", "model_weights/conv2d_25"])
def test_a_group_in_another_file_is_not_read(tmp_path, name):
    write(tmp_path / "other.h5", SMALL)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        if name == "model_weights":
            file[name] = h5py.ExternalLink("other.h5", "/")
        else:
            file.create_group("model_weights").attrs["layer_names"] = ["conv2d_25"]
            file[name] = h5py.ExternalLink("other.h5", "/conv2d_25")
    with pytest.raises(ModelError, match=r"lies in another file|lists the layer 'conv2d_25', but does not hold it"):
        convert(tmp_path / "net.h5", tmp_path / "model")


def test_what_a_file_holds_beside_its_list_is_refused(tmp_path):
    path = write(tmp_path / "generator.h5", SMALL)
    with h5py.File(path, "r+") as file:
        file["conv2d_25/conv2d_25/extra:0"] = np.zeros(2)
    with pytest.raises(ModelError, match=r"holds 'conv2d_25/conv2d_25/extra:0', but does not list it"):
        convert(path, tmp_path / "model")


def test_without_h5py_the_way_to_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["convert", str(WEIGHTS), "-o", str(tmp_path / "model")]) == 2
    assert capsys.readouterr().err.rstrip().endswith("which takes h5py to read; run pip install 'deblur-hub[convert]'")
