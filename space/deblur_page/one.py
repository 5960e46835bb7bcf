"""One photo: it is restored as soon as it is there, shown under the slider, and downloaded in its own format."""

import asyncio
import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from deblur_hub import DeblurHubError
from deblur_hub.pictures.suffixes import UPLOADS

from . import words
from .choices import AUTO, choices, labels
from .line import Cancelled, Job, Line
from .runs import AS_UPLOADED, FORMATS, Plan, Request, Run, plan, restored, rewritten

LOOK = 0.1  # seconds between two looks at a job
EXAMPLES_FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = {  # the pictures of the gallery and the blur in each
    EXAMPLES_FOLDER / "square.jpg": "Camera shake",
    EXAMPLES_FOLDER / "shop.jpg": "Print on a wall",
    EXAMPLES_FOLDER / "kiosk.jpg": "Panned too fast",
    EXAMPLES_FOLDER / "banner.jpg": "Taken while walking",
    EXAMPLES_FOLDER / "street.jpg": "Leaves and branches",
    EXAMPLES_FOLDER / "dahlia.jpg": "Moving subject",
    EXAMPLES_FOLDER / "rocket.jpg": "Low light",
    EXAMPLES_FOLDER / "cat.jpg": "Light defocus",
    EXAMPLES_FOLDER / "cup.jpg": "Already sharp",
    EXAMPLES_FOLDER / "lost.jpg": "Beyond help",
}
OPENING = next(iter(EXAMPLES))  # what the page opens with
OPENING_CHOICE = "balanced"  # for which everybody waits
SLIDER_AT = 0.44  # of the width: between the people of the opening picture, and before its print


def opening_run(line: Line) -> Run:
    """The first example, restored before anybody comes."""
    key = OPENING_CHOICE if OPENING_CHOICE in choices() else next(iter(choices()))
    made = plan(Request(OPENING, key))
    run = line.join(Job(lambda job: restored(made, job), made.seconds)).future.result()
    assert isinstance(run, Run)
    return run


async def finished(line: Line, job: Job) -> AsyncIterator[str]:
    """Where the job stands, each time that it has changed, until it ends; it ends with who waits for it."""
    told = ""
    try:
        while not job.future.done():
            now = words.standing(line, job)
            if now != told:
                told = now
                yield now
            await asyncio.sleep(LOOK)
    finally:
        if not job.future.done():
            line.leave(job)


def result_of(job: Job) -> Any:
    """What the job came to.

    Raises:
        Cancelled: also if it was taken out of the line before its turn.
        DeblurHubError: as its work does.
    """
    if job.future.cancelled():
        raise Cancelled
    return job.future.result()


