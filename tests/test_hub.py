"""Models go to a hub in one commit and come back from it; and what goes wrong on the way is one sentence.

The real client talks to a hub on the loopback interface.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.hub_client import Client, Step
from tests.hub_server import closed_port

PATIENCE = 15  # seconds in which somebody without a network must have their sentence


@pytest.fixture(scope="module", params=[{}, {"HF_HUB_OFFLINE": "1"}], ids=["nobody answers", "offline"])
def play_alone(request, home) -> Iterator[Callable[[str], list[Step]]]:
    """Plays a scene without a hub, in the same home."""
    with closed_port() as address:
        client = Client(home, address, **request.param)
        yield client.play
        client.close()


def test_a_model_goes_to_the_hub_in_one_commit_and_comes_back_by_branch_and_by_commit(hub, play):
    steps = play("""
        first = generator.network.stem.bias.tolist()
        step(generator.push_to_hub, "tester/tiny", commit_message="first")
        step(load, "tester/tiny")
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/tiny", commit_message="second")
        step(load, "tester/tiny")
        step(generator.push_to_hub, "tester/tiny", revision="half", dtype=torch.float16)
        step(load, "tester/tiny", revision="half")
        step(lambda: first)
        step(lambda: generator.network.stem.bias.tolist())
        """)
    first_commit, on_main, second_commit, on_main_again, _, by_branch, first, second = (result for result, _ in steps)
    repository = hub.repositories["tester/tiny"]
    assert len(repository.commits) == 4  # the empty one and three
    assert set(repository.commits[repository.branches["main"]]) == {
        "README.md",
        "config.json",
        "golden.safetensors",
        "model.safetensors",
    }
    assert first_commit.startswith(f"{hub.address}/tester/tiny/commit/") and second_commit != first_commit
    assert on_main == first and on_main_again == second
    assert by_branch == pytest.approx(second, rel=1e-3, abs=1e-6) and by_branch != second

    oid = first_commit.rsplit("/", 1)[1]
    (by_commit, _), (offline, _), (elsewhere, _) = play(f"""
        step(load, "tester/tiny", revision="{oid}")
        step(load, "tester/tiny", revision="{oid}", local_files_only=True)
        step(load, "tester/tiny", revision="{oid}", local_files_only=True, cache_dir="elsewhere")
        """)
    assert by_commit == offline == first
    assert "is not in the local cache, and the hub was not asked" in elsewhere


def test_all_files_come_from_one_commit_though_the_branch_moves_between_them(hub, play):
    play("""step(generator.push_to_hub, "tester/moving")""")
    repository = hub.repositories["tester/moving"]
    files = repository.commits[first := repository.branches["main"]]

    def move(line: str) -> None:
        if line.startswith("GET") and line.endswith("config.json"):
            repository.commit("main", files | {"model.safetensors": b"of another day"})

    hub.watch = move
    ((loaded, _),) = play("""step(load, "tester/moving")""")
    hub.watch = None
    assert repository.branches["main"] != first
    assert isinstance(loaded, list), loaded


@pytest.mark.slow
def test_a_model_that_was_loaded_once_is_loaded_without_network(play, play_alone):
    """The cache knows a repository by its name, whatever the address of the hub."""
    (_, _), (loaded, _) = play("""step(generator.push_to_hub, "tester/kept"); step(load, "tester/kept")""")
    ((kept, seconds),) = play_alone("""step(load, "tester/kept")""")
    assert isinstance(loaded, list) and kept == loaded
    assert seconds < PATIENCE


def test_what_is_not_on_the_hub_is_a_sentence_each(hub, play):
    results = [
        result
        for result, _ in play("""
        step(generator.push_to_hub, "tester/here")
        step(generator.push_to_hub, "tester/secret", private=True)
        step(load, "tester/nowhere")
        step(load, "tester/here", revision="v9")
        step(load, "tester/here", variant="fp16")
        step(load, "tester/here", subfolder="deep")
        step(load, "tester/na--me")
        step(load, "tester/secret")
        step(load, "tester/secret", token=False)
        """)
    ][2:]
    assert results[:5] == [
        "tester/nowhere: no such repository, or it is private; check the name, or log in with 'hf auth login' or "
        "token=...",
        "tester/here@v9: the repository has no such branch, tag or commit; look at its page",
        "tester/here: has no model.fp16.safetensors; it is not a deblur-hub model, or lacks this variant",
        "tester/here: has no config.json in deep; it is not a deblur-hub model, or lacks this variant",
        results[4],
    ]
    assert results[4].startswith("tester/na--me: ") and results[4].endswith("; check the name")
    assert isinstance(results[5], list)
    assert results[6].startswith("tester/secret: no such repository, or it is private")


def test_a_repository_without_a_configuration_is_no_model(hub, play):
    play("""step(generator.push_to_hub, "tester/headless")""")
    repository = hub.repositories["tester/headless"]
    files = repository.commits[repository.branches["main"]]
    repository.commit("main", {path: content for path, content in files.items() if path != "config.json"})
    ((message, _),) = play("""step(load, "tester/headless")""")
    assert message == "tester/headless: has no config.json; it is not a deblur-hub model, or lacks this variant"


def test_weights_that_were_damaged_on_the_hub_are_refused(hub, play):
    play("""step(generator.push_to_hub, "tester/damaged")""")
    repository = hub.repositories["tester/damaged"]
    files = repository.commits[repository.branches["main"]]
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= 1
    repository.commit("main", files | {"model.safetensors": bytes(weights)})
    ((message, _),) = play("""step(load, "tester/damaged")""")
    assert message == "tester/damaged: model.safetensors fails its checksum; download or save it again"


def test_what_is_published_is_what_save_pretrained_writes(hub, play, tmp_path):
    card = "---\nlicense: mit\n---\nmine"
    play(f"""
        generator.save_pretrained({str(tmp_path)!r}, card={card!r})
        step(generator.push_to_hub, "tester/same", card={card!r})
        """)
    repository = hub.repositories["tester/same"]
    published = repository.commits[repository.branches["main"]]
    assert published == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_publishing_without_the_right_token_is_a_sentence(hub, play):
    ((message, _),) = play("""step(generator.push_to_hub, "tester/locked", token="hf_wrong")""")
    assert message.startswith("tester/locked: cannot be published (") and "\n" not in message
    assert "hf auth login" in message
    assert "tester/locked" not in hub.repositories


@pytest.mark.slow
def test_without_a_network_a_name_of_the_hub_is_a_sentence_before_long(play_alone):
    (loaded, loading), (fresh, _), (pushed, pushing) = play_alone("""
        step(load, "owner/name")
        step(load, "owner/name", force_download=True)
        step(generator.push_to_hub, "owner/name")
        """)
    assert loaded.startswith("owner/name: is not in the local cache, and the hub cannot be reached (")
    assert "; connect to the network, or take a bundled model (" in loaded and "\n" not in loaded
    assert fresh.startswith("owner/name: cannot be downloaded (") and "\n" not in fresh
    assert pushed.startswith("owner/name: cannot be published (") and "\n" not in pushed
    assert loading < PATIENCE and pushing < PATIENCE
