"""Publishing again and again: one commit each, no weights of another form left behind, and people's words kept."""

import json

import pytest
import torch
import yaml
from huggingface_hub import load_torch_model, save_torch_model
from safetensors import safe_open
from safetensors.torch import load_file

from deblur_hub import DeblurGenerator, ModelError
from deblur_hub.model_card import CARD_BEGIN, CARD_END, merge
from deblur_hub.networks import build_network
from tests.conftest import TINY, awake

SHARD = 4_000  # bytes, of weights of some 20 kB
MODEL = {"README.md", "config.json", "golden.safetensors", "model.safetensors"}


def card(words: str, **front: object) -> str:
    front = {"library_name": "deblur-hub", "pipeline_tag": "image-to-image", "license": "apache-2.0"} | front
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{CARD_BEGIN}\n\n{words}\n\n{CARD_END}\n"


# Files ---------------------------------------------------------------------------------------------------------------


def test_large_weights_are_spread_over_files_that_others_can_read(generator, tmp_path):
    generator.save_pretrained(tmp_path, max_shard_size=SHARD)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2 and sorted(set(index["weight_map"].values())) == shards
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    state = generator.network.state_dict()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in state.values())
    for name in shards:
        with safe_open(tmp_path / name, framework="pt") as file:
            assert len(file.metadata()["sha256"]) == 64
            assert dict.fromkeys(file.keys(), name).items() <= index["weight_map"].items()
    network = build_network("compact", **TINY)
    load_torch_model(network, tmp_path, strict=True, safe=True)  # huggingface_hub's own
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_folder_holds_one_form_of_the_weights_whatever_it_held_before(generator, tmp_path, variant):
    """And those of another variant stay."""
    other = None if variant else "fp16"
    held = generator.save_pretrained(tmp_path / "held", variant=other)
    stays = {path.name for path in held.iterdir()}
    for size in ("5GB", SHARD, 3 * SHARD, "5GB"):
        awake(generator.network, seed=size if isinstance(size, int) else 0)
        generator.save_pretrained(held, variant=variant, max_shard_size=size)
        fresh = generator.save_pretrained(tmp_path / f"fresh-{size}", variant=variant, max_shard_size=size)
        assert {path.name for path in held.iterdir()} == stays | {path.name for path in fresh.iterdir()}
        loaded = DeblurGenerator.from_pretrained(held, variant=variant, device="cpu")
        assert torch.equal(loaded.network.stem.bias, generator.network.stem.bias)


@pytest.mark.parametrize("size", ["5 pounds", 0, -3, ""])
def test_a_size_that_is_none_is_a_sentence(generator, tmp_path, size):
    with pytest.raises(ModelError, match="is no size of a file; give bytes, or a text such as '5GB'"):
        generator.save_pretrained(tmp_path / "model", max_shard_size=size)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("variant", ["../up", "a/b", "a.b", " "])
def test_a_variant_that_would_leave_the_folder_is_a_sentence(generator, tmp_path, variant):
    with pytest.raises(ModelError, match="is a part of a file's name"):
        generator.save_pretrained(tmp_path / "model", variant=variant)
    assert not list(tmp_path.iterdir())


def test_golden_tensors_state_for_each_precision_what_may_differ(generator, tmp_path):
    generator.save_pretrained(tmp_path)
    with safe_open(tmp_path / "golden.safetensors", framework="pt") as file:
        notes = file.metadata()
    tolerances = [float(notes[f"tolerance.{precision}"]) for precision in ("float32", "float16", "bfloat16")]
    assert 0 < tolerances[0] < tolerances[1] < tolerances[2] <= 2
    golden = load_file(tmp_path / "golden.safetensors")
    loaded = DeblurGenerator.from_pretrained(tmp_path, device="cpu")
    for precision, tolerance in (("float32", tolerances[0]), ("bfloat16", tolerances[2])):
        output = loaded.restore(golden["input"], precision=precision)
        assert (output - golden["output"]).abs().max() <= tolerance
    awake(loaded.network, seed=1)
    assert (loaded.restore(golden["input"], precision="float32") - golden["output"]).abs().max() > tolerances[0]


def test_a_model_that_was_changed_since_it_was_saved_gets_golden_tensors_of_its_own(generator, tmp_path):
    for name in ("first", "again"):
        generator.save_pretrained(tmp_path / name)
    awake(generator.network, seed=1)
    generator.save_pretrained(tmp_path / "changed")
    first, again, changed = (
        load_file(tmp_path / name / "golden.safetensors") for name in ("first", "again", "changed")
    )
    assert torch.equal(first["output"], again["output"])
    assert torch.allclose(changed["output"], generator.restore(changed["input"], precision="float32"), atol=1e-4)
    assert not torch.allclose(changed["output"], first["output"], atol=1e-2)


# The hub -------------------------------------------------------------------------------------------------------------


