"""From a trained run to a released model: half precision, measured as it will be shipped, with a card that says what an
evaluation of these very weights measured, and its comparison sheet beside it."""

import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image

from . import atomic, hub
from .config import QUALITIES, GeneratorConfig
from .errors import DatasetError, ModelError
from .evaluation import Evaluation, evaluate, pairs_in
from .evaluation.measures import DEFAULT_METRICS, UNALIGNED, measure_of
from .evaluation.protocols import BLUR_FOLDERS, PROTOCOLS
from .evaluation.sets import SYNTHETIC_UPLOAD
from .generator import AT_QUALITY, DeblurGenerator
from .model_card import (
    HERE,
    NOTHING_KNOWN,
    SHEET,
    SSIM,
    About,
    Column,
    Cost,
    Scores,
    Shown,
    generated,
    merge,
    read_facts,
    release_card,
    with_front_of,
)
from .restoration.crispness import same_network

SIDE, GAP = 256, 6  # of the parts of pictures that are shown, in pixels
MOST_BYTES = 300_000  # of the pictures, which come with every download of the model
JPEG_QUALITIES = (92, 85, 75, 60, 40, 20)
NOTES = {
    "ssim": SSIM.note,
    "features": "those of EfficientNet-Lite0, with which nothing here is trained; less is better",
    "edges": "mean step between neighbouring pixels, as a share of the sharp picture's; crispness, right or wrong",
    "ssim_matlab": "as MATLAB takes it of RGB, in three dimensions; reads about 0.02 higher than the one per channel",
}


