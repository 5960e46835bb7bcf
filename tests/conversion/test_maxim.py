"""MAXIM's weights from a TensorFlow.js graph and from the authors' .npz: every tensor in its place, others refused."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_hub import DeblurGenerator
from deblur_hub.cli import main
from deblur_hub.conversion import convert, read
from deblur_hub.conversion.maxim import layers
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network
from tests.conftest import awake

ROOT = "StatefulPartitionedCall/jax2tf_apply_/Wrapper/backbone"


def flax(network, stages: int, coarse: bool) -> dict[str, np.ndarray]:
    """The network's tensors as Flax has them, by the authors' names."""
    held, found = network.state_dict(), {}
    for module, scope, kind in layers(stages, coarse_outputs=coarse):
        weight, bias = held[f"{module}.weight"].numpy(), held[f"{module}.bias"].numpy()
        if kind == "conv":
            weight = weight.transpose(2, 3, 1, 0)
        elif kind == "up":
            weight = weight.transpose(2, 3, 0, 1)[::-1, ::-1]
        elif kind == "dense":
            weight = weight.T
        found[f"{scope}/{'scale' if kind == 'norm' else 'kernel'}"] = np.ascontiguousarray(weight)
        found[f"{scope}/bias"] = bias
    return found


def graph(tensors: dict[str, np.ndarray], kinds: dict[str, str], folder: Path, *, shards: int = 3) -> Path:
    """A graph model as TensorFlow.js keeps it: a node for each layer, and one constant for each tensor."""
    nodes, weights = [], []

    def node(name, op, inputs, **attr):
        nodes.append({"name": f"{ROOT}/{name}", "op": op, "input": inputs, "attr": attr})
        return f"{ROOT}/{name}"

    def constant(number, value):
        name = f"jax2tf_arg_{number}/ReadVariableOp"
        nodes.append({"name": name, "op": "Const", "attr": {}})
        weights.append((name, np.ascontiguousarray(value, np.float32)))
        return name

    for number, (scope, kind) in enumerate(kinds.items()):
        bias = constant(2 * number, tensors[f"{scope}/bias"].reshape(1, 1, 1, -1))
        value = tensors[f"{scope}/{'scale' if kind == 'norm' else 'kernel'}"]
        if kind == "norm":
            root = node(f"{scope}/Rsqrt", "Rsqrt", ["variance"])
            product = node(f"{scope}/jit_fn_/Mul", "Mul", [root, constant(2 * number + 1, value.reshape(1, 1, 1, -1))])
            scaled = node(f"{scope}/jit_fn_/Mul_1", "Mul", ["x", product])
            node(f"{scope}/jit_fn_/AddV2_1", "AddV2", [scaled, bias])
            continue
        if kind == "dense":
            equation = {"s": base64.b64encode(b"abcg,gf->abcf").decode()}
            made = node(f"{scope}/einsum/Einsum", "Einsum", ["x", constant(2 * number + 1, value)], equation=equation)
        elif kind == "conv":
            made = node(f"{scope}/Conv2D", "Conv2D", ["x", constant(2 * number + 1, value)])
        else:
            turned = value[::-1, ::-1].transpose(0, 1, 3, 2)
            made = node(
                f"{scope}/conv2d_transpose", "Conv2DBackpropInput", ["n", constant(2 * number + 1, turned), "x"]
            )
        node(f"{scope}/jit_fn_/AddV2", "AddV2", [made, bias])
    resize = {"s": base64.b64encode(b"gb,cgef->bcef").decode()}
    node("UpSampleRatio_0/jit__resize_/Einsum", "Einsum", ["x", "y"], equation=resize)

    folder.mkdir(parents=True)
    data = b"".join(value.tobytes() for _, value in weights)
    step = -(-len(data) // shards)
    names = [f"group1-shard{number + 1}of{shards}.bin" for number in range(shards)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(data[number * step : (number + 1) * step])
    listed = [{"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in weights]
    document = {
        "format": "graph-model",
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": names, "weights": listed}],
    }
    (folder / "model.json").write_text(json.dumps(document))
    return folder


def kinds_of(stages: int, coarse: bool) -> dict[str, str]:
    return {scope: kind for _, scope, kind in layers(stages, coarse_outputs=coarse)}


@pytest.fixture(scope="module")
def network():
    return awake(build_network("maxim", width=4, coarse_outputs=False))


@pytest.fixture
def folder(network, tmp_path) -> Path:
    return graph(flax(network, 3, False), kinds_of(3, False), tmp_path / "models")


@pytest.mark.slow
def test_a_graph_comes_back_as_the_network_it_was_made_of(network, folder, tmp_path):
    converted = convert(folder, tmp_path / "model")
    assert converted.options == {"width": 4, "coarse_outputs": False} and not converted.dropped
    assert "tried on a made-up picture" in converted.tried
    again = DeblurGenerator.from_pretrained(tmp_path / "model", device="cpu").network.state_dict()
    expected = network.state_dict()
    assert again.keys() == expected.keys() and all(torch.equal(again[key], expected[key]) for key in again)
    assert read(folder / "model.json").options == converted.options


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prefix", "stages", "coarse"),
    [("opt/target/", 1, True), ("params/", 2, True), ("", 3, True), ("opt/target/", 3, False)],
)
def test_a_checkpoint_comes_back_without_what_is_the_optimizer_s(tmp_path, prefix, stages, coarse):
    network = awake(build_network("maxim", width=4, stages=stages, coarse_outputs=coarse))
    held = {prefix + key: value for key, value in flax(network, stages, coarse).items()}
    if prefix:
        held |= {"opt/state/step": np.int32(3), "opt/state/param_states/x/grad_ema": np.zeros(3, np.float32)}
    np.savez(tmp_path / "checkpoint.npz", **held)
    converted = read(tmp_path / "checkpoint.npz")
    expected = network.state_dict()
    assert converted.tensors.keys() == expected.keys()
    assert all(torch.equal(converted.tensors[key], expected[key]) for key in expected)
    assert set(converted.dropped) == {key for key in held if key.startswith("opt/state")}


def edit(folder: Path, change) -> None:
    document = json.loads((folder / "model.json").read_text())
    change(document)
    (folder / "model.json").write_text(json.dumps(document))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "group1-shard2of3.bin").unlink(),
            "group1-shard2of3.bin: is missing, which model.json asks for",
        ),
        (lambda f: (f / "group1-shard3of3.bin").write_bytes(b""), "its shards end before '.*' does"),
        (
            lambda f: (f / "group1-shard3of3.bin").write_bytes((f / "group1-shard3of3.bin").read_bytes() + b"more"),
            "4 bytes more than it says",
        ),
        (lambda f: (f / "model.json").write_text("{"), "is no graph model of TensorFlow.js"),
        (lambda f: (f / "model.json").write_text("[]"), "is no graph model of TensorFlow.js"),
        (
            lambda f: edit(f, lambda d: d["weightsManifest"][0]["paths"].__setitem__(0, "../secret.bin")),
            "outside of its folder",
        ),
        (
            lambda f: edit(f, lambda d: d["weightsManifest"][0]["weights"][0].update(quantization={"dtype": "uint8"})),
            "is packed as uint8",
        ),
        (
            lambda f: edit(f, lambda d: d["weightsManifest"][0]["weights"][0].update(shape=[-1])),
            "its shards end before|is no graph model",
        ),
        (
            lambda f: edit(f, lambda d: d["modelTopology"].update(node=d["modelTopology"]["node"][:-60])),
            "belongs to no layer|another network",
        ),
        (
            lambda f: edit(f, lambda d: d["modelTopology"].update(node=[])),
            "belongs to no layer|without MAXIM's first layer",
        ),
    ],
)
def test_a_damaged_graph_is_one_sentence_and_leaves_nothing(folder, tmp_path, capsys, spoil, message):
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        convert(folder, tmp_path / "model")
    assert main(["convert", str(folder), "-o", str(tmp_path / "model")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.zeros(3)}, "holds no tensors of MAXIM"),
        ({"stage_0_input_conv_0/kernel": np.zeros((3, 3, 3, 4), np.float32)}, "but lacks 'UpSampleRatio_0/Conv_0"),
        ({"stage_0_input_conv_0/kernel": np.array([{}])}, "cannot be read"),
    ],
)
def test_another_npz_is_one_sentence(tmp_path, content, message):
    np.savez(tmp_path / "other.npz", **content)
    with pytest.raises(ModelError, match=message):
        read(tmp_path / "other.npz")


def test_a_cut_npz_is_one_sentence(network, tmp_path):
    np.savez(tmp_path / "whole.npz", **flax(network, 3, False))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:20000])
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path / "cut.npz")
    with pytest.raises(ModelError, match="no such file"):
        read(tmp_path / "none.npz")


@pytest.mark.slow
def test_a_tensor_too_many_is_named(network, tmp_path):
    np.savez(tmp_path / "more.npz", **flax(network, 3, False), **{"stage_9/kernel": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match="has besides 'stage_9/kernel'"):
        read(tmp_path / "more.npz")
