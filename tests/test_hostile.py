"""Model folders that somebody made to do harm: refused in a sentence, before memory or time is spent on them.

The fuzz tests change configurations and weights files at random, 200 times in all, and 2,000 times in CI; whatever
comes of it is a model that computes, or our own error, within limits of memory and time.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deblur_hub import DeblurGenerator, GeneratorConfig, ModelError
from tests.conftest import TINY, TINY_RESNET, awake

MEMORY = 2**30  # bytes of address space that a case may take beyond what the process has
SECONDS = 20  # of one case, on a busy machine

KINDS = {
    "compact": TINY,
    "resnet": TINY_RESNET | {"norm": "batch"},
    "unet": {"width": 2},
    "nafnet": {"width": 2, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]},
    "srn": {"width": 2, "blocks": 1, "variant": "lstm"},
    "mt_rnn": {"width": 2, "iterations": 1},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of a tiny model of each kind."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hostile")
    for kind, options in KINDS.items():
        made = DeblurGenerator(GeneratorConfig(kind, options, name=f"tiny {kind}"))
        awake(made.network)
        made.save_pretrained(folder / kind)
    return folder


@pytest.fixture
def saved(models, tmp_path) -> Path:
    return Path(shutil.copytree(models / "compact", tmp_path / "model"))


def sentence(error: ModelError) -> str:
    message = str(error)
    assert message.isprintable() and len(message) < 700, message
    return message


def refusal(folder: Path, **options) -> str:
    with within_limits(), pytest.raises(ModelError) as error:
        DeblurGenerator.from_pretrained(folder, device="cpu", **options)
    return sentence(error.value)


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """Ends what takes too much memory or too long, with an error that is none of ours."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"took more than {SECONDS} s")

    held = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, too_long)
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, held[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, held)


