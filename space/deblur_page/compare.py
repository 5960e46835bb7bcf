"""Compare: two models on one photo, and both with the sharp original where there is one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from torch import Tensor

from deblur_hub import DeblurHubError, metrics, pictures
from deblur_hub.errors import PictureError
from deblur_hub.pictures.suffixes import UPLOADS

from . import words
from .choices import choices, labels
from .folders import new_folder
from .line import Cancelled, Job, Line
from .one import finished, result_of
from .runs import MAX_MEGAPIXELS, Plan, Request, compute, plan
from .views import View, make_view

NO_SECOND = "none"


@dataclass(frozen=True)
class Compared:
    """The view, and a row for each picture: its name, seconds, and PSNR and SSIM where there is a sharp original."""

    view: View
    rows: tuple[tuple[str, float | None, float | None, float | None], ...]


def compared(plans: Sequence[Plan], sharp: Path | None, job: Job) -> Compared:
    """Restores one photo by each plan; with a single one its result stands beside the photo, or the sharp original.

    Raises:
        DeblurHubError: if a file cannot be read, or the original has another size.
        Cancelled: if nobody waits any more.
    """
    source = plans[0].request.source
    blurred, original = pictures.read(source, max_megapixels=MAX_MEGAPIXELS)
    target = None
    if sharp is not None:
        target, other = pictures.read(sharp, max_megapixels=MAX_MEGAPIXELS)
        if target.shape != blurred.shape:
            sizes = " and ".join(f"{name.size[0]}x{name.size[1]}" for name in (original, other))
            raise PictureError(f"{sharp.name}: is no sharp original of {source.name} ({sizes}); give one of its size")
    rows = [("Blurry", None, *scores(blurred, target))]
    sides = []
    for number, made in enumerate(plans):

        def report(done: int, total: int, number: int = number) -> None:
            job.report(number * total + done, len(plans) * total)

        started = job.seconds_passed()
        result = compute(made.choice, 0.0, blurred, progress=report)
        rows.append((made.choice.label, job.seconds_passed() - started, *scores(result, target)))
        sides.append((made.choice.label, result))
    if len(sides) == 1:
        sides = [sides[0], ("Sharp original", target)] if target is not None else [("Blurry", blurred), sides[0]]
    with new_folder() as folder:
        view = make_view([side for _, side in sides], original, folder, labels=(sides[0][0], sides[1][0]))
    return Compared(view, tuple(rows))


def scores(picture: Tensor, target: Tensor | None) -> tuple[float | None, float | None]:
    """PSNR in dB and SSIM, of values rounded to 8 bits, as `deblur-hub evaluate` computes them."""
    if target is None:
        return None, None
    one, two = (((side[:1] + 1) * 127.5).round().clamp(0, 255) / 255 for side in (picture, target))
    return float(metrics.psnr(one, two)), float(metrics.ssim(one, two))


def scored(result: Compared) -> str:
    def cell(value: float | None, form: str) -> str:
        return "" if value is None else f"{value:{form}}"

    rows = "".join(
        f"<tr><th scope=row>{words.sentence(name)[:-1]}</th><td>{cell(seconds, '.1f')}</td><td>{cell(psnr, '.2f')}</td>"
        f"<td>{cell(ssim, '.4f')}</td></tr>"
        for name, seconds, psnr, ssim in result.rows
    )
    head = "".join(f"<th scope=col>{name}</th>" for name in ("Picture", "Seconds", "PSNR, dB", "SSIM"))
    return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def build_compare(line: Line, app: gr.Blocks) -> None:
    """The tab that compares."""
    keys = list(choices())
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=7, min_width=300):
            with gr.Row():
                photo = gr.File(
                    label="Photo", file_types=UPLOADS, height=120, elem_id="compare-photo", elem_classes="drop-zone"
                )
                sharp = gr.File(
                    label="Its sharp original, if there is one",
                    file_types=UPLOADS,
                    height=120,
                    elem_id="compare-sharp",
                    elem_classes="drop-zone",
                )
            gr.HTML(words.viewer("compare-view"))
            data = gr.HTML("", elem_id="compare-view", elem_classes="data")
            with gr.Row(elem_classes="working", visible=False) as working:
                standing = gr.HTML()
                cancel = gr.Button("Cancel", min_width=110, scale=0)
            told = gr.HTML("", elem_id="scores")
        with gr.Column(scale=3, min_width=300, elem_classes="desk"):
            left = gr.Radio(labels()[1:], value=keys[0], label="Left", elem_id="compare-left")
            right = gr.Radio(
                [("None", NO_SECOND), *labels()[1:]], value=keys[-1], label="Right", elem_id="compare-right"
            )
            start = gr.Button("Compare", variant="primary", elem_id="compare-start")

    async def run(photo: str | None, sharp: str | None, left: str, right: str, request: gr.Request):
        idle = {working: gr.Row(visible=False), standing: ""}
        if not photo:
            yield {told: words.trouble(DeblurHubError("there is no photo yet; drop one into the first field"))}
            return
        yield {working: gr.Row(visible=True), standing: words.bar(0, "Looking at the photo"), told: ""}
        try:
            keys = [left] if right in (NO_SECOND, left) else [left, right]
            plans = [await asyncio.to_thread(plan, Request(Path(photo), key)) for key in keys]
            owner = f"{request.session_hash}-compare"
            seconds = sum(made.seconds for made in plans)
            turn = line.begin(owner)
            job = Job(lambda job: compared(plans, Path(sharp) if sharp else None, job), seconds, owner, turn)
            line.join(job)
            async for where in finished(line, job):
                yield {standing: where}
            result = result_of(job)
        except Cancelled:
            yield {**idle, told: words.remarks(["Cancelled"])}
        except DeblurHubError as error:
            yield {**idle, told: words.trouble(error)}
        else:
            yield {**idle, data: words.view_data(result.view), told: scored(result)}

    start.click(
        run,
        [photo, sharp, left, right],
        [working, standing, data, told],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )

    def leave(request: gr.Request) -> None:
        line.forget(f"{request.session_hash}-compare")

    cancel.click(leave, queue=False, api_visibility="private", show_progress="hidden")
    app.unload(leave)