def test_a_push_leaves_no_weights_of_another_form_behind(hub, play):
    def files():
        return {path for path in hub.repositories["tester/forms"].head if "fp16" not in path}

    play("""step(generator.push_to_hub, "tester/forms", variant="fp16", dtype=torch.float16)""")
    for size in (SHARD, 3 * SHARD, "5GB"):
        commits = len(hub.repositories["tester/forms"].commits)
        ((address, _), (loaded, _), (wanted, _)) = play(f"""
            awake(generator.network, seed=len({str(size)!r}))
            step(generator.push_to_hub, "tester/forms", max_shard_size={size!r})
            step(load, "tester/forms")
            step(lambda: generator.network.stem.bias.tolist())
            """)
        assert address.startswith(hub.address), address
        assert len(hub.repositories["tester/forms"].commits) == commits + 1
        assert loaded == wanted
        if size == "5GB":
            assert files() == MODEL
        else:
            assert "model.safetensors.index.json" in files() and "model.safetensors" not in files()
    assert {"model.fp16.safetensors", "golden.fp16.safetensors"} <= hub.repositories["tester/forms"].head.keys()
    count = sum("-of-" in path for path in hub.repositories["tester/forms"].head)
    assert count == 0


def test_a_repeated_push_makes_no_commit(hub, play):
    steps = play(f"""
        step(generator.push_to_hub, "tester/same", tags=["portraits"], max_shard_size={SHARD}, tag="v1")
        step(generator.push_to_hub, "tester/same", tags=["portraits"], max_shard_size={SHARD}, tag="v1")
        """)
    repository = hub.repositories["tester/same"]
    assert steps[0][0] == steps[1][0] and len(repository.commits) == 2
    assert repository.tags == {"v1": repository.branches["main"]}
    assert "portraits" in yaml.safe_load(repository.head["README.md"].decode().split("---\n")[1])["tags"]


def test_a_push_of_other_weights_under_the_same_tag_is_refused_and_the_tag_stays(hub, play):
    steps = play("""
        step(generator.push_to_hub, "tester/tagged", tag="v1")
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/tagged", tag="v1")
        """)
    assert "the tag 'v1' stands for the earlier commit" in steps[1][0]
    assert steps[0][0].endswith(hub.repositories["tester/tagged"].tags["v1"])


def test_a_pull_request_leaves_the_branch_as_it_is(hub, play):
    steps = play("""
        step(generator.push_to_hub, "tester/proposed")
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/proposed", create_pr=True)
        step(load, "tester/proposed", revision="refs/pr/1")
        step(lambda: generator.network.stem.bias.tolist())
        """)
    repository = hub.repositories["tester/proposed"]
    assert steps[0][0].endswith(repository.branches["main"])
    assert steps[1][0] == f"{hub.address}/tester/proposed/discussions/1"
    assert steps[2][0] == steps[3][0]


def test_what_people_wrote_into_the_card_stays_and_the_generated_block_is_renewed(hub, play):
    first = card("scores of monday", tags=["deblurring"])
    second = card("scores of tuesday", tags=["deblurring"])
    play(f"""step(generator.push_to_hub, "tester/edited", card={first!r})""")
    repository = hub.repositories["tester/edited"]
    edited = repository.head["README.md"].decode()
    edited = edited.replace("license: apache-2.0", "license: mit\nlanguage: de  # of the captions")
    edited = edited.replace("- deblurring", "- deblurring\n- my-thesis") + "\n## Thanks\n\nTo my cat.\n"
    edited = edited.replace("\n\n" + CARD_BEGIN, "\n\n# My model\n\n" + CARD_BEGIN)
    repository.commit("main", repository.head | {"README.md": edited.encode()})
    play(f"""step(generator.push_to_hub, "tester/edited", card={second!r})""")
    assert len(repository.commits) == 4
    text = repository.head["README.md"].decode()
    assert text == edited.replace("monday", "tuesday")
    play(f"""step(generator.push_to_hub, "tester/edited", card={second!r})""")
    assert len(repository.commits) == 4, "the same again is no commit"


def test_a_push_states_no_licence_of_its_own_and_keeps_the_one_that_people_stated(hub, play):
    push = """step(generator.push_to_hub, "tester/licensed")"""
    play(push)
    repository = hub.repositories["tester/licensed"]
    text = repository.head["README.md"].decode()
    assert "license" not in text.split("---\n")[1]
    stated = text.replace("tags:\n", "license: cc-by-nc-4.0\ntags:\n- my-thesis\n")
    repository.commit("main", repository.head | {"README.md": stated.encode()})
    play(f"""awake(generator.network, seed=1); {push}""")
    assert repository.head["README.md"].decode() == stated and len(repository.commits) == 4


