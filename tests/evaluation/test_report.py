"""The HTML page of an evaluation: complete, closed in itself, and safe to open."""

import base64
import html
import io
import json
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
from deblur_hub.evaluation import Evaluation, Material, Row, Settings, pairs_in
from deblur_hub.evaluation import report as report_module
from deblur_hub.evaluation.protocols import PROTOCOLS
from deblur_hub.evaluation.report import bins, encoded, error_map, page, write_report

SETTINGS = Settings(
    protocol="pairs",
    blur_folder="blur",
    seed=None,
    fingerprint="ab" * 32,
    pictures=1,
    model="compact",
    weights="cd" * 32,
    version="0.1.0",
    device="cpu",
    precision="float32",
    tile=None,
    metrics=("psnr", "ssim"),
)
COLOURS = {"blur": (200, 40, 40), "restored": (40, 160, 40), "sharp": (40, 40, 200)}
VOID = {"meta", "img", "br", "wbr"}


def row(name: str, before: float, after: float) -> Row:
    psnrs = {"psnr": float(after), "blurred_psnr": float(before), "psnr_float": float(after)}
    scores = psnrs | {"ssim": 0.85, "blurred_ssim": 0.8}
    return Row(name, scores, 0.25)


def evaluation(*rows: Row, **changes) -> Evaluation:
    settings = replace(SETTINGS, pictures=len(rows), **changes)
    return Evaluation(settings, rows, dataset="sets/street", title="pairs of any size", command="deblur-hub evaluate x")


def many(count: int) -> Evaluation:
    """Gains of 0, 0.1, 0.2, ... dB, for names that do not sort by them."""
    gains = [index / 10 for index in range(count)]
    named = sorted((f"{(index * 7) % count:03d}.png", gain) for index, gain in enumerate(gains))
    return evaluation(*(row(name, 25, 25 + gain) for name, gain in named))


