"""The HTML page of an evaluation: complete, self-contained, and safe to open."""

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_hub.cli import main
from deblur_hub.errors import DatasetError
from deblur_hub.evaluation import Evaluation, Row, pairs_in
from deblur_hub.evaluation.protocols import PROTOCOLS
from deblur_hub.evaluation.report import bins, page, worst_and_best, write_report
from tests.evaluation.test_results import SETTINGS

COLOURS = {"blur": (200, 40, 40), "restored": (40, 160, 40), "sharp": (40, 40, 200)}


def row(name: str, before: float, after: float) -> Row:
    return Row(name, {"psnr": after, "blurred_psnr": before, "ssim": 0.85, "blurred_ssim": 0.8}, 0.25)


def evaluation(*rows: Row, **changes) -> Evaluation:
    settings = replace(SETTINGS, pictures=len(rows), **changes)
    return Evaluation(settings, rows, dataset="sets/street", title="pairs of any size", command="deblur-hub evaluate x")


def made(scored: Evaluation, size: tuple[int, int] = (24, 32)) -> str:
    rng = np.random.default_rng(0)
    count = 3 if scored.has_blurred else 2
    names = [item.name for item in worst_and_best(scored)]
    return page(scored, {name: [rng.integers(0, 256, (*size, 3), dtype=np.uint8)] * count for name in names})


