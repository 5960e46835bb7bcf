"""MAXIM's weights as its authors name them (google-research/maxim, Flax): from their `.npz`, or a TensorFlow.js graph.

In the graph a constant's own name says nothing, but the node that reads it has the layer's scope in its name: each
Conv2D, Conv2DBackpropInput and Einsum has one constant input, its kernel, and is read by one AddV2 with another, its
bias; each Rsqrt is a layer norm's, read by a Mul with its scale, whose product leads to an AddV2 with its shift.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..hub import first_line
from ..networks.maxim import BOTTLENECKS, GROUPS, LEVELS
from .layout import Converted, require_keys, unlike
from .tensorflow_js import Graph

LAYOUT = "MAXIM (google-research, Flax)"
FIRST = "stage_0_input_conv_0/kernel"
ROOT = "/Wrapper/backbone/"  # before a layer's scope, in the names of a graph's nodes
DENSE = "abcg,gf->abcf"  # the Einsum that is a dense layer; others resize
TARGETS = ("opt/target/", "params/", "")  # before a layer's scope, in a checkpoint

# Layers as our module, the authors' scope, and the kind: "conv", "dense", "up" or "norm".
Layers = tuple[tuple[str, str, str], ...]
ATTENTION: Layers = (
    ("norm", "LayerNorm", "norm"),
    ("attention.squeeze", "channel_attention/Conv_0", "dense"),
    ("attention.excite", "channel_attention/Conv_1", "dense"),
)
CONVOLUTIONS: Layers = (("conv1", "conv1", "conv"), ("conv2", "conv2", "conv"))
MIXING: Layers = (("dense1", "channel_mixing/Dense_0", "dense"), ("dense2", "channel_mixing/Dense_1", "dense"))
# Of a block: the scopes of its first layer and of its attentions, and what these do before they weigh the channels.
BLOCK = ("Conv_0", "channel_attention_block_1", CONVOLUTIONS)
BOTTLENECK = ("input_proj", "channel_attention_block_1_", MIXING)


def from_graph(graph: Graph, source: Path) -> dict[str, Tensor]:
    """The tensors of a graph by Flax's names, in Flax's order of axes."""
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()

    def keep(node: str, ends: int, part: str, constant: str, value: np.ndarray) -> None:
        used.add(constant)
        scope = node.partition(ROOT)[2].rsplit("/", ends)[0]  # the layer that a node belongs to
        tensors[f"{scope}/{part}"] = torch.from_numpy(value.astype(np.float32))

    try:
        for name, node in graph.nodes.items():
            op = node["op"]
            if op == "Einsum" and not any(given in graph.constants for given in node["input"]):
                continue  # a resize
            if op in ("Conv2D", "Conv2DBackpropInput", "Einsum"):
                if op == "Einsum" and graph.equation(name) != DENSE:
                    raise LookupError("an Einsum of another kind")
                kernel, bias = graph.constant(name), graph.constant(graph.reader(name, "AddV2"))
                value = graph.constants[kernel]
                if op == "Conv2DBackpropInput":  # height, width, out, in; Flax correlates with the kernel turned
                    value = value.transpose(0, 1, 3, 2)[::-1, ::-1]
                ends = 2 if op == "Einsum" else 1
                keep(name, ends, "kernel", kernel, value)
                keep(name, ends, "bias", bias, graph.constants[bias].reshape(-1))
            elif op == "Rsqrt":
                product = graph.reader(name, "Mul")
                shifted = graph.reader(graph.reader(product, "Mul"), "AddV2")
                for part, node_of_part in (("scale", product), ("bias", shifted)):
                    constant = graph.constant(node_of_part)
                    keep(name, 1, part, constant, graph.constants[constant].reshape(-1))
    except (LookupError, ValueError, TypeError):
        reason = "is a graph of another network than MAXIM, which is the one that convert knows"
        raise ModelError(f"{source}: {reason}") from None
    left = [name for name, value in graph.constants.items() if value.dtype == np.float32 and value.size > 1]
    if FIRST not in tensors or (left := [name for name in left if name not in used]):
        what = f"of which '{left[0]:.60}' belongs to no layer" if left else "without MAXIM's first layer"
        raise ModelError(f"{source}: is a graph {what}; convert knows MAXIM's alone")
    return tensors


def from_npz(source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The network's tensors of a checkpoint by Flax's names, and what lies beside them and why it is passed over."""
    try:
        with np.load(source, allow_pickle=False) as archive:
            held = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise ModelError(f"{source}: no such file; check the path") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as reason:
        raise ModelError(f"{source}: cannot be read ({first_line(reason)}); download it again") from None
    prefix = next((prefix for prefix in TARGETS if prefix + FIRST in held), None)
    if prefix is None:
        raise ModelError(f"{source}: holds no tensors of MAXIM; convert knows no other checkpoints in .npz")
    tensors = {
        key.removeprefix(prefix): torch.from_numpy(value.astype(np.float32))
        for key, value in held.items()
        if key.startswith(prefix) and value.dtype.kind == "f"
    }
    passed_over = {key: "of the optimizer" for key in held if key.removeprefix(prefix) not in tensors}
    return tensors, passed_over


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """MAXIM of any width and one to three stages, by Flax's names."""
    if FIRST not in tensors:
        return None
    stages = 1 + max(number for number in range(3) if f"stage_{number}_input_conv_0/kernel" in tensors)
    coarse = f"stage_{stages - 1}_output_conv_1/kernel" in tensors
    known = list(layers(stages, coarse_outputs=coarse))
    scales = {scope: f"{scope}/{'scale' if kind == 'norm' else 'kernel'}" for _, scope, kind in known}
    require_keys(LAYOUT, [*scales.values(), *(f"{scope}/bias" for scope in scales)], tensors)
    found = {f"{module}.weight": ordered(tensors[scales[scope]], kind) for module, scope, kind in known}
    found |= {f"{module}.bias": tensors[f"{scope}/bias"] for module, scope, _ in known}
    options = unlike("maxim", width=tensors[FIRST].shape[-1], stages=stages, coarse_outputs=coarse)
    return Converted(LAYOUT, "maxim", options, found)