def release(
    models: list[Path],
    name: str,
    pairs: Path,
    folder: Path,
    *,
    about: About = NOTHING_KNOWN,
    pictures: Path | None = None,
    metrics: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores a trained model as it will be loaded, and writes it with its card to `folder`/`name`.

    Args:
        models: folders that training or `save_pretrained` wrote. Several, of one run, are averaged weight by weight,
            which often generalises better than either (Wortsman et al., ICML 2022, "Model soups").
        about: what the card is to say that cannot be measured. Its licence counts where a card that is there states
            none; where both do not, that of `models` does.
        pictures: pairs that may be published, of which the card shows those that `about` names.
        metrics: further ones than PSNR and the SSIMs.

    Returns the scores at the best of its qualities. Raises DeblurHubError if a model, the pairs or the pictures will
    not do, or the models are of different architectures; what was released before is then untouched.
    """
    generator = averaged([DeblurGenerator.from_pretrained(Path(model)) for model in models])
    generator.config = replace(generator.config, name=name)
    with tempfile.TemporaryDirectory() as trial:
        generator.save_pretrained(trial, dtype=torch.float16)
        shipped = DeblurGenerator.from_pretrained(Path(trial))
    sheet = comparison_sheet(shipped, pictures, about.pictures) if pictures else b""
    evaluations = [
        evaluate(shipped.with_quality(quality), pairs, metrics=metrics, precision="float32", progress=progress)
        for quality in shipped.qualities or QUALITIES[-1:]
    ]
    before, source = existing_card(folder / name), card_of_all(models)
    about = replace(about, license=read_facts(before).license or about.license or read_facts(source).license)
    card = with_front_of(card_of(folder / name, shipped.config, evaluations, about, pictures=bool(sheet)), source)
    with pictures_beside(folder / name, sheet):
        generator.save_pretrained(folder / name, dtype=torch.float16, card=card)
    return evaluations[-1]


def card_of_all(models: Sequence[Path]) -> str:
    """The card of the first of several models; "" if their licences differ, as that of their mean is then unknown."""
    cards = [existing_card(Path(model)) for model in models]
    return cards[0] if len({read_facts(card).license for card in cards}) == 1 else ""


def averaged(generators: list[DeblurGenerator]) -> DeblurGenerator:
    """The first generator with the mean of all their weights."""
    first = generators[0]
    for other in generators[1:]:
        if not same_network(other.config, first.config):
            raise ModelError(
                f"{other} and {first} differ in architecture or options and cannot be averaged; release one of them"
            )
    states = [generator.network.state_dict() for generator in generators]
    first.network.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})
    return first


def renew_card(
    folder: Path, results: Sequence[Path], *, about: About = NOTHING_KNOWN, pictures: Path | None = None
) -> None:
    """Writes the card of a model folder again, from an evaluation; what people wrote into it stays.

    `results` are a results.json of this model, or its folder; several, of one set, where it has several qualities.
    Raises DeblurHubError if it is of other weights, or the card there is none that was generated; it then stays.
    """
    generator = DeblurGenerator.from_pretrained(Path(folder), device="cpu")
    evaluations = [Evaluation.read(path) for path in results]
    weights = hub.checksum(generator.network.state_dict())
    for path, evaluation in zip(results, evaluations, strict=True):
        if evaluation.settings.weights != weights:
            raise ModelError(
                f"{path}: was measured of other weights than those in {folder}; run 'deblur-hub evaluate {folder} ...'"
            )
    sheet = comparison_sheet(generator, pictures, about.pictures) if pictures else b""
    before, file = existing_card(folder), folder / hub.CARD
    if before and not generated(before):
        raise ModelError(
            f"{file}: does not have the two marks around a generated part, once each and in order; move it away to "
            "have it written anew"
        )
    about = replace(about, license=read_facts(before).license or about.license)
    card = card_of(folder, generator.config, evaluations, about, pictures=bool(sheet))
    with pictures_beside(folder, sheet):
        atomic.write_text(file, merge(before, card, source=str(file)) if before else card)


def existing_card(folder: Path) -> str:
    """The card of a model folder; "" if it has none."""
    file = folder / hub.CARD
    try:
        return file.read_bytes().decode("utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as reason:
        raise ModelError(f"{file}: cannot be read ({reason}); move it away to have it written anew") from None


def card_of(
    folder: Path, config: GeneratorConfig, evaluations: Sequence[Evaluation], about: About, *, pictures: bool
) -> str:
    """The card, for a model folder, that says what evaluations measured: of a model of several qualities, each one."""
    address = config.name if folder.resolve() == hub.BUNDLED / config.name else HERE
    measured = {quality_of(one): (scores_of(one, about, address), cost_of(one)) for one in evaluations}
    qualities = {name: measured[name] for name in QUALITIES if name in measured}
    scores, cost = list(qualities.values())[-1] if qualities else measured[""]
    return release_card(config, scores, cost, about, qualities=qualities, address=address, pictures=pictures)


def quality_of(evaluation: Evaluation) -> str:
    """That a model was evaluated at, "" of one that has but one."""
    return evaluation.model.rpartition(AT_QUALITY)[2] if AT_QUALITY in evaluation.model else ""


def cost_of(evaluation: Evaluation) -> Cost:
    seconds, count, settings = evaluation.seconds_per_picture(), len(evaluation.rows), evaluation.settings
    memory, gpu_memory = evaluation.peak_memory, evaluation.peak_cuda
    return Cost(seconds, count, settings.precision, settings.device, evaluation.threads, memory, gpu_memory)


def scores_of(evaluation: Evaluation, about: About, address: str) -> Scores:
    """What an evaluation measured, as a card states it: no folder of the machine that it was made on is in it."""
    if not evaluation.has_blurred or not {"psnr", "ssim"} <= set(evaluation.measured):
        raise DatasetError(
            f"{evaluation.dataset}: PSNR and SSIM were not measured of a blurry input as well; evaluate on pairs"
        )
    settings, told = evaluation.settings, about.pairs
    if told.fingerprint and told.fingerprint != settings.fingerprint:
        raise DatasetError(
            f"{evaluation.dataset}: is not the set that is described as '{told.title or told.folder}': its fingerprint "
            f"is {settings.fingerprint}; evaluate on that one, or correct [pairs]"
        )
    where = told.folder or Path(evaluation.dataset).name or "pairs"
    protocol = PROTOCOLS.get(settings.protocol)
    columns = []
    for name in evaluation.measured:
        measure, unaligned = measure_of(name), ", not aligned" if name.endswith(UNALIGNED) else ""
        columns.append(Column(name, measure.label + unaligned, measure.unit, measure.digits, NOTES.get(name, "")))
    return Scores(
        title=told.title or f"{len(evaluation.rows)} pairs of {where}",
        dataset=told.dataset or Path(where).name,
        protocol=settings.protocol,
        rules=evaluation.title,
        columns=columns,
        mean={name: evaluation.mean(name) for name in evaluation.columns},
        rows=[{"name": row.name, **row.scores} for row in evaluation.rows],
        comparable=protocol.comparable_with if protocol else (),
        precision=settings.precision,
        command=command_of(evaluation, address, where),
    )


def command_of(evaluation: Evaluation, model: str, folder: str) -> str:
    """The command that scores the model again, where its pairs lie in a folder of that name."""
    settings = evaluation.settings
    words = ["deblur-hub", "evaluate", model]
    if settings.seed is not None:
        words += ["--synthetic", folder, "--seed", str(settings.seed)]
        words += ["--upload"] if settings.protocol == SYNTHETIC_UPLOAD.name else []
    else:
        protocol = settings.protocol.removesuffix("-gamma")
        gamma = protocol != settings.protocol or settings.blur_folder == BLUR_FOLDERS["gamma"]
        words += [folder, *(["--protocol", protocol] if protocol != "pairs" else [])]
        words += ["--blur", "gamma"] if gamma else []
    extra = [name for name in settings.metrics if name not in DEFAULT_METRICS]
    words += ["--metrics", ",".join(extra)] if extra else []
    words += ["--quality", quality] if (quality := quality_of(evaluation)) else []
    words += ["--precision", settings.precision]
    words += ["--tile", str(settings.tile)] if settings.tile is not None else []
    return shlex.join(words)


def comparison_sheet(generator: DeblurGenerator, folder: Path, pictures: Sequence[Shown]) -> bytes:
    """A JPEG file, under `MOST_BYTES`, of parts of pictures at 1:1: blurry, restored and sharp side by side.

    `folder` holds pairs that may be published; `pictures` are which of them, in the order of the rows. Raises
    DatasetError if there is nothing to show, a picture is not in the folder, or the file would be too large.
    """
    if not pictures:
        raise DatasetError(
            f"{folder}: no pictures of it are named to be shown; list them as [[pictures]] with a credit"
        )
    samples = {sample.name: sample for sample in pairs_in(folder, PROTOCOLS["pairs"]).samples}
    sheet = Image.new("RGB", (3 * (SIDE + GAP) - GAP, len(pictures) * (SIDE + GAP) - GAP), "white")
    for row, shown in enumerate(pictures):
        sample = samples.get(shown.name)
        if sample is None or sample.blurred is None:
            raise DatasetError(f"{folder}: has no pair called '{shown.name}'; it has {', '.join(sorted(samples)):.200}")
        left, top = shown.corner
        if left + SIDE > sample.size[0] or top + SIDE > sample.size[1]:
            raise DatasetError(
                f"{folder}: '{shown.name}' has {sample.size[0]}x{sample.size[1]} pixels, too few for {SIDE}x{SIDE} of "
                f"them from ({left}, {top}) on; choose another corner"
            )
        with Image.open(sample.blurred) as blurred, Image.open(sample.sharp) as sharp:
            three = (blurred, generator.deblur(blurred), sharp)
            for column, picture in enumerate(three):
                part = picture.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
                sheet.paste(part, (column * (SIDE + GAP), row * (SIDE + GAP)))
    for quality in JPEG_QUALITIES:
        file = BytesIO()
        sheet.save(file, "JPEG", quality=quality, subsampling=0)
        if file.tell() < MOST_BYTES:
            return file.getvalue()
    raise DatasetError(f"{folder}: {len(pictures)} pictures are too many for {MOST_BYTES} bytes; show fewer")


@contextmanager
def pictures_beside(folder: Path, sheet: bytes) -> Iterator[None]:
    """Puts the card's comparison sheet into the folder, or removes it for b"", once the block has succeeded."""
    file = folder / SHEET
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) if sheet else nullcontext() as part:
            if part:
                part.write_bytes(sheet)
            yield
        if not sheet:
            file.unlink(missing_ok=True)
    except OSError as reason:
        raise ModelError(f"{folder}: cannot be written ({reason.strerror}); name another folder") from None
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
