"""The shell command `deblur-hub`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import DeblurHubError

if TYPE_CHECKING:
    from .model_card import About

OK, SOME_FAILED, FAILED, INTERRUPTED = 0, 1, 2, 130


class UsageError(DeblurHubError):
    """Arguments that do not fit each other or the files that are there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 if all is well, 1 if some files of a batch failed, 2 if nothing was done."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except DeblurHubError as mistake:
        return complain(mistake)
    except KeyboardInterrupt:
        print("deblur-hub: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def complain(mistake: DeblurHubError) -> int:
    print(f"deblur-hub: {mistake}", file=sys.stderr)
    return FAILED


# deblur --------------------------------------------------------------------------------------------------------------


RESULT = "-deblurred"  # what is put behind the name of a photo whose result stands beside it


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path


def run_deblur(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .generator import DeblurGenerator

    jobs, mistakes = plan(options.inputs, options.output, options.format, options.overwrite)
    for mistake in mistakes:
        complain(mistake)
    if not jobs:
        return FAILED
    generator = DeblurGenerator.from_pretrained(options.model, device=options.device)
    written = []
    with tqdm(
        total=len(jobs),
        unit="photo",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
        disable=options.quiet,
        dynamic_ncols=True,
    ) as bar:
        for number, job in enumerate(jobs):
            bar.set_description_str(job.source.name)

            def show(done: int, total: int, number: int = number) -> None:
                bar.update(number + done / total - bar.n)

            fresh = not job.target.parent.exists()
            try:
                job.target.parent.mkdir(parents=True, exist_ok=True)
                generator.deblur_file(
                    job.source,
                    job.target,
                    tile=options.tile,
                    precision=options.precision,
                    progress=show,
                    max_megapixels=options.max_megapixels,
                )
                written.append(job.target)
            except OSError as reason:
                mistakes.append(
                    UsageError(
                        f"{job.target.parent}: cannot be written ({reason.strerror}); name another folder with -o"
                    )
                )
                bar.write(f"deblur-hub: {mistakes[-1]}", file=sys.stderr)
            except DeblurHubError as mistake:
                mistakes.append(mistake)
                bar.write(f"deblur-hub: {mistake}", file=sys.stderr)
            if fresh and job.target.parent.is_dir() and not any(job.target.parent.iterdir()):
                job.target.parent.rmdir()  # made for a picture that did not come
            show(1, 1)
    failed = len(mistakes)
    where = written[0] if len(written) == 1 else options.output or "beside the originals"
    print(f"{len(written)} restored{f' ({where})' if written else ''}{f', {failed} failed' if failed else ''}")
    return OK if not mistakes else SOME_FAILED if written else FAILED


def plan(
    inputs: list[Path], output: Path | None, suffix: str | None, overwrite: bool
) -> tuple[list[Job], list[DeblurHubError]]:
    """What to write for each input file, and what is wrong with the inputs for which nothing can be.

    Raises:
        UsageError: if two inputs would be written to the same file, or one over itself.
    """
    from .datasets import PICTURE_SUFFIXES

    to_file = output is not None and output.suffix.lower() in PICTURE_SUFFIXES and not output.is_dir()
    if to_file and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError(f"{output}: is the name of one picture, but there are several to write; name a folder")
    found: list[tuple[Path, Path]] = []
    mistakes: list[DeblurHubError] = []
    for given in inputs:
        if given.is_dir():
            inside = [
                path
                for path in sorted(given.rglob("*"))
                if path.suffix.lower() in PICTURE_SUFFIXES
                and not any(part.startswith(".") for part in path.relative_to(given).parts)
                and not (output is None and path.stem.endswith(RESULT))  # of an earlier run
                and not (
                    output and output.resolve() != given.resolve() and path.resolve().is_relative_to(output.resolve())
                )
            ]
            if not inside:
                mistakes.append(
                    UsageError(
                        f"{given}: holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); name another folder"
                    )
                )
            found += [(path, path.relative_to(given)) for path in inside]
        elif given.is_file():
            found.append((given, Path(given.name)))
        else:
            mistakes.append(UsageError(f"{given}: no such file or folder; check the path"))
    jobs = []
    taken: dict[Path, Path] = {}
    for source, relative in found:
        name = relative.with_suffix(f".{suffix}") if suffix else relative
        if output is None:
            target = source.with_name(f"{source.stem}{RESULT}{name.suffix}")
        else:
            target = output if to_file else output / name
        if target.resolve() == source.resolve():
            raise UsageError(f"{source}: would be written over itself; name another folder with -o")
        if target.resolve() in taken:
            raise UsageError(
                f"{source} and {taken[target.resolve()]} would both be written to {target}; "
                "restore them one after the other, into two folders"
            )
        taken[target.resolve()] = source
        if target.exists() and not overwrite:
            mistakes.append(UsageError(f"{target}: exists already; give --overwrite to replace it"))
        else:
            jobs.append(Job(source, target))
    return jobs, mistakes


# The other commands --------------------------------------------------------------------------------------------------


def run_evaluate(options: argparse.Namespace) -> int:
    from .evaluation import shell

    return shell.run_evaluate(options)


def run_compare(options: argparse.Namespace) -> int:
    from .evaluation import shell

    return shell.run_compare(options)


def run_score(options: argparse.Namespace) -> int:
    from .evaluation import shell

    return shell.run_score(options)


def run_release(options: argparse.Namespace) -> int:
    from .evaluation import table
    from .release import release

    if not options.name.isidentifier() and not options.name.replace("-", "_").isidentifier():
        raise UsageError(f"'{options.name}': a model's name is letters, digits and hyphens; choose another")
    about = about_of(options)
    with counting("release", "picture", options.quiet) as show:
        evaluation = release(
            options.models,
            options.name,
            options.pairs,
            options.to,
            about=replace(about, training=options.training) if options.training else about,
            pictures=options.pictures,
            progress=show,
        )
    print(table(evaluation))
    print(f"\nreleased as {options.to / options.name}")
    return OK


def run_card(options: argparse.Namespace) -> int:
    from .measured_card import renew_card

    renew_card(options.model, options.results, about=about_of(options), pictures=options.pictures)
    print(f"written: {options.model / 'README.md'}")
    return OK


def about_of(options: argparse.Namespace) -> "About":
    """What the card is to say that cannot be measured."""
    from .model_card import NOTHING_KNOWN, read_about

    if options.pictures and not options.about:
        raise UsageError("--pictures shows those that --about names, with their credits; give --about as well")
    return read_about(options.about) if options.about else NOTHING_KNOWN


LOADS_PER_RUN = 10  # a load takes a tenth of a second, and one alone says little


def run_benchmark(options: argparse.Namespace) -> int:
    from .benchmark import loading_table, measure_loading, measure_memory, measure_speed, speed_table
    from .hub import DEFAULT_MODEL

    if options.train:
        return run_training_benchmark(options)
    models = options.models or [DEFAULT_MODEL]
    if options.load:
        loads = LOADS_PER_RUN * options.runs
        print(
            f"loading on the CPU, with every check, against reading the file and building the module with none; median "
            f"of {loads} interleaved loads\n"
        )
        print(loading_table([measure_loading(model, loads=loads) for model in models]))
        return OK
    if options.photo:
        for model in models:
            runs = measure_memory(
                model, photo=options.photo, tiles=(None, 0) if options.whole else (None,), precision=options.precision
            )
            for run in runs:
                print(
                    f"deblur-hub deblur --model {model}{' --tile 0' if run.tile == 0 else ''}, "
                    f"{photo_name(options.photo)}: "
                    f"{run.peak:.2f} GiB at the peak, {run.seconds:.1f} s from start to end"
                )
            if options.whole:
                print(f"largest difference: {runs[1].difference} of 255 levels")
        return OK
    width, height = options.size
    print(
        f"one picture of {width}x{height} on {options.device or 'cpu'}, median of {options.runs} interleaved runs; "
        "deblurgan is ResNet-9 in float32\n"
    )
    speeds = measure_speed(
        models,
        width=width,
        height=height,
        runs=options.runs,
        device=options.device or "cpu",
        precision=options.precision,
    )
    print(speed_table(speeds))
    return OK


def run_training_benchmark(options: argparse.Namespace) -> int:
    """Hands over to the training program, which stands beside the package in a checkout and can measure itself."""
    import importlib.util
    import subprocess

    program = Path(__file__).resolve().parents[1] / "train"
    if not (program / "__main__.py").is_file() or not (program / "recipes").is_dir():
        raise UsageError("training is not part of the installed package; take a checkout of the repository for --train")
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError("training needs accelerate; install it with: pip install -e '.[train]'")
    command = [sys.executable, str(program), "--recipe", options.train, "--benchmark", "--rounds", str(options.runs)]
    command += ["--data", str(options.data)] if options.data else []
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if options.device == "cpu" else {})
    return subprocess.run(command, env=environment, check=False).returncode


def photo_name(photo: Path | tuple[int, int]) -> str:
    return photo.name if isinstance(photo, Path) else f"a picture of {photo[0]}x{photo[1]}"


def run_networks(options: argparse.Namespace) -> int:
    import torch

    from .networks import PRESETS, build_network

    width, height = options.size
    print(f"| network | parameters | multiply-adds at {width}x{height} | size multiple | receptive field | design |")
    print("|---|---|---|---|---|---|")
    for name in PRESETS:
        with torch.device("meta"):
            found = build_network(name).describe(options.size)
        cells = (
            f"`{name}`",
            f"{found.parameters / 1e6:.2f} M",
            f"{found.multiply_adds / 1e9:.0f} G",
            str(found.size_multiple),
            ("whole frame" if found.receptive_field is None else f"{found.receptive_field} px")
            + ("" if found.tiles else ", not tiled"),
            f"{found.source} ({found.licence})" + (f"; {found.note}" if found.note else ""),
        )
        print(f"| {' | '.join(cells)} |")
    return OK


def run_convert(options: argparse.Namespace) -> int:
    from .conversion import convert

    converted = convert(options.source, options.output, name=options.name, overwrite=options.overwrite)
    chosen = ", ".join(f"{key} {value}" for key, value in converted.options.items()) or "its defaults"
    print(f"{options.source}: {converted.layout}; architecture '{converted.architecture}' with {chosen}")
    print(f"{len(converted.tensors)} tensors used, {len(converted.dropped)} entries dropped")
    for reason in dict.fromkeys(converted.dropped.values()):
        keys = [key for key, why in converted.dropped.items() if why == reason]
        print(f"  {len(keys)} dropped: {reason} ({keys[0]}{', ...' if len(keys) > 1 else ''})")
    print(f"written to {options.output}; try: deblur-hub deblur photo.jpg --model {options.output}")
    return OK


def run_publish(options: argparse.Namespace) -> int:
    from .publishing import publish, require_access

    if doubt := require_access(options.repo):
        raise UsageError(f"{doubt.partition(';')[0]}; try again later")
    address = publish(
        options.model,
        options.repo,
        revision=options.revision,
        private=options.private or None,
        create_pr=options.create_pr,
        commit_message=options.message,
        tag=options.tag,
    )
    print(f"{address}{f', tagged {options.tag}' if options.tag else ''}")
    return OK


def run_verify(options: argparse.Namespace) -> int:
    from . import hub
    from .generator import DeblurGenerator

    source = hub.find(options.model, revision=options.revision, variant=options.variant, golden=True)
    generator = DeblurGenerator.from_source(source, variant=options.variant, device=options.device)
    match = generator.verify(hub.read_golden(source, options.variant), precision=options.precision)
    device = next(generator.parameters()).device
    print(
        f"{source.name}: gives its golden output in {match.precision} on {device}; the largest difference is "
        f"{match.difference:.2g}, allowed are {match.tolerance:g}"
    )
    return OK


def run_demo(options: argparse.Namespace) -> int:
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        raise UsageError("the page needs gradio; install it with: pip install 'deblur-hub[space]'")
    package = Path(__file__).resolve().parent
    # An installed wheel carries the page inside the package; in a checkout it stands beside it.
    for folder in (package / "space", package.parent / "space"):
        if (folder / "app.py").is_file():
            break
    else:
        raise UsageError(f"the page is missing from {package}; install deblur-hub again")
    spec = importlib.util.spec_from_file_location("deblur_hub_page", folder / "app.py")
    if spec is None or spec.loader is None:
        raise UsageError(f"{folder / 'app.py'}: cannot be imported; install deblur-hub again")
    page = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = page
    spec.loader.exec_module(page)
    try:
        page.main(host=options.host, port=options.port, open_browser=not options.no_browser)
    except OSError as reason:
        raise UsageError(
            f"the page cannot be opened on {options.host}:{options.port} ({reason}); "
            "another may be running there: name another --port"
        ) from None
    return OK


# Arguments -----------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    from .evaluation import shell

    top = argparse.ArgumentParser(prog="deblur-hub", description="Sharpens blurry photos.")
    top.add_argument("--version", action="version", version=f"deblur-hub {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(run=run)
        return made

    deblur = command("deblur", run_deblur, "Restores photos, and all photos in folders.")
    deblur.add_argument("inputs", nargs="+", type=Path, metavar="photo", help="a picture, or a folder of them")
    deblur.add_argument(
        "-o",
        "--output",
        type=Path,
        help="a folder, or for one photo a file (default: photo-deblurred.jpg beside photo.jpg)",
    )
    add_model(deblur)
    deblur.add_argument(
        "--format", choices=("png", "jpg", "tif", "webp"), help="of what is written (default: as it came)"
    )
    deblur.add_argument("--overwrite", action="store_true", help="replace files that exist")
    deblur.add_argument(
        "--tile",
        type=tile,
        metavar="PIXELS",
        help="side of the tiles, 0 for whole frames (default: by the memory at hand)",
    )
    deblur.add_argument("--max-megapixels", type=megapixels, default=100, help="refuse larger pictures (%(default)s)")

    scores = command("evaluate", run_evaluate, "Scores a model on pairs of blurred and sharp pictures.")
    shell.evaluate_arguments(scores)

    two = command("compare", run_compare, "Says by how much two evaluations differ, the worst pictures first.")
    shell.compare_arguments(two)

    others = command("score", run_score, "Scores pictures that any program restored against sharp ones.")
    shell.score_arguments(others)

    speed = command("benchmark", run_benchmark, "Measures speed against ResNet-9, or memory on a large photo.")
    speed.add_argument("models", nargs="*", help="bundled models, folders or presets (default: the default model)")
    speed.add_argument("--size", type=size, default=(1280, 720), help="of the picture (1280x720)")
    speed.add_argument("--runs", type=int, choices=range(1, 100), metavar="N", default=3, help="counted (%(default)s)")
    speed.add_argument(
        "--photo", type=photo, metavar="WxH|FILE", help="measure the memory of 'deblur' on such a picture instead"
    )
    speed.add_argument("--whole", action="store_true", help="with --photo: measure it without tiles as well")

    speed.add_argument(
        "--train", metavar="RECIPE", help="measure the steps of a training recipe instead, in several ways"
    )
    speed.add_argument("--data", type=Path, help="with --train: a data folder (default: made-up pictures)")

    speed.add_argument(
        "--load", action="store_true", help="measure loading against reading the file and building the module instead"
    )

    for made in (deblur, speed):
        made.add_argument(
            "--precision",
            choices=("auto", "float32", "bfloat16", "float16"),
            default="auto",
            help="of the arithmetic (default: the fastest that the device has)",
        )
        made.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one; benchmark: cpu)")

    listed = command("networks", run_networks, "Lists the networks that can be built and trained by name.")
    listed.add_argument("--size", type=size, default=(1280, 720), help="of the picture to count for (1280x720)")

    other = command("convert", run_convert, "Brings an author's checkpoint into our format.")
    other.add_argument("source", type=Path, metavar="checkpoint", help="such as latest_net_G.pth or fpn_inception.h5")
    other.add_argument("-o", "--output", type=Path, required=True, metavar="folder", help="the model folder to write")
    other.add_argument("--name", default="", help="what the model is called (default: its architecture)")
    other.add_argument("--overwrite", action="store_true", help="replace the model that is in the folder")

    made = command("release", run_release, "Scores a trained model and puts it among the released ones.")
    made.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="model",
        help="the folder that training wrote, such as runs/compact/model; several are averaged weight by weight",
    )
    made.add_argument("--name", required=True, help="the name it gets, such as compact")
    made.add_argument("--pairs", type=Path, required=True, help="the pairs to score it on")
    made.add_argument(
        "--to", type=Path, default=Path("deblur_hub/weights"), help="folder of released models (%(default)s)"
    )
    made.add_argument("--training", default="", help="how it was trained, for its card")
    add_about(made)

    again = command("card", run_card, "Writes the card of a model folder again, from an evaluation of it.")
    again.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    again.add_argument(
        "--results", type=Path, required=True, help="what 'evaluate --output' wrote: results.json, or its folder"
    )
    add_about(again)

    public = command("publish", run_publish, "Uploads a model folder to a hub repository; can be repeated.")
    public.add_argument("model", type=Path, metavar="folder", help="a model folder, such as runs/compact/model")
    public.add_argument("repo", metavar="owner/name", help="the repository, which is made if need be")
    public.add_argument("--tag", default="", help="a name for this version, such as step-1000")
    public.add_argument("--private", action="store_true", help="make the repository private, if it is made")
    public.add_argument("--revision", help="the branch, which is made if need be (default: the main one)")
    public.add_argument("--create-pr", action="store_true", help="propose the commit in a pull request")
    public.add_argument("--message", default="", help="of the commit")

    check = command("verify", run_verify, "Checks that a model gives the output that it gave when it was saved.")
    check.add_argument("model", nargs="?", help="a bundled model, a folder, or owner/name (default: compact)")
    check.add_argument("--revision", help="branch, tag or commit of a hub repository")
    check.add_argument("--variant", help="of the weights, such as fp16")
    check.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    check.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="float32",
        help="of the arithmetic (%(default)s)",
    )

    demo = command("demo", run_demo, "Opens the page in the browser.")
    demo.add_argument("--host", default="127.0.0.1", help="to listen on (%(default)s)")
    demo.add_argument("--port", type=int, default=7860, help="to listen on (%(default)s)")
    demo.add_argument("--no-browser", action="store_true", help="do not open a browser window")

    for quiet in (deblur, scores, others, made):
        quiet.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    return top


def add_about(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--about",
        type=Path,
        metavar="FILE.toml",
        help="what cannot be measured: training, data, where it fails; such as docs/cards/compact.toml",
    )
    made.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="pairs that may be published; the card shows those that --about names",
    )


def add_model(made: argparse.ArgumentParser) -> None:
    made.add_argument("--model", help="a bundled model, a folder, or a hub repository owner/name (default: compact)")


def size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 1280x720")
    return int(width), int(height)


def photo(text: str) -> Path | tuple[int, int]:
    return Path(text) if Path(text).is_file() else size(text)


def tile(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of pixels")
    return int(text)


def megapixels(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of megapixels above 0")
    return number


@contextmanager
def counting(what: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calls of (done, total)."""
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, disable=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


if __name__ == "__main__":
    sys.exit(main())
