"""The HTML page of an evaluation in a real browser: opened from a disk, looked at closely, sorted."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_hub.evaluation import Evaluation, Row, Settings
from deblur_hub.evaluation.report import page as report_page

pytestmark = pytest.mark.browser

NAMES = ("street/9.png", "street/10.png", 'street/<b onclick="window.harm = 1">11</b>.png')
GAINS = (0.5, -0.25, 1.5)
ALL_DRAWN = "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode(); }))"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    rows = tuple(
        Row(name, {"psnr": 25 + gain, "ssim": 0.8 + gain / 10, "blurred_psnr": 25.0, "blurred_ssim": 0.8}, 0.5)
        for name, gain in zip(NAMES, GAINS, strict=True)
    )
    settings = Settings("pairs", "blur", None, "a" * 64, 3, "compact", "b" * 64, "0.1.0", "cpu", "float32", None, ())
    y, x = np.mgrid[0:360, 0:640]
    sharp = np.stack([(x // 8 + y // 8) % 2 * 200 + 20, x * 255 // 640, y * 255 // 360], axis=2).astype(np.uint8)
    blurred = np.roll(sharp, 3, axis=1)
    blurred[:180] = sharp[:180]  # half of it without error
    path = tmp_path_factory.mktemp("report") / "report.html"
    source = report_page(Evaluation(settings, rows, dataset="street"), lambda _: (blurred, sharp // 2, sharp))
    path.write_text(source, encoding="utf-8")
    return path


@pytest.fixture
def open_report(browser, report) -> Iterator:
    """Opens the page at a size; `page.requested` lists what it asked for, `page.complaints` what went wrong in it."""
    contexts = []

    def opened(width: int = 1440, height: int = 900, scheme: str = "light", touch: bool = False):
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=touch)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda mistake: page.complaints.append(str(mistake)))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.goto(report.as_uri())
        page.evaluate(ALL_DRAWN)
        return page

    yield opened
    for context in contexts:
        context.close()


def matrix(viewer) -> list[float]:
    """Scale and shift, in pixels, of a viewer's pictures, which must be moved alike, the error maps too."""
    pictures = viewer.locator(".frame img")
    assert len(set(pictures.evaluate_all("images => images.map(i => i.style.transform)"))) == 1
    shown = pictures.first.evaluate("image => getComputedStyle(image).transform")
    return [float(part) for part in shown.removeprefix("matrix(").removesuffix(")").split(",")]


def scale(viewer) -> float:
    """By how much the pictures are larger than when they are whole."""
    return matrix(viewer)[0]


def shift(viewer) -> tuple[float, float]:
    return tuple(matrix(viewer)[4:])