class Page(HTMLParser):
    """The elements of a page, and its words; fails where one is not closed in its place."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def files(source: str) -> list[Image.Image]:
    found = [image["src"].removeprefix("data:image/webp;base64,") for image in Page(source).all("img")]
    return [Image.open(io.BytesIO(base64.b64decode(file))) for file in found]


def test_the_summary_stands_beside_the_blurry_inputs_own_scores():
    source = made(evaluation(row("a.png", 24.0, 25.0), row("b.png", 26.0, 29.0)))
    lines = re.findall(r'<tr><th scope="row">(PSNR, \w+)</th>(.*?)</tr>', source)
    assert [(label, *re.findall(r"<td>([^<]*)</td>", cells)) for label, cells in lines] == [
        ("PSNR, blurry", "25.00 dB", "1.00 dB", "24.00 dB", "26.00 dB"),
        ("PSNR, restored", "27.00 dB", "2.00 dB", "25.00 dB", "29.00 dB"),
        ("PSNR, gain", "+2.00 dB", "1.00 dB", "+1.00 dB", "+3.00 dB"),
    ]
    told = Page(source).words
    assert "compact on street" not in told and "tiny on street" in told
    assert "nothing but scores of the same pictures" in told and "deblur-hub evaluate x" in told
    assert "DMPHN" in Page(made(evaluation(row("a.png", 24.0, 25.0), protocol="gopro"))).words


def test_the_histogram_tells_losses_from_gains():
    source = made(evaluation(row("a.png", 25.0, 24.5), row("b.png", 25.0, 26.0)))
    assert source.count('<rect class="worse"') == 1 and '<rect class="better"' in source
    assert "Mean +0.25 dB (dashed); 1 of 2 pictures became worse." in source


@pytest.mark.parametrize("values", [[0.3], [-0.05, 0.05], [0.0, 100.0, 3.3], [0.1 * i for i in range(200)], [-2.0] * 9])
def test_every_gain_falls_into_the_bin_that_it_lies_in(values):
    width, counted = bins(values)
    assert sum(count for _, count in counted) == len(values) and len(counted) <= 16
    for start, count in counted:
        assert count == sum(start - 1e-9 <= value < start + width - 1e-9 for value in values)


def test_of_many_pictures_the_worst_and_the_best_are_shown_and_all_are_in_the_table():
    gains = [index / 10 for index in range(25)]
    named = sorted((f"{(index * 7) % 25:03d}.png", gain) for index, gain in enumerate(gains))
    scored = evaluation(*(row(name, 25.0, 25 + gain) for name, gain in named))
    shown = [round(item.gain("psnr"), 6) for item in worst_and_best(scored)]
    assert shown == gains[:5] + gains[-5:]
    source = made(scored)
    assert len(Page(source).all("figure")) == 10 and "The 5 worst and the 5 best" in source
    body = source[source.index('<table id="rows">') :]
    for item in scored.rows:
        assert f'data-value="{item.scores["psnr"]!r}"' in body and f">{item.name}</th>" in body


def test_without_a_blurry_input_there_is_no_gain():
    alone = evaluation(Row("a.png", {"psnr": 40.0, "ssim": 0.99, "psnr_float": 40.1}, 0.1), protocol="sharp")
    found = Page(made(alone))
    assert [image["alt"] for image in found.all("img")] == ["a.png, the sharp input", "a.png, restored"]
    assert not found.all("svg") and "gain" not in found.words.partition("All rows")[0].partition("</style>")[2]


def test_scores_that_are_infinite_do_not_break_the_page():
    source = made(evaluation(row("a.png", 24.0, math.inf), row("b.png", 24.0, 25.0), row("c.png", 40.0, 39.0)))
    Page(source)
    assert 'data-value="inf"' in source and "1 without any error" in source
    assert "nan" not in re.sub(r"base64,[^\"]*", "", source)
    Page(made(evaluation(row("a.png", math.inf, math.inf))))


def test_the_page_asks_for_nothing_outside_it():
    source = made(evaluation(row("a.png", 24.0, 25.0)))
    found = Page(source)
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:"), attributes
    without = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"https?:|@import|url\(", without)
    (policy,) = [item["content"] for item in found.all("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("name", ['<script>alert("1")</script>.png', "\" onload='alert(1)'.png", "bytes\udcff.png"])
def test_what_comes_from_file_names_is_text_and_nothing_else(name):
    scored = evaluation(row(name, 24.0, 25.0), model=name)
    source = made(replace(scored, dataset=name, title=name, command=name))
    plain, named = Page(made(evaluation(row("a.png", 24.0, 25.0)))), Page(source)
    source.encode("utf-8")
    assert [tag for tag, _ in named.elements] == [tag for tag, _ in plain.elements]
    assert not any(key.startswith("on") for _, attributes in named.elements for key in attributes)
    assert named.all("img")[0]["alt"] == f"{name.replace(chr(0xDCFF), '?')}, blurry"


@pytest.mark.slow
def test_large_pictures_are_reduced():
    source = made(evaluation(row("a.png", 24.0, 25.0)), size=(1000, 2560))
    assert {picture.size for picture in files(source)} == {(1280, 500)}


@pytest.fixture
def scored_set(tmp_path) -> Path:
    for folder in ("set/blur", "set/sharp", "restored"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (32, 24), COLOURS[Path(folder).name]).save(tmp_path / folder / "a.png")
    return tmp_path


def test_a_page_shows_the_pictures_of_the_set_and_the_restored_ones(scored_set):
    pictures = pairs_in(scored_set / "set", PROTOCOLS["pairs"])
    place, options = scored_set / "new/report.html", {"pictures": pictures, "restored": scored_set / "restored"}
    shown = files(write_report(evaluation(row("a.png", 24.0, 25.0)), place, **options).read_text(encoding="utf-8"))
    for picture, what in zip(shown, ("blur", "restored", "sharp"), strict=True):
        assert np.abs(np.asarray(picture).astype(int) - COLOURS[what]).max() < 6
    (scored_set / "restored/a.png").unlink()
    with pytest.raises(DatasetError, match=r"a\.png: is missing or damaged; evaluate again"):
        write_report(evaluation(row("a.png", 24.0, 25.0)), scored_set / "other.html", **options)
    assert not list(scored_set.glob("*other*"))


def test_a_place_where_no_page_can_be_written_is_named_before_any_scoring(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file" / "report.html"):
        monkeypatch.setattr("deblur_hub.cli.evaluating.pairs_in", lambda *_: pytest.fail("looked at the set"))
        assert main(["evaluate", "identity", str(tmp_path), "--html", str(place)]) == 2
        assert f"{place}: no page can be written there" in capsys.readouterr().err


def test_the_shell_writes_a_page_without_an_output_folder(scored_set, capsys):
    target = scored_set / "report.html"
    assert main(["evaluate", "identity", str(scored_set / "set"), "--html", str(target), "--quiet"]) == 0
    assert f"written: {target}" in capsys.readouterr().out
    assert "<h1>identity on set</h1>" in target.read_text(encoding="utf-8")