def tiny(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(len(name))
    return tuple(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(3))


class Page(HTMLParser):
    """The elements of a page; fails where one is not closed in its place."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        found = [attributes for name, attributes in self.elements if name == tag]
        return (
            [attributes for attributes in found if kind in (attributes.get("class") or "").split()] if kind else found
        )

    def headings(self) -> str:
        return " | ".join(text.strip() for text in self.words.get("h2", []))


def files(found: Page) -> list[Image.Image]:
    prefix = "data:image/webp;base64,"
    assert all(image["src"].startswith(prefix) for image in found.all("img"))
    return [Image.open(io.BytesIO(base64.b64decode(image["src"][len(prefix) :]))) for image in found.all("img")]


# What is on it --------------------------------------------------------------------------------------------------------


def test_a_page_says_what_was_measured_and_what_may_stand_beside_it():
    source = page(evaluation(row("a.png", 24, 25.5), protocol="gopro"), tiny)
    assert "<h1>compact on street</h1>" in source
    assert "<strong>gopro</strong>: pairs of any size" in source
    for what in PROTOCOLS["gopro"].comparable_with:
        assert f"<li>{html.escape(what)}</li>" in source
    assert "May stand beside nothing but" in page(evaluation(row("a.png", 24, 25.5)), tiny)
    for fact in ("cpu, float32", "0.1.0", "cdcdcdcd", "abababab", "deblur-hub evaluate x", "0.25 s a picture"):
        assert fact in source


def test_the_summary_has_mean_spread_and_gain_of_every_measure():
    source = page(evaluation(row("a.png", 24, 25), row("b.png", 26, 29)), tiny)
    lines = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', source)
    table = [(what, *re.findall(r"<td[^>]*>([^<]*)</td>", cells)) for what, cells in lines][:3]
    assert table == [
        ("blurred", "25.00", "1.00", "24.00", "26.00"),
        ("restored", "27.00", "2.00", "25.00", "29.00"),
        ("gain", "+2.00", "1.00", "+1.00", "+3.00"),
    ]
    assert "27.00 dB" in source and "gain +2.00 dB" in source


def test_a_loss_is_not_painted_as_a_gain():
    source = page(evaluation(row("a.png", 25, 24.5)), tiny)
    assert '<span class="worse">gain −0.50 dB</span>' in source
    assert "1 of 1 became worse" in source
    assert '<rect class="worse"' in source and '<rect class="better"' not in source


def test_few_pictures_are_shown_once_and_all():
    found = Page(page(many(20), tiny))
    assert len(found.all("figure")) == 20
    assert "All 20 pictures" in found.headings()


def test_of_many_pictures_the_ten_worst_and_the_ten_best_are_shown_in_order():
    asked = []

    def pictures(name):
        asked.append(name)
        return tiny(name)

    scored = many(25)
    found = Page(page(scored, pictures))
    assert "The 10 worst" in found.headings() and "The 10 best" in found.headings()
    gains = {item.name: round(item.gain("psnr"), 6) for item in scored.rows}
    assert [gains[name] for name in asked] == [i / 10 for i in range(10)] + [i / 10 for i in range(24, 14, -1)]
    numbers = [int(figure["id"].removeprefix("picture-")) for figure in found.all("figure")]
    assert [scored.rows[number].name for number in numbers] == asked


def test_every_row_is_in_the_table_with_its_full_value_to_sort_by():
    scored = many(25)
    source = page(scored, tiny)
    body = source[source.index('<table class="rows">') :]
    assert body.count("<tr>") == 26
    for item in scored.rows:
        assert f'data-value="{item.scores["psnr"]!r}"' in body and f">{item.name}</th>" in body


def test_sharp_pictures_that_were_to_be_left_alone_make_a_page_without_blurred_ones():
    alone = evaluation(Row("a.png", {"psnr": 40.0, "ssim": 0.99, "psnr_float": 40.1}, 0.1), protocol="sharp")
    found = Page(page(alone, tiny))
    assert [image["alt"] for image in found.all("img")] == [
        "a.png, restored",
        "error map of a.png, restored",
        "a.png, sharp",
    ]
    assert not found.all("svg", "histogram")
    assert "gain" not in " ".join(found.words["th"])


def test_scores_that_are_infinite_do_not_break_the_page():
    source = page(evaluation(row("a.png", 24, math.inf), row("b.png", 24, 25), row("c.png", 40, 39)), tiny)
    Page(source)
    assert "+∞" in source and 'data-value="inf"' in source
    assert "1 not shown" in source
    assert "nan" not in re.sub(r"base64,[^\"]*", "", source)
    Page(page(evaluation(row("a.png", math.inf, math.inf)), tiny))


# Closed in itself, and safe -------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_outside_it():
    source = page(many(3), tiny)
    found = Page(source)
    assert not found.all("link") and not found.all("iframe") and not found.all("base")
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), attributes
    without = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"^\s*// .*$", "", without, flags=re.MULTILINE))
    (policy,) = [item["content"] for item in found.all("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize(
    "name", ['<script>alert("1")</script>.png', "\" onload='alert(1)'.png", "a&b <i>.png", "bytes\udcff.png"]
)
def test_what_comes_from_file_names_is_text_and_nothing_else(name):
    scored = replace(evaluation(row(name, 24, 25), model=name), dataset=name, title=name, command=name)
    source = page(scored, lambda _: tiny("x"))
    plain, named = (Page(page(evaluation(row("a.png", 24, 25)), tiny)), Page(source))
    source.encode("utf-8")
    assert [tag for tag, _ in named.elements if tag != "wbr"] == [tag for tag, _ in plain.elements if tag != "wbr"]
    assert not any(key.startswith("on") for _, attributes in named.elements for key in attributes)
    shown = name.replace("\udcff", "?")
    assert named.all("img")[0]["alt"] == f"{shown}, blurred"


def test_every_picture_has_words_and_every_button_a_name():
    source = page(many(3), tiny)
    found = Page(source)
    assert all(image["alt"].strip() for image in found.all("img"))
    assert len({image["alt"] for image in found.all("img")}) == len(found.all("img"))
    assert found.all("html")[0]["lang"] == "en" and found.words["title"]
    assert all(re.search(r"\S", inside) for inside in re.findall(r"<button[^>]*>([^<]*)</button>", source))
    (histogram,) = found.all("svg", "histogram")
    assert histogram["role"] == "img" and "from +0.00 dB to +0.20 dB, mean +0.10 dB" in histogram["aria-label"]
    assert {head["aria-sort"] for head in found.all("th") if "aria-sort" in head} == {"ascending", "none"}


# The pictures ---------------------------------------------------------------------------------------------------------


def test_small_pictures_are_embedded_at_their_own_size_and_resemble_what_was_scored():
    at = np.mgrid[0:60, 0:90].sum(axis=0).astype(np.uint8)
    sharp = np.stack([at, 255 - at, at // 2], axis=2)
    blurred, restored = sharp // 2, sharp // 4 * 3
    source = page(evaluation(row("a.png", 24, 25)), lambda _: (blurred, restored, sharp))
    shown = files(Page(source))
    assert [picture.size for picture in shown] == [(90, 60)] * 5
    for place, original in ((0, blurred), (2, restored), (4, sharp)):
        assert np.abs(np.asarray(shown[place]).astype(int) - original).mean() < 4
    assert "90×60, WebP quality 90" in source


def test_large_pictures_are_made_smaller_and_the_page_says_so():
    large = tuple(np.full((1000, 2560, 3), level, np.uint8) for level in (90, 110, 120))
    source = page(evaluation(row("a.png", 24, 25)), lambda _: large)
    assert {picture.size for picture in files(Page(source))} == {(1280, 500)}
    assert "2560×1000 made smaller to 1280×500" in source


def test_an_error_map_shows_how_large_the_error_is_and_where():
    sharp = np.full((8, 8, 3), 100, np.uint8)
    other = sharp.copy()
    other[2, 3] = (116, 116, 116)
    other[5, 5] = 255
    other[6, 6] = (76, 100, 100)  # 24 in one of three channels: 13.9 in the mean
    errors = error_map(other, sharp)
    assert (
        errors[2, 3] == round(16 * 255 / 64) and errors[5, 5] == 255 and errors[6, 6] == round(24 / 3**0.5 * 255 / 64)
    )
    assert np.count_nonzero(errors) == 3
    assert (error_map(sharp, other) == errors).all()


def test_pictures_that_do_not_compress_stay_within_the_size_of_the_page(monkeypatch):
    monkeypatch.setattr(report_module, "PAGE_BYTES", 500_000)
    noise = np.random.default_rng(0).integers(0, 256, (3, 160, 240, 3), dtype=np.uint8)
    source = page(many(6), lambda _: tuple(noise))
    assert 250_000 < len(source) < 500_000 + 50_000  # for all but the pictures
    assert "WebP quality 90" not in source
    assert len(files(Page(source))) == 6 * 5


def test_a_larger_budget_gives_better_pictures():
    noise = np.random.default_rng(0).integers(0, 256, (2, 160, 240, 3), dtype=np.uint8)
    poor, rich = (encoded([noise[0]], noise[1], budget) for budget in (40_000, 10**7))
    assert rich.quality == 90 and rich.size == (240, 160)
    assert poor.quality < 90 and sum(map(len, (*poor.panes, *poor.maps))) <= 40_000


# The histogram --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[0.3], [-0.05, 0.05], [0.0, 100.0, 3.3], [0.1 * i for i in range(200)], [-2.0] * 9])
def test_every_gain_falls_into_the_bin_that_it_lies_in(values):
    width, counted = bins(values)
    assert sum(count for _, count in counted) == len(values) and len(counted) <= 16
    for start, count in counted:
        assert abs(start / width - round(start / width)) < 1e-9
        assert count == sum(start - 1e-9 <= value < start + width - 1e-9 for value in values)
    assert counted[0][1] and counted[-1][1]


# Writing it -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored_set(tmp_path) -> tuple[Evaluation, Material, Path]:
    for folder in ("blur", "sharp"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.new("RGB", (32, 24), COLOURS[folder]).save(tmp_path / "set" / folder / "a.png")
    (tmp_path / "restored").mkdir()
    Image.new("RGB", (32, 24), COLOURS["restored"]).save(tmp_path / "restored" / "a.png")
    material = pairs_in(tmp_path / "set", PROTOCOLS["pairs"])
    return evaluation(row("a.png", 24, 25)), material, tmp_path / "restored"


def test_a_page_shows_the_pictures_of_the_set_and_the_restored_ones(tmp_path, scored_set):
    scored, material, restored = scored_set
    target = write_report(scored, tmp_path / "new" / "report.html", material=material, restored=restored)
    blurred, _, result, _, sharp = files(Page(target.read_text(encoding="utf-8")))
    for shown, what in ((blurred, "blur"), (result, "restored"), (sharp, "sharp")):
        assert np.abs(np.asarray(shown).astype(int) - COLOURS[what]).max() < 6


def test_a_page_that_cannot_be_made_leaves_nothing_behind(tmp_path, scored_set):
    scored, material, restored = scored_set
    (restored / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"a\.png: is missing or damaged; evaluate again"):
        write_report(scored, tmp_path / "report.html", material=material, restored=restored)
    assert not list(tmp_path.glob("*report*"))


def test_a_place_where_no_page_can_be_written_is_named_before_any_scoring(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file" / "report.html"):
        monkeypatch.setattr("deblur_hub.cli.evaluating.pairs_in", lambda *_: pytest.fail("looked at the set"))
        assert main(["evaluate", "identity", str(tmp_path), "--html", str(place)]) == 2
        assert f"{place}: no page can be written there" in capsys.readouterr().err


def test_the_shell_writes_a_page_without_an_output_folder(tmp_path, capsys):
    for folder in ("blur", "sharp"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.fromarray(tiny(folder)[0]).save(tmp_path / "set" / folder / "a.png")
    target = tmp_path / "report.html"
    assert main(["evaluate", "identity", str(tmp_path / "set"), "--html", str(target), "--quiet"]) == 0
    assert f"written: {target}" in capsys.readouterr().out
    assert "<h1>identity on set</h1>" in target.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "set"]


def test_results_that_were_read_back_make_the_same_page(tmp_path):
    scored = many(3)
    read = Evaluation.read(scored.save(tmp_path / "results.json"))
    assert json.loads((tmp_path / "results.json").read_text())["rows"]
    assert page(read, tiny) == page(scored, tiny)
