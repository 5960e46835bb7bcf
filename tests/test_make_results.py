"""RESULTS.md: its sections say what the commands in them measure."""

import importlib.util
import io
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.cli import main
from deblur_hub.hub import bundled
from tests.conftest import TINY, awake

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path) -> Path:
    """Two pairs, of which one is not blurred at all."""
    root = tmp_path / "data"
    draw = np.random.default_rng(0)
    for number in range(2):
        sharp = np.kron(draw.integers(0, 256, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        blurred = sharp if number else ((sharp.astype(int) + np.roll(sharp, 3, axis=1)) // 2).astype(np.uint8)
        for folder, picture in (("gopro/blur", blurred), ("gopro/sharp", sharp), ("sharp", sharp)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / folder / f"{number}.png")
    return root


@pytest.fixture
def two_models(page, tmp_path, small_models, monkeypatch):
    """Small ones in the place of those that are bundled, and of SRN's authors'."""
    monkeypatch.setattr(bundled, "BUNDLED", small_models)
    monkeypatch.setattr(page, "COMPARED", "./nowhere")
    made = DeblurGenerator(GeneratorConfig("compact", TINY, name="srn"))
    awake(made.network)
    made.eval().save_pretrained(tmp_path / "srn")


@pytest.fixture
def here(page, monkeypatch):
    """Commands run in this process, which need not start Python thirty times; the test of one that fails starts it."""

    def run(words, *, cwd, **options):
        with chdir(cwd), redirect_stdout(io.StringIO()) as told:
            return subprocess.CompletedProcess(words, main(words[3:]), told.getvalue())

    monkeypatch.setattr(page, "subprocess", SimpleNamespace(run=run, PIPE=subprocess.PIPE))


@pytest.mark.slow
@pytest.mark.usefixtures("two_models", "here")
def test_its_sections_hold_what_was_measured_and_the_commands_that_did(page, data, tmp_path):
    runs = page.Runs(data, tmp_path / "srn", tmp_path)
    text = page.pairs_section(runs)
    table = [line for line in text.splitlines() if line.startswith("| blurry input")]
    assert len(table) == 1 and "+0.00 dB" in table[0]
    named = {"compact": "compact"} | {"SRN (its authors')": "srn/"}
    named |= {f"maxim, {quality}": f"maxim --quality {quality}" for quality in ("draft", "fast", "balanced")}
    assert runs.systems().keys() == named.keys()
    for name, model in named.items():
        assert f"    deblur-hub evaluate {model} eval/gopro --metrics features,edges --precision float32" in text
        assert f"### {name}, picture by picture" in text
    assert "GoPro test pairs" not in text  # another set does not go by the name of the one that is described
    assert str(tmp_path) not in text
    crispness = page.crispness_section(runs)
    assert (
        "    deblur-hub evaluate maxim eval/gopro --quality fast --metrics features,edges --precision float32 "
        "--crispness 0.5" in crispness
    )
    rows = [line.split("|") for line in crispness.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows] == ["crispness", "0", "0.25", "0.5", "0.75", "1"]
    plain = next(line for line in table_of(text) if "| maxim, fast " in line)
    assert rows[1][2].strip() == plain.split("|")[2].strip() != rows[-1][2].strip()
    photographs = page.photographs_section(runs)
    assert "2 of them" in photographs and "--synthetic eval/sharp --seed 0" in photographs
    assert str(tmp_path) not in photographs


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_a_folder_without_the_pictures_is_named_before_anything_is_measured(page, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_results.py", str(tmp_path), "-o", str(tmp_path / "RESULTS.md")])
    with pytest.raises(SystemExit, match="has no folder 'gopro/blur'"):
        page.main()
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.mark.slow
def test_a_command_that_fails_leaves_the_page_as_it_was(page, data, tmp_path, monkeypatch):
    (data / "gopro" / "blur" / "0.png").write_bytes(b"no picture")
    output = tmp_path / "RESULTS.md"
    output.write_text("before")
    monkeypatch.setattr(sys, "argv", ["make_results.py", str(data), "-o", str(output)])
    with pytest.raises(SystemExit, match="nothing was written"):
        page.main()
    assert output.read_text() == "before"
