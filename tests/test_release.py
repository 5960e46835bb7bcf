"""A model that is released, and its card: measured as it is shipped, from results.json, whole or not at all."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from deblur_hub import DeblurGenerator, GeneratorConfig, hub
from deblur_hub.cli import main
from deblur_hub.evaluation import Evaluation
from deblur_hub.evaluation.protocols import PROTOCOLS
from deblur_hub.model_card import CARD_END, SHEET, read_facts
from deblur_hub.release import GAP, SIDE, command_of, scores_of
from tests.conftest import TINY, awake

ABOUT = """
training = "Trained by a test."
fails = "It fails at everything."
[pairs]
folder = "set/of-two"
title = "Two pairs"
dataset = "owner/set"
[[pictures]]
name = "1.png"
credit = "noise, by nobody, CC0"
corner = [2, 1]
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A model, pairs, and what was measured of the one on the other."""
    folder = tmp_path_factory.mktemp("measured")
    generator = DeblurGenerator(GeneratorConfig("compact", TINY, name="tiny"))
    awake(generator.network)
    generator.save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    for number in range(2):
        coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
        sharp = np.asarray(coarse.resize((SIDE + 30, SIDE + 20)))
        for kind, pixels in (("sharp", sharp), ("blur", sharp // 2 + 60)):
            (folder / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "pairs" / kind / f"{number}.png")
    line = ["evaluate", str(folder / "model"), str(folder / "pairs"), "--output", str(folder / "out"), "-q"]
    assert main(line) == 0
    return folder


@pytest.fixture
def model(measured, tmp_path) -> Path:
    return shutil.copytree(measured / "model", tmp_path / "model")


@pytest.fixture
def pairs(measured) -> Path:
    return measured / "pairs"


@pytest.fixture
def results(measured, tmp_path) -> Path:
    return shutil.copy(measured / "out" / "results.json", tmp_path / "results.json")


@pytest.fixture
def about(tmp_path) -> Path:
    (tmp_path / "about.toml").write_text(ABOUT)
    return tmp_path / "about.toml"


def refused(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("deblur-hub: ") and told.count("\n") == 1, told
    return told


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- the card of a folder, from an evaluation ---------------------------------------------------------------------


def test_a_card_holds_what_the_evaluation_measured_and_no_folder_of_this_machine(model, results, about, pairs):
    assert main(["card", str(model), "--results", str(results), "--about", str(about)]) == 0
    card, found = (model / "README.md").read_text(), Evaluation.read(results)
    facts = read_facts(card)
    assert facts.dataset == "Two pairs"
    for name in ("psnr", "ssim", "ssim_matlab", "blurred_psnr", "blurred_ssim", "blurred_ssim_matlab"):
        assert facts.scores[name] == round(found.mean(name), 2 if "psnr" in name else 4)
    assert "It fails at everything." in card and "Trained by a test." in card
    assert f"{found.seconds_per_picture():.2g} s a picture" in card
    assert f"{found.peak_memory / 2**30:.2f} GiB of memory" in card
    assert "    deblur-hub evaluate path/to/this/folder set/of-two --precision " in card
    assert str(pairs) not in card and str(model) not in card


def test_the_weights_stay_as_they_are_when_a_card_is_renewed(model, results):
    before = contents(model)
    assert main(["card", str(model), "--results", str(results)]) == 0
    after = contents(model)
    assert before.pop("README.md") != after.pop("README.md") and before == after


def test_a_renewed_card_keeps_a_persons_words(model, results):
    card = model / "README.md"
    card.write_text(card.read_text().replace(CARD_END, f"{CARD_END}\nMine."))
    assert main(["card", str(model), "--results", str(results)]) == 0
    assert card.read_text().endswith("Mine.\n") and "## Scores" in card.read_text()


def with_front(card: Path, lines: str) -> None:
    """Writes lines into a card's front matter, as a person does."""
    card.write_text(card.read_text().replace("tags:\n", f"{lines}\ntags:\n- my-thesis\n"))


def front(card: Path) -> dict:
    return yaml.safe_load(card.read_text().split("---\n")[1])


def test_a_renewed_card_keeps_the_licence_and_tags_of_its_front_matter(model, results, about):
    with_front(model / "README.md", "license: cc-by-nc-4.0\nlanguage: de")
    about.write_text(f'license = "mit"\n{ABOUT}')
    assert main(["card", str(model), "--results", str(results), "--about", str(about)]) == 0
    found = front(model / "README.md")
    assert (found["license"], found["language"]) == ("cc-by-nc-4.0", "de") and "my-thesis" in found["tags"]
    assert "The weights: cc-by-nc-4.0." in (model / "README.md").read_text() and found["model-index"]


