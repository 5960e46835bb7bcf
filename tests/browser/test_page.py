"""The page in a real browser, as a visitor uses it."""

import io
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from deblur_hub import DeblurGenerator

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).resolve().parents[2] / "space" / "examples"
ORIENTATION_TAG = 274
TURNED_RIGHT = 6


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A real photograph of an odd size."""
    with Image.open(EXAMPLES / "square.jpg") as picture:
        return picture.convert("RGB").resize((157, 103), Image.Resampling.BICUBIC)


def upload(page, file: Path) -> None:
    page.set_input_files("#photo input[type=file]", file)


def wait_for_result(page, name: str) -> None:
    page.locator("#facts dd", has_text=name).first.wait_for()


def downloaded(page, folder: Path) -> tuple[str, Image.Image]:
    with page.expect_download() as waiting:
        page.click("#download")
    target = folder / "downloaded"
    waiting.value.save_as(target)
    picture = Image.open(target)
    picture.load()
    return waiting.value.suggested_filename, picture


def sides(page) -> tuple[np.ndarray, np.ndarray]:
    """The two pictures under the slider, as the browser gets them."""
    page.wait_for_function("[...document.querySelectorAll('#slider img')].every(i => i.complete && i.naturalWidth)")
    addresses = [image.get_attribute("src") for image in page.locator("#slider .content img").all()]
    before, after = (Image.open(io.BytesIO(page.request.get(address).body())) for address in addresses)
    assert before.format == after.format == "PNG"
    return np.asarray(before, dtype=float), np.asarray(after, dtype=float)


def is_as_wide_as_its_window(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_opens_on_an_example_that_is_already_deblurred(open_page):
    before, after = sides(open_page())

    with Image.open(EXAMPLES / "square.jpg") as example:
        assert np.array_equal(before, np.asarray(example))
        expected = np.asarray(DeblurGenerator.from_pretrained().deblur(example, quality="balanced"), dtype=float)
    assert np.abs(after - before).mean() > 0.5
    assert np.abs(after - expected).max() <= 2  # what the package gives, not a picture that was put there


@pytest.mark.parametrize("orientation", [None, TURNED_RIGHT])
def test_an_uploaded_photo_comes_back_upright_at_its_size_under_its_own_name(open_page, photo, tmp_path, orientation):
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION_TAG] = orientation
    file = tmp_path / "our holiday 7.jpg"
    photo.save(file, quality=92, exif=exif)
    upright = photo.transpose(Image.Transpose.ROTATE_270) if orientation else photo
    page = open_page()

    upload(page, file)
    wait_for_result(page, file.name)
    name, result = downloaded(page, tmp_path)

    assert name == "our holiday 7-deblurred.png"
    assert result.format == "PNG" and result.size == upright.size
    change = np.abs(np.asarray(result, dtype=float) - np.asarray(upright, dtype=float)).mean()
    assert 0.5 < change < 20  # restored, and still the same picture the same way up
    assert [side.shape[:2] for side in sides(page)] == [upright.size[::-1]] * 2
    assert f"{upright.width} × {upright.height} px" in page.inner_text("#facts").replace("\u2009", " ")


def test_an_upload_runs_once_by_itself_and_again_at_the_button(open_page, photo, tmp_path):
    file = tmp_path / "once.png"
    photo.save(file)
    page = open_page()

    def runs():
        return sum(urlsplit(url).path.endswith("/queue/join") for url in page.requested)

    upload(page, file)
    wait_for_result(page, file.name)
    page.wait_for_timeout(500)
    assert runs() == 1

    shown = page.locator("#slider .content img").first.get_attribute("src")
    page.click("#deblur")
    page.wait_for_function("old => document.querySelector('#slider .content img')?.src !== old", arg=shown)
    assert runs() == 2
    assert file.name in page.inner_text("#facts")


def test_a_photo_may_be_dropped_anywhere_on_the_page(open_page, photo, tmp_path):
    data = io.BytesIO()
    photo.save(data, "JPEG")
    page = open_page()

    page.evaluate(
        """bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" }));
            document.querySelector("h1").dispatchEvent(
                new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
        }""",
        list(data.getvalue()),
    )

    wait_for_result(page, "dropped.jpg")


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
    page = open_page()

    page.get_by_role("button", name="Example: Print on a wall").click()
    wait_for_result(page, "shop.jpg")
    name, result = downloaded(page, tmp_path)

    with Image.open(EXAMPLES / "shop.jpg") as example:
        assert (name, result.size) == ("shop-deblurred.png", example.size)


def test_no_request_leaves_the_loopback_address(open_page, photo, tmp_path):
    file = tmp_path / "private.jpg"
    photo.save(file)
    page = open_page()
    upload(page, file)
    wait_for_result(page, file.name)
    page.get_by_role("button", name="Example: Low light").click()
    wait_for_result(page, "rocket.jpg")

    hosts = {urlsplit(url).hostname for url in page.requested if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}


def test_a_phone_shows_the_page_without_sideways_scrolling(open_page, photo, tmp_path):
    page = open_page(390, 844)
    assert is_as_wide_as_its_window(page)

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


def test_the_arrow_keys_move_the_slider(open_page):
    page = open_page()
    handle = page.get_by_role("slider", name="Blurred on the left")
    assert handle.get_attribute("aria-valuenow") == "44"  # where the difference is plain

    handle.focus()
    for key in ("Home", "ArrowRight", "PageUp"):
        page.keyboard.press(key)

    page.wait_for_function("document.querySelector('#slider [role=slider]').getAttribute('aria-valuenow') === '12'")


def test_a_visitor_sets_the_crispness_and_chooses_a_model(open_page, photo, tmp_path):
    page = open_page()
    file = tmp_path / "ours.png"
    photo.save(file)
    upload(page, file)
    wait_for_result(page, "ours.png")
    page.get_by_label("fast", exact=True).click()
    page.click("#deblur")
    page.locator("#facts dd", has_text="fast").wait_for()
    _, plain = sides(page)
    page.locator("#crispness input[type=number]").fill("0.5")
    page.locator("#crispness input[type=number]").press("Enter")
    page.click("#deblur")
    page.locator("#facts dt", has_text="Crispness").wait_for()
    _, crisper = sides(page)
    expected = DeblurGenerator.from_pretrained("maxim").deblur(photo, quality="fast", crispness=0.5)
    assert np.abs(crisper - np.asarray(expected, dtype=float)).max() <= 2 and np.abs(crisper - plain).max() > 2

    page.click("#model input")
    page.get_by_role("option", name="compact").click()
    page.locator("#crispness").wait_for(state="hidden")
    page.locator("#quality").wait_for(state="hidden")
    page.get_by_text("Small and instant").wait_for()
    page.click("#deblur")
    wait_for_result(page, "compact")
    _, small = sides(page)
    expected = DeblurGenerator.from_pretrained("compact").deblur(photo)
    assert np.abs(small - np.asarray(expected, dtype=float)).max() <= 2


def test_a_visitor_chooses_a_quality_and_a_strength_takes_no_second_run(open_page, photo, tmp_path):
    page = open_page()
    file = tmp_path / "mine.png"
    photo.save(file)
    upload(page, file)
    wait_for_result(page, "mine.png")
    page.get_by_role("radio", name="draft").check()
    page.click("#deblur")
    wait_for_result(page, "draft")
    before, full = sides(page)
    expected = DeblurGenerator.from_pretrained().deblur(photo, quality="draft")
    assert np.abs(full - np.asarray(expected, dtype=float)).max() <= 2
    time = page.locator("#facts dd", has_text=" s").first.inner_text()

    page.locator("#strength input[type=number]").fill("0.5")
    page.locator("#strength input[type=number]").press("Enter")
    page.click("#deblur")
    wait_for_result(page, "50%")
    _, half = sides(page)
    assert np.abs(half - (before + full) / 2).max() <= 1.5
    assert page.locator("#facts dd", has_text=" s").first.inner_text() == time  # that of the one run


def test_the_endpoint_takes_a_file_and_gives_a_file_of_the_same_size(address, photo, tmp_path):
    from gradio_client import Client, handle_file

    file = tmp_path / "client.jpg"
    photo.save(file)
    client = Client(address, verbose=False, download_files=tmp_path)

    result = client.predict(handle_file(file), api_name="/deblur")

    assert Path(result).name == "client-deblurred.png"
    assert Image.open(result).size == photo.size
    crisper = client.predict(handle_file(file), model="maxim", quality="fast", crispness=0.5, api_name="/deblur")
    assert not np.array_equal(np.asarray(Image.open(crisper)), np.asarray(Image.open(result)))


def test_the_endpoint_answers_a_bad_file_with_the_sentence(address, tmp_path):
    from gradio_client import Client, handle_file

    file = tmp_path / "broken.jpg"
    file.write_text("no picture")

    with pytest.raises(Exception, match=r"^broken\.jpg: "):
        Client(address, verbose=False).predict(handle_file(file), api_name="/deblur")
