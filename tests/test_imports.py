"""Imports stay light and run one way: from the page and the training to the package, and inside it down the floors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "deblur_hub"
FLOORS = (  # from the ground up; a room imports from its own floor and those below
    {"errors", "config", "machine", "atomic", "networks", "blur", "metrics", "pictures", "model_card", "processes"}
    | {"remote"},
    {"restoration", "datasets", "hub"},
    {"generator"},
    {"evaluation", "conversion", "release", "batch", "ray", "video", "export"},
    {"cli"},
)
ALIASES = {"images", "image_files"}  # names of 0.1, which warn
HEAVY = (
    "gradio",
    "accelerate",
    "torchvision",
    "matplotlib",
    "skimage",
    "scipy",
    "cv2",
    "lpips",
    "tensorboard",
    "huggingface_hub",
    "tifffile",
    "imagecodecs",
    "av",
    "fsspec",
    "upath",
    "ray",
    "onnx",
    "onnxruntime",
    "train",
    "space",
)


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at the top or within functions; relative ones made absolute."""
    package = [*path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("deblur_hub.")}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


# An entry point (`python -m deblur_hub.evaluation`) is no part of its room.
SOURCES = sorted(
    path for path in PACKAGE.rglob("*.py") if room(path) not in ALIASES | {"__init__"} and path.name != "__main__.py"
)


def modules_after(program: str) -> list[str]:
    """What a fresh process has imported at the end of a program."""
    ending = "\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", program + ending]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout.splitlines()[-1].split()


@pytest.mark.slow
def test_importing_the_generator_imports_nothing_heavy():
    listing = modules_after("from deblur_hub import DeblurGenerator")
    assert "torch" in listing and "deblur_hub.generator" in listing
    assert [name for name in HEAVY if name in listing] == []


@pytest.mark.parametrize("typed", [["--help"], ["--version"], ["deblur", "--help"], ["deblurr"], ["deblur"]])
def test_help_and_mistakes_in_the_shell_wait_for_no_pytorch(typed):
    program = f"from deblur_hub.cli import parser\ntry:\n    parser().parse_args({typed})\nexcept SystemExit:\n    pass"
    listing = modules_after(program)
    assert "deblur_hub.cli.arguments" in listing
    assert [name for name in ("torch", "numpy", "PIL") if name in listing] == []


def test_rooms_are_there_as_attributes_and_nothing_else():
    listing = modules_after("import deblur_hub\nassert deblur_hub.metrics.psnr and not hasattr(deblur_hub, 'nothing')")
    assert "deblur_hub.metrics" in listing and "deblur_hub.evaluation" not in listing


def test_every_room_has_a_floor():
    assert {room(path) for path in SOURCES} == set.union(*FLOORS)


def test_no_arrow_runs_up():
    for path in SOURCES:
        floor = next(number for number, names in enumerate(FLOORS) if room(path) in names)
        above = set.union(*FLOORS[floor + 1 :], {"__init__"})
        assert not rooms(path) & above, path
        assert not {name for name in imports(path) if name.split(".")[0] in ("train", "tests", "space")}, path


@pytest.mark.parametrize("name", ["networks", "metrics", "errors"])
def test_the_plainest_rooms_know_nobody_but_the_errors(name):
    paths = [path for path in SOURCES if room(path) == name]
    assert paths and set.union(*map(rooms, paths)) <= {"errors", name}


def test_the_rooms_are_without_circles():
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        graph.setdefault(room(path), set()).update(rooms(path) - {room(path)})
    visiting, done = [], set()

    def visit(name: str) -> None:
        assert name not in visiting, " -> ".join([*visiting, name])
        if name not in done:
            visiting.append(name)
            for other in sorted(graph.get(name, ())):
                visit(other)
            done.add(visiting.pop())

    for name in sorted(graph):
        visit(name)


def test_training_does_not_import_the_page():
    for path in (ROOT / "train").rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] in ("gradio", "space")}, path