def test_a_licence_that_nobody_knows_is_in_no_card(model, results):
    assert main(["card", str(model), "--results", str(results)]) == 0
    assert "license" not in front(model / "README.md")
    assert "The weights: their licence is not known." in (model / "README.md").read_text()


def test_a_card_that_a_person_wrote_is_not_replaced(model, results, capsys):
    (model / "README.md").write_text("mine")
    assert "move it away to have it written anew" in refused(capsys, "card", model, "--results", results)
    assert (model / "README.md").read_text() == "mine"


def test_scores_of_other_weights_do_not_get_into_a_card(model, results, capsys):
    generator = DeblurGenerator.from_pretrained(model)
    next(generator.parameters()).data.mul_(1.001)
    generator.save_pretrained(model)
    before = contents(model)
    assert "was measured of other weights than those in" in refused(capsys, "card", model, "--results", results)
    assert contents(model) == before


def test_scores_without_a_blurry_input_are_refused(model, pairs, tmp_path, capsys):
    assert main(["evaluate", str(model), "--sharp", str(pairs / "sharp"), "--output", str(tmp_path / "s"), "-q"]) == 0
    assert "evaluate on pairs" in refused(capsys, "card", model, "--results", tmp_path / "s")


def test_the_command_of_a_card_makes_the_same_settings(results):
    content = json.loads(results.read_text())
    for change, words in (
        ({"protocol": "gopro"}, "--protocol gopro --precision float32"),
        ({"protocol": "gopro-gamma", "blur_folder": "blur_gamma"}, "--protocol gopro --blur gamma --precision float32"),
        ({"protocol": "pairs", "blur_folder": "blur_gamma"}, "--blur gamma --precision float32"),
        (
            {"metrics": ["psnr", "ssim", "ssim_matlab", "psnr_y"], "tile": 64},
            "--metrics psnr_y --precision float32 --tile 64",
        ),
    ):
        results.write_text(json.dumps(content | {"precision": "float32"} | change))
        assert command_of(Evaluation.read(results), "m", "a set") == f"deblur-hub evaluate m 'a set' {words}"


def test_no_other_set_goes_by_the_name_of_the_one_that_is_described(model, results, about, capsys):
    found = Evaluation.read(results).settings.fingerprint
    about.write_text(ABOUT.replace("[pairs]", f"[pairs]\nfingerprint = '{found}'"))
    assert main(["card", str(model), "--results", str(results), "--about", str(about)]) == 0
    about.write_text(ABOUT.replace("[pairs]", "[pairs]\nfingerprint = 'of another'"))
    before = contents(model)
    told = refused(capsys, "card", model, "--results", results, "--about", about)
    assert "is not the set that is described as 'Two pairs'" in told and contents(model) == before


def test_the_command_of_a_synthetic_set_names_its_seed(results):
    results.write_text(json.dumps(json.loads(results.read_text()) | {"protocol": "synthetic-shake", "seed": 3}))
    assert " m --synthetic sharp --seed 3 --precision " in command_of(Evaluation.read(results), "m", "sharp")


def test_under_a_published_protocol_a_card_says_what_may_stand_beside_it(results):
    from deblur_hub.model_card import NOTHING_KNOWN

    results.write_text(json.dumps(json.loads(results.read_text()) | {"protocol": "gopro"}))
    assert scores_of(Evaluation.read(results), NOTHING_KNOWN, "m").comparable == PROTOCOLS["gopro"].comparable_with


# --- pictures ------------------------------------------------------------------------------------------------------


def test_pictures_show_blurred_restored_and_sharp_side_by_side(model, results, about, pairs):
    assert main(["card", str(model), "--results", str(results), "--about", str(about), "--pictures", str(pairs)]) == 0
    card = (model / "README.md").read_text()
    assert f"]({SHEET})" in card and "1.png: noise, by nobody, CC0" in card
    blurred, sharp = (Image.open(pairs / kind / "1.png") for kind in ("blur", "sharp"))
    three = (blurred, DeblurGenerator.from_pretrained(model).deblur(blurred), sharp)
    with Image.open(BytesIO((model / SHEET).read_bytes())) as sheet:
        assert sheet.size == (3 * SIDE + 2 * GAP, SIDE) and (model / SHEET).stat().st_size < 300_000
        for column, picture in enumerate(three):
            found = sheet.crop((column * (SIDE + GAP), 0, column * (SIDE + GAP) + SIDE, SIDE))
            wanted = picture.crop((2, 1, 2 + SIDE, 1 + SIDE))
            error = [
                np.abs(np.asarray(found, float) - np.asarray(other, float)).mean()
                for other in (wanted, picture.crop((9, 9, 9 + SIDE, 9 + SIDE)))
            ]
            assert error[0] < 25 and error[1] > 2 * error[0]


