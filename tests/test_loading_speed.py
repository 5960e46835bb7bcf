"""Loading with every check is hardly slower than reading the file and building the module with none."""

import pytest

from deblur_hub import DEFAULT_MODEL
from deblur_hub.cli import main
from deblur_hub.evaluation.benchmark import measure_loading

MOST = 1.3


@pytest.mark.slow
def test_the_default_loads_in_at_most_1_3_times_what_reading_and_building_take():
    # Other work on the machine only adds to it, so the least of several measurements counts.
    found = measure_loading(DEFAULT_MODEL, loads=6)
    for _ in range(6):
        if found.ratio > MOST:
            found = measure_loading(DEFAULT_MODEL, loads=6)
    assert found.ratio <= MOST, found
    assert found.bare > 0 and found.seconds > 0


def test_the_shell_measures_loading_and_reading_in_one_run(capsys, generator, tmp_path):
    folder = generator.save_pretrained(tmp_path / "model")
    assert main(["benchmark", str(folder), "--load", "--runs", "1"]) == 0
    said = capsys.readouterr().out
    assert "median of 10 interleaved loads" in said
    (row,) = [line for line in said.splitlines() if line.startswith(f"| {folder}")]
    seconds, bare, ratio = (float(cell.split()[0]) for cell in row.split("|")[2:-1])
    assert ratio == pytest.approx(seconds / bare, rel=0.5)


def test_what_cannot_be_loaded_is_one_sentence(capsys, generator, tmp_path):
    assert main(["benchmark", "nope", "--load"]) == 2
    generator.save_pretrained(tmp_path / "model", max_shard_size=20_000)
    assert main(["benchmark", str(tmp_path / "model"), "--load"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "neither a bundled model" in first and "spread over several files" in second