def edit(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


# --- config.json -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"widths": [10**9, 8]}, "is 1000000000, which is out of range (1 to 8192)"),
        ({"widths": [10**300, 8]}, "which is out of range"),
        ({"blocks": [-1, 1]}, "is -1, which is out of range"),
        ({"blocks": [10**9, 1]}, "out of range (1 to 64)"),
        ({"blocks": [64] * 16, "widths": [8] * 16}, "1024 blocks in all are out of range (1 to 256)"),
        ({"widths": [8192] * 4, "blocks": [9] * 4}, "billion parameters, out of all proportion"),
        ({"unshuffle": 512}, "these options pad every picture to 1024 pixels"),
        ({"widths": "8, 16"}, "must be a list of 1 to 16 numbers, not '8, 16'"),
        ({"widths": [8.0, 16]}, "must be of type int, not 8.0"),
        ({"widths": [True, 16]}, "must be of type int, not True"),
        ({"widths": [[[[8]]], 16]}, "must be of type int, not [[[8]]]"),
        ({"unshuffle": None}, "must be of type int, not None"),
        ({"unshuffle": {"a": 1}}, "must be of type int, not {'a': 1}"),
        ({"wdths": [8, 16]}, "unknown option 'wdths' (did you mean 'widths'?)"),
        ({"x" * 100_000: 1}, "unknown option 'xxx"),
        ({"two\nlines": 1}, r"unknown option 'two\nlines'"),
        ({"half a \ud800": 1}, r"unknown option 'half a \ud800'"),
        ({"self": 1}, "unknown option 'self'"),
        ({"architecture": "compact\n\x1b[2J"}, r"asks for architecture 'compact\n\x1b[2J'"),
        ({"architecture": "__class__"}, "asks for architecture '__class__'"),
        ({"architecture": "x" * 100_000}, "which this version does not know"),
        ({"name": "two\nlines"}, "'name' must be one line"),
        ({"name": "x" * 100_000}, "'name' must be one line"),
        ({"schema_version": 2}, "was written by a newer deblur-hub"),
        ({"schema_version": 10**4000}, "was written by a newer deblur-hub"),
        ({"library_version": "x" * 2_000_000}, "is longer than any of ours"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_a_hostile_configuration_is_refused_at_once(saved, changes, reason):
    edit(saved, **changes)
    started = time.process_time()
    assert reason in refusal(saved)
    assert time.process_time() - started < 2


def test_pads_of_any_picture_to_a_poster_are_refused_though_the_weights_would_fit(tmp_path):
    with pytest.raises(ModelError, match="pad every picture to 32768 pixels"):
        DeblurGenerator(GeneratorConfig("compact", {"widths": [1] * 16, "blocks": [1] * 16, "unshuffle": 1}))


# --- weights -----------------------------------------------------------------------------------------------------


def header_of(content: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def file_of(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def rewritten(folder: Path, change: Callable[[dict], object], *, extra: bytes = b"") -> None:
    path = folder / "model.safetensors"
    header, data = header_of(path.read_bytes())
    header.pop("__metadata__")
    change(header)
    path.write_bytes(file_of(header, data + extra))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header: header["stem.bias"].update(data_offsets=[0, 32]), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(data_offsets=[-1, 31]), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(data_offsets=[32, 0]), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(data_offsets=[2**63, 2**64 - 1]), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(shape=[2**40, 2**40]), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(shape=[-8]), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(dtype="F33"), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(dtype="x" * 10_000), "not a safetensors file"),
        (lambda header: header["stem.bias"].update(dtype="I32"), "is of type int32, not of floats"),
        (lambda header: header["stem.bias"].update(dtype="U32"), "is of type U32, not of floats"),
        (lambda header: header["stem.bias"].update(dtype="F8_E5M2", shape=[32]), "is [32] where the network wants [8]"),
        (lambda header: header["stem.bias"].update(dtype="F8_E4M3", shape=[4, 8]), "wants [8]"),
        (lambda header: header.update({"two\nlines": header.pop("stem.bias")}), r"lacks, such as 'two\nlines'"),
        (lambda header: header.update(__metadata__={"sha256": ["a"]}), "not a safetensors file"),
        (lambda header: header.update(__metadata__={"sha256": "a"}), "fails its checksum"),
    ],
)
def test_a_hostile_header_is_refused(saved, change, reason):
    rewritten(saved, change)
    assert reason in refusal(saved)


def test_bytes_behind_the_last_tensor_are_refused(saved):
    rewritten(saved, lambda header: None, extra=b"MZ and what else one would hide there")
    assert "not a safetensors file" in refusal(saved)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_a_false_length_is_refused(saved, length):
    path = saved / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert "not a safetensors file" in refusal(saved)


def test_nothing_is_read_of_weights_that_are_too_many(saved):
    """A quarter of a gigabyte of zeros that takes no room on the disk, under the name of a tensor of 32 bytes."""
    path = saved / "model.safetensors"
    header, _ = header_of(path.read_bytes())
    large = {"dtype": "F32", "shape": [2**26], "data_offsets": [0, 2**28]}
    path.write_bytes(file_of({"stem.bias": large}, b""))
    os.truncate(path, path.stat().st_size + 2**28)
    started = time.process_time()
    assert "lacks" in refusal(saved)
    names = [key for key in header if key != "__metadata__"]
    offsets = {key: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for key in names}
    path.write_bytes(file_of(offsets | {"stem.bias": large}, b""))
    os.truncate(path, path.stat().st_size + 2**28)
    assert "where the network wants" in refusal(saved)
    assert time.process_time() - started < 1


# --- weights over several files ----------------------------------------------------------------------------------


@pytest.fixture
def spread(saved) -> Path:
    """The model with its weights in two files and an index."""
    tensors = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    keys = sorted(tensors)
    places = {key: f"model-0000{1 + (number > 3)}-of-00002.safetensors" for number, key in enumerate(keys)}
    for name in set(places.values()):
        save_file({key: tensors[key] for key in keys if places[key] == name}, saved / name)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    return saved


def reindex(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content["weight_map"])
    path.write_text(json.dumps(content))


def test_weights_in_several_files_are_those_of_one(spread, models):
    whole, parts = (DeblurGenerator.from_pretrained(folder).state_dict() for folder in (models / "compact", spread))
    assert whole.keys() == parts.keys() and all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())


