"""The HTML page of an evaluation in a real browser: opened from a disk, compared, sorted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deblur_hub.evaluation import Evaluation, Row, Settings
from deblur_hub.evaluation.report import page as report_page

pytestmark = pytest.mark.browser

NAMES = ("street/9.png", "street/10.png", 'street/<b onclick="window.harm = 1">11</b>.png')
GAINS = (0.5, -0.25, 1.5)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    rows = tuple(
        Row(name, {"psnr": 25 + gain, "ssim": 0.8 + gain / 10, "blurred_psnr": 25.0, "blurred_ssim": 0.8}, 0.5)
        for name, gain in zip(NAMES, GAINS, strict=True)
    )
    settings = Settings("pairs", "blur", None, "a" * 64, 3, "compact", "b" * 64, "0.1.0", "cpu", "float32", None, ())
    three = [np.full((360, 640, 3), level, np.uint8) for level in (60, 120, 200)]
    path = tmp_path_factory.mktemp("report") / "report.html"
    source = report_page(Evaluation(settings, rows, dataset="street"), dict.fromkeys(NAMES, three))
    path.write_text(source, encoding="utf-8")
    return path


@pytest.fixture
def open_report(browser, report) -> Iterator:
    """Opens the page; `page.requested` lists what it asked for, `page.complaints` what went wrong in it."""
    contexts = []

    def opened(width: int = 1440, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda mistake: page.complaints.append(str(mistake)))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.goto(report.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def luminance(colour: str) -> float:
    """Relative luminance (WCAG) of "rgb(1, 2, 3)"."""
    parts = [float(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("width", [390, 1440])
def test_the_report_opens_from_a_disk_without_asking_for_anything_else(open_report, report, width):
    page = open_report(width)
    assert [url for url in page.requested if not url.startswith("data:")] == [report.as_uri()]
    assert page.complaints == []
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("window.harm") is None and page.locator("b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_both_schemes(open_report, scheme):
    pairs = open_report(scheme=scheme).evaluate("""() => {
        const seen = new Set();
        const opaque = (e) => { while (e) { const c = getComputedStyle(e).backgroundColor;
            if (c.startsWith("rgb(")) return c; e = e.parentElement; } };
        for (const e of document.querySelectorAll("body *")) {
            if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
            const style = getComputedStyle(e);
            seen.add(`${e instanceof SVGElement ? style.fill : style.color}|${opaque(e)}`);
        }
        return [...seen].map(pair => pair.split("|"));
    }""")
    assert len(pairs) >= 4
    for colour, ground in pairs:
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (colour, ground)


def test_the_slider_shows_more_or_less_of_the_restored_picture_and_a_box_the_sharp_one(open_report):
    page = open_report()
    figure = page.locator("figure").first

    def left_of(kind: str) -> str:
        return figure.locator(f".{kind}").evaluate("image => getComputedStyle(image).clipPath")

    assert "50%" in left_of("after")
    slider = figure.locator("input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    assert "0%" in left_of("after") and "50%" not in left_of("after")
    assert "50%" in page.locator("figure").nth(1).locator(".after").evaluate("i => getComputedStyle(i).clipPath")
    assert not figure.locator(".sharp").is_visible()
    figure.locator("input[type=checkbox]").check()
    assert figure.locator(".sharp").is_visible()


def test_the_table_sorts_by_name_as_people_count_and_by_number_the_largest_first(open_report):
    page = open_report()
    heads = page.locator("#rows thead th")

    def column(number: int) -> list[str]:
        return page.locator("#rows tbody tr").evaluate_all(
            "(rows, number) => rows.map(row => row.cells[number].textContent)", number
        )

    gain = [text.strip() for text in heads.all_inner_texts()].index("PSNR gain")
    heads.nth(gain).locator("button").click()
    assert column(gain) == ["+1.50 dB", "+0.50 dB", "-0.25 dB"]
    assert heads.nth(gain).get_attribute("aria-sort") == "descending"
    heads.nth(gain).locator("button").press("Enter")
    assert column(gain) == ["-0.25 dB", "+0.50 dB", "+1.50 dB"]
    heads.nth(0).locator("button").click()
    assert column(0).index("street/9.png") < column(0).index("street/10.png")
    assert [head for head in heads.evaluate_all("hs => hs.map(h => h.ariaSort)") if head != "none"] == ["ascending"]
