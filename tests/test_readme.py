"""What the pages tell people to type works as it stands there.

Every command and every piece of Python of a page is run, in the page's order and in one folder. What cannot be run here
is parsed by the program that it is for; `PARSED` says why. train/EXPERIMENTS.md is a record of what was once run, and
no instruction.
"""

import argparse
import functools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurGenerator, list_models
from deblur_hub.cli import main, parser
from deblur_hub.hub import bundled
from tests.conversion.test_deblurgan import deblurgan_state
from tests.train.tiny_runs import TINY, make_pairs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
CARDS = [f"deblur_hub/weights/{name}/README.md" for name in list_models()]
SMALL = ("maxim", "compact")  # bundled models that pages run, and that have a small stand-in here
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *DOCS, "train/README.md", "space/README.md"]
WORDS = [*PAGES, ".github/ISSUE_TEMPLATE/bug.md", ".github/pull_request_template.md"]

# Commands that are parsed and not run here, and why.
PARSED = {
    r"deblur-hub demo": "serves until it is stopped; tests/browser opens it",
    r"deblur-hub publish": "needs a hub; tests/test_hub_publishing.py has one",
    r"deblur-hub export .*--format web": "needs npm's package; tests/browser opens it",
    r"deblur-hub export maxim": "takes minutes; tests/test_export.py exports small ones",
    r"python -m http.server": "serves until it is stopped",
    r"deblur-hub benchmark": "takes minutes; tests/test_cli.py runs it on small pictures",
    r"deblur-hub verify": "takes a minute of the default model; tests/test_verify.py runs it on every model",
    r"deblur-hub .*--protocol gopro": "is refused for fewer pairs than GoPro's 1111; tests/evaluation has as many",
    r"deblur-hub networks": "takes a while; tests/test_cli.py runs it",
    r"deblur-hub release": "is refused for other pairs than its card names; tests/test_release.py runs it",
    r"deblur-hub convert (checkpoint|package|srn)": "needs a download; tests/conversion has one of each layout",
    r"deblur-hub .*--metrics .*(features|lpips)": "needs a classifier's weights; tests/evaluation runs it",
    r"(\w+=\w+ )?(accelerate|torchrun|python train/)": "takes hours; tests/train runs every recipe for some steps",
    r"make ": "installs into .venv; .ci/run does it",
    r"(pip|npm|git|python3 -m venv|python -m hatchling)": "needs a network or changes the machine",
    r"(\.venv/bin/python|python) -m pytest": "is what runs this",
    r"deblur-hub deblur clip": "needs a video; tests/test_video.py makes some",
    r"tensorboard": "serves until it is stopped",
    r"python -c": "works on what the line before left, which takes a minute",
}
PARSED_PAGES = {
    **dict.fromkeys(CARDS, "scores and trains the released models"),
    "RESULTS.md": "takes hours; `make results` runs them",
    "train/README.md": "takes hours; `make ablation` runs them",
}
# Python that is compiled and not run: tests/browser/test_endpoints.py calls a page, tests/test_ray.py has a cluster
COMPILED = ("gradio_client", "ray.data")
LAUNCHED = {"deblur_hub.evaluation": "evaluate", "deblur_hub.batch": "deblur"}  # modules, and the command of each
EXTRA = re.compile(r"\[([\w,]+)\]")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, content) of all fenced and indented blocks of a page; indented ones have the language ''."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)  # the front matter of a card
    found = []
    for fence, language, fenced, indented in re.findall(
        r"^(```)(\w*)\n(.*?)^```$|(?:(?<=\n\n)|\A)((?: {4}[^\n]*\n|\n(?= {4}))+)", text, re.S | re.M
    ):
        found.append((language if fence else "", fenced or re.sub(r"^ {4}", "", indented, flags=re.M)))
    return found


def commands(page: str) -> list[str]:
    """Of a page's shell blocks, without comments and prompts, split at `&&`."""
    found = []
    for language, content in blocks(page):
        if language not in ("", "sh") or content.startswith(("from ", "import ")):
            continue
        lines = iter(content.splitlines())
        for line in lines:
            while line.count('"') % 2 or line.endswith("\\"):
                line = f"{line}\n{next(lines)}"
            line = re.split(r"\s+#\s", line)[0].strip()
            found += [part.removeprefix(".venv/bin/") for part in re.split(r"\s+&&\s+", line) if part]
    return found


