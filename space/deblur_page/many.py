"""Many photos: up to a hundred files or zip archives in, one archive out, each bad file named and the rest done."""

import asyncio
import html
import json
import shutil
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from deblur_hub import DeblurHubError
from deblur_hub.errors import reason_of
from deblur_hub.pictures.suffixes import UPLOADS, picture_suffixes

from . import words
from .choices import AUTO, labels
from .folders import make_folder
from .line import Cancelled, Job, Line
from .one import LOOK, result_of
from .runs import AS_UPLOADED, FORMATS, Request, Run, plan, restored

MOST = 100  # pictures
LARGEST = 400 * 2**20  # bytes of a file in an archive, unpacked
HIDDEN = ("__MACOSX", ".")  # what archives hold beside pictures


@dataclass
class Batch:
    """What became of each picture so far.

    Attributes:
        archive: the results, by their names.
        done: (name, run) of each that was restored; its own file is in the archive.
        failed: a sentence on each that was not.
        total: pictures in all.
    """

    archive: Path
    done: list[tuple[str, Run]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    total: int = 0

    @property
    def share(self) -> float:
        return (len(self.done) + len(self.failed)) / max(1, self.total)

    def report(self) -> dict[str, Any]:
        """For a program: names of what is in the archive, and what was wrong with the rest."""
        return {"restored": [name for name, _ in self.done], "failed": self.failed, "pictures": self.total}


@dataclass(frozen=True)
class Entry:
    """A picture to come: its name in the result, and a function that puts its file into a folder."""

    name: str
    take: Callable[[Path], Path]


def entries(files: Iterable[Path]) -> tuple[list[Entry], list[str]]:
    """All pictures of files and archives, and a sentence on each that cannot be taken.

    Raises:
        DeblurHubError: if there is none, or more than `MOST`.
    """
    found: list[Entry] = []
    wrong: list[str] = []
    for file in files:
        if zipfile.is_zipfile(file):
            try:
                found += archived(file)
            except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
                wrong.append(f"{file.name}: cannot be unpacked ({reason_of(error)}); make the archive again")
        else:
            found.append(Entry(file.name, lambda _, file=file: file))
    if not found:
        raise DeblurHubError("; ".join(wrong) or "there is no picture in it; add some photos, or a zip of photos")
    if len(found) > MOST:
        raise DeblurHubError(
            f"{len(found)} pictures are more than the {MOST} that this page takes at once; leave some out"
        )
    return found, wrong


def archived(archive: Path) -> Iterator[Entry]:
    taken = picture_suffixes()
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            parts = PurePosixPath(member.filename.replace("\\", "/")).parts
            parts = tuple(part for part in parts if part not in ("/", "..") and ":" not in part)
            if member.is_dir() or not parts or any(part.startswith(HIDDEN) for part in parts):
                continue
            if PurePosixPath(parts[-1]).suffix.lower() in taken:
                yield Entry("/".join(parts), lambda folder, name=member.filename: unpacked(archive, name, folder))


def unpacked(archive: Path, name: str, folder: Path) -> Path:
    """One file of an archive, which is as large as it says at most."""
    target = folder / PurePosixPath(name.replace("\\", "/")).name
    try:
        with zipfile.ZipFile(archive) as packed:
            if packed.getinfo(name).file_size > LARGEST:
                raise DeblurHubError(f"{name}: is larger than {LARGEST // 2**20} MB unpacked; make it smaller")
            with packed.open(name) as source, target.open("wb") as unpacking:
                shutil.copyfileobj(source, unpacking)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise DeblurHubError(f"{name}: cannot be unpacked ({reason_of(error)}); make the archive again") from error
    return target


async def restore_all(
    line: Line, files: list[Path], asked: Callable[[Path], Request], owner: str | None = None
) -> AsyncIterator[tuple[Batch, Job | None]]:
    """The state after each picture, and many times while one is worked on. Each stands in line anew, so that single
    photos of others come between. The archive is on the disk, and whole after each picture.

    Raises:
        DeblurHubError: as `entries` does; what is wrong with one picture is a sentence in the state.
        Cancelled: if the visitor leaves or cancels; the state that was given last stays true.
    """
    found, wrong = await asyncio.to_thread(entries, files)
    folder = make_folder()
    batch = Batch(folder / "deblurred.zip", failed=wrong, total=len(found) + len(wrong))
    taken: set[str] = set()
    turn = line.begin(owner)
    for entry in found:
        source = None
        try:
            source = await asyncio.to_thread(entry.take, folder)
            made = await asyncio.to_thread(plan, asked(source))
            job = line.join(Job(lambda job, made=made: restored(made, job, closer=False), made.seconds, owner, turn))
            try:
                while not job.future.done():
                    yield batch, job
                    await asyncio.sleep(LOOK)
            finally:
                line.leave(job)
            run = result_of(job)
            name = free_name(str(PurePosixPath(entry.name).with_name(run.file.name)), taken)
            await asyncio.to_thread(pack, batch.archive, run.file, name)
            batch.done.append((name, run))
        except DeblurHubError as error:
            batch.failed.append(str(error))
        if source is not None and source.parent == folder:
            source.unlink(missing_ok=True)
        yield batch, None


def free_name(name: str, taken: set[str]) -> str:
    path, number = PurePosixPath(name), 2
    while name.lower() in taken:
        name = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        number += 1
    taken.add(name.lower())
    return name


def pack(archive: Path, file: Path, name: str) -> None:
    """Moves a file into the archive, which it makes; pictures are compressed already."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as packing:
        packing.write(file, name)
    file.unlink()


def listed(batch: Batch) -> str:
    """The pictures as a list of buttons, each of which shows its own under the slider."""
    items = [
        f'<li><button type="button" data-item="{html.escape(json.dumps(asdict(run.view)))}">'
        f'<img src="{html.escape(run.view.after)}" alt="" loading="lazy"><span>{html.escape(name)}</span></button></li>'
        for name, run in batch.done
    ]
    wrong = "".join(f"<li>{html.escape(sentence.rstrip('.'))}.</li>" for sentence in batch.failed)
    problems = f'<ul class="problems" role="alert">{wrong}</ul>' if wrong else ""
    return f'<ol class="strip">{"".join(items)}</ol>{problems}'


def build_many(line: Line, app: gr.Blocks) -> None:
    """The tab of many photos."""
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=7, min_width=300, elem_id="many-result"):
            photos = gr.File(
                label="Your photos",
                file_count="multiple",
                file_types=[*UPLOADS, ".zip"],
                height=160,
                elem_id="photos",
                elem_classes="drop-zone",
            )
            with gr.Row(elem_classes="working", visible=False) as working:
                standing = gr.HTML(elem_id="many-standing")
                cancel = gr.Button("Cancel", elem_id="many-cancel", min_width=110, scale=0)
            gr.HTML(words.viewer("many-view"))
            data = gr.HTML("", elem_id="many-view", elem_classes="data")
            listing = gr.HTML("", elem_id="list")
        with gr.Column(scale=3, min_width=300, elem_classes="desk"):
            choice = gr.Radio(labels(), value=AUTO, label="Model", elem_id="many-choice")
            file_format = gr.Dropdown(list(FORMATS), value=AS_UPLOADED, label="Download as")
            keep_place = gr.Checkbox(False, label="Keep where they were taken (GPS)")
            start = gr.Button("Deblur all", variant="secondary", elem_id="many-start")
            download = gr.DownloadButton(
                "Download zip", variant="primary", interactive=False, elem_id="many-download", min_width=180
            )

    async def run(files: list[str] | None, choice: str, file_format: str, keep_place: bool, request: gr.Request):
        if not files:
            yield {listing: words.trouble(DeblurHubError("there are no photos yet; drop some into the field above"))}
            return
        owner = f"{request.session_hash}-many"
        yield {
            working: gr.Row(visible=True),
            standing: words.bar(0, "Looking at the photos"),
            listing: "",
            download: gr.DownloadButton(interactive=False),
        }
        batch, ended = None, ""
        shown = -1

        def asked(path: Path) -> Request:
            return Request(path, choice, file_format=file_format, keep_place=keep_place)

        try:
            async for batch, job in restore_all(line, [Path(file) for file in files], asked, owner):
                if job is not None:
                    number = len(batch.done) + len(batch.failed) + 1
                    doing = f"Picture {number} of {batch.total}"
                    yield {standing: words.standing(line, job, doing, batch.share, 1 / batch.total)}
                elif shown != len(batch.done) + len(batch.failed):
                    shown = len(batch.done) + len(batch.failed)
                    first = {data: words.view_data(batch.done[0][1].view)} if len(batch.done) == 1 else {}
                    yield {listing: listed(batch), **first}
        except Cancelled:
            ended = "Cancelled; the zip holds what was done by then"
        except DeblurHubError as error:
            yield {listing: words.trouble(error)}
        some = batch is not None and bool(batch.done)
        if batch is not None:
            summary = f"{len(batch.done)} of {batch.total} restored"
            text = words.remarks([ended or summary, *([summary] if ended else [])])
            yield {listing: text + listed(batch)}
        file = str(batch.archive) if some and batch is not None else None
        yield {
            working: gr.Row(visible=False),
            standing: "",
            download: gr.DownloadButton(value=file, interactive=some),
        }

    events = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    start.click(
        run,
        [photos, choice, file_format, keep_place],
        [working, standing, listing, data, download],
        trigger_mode="once",
        **events,
    )

    def leave(request: gr.Request) -> None:
        line.forget(f"{request.session_hash}-many")  # also the pictures to come

    cancel.click(leave, queue=False, api_visibility="private", show_progress="hidden")
    app.unload(leave)
