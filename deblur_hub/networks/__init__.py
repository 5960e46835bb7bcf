"""The generators, one file an architecture, and how one is built by name from checked options.

Each class is a `Generator`: (N, 3, H, W) in [-1, 1] to the same, for any H and W; what else it says of itself is in
`base`, and its `describe()` tells it to a reader.
"""

import inspect
import types
import typing
from typing import Any

from ..errors import ModelError, did_you_mean
from .autoencoder import AutoencoderGenerator
from .base import Generator
from .compact import CompactGenerator
from .deepdeblur import DeepDeblurGenerator
from .dmphn import DmphnGenerator
from .fpn import FpnGenerator
from .mimo_unet import MimoUnetGenerator
from .mt_rnn import MtRnnGenerator
from .nafnet import NafnetGenerator
from .pss_nsc import PssNscGenerator
from .resnet import ResnetGenerator
from .srn import SrnGenerator
from .unet import UnetGenerator

NETWORKS: dict[str, type[Generator]] = {
    "autoencoder": AutoencoderGenerator,
    "compact": CompactGenerator,
    "dmphn": DmphnGenerator,
    "fpn": FpnGenerator,
    "mt_rnn": MtRnnGenerator,
    "mimo_unet": MimoUnetGenerator,
    "nafnet": NafnetGenerator,
    "resnet": ResnetGenerator,
    "unet": UnetGenerator,
    "deepdeblur": DeepDeblurGenerator,
    "srn": SrnGenerator,
    "pss_nsc": PssNscGenerator,
}

# The systems that people know by name: an architecture and the options that make it theirs.
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "autoencoder": ("autoencoder", {}),
    "compact": ("compact", {}),
    "deblurgan": ("resnet", {}),
    "deblurgan-v2-inception": ("fpn", {"backbone": "inception-resnet-v2", "width": 256}),
    "deblurgan-v2-mobilenet": ("fpn", {}),
    "deblurgan-v2-mobilenet-dsc": ("fpn", {"backbone": "mobilenet-dsc"}),
    "deblurgan-keras": (
        "resnet",
        {"norm": "batch", "upsampling": "nearest", "residual": "half"},
    ),
    "mimo-unet": ("mimo_unet", {}),
    "mimo-unet-plus": ("mimo_unet", {"blocks": 20, "dropout": 0.1}),
    "nafnet-w16": ("nafnet", {"width": 16}),
    "nafnet-w32": ("nafnet", {"width": 32}),
    "nafnet-w64": ("nafnet", {"width": 64}),
    "resnet6-bn": (
        "resnet",
        {"blocks": 6, "norm": "batch", "upsampling": "transposed4", "residual": "none"},
    ),
    "dmphn": ("dmphn", {}),
    "dmphn-1-2-4": ("dmphn", {"patches": "1-2-4"}),
    "mt-rnn": ("mt_rnn", {}),
    "unet": ("unet", {}),
    "deepdeblur": ("deepdeblur", {}),
    "srn": ("srn", {}),
    "srn-lstm": ("srn", {"variant": "lstm"}),
    "pss-nsc": ("pss_nsc", {}),
}

MOST_CHANNELS, MOST_REPEATS = 8192, 64  # far above any network here: what exceeds them is a mistake or an attack
REPEATS = ("blocks", "iterations", "dilations")  # options whose names hold one of these are bound by the latter


def build_network(name: str, **options: Any) -> Generator:
    """A network with fresh weights, by the name of a preset or of an architecture.

    Args:
        options: of its class, over the preset's and the class's own.

    Raises:
        ModelError: for an unknown name or option, or a value of the wrong type or out of all proportion; before
            anything is allocated.
    """
    architecture, preset = PRESETS.get(name, (name, {}))
    if architecture not in NETWORKS:
        known = sorted(NETWORKS.keys() | PRESETS.keys())
        raise ModelError(
            f"architecture '{name}' is not known to this version (it knows: {', '.join(known)})"
            f"{did_you_mean(name, known)}"
        )
    network = NETWORKS[architecture]
    return network(**check_options(architecture, network, preset | options))


def check_options(architecture: str, network: type[Generator], options: dict[str, Any]) -> dict[str, Any]:
    """The options with lists turned to tuples; raises `ModelError` as `build_network` says."""
    expected = {name: parameter.annotation for name, parameter in inspect.signature(network).parameters.items()}
    checked = {}
    for key, value in options.items():
        if key not in expected:
            raise ModelError(
                f"{architecture}: unknown option '{key}'{did_you_mean(key, expected)}; it has: {', '.join(expected)}"
            )
        checked[key] = check_value(f"{architecture}: option '{key}'", value, expected[key])
    return checked


def check_value(what: str, value: Any, kind: Any) -> Any:
    """`value` as its annotation wants it: bool, int, float, str, Literal or tuple[int, ...], within sane bounds."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= 16:
            raise ModelError(f"{what} must be a list of 1 to 16 numbers, not {value!r:.60}")
        return tuple(check_value(what, entry, typing.get_args(kind)[0]) for entry in value)
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise ModelError(f"{what} must be one of {', '.join(map(str, typing.get_args(kind)))}, not {value!r:.60}")
        return value
    if isinstance(kind, types.UnionType):
        raise TypeError(f"{what}: options have one type each")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ModelError(f"{what} must be of type {kind.__name__}, not {value!r:.60}")
    most = MOST_REPEATS if any(word in what for word in REPEATS) else MOST_CHANNELS
    if kind is int and not 1 <= value <= most:
        raise ModelError(f"{what} is {value}, which is out of range (1 to {most})")
    if kind is float and not 0 <= value <= 1:
        raise ModelError(f"{what} is {value}, which is out of range (0 to 1)")
    return value
