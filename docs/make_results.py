"""Makes RESULTS.md again, and the README's picture, from the bundled weights: every number with the command behind it.

python docs/make_results.py DATA [--srn FOLDER]

DATA holds `gopro/` with pairs in blur/ and sharp/, and `sharp/` with sharp photographs; FOLDER is SRN's authors' model
as `deblur-hub convert` writes it, which is not bundled. Commands are run as they are printed, but for the places of
both, which they call `eval` and `srn/`.
"""

import argparse
import platform
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch
from before_after import main as make_picture

from deblur_hub import DEFAULT_MODEL, DeblurGenerator, __version__, atomic, list_models
from deblur_hub.errors import DeblurHubError
from deblur_hub.evaluation import Evaluation
from deblur_hub.evaluation.baselines import BASELINES
from deblur_hub.evaluation.tables import markdown
from deblur_hub.machine import processor
from deblur_hub.model_card import read_about

ROOT = Path(__file__).resolve().parents[1]
NAMED = "eval"  # what commands in RESULTS.md call the data folder
PHOTO = (6000, 4000)
CRISPNESS = (0.0, 0.25, 0.5, 0.75, 1.0)
CRISP = DEFAULT_MODEL, "fast"  # the model and quality that is made crisper
SMALL = "compact"
COMPARED = "./train/deblurgan"  # trained to compare with, and not bundled


class Runs:
    """The commands that are run, each once, and what came of them."""

    def __init__(self, data: Path, srn: Path | None, aside: Path) -> None:
        self.data, self.srn, self.aside = data, srn, aside

    def systems(self) -> dict[str, str]:
        """Every model at each of its qualities, as people and as commands call it."""
        found = {}
        for name in list_models():
            qualities = DeblurGenerator.from_pretrained(name, device="cpu").qualities
            found |= {f"{name}, {quality}": f"{name} --quality {quality}" for quality in qualities} or {name: name}
        found |= {Path(COMPARED).name: COMPARED} if (ROOT / COMPARED).is_dir() else {}
        return found | ({"SRN (its authors')": "{srn}"} if self.srn else {})

    def said(self, command: str) -> str:
        """What a command prints; `{data}` in it stands for the data folder."""
        print(named(command), file=sys.stderr, flush=True)
        words = [word.format(data=self.data, srn=self.srn) for word in shlex.split(command)]
        program = [sys.executable, "-m", "deblur_hub.cli", *words[1:]]
        done = subprocess.run(program, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"'{named(command)}' failed, for the reason above; nothing was written")
        return done.stdout.strip()

    def evaluation(self, command: str) -> Evaluation:
        output = Path(tempfile.mkdtemp(dir=self.aside))
        self.said(f"{command} --quiet --output {shlex.quote(str(output))}")
        return Evaluation.read(output)


def named(command: str) -> str:
    return command.format(data=NAMED, srn="srn/")


def shown(*commands: str) -> str:
    return "\n".join(f"    {named(command)}" for command in commands)


def pairs_section(runs: Runs) -> str:
    systems = {name: name for name in BASELINES} | runs.systems()
    rest = "{data}/gopro --metrics features,edges --precision float32"
    commands = {name: f"deblur-hub evaluate {model} {rest}" for name, model in systems.items()}
    found = {name: runs.evaluation(command) for name, command in commands.items()}
    first = next(iter(found.values()))
    told = read_about(ROOT / "docs" / "cards" / f"{list_models()[0]}.toml").pairs
    same = told.fingerprint == first.settings.fingerprint
    lines = []
    for name, evaluation in found.items():
        gain = evaluation.gain("psnr")
        lines.append(
            [
                "blurry input" if name == "identity" else name,
                f"{evaluation.mean('psnr'):.2f} dB",
                f"{gain.mean:+.2f} dB",
                f"{gain.min:+.2f} dB",
                f"{evaluation.mean('ssim'):.4f}",
                f"{evaluation.mean('ssim_matlab'):.4f}",
                f"{evaluation.mean('features'):.3f}",
                f"{evaluation.mean('edges'):.3f}",
                f"{evaluation.seconds_per_picture():.2f}",
            ]
        )
    header = ["", "PSNR", "gain", "least gain", "SSIM", "SSIM (MATLAB)", "features", "edges", "seconds"]
    parts = [
        "## Pairs",
        f"{told.title if same else f'{len(first.rows)} pairs'}. Protocol `{first.settings.protocol}`: "
        f"{first.title}; RGB, rounded to 8 bits, mean of the per-picture values. Fingerprint of the set: "
        f"`{first.settings.fingerprint[:16]}`. An indication, not a benchmark: these numbers stand beside nothing but "
        "scores of the same pictures under the same protocol. Features: the distance of those of EfficientNet-Lite0, "
        "with which nothing here was trained; less is better. Edges: the mean step between neighbouring pixels "
        "as a share of the sharp picture's, right or wrong.",
        markdown(header, lines),
        shown(*commands.values()),
    ]
    for name in runs.systems():
        rows = [
            [
                row.name,
                f"{row.scores['blurred_psnr']:.2f} dB",
                f"{row.scores['psnr']:.2f} dB",
                f"{row.gain('psnr'):+.2f} dB",
                f"{row.scores['blurred_ssim']:.4f}",
                f"{row.scores['ssim']:.4f}",
            ]
            for row in found[name].rows
        ]
        columns = ["blurred PSNR", "restored PSNR", "gain", "blurred SSIM", "restored SSIM"]
        parts += [f"### {name}, picture by picture", markdown(["picture", *columns], rows)]
    return "\n\n".join(parts)