def python(page: str) -> list[str]:
    return [
        content
        for language, content in blocks(page)
        if language == "python" or (not language and content.startswith(("from ", "import ")))
    ]


@functools.cache
def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))


def require_parsed(command: str) -> None:
    """That the program takes the command, as far as that can be known without running it."""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if words[0] == "deblur-hub":
        assert callable(parser().parse_args(words[1:]).run)
    elif "train/" in words:
        require_launcher(words[: words.index("train/") + 1])
        require_training(words[words.index("train/") + 1 :])
    elif modules := LAUNCHED.keys() & set(words):
        (module,) = modules
        require_launcher(words[: words.index(module) + 1])
        parser().parse_args([LAUNCHED[module], *words[words.index(module) + 1 :]])
    elif words[:2] == ["python", "train/study/ablation.py"]:
        from train.study.ablation import parse, read_plans

        known = {plan.name for plan in read_plans(ROOT / "train/study/ablation.toml")[1]}
        assert set(parse(words[2:]).row) <= known
    elif words[:2] == ["python", "-c"]:
        compile(words[2], "page", "exec")
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert words[1] in targets()
        assert all(f"$({variable.partition('=')[0]})" in makefile for variable in words[2:])
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (wanted,) = EXTRA.findall(words[-1])
        assert set(wanted.split(",")) <= extras.keys()
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / path).exists() for path in words[3:])
    else:
        assert words[0] in ("git", "cd", "npm", "tar", "pip", "unzip", "tensorboard", "python3", "python"), command


