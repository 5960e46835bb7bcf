"""The page: a blurry photo goes in, the restored one comes back under a slider and as a full-size PNG.

`python space/app.py` runs it here or as a Hugging Face Space; `deblur-hub demo` does the same. The pictures go the same
way as in the shell; this file only receives, shows and hands out.
"""

import html
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: with it the page touches no network at all
os.environ["GRADIO_RUN_HISTORY"] = "False"  # visitors' photos are not listed in their browser
sys.path.insert(0, str(Path(__file__).resolve().parent))  # `deblur-hub demo` does not run this file as a script

import gradio as gr
import torch.nn.functional as F
from gradio.utils import get_upload_folder
from PIL import Image
from torch import Tensor
from zero_gpu import on_zero_gpu

from deblur_hub import DeblurGenerator, DeblurHubError, list_models
from deblur_hub import pictures as images
from deblur_hub.restoration.quality import require_strength, with_strength

HERE = Path(__file__).resolve().parent
MAX_MEGAPIXELS = 100
MAX_FILE_SIZE = "400mb"  # a 16-bit PNG of 60 megapixels
PREVIEW_SIDE = 2000  # pixels; more than a slider can show, little enough for a slow line
HOUR = 3600


EXAMPLES = {  # the pictures of the gallery and the blur in each
    HERE / "examples/square.jpg": "Camera shake",
    HERE / "examples/shop.jpg": "Print on a wall",
    HERE / "examples/kiosk.jpg": "Panned too fast",
    HERE / "examples/banner.jpg": "Taken while walking",
    HERE / "examples/street.jpg": "Leaves and branches",
    HERE / "examples/dahlia.jpg": "Moving subject",
    HERE / "examples/rocket.jpg": "Low light",
    HERE / "examples/cat.jpg": "Light defocus",
    HERE / "examples/cup.jpg": "Already sharp",
    HERE / "examples/lost.jpg": "Beyond help",
}
OPENING = next(iter(EXAMPLES))  # what the page opens with
OPENING_QUALITY = "balanced"  # for which everybody waits
SLIDER_AT = 44  # percent from the left: between the people of the opening picture, and before its print

ADVICE = {
    "maxim": "The best here: Google's MAXIM, with our refiner, which knows noise, JPEG and photos that are sharp.",
    "compact": "Small and instant on any computer, and takes only the edge off.",
}
AUTOMATIC = "auto"
BAR = gr.Progress()  # as a default it tells Gradio that a function moves the progress bar
LARGEST_KEPT = 8e6  # pixels of the last result that is kept for another strength


# The work ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Computed:
    """What a run computed of a picture, before it is blended with it."""

    blurred: Tensor
    restored: Tensor
    original: images.Original
    quality: str
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Restored:
    """What one run gave: the full-size file, the two sides of the slider, and what to say about them."""

    file: Path
    before: Path
    after: Path
    run: Computed
    model: str
    strength: float
    crispness: float
    notes: tuple[str, ...]


LAST: dict[tuple[Path, str, float, str | None], Computed] = {}  # at most one, so that its strength can be set at once


def offered_models() -> list[str]:
    """The bundled models, behind that of `space.toml`, which `publish-space --model` puts beside this file."""
    try:
        first = [str(tomllib.loads((HERE / "space.toml").read_text(encoding="utf-8"))["model"])]
    except FileNotFoundError:
        first = []
    except (OSError, ValueError, KeyError) as reason:
        raise DeblurHubError(f'space.toml: names no model ({reason}); write: model = "owner/name"') from None
    return list(dict.fromkeys([*first, *list_models()]))


@cache
def generator_named(model: str) -> DeblurGenerator:
    """The model, loaded once for as long as the page runs."""
    return DeblurGenerator.from_pretrained(model)


def asked(model: str, quality: str) -> str | None:
    """The quality of the page's choice; None where the model or the machine chooses."""
    return quality if quality in generator_named(model).qualities else None


def possible(model: str, crispness: float) -> float:
    """The crispness of the page's slider, which a model without a partner does not show and leaves as it was."""
    return crispness if generator_named(model).can_be_crisp else 0.0


def quality_choices(model: str) -> dict[str, Any]:
    """What the page offers of a model's qualities, hidden where it has only one."""
    qualities = generator_named(model).qualities
    return {"choices": [AUTOMATIC, *qualities], "value": AUTOMATIC, "visible": bool(qualities)}