def crispness_section(runs: Runs) -> str:
    """What a model gains and loses between itself and its crisp partner."""
    model, quality = CRISP
    metrics = "--metrics features,edges --precision float32"
    command = f"deblur-hub evaluate {model} {{data}}/gopro --quality {quality} {metrics} --crispness"
    commands = [f"{command} {crispness}" for crispness in CRISPNESS]
    lines = []
    for crispness, command in zip(CRISPNESS, commands, strict=True):
        found = runs.evaluation(command)
        gain = found.gain("psnr")
        lines.append(
            [
                f"{crispness:g}",
                f"{found.mean('psnr'):.2f} dB",
                f"{gain.mean:+.2f} dB",
                f"{gain.min:+.2f} dB",
                f"{found.mean('ssim'):.4f}",
                f"{found.mean('features'):.3f}",
                f"{found.mean('edges'):.3f}",
            ]
        )
    return "\n\n".join(
        [
            "## Crispness",
            f"`{model}` at quality {quality}, its refiner blended with the one that was trained against a critic, on "
            "the same pairs.",
            markdown(["crispness", "PSNR", "gain", "least gain", "SSIM", "features", "edges"], lines),
            shown(*commands),
        ]
    )


def photographs_section(runs: Runs) -> str:
    kinds = (  # in this machine's fastest precision
        "--synthetic {data}/sharp --seed 0",
        "--synthetic {data}/sharp --seed 0 --upload",
        "--sharp {data}/sharp",
    )
    systems = runs.systems()
    commands = {name: [f"deblur-hub evaluate {model} {rest}" for rest in kinds] for name, model in systems.items()}
    lines = []
    for name, each in commands.items():
        blurred, uploaded, sharp = (runs.evaluation(command) for command in each)
        gain, gain_of_upload, harm = blurred.gain("psnr"), uploaded.gain("psnr"), sharp.spread("psnr")
        lines.append(
            [
                name,
                f"{blurred.mean('blurred_psnr'):.2f} dB",
                f"{blurred.mean('psnr'):.2f} dB",
                f"{gain.mean:+.2f} dB",
                f"{gain.min:+.2f} dB",
                f"{uploaded.mean('blurred_psnr'):.2f} dB",
                f"{gain_of_upload.mean:+.2f} dB",
                f"{gain_of_upload.min:+.2f} dB",
                f"{harm.mean:.2f} dB",
                f"{harm.min:.2f} dB",
            ]
        )
    settings = blurred.settings
    return "\n\n".join(
        [
            "## Sharp photographs",
            f"{len(blurred.rows)} of them (fingerprint `{settings.fingerprint[:16]}`): under synthetic camera shake of "
            "a fixed seed, what a model gains; under the same with a sensor's noise and JPEG, as uploads have them; "
            f"and as they are, how near to them it stays, for it is to do no harm. In {settings.precision}.",
            markdown(
                [
                    "",
                    "blurry",
                    "restored",
                    "gain",
                    "least gain",
                    "with noise, JPEG",
                    "gain",
                    "least gain",
                    "sharp: PSNR to the input",
                    "least",
                ],
                lines,
            ),
            shown(*(command for each in commands.values() for command in each)),
        ]
    )


def cost_section(runs: Runs) -> str:
    """Of the default model, and of the small one."""
    commands = (
        f"deblur-hub benchmark {SMALL} --size 1280x720",
        f"deblur-hub benchmark {DEFAULT_MODEL} {SMALL} --size 1280x720 --rate --runs 1",
        f"deblur-hub benchmark --load {' '.join(list_models())}",
        *(f"deblur-hub benchmark {model} --photo {PHOTO[0]}x{PHOTO[1]}" for model in (DEFAULT_MODEL, SMALL)),
    )
    return "\n\n".join(
        [
            "## Speed, loading, memory",
            "Times are of this machine, and ratios within one run. The matrix product is PyTorch's of two matrices of "
            "4096 a side; multiply-adds are those of the networks as published, windows that overlap counted as often "
            "as they are computed.",
            *(part for command in commands for part in (shown(command), runs.said(command))),
        ]
    )


def heading() -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return "\n\n".join(
        [
            "# Results",
            "Made by `make results DATA=eval` from the weights in `deblur_hub/weights`; what is `eval`, and how to "
            "read the numbers, is said in the [README](README.md).",
            f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, deblur-hub {__version__}, "
            f"torch {torch.__version__}, Python {platform.python_version()}; {processor()}, "
            f"{torch.get_num_threads()} threads.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with gopro/ and sharp/")
    parser.add_argument("--srn", type=Path, help="the folder that SRN's authors' checkpoint was converted to")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "RESULTS.md", help="the file to write")
    options = parser.parse_args()
    for needed in ("gopro/blur", "gopro/sharp", "sharp"):
        if not (options.data / needed).is_dir():
            raise SystemExit(
                f"{options.data}: has no folder '{needed}'; name the folder that has, as in make results DATA=eval"
            )
    with tempfile.TemporaryDirectory() as aside:
        runs = Runs(options.data.resolve(), options.srn and options.srn.resolve(), Path(aside))
        try:
            parts = (pairs_section, crispness_section, photographs_section, cost_section)
            sections = [heading(), *(part(runs) for part in parts)]
        except DeblurHubError as mistake:
            raise SystemExit(str(mistake)) from None
    atomic.write_text(options.output, "\n\n".join(sections) + "\n")
    make_picture()
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
