"""config.json: what goes in comes out, and what is none of ours is refused in a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_hub import GeneratorConfig, ModelError
from deblur_hub.config import HEADER, LONGEST_FILE, LONGEST_NAME, SCHEMA_VERSION

NUMBERS = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text().map(lambda text: "".join(filter(str.isprintable, text))[:LONGEST_NAME])
OPTIONS = st.dictionaries(
    st.text().filter(lambda key: key not in HEADER), st.booleans() | NUMBERS | st.text() | st.lists(st.integers())
)


def refusal(text: str) -> str:
    with pytest.raises(ModelError) as error:
        GeneratorConfig.from_json(text, source="owner/name: config.json")
    message = str(error.value)
    assert message.startswith("owner/name: config.json: ") and "\n" not in message and len(message) < 300
    return message


def text(**changes) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION, "architecture": "compact", "name": "tiny"} | changes)


@given(st.text(), OPTIONS, NAMES)
def test_every_configuration_survives_the_trip_through_json(architecture, options, name):
    config = GeneratorConfig(architecture, options, name)
    assert GeneratorConfig.from_json(config.to_json()) == config


def test_the_file_is_flat_and_says_what_wrote_it():
    content = json.loads(GeneratorConfig("compact", {"widths": (8, 16)}, "tiny").to_json())
    assert content["schema_version"] == 1 and content["library_name"] == "deblur-hub"
    assert content["widths"] == [8, 16] and content["architecture"] == "compact" and content["name"] == "tiny"


@given(st.text())
def test_no_text_at_all_raises_anything_but_our_own_error(content):
    try:
        GeneratorConfig.from_json(content)
    except ModelError as error:
        assert str(error).startswith("config.json: ")


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"a":' * 100_000, "\ufeff{}", "1" * 10_000])
def test_what_is_not_json_is_refused(content):
    assert "JSON" in refusal(content)


@pytest.mark.parametrize("content", ["[]", "1", "null", '"text"'])
def test_what_is_no_object_is_refused(content):
    assert "holds no JSON object" in refusal(content)


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 0, -1])
def test_a_file_without_a_schema_version_is_refused(version):
    assert "has no 'schema_version'; it is not a model saved by deblur-hub" in refusal(text(schema_version=version))


@pytest.mark.parametrize("version", [2, 10**1000], ids=["next", "far"])
def test_a_newer_schema_asks_for_an_upgrade(version):
    assert refusal(text(schema_version=version)).endswith("run 'pip install --upgrade deblur-hub'")


@pytest.mark.parametrize("key", ["architecture", "name"])
@pytest.mark.parametrize("value", [None, 3, ["compact"], ["long"] * 10_000])
def test_a_name_that_is_no_text_is_refused(key, value):
    assert f"'{key}' must be a text" in refusal(text(**{key: value}))


def test_a_file_that_names_no_architecture_is_refused_with_the_nearest_key():
    assert refusal('{"schema_version": 1, "architechture": "compact"}').endswith(
        "names no 'architecture' (did you mean 'architechture'?)"
    )


@pytest.mark.parametrize("name", ["two\nlines", "a bell \a", "half a letter \ud800", "\u202egnp.exe", "x" * 101])
def test_a_name_that_could_not_be_shown_is_refused(name):
    assert "'name' must be one line of at most 100 printable characters, not " in refusal(text(name=name))
    with pytest.raises(ModelError):
        GeneratorConfig("compact", {}, name)


def test_a_file_of_megabytes_is_refused_unread():
    assert "longer than any of ours" in refusal(text(name="x" * LONGEST_FILE))
