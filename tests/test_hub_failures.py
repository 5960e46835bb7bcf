"""Whatever goes wrong on the way from the hub ends in a retry that works or in one sentence, and never in the cache."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.hub_failures import cut, damaged, dripping, status
from tests.hub_server import READ_TOKEN

WEIGHTS = "model.safetensors"
OVERLOADED = status(503)
AWAY = "is not in the local cache, and the hub cannot be reached ("


@pytest.fixture(scope="module")
def published(hub, play):
    """Publishes a model of its own for a test."""

    def publish(repo: str):
        ((address, _),) = play(f"""step(generator.push_to_hub, "{repo}")""")
        assert address.startswith(hub.address), address
        return hub.repositories[repo]

    return publish


@pytest.mark.parametrize(
    ("repo", "file", "failures", "method"),
    [
        ("tester/cut", WEIGHTS, [cut()], "GET"),
        ("tester/cut-early", "config.json", [cut()], "GET"),
        ("tester/cut-often", WEIGHTS, [cut()] * 3, "GET"),
        ("tester/down", WEIGHTS, [status(500)] * 2, "GET"),
        ("tester/down-early", "config.json", [status(500)] * 2, "GET"),
        ("tester/down-at-once", "config.json", [status(500)] * 2, "HEAD"),
        ("tester/down-between", WEIGHTS, [status(500)] * 2, "HEAD"),
        ("tester/busy", WEIGHTS, [status(429, retry_after="1")], "GET"),
        ("tester/busy-at-once", "config.json", [status(429, retry_after="1")], "HEAD"),
        ("tester/damaged", WEIGHTS, [damaged()], "GET"),
        ("tester/drip", WEIGHTS, [dripping(pieces=20, pause=0.05)], "GET"),
    ],
)
def test_what_passes_is_passed_over(hub, play, published, repo, file, failures, method):
    published(repo)
    hub.fail(file, *failures, method=method)
    (loaded, _), (again, _), (wanted, _) = play(f"""
        step(load, "{repo}")
        step(load, "{repo}")
        step(lambda: generator.network.stem.bias.tolist())
        """)
    assert hub.awaited[method, file] == [], "the failure did not happen"
    assert loaded == again == wanted


@pytest.mark.slow
def test_a_line_that_stalls_is_left_and_the_rest_fetched(hub, play, published):
    published("tester/stalling")
    hub.fail(WEIGHTS, cut(pause=4))
    (loaded, seconds), (again, _) = play("""
        from huggingface_hub import constants
        patience, constants.HF_HUB_DOWNLOAD_TIMEOUT = constants.HF_HUB_DOWNLOAD_TIMEOUT, 1
        step(load, "tester/stalling")
        constants.HF_HUB_DOWNLOAD_TIMEOUT = patience
        step(load, "tester/stalling")
        """)
    assert isinstance(loaded, list) and again == loaded
    assert seconds < 4


@pytest.mark.parametrize(
    ("repo", "file", "failures", "method", "reason"),
    [
        ("tester/stays-down", WEIGHTS, [status(500)] * 9, "GET", "cannot be downloaded ("),
        (
            "tester/stays-away",
            "config.json",
            [status(503)] * 9,
            "HEAD",
            AWAY,
        ),
        (
            "tester/stays-busy",
            "config.json",
            [status(429, retry_after="3600")],
            "HEAD",
            AWAY,
        ),
        (
            "tester/stays-damaged",
            WEIGHTS,
            [damaged()] * 2,
            "GET",
            "cannot be downloaded (model.safetensors arrives damaged",
        ),
        ("tester/stays-shut", WEIGHTS, [status(403)], "GET", "cannot be downloaded ("),
    ],
)
def test_what_does_not_pass_is_a_sentence_and_the_next_load_works(
    hub, play, published, repo, file, failures, method, reason
):
    published(repo)
    hub.fail(file, *failures, method=method)
    ((told, seconds),) = play(f"""step(load, "{repo}")""")
    assert isinstance(told, str) and told.startswith(f"{repo}: {reason}") and "\n" not in told
    assert seconds < 60
    hub.awaited.clear()
    (loaded, _), (wanted, _) = play(f"""
        step(load, "{repo}")
        step(lambda: generator.network.stem.bias.tolist())
        """)
    assert loaded == wanted


def test_what_is_in_the_cache_is_loaded_though_the_hub_is_overloaded(hub, play, published):
    published("tester/cached")
    (first, _), (_, _) = play("""step(load, "tester/cached"); step(load, "tester/cached")""")
    hub.fail("", *[OVERLOADED] * 99, method="HEAD")
    ((loaded, seconds),) = play("""step(load, "tester/cached")""")
    hub.awaited.clear()
    assert isinstance(first, list) and loaded == first
    assert seconds < 15


@pytest.mark.parametrize("spoiled", ["cut", "flipped", "of another model", "no configuration"])
def test_what_was_damaged_in_the_cache_is_refused_once_and_then_fetched_anew(hub, play, published, home, spoiled):
    """Whoever put it there: another program, a disk."""
    repo = f"tester/spoiled-{spoiled.replace(' ', '-')}"
    published(repo)
    ((first, _),) = play(f"""step(load, "{repo}")""")
    (blob,) = (
        path.resolve()
        for path in Path(home).glob(f"hub/models--{repo.replace('/', '--')}/snapshots/*/*")
        if path.name == ("config.json" if spoiled == "no configuration" else WEIGHTS)
    )
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    if spoiled == "of another model":
        save_file({key + "s": tensor for key, tensor in load_file(blob).items()}, blob)
    else:
        blob.write_bytes(content if spoiled == "flipped" else content[: len(content) // 2])
    (told, _), (loaded, _) = play(f"""step(load, "{repo}"); step(load, "{repo}")""")
    assert isinstance(told, str) and told.startswith(f"{repo}: ") and "\n" not in told
    assert loaded == first


def test_what_is_wrong_on_the_hub_itself_is_not_fetched_again_and_again(hub, play, published):
    repository = published("tester/wrong")
    repository.commit("main", repository.head | {WEIGHTS: repository.head[WEIGHTS][:-1] + b"\xff"})
    play("""step(load, "tester/wrong")""")
    hub.log.clear()
    ((told, _),) = play("""step(load, "tester/wrong")""")
    assert told.startswith("tester/wrong: model.safetensors ")
    assert f"GET /tester/wrong/resolve/main/{WEIGHTS}" not in hub.log
    assert not [line for line in hub.log if line.startswith("GET") and "/resolve/" in line]


def test_a_gated_repository_is_a_sentence_until_there_is_access(hub, play, published):
    published("tester/gated").gated = True
    (outside, _), (inside, _) = play("""
        step(load, "tester/gated", token=False)
        step(load, "tester/gated")
        """)
    assert outside == "tester/gated: is gated; ask for access on its page and log in with 'hf auth login'"
    assert isinstance(inside, list)


def test_a_token_that_may_not_write_is_a_sentence_and_nothing_is_uploaded(hub, play, published):
    repository = published("tester/guarded")
    (held, _), (fresh, _), (read, _) = play(f"""
        awake(generator.network, seed=2)
        step(generator.push_to_hub, "tester/guarded", token="{READ_TOKEN}")
        step(generator.push_to_hub, "tester/unmade", token="{READ_TOKEN}")
        step(load, "tester/guarded", token="{READ_TOKEN}")
        """)
    for repo, told in (("tester/guarded", held), ("tester/unmade", fresh)):
        assert told.startswith(f"{repo}: the token may not write there (") and "\n" not in told
        assert told.endswith("; log in with 'hf auth login' and a token that may, and try again")
    assert isinstance(read, list)
    assert len(repository.commits) == 2 and "tester/unmade" not in hub.repositories


TWICE, BUSY = [status(500), status(500)], [status(429, retry_after="1")]


@pytest.mark.parametrize(
    ("ending", "failures"),
    [("/api/repos/create", TWICE), ("/preupload/main", BUSY), ("/objects/batch", TWICE), ("/commit/main", BUSY)],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} failures",
)
def test_publishing_passes_over_an_overloaded_hub(hub, play, ending, failures):
    repo = f"tester/pushed-{len(failures)}{ending.replace('/', '-')}"
    hub.fail(ending, *failures, method="POST")
    (address, _), (loaded, _), (wanted, _) = play(f"""
        step(generator.push_to_hub, "{repo}")
        step(load, "{repo}")
        step(lambda: generator.network.stem.bias.tolist())
        """)
    assert hub.awaited["POST", ending] == [], "the failure did not happen"
    assert address.startswith(f"{hub.address}/{repo}/commit/"), address
    assert loaded == wanted and len(hub.repositories[repo].commits) == 2


def test_an_upload_that_the_hub_refuses_leaves_the_repository_as_it_was(hub, play, published):
    repository = published("tester/refused")
    before = dict(repository.branches)
    hub.fail("/commit/main", *[OVERLOADED] * 9, method="POST")
    ((told, _),) = play("""
        awake(generator.network, seed=3)
        step(generator.push_to_hub, "tester/refused")
        """)
    hub.awaited.clear()
    assert told.startswith("tester/refused: cannot be published (") and "\n" not in told
    assert repository.branches == before
    ((address, _),) = play("""
        awake(generator.network, seed=3)
        step(generator.push_to_hub, "tester/refused")
        """)
    assert address.endswith(repository.branches["main"]) and len(repository.commits) == 3