def test_a_variant_in_several_files_is_loaded(models, tmp_path):
    DeblurGenerator.from_pretrained(models / "compact").save_pretrained(tmp_path, variant="fp16", max_shard_size=20_000)
    held = {path.name for path in tmp_path.glob("model*")}
    assert "model.fp16.safetensors.index.json" in held and len(held) > 2
    loaded = DeblurGenerator.from_pretrained(tmp_path, variant="fp16", verify=True)
    assert torch.equal(
        loaded.network.stem.weight, DeblurGenerator.from_pretrained(models / "compact").network.stem.weight
    )
    assert "has no model.safetensors" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "/tmp/model.safetensors",
        "deep/model.safetensors",
        "..",
        "",
        ".hidden.safetensors",
        "..\\model.safetensors",
        "C:model.safetensors",
        "model.safetensors\n",
        "model.bin",
        "model\0.safetensors",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_opens_nothing_but_safetensors_files_beside_it(spread, name):
    shutil.copy(spread / "model-00001-of-00002.safetensors", spread.parent / "secret.safetensors")
    reindex(spread, lambda places: places.update({"stem.bias": name}))
    assert refusal(spread).endswith("which is not a safetensors file beside it; nothing else is opened")


def test_an_index_that_names_a_missing_file_is_refused(spread):
    (spread / "model-00002-of-00002.safetensors").unlink()
    assert "has no model-00002-of-00002.safetensors, which model.safetensors.index.json names" in refusal(spread)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda places: places.pop("stem.bias"), "index.json lacks 1 tensor(s), such as 'stem.bias'"),
        (
            lambda places: places.update({"step.bias": places["stem.bias"]}),
            "such as 'step.bias'; the weights are of another architecture",
        ),
        (lambda places: places.update(dict.fromkeys(places, "model-00001-of-00002.safetensors")), "00002.safetensors"),
        (lambda places: places.clear(), "has no 'weight_map'"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(spread, change, reason):
    reindex(spread, change)
    assert reason in refusal(spread)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"weight_map": 3}', '{"weight_map": []}'])
def test_an_index_that_is_none_is_refused(spread, text):
    (spread / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refusal(spread)


def test_a_damaged_part_is_refused_by_its_name(models, tmp_path):
    DeblurGenerator.from_pretrained(models / "compact").save_pretrained(tmp_path, max_shard_size=20_000)
    part = max(tmp_path.glob("model-*.safetensors"))
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    assert refusal(tmp_path).endswith(f"{part.name} fails its checksum; download or save it again")


# --- the page ----------------------------------------------------------------------------------------------------


MARKUP = "<img src=x onerror=alert(1)>"


@pytest.mark.slow
def test_markup_in_a_models_readme_and_name_does_not_reach_the_page(models, tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio")
    import app
    from deblur_hub import hub
    from deblur_page import choices, one

    folder = tmp_path / "weights" / "a<b>bold"
    shutil.copytree(models / "compact", folder)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# {MARKUP}\n<script>alert(2)</script>")
    edit(folder, name=MARKUP)
    monkeypatch.setattr(hub.bundled, "BUNDLED", tmp_path / "weights")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    for cached in (choices.generator_named, choices.choices):
        cached.cache_clear()
    monkeypatch.setattr(one, "OPENING", Path(app.HERE / "examples/lost.jpg"))
    page = app.build_app(app.Line())
    raw = [str(block.value) for block in page.blocks.values() if isinstance(block, gradio.HTML | gradio.Markdown)]
    for cached in (choices.generator_named, choices.choices):
        cached.cache_clear()
    assert any("a&lt;b&gt;bold" in text for text in raw)
    assert not any("<b>bold" in text or "onerror" in text or "<script" in text for text in raw)
    assert "onerror" not in json.dumps(page.get_config_file(), default=str)


# --- whatever else -----------------------------------------------------------------------------------------------


INTEGERS = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 2, 3, 4, 8, 16, 64, 65, 8192, 8193, 10**9])
LEAVES = st.none() | st.booleans() | INTEGERS | st.floats() | st.text(st.characters(), max_size=20)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["schema_version", "architecture", "name", "width", "widths", "blocks", "unshuffle", "norm", "iterations", "scales"]
) | st.text(max_size=8)
SMALL = st.integers(-1, 9)
VALUES = JSON | SMALL | st.lists(SMALL, max_size=4) | st.sampled_from([*KINDS, "none", "batch", "instance", True])
FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def answer(folder: Path) -> None:
    """Loads a model and lets it compute, or has a sentence of ours."""
    try:
        generator = DeblurGenerator.from_pretrained(folder, device="cpu")
    except ModelError as error:
        event("refused")
        sentence(error)
        return
    event("computes")
    picture = torch.linspace(-1, 1, 3 * 9 * 7).reshape(1, 3, 9, 7)
    assert generator.restore(picture, precision="float32").shape == picture.shape