def ordered(kernel: Tensor, kind: str) -> Tensor:
    """A kernel in PyTorch's order of axes."""
    if kind == "norm":
        return kernel
    if kind == "dense":  # also held as a convolution of 1x1
        return kernel.reshape(kernel.shape[-2:]).T.contiguous()
    if kind == "up":
        return kernel.flip(0, 1).permute(2, 3, 0, 1).contiguous()
    return kernel.permute(3, 2, 0, 1).contiguous()


def layers(stages: int, *, coarse_outputs: bool) -> Iterator[tuple[str, str, str]]:
    """Our module, the authors' scope, and the kind of each layer."""
    for stage in range(stages):
        ours, theirs = f"unets.{stage}", f"stage_{stage}_"
        for level in range(LEVELS):
            yield f"{ours}.inputs.{level}", f"{theirs}input_conv_{level}", "conv"
            if stage:
                yield from crossing(f"{ours}.fuse_inputs.{level}", f"{theirs}input_fuse_sam_{level}")
                scope = f"{theirs}encoder_block_{level}/cross_gating_block"
                yield from crossing(f"{ours}.fuse_encoders.{level}", scope)
            yield from blocks(f"{ours}.encoders.{level}", f"{theirs}encoder_block_{level}", *BLOCK)
            yield f"{ours}.downs.{level}", f"{theirs}encoder_block_{level}/Conv_1", "conv"
            # UpSampleRatio is numbered over all stages in the order of creation, the coarsest level first.
            for other in range(LEVELS):
                first = 2 * LEVELS**2 * stage + LEVELS * (LEVELS - 1 - level)
                yield f"{ours}.to_gates.{level}.{other}.project", f"UpSampleRatio_{first + other}/Conv_0", "dense"
                number = first + LEVELS**2 + LEVELS - 1 - other
                yield f"{ours}.to_decoders.{level}.{other}.project", f"UpSampleRatio_{number}/Conv_0", "dense"
            yield f"{ours}.gates.{level}.enlarge", f"{theirs}cross_gating_block_{level}/ConvTranspose_0", "up"
            yield from crossing(f"{ours}.gates.{level}", f"{theirs}cross_gating_block_{level}")
            yield f"{ours}.ups.{level}", f"{theirs}decoder_block_{level}/ConvTranspose_0", "up"
            yield from blocks(f"{ours}.decoders.{level}", f"{theirs}decoder_block_{level}/UNetEncoderBlock_0", *BLOCK)
            if stage < stages - 1:
                for number, part in enumerate(("features", "picture", "attend")):
                    scope = f"{theirs}supervised_attention_module_{level}/Conv_{number}"
                    yield f"{ours}.attentions.{level}.{part}", scope, "conv"
            elif level == 0 or coarse_outputs:
                yield f"{ours}.outputs.{level}", f"{theirs}output_conv_{level}", "conv"
        for number in range(BOTTLENECKS):
            yield from blocks(f"{ours}.bottlenecks.{number}", f"{theirs}global_block_{number}", *BOTTLENECK)