def test_a_card_that_somebody_wrote_anew_is_kept_but_for_what_the_hub_needs(hub, play):
    play(f"""step(generator.push_to_hub, "tester/rewritten", card={card("scores")!r})""")
    repository = hub.repositories["tester/rewritten"]
    own = "---\nlicense: mit\n---\n# All my own words\n"
    repository.commit("main", repository.head | {"README.md": own.encode()})
    _, (told, _) = play(f"""
        import logging.handlers
        said = logging.handlers.BufferingHandler(9)
        logging.getLogger("deblur_hub").addHandler(said)
        step(generator.push_to_hub, "tester/rewritten", card={card("scores")!r})
        step(lambda: [record.getMessage() for record in said.buffer])
        """)
    text = repository.head["README.md"].decode()
    assert text.endswith("---\n# All my own words\n")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "mit" and front["library_name"] == "deblur-hub"
    assert told[0].startswith("tester/rewritten: README.md is kept, as it has no generated part")


def test_two_who_publish_at_once_do_not_undo_each_other(hub, play):
    """The branch moves between the look at it and the commit."""
    play(f"""step(generator.push_to_hub, "tester/busy", card={card("first")!r})""")
    repository = hub.repositories["tester/busy"]

    def meanwhile(line: str) -> None:
        if line.endswith("/preupload/main"):
            hub.watch = None
            edited = repository.head["README.md"] + b"\nof somebody else\n"
            repository.commit("main", repository.head | {"README.md": edited, "notes.txt": b"mine"})

    hub.watch = meanwhile
    ((address, _),) = play(f"""
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/busy", card={card("second")!r})
        """)
    assert address.endswith(repository.branches["main"]) and len(repository.commits) == 4
    text = repository.head["README.md"].decode()
    assert "second" in text and "first" not in text and text.endswith("\nof somebody else\n")
    assert repository.head["notes.txt"] == b"mine"


def test_the_shell_publishes_a_folder_with_all_its_variants_in_one_commit(hub, play, generator, tmp_path):
    folder = tmp_path / "model"
    generator.save_pretrained(folder, card=card('load it with "path/to/this/folder"'))
    generator.save_pretrained(folder, variant="fp16", dtype=torch.float16, max_shard_size=SHARD, card=card("both"))
    (folder / "notes.txt").write_text("to myself")
    line = ["publish", str(folder), "tester/shell", "--revision", "next", "--message", "all of it"]
    (code, _), (said, _) = play(f"""
        import contextlib, io
        from deblur_hub.cli import main
        with contextlib.redirect_stdout(io.StringIO()) as said:
            step(main, {line!r})
        step(said.getvalue)
        """)
    assert code == 0
    repository = hub.repositories["tester/shell"]
    assert said.strip().endswith(repository.branches["next"]) and len(repository.commits) == 2
    assert repository.titles[repository.branches["next"]] == "all of it"
    published = repository.commits[repository.branches["next"]]
    assert published.keys() == {path.name for path in folder.iterdir()} - {"notes.txt"}


# Cards ---------------------------------------------------------------------------------------------------------------


def test_scores_of_other_weights_do_not_stay_in_the_front_matter():
    measured = card("measured", **{"model-index": [{"name": "x", "results": []}], "metrics": ["psnr"]})
    front = yaml.safe_load(merge(measured, card("not measured")).split("---\n")[1])
    assert not {"model-index", "metrics"} & front.keys()


@pytest.mark.parametrize(
    "existing",
    ["", "no front matter", "---\n: [broken\n---\ntext", "---\n---\ntext", "---\n- list\n---\ntext", CARD_BEGIN],
)
def test_a_card_of_any_kind_is_merged_into_one_that_the_hub_takes(existing):
    text = merge(existing, card("fresh"))
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "deblur-hub"
    assert text.endswith(existing.rsplit("---\n", 1)[-1])
    assert merge(text, card("fresh")) == text


def test_a_card_that_is_edited_in_the_folder_stays_when_the_model_is_saved_again(generator, tmp_path):
    generator.save_pretrained(tmp_path, card=card("scores of monday"))
    path = tmp_path / "README.md"
    path.write_text(path.read_text() + "\nmy own\n")
    generator.save_pretrained(tmp_path, card=card("scores of tuesday"))
    assert "tuesday" in path.read_text() and path.read_text().endswith("\nmy own\n")


def test_weights_are_spread_as_huggingface_hub_spreads_them(generator, tmp_path):
    """The same layout of files, which is why others can read ours."""
    (tmp_path / "theirs").mkdir()
    save_torch_model(generator.network, tmp_path / "theirs", max_shard_size=SHARD)
    generator.save_pretrained(tmp_path / "ours", max_shard_size=SHARD)
    theirs = json.loads((tmp_path / "theirs" / "model.safetensors.index.json").read_text())
    ours = json.loads((tmp_path / "ours" / "model.safetensors.index.json").read_text())
    assert ours["weight_map"] == theirs["weight_map"]