def restore(
    source: Path,
    model: str,
    crispness: float = 0.0,
    quality: str | None = None,
    strength: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restores a picture file into a folder of Gradio's cache, whose files are deleted after some hours.

    The steps are those of `DeblurGenerator.deblur_file`, with a look at the picture before and after. The same picture
    at another strength takes no second run.

    Raises:
        DeblurHubError: if the file is no picture that can be restored, or the model cannot be that crisp; one sentence.
    """
    key = (source, model, crispness, quality)
    run = LAST.get(key) or computed(*key, progress)
    LAST.clear()
    if run.blurred[:, 0].numel() <= LARGEST_KEPT:
        LAST[key] = run
    original, blended = run.original, with_strength(run.blurred, run.restored, require_strength(strength))
    with new_folder() as folder:
        suffix, notes = suffix_for(original)
        file = images.write(blended, original, folder / f"{source.stem}-deblurred{suffix}")
        before = preview(run.blurred, original, folder / "before.png")
        after = preview(blended, original, folder / "after.png")
    return Restored(file, before, after, run, model, strength, crispness, original.notes + run.notes + notes)


def computed(
    source: Path, model: str, crispness: float, quality: str | None, progress: Callable[[int, int], None] | None
) -> Computed:
    generator = generator_named(model).with_crispness(crispness)
    started = time.perf_counter()
    blurred, original = images.read(source, max_megapixels=MAX_MEGAPIXELS)
    notes: tuple[str, ...] = ()
    if generator.qualities and quality is None:
        choice = generator.choose_quality(blurred.shape[-2:], len(blurred))
        quality = choice.name
        if choice.name != choice.best:
            notes = (f"Quality '{choice.best}' would take about {choice.best_seconds:.0f} s here.",)
    restored = run_model(model, crispness, quality, blurred, progress=progress)
    seconds = time.perf_counter() - started
    return Computed(blurred, restored, original, quality if generator.qualities else "", seconds, notes)


@on_zero_gpu
def run_model(
    model: str,
    crispness: float,
    quality: str | None,
    blurred: Tensor,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    generator = generator_named(model).with_crispness(crispness)
    return generator.restore(blurred, quality=quality, progress=progress)


@contextmanager
def new_folder() -> Iterator[Path]:
    """An empty folder where Gradio keeps its files; it vanishes again if the work in it fails."""
    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def suffix_for(original: images.Original) -> tuple[str, tuple[str, ...]]:
    """.png, or .tif and a sentence why for the few pictures that a PNG cannot hold."""
    if original.channels == "CMYK" or original.mode in ("I", "F"):
        return ".tif", ("PNG has no place for such samples (printing inks, floats), so the download is a TIFF.",)
    return ".png", ()


def preview(picture: Tensor, original: images.Original, target: Path) -> Path:
    """Writes (P, 3, H, W) in [-1, 1] as an 8-bit PNG of at most `PREVIEW_SIDE` pixels that any browser can show."""
    height, width = picture.shape[-2:]
    shrink = max(height, width) / PREVIEW_SIDE
    if shrink > 1:
        size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        picture = F.interpolate(picture, size=size, mode="area")
    light = ((picture.float() + 1) / 2).clamp(0, 1)
    colours = light[0]
    if original.channels == "CMYK":
        colours = colours * light[1]
    profile = original.metadata.icc_profile if original.channels.startswith("RGB") else None
    pixels = (colours * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels)
    if isinstance(original.kept, Image.Image) and original.channels.endswith("A"):
        image.putalpha(original.kept.convert("RGBA").getchannel("A").resize(image.size, Image.Resampling.BOX))
    image.save(target, compress_level=3, icc_profile=profile)
    return target


# The words -----------------------------------------------------------------------------------------------------------

HEADER = """
<header class="masthead">
  <p class="wordmark"><span class="mark" aria-hidden="true"></span>deblur-hub</p>
  <h1>A sharper photo, at its full size.</h1>
  <p class="lede">Drop in a picture that shook; it comes back in the same size, ready to download. It goes no further
  than the machine that runs this page, and is deleted there after some hours.</p>
</header>
"""

EXPECTATIONS = """
<section class="expect">
  <h2>What to expect</h2>
  <p><strong>Helps most</strong> with motion blur: a hand that shook, a camera that panned, a subject that moved.</p>
  <p><strong>Helps little</strong> with strong defocus, faces, tiny text and dark scenes with smeared lamps. What the
  blur has erased does not come back, and a sharp photo comes back almost as it was.</p>
</section>
"""


def facts(result: Restored) -> str:
    run = result.run
    width, height = run.original.size
    rows = {
        "Picture": html.escape(run.original.name),
        "Size": f"{width}&thinsp;×&thinsp;{height} px",
        "Time": f"{run.seconds:.1f} s",
        "Model": html.escape(result.model),
    }
    if run.quality:
        rows["Quality"] = html.escape(run.quality)
    if result.strength != 1:
        rows["Strength"] = f"{result.strength:.0%}"
    if result.crispness:
        rows["Crispness"] = f"{result.crispness:g}"
    listed = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in rows.items())
    notes = list(result.notes)
    if max(width, height) > PREVIEW_SIDE:
        notes.append(f"The slider shows {PREVIEW_SIDE} pixels; the download has all {width} × {height}.")
    remarks = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return f'<dl class="facts">{listed}</dl>{remarks}'


def sentence(error: DeblurHubError) -> str:
    """The error as it is, safe to show; a file's name in it may hold anything."""
    return f'<p class="trouble" role="alert">{html.escape(str(error).rstrip("."))}.</p>'


# The page ------------------------------------------------------------------------------------------------------------


def build_app() -> gr.Blocks:
    """The page, opening on the first example as it was restored just now.

    Raises:
        DeblurHubError: if no model can be loaded.
    """
    models = offered_models()
    if not models:
        raise DeblurHubError("no model is bundled with this deblur-hub; install it again")
    opening = restore(OPENING, models[0], quality=asked(models[0], OPENING_QUALITY))

    with gr.Blocks(title="deblur-hub", delete_cache=(HOUR, 6 * HOUR), analytics_enabled=False) as app:
        shown = gr.State(str(OPENING))
        gr.HTML(HEADER)
        with gr.Row(elem_id="bench"):
            with gr.Column(elem_id="result", scale=7, min_width=300):
                slider = gr.ImageSlider(
                    value=(str(opening.before), str(opening.after)),
                    format="png",
                    type="filepath",
                    label="Blurred on the left, restored on the right",
                    show_label=False,
                    buttons=["fullscreen"],
                    max_height=540,
                    slider_position=SLIDER_AT,
                    interactive=False,
                    elem_id="slider",
                )
                with gr.Row(elem_id="outcome"):
                    told = gr.HTML(facts(opening), elem_id="facts")
                    download = gr.DownloadButton(
                        "Download PNG", value=str(opening.file), variant="primary", elem_id="download", min_width=180
                    )
            with gr.Column(elem_id="desk", scale=3, min_width=300):
                photo = gr.File(label="Your photo", file_types=["image"], height=190, elem_id="photo")
                model = gr.Dropdown(
                    models,
                    value=models[0],
                    label="Model",
                    info=ADVICE.get(models[0]),
                    visible=len(models) > 1,
                    elem_id="model",
                )
                if len(models) == 1:
                    name, advice = html.escape(models[0]), html.escape(ADVICE.get(models[0], ""))
                    gr.HTML(f'<p class="model-line">Model <strong>{name}</strong>. {advice}</p>')
                quality = gr.Radio(
                    label="Quality",
                    info="Auto takes the best that needs at most a minute.",
                    elem_id="quality",
                    **quality_choices(models[0]),
                )
                share = {"minimum": 0, "maximum": 1, "step": 0.05, "buttons": []}
                strength = gr.Slider(
                    value=1,
                    label="Strength",
                    info="0 is your photo as it was, 1 the restored one; takes no second run.",
                    elem_id="strength",
                    **share,
                )
                crispness = gr.Slider(
                    value=0,
                    label="Crispness",
                    info="0 is truest to the photo; higher is firmer, and may add what was not there. Of quality fast.",
                    visible=generator_named(models[0]).can_be_crisp,
                    elem_id="crispness",
                    **share,
                )
                button = gr.Button("Deblur", variant="secondary", elem_id="deblur")
                gr.HTML(EXPECTATIONS)
        outputs = [slider, told, download]
        work = {"concurrency_limit": 1, "concurrency_id": "model"}
        private = {"api_visibility": "private", "show_progress": "full", "show_progress_on": slider}

        def show_photo(
            photo: str | None, shown: str, model: str, quality: str, strength: float, crispness: float, progress=BAR
        ):
            path = photo or shown  # the button works on what is shown; an upload has just put something new there
            choices = model, possible(model, crispness), asked(model, quality), strength
            try:
                result = restore(Path(path), *choices, lambda done, total: progress(done / total, desc="Restoring"))
            except DeblurHubError as error:
                return path, None, None, sentence(error), gr.DownloadButton(value=None, interactive=False)
            kind = result.file.suffix[1:].replace("tif", "TIFF").upper()
            ready = gr.DownloadButton(f"Download {kind}", value=str(result.file), interactive=True)
            return path, None, (str(result.before), str(result.after)), facts(result), ready

        def show_example(
            picked: gr.SelectData, model: str, quality: str, strength: float, crispness: float, progress=BAR
        ):
            path = str(list(EXAMPLES)[picked.index])
            return show_photo(None, path, model, quality, strength, crispness, progress)

        def deblur(photo: str, model: str, crispness: float, quality: str = AUTOMATIC, strength: float = 1.0) -> str:
            """Restores one picture and returns a PNG of the same size."""
            try:
                return str(restore(Path(photo), model, crispness, asked(model, quality), strength).file)
            except DeblurHubError as error:
                raise gr.Error(str(error), print_exception=False) from None

        settings = [model, quality, strength, crispness]
        # The public endpoint has a button of its own, so that a client gives a file and gets a file.
        gr.Button(visible=False).click(
            deblur, [photo, model, crispness, quality, strength], gr.File(visible=False), api_name="deblur", **work
        )
        # One event for all triggers: whoever presses the button while an upload runs does not start a second run.
        gr.on(
            [photo.upload, button.click, strength.release],
            show_photo,
            [photo, shown, *settings],
            [shown, photo, *outputs],
            **work,
            **private,
        )
        model.change(
            lambda name: (
                gr.Dropdown(info=ADVICE.get(name)),
                gr.Radio(**quality_choices(name)),
                gr.Slider(visible=generator_named(name).can_be_crisp),
            ),
            model,
            [model, quality, crispness],
            api_visibility="private",
        )

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
        gallery.select(show_example, settings, [shown, photo, *outputs], **work, **private)

    return app.queue(max_size=32)


COLOURS = {  # of Gradio's own parts; style.css does the rest
    "body_background_fill": ("#f7f6f2", "#151716"),  # in a light and a dark room
    "body_text_color": ("#1b1c1a", "#ecece7"),
    "body_text_color_subdued": ("#5f5f58", "#a5a69e"),
    "background_fill_primary": ("#ffffff", "#1d201f"),
    "background_fill_secondary": ("#eeede7", "#252928"),
    "block_background_fill": ("#ffffff", "#1d201f"),
    "border_color_primary": ("#dfddd4", "#343837"),
    "border_color_accent": ("#b9b7ac", "#4c5250"),
    "button_primary_background_fill": ("#0b6b63", "#58c9b9"),
    "button_primary_background_fill_hover": ("#08544e", "#7cdacc"),
    "button_primary_text_color": ("#ffffff", "#08221e"),
    "button_secondary_background_fill": ("transparent", "transparent"),
    "button_secondary_background_fill_hover": ("#e3efec", "#20332f"),
    "button_secondary_text_color": ("#0b6b63", "#58c9b9"),
    "error_background_fill": ("#fdeeeb", "#3a1d18"),
    "error_border_color": ("#b3402c", "#e0705a"),
    "error_text_color": ("#7d2414", "#f6c5bb"),
}


def theme() -> gr.themes.Base:
    """Colours and type for Gradio's own parts. System fonts only."""
    sans = ("Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("SF Mono", "Menlo", "Consolas", "monospace")
    light = {name: colours[0] for name, colours in COLOURS.items()}
    dark = {f"{name}_dark": colours[1] for name, colours in COLOURS.items()}
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="stone",
        font=[gr.themes.Font(name) for name in sans],
        font_mono=[gr.themes.Font(name) for name in mono],
    ).set(color_accent=light["button_primary_background_fill"], **light, **dark)


def main(*, host: str | None = None, port: int | None = None, open_browser: bool = False) -> None:
    """Serves the page until Ctrl-C; without a host and a port, where Gradio's environment variables say.

    Raises:
        DeblurHubError: if no model can be loaded or the port is taken.
    """
    app = build_app()
    try:
        _, address, _ = app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MAX_FILE_SIZE,
            allowed_paths=[str(HERE / "examples")],
            theme=theme(),
            css_paths=[HERE / "style.css"],
            js=(HERE / "page.js").read_text(encoding="utf-8"),
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
        )
    except OSError:
        at = f"port {port} is" if port else "the ports from 7860 on are"
        raise DeblurHubError(
            f"the page cannot be opened: {at} taken or not allowed; choose another, such as deblur-hub demo --port 8000"
        ) from None
    print(f"deblur-hub is open at {address} (Ctrl-C ends it)", flush=True)
    app.block_thread()


if __name__ == "__main__":
    try:
        main()
    except DeblurHubError as error:
        sys.exit(f"deblur-hub: {error}")
