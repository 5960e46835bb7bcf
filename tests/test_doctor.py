"""`deblur-hub doctor`: what a bug report needs, even where something is broken, and no private paths."""

import os
import platform

import pytest
import torch

from deblur_hub import __version__, list_models
from deblur_hub.cli import doctor, main


def facts(capsys) -> dict[str, str]:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = max(len(line.partition("  ")[0]) for line in lines) + 2
    return {line[:at].strip(): line[at:] for line in lines}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DEBLUR_HUB_CACHE", raising=False)
    return tmp_path


def test_it_says_versions_device_precision_and_models_on_one_screen(capsys):
    found = facts(capsys)
    assert len(found) <= 24
    assert found["deblur-hub"].startswith(__version__) and found["Python"].startswith(platform.python_version())
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["devices"].endswith("cpu") and " on cpu" in found["precision"] and "GiB on cpu" in found["free memory"]
    assert found["C kernels"] and found["hub cache"]
    assert all(model in found["bundled models"] for model in list_models())
    assert not any(fact.startswith("unknown (") for fact in found.values())


def test_the_home_folder_is_not_named(capsys, home):
    found = facts(capsys)
    assert os.fspath(home) not in "\n".join(found.values())
    assert found["cache folder"].startswith("~")


def test_our_models_in_the_hubs_cache_are_listed_and_no_others(capsys, home, monkeypatch, generator):
    cache = home / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    for name, config in (("ours", None), ("theirs", '{"model_type": "bert"}')):
        snapshot = cache / f"models--owner--{name}" / "snapshots" / ("a" * 40)
        (snapshot.parents[1] / "refs").mkdir(parents=True)
        (snapshot.parents[1] / "blobs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(config or generator.config.to_json())
    assert facts(capsys)["hub cache"] == "owner/ours"


def test_something_broken_is_told_in_its_line_and_the_rest_is_there(capsys, monkeypatch):
    def broken():
        raise RuntimeError("no driver\nlong story")

    monkeypatch.setattr(doctor, "devices", broken)
    found = facts(capsys)
    assert found["devices"] == "unknown (RuntimeError: no driver)" and found["bundled models"]