def blocks(ours: str, theirs: str, entry: str, attention: str, mixing: Layers) -> Iterator[tuple[str, str, str]]:
    """An encoder's, a decoder's or a bottleneck's."""
    yield f"{ours}.project", f"{theirs}/{entry}", "dense"
    for group in range(GROUPS):
        to, scope = f"{ours}.mixers.{group}", f"{theirs}/SplitHeadMultiAxisGmlpLayer_{group}"
        yield f"{to}.norm", f"{scope}/LayerNorm_in", "norm"
        yield f"{to}.expand", f"{scope}/in_project", "dense"
        yield f"{to}.contract", f"{scope}/out_project", "dense"
        for name in ("Grid", "Block"):
            axis, inner = f"{to}.{name.lower()}", f"{scope}/{name}GmlpLayer"
            yield f"{axis}.norm", f"{inner}/LayerNorm", "norm"
            yield f"{axis}.expand", f"{inner}/in_project", "dense"
            yield f"{axis}.gate_norm", f"{inner}/{name}GatingUnit/intermediate_layernorm", "norm"
            yield f"{axis}.gate", f"{inner}/{name}GatingUnit/Dense_0", "dense"
            yield f"{axis}.contract", f"{inner}/out_project", "dense"
        for part, place, kind in (*mixing, *ATTENTION):
            yield f"{ours}.attentions.{group}.{part}", f"{theirs}/{attention}{group}/{place}", kind


def crossing(ours: str, theirs: str) -> Iterator[tuple[str, str, str]]:
    for number, side in enumerate("xy"):
        yield f"{ours}.{side}_project", f"{theirs}/Conv_{number}", "dense"
        yield f"{ours}.{side}.norm", f"{theirs}/LayerNorm_{side}", "norm"
        yield f"{ours}.{side}.enter", f"{theirs}/in_project_{side}", "dense"
        yield f"{ours}.{side}.leave", f"{theirs}/out_project_{side}", "dense"
        to, scope = f"{ours}.{side}.gate", f"{theirs}/SplitHeadMultiAxisGating_{side}"
        yield f"{to}.norm", f"{scope}/LayerNorm_in", "norm"
        yield f"{to}.expand", f"{scope}/in_project", "dense"
        yield f"{to}.grid", f"{scope}/Dense_0", "dense"
        yield f"{to}.block", f"{scope}/Dense_1", "dense"
        yield f"{to}.contract", f"{scope}/out_project", "dense"
