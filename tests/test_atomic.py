"""A file is written whole or not at all."""

import os

import pytest

from deblur_hub.atomic import replacing, write_text


def test_a_file_takes_its_place_only_once_it_is_whole(tmp_path):
    target = tmp_path / "result.json"
    target.write_text("before")
    with replacing(target) as part:
        part.write_text("after")
        assert part.parent == tmp_path and target.read_text() == "before"
    assert target.read_text() == "after" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [False, True])
def test_a_failure_leaves_what_was_there_and_passes_on(tmp_path, error, written):
    target = tmp_path / "result.json"
    target.write_text("before")
    with pytest.raises(error), replacing(target) as part:
        if written:
            part.write_text("half")
        raise error
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]


def test_a_folder_in_the_way_is_an_error_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "result.json"
    target.mkdir()
    with pytest.raises(OSError), replacing(target) as part:
        part.write_text("text")
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_or_wrong_parent_is_reported_as_the_writer_met_it(tmp_path):
    (tmp_path / "file").write_text("")
    for parent, error in ((tmp_path / "none", FileNotFoundError), (tmp_path / "file", NotADirectoryError)):
        with pytest.raises(error), replacing(parent / "result.json") as part:
            part.write_text("text")


def test_two_writers_of_one_target_do_not_meet(tmp_path):
    target = tmp_path / ("long" * 60 + ".txt")
    with replacing(target) as first, replacing(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first" and list(tmp_path.iterdir()) == [target]


def test_a_durable_file_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append((tmp_path / "new" / "notes.txt").exists()))
    write_text(tmp_path / "new" / "notes.txt", "ä\n")
    assert flushed == [False] and (tmp_path / "new" / "notes.txt").read_bytes() == "ä\n".encode()
    with replacing(tmp_path / "quick.txt") as part:
        part.write_text("text")
    assert flushed == [False]
