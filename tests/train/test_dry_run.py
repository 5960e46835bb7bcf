"""--dry-run: the recipe as it would be used, what it costs, and nothing written."""

import tomllib

import pytest
import tomli_w

from tests.train.tiny_runs import TINY, arguments
from train.__main__ import main
from train.recipe import known_recipes, load_recipe, recipe_from_table


@pytest.fixture
def dry(pictures, tmp_path, capfd):
    """dry("seed=1", options=[...]) -> (exit code, what it printed)."""

    def run(*changes: str, recipe: str = "compact", steps: int = 40, options: tuple[str, ...] = ()) -> tuple[int, str]:
        capfd.readouterr()
        line = arguments(
            recipe,
            *changes,
            data=pictures,
            output=tmp_path / "run",
            cache=tmp_path / "cache",
            steps=steps,
            options=("--dry-run", *options),
        )
        code = main(line)
        return code, capfd.readouterr().out

    return run


def lines_of(printed: str) -> dict[str, str]:
    """The comments, by the word before their first colon."""
    comments = [line.removeprefix("# ") for line in printed.splitlines() if line.startswith("# ")]
    return {key: rest.strip() for key, colon, rest in (line.partition(":") for line in comments) if colon}


def test_the_resolved_recipe_is_printed_as_toml_that_makes_it_again(dry):
    code, printed = dry("optimizer.lr=3e-4", "seed=7")
    assert code == 0
    found = recipe_from_table(tomllib.loads(printed), "compact")
    assert found == load_recipe("compact", [*TINY, "optimizer.lr=3e-4", "seed=7"])
    assert (found.optimizer.lr, found.seed) == (3e-4, 7)


def test_size_length_memory_and_time_are_told(dry):
    told = lines_of(dry()[1])
    assert told["recipe 'compact'"].startswith("compact, 0.0")
    assert "M parameters" in told["model"] and "multiply-adds for a crop of 32x32" in told["model"]
    assert "for a picture of 1280x720" in told["model"]
    assert told["length"].startswith("40 steps or 10 epochs, about ")  # of four crops of sixteen an epoch
    assert float(told["memory"].split()[0]) > 1
    assert "pictures a second" in told["a step"]
    assert told["validation"].startswith("3 pairs every 3 steps, about ")


def test_a_time_budget_tells_how_many_steps_it_may_take(dry):
    told = lines_of(dry("schedule.steps=0", steps=0, options=("--time-budget", "2h"))[1])
    assert told["length"].startswith("2.0 hours of training, about ")
    assert int(told["length"].split("about ")[1].split()[0]) > 100


def test_nothing_is_written_to_the_output_folder(dry, tmp_path):
    assert dry()[0] == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_left_as_it_is(start, dry, tmp_path):
    assert start("compact", steps=2)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert dry()[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_no_output_folder_needs_to_be_named(pictures, tmp_path, capfd):
    line = arguments("compact", data=pictures, output=tmp_path / "run", cache=tmp_path / "cache")
    place = line.index("--output")
    assert main([*line[:place], *line[place + 2 :], "--dry-run"]) == 0


@pytest.mark.slow
def test_a_gan_tells_of_its_critic_and_counts_its_batches(dry, vgg19):
    told = lines_of(dry(recipe="deblurgan", options=("--perceptual-weights", str(vgg19)))[1])
    assert "M parameters" in told["critic"]


def test_a_mistake_is_one_sentence_before_anything_is_measured(dry, capfd):
    code, printed = dry("data.crop=30")
    assert (code, printed) == (2, "")


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_survives_being_written_and_read(name):
    recipe = load_recipe(name)
    assert recipe_from_table(tomllib.loads(tomli_w.dumps(recipe.as_dict())), name) == recipe


@pytest.mark.parametrize(
    "table",
    [
        {"text": 'quotes " and \\ and \n and é and \x7f', "yes": True, "none": []},
        {"small": 1e-7, "large": 1e300, "third": 1 / 3, "whole": 3.0, "int": 3},
        {"a": {"b": {"c": 1}}, "d": {}, "e": {"f": {}}},
        {"list": [1, 2], "nested": [[1.5], ["x"]], "tables": [{"a": 1}, {"b": "c"}]},
        {"key with spaces": 1, "data.sets": {"GoPro, large": 2.0}},
    ],
)
def test_tables_come_back_from_toml_as_they_were(table):
    assert tomllib.loads(tomli_w.dumps(table)) == table
