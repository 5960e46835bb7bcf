"""list_models: names that know their scores, and cost nothing until they are asked."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
import yaml

from deblur_hub import hub, list_models


def test_the_bundled_models_are_names_like_any_other_text():
    first = list_models()[0]
    assert first == hub.DEFAULT_MODEL == "maxim" and f"{first}" == str(first) == "maxim"
    assert json.dumps([first]) == '["maxim"]' and {first: 1}["maxim"] == 1 and "compact" in list_models()
    for twin in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert twin == first and twin.scores == first.scores


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_a_bundled_model_knows_the_scores_of_its_card_with_the_blurry_inputs_own(released_model, name):
    front = yaml.safe_load((hub.BUNDLED / name / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert name.scores == {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert name.scores["psnr"] > name.scores["blurred_psnr"] > 20 and name.dataset == result["dataset"]["name"]
    assert name.license == front["license"] == "apache-2.0"
    assert name.origin == ("authors' weights" if name == "maxim" else "trained here") and name.origin in name.describe()
    assert name.parameters == sum(parameter.numel() for parameter in released_model(name).parameters())


@pytest.mark.parametrize("name", list_models())
def test_a_bundled_model_describes_itself_in_a_line_and_is_quoted_as_a_name(name):
    shown = name.describe()
    assert (
        shown.startswith(f"{name}: ")
        and repr(name) == repr(str(name))
        and f"PSNR {name.scores['psnr']:.2f} dB" in shown
    )
    assert f"blurry input {name.scores['blurred_psnr']:.2f} dB" in shown and name.dataset in shown


def test_a_model_whose_card_has_no_scores_is_listed_without(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.bundled, "BUNDLED", tmp_path)
    generator.save_pretrained(tmp_path / "plain")
    (tmp_path / generator.save_pretrained(tmp_path / "bare") / "README.md").unlink()
    assert list_models() == ["bare", "plain"]
    assert [model.scores for model in list_models()] == [{}, {}] and "PSNR" not in list_models()[0].describe()
    assert [model.license for model in list_models()] == ["", ""]


@pytest.mark.slow
def test_listing_names_reads_no_card_and_asking_for_scores_touches_no_network():
    code = (
        "import sys, deblur_hub; names = deblur_hub.list_models();"
        "assert not {'yaml', 'huggingface_hub'} & set(sys.modules);"
        "import socket; socket.socket.connect = None; print(names[0].scores['psnr'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 20
