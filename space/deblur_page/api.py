"""The endpoints for programs; docs/api.md shows calls of each."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from deblur_hub import DeblurHubError

from .choices import AUTO, choices
from .line import Cancelled, Job, Line
from .many import restore_all
from .one import LOOK, result_of
from .runs import AS_UPLOADED, Request, plan, restored_file

PROGRESS = gr.Progress()  # as a default it tells Gradio that a function reports progress


def build_api(line: Line) -> None:
    """Invisible buttons, so that a client gives files and gets files."""

    async def deblur(
        photo: str,
        model: str = AUTO,
        strength: float = 1.0,
        crispness: float = 0.0,
        file_format: str = AS_UPLOADED,
        keep_place: bool = False,
        progress: gr.Progress = PROGRESS,
    ) -> str:
        """Restores a blurry photo; the result has its size and, if that can be written, its format and metadata.

        Args:
            photo: the picture, of 110 megapixels at most.
            model: "auto", the best that takes at most a minute, or a key that /models lists, such as "best".
            strength: a blend of the photo as it was, at 0, and the restored one, at 1.
            crispness: from 0, true to the photo, to 1, firmer edges that may add what was not there; runs "fast".
            file_format: "As uploaded", "PNG", "JPEG", "TIFF" or "WebP".
            keep_place: whether the result's metadata say where the photo was taken.

        Returns:
            The restored picture.
        """
        asked = Request(Path(require_file(photo)), model, float(crispness), float(strength), file_format, keep_place)
        with errors_of_gradio():
            made = await asyncio.to_thread(plan, asked)
            job = line.join(Job(lambda job: restored_file(made, job), made.seconds))
            try:
                while not job.future.done():
                    progress(job.share, desc="Restoring")
                    await asyncio.sleep(LOOK)
            finally:
                line.leave(job)
            return str(result_of(job))

    async def deblur_batch(
        photos: list[str],
        model: str = AUTO,
        file_format: str = AS_UPLOADED,
        keep_place: bool = False,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[str | None, dict[str, Any]]:
        """Restores up to 100 photos, or zip archives of them; what is wrong with one does not cost the others.

        Args:
            photos: pictures and zip archives.
            model: as in /deblur.
            file_format: as in /deblur.
            keep_place: as in /deblur.

        Returns:
            A zip archive of the restored pictures, and a report: "restored", their names in it; "failed", a sentence on
            each other picture; "pictures", how many there were.
        """

        def asked(path: Path) -> Request:
            return Request(path, model, file_format=file_format, keep_place=keep_place)

        with errors_of_gradio():
            async for batch, _ in restore_all(line, [Path(require_file(photo)) for photo in photos or []], asked):
                progress(batch.share, desc=f"{len(batch.done) + len(batch.failed)} of {batch.total}")
            return str(batch.archive) if batch.done else None, batch.report()

    def models() -> list[dict[str, Any]]:
        """Lists what /deblur takes as model.

        Returns:
            For each its key, its label, what it is for, and the seconds that this machine takes for a megapixel.
        """
        return [
            asdict(choice) | {"seconds_for_a_megapixel": round(choice.expected_seconds((1000, 1000)), 2)}
            for choice in choices().values()
        ]

    events = {"concurrency_limit": None, "show_progress": "hidden"}
    photo, photos = gr.File(visible=False), gr.File(visible=False, file_count="multiple")
    model, file_format = gr.Textbox(AUTO, visible=False), gr.Textbox(AS_UPLOADED, visible=False)
    strength, crispness = gr.Number(1.0, visible=False), gr.Number(0.0, visible=False)
    keep_place = gr.Checkbox(False, visible=False)
    result, report = gr.File(visible=False), gr.JSON(visible=False)
    button = gr.Button(visible=False)
    button.click(
        deblur, [photo, model, strength, crispness, file_format, keep_place], result, api_name="deblur", **events
    )
    button.click(
        deblur_batch, [photos, model, file_format, keep_place], [result, report], api_name="deblur_batch", **events
    )
    button.click(models, [], report, api_name="models", **events)


def require_file(path: str | None) -> str:
    if not path:
        raise gr.Error("there is no file in this call; upload one and name it", print_exception=False)
    return path


class errors_of_gradio:
    """Hands our sentences on, without a traceback."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Cancelled):
            raise gr.Error("the page is closing; call again later", print_exception=False) from None
        if isinstance(error, DeblurHubError):
            raise gr.Error(str(error), print_exception=False) from None