def build_one(line: Line, opening: Run, app: gr.Blocks) -> None:
    """The tab of one photo."""
    shown = gr.State(str(OPENING))
    current = gr.State(opening)
    with gr.Row(elem_id="bench"):
        with gr.Column(elem_id="result", scale=7, min_width=300):
            photo = gr.File(
                label="Your photo", file_types=UPLOADS, height=84, elem_id="photo", elem_classes="drop-zone"
            )
            gr.HTML(words.viewer("view"))
            data = gr.HTML(words.view_data(opening.view.at(SLIDER_AT)), elem_id="view", elem_classes="data")
            with gr.Row(elem_id="working", visible=False) as working:
                standing = gr.HTML(elem_id="standing")
                cancel = gr.Button("Cancel", elem_id="cancel", min_width=110, scale=0)
            with gr.Row(elem_id="outcome"):
                told = gr.HTML(words.facts(opening), elem_id="facts")
                download = gr.DownloadButton(
                    download_label(opening.file),
                    value=str(opening.file),
                    variant="primary",
                    elem_id="download",
                    min_width=180,
                )
        with gr.Column(elem_id="desk", scale=3, min_width=300):
            height, width = opening.size[1], opening.size[0]
            choice = gr.Radio(
                labels((height, width)),
                value=AUTO,
                label="Model",
                info="Seconds for this photo on this machine. Auto takes the best that needs at most a minute.",
                elem_id="choice",
            )
            strength = gr.Slider(
                0,
                100,
                value=100,
                step=1,
                label="Strength in percent",
                info="0 is your photo as it was. Changes at once.",
                buttons=[],
                elem_id="strength",
            )
            crispness = gr.Slider(
                0,
                100,
                value=0,
                step=5,
                label="Crispness in percent",
                info="Firmer edges, which may add what was not there; takes a new run at Fast.",
                visible=any(one.can_be_crisp for one in choices().values()),
                buttons=[],
                elem_id="crispness",
            )
            file_format = gr.Dropdown(list(FORMATS), value=AS_UPLOADED, label="Download as", elem_id="format")
            keep_place = gr.Checkbox(False, label="Keep where it was taken (GPS)", elem_id="keep-place")
            button = gr.Button("Deblur", variant="secondary", elem_id="deblur")
            gr.HTML(words.EXPECTATIONS)

    settings = [choice, strength, crispness, file_format, keep_place]
    outputs = [shown, current, photo, data, working, standing, told, download, choice]

    async def run(
        path: str, asked: Request, owner: str | None, *, uploaded: bool = False
    ) -> AsyncIterator[dict[Any, Any]]:
        turn, job = line.begin(owner), None
        yield {
            shown: path,
            **({photo: None} if uploaded else {}),  # another run leaves a photo alone that arrives just now
            working: gr.Row(visible=True),
            standing: words.bar(0, "Looking at the photo"),
            download: gr.DownloadButton(interactive=False),
        }
        idle = {working: gr.Row(visible=False), standing: ""}
        try:
            made: Plan = await asyncio.to_thread(plan, asked)
            job = Job(lambda job: restored(made, job), made.seconds, owner, turn)
            line.join(job)
            yield {choice: gr.Radio(await asyncio.to_thread(labels, made.size))}
            preview = None
            async for where in finished(line, job):
                yield {standing: where}
                if job.preview is not preview:
                    preview = job.preview
                    yield {data: words.view_data(preview)}
            result = result_of(job)
        except Cancelled:
            if job is None or not job.replaced:
                yield {**idle, told: words.remarks(["Cancelled; press Deblur to begin again"])}
        except DeblurHubError as error:
            yield {**idle, told: words.trouble(error)}
        else:
            yield {
                **idle,
                current: result,
                data: words.view_data(result.view),
                told: words.facts(result),
                download: ready(result.file),
            }

    async def show_photo(
        photo: str | None,
        shown: str,
        choice: str,
        strength: float,
        crispness: float,
        file_format: str,
        keep_place: bool,
        request: gr.Request,
    ):
        path = photo or shown  # the button works on what is shown; an upload has just put something new there
        asked = Request(Path(path), choice, crispness / 100, strength / 100, file_format, keep_place)
        async for update in run(path, asked, request.session_hash, uploaded=photo is not None):
            yield update

    def picked(example: gr.SelectData) -> str:
        return str(list(EXAMPLES)[example.index])

    async def rewrite(current: Run, strength: float, file_format: str, keep_place: bool):
        yield gr.DownloadButton("Preparing", interactive=False)
        asked = Request(
            current.request.source,
            current.choice.key,
            current.request.crispness,
            strength / 100,
            file_format,
            keep_place,
        )
        try:
            file, notes = await asyncio.to_thread(rewritten, current, asked)
        except DeblurHubError as error:
            gr.Info(html.escape(str(error)))
            yield gr.DownloadButton("Download", interactive=False)
        else:
            for note in notes:
                gr.Info(html.escape(note))
            yield ready(file)

    # The line of our own is the only one: everybody gets in and is told the place.
    events = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    show = {"fn": show_photo, "inputs": [photo, shown, *settings], "outputs": outputs, **events}
    gr.on([photo.upload, button.click, choice.input, crispness.release], trigger_mode="multiple", **show)
    gr.on(
        [strength.change, file_format.input, keep_place.input],
        rewrite,
        [current, strength, file_format, keep_place],
        download,
        trigger_mode="always_last",
        **events,
    )

    def forget(request: gr.Request) -> None:
        if request.session_hash:
            line.forget(request.session_hash)

    cancel.click(forget, queue=False, api_visibility="private", show_progress="hidden")
    app.unload(forget)

    gr.HTML('<h2 class="gallery-title">Or start from an example</h2>')
    gallery = gr.Gallery(
        [(str(path), caption) for path, caption in EXAMPLES.items()],
        label="Examples",
        show_label=False,
        columns=5,
        rows=2,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        format="jpeg",
        elem_id="gallery",
    )
    gallery.select(picked, None, shown, trigger_mode="multiple", **events).then(**show)


def ready(file: Path) -> gr.DownloadButton:
    return gr.DownloadButton(download_label(file), value=str(file), interactive=True)


def download_label(file: Path) -> str:
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WebP"}
    return f"Download {kind.get(file.suffix.lower(), file.suffix[1:].upper())}"
