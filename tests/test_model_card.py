"""The cards: what the hub reads of them, what people read in them, and that what they quote does no more than show."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur_hub import GeneratorConfig, ModelError, hub, list_models
from deblur_hub.model_card import (
    CARD_BEGIN,
    CARD_END,
    NOTHING_KNOWN,
    PSNR,
    SHEET,
    SSIM,
    About,
    Cost,
    Data,
    Scores,
    converted_card,
    merge,
    plain_card,
    read_about,
    read_facts,
    release_card,
    training_card,
)

CONFIG = GeneratorConfig("compact", {"widths": [8, 16]}, name="tiny")
MEAN = {"psnr": 25.4321, "ssim": 0.87654, "blurred_psnr": 24.1, "blurred_ssim": 0.8}
ROWS = [{"name": "a/1.png", **MEAN}, {"name": "a/2.png", **MEAN, "psnr": 24.2}]
SCORES = Scores(
    "2 pairs of a test",
    "owner/set",
    "pairs",
    "pairs of any size",
    (PSNR, SSIM),
    MEAN,
    ROWS,
    precision="float32",
    command="deblur-hub evaluate tiny pairs",
)
COST = Cost(0.5, 2, "float32", "cpu", threads=2, memory=2**30)
RECIPE = {"name": "tiny", "data": {"batch_size": 2, "crop": 32}}
BUNDLED = [(hub.BUNDLED / name / "README.md").read_text(encoding="utf-8") for name in list_models()]

CARDS = {
    "plain": plain_card(CONFIG),
    "converted": converted_card(CONFIG, "DeblurGAN's generator", "latest_net_G.pth"),
    "trained": training_card(RECIPE, MEAN, ROWS, 10, 60.0, recipe_text='name = "tiny"'),
    "trained on all": training_card(RECIPE, {}, [], 10, 60.0),
    "released": release_card(CONFIG, SCORES, COST, NOTHING_KNOWN),
    **dict(zip(list_models(), BUNDLED, strict=True)),
}


# --- what the hub reads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_the_hubs_own_code_reads_every_card_and_writes_it_back_as_it_is(card):
    found = ModelCard(card)
    assert found.content == card
    assert (found.data.library_name, found.data.pipeline_tag) == ("deblur-hub", "image-to-image")
    assert "deblurring" in found.data.tags
    index = yaml.safe_load(card.split("---\n")[1]).get("model-index")
    if index:
        name, results = model_index_to_eval_results(index)
        assert eval_results_to_model_index(name, results) == index == found.data.to_dict()["model-index"]


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_no_card_leaves_a_question_open_or_names_a_folder_of_a_machine(card):
    assert "More Information Needed" not in card and "None" not in card
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|mnt|Users)/", card)


def test_the_index_holds_the_means_of_the_tables_and_the_blurry_inputs_own():
    (result,) = yaml.safe_load(CARDS["released"].split("---\n")[1])["model-index"][0]["results"]
    assert result["dataset"] == {
        "type": "owner/set",
        "name": "2 pairs of a test",
        "args": {"protocol": "pairs", "pictures": 2},
    }
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "psnr": 25.43,
        "blurred_psnr": 24.1,
        "ssim": 0.8765,
        "blurred_ssim": 0.8,
    }
    assert "| **mean** | 24.10 dB | 25.43 dB | +1.33 dB | 0.8000 | 0.8765 |" in CARDS["released"]


def test_a_perfect_score_is_in_the_table_and_not_in_the_index_which_knows_no_infinity():
    mean = MEAN | {"psnr": math.inf}
    card = training_card(RECIPE, mean, [{"name": "1.png", **mean}], 1, 1.0)
    assert "psnr" not in read_facts(card).scores and read_facts(card).scores["blurred_psnr"] == 24.1
    assert "inf dB" in card and ".inf" not in card


def test_a_card_without_scores_has_no_index():
    for name in ("plain", "converted", "trained on all"):
        assert "model-index" not in CARDS[name] and "metrics" not in CARDS[name]


@pytest.mark.parametrize(
    "broken", ["", "no front matter", "---\n[\n---\n", "---\n- a\n---\n", "---\nmodel-index: 3\n---\n"]
)
def test_of_a_card_that_cannot_be_read_nothing_is_known(broken):
    assert read_facts(broken).scores == {}


# --- what people read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_a_bundled_card_answers_what_people_ask(name):
    sections = re.findall(r"^## (.*)$", CARDS[name], re.M)
    assert sections == [
        "Use",
        *(["Qualities"] if name == "maxim" else []),
        "Scores",
        "Speed and memory",
        "Training",
        "Where it fails",
        "Licence and credits",
        "Citation",
    ]
    source = "deblur-hub convert package/models" if name == "maxim" else "accelerate launch train/ --recipe"
    assert source in CARDS[name] and "s a picture" in CARDS[name]
    assert "datasets:\n- snah/GOPRO_Large" in CARDS[name] and "CC BY 4.0" in CARDS[name]


@pytest.mark.parametrize("name", list_models())
def test_the_pictures_of_a_bundled_card_lie_beside_it_and_are_small(name):
    (link,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", CARDS[name])
    file = hub.BUNDLED / name / link
    assert link == SHEET and file.stat().st_size < 300_000
    with Image.open(file) as sheet:
        assert sheet.format == "JPEG" and sheet.width > 3 * 200


def test_a_set_of_many_pictures_has_only_its_mean_in_the_card():
    rows = [{"name": f"{number}.png", **MEAN} for number in range(1111)]
    card = release_card(CONFIG, replace(SCORES, rows=rows), COST, NOTHING_KNOWN)
    assert "| **mean** |" in card and "| 7.png |" not in card and "pictures: 1111" in card


def test_the_picture_that_was_helped_least_is_named():
    assert "did least for a/2.png: +0.10 dB of PSNR" in CARDS["released"]


def test_what_nobody_told_is_left_out_and_not_made_up():
    card = CARDS["released"]
    assert "## Training" not in card and "trained on" not in card and "datasets:" not in card
    assert SHEET not in card


# --- quoting -------------------------------------------------------------------------------------------------------

NASTY = [
    '"quotes": and a colon # no comment',
    "--- \n---\nlicense: mit\n---\n",
    "<script>alert(1)</script>",
    "![x](javascript:alert(1)) [y](http://example.org)",
    "a | b `c` ```d``` *e* _f_ ~g~ \\ h",
    f"{CARD_END} {CARD_BEGIN}",
    "line\nbreak\r\ttab\x00nul \u202eoverride",
    "\ud800 half a character",
    "true",
    "1e3",
    "null",
    "- item",
    "\u00fcml\u00e4ut \U0001f4f7",
]


def all_cards(text: str) -> dict[str, str]:
    """Every kind of card, with the text wherever text from outside can be."""
    config = GeneratorConfig("compact", {}, name="".join(filter(str.isprintable, text))[:100])
    rows = [{**row, "name": text} for row in ROWS]
    scores = Scores(text, text, text, text, (PSNR, SSIM), MEAN, rows, (text,), text, text)
    cost = Cost(1.0, 2, text, text)
    recipe = {"name": text, "data": {"batch_size": 2, "crop": 32}}
    return {
        "plain": plain_card(config),
        "converted": converted_card(config, text, text),
        "trained": training_card(recipe, MEAN, rows, 1, 1.0, recipe_text=f"# {text}"),
        "released": release_card(config, scores, cost, About(license=text, recipe=text), address=text),
    }


def check_quoted(text: str) -> None:
    for kind, card in all_cards(text).items():
        card.encode("utf-8")
        assert card.count(CARD_BEGIN) == card.count(CARD_END) == 1, kind
        data = ModelCard(card).data.to_dict()
        assert set(data) <= {"library_name", "pipeline_tag", "license", "metrics", "tags", "model-index"}, kind
        body = card.split(CARD_BEGIN)[1].split(CARD_END)[0]
        prose = re.sub(r"(?m)^(`{3,})\w*\n.*?^\1$|^    .*$", "", body, flags=re.S)  # but for fences and commands
        prose = re.sub(r"(?s)(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
        assert "<" not in prose and not re.search(r"(?<!\\)\]\(", prose), kind


@pytest.mark.parametrize("text", NASTY)
def test_whatever_a_name_is_it_is_shown_and_does_nothing_else(text):
    check_quoted(text)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40) | st.text("`|<>[]()\\_*-#\n: \"'!&", max_size=30))
def test_any_name_at_all_leaves_the_card_whole(text):
    check_quoted(text)


def test_a_name_is_read_back_as_it_is():
    name = 'my "model": <b> #1'
    card = training_card(RECIPE | {"name": name}, MEAN, ROWS, 1, 1.0)
    assert ModelCard(card).data.model_name == name
    assert 'my "model": &lt;b&gt; #1' in card


# --- generated again -----------------------------------------------------------------------------------------------


def test_a_card_that_is_generated_again_keeps_what_a_person_wrote_around_it():
    mine = CARDS["plain"].replace(CARD_BEGIN, f"My own words.\n\n{CARD_BEGIN}") + "\nAnd mine below.\n"
    card = merge(mine, CARDS["released"])
    assert card.startswith(CARDS["released"].partition(CARD_BEGIN)[0] + "My own words.\n\n" + CARD_BEGIN)
    assert card.endswith(f"{CARD_END}\n\nAnd mine below.\n") and "## Scores" in card
    assert merge(card, CARDS["released"]) == card
    assert merge(card, CARDS["plain"]) == mine


def test_generating_again_without_a_persons_words_gives_the_fresh_card():
    assert merge(CARDS["plain"], CARDS["released"]) == CARDS["released"]


@pytest.mark.parametrize(
    "before",
    ["mine", f"{CARD_END}\n{CARD_BEGIN}", f"{CARD_BEGIN}{CARD_BEGIN}{CARD_END}", CARDS["plain"].replace(CARD_END, "")],
)
def test_a_card_whose_marks_do_not_tell_what_is_whose_keeps_its_text(before):
    assert merge(before, CARDS["released"]).endswith(before.partition("---\n\n")[2] or before)


@pytest.mark.parametrize("kind", ["plain", "converted", "trained", "released"])
def test_a_licence_that_nobody_stated_is_not_made_up(kind):
    assert not read_facts(CARDS[kind]).license and "apache" not in CARDS[kind]


def test_a_card_that_is_generated_again_keeps_the_licence_tags_and_keys_of_its_front_matter(caplog):
    theirs = "license: other\nlicense_name: mine\nlanguage: de\n"
    edited = CARDS["plain"].replace("tags:\n", f"{theirs}tags:\n- my-thesis\n- authors-weights\n")
    for about in (NOTHING_KNOWN, About(license="mit")):
        data = ModelCard(merge(edited, release_card(CONFIG, SCORES, COST, about))).data.to_dict()
        assert (data["license"], data["license_name"], data["language"]) == ("other", "mine", "de")
        assert data["tags"] == ["my-thesis", "deblurring", "image-restoration"]
        assert data["model-index"] and data["metrics"] == ["psnr", "ssim"]
    assert "keeps its licence 'other'" in caplog.text


# --- what its makers say -------------------------------------------------------------------------------------------


def about(tmp_path: Path, text: str) -> About:
    (tmp_path / "about.toml").write_text(text, encoding="utf-8")
    return read_about(tmp_path / "about.toml")


def test_a_description_is_read_with_its_data_and_pictures(tmp_path):
    found = about(
        tmp_path,
        'training = "Long."\n[pairs]\nfolder = "set"\n[[data]]\nname = "GoPro"\nlicence = "CC BY 4.0"\n'
        '[[pictures]]\nname = "a.png"\ncredit = "me"\ncorner = [3, 4]\n',
    )
    assert found.training == "Long." and found.pairs.folder == "set" and not found.license
    assert found.data == (Data("GoPro", licence="CC BY 4.0"),) and found.pictures[0].corner == (3, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('trainign = "x"', "unknown key 'trainign' (did you mean 'training'?)"),
        ("training = 3", "'training' must be a text, not 3"),
        ('data = "GoPro"', "write [[data]] above each"),
        ("data = [3]", "holds 3 where a table belongs"),
        ('[[data]]\nby = "x"', "an entry has no 'name'"),
        ('[[pictures]]\nname = "x"', "an entry has no 'credit'"),
        ('[[pictures]]\nname = "x"\ncredit = "y"\ncorner = [1]', "'corner' is [1]"),
        ("pairs = 3", "holds 3 where a table belongs"),
        ("= broken", "cannot be read"),
    ],
)
def test_a_mistake_in_a_description_is_one_sentence(tmp_path, text, told):
    with pytest.raises(ModelError) as mistake:
        about(tmp_path, text)
    assert told in str(mistake.value) and "about.toml" in str(mistake.value) and "\n" not in str(mistake.value)


@pytest.mark.parametrize("name", list_models())
def test_the_description_of_every_bundled_model_is_kept_and_is_in_its_card(name):
    found = read_about(Path(__file__).parents[1] / "docs" / "cards" / f"{name}.toml")
    own = (found.authors, found.notice) if name == "maxim" else (found.recipe,)
    for text in (found.training, found.fails, *own, *(data.name for data in found.data)):
        assert text.strip() and text.strip() in CARDS[name]
