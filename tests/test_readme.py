"""What the README tells people to type works as it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_hub import list_models
from deblur_hub.cli import main, parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
SHELL_LINES = [
    re.split(r"\s+#", line)[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
] + [re.split(r"\s+#", line)[0].strip() for line in TEXT.splitlines() if line.startswith("    ")]
COMMANDS = [line.removeprefix(".venv/bin/") for line in SHELL_LINES]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for path in ("photo.jpg", "holiday/beach.jpg", "pairs/blur/1.png", "pairs/sharp/1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(tmp_path / path)
    return tmp_path


def test_the_python_example_restores_a_photo(here):
    block, _ = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    exec(block, {})
    assert Image.open("sharp.png").size == Image.open("photo.jpg").size


def test_the_example_of_a_network_describes_it(capsys):
    _, block = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    exec(block, {})
    assert capsys.readouterr().out.startswith("17.11 M parameters, 224 G multiply-adds at 1280x720")


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMANDS
        if re.match(r"deblur-hub (deblur|evaluate compact pairs)", line) and "--model" not in line
    ],
)
def test_its_shell_examples_run(here, line):
    assert main([*shlex.split(line)[1:], "-q"]) == 0


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("deblur-hub ")])
def test_its_shell_examples_are_understood(line):
    assert callable(parser().parse_args(shlex.split(line)[1:]).run)


def test_its_training_example_is_understood_and_names_a_recipe():
    from train.__main__ import parse
    from train.recipe import load_recipe

    (line,) = [line for line in COMMANDS if line.startswith("accelerate launch train/ --recipe")]
    options = parse(shlex.split(line)[3:])
    assert load_recipe(options.recipe).generator == "compact"


def test_its_make_targets_and_its_commands_without_make_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", TEXT, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)
    assert "pip install --quiet --editable '.[space]'" in makefile and "pip install --editable '.[space]'" in TEXT


def test_its_links_and_pictures_exist():
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", list_models())
def test_its_scores_are_those_of_the_bundled_models_card(name):
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}`") and "bundled" in line]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    card = (ROOT / f"deblur_hub/weights/{name}/README.md").read_text()
    (mean,) = [line for line in card.splitlines() if line.startswith("| **mean**")]
    blurred_psnr, psnr, _, blurred_ssim, ssim = (cell.strip() for cell in mean.split("|")[2:-1])
    assert cells[3:6] == [psnr, ssim, f"{blurred_psnr}, {blurred_ssim}"]
