"""What several of the tests work on: small generators that do something, and a photograph."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers and what they start share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.hub import bundled
from deblur_hub.networks import build_network

settings.register_profile("tests", deadline=None)  # two workers, or a busy machine, take longer now and then
settings.load_profile("tests")

if TYPE_CHECKING:
    from tests.hub_client import Client
    from tests.hub_server import HubServer

TINY = {"widths": [8, 16], "blocks": [1, 1], "unshuffle": 2}
TINY_RESNET = {"width": 4, "blocks": 2}


def awake(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with weights of which every one matters: fresh ones leave the picture as it is."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter.data = torch.randn(parameter.shape, generator=draw) / fan_in**0.5
    return network.eval()


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """What a test draws without a seed of its own is the same in every run: one that fails, fails again."""
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # whatever a run of training before set in this process


@pytest.fixture
def compact() -> nn.Module:
    return awake(build_network("compact", **TINY))


@pytest.fixture
def resnet() -> nn.Module:
    return awake(build_network("resnet", **TINY_RESNET))


@pytest.fixture
def generator() -> DeblurGenerator:
    """A tiny generator of the compact architecture, with weights that change the picture."""
    made = DeblurGenerator(GeneratorConfig("compact", TINY, name="tiny"))
    awake(made.network)
    return made.eval()


@pytest.fixture(scope="session")
def released_model() -> Callable[[str], DeblurGenerator]:
    """Released models by their names, each loaded once, to be looked at and not to be changed."""
    return functools.cache(lambda name: DeblurGenerator.from_pretrained(name, device="cpu"))


@pytest.fixture(scope="session")
def small_models(tmp_path_factory) -> Path:
    """Bundled models of the released names and cards, with few weights, of which every one matters."""
    folder = tmp_path_factory.mktemp("weights")
    maxim = {"width": 4, "stages": 1, "crisp": True, "refiner_widths": [8, 8], "refiner_blocks": [1, 1]}
    networks = {"maxim": ("maxim_refined", maxim), "compact": ("compact", {"widths": [8, 8], "blocks": [1, 1]})}
    for name, (architecture, options) in networks.items():
        # A quality of its own, so that none is chosen by what each would take, which is counted for seconds.
        made = DeblurGenerator(GeneratorConfig(architecture, options, name=name, quality="best"))
        awake(made.network)
        for key, parameter in made.network.named_parameters():
            if "outputs" in key or "head" in key:
                parameter.data *= 0.02  # that nothing is cut off at black or white
        made.eval().save_pretrained(folder / name)
        shutil.copy(bundled.BUNDLED / name / "README.md", folder / name)
    return folder


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """(1, 3, 299, 451) in [-1, 1]: a real photograph of odd size."""
    from skimage import data

    return torch.from_numpy(data.chelsea()[:299]).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="session")
def server() -> Iterator["HubServer"]:
    from tests.hub_server import HubServer

    with HubServer() as running:
        yield running


@pytest.fixture(scope="session")
def client(server, tmp_path_factory) -> Iterator["Client"]:
    from tests.hub_client import Client

    running = Client(tmp_path_factory.mktemp("hf"), server.address)
    yield running
    running.close()


@pytest.fixture(scope="module")
def hub(server) -> "HubServer":
    """A hub on the loopback interface, without repositories; see `hub_server.py`."""
    server.forget()
    return server


@pytest.fixture(scope="module")
def home(client) -> Path:
    """Where the client keeps its cache, which is empty."""
    for path in client.home.iterdir():
        shutil.rmtree(path)
    return client.home


@pytest.fixture(scope="module")
def play(hub, home, client) -> Callable[[str], list]:
    """Plays a scene against the hub; see `hub_client.py`."""
    return client.play
