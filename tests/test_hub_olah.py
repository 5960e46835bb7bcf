"""A hub that others wrote serves our models to us: olah, over an ordinary git repository."""

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub_client import Client
from tests.hub_server import closed_port

pytestmark = pytest.mark.slow
START_SECONDS = 60
AUTHOR = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")


@pytest.fixture(scope="module")
def commits(hub, play) -> tuple[list[str], list[list[float]]]:
    """Two commits that our own hub was given, a tag on the first; and the biases of the models in them."""
    pushed = play("""
        step(generator.push_to_hub, "tester/round", tag="v1")
        step(lambda: generator.network.stem.bias.tolist())
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/round")
        step(lambda: generator.network.stem.bias.tolist())
        """)
    (first, _), (one, _), (second, _), (two, _) = pushed
    return [first.rsplit("/", 1)[1], second.rsplit("/", 1)[1]], [one, two]


@pytest.fixture(scope="module")
def olah(hub, commits, tmp_path_factory) -> Iterator[tuple[str, list[str]]]:
    """The address of an olah that serves the same commits from git, and what git calls them."""
    top = tmp_path_factory.mktemp("olah")
    repository = top / "mirrors" / "models" / "tester" / "round"
    repository.mkdir(parents=True)

    def git(*line: str) -> str:
        told = subprocess.run(["git", *AUTHOR, *line], cwd=repository, check=True, capture_output=True, text=True)
        return told.stdout.strip()

    git("init", "--quiet", "--initial-branch", "main")
    names = []
    for commit in commits[0]:
        for path in hub.repositories["tester/round"].commits[commit]:
            shutil.copy(hub.repositories["tester/round"].commits.folder / commit / path, repository / path)
        git("add", "--all")
        git("commit", "--quiet", "--message", commit)
        names.append(git("rev-parse", "HEAD"))
    git("tag", "v1", names[0])
    with closed_port() as address:
        port = address.rsplit(":", 1)[1]
    settings = top / "olah.toml"
    settings.write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{top}/repos"\nmirrors-path = ["{top}/mirrors"]\n'
        "[accessibility]\noffline = true\n"
    )
    command = [str(Path(sys.executable).parent / "olah-cli"), "-c", str(settings), "--host", "127.0.0.1"]
    with (top / "olah.log").open("w") as log:
        served = subprocess.Popen([*command, "--port", port], cwd=top, stdout=log, stderr=log)
        try:
            wait_for(f"{address}/tester/round/resolve/main/config.json", served, top / "olah.log")
            yield address, names
        finally:
            served.terminate()
            served.wait()


@pytest.fixture(scope="module")
def play_there(olah, tmp_path_factory) -> Iterator[Callable[[str], list]]:
    """Plays a scene against olah."""
    client = Client(tmp_path_factory.mktemp("there"), olah[0])
    yield client.play
    client.close()


def wait_for(address: str, served: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5).close()
            return
        except OSError:
            assert served.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


ROUND = """
step(load, "tester/round")
step(load, "tester/round", revision="main")
step(load, "tester/round", revision="v1")
step(load, "tester/round", revision="{}")
step(load, "tester/round", revision="{}")
step(load, "tester/round", revision="v1", local_files_only=True)
"""


def test_what_was_pushed_tagged_and_pushed_again_loads_by_branch_tag_and_commit_from_our_hub(hub, play, commits):
    names, (one, two) = commits
    assert [loaded for loaded, _ in play(ROUND.format(*names))] == [two, two, one, one, two, one]


def test_the_same_commits_load_by_branch_tag_and_commit_from_a_hub_that_others_wrote(olah, play_there, commits):
    loaded = [result for result, _ in play_there(ROUND.format(*olah[1]))]
    one, two = commits[1]
    assert loaded == [two, two, one, one, two, one]


def test_what_is_not_on_a_hub_that_others_wrote_is_a_sentence_too(play_there):
    steps = play_there("""
        step(load, "tester/nowhere")
        step(load, "tester/round", revision="v9")
        step(load, "tester/round", variant="fp16")
        """)
    for told, _ in steps:
        assert isinstance(told, str) and told.startswith("tester/") and "\n" not in told
