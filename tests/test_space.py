"""The folder that becomes a Space: its card, its pictures and their credits, and a page that builds. No browser."""

import importlib.util
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_hub.cli import main

SPACE = Path(__file__).resolve().parents[1] / "space"
CARD = (SPACE / "README.md").read_text(encoding="utf-8")
MAX_EXAMPLES_BYTES = 1_500_000

pytest.importorskip("gradio", reason="the page needs the extra 'space'")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """space/app.py as a module, with a temporary folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        spec = importlib.util.spec_from_file_location("deblur_hub_page", SPACE / "app.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def front_matter() -> dict[str, str]:
    matter = re.match(r"---\n(.*?)\n---\n", CARD, re.DOTALL).group(1)
    return dict(line.split(": ", 1) for line in matter.splitlines() if ": " in line)


def test_the_card_tells_the_hub_how_to_run_the_space():
    matter = front_matter()
    assert matter["sdk"] == "gradio"
    assert matter["license"] == "apache-2.0"
    assert re.fullmatch(r"6\.\d+\.\d+", matter["sdk_version"])
    assert (SPACE / matter["app_file"]).is_file()
    assert len(matter["short_description"]) <= 60  # the Hub refuses longer ones
    assert (SPACE / "requirements.txt").read_text().split() == ["deblur-hub[space]"]


def test_the_gallery_has_six_examples_or_more_and_they_are_small(page):
    files = set(page.EXAMPLES)
    assert len(files) >= 6
    assert len(set(page.EXAMPLES.values())) == len(files)
    assert files == set((SPACE / "examples").iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_EXAMPLES_BYTES


def test_every_example_decodes_and_is_credited_with_its_kind_of_blur(page):
    for path, caption in page.EXAMPLES.items():
        with Image.open(path) as picture:
            picture.load()
        (row,) = [line for line in CARD.splitlines() if line.startswith(f"| `{path.name}` |")]
        assert f"| {caption} |" in row
        assert re.search(r"CC0|CC BY|public domain|no known copyright", row)


@pytest.mark.slow
def test_the_page_builds_and_offers_one_endpoint(page):
    app = page.build_app()
    public = [event["api_name"] for event in app.config["dependencies"] if event["api_visibility"] == "public"]
    assert public == ["deblur"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_picture_of_any_mode_gives_two_previews_that_browsers_show(page, tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (32, 1))
    grey = Image.fromarray(ramp)
    pictures = {
        "I;16": lambda: Image.fromarray(ramp.astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(ramp.astype(np.float32) / 255),
        "RGBA": lambda: Image.merge("RGBA", [grey, grey, grey, grey]),
        "LA": lambda: Image.merge("LA", [grey, grey]),
        "P": lambda: grey.convert("P"),
    }
    file = tmp_path / "ramp.tif"
    pictures.get(mode, lambda: grey.convert("RGB").convert(mode))().save(file)

    result = page.restore(file, page.list_models()[0], 0.0, "draft")

    assert result.file.name == ("ramp-deblurred.tif" if mode in ("CMYK", "F") else "ramp-deblurred.png")
    assert result.run.original.size == (48, 32)
    for preview in (result.before, result.after):
        with Image.open(preview) as shown:
            assert shown.format == "PNG" and shown.size == (48, 32)
            assert shown.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
            if shown.mode == "RGB":
                row = np.asarray(shown.convert("L"))[16].astype(int)
                assert row[4] < 60 < 200 < row[43]  # dark stays dark, nothing clips to white


@pytest.mark.slow
def test_the_page_restores_as_crisp_as_it_is_asked_to_and_says_so(page, tmp_path):
    file = SPACE / "examples" / "shop.jpg"
    pictures = []
    for crispness in (0.0, 0.6):
        result = page.restore(file, "maxim", crispness, "fast")
        generator = page.DeblurGenerator.from_pretrained("maxim")
        expected = np.asarray(generator.deblur(file, crispness=crispness, quality="fast"))
        pictures.append(np.asarray(Image.open(result.file)))
        assert np.abs(pictures[-1].astype(int) - expected).max() <= 1
        assert ("Crispness" in page.facts(result)) == bool(crispness)
    assert not np.array_equal(*pictures)


def test_a_model_without_a_partner_hides_the_crispness_and_is_not_asked_for_it(page):
    assert page.possible("maxim", 0.4) == 0.4 and page.possible("compact", 0.4) == 0.0
    with pytest.raises(page.DeblurHubError, match="no crisp partner"):
        page.restore(page.OPENING, "compact", 0.4)


@pytest.mark.slow
def test_a_taken_port_is_told_with_the_way_to_another(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port), "--no-browser"]) == 2
    words = capsys.readouterr().err
    assert f"port {port} is taken" in words and "deblur-hub demo --port" in words and words.count("\n") == 1


def test_every_bundled_model_has_a_line_of_advice(page):
    assert set(page.ADVICE) == set(page.list_models())
    assert all(len(line) < 120 and line.endswith(".") for line in page.ADVICE.values())


@pytest.mark.slow
def test_a_large_picture_is_previewed_smaller_but_downloaded_whole(page, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PREVIEW_SIDE", 100)
    file = tmp_path / "large.png"
    Image.effect_noise((301, 203), 60).save(file)

    result = page.restore(file, page.list_models()[0], 0.0, "draft")

    assert [Image.open(picture).size for picture in (result.before, result.after)] == [(100, 67)] * 2
    assert Image.open(result.file).size == (301, 203)
    assert "the download has all 301 × 203" in page.facts(result)


def test_what_is_no_picture_leaves_nothing_behind_and_is_told_safely(page, tmp_path):
    file = tmp_path / "<b>notes.jpg"
    file.write_text("dear diary")
    cache = Path(page.get_upload_folder())
    cache.mkdir(exist_ok=True)
    before = set(cache.iterdir())

    with pytest.raises(page.DeblurHubError) as trouble:
        page.restore(file, page.list_models()[0])

    assert set(cache.iterdir()) == before
    assert "<b>" not in page.sentence(trouble.value)