@pytest.mark.slow
@pytest.mark.parametrize("examples", [120, pytest.param(1200, marks=pytest.mark.full)])
def test_any_configuration_gives_a_model_that_computes_or_our_own_error(models, examples):
    tried = 0

    @settings(max_examples=examples, **FUZZ)
    @given(st.data())
    def attempt(data):
        nonlocal tried
        tried += 1
        folder = models / data.draw(st.sampled_from(list(KINDS)))
        path = folder / "config.json"
        valid = path.read_bytes()
        content = json.loads(valid)
        for _ in range(data.draw(st.integers(0, 3))):
            key = data.draw(st.sampled_from(sorted(content)) | KEYS) if content else data.draw(KEYS)
            if data.draw(st.integers(0, 3)) == 0:
                content.pop(key, None)
            else:
                content[key] = data.draw(VALUES)
        text = json.dumps(content if data.draw(st.integers(0, 9)) else data.draw(JSON)).encode()
        if data.draw(st.integers(0, 4)) == 0:
            at = data.draw(st.integers(0, len(text)))
            text = text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
        try:
            path.write_bytes(text)
            with within_limits():
                answer(folder)
        finally:
            path.write_bytes(valid)

    attempt()
    assert examples <= tried < 2 * examples


@pytest.mark.slow
@pytest.mark.parametrize("examples", [80, pytest.param(800, marks=pytest.mark.full)])
def test_any_weights_file_gives_a_model_that_computes_or_our_own_error(models, examples):
    tried = 0

    @settings(max_examples=examples, **FUZZ)
    @given(st.data())
    def attempt(data):
        nonlocal tried
        tried += 1
        folder = models / data.draw(st.sampled_from(list(KINDS)))
        path = folder / "model.safetensors"
        valid = path.read_bytes()
        header, tensors = header_of(valid)
        if data.draw(st.booleans()):
            header.pop("__metadata__")
        for _ in range(data.draw(st.integers(0, 3))):
            key = data.draw(st.sampled_from(sorted(header)))
            field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", "all", "gone"]))
            if field == "gone":
                if len(header) > 1:
                    header.pop(key)
            elif field == "name":
                header[data.draw(st.text(max_size=8))] = header.pop(key)
            elif field == "all" or key == "__metadata__" or not isinstance(header[key], dict):
                header[key] = data.draw(JSON)
            else:
                kinds = st.sampled_from(
                    ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "C64"]
                )
                drawn = {"dtype": kinds | JSON, "shape": st.lists(INTEGERS, max_size=4) | JSON}
                header[key][field] = data.draw(drawn.get(field, st.lists(INTEGERS, min_size=2, max_size=2) | JSON))
        content = file_of(header, tensors)
        if data.draw(st.integers(0, 2)) == 0:
            length = 8 + int.from_bytes(content[:8], "little")
            at = data.draw(st.integers(0, length))
            content = content[:at] + data.draw(st.binary(max_size=8)) + content[at + data.draw(st.integers(0, 8)) :]
        if data.draw(st.integers(0, 9)) == 0:
            content = content[: data.draw(st.integers(0, len(content)))]
        try:
            path.write_bytes(content)
            with within_limits():
                answer(folder)
        finally:
            path.write_bytes(valid)

    attempt()
    assert examples <= tried < 2 * examples