def middle(frame) -> tuple[float, float]:
    box = frame.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


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
    page = open_report(scheme=scheme)
    page.locator("summary").click()
    page.locator('[data-do="errors"]').first.click()
    pairs = page.evaluate("""() => {
        const seen = new Set();
        const opaque = (e) => { while (e) { const c = getComputedStyle(e).backgroundColor;
            if (c.startsWith("rgb(")) return c; e = e.parentElement; } };
        for (const e of document.querySelectorAll("main *")) {
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


def test_the_wheel_zooms_all_panes_about_the_pointer_once_they_were_clicked(open_report):
    page = open_report()
    viewer = page.locator(".viewer").first
    frame = viewer.locator(".frame").first
    viewer.scroll_into_view_if_needed()
    x, y = middle(frame)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(300)
    assert scale(viewer) == 1  # the page scrolls
    viewer.scroll_into_view_if_needed()
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.click(x, y)
    page.mouse.wheel(0, -240)
    page.wait_for_function("document.querySelector('.viewer').classList.contains('zoomed')")
    factor = scale(viewer)
    assert factor == pytest.approx(np.exp(240 / 400), rel=1e-3)
    # What was under the pointer, a quarter from the left, is there still.
    assert shift(viewer)[0] == pytest.approx(box["width"] / 4 * (1 - factor), abs=1)
    assert scale(page.locator(".viewer").nth(1)) == 1  # another picture is not moved


def test_dragging_moves_all_panes_alike_and_no_further_than_to_the_rim(open_report):
    page = open_report()
    viewer = page.locator(".viewer").first
    viewer.scroll_into_view_if_needed()
    for _ in range(2):
        viewer.locator('[data-do="in"]').click()
    before = shift(viewer)
    x, y = middle(viewer.locator(".frame").nth(2))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y - 20, steps=4)
    page.mouse.up()
    after = shift(viewer)
    assert (after[0] - before[0], after[1] - before[1]) == pytest.approx((-40, -20), abs=1.5)
    page.mouse.move(x - 150, y)
    page.mouse.down()
    page.mouse.move(x + 2000, y + 2000, steps=3)
    page.mouse.up()
    assert shift(viewer) == pytest.approx((0, 0), abs=0.01)


def test_the_keyboard_alone_zooms_moves_and_shows_the_error_map(open_report):
    page = open_report()
    viewer = page.locator(".viewer").first
    viewer.locator(".panes").focus()
    page.keyboard.press("1")
    assert viewer.locator("output").inner_text() == "100 %"
    width = viewer.locator(".frame").first.bounding_box()["width"]
    assert scale(viewer) == pytest.approx(640 / width, rel=1e-3)
    before = shift(viewer)
    page.keyboard.press("ArrowRight")
    assert shift(viewer)[0] < before[0]
    page.keyboard.press("+")
    assert scale(viewer) == pytest.approx(640 / width * 1.5, rel=1e-3)
    page.keyboard.press("e")
    assert viewer.locator(".map:visible").count() == 2
    assert viewer.locator('[data-do="errors"]').get_attribute("aria-pressed") == "true"
    page.keyboard.press("0")
    assert scale(viewer) == 1
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_the_error_map_is_black_where_there_is_no_error_and_bright_where_it_is_large(open_report):
    page = open_report()
    viewer = page.locator(".viewer").first
    viewer.locator('[data-do="errors"]').click()
    assert viewer.locator(".legend").is_visible()
    shown = decoded(viewer.locator(".frame").first.screenshot())
    height = shown.shape[0]
    assert shown[8 : height // 2 - 8, 8:-8].max() < 40  # but for the round corners
    assert shown[height // 2 + 8 : -8, 8:-8].mean() > 60
    viewer.locator('[data-do="errors"]').click()
    assert viewer.locator(".map:visible").count() == 0
    assert decoded(viewer.locator(".frame").first.screenshot())[: height // 2 - 8].mean() > 60


def decoded(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def test_two_fingers_zoom_and_one_scrolls_the_page(open_report):
    page = open_report(390, 844, touch=True)
    viewer = page.locator(".viewer").first
    viewer.scroll_into_view_if_needed()
    frame = viewer.locator(".frame").first
    assert frame.evaluate("e => getComputedStyle(e).touchAction") == "pan-y"
    x, y = middle(frame)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x - 20, y), (x + 20, y))
    for apart in (30, 40, 50, 60):
        touch("touchMove", (x - apart, y), (x + apart, y))
    touch("touchEnd")
    page.wait_for_function("document.querySelector('.viewer').classList.contains('zoomed')")
    assert scale(viewer) == pytest.approx(3, rel=0.1)
    assert frame.evaluate("e => getComputedStyle(e).touchAction") == "none"


def test_the_table_sorts_by_name_as_people_count_and_by_number_the_largest_first(open_report):
    page = open_report()
    heads = page.locator(".rows thead th")

    def column(number: int) -> list[str]:
        return page.locator(".rows tbody tr").evaluate_all(
            "(rows, number) => rows.map(row => row.cells[number].textContent)", number
        )

    gain = [text.lower() for text in heads.all_inner_texts()].index("psnr gain")
    heads.nth(gain).locator("button").click()
    assert column(gain) == ["+1.50", "+0.50", "−0.25"]
    assert heads.nth(gain).get_attribute("aria-sort") == "descending"
    heads.nth(gain).locator("button").press("Enter")
    assert column(gain) == ["−0.25", "+0.50", "+1.50"]
    heads.nth(0).locator("button").click()
    assert column(0).index("street/9.png") < column(0).index("street/10.png")
    assert [head for head in heads.evaluate_all("hs => hs.map(h => h.ariaSort)") if head != "none"] == ["ascending"]


def test_a_name_in_the_table_leads_to_its_pictures(open_report):
    page = open_report()
    page.get_by_role("link", name="street/10.png").click()
    target = page.locator(".viewer:target")
    assert target.locator("h3").inner_text() == "street/10.png"
    assert target.bounding_box()["y"] == pytest.approx(16, abs=4)
