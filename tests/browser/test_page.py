"""The page in a real browser, as a visitor uses it."""

import io
import json
import os
import re
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from deblur_hub import DeblurGenerator, metrics

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).resolve().parents[2] / "space" / "examples"
ORIENTATION_TAG = 274
TURNED_RIGHT = 6
HARMLESS = ("minor", "moderate")  # of axe-core's grades
SIDES = ("before", "after")
CROSSED = [(1440, "dark"), (390, "light")]  # widths and themes that two other looks at the page have, too
FOLD = 844  # pixels of a telephone's height


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A real photograph of an odd size."""
    with Image.open(EXAMPLES / "square.jpg") as picture:
        return picture.convert("RGB").resize((157, 103), Image.Resampling.BICUBIC)


def upload(page, *files: Path, into: str = "#photo") -> None:
    page.set_input_files(f"{into} input[type=file]", [str(file) for file in files])


def choose(page, label: str, within: str = "#choice") -> None:
    page.locator(within).get_by_role("radio", name=re.compile(f"^{label}( ·|$)")).check()


def wait_for_result(page, name: str) -> None:
    page.locator("#facts dd", has_text=name).first.wait_for()


def instant(open_page, *size: int):
    """A page of which the quickest choice is made, for what is about no other."""
    page = open_page(*size)
    choose(page, "Instant")
    wait_for_result(page, "compact")
    return page


def downloaded(page, folder: Path, button: str = "#download") -> tuple[str, Path]:
    page.locator(f"{button}:not([disabled])").wait_for()
    with page.expect_download() as waiting:
        page.click(button)
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target.name, target


def shown(page, viewer: str = "view") -> dict:
    """What the viewer shows, once it does."""
    data = json.loads(page.locator(f"#{viewer} [data-view]").get_attribute("data-view"))
    page.wait_for_selector(f".viewer[data-from={viewer}][data-shown='{data['after']}']")
    return data


def sides(page, viewer: str = "view") -> tuple[np.ndarray, np.ndarray]:
    """The two pictures under the slider, as the browser gets them."""
    data = shown(page, viewer)
    pictures = [
        Image.open(io.BytesIO(page.request.get(f"{page.url}{data[side]}").body())) for side in ("before", "after")
    ]
    assert all(picture.format == "PNG" for picture in pictures)
    before, after = (np.asarray(picture, dtype=float) for picture in pictures)
    return before, after


def runs(page) -> int:
    return sum(urlsplit(url).path.endswith("/queue/join") for url in page.requested)


def is_as_wide_as_its_window(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_opens_on_an_example_that_is_already_deblurred(open_page):
    page = open_page()
    before, after = sides(page)
    assert runs(page) == 0  # it was restored before anybody came

    with Image.open(EXAMPLES / "square.jpg") as example:
        assert np.array_equal(before, np.asarray(example))
        expected = np.asarray(DeblurGenerator.from_pretrained().deblur(example, quality="balanced"), dtype=float)
    assert np.abs(after - before).mean() > 0.5
    assert np.abs(after - expected).max() <= 2  # what the package gives, not a picture that was put there


@pytest.mark.parametrize("orientation", [None, TURNED_RIGHT])
def test_an_uploaded_photo_comes_back_upright_in_its_own_format_as_the_package_writes_it(
    open_page, photo, tmp_path, orientation
):
    exif = Image.Exif()
    exif[271] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    if orientation:
        exif[ORIENTATION_TAG] = orientation
    file = tmp_path / "our holiday 7.jpg"
    photo.save(file, quality=92, exif=exif)
    upright = photo.transpose(Image.Transpose.ROTATE_270) if orientation else photo
    page = instant(open_page)

    upload(page, file)
    wait_for_result(page, file.name)
    name, result = downloaded(page, tmp_path)

    expected = DeblurGenerator.from_pretrained("compact").deblur_file(file, tmp_path / "expected.jpg", strip="gps")
    assert name == "our holiday 7-deblurred.jpg"
    with Image.open(result) as picture, Image.open(expected) as other:
        assert picture.format == "JPEG" and picture.size == upright.size
        assert np.array_equal(np.asarray(picture), np.asarray(other))
        assert picture.getexif()[271] == "Camera" and not picture.getexif().get_ifd(0x8825)
    assert f"{upright.width} × {upright.height} px" in page.inner_text("#facts").replace("\u2009", " ")
    data = shown(page)
    assert (data["width"], data["height"]) == upright.size

    page.get_by_label("Keep where it was taken").check()
    page.locator("#format input").click()
    page.get_by_role("option", name="PNG").click()
    page.locator("#download:not([disabled])", has_text="PNG").wait_for()
    name, result = downloaded(page, tmp_path)
    with Image.open(result) as picture:
        assert (name, picture.format) == ("our holiday 7-deblurred.png", "PNG")
        assert picture.getexif().get_ifd(0x8825)[1] == "N"


def test_an_upload_runs_once_by_itself_and_again_at_the_button(open_page, photo, tmp_path):
    file = tmp_path / "once.png"
    photo.save(file)
    page = instant(open_page)
    before = runs(page)
    upload(page, file)
    wait_for_result(page, file.name)
    page.wait_for_timeout(500)
    assert runs(page) == before + 1

    old = shown(page)["after"]
    page.click("#deblur")
    page.wait_for_function("old => document.querySelector('.viewer').dataset.shown !== old", arg=old)
    assert runs(page) == before + 2
    assert file.name in page.inner_text("#facts")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_photo_may_be_dropped_or_pasted_anywhere_on_the_page(open_page, photo, event):
    data = io.BytesIO()
    photo.save(data, "JPEG")
    page = instant(open_page)

    page.evaluate(
        """([bytes, event]) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "given.jpg", { type: "image/jpeg" }));
            const options = { bubbles: true, cancelable: true };
            document.querySelector("h1").dispatchEvent(
                event === "drop" ? new DragEvent("drop", { dataTransfer: files, ...options })
                                 : new ClipboardEvent("paste", { clipboardData: files, ...options }));
        }""",
        [list(data.getvalue()), event],
    )

    wait_for_result(page, "given.jpg")


def test_a_text_file_named_jpg_gets_one_sentence_and_no_download(open_page, tmp_path):
    file = tmp_path / "diary.jpg"
    file.write_text("dear diary, the camera shook again")
    page = open_page()

    upload(page, file)
    said = page.locator("[role=alert]", has_text="diary.jpg")
    said.wait_for()

    text = said.inner_text()
    assert text.startswith("diary.jpg: ") and text.endswith(".") and "\n" not in text
    assert "Traceback" not in page.inner_text("body")
    assert page.locator("#download").is_disabled()


def test_one_click_on_an_example_restores_it(open_page, tmp_path):
    page = instant(open_page)

    page.get_by_role("button", name="Example: Print on a wall").click()
    wait_for_result(page, "shop.jpg")
    name, result = downloaded(page, tmp_path)

    with Image.open(EXAMPLES / "shop.jpg") as example, Image.open(result) as restored:
        assert (name, restored.size) == ("shop-deblurred.jpg", example.size)


def test_no_request_leaves_the_loopback_address(open_page, photo, tmp_path):
    file = tmp_path / "private.jpg"
    photo.save(file)
    page = instant(open_page)
    upload(page, file)
    wait_for_result(page, file.name)
    page.get_by_role("button", name="Example: Low light").click()
    wait_for_result(page, "rocket.jpg")

    hosts = {urlsplit(url).hostname for url in page.requested if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}


def test_a_phone_shows_photo_slider_and_download_within_two_folds_and_never_scrolls_sideways(
    open_page, photo, tmp_path
):
    page = instant(open_page, 390, FOLD)
    assert is_as_wide_as_its_window(page)
    for part in ("#photo", ".stage", "#download"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 2 * FOLD, part

    long_name = tmp_path / f"{'a_very_long_name_' * 5}.jpg"
    photo.save(long_name)
    upload(page, long_name)
    wait_for_result(page, "a_very_long_name_")
    assert is_as_wide_as_its_window(page)

    broken = tmp_path / f"{'a_broken_file_' * 5}.jpg"
    broken.write_text("no picture")
    upload(page, broken)
    page.locator("[role=alert]").wait_for()
    assert is_as_wide_as_its_window(page)


def test_mouse_and_keys_move_the_slider_and_look_closer_with_both_sides_in_step(open_page):
    page = open_page()
    handle = page.get_by_role("slider", name="Blurry on the left")
    assert handle.get_attribute("aria-valuenow") == "44"  # where the difference is plain

    handle.focus()
    for key in ("Home", "ArrowRight", "PageUp"):
        page.keyboard.press(key)
    assert handle.get_attribute("aria-valuenow") == "12"

    stage = page.locator(".stage").first
    box = stage.bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 10)
    assert handle.get_attribute("aria-valuenow") == "75"
    share = page.evaluate("parseFloat(document.querySelector('.stage .after').style.clipPath.split(' ')[3])")
    assert share == pytest.approx(0.75 * shown(page)["width"], rel=0.01)

    page.keyboard.press("1")
    page.keyboard.press("+")
    assert page.inner_text(".tools output") == "150 %"
    before, after = (
        page.locator(f".stage .{side}").first.evaluate("e => e.style.transform") for side in ("before", "after")
    )
    assert before == after and "scale(1.5)" in before
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 80)
    page.mouse.up()
    moved = page.locator(".stage .after").first.evaluate("e => e.style.transform")
    assert moved != before and handle.get_attribute("aria-valuenow") == "75"
    page.keyboard.press("0")
    assert "scale(1.5)" not in page.locator(".stage .after").first.evaluate("e => e.style.transform")


def test_the_magnifiers_show_the_most_changed_region_of_both(open_page):
    page = open_page()
    before, after = sides(page)
    spot = shown(page)["spot"]
    place = slice(spot["y"], spot["y"] + spot["height"]), slice(spot["x"], spot["x"] + spot["width"])
    for side, whole in (("before", before), ("after", after)):
        cut = Image.open(io.BytesIO(page.request.get(f"{page.url}{spot[side]}").body()))
        assert np.array_equal(np.asarray(cut, dtype=float), whole[place])
    change = np.abs(after - before)
    assert change[place].mean() > 1.2 * change.mean()

    page.get_by_role("button", name="Look closer, restored").click()
    assert page.inner_text(".tools output") in ("100 %", "101 %")  # of a photo that fits at its own size


def test_a_visitor_sets_the_crispness_and_chooses_a_model(open_page, photo, tmp_path):
    page = open_page()
    file = tmp_path / "ours.png"
    photo.save(file)
    choose(page, "Fast")
    wait_for_result(page, "fast")
    upload(page, file)
    wait_for_result(page, "ours.png")
    _, plain = sides(page)
    page.locator("#crispness input[type=number]").fill("50")
    page.locator("#crispness input[type=number]").press("Enter")
    page.click("#deblur")
    page.locator("#facts dt", has_text="Crispness").wait_for()
    _, crisper = sides(page)
    expected = DeblurGenerator.from_pretrained("maxim").deblur(photo, quality="fast", crispness=0.5)
    assert np.abs(crisper - np.asarray(expected, dtype=float)).max() <= 2 and np.abs(crisper - plain).max() > 2


def test_the_strength_changes_at_once_and_takes_no_second_run(open_page, photo, tmp_path):
    page = open_page()
    file = tmp_path / "mine.png"
    photo.save(file)
    choose(page, "Instant")
    wait_for_result(page, "compact")
    upload(page, file)
    wait_for_result(page, "mine.png")
    before, full = sides(page)
    data = shown(page)

    page.locator("#strength input[type=number]").fill("50")
    assert page.locator(".stage .after").first.evaluate("e => e.style.opacity") == "0.5"
    page.wait_for_timeout(300)
    _, result = downloaded(page, tmp_path)
    assert np.abs(np.asarray(Image.open(result), dtype=float) - (before + full) / 2).max() <= 1.5
    assert shown(page) == data  # that of the one run


def test_a_long_run_shows_a_preview_the_time_left_and_ends_at_cancel(open_page, photo, tmp_path):
    page = instant(open_page)
    file = tmp_path / "large.jpg"
    photo.resize((1000, 733)).save(file)
    upload(page, file)
    wait_for_result(page, "large.jpg")

    choose(page, "Best")
    bar = page.locator("#standing [role=progressbar]")
    bar.wait_for()
    page.wait_for_selector(".tag.preview:not([hidden])")
    page.wait_for_function(
        "Number(document.querySelector('#standing [role=progressbar]')?.getAttribute('aria-valuenow')) >= 1"
    )
    assert re.search(r"Restoring · \d+% · about \d+ (s|min) left", page.inner_text("#standing"))

    page.click("#cancel")
    page.get_by_text("Cancelled; press Deblur").wait_for()
    assert not page.locator("#cancel").is_visible()
    choose(page, "Instant")
    wait_for_result(page, "compact")


def test_many_photos_and_a_zip_come_back_in_one_with_the_bad_ones_named(open_page, photo, tmp_path):
    page = open_page()
    photo.save(tmp_path / "one.png")
    photo.rotate(90, expand=True).save(tmp_path / "two.jpg")
    (tmp_path / "bad.jpg").write_text("no picture")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as packed:
        packed.write(tmp_path / "two.jpg", "../trip/two.jpg")
        packed.write(tmp_path / "one.png", "__MACOSX/._one.png")

    page.get_by_role("tab", name="Many photos").click()
    choose(page, "Instant", "#many-choice")
    upload(page, *(tmp_path / name for name in ("one.png", "two.jpg", "bad.jpg", "more.zip")), into="#photos")
    page.locator("#photos", has_text="more").wait_for()
    page.click("#many-start")
    page.get_by_text("3 of 4 restored").wait_for()
    assert "bad.jpg: " in page.inner_text("#list [role=alert]")
    name, result = downloaded(page, tmp_path, "#many-download")

    assert name == "deblurred.zip"
    with zipfile.ZipFile(result) as packed:
        assert sorted(packed.namelist()) == ["one-deblurred.png", "trip/two-deblurred.jpg", "two-deblurred.jpg"]
        restored = np.asarray(Image.open(packed.open("one-deblurred.png")), dtype=int)
    expected = np.asarray(DeblurGenerator.from_pretrained("compact").deblur(photo), dtype=int)
    assert np.abs(restored - expected).max() <= 1
    page.locator("#list button", has_text="trip/two-deblurred.jpg").click()
    page.wait_for_selector(".viewer[data-from=many-view][data-shown]")


def test_two_models_and_the_sharp_original_are_compared(open_page, photo, tmp_path):
    page = open_page()
    photo.save(tmp_path / "sharp.png")
    blurry = photo.resize((79, 52)).resize(photo.size, Image.Resampling.BICUBIC)
    blurry.save(tmp_path / "blurry.png")

    page.get_by_role("tab", name="Compare").click()
    upload(page, tmp_path / "blurry.png", into="#compare-photo")
    upload(page, tmp_path / "sharp.png", into="#compare-sharp")
    page.locator("#compare-sharp", has_text="sharp").wait_for()
    choose(page, "Fast", "#compare-left")
    choose(page, "Instant", "#compare-right")
    page.click("#compare-start")
    table = page.locator(".scores")
    table.wait_for()

    rows = [row.inner_text().split("\t") for row in table.locator("tbody tr").all()]
    psnr = metrics.psnr(np.asarray(blurry), np.asarray(photo))
    assert rows[0][0] == "Blurry" and rows[0][2] == f"{psnr:.2f}"
    assert [row[0] for row in rows[1:]] == ["Fast", "Instant"]
    assert shown(page, "compare-view")["labels"] == ["Fast", "Instant"]


@pytest.mark.parametrize(
    ("width", "theme"),
    [(1440, "light"), (390, "dark"), *(pytest.param(*other, marks=pytest.mark.full) for other in CROSSED)],
)
def test_axe_finds_nothing_serious_at_any_size_and_light(open_page, tmp_path, width, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    page = open_page(width, 900, f"?__theme={theme}")
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    for tab in ("One photo", "Many photos", "Compare"):
        page.get_by_role("tab", name=tab).click()
        page.screenshot(path=folder / f"{tab.split()[0].lower()}-{width}-{theme}.png", full_page=True)
        found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).response
        serious = {
            rule["id"]: [node["html"][:200] for node in rule["nodes"]]
            for rule in found["violations"]
            if rule["impact"] not in HARMLESS
        }
        assert not serious, tab


def test_a_page_that_is_closed_ends_its_work(open_page, photo, tmp_path, address):
    gradio_client = pytest.importorskip("gradio_client")
    photo.resize((1800, 1400)).save(tmp_path / "large.jpg")
    photo.save(tmp_path / "small.png")
    page = open_page()
    choose(page, "Best")
    upload(page, tmp_path / "large.jpg")
    page.wait_for_selector(".tag.preview:not([hidden])")  # it works, for minutes
    page.context.close()

    job = gradio_client.Client(address, verbose=False).submit(
        gradio_client.handle_file(tmp_path / "small.png"), model="instant", api_name="/deblur"
    )
    assert job.result(timeout=60)