def require_launcher(words: list[str]) -> None:
    """That `accelerate launch` or `torchrun` takes the words up to the program, which is their last."""
    if words[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        assert launch_command_parser().parse_args(words[2:]).training_script == words[-1]
    elif words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        assert get_args_parser().parse_args(words[1:]).training_script == words[-1]
    else:
        assert words == ["python", "train/"]


def require_training(words: list[str]) -> None:
    """That `train/` takes the words, and that the recipe and what is changed of it exist; '...' stands for them."""
    from train.__main__ import parse
    from train.recipe import load_recipe

    if words != ["..."]:
        options = parse(words)
        if options.recipe and not (ROOT / "CONTRIBUTING.md").read_text().count(f"train/recipes/{options.recipe}.toml"):
            load_recipe(options.recipe, options.set)


@pytest.fixture
def here(tmp_path, monkeypatch, generator, small_models) -> Path:
    """A folder with what the pages speak of: photos, pairs, a checkpoint, model folders; and quick bundled models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled, "BUNDLED", small_models)
    rng = np.random.default_rng(0)
    pairs = ("pairs", "eval/gopro", "GOPRO_Large/test/GOPR0384_11_00")
    paired = [f"{folder}/{side}/1.png" for folder in pairs for side in ("blur", "sharp")]
    single = ("photo.jpg", "holiday/beach.jpg", "photos/1.png", "eval/sharp/1.png", "blur/1.png", "sharp/1.png")
    for path in (*single, *paired):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(tmp_path / path)
    (tmp_path / "restored").mkdir()
    Image.open("sharp/1.png").save("restored/1.png")
    for folder in ("model", "mine", "mine-gan", "runs/compact/model", "runs/plain/model"):
        generator.save_pretrained(tmp_path / folder)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    torch.save(deblurgan_state(width=4, blocks=2), "latest_net_G.pth")
    Path("generator.h5").write_bytes((ROOT / "tests/data/keras/generator.h5").read_bytes())
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [*PAGES, *CARDS, "RESULTS.md"])
def test_the_commands_of_a_page_work(page, here):
    if page == "docs/publishing.md":  # whose card is of an evaluation
        assert main(["evaluate", "runs/compact/model", "pairs/", "--output", "out/", "-q"]) == 0
    for command in commands(page):
        require_parsed(command)
        words = shlex.split(command)
        if words[0] != "deblur-hub" or page in PARSED_PAGES or any(re.match(key, command) for key in PARSED):
            continue
        quiet = ["-q"] if words[1] in ("deblur", "evaluate", "score") else []
        Path("photo-deblurred.jpg").unlink(missing_ok=True)
        assert main([*words[1:], *quiet]) == 0, command


def test_every_command_that_is_not_run_has_a_reason_and_every_reason_a_command():
    shown = [command for page in PAGES for command in commands(page)]
    others = [command for command in shown if not command.startswith(("deblur-hub", "cd ", "tar ", "unzip "))]
    assert len(shown) > 60
    for command in others:
        assert any(re.match(key, command) for key in PARSED), command
    for key, reason in PARSED.items():
        assert reason and any(re.match(key, command) for command in shown), key


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if python(page) and page != "CONTRIBUTING.md"])
def test_the_python_of_a_page_works(page, here, capsys):
    if page == "docs/export.md":  # whose Python runs what its commands write
        assert main(["export", "compact", "--format", "onnx", "-o", "compact.onnx"]) == 0
    scope = {}
    for block in python(page):
        code = compile(block, page, "exec")
        if not any(word in block for word in COMPILED):
            exec(code, scope)
    for name in ("restored.png", "crisp.png"):
        if f'save("{name}")' in (ROOT / page).read_text():
            assert Image.open(name).size == Image.open("photo.jpg").size
    if page == "docs/networks.md":
        assert capsys.readouterr().out.startswith("17.11 M parameters, 224 G multiply-adds at 1280x720")


@pytest.mark.parametrize("card", CARDS)
def test_the_three_lines_of_a_card_load_its_model_and_restore_a_photo(card, here, small_models, monkeypatch):
    name = Path(card).parent.name
    stand_in = small_models / name if name in SMALL else here / "model"
    monkeypatch.setattr(bundled, "BUNDLED", here / "weights")
    (here / "weights").mkdir()
    (here / "weights" / name).symlink_to(stand_in, target_is_directory=True)
    (block,) = python(card)
    assert len([line for line in block.splitlines() if line]) == 3
    exec(block, {})
    assert f'from_pretrained("{name}")' in block and Image.open("sharp.png").size == Image.open("photo.jpg").size


def test_the_job_script_is_one_that_a_shell_reads():
    (script,) = [content for language, content in blocks("docs/training.md") if language == "bash"]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    (words,) = re.findall(r"exec python train/ (.*?) \$resume", script)
    require_training(shlex.split(words))


@pytest.mark.slow
def test_a_network_is_added_in_the_three_steps_of_contributing(tmp_path, monkeypatch):
    import importlib.util
    import sys

    from accelerate.state import AcceleratorState

    import train.recipe
    from deblur_hub import networks
    from train.__main__ import main as train_main

    found = blocks("CONTRIBUTING.md")
    (network, described), (diff,) = python("CONTRIBUTING.md"), [body for kind, body in found if kind == "diff"]
    (recipe,) = [body for kind, body in found if kind == "toml"]
    # 1: the file, imported as a part of the package
    (tmp_path / "plain.py").write_text(network)
    spec = importlib.util.spec_from_file_location("deblur_hub.networks.plain", tmp_path / "plain.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    # 2: its two lines
    imported, entry = (line.removeprefix("+") for line in diff.splitlines())
    scope = {"__package__": "deblur_hub.networks"}
    exec(imported, scope)
    for name, made in eval(f"{{{entry}}}", scope).items():
        monkeypatch.setitem(networks.NETWORKS, name, made)
    exec(described, {})
    # 3: the recipe, and the command, a few steps long and on small pictures
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/plain.toml").write_text(recipe)
    monkeypatch.setattr(train.recipe, "RECIPES", tmp_path / "recipes")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)
    make_pairs(tmp_path / "pictures" / "scene", 6, seed=0)
    (command,) = [command for command in commands("CONTRIBUTING.md") if command.startswith("accelerate")]
    tiny = [change for change in TINY if not change.startswith(("network.", "data.blur", "data.frames"))]
    sets = [part for change in (*tiny, "validation.pairs=1", "validation.scenes=[]") for part in ("--set", change)]
    threads = torch.get_num_threads()
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert train_main([*shlex.split(command)[3:], "--steps", "4", "--cache", "cache", *sets]) == 0
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    picture = np.zeros((50, 70, 3), np.uint8)
    made = DeblurGenerator.from_pretrained(tmp_path / "runs/plain/model")
    assert made.config.architecture == "plain" and made.deblur(picture).shape == picture.shape


def test_changes_and_keys_of_recipes_that_pages_name_exist():
    from train.recipe import Recipe, dotted_keys, known_recipes

    known = set(dotted_keys(Recipe)) | {"behind", "critic", "features"}  # these are variants
    for page in PAGES:
        text = (ROOT / page).read_text()
        named = re.findall(r"--set ([\w.]+)=", text)
        named += re.findall(r"`((?:data|optimizer|schedule|loss|validation|alarms)\.[\w.]+)", text)
        assert not set(named) - known, page
    training = (ROOT / "docs/training.md").read_text()
    for name in known_recipes():
        assert f"`{name}`" in training, name


def test_options_that_pages_name_exist():
    (commands_of,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    help_of = "".join(made.format_help() for made in commands_of.choices.values())
    programs = "train/__main__.py", "train/study/ablation.py", "train/study/blur_kinds.py"
    source = "".join((ROOT / program).read_text() for program in programs)
    launchers = {"--quiet", "--multi_gpu", "--num_processes", "--nnodes", "--nproc_per_node", "--rdzv_backend"}
    launchers |= {"--rdzv_endpoint", "--standalone", "--no-deps", "--editable", "--help", "--logdir"}
    scheduler = {"--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--signal", "--requeue"}
    scheduler |= {"--open-mode", "--recipe"}
    for page in PAGES:
        for option in set(re.findall(r"(?<![\w-])--[a-z][\w-]+", (ROOT / page).read_text())):
            assert option in help_of or f'"{option}"' in source or option in launchers | scheduler, (page, option)


@pytest.mark.parametrize("page", [*WORDS, *CARDS, "RESULTS.md"])
def test_links_and_pictures_of_a_page_exist(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[\w-]+)?\)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([\w-]+)\)", text):
        target = (ROOT / page).parent.joinpath(link) if link else ROOT / page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", *DOCS])
def test_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:deblur_hub|train|space|tests|docs|\.ci|\.github)/[\w./-]*)`", text))
    made = {"deblur_hub/networks/plain.py", "train/recipes/plain.toml"} if page == "CONTRIBUTING.md" else set()
    assert not [name for name in named - made if not (ROOT / name).exists()]


def test_the_readme_is_short_and_every_page_says_whom_it_is_for():
    assert len(README.splitlines()) <= 110
    for page in DOCS:
        assert re.match(r"# [^\n]+\n\nFor people who ", (ROOT / page).read_text()), page
        assert f"({page})" in README, page


def test_the_commands_without_make_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    assert "pip install --quiet --editable '.[space]'" in makefile and "pip install --editable '.[space]'" in README


def test_issues_and_pull_requests_ask_for_picture_command_and_doctor():
    for page in WORDS[-2:]:
        text = (ROOT / page).read_text().lower()
        assert all(word in text for word in ("picture", "command", "deblur-hub doctor"))
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()


@pytest.mark.parametrize("name", list_models())
def test_scores_are_those_of_the_bundled_models_card(name):
    tables = README + (ROOT / "docs/restoring.md").read_text()
    row = next(line for line in tables.splitlines() if line.startswith(f"| `{name}`"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    card = (ROOT / f"deblur_hub/weights/{name}/README.md").read_text()
    (mean,) = [line for line in card.splitlines() if line.startswith("| **mean**")]
    blurred_psnr, psnr, _, blurred_ssim, ssim = (cell.strip() for cell in mean.split("|")[2:-1])
    assert cells[3:6] == [psnr, ssim, f"{blurred_psnr}, {blurred_ssim}"]