def test_a_card_without_pictures_leaves_none_beside_it(model, results, about, pairs):
    line = ["card", str(model), "--results", str(results), "--about", str(about)]
    assert main([*line, "--pictures", str(pairs)]) == 0 and main(line) == 0
    assert not (model / SHEET).exists() and SHEET not in (model / "README.md").read_text()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "1.png"', 'name = "7.png"', "has no pair called '7.png'; it has 0.png, 1.png"),
        ("[2, 1]", "[40, 1]", "choose another corner"),
        ("[[pictures]]", "[[data]]", "unknown key 'credit'"),
    ],
)
def test_pictures_that_cannot_be_shown_are_one_sentence_and_change_nothing(
    model, results, about, pairs, capsys, old, new, told
):
    about.write_text(ABOUT.replace(old, new))
    before = contents(model)
    assert told in refused(capsys, "card", model, "--results", results, "--about", about, "--pictures", pairs)
    assert contents(model) == before


def test_pictures_without_their_credits_are_refused(model, results, pairs, capsys):
    assert "give --about as well" in refused(capsys, "card", model, "--results", results, "--pictures", pairs)


# --- released ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_release_is_measured_as_it_is_shipped_and_has_its_pictures_beside_it(model, pairs, about, tmp_path):
    line = ["release", str(model), "--name", "mine", "--pairs", str(pairs), "--to", str(tmp_path / "all"), "-q"]
    assert main([*line, "--about", str(about), "--pictures", str(pairs)]) == 0
    folder = tmp_path / "all" / "mine"
    assert set(contents(folder)) == {"README.md", "config.json", "golden.safetensors", "model.safetensors", SHEET}
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["mine"]
    assert (
        main(["evaluate", str(folder), str(pairs), "--output", str(tmp_path / "o"), "--precision", "float32", "-q"])
        == 0
    )
    found = read_facts((folder / "README.md").read_text()).scores
    assert found["psnr"] == round(Evaluation.read(tmp_path / "o").mean("psnr"), 2)
    assert main(["card", str(folder), "--results", str(tmp_path / "o"), "--about", str(about)]) == 0  # the same weights
    assert read_facts((folder / "README.md").read_text()).scores == found


@pytest.mark.slow
def test_a_release_keeps_the_licence_and_tags_of_the_model_and_of_what_was_released_before(
    model, pairs, about, tmp_path
):
    line = ["release", str(model), "--name", "mine", "--pairs", str(pairs), "--to", str(tmp_path), "-q"]
    card = tmp_path / "mine" / "README.md"
    assert main(line) == 0 and "license" not in front(card)
    with_front(model / "README.md", "license: cc-by-nc-4.0")
    assert main(line) == 0 and front(card)["license"] == "cc-by-nc-4.0" and "my-thesis" in front(card)["tags"]
    about.write_text(f'license = "mit"\n{ABOUT}')
    card.write_text(card.read_text().replace("cc-by-nc-4.0", "other\nlanguage: de"))
    assert main([*line, "--about", str(about)]) == 0
    assert (front(card)["license"], front(card)["language"]) == ("other", "de") and "my-thesis" in front(card)["tags"]
    shutil.rmtree(card.parent)
    assert main([*line, "--about", str(about)]) == 0 and front(card)["license"] == "mit"


@pytest.mark.slow
def test_a_release_in_which_saving_fails_leaves_the_pictures_before(model, pairs, about, tmp_path, capsys):
    line = ["release", str(model), "--name", "mine", "--pairs", str(pairs), "--to", str(tmp_path / "all"), "-q"]
    line += ["--about", str(about), "--pictures", str(pairs)]
    assert main(line) == 0
    folder = tmp_path / "all" / "mine"
    (folder / "golden.safetensors").unlink()
    (folder / "golden.safetensors").mkdir()  # in the way
    before = [(folder / name).read_bytes() for name in (SHEET, "README.md", "model.safetensors")]
    about.write_text(ABOUT.replace("[2, 1]", "[9, 9]"))
    assert "there is a folder called golden.safetensors" in refused(capsys, *line)
    assert [(folder / name).read_bytes() for name in (SHEET, "README.md", "model.safetensors")] == before
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["mine"]


def test_the_example_of_a_bundled_model_names_it_and_of_any_other_its_folder(model, results, monkeypatch):
    assert main(["card", str(model), "--results", str(results)]) == 0
    assert 'from_pretrained("path/to/this/folder")' in (model / "README.md").read_text()
    monkeypatch.setattr(hub, "BUNDLED", model.parent)
    model.rename(model.parent / "tiny")
    assert main(["card", str(model.parent / "tiny"), "--results", str(results)]) == 0
    assert 'from_pretrained("tiny")' in (model.parent / "tiny" / "README.md").read_text()
