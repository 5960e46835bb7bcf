"""The generators, one file an architecture, and how one is built by name from checked options.

Each class is a `Generator`: (N, 3, H, W) in [-1, 1] to the same, for any H and W, not clamped unless it says so.
"""

import inspect
import math
import types
import typing
from typing import Any

from ..errors import ModelError, did_you_mean, shown
from .autoencoder import AutoencoderGenerator
from .base import Generator
from .compact import CompactGenerator
from .deepdeblur import DeepDeblurGenerator
from .dmphn import DmphnGenerator
from .fpn import FpnGenerator
from .maxim import MaximGenerator
from .mimo_unet import MimoUnetGenerator
from .mt_rnn import MtRnnGenerator
from .nafnet import NafnetGenerator
from .pss_nsc import PssNscGenerator
from .refined import RefinedMaximGenerator
from .resnet import ResnetGenerator
from .srn import SrnGenerator
from .unet import UnetGenerator

NETWORKS: dict[str, type[Generator]] = {
    "autoencoder": AutoencoderGenerator,
    "compact": CompactGenerator,
    "dmphn": DmphnGenerator,
    "fpn": FpnGenerator,
    "maxim": MaximGenerator,
    "maxim_refined": RefinedMaximGenerator,
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
    "deblurgan-keras": ("resnet", {"norm": "batch", "upsampling": "nearest", "residual": "half"}),
    "maxim": ("maxim", {}),
    "maxim-light": ("maxim_refined", {}),
    "mimo-unet": ("mimo_unet", {}),
    "mimo-unet-plus": ("mimo_unet", {"blocks": 20, "dropout": 0.1}),
    "nafnet-w16": ("nafnet", {"width": 16}),
    "nafnet-w32": ("nafnet", {"width": 32}),
    "nafnet-w64": ("nafnet", {"width": 64}),
    "resnet6-bn": ("resnet", {"blocks": 6, "norm": "batch", "upsampling": "transposed4", "residual": "none"}),
    "dmphn": ("dmphn", {}),
    "dmphn-1-2-4": ("dmphn", {"patches": "1-2-4"}),
    "mt-rnn": ("mt_rnn", {}),
    "unet": ("unet", {}),
    "deepdeblur": ("deepdeblur", {}),
    "srn": ("srn", {}),
    "srn-lstm": ("srn", {"variant": "lstm"}),
    "pss-nsc": ("pss_nsc", {}),
}

# Far above any network here: what exceeds them is a mistake or an attack.
MOST_CHANNELS, MOST_REPEATS, MOST_LEVELS = 8192, 64, 16
MOST_BLOCKS = 256  # of all levels together: building takes as long as there are layers, whatever their size
MOST_PARAMETERS = 10**9
LARGEST_MULTIPLE = 512  # pixels: the smallest picture is padded to it, which costs memory whatever the weights' size
REPEATS = ("blocks", "iterations", "dilations")  # options whose names hold one of these are bound by MOST_REPEATS


def build_network(name: str, **options: Any) -> Generator:
    """A network with fresh weights, by the name of a preset or of an architecture.

    Args:
        options: of its class, over the preset's and the class's own.

    Raises:
        ModelError: for an unknown name or option, or a value of the wrong type or out of all proportion, before
            anything is allocated; or, on the meta device also before, if all values together make a network that is.
    """
    architecture, preset = PRESETS.get(name, (name, {}))
    if architecture not in NETWORKS:
        known = sorted(NETWORKS.keys() | PRESETS.keys())
        raise ModelError(
            f"architecture {shown(name)} is not known to this version (it knows: {', '.join(known)})"
            f"{did_you_mean(name, known)}"
        )
    network = NETWORKS[architecture]
    built = network(**check_options(architecture, network, preset | options))
    parameters = sum(parameter.numel() for parameter in built.parameters())
    if parameters > MOST_PARAMETERS:
        raise ModelError(
            f"{architecture}: these options make {parameters / 1e9:.1f} billion parameters, out of all proportion (at "
            f"most {MOST_PARAMETERS / 1e9:.0f} billion)"
        )
    if (side := max(built.size_multiple, built.smallest_side)) > LARGEST_MULTIPLE:
        raise ModelError(
            f"{architecture}: these options pad every picture to {side} pixels, out of all proportion (at most "
            f"{LARGEST_MULTIPLE})"
        )
    return built


def build_options(architecture: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a network of these options is built with: defaults where one is absent; dropout, of training alone, is not.

    Raises ModelError as `build_network` does.
    """
    network = NETWORKS[architecture]
    defaults = {name: parameter.default for name, parameter in inspect.signature(network).parameters.items()}
    given = check_options(architecture, network, options)
    return {name: value for name, value in (defaults | given).items() if name != "dropout"}


def check_options(architecture: str, network: type[Generator], options: dict[str, Any]) -> dict[str, Any]:
    """The options with lists turned to tuples; raises `ModelError` as `build_network` says."""
    expected = {name: parameter.annotation for name, parameter in inspect.signature(network).parameters.items()}
    checked = {}
    for key, value in options.items():
        if key not in expected:
            raise ModelError(
                f"{architecture}: unknown option {shown(key)}{did_you_mean(key, expected)}; "
                f"it has: {', '.join(expected)}"
            )
        checked[key] = check_value(f"{architecture}: option '{key}'", value, expected[key])
    lists = (value for key, value in checked.items() if "blocks" in key and isinstance(value, tuple))
    if (blocks := sum(map(sum, lists))) > MOST_BLOCKS:
        raise ModelError(f"{architecture}: {blocks} blocks in all are out of range (1 to {MOST_BLOCKS})")
    return checked


def check_value(what: str, value: Any, kind: Any) -> Any:
    """`value` as its annotation wants it: bool, int, float, str, Literal or tuple[int, ...], within sane bounds."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_LEVELS:
            raise ModelError(f"{what} must be a list of 1 to {MOST_LEVELS} numbers, not {shown(value)}")
        return tuple(check_value(what, entry, typing.get_args(kind)[0]) for entry in value)
    if typing.get_origin(kind) is typing.Literal:
        if not any(type(value) is type(one) and value == one for one in typing.get_args(kind)):  # True is not 1
            raise ModelError(f"{what} must be one of {', '.join(map(str, typing.get_args(kind)))}, not {shown(value)}")
        return value
    if isinstance(kind, types.UnionType):
        raise TypeError(f"{what}: options have one type each")
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= 1 else math.inf  # which may have more digits than a float can hold
    if type(value) is not kind:
        raise ModelError(f"{what} must be of type {kind.__name__}, not {shown(value)}")
    most = MOST_REPEATS if any(word in what for word in REPEATS) else MOST_CHANNELS
    if kind is int and not 1 <= value <= most:
        raise ModelError(f"{what} is {shown(value)}, which is out of range (1 to {most})")
    if kind is float and not 0 <= value <= 1:
        raise ModelError(f"{what} is {value}, which is out of range (0 to 1)")
    return value
