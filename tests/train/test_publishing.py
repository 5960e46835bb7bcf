"""Runs and model folders go to a hub, tagged with their step; what goes wrong costs a sentence and never the run.

The real client talks to a hub on the loopback interface. It reads the address when it is imported, so there is a Python
for each.
"""

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from deblur_hub import DeblurGenerator
from tests.hub_server import TOKEN, closed_port
from tests.train.tiny_runs import ROOT, arguments, environment
from tests.warm_python import WarmPython
from train import publish
from train.publish import Publisher
from train.recipe import load_recipe, recipe_from_table

SECONDS = 240
MODEL = {"README.md", "config.json", "golden.safetensors", "model.safetensors"}


def settings(address: str, home: Path) -> dict[str, str]:
    """The environment of a client of the hub at an address."""
    inherited = {key: value for key, value in environment().items() if not key.startswith("HF_")}
    return inherited | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "127.0.0.1",
        "ACCELERATE_USE_CPU": "true",
    }


@pytest.fixture(scope="module")
def pythons(tmp_path_factory):
    """Pythons by the address of the hub that they ask."""
    started: dict[str, WarmPython] = {}

    def at(address: str) -> WarmPython:
        if address not in started:
            started[address] = WarmPython(settings(address, tmp_path_factory.mktemp("hf")))
        return started[address]

    yield at
    for python in started.values():
        python.close()


@pytest.fixture
def go(pythons, tmp_path):
    """go("train" or "deblur_hub.cli", arguments..., address=...) -> the command when it has ended."""

    def run(program: str, *line: str, address: str, token: str = TOKEN) -> subprocess.CompletedProcess:
        program = str(ROOT / "train") if program == "train" else program
        tokens = {"HF_TOKEN": token} if token else {}
        return pythons(address).run(program, *line, folder=tmp_path, seconds=SECONDS, **tokens)

    return run


@pytest.fixture
def train(go, tmp_path, pictures):
    """A tiny run in a process of its own that publishes: train("owner/name", hub=address, steps=3, ...)."""

    def run(repo: str, *options: str, address: str, steps: int = 3, token: str = TOKEN, output: str = "run"):
        line = arguments(
            "compact",
            data=pictures,
            output=tmp_path / output,
            cache=tmp_path / "cache",
            steps=steps,
            options=("--push-to-hub", repo, *options),
        )
        return go("train", *line, address=address, token=token)

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model folder with a card, and with things beside it that are nobody else's business."""
    from deblur_hub import GeneratorConfig
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("models") / "model"
    DeblurGenerator(GeneratorConfig("compact", TINY, "tiny")).save_pretrained(folder)
    (folder / "notes.txt").write_text("to myself")
    return folder


def sentences(done: subprocess.CompletedProcess) -> list[str]:
    assert "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(("train: ", "deblur-hub: "))]


# A run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_publishes_its_model_with_its_card_and_tags_it_with_the_step(hub, train, tmp_path):
    done = train("tester/run", address=hub.address)
    assert (done.returncode, sentences(done)) == (0, [])
    repository = hub.repositories["tester/run"]
    published = repository.commits[repository.branches["main"]]
    assert set(published) == MODEL and not repository.private
    assert repository.tags == {"step-3": repository.branches["main"]}
    folder = tmp_path / "run" / "model"
    for name in MODEL - {"README.md"}:
        assert published[name] == (folder / name).read_bytes()
    card = published["README.md"].decode()
    assert 'from_pretrained("tester/run")' in card
    mean = next(line for line in card.splitlines() if line.startswith("| **mean** |")).split("|")
    front = yaml.safe_load(card.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    scores = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert f"{scores['blurred_psnr']:.2f} dB" == mean[2].strip() and f"{scores['psnr']:.2f} dB" == mean[3].strip()
    assert front["pipeline_tag"] == "image-to-image" and front["library_name"] == "deblur-hub"
    text = card.split("```toml\n")[1].split("```")[0]
    assert recipe_from_table(tomllib.loads(text), "compact").data.crop == 32

    # A requeued job resumes at its end and publishes again, which changes nothing.
    again = train("tester/run", "--resume", address=hub.address)
    assert (again.returncode, sentences(again)) == (0, [])
    assert len(repository.commits) == 2 and repository.tags == {"step-3": repository.branches["main"]}


@pytest.mark.slow
def test_each_best_is_published_while_the_run_goes_on_and_the_chosen_one_at_the_end(hub, train, tmp_path):
    done = train("tester/bests", "--push-every-best", "--push-private", address=hub.address, steps=9)
    assert (done.returncode, sentences(done)) == (0, [])
    repository = hub.repositories["tester/bests"]
    assert repository.private
    measured = [line for line in done.stdout.splitlines() if line.startswith("step ")]
    bests = [int(line.split()[1].rstrip(":")) for line in measured if line.endswith("the best so far")]
    tags = {int(tag.removeprefix("step-")) for tag in repository.tags}
    assert bests[-1] in tags and tags <= set(bests)  # one that was overtaken while it waited is passed over
    final = repository.commits[repository.tags[f"step-{bests[-1]}"]]
    assert final["model.safetensors"] == (tmp_path / "run" / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_push_that_fails_keeps_the_run_and_tells_the_command_that_repeats_it(hub, train, go, tmp_path):
    with closed_port() as address:
        done = train("tester/late", address=address)
    assert done.returncode == 3
    doubt, failure = sentences(done)
    assert doubt.startswith("train: --push-to-hub tester/late: the hub cannot be reached now (")
    folder = tmp_path / "run" / "model"
    command = f"deblur-hub publish {folder} tester/late --tag step-3"
    assert failure.startswith("train: tester/late: cannot be published (") and failure.endswith(command)
    DeblurGenerator.from_pretrained(folder, device="cpu")

    for _ in range(2):
        told = go("deblur_hub.cli", *command.split()[1:], address=hub.address)
        assert (told.returncode, sentences(told)) == (0, [])
        repository = hub.repositories["tester/late"]
        assert told.stdout == (f"{hub.address}/tester/late/commit/{repository.branches['main']}, tagged step-3\n")
        assert len(repository.commits) == 2 and repository.tags == {"step-3": repository.branches["main"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("repo", "token", "reason"),
    [
        ("tester/run", "", "tester/run: there is no token of the hub to publish with; log in with 'hf auth login' or"),
        ("tester/run", "hf_wrong", "tester/run: the hub refuses the token that is set; log in with 'hf auth login' or"),
        ("tester", TOKEN, "'tester' is not a hub repository; name it as 'owner/name'"),
    ],
)
def test_what_cannot_be_published_is_a_sentence_before_the_first_step(hub, train, tmp_path, repo, token, reason):
    done = train(repo, address=hub.address, token=token)
    assert done.returncode == 2
    (told,) = sentences(done)
    assert told.startswith(f"train: --push-to-hub {reason}") and told.endswith("or omit --push-to-hub")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def two_processes(hub, pythons, both, tmp_path, pictures):
    """(exit code, stderr) of each of the two processes of a run that publishes: two_processes("owner/name", token)."""

    def run(repo, token):
        line = arguments(
            "compact",
            data=pictures,
            output=tmp_path / repo,
            cache=tmp_path / "cache",
            steps=3,
            options=("--push-to-hub", repo),
        )
        runs = both("train/", *line, python=pythons(hub.address), HF_TOKEN=token)
        return [(each.communicate(timeout=SECONDS)[1], each.returncode)[::-1] for each in runs]

    return run


@pytest.mark.slow
def test_two_processes_publish_once(hub, two_processes):
    for code, words in two_processes("tester/two", TOKEN):
        assert code == 0, words
    repository = hub.repositories["tester/two"]
    assert len(repository.commits) == 2 and repository.tags == {"step-3": repository.branches["main"]}


@pytest.mark.slow
def test_two_processes_stop_together_where_they_cannot_publish(two_processes, tmp_path):
    (first, words), other = two_processes("tester/none", "")
    assert first == 2 and other == (2, "")
    assert words.startswith("train: --push-to-hub tester/none: there is no token") and words.count("\n") == 1
    assert not (tmp_path / "tester/none").exists()


def test_how_to_publish_without_where_is_refused(start, capfd):
    with pytest.raises(SystemExit):
        start("compact", options=["--push-every-best"])
    assert "name where with --push-to-hub" in capfd.readouterr().err


# A folder ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_is_published_alone_and_again_without_harm(hub, go, model):
    line = ("publish", str(model), "tester/folder", "--tag", "v1", "--private")
    assert go("deblur_hub.cli", *line, address=hub.address).returncode == 0
    repository = hub.repositories["tester/folder"]
    first = repository.branches["main"]
    assert set(repository.commits[first]) == MODEL and repository.private
    # Somebody writes a better card on the hub's page; the weights are there already, so nothing is done.
    repository.commit("main", repository.commits[first] | {"README.md": b"---\nlicense: mit\n---\nbetter"})
    done = go("deblur_hub.cli", *line, address=hub.address)
    assert (done.returncode, done.stdout) == (0, f"{hub.address}/tester/folder/commit/{first}, tagged v1\n")
    assert repository.commits[repository.branches["main"]]["README.md"].endswith(b"better")


@pytest.mark.slow
def test_a_tag_is_never_moved(hub, go, model, tmp_path):
    assert (
        go("deblur_hub.cli", "publish", str(model), "tester/tags", "--tag", "v1", address=hub.address).returncode == 0
    )
    repository = hub.repositories["tester/tags"]
    first = repository.tags["v1"]
    generator = DeblurGenerator.from_pretrained(model, device="cpu")
    next(generator.parameters()).data.mul_(2)
    generator.save_pretrained(tmp_path / "other")
    done = go("deblur_hub.cli", "publish", str(tmp_path / "other"), "tester/tags", "--tag", "v1", address=hub.address)
    assert done.returncode == 2
    (told,) = sentences(done)
    assert f"the tag 'v1' stands for the earlier commit {first[:10]}; name another tag" in told
    assert repository.tags == {"v1": first} and repository.branches["main"] != first


@pytest.mark.slow
def test_a_tag_that_failed_is_set_by_the_next_attempt(hub, go, model):
    """The commit went up, and the line broke before the tag."""
    assert go("deblur_hub.cli", "publish", str(model), "tester/broken", address=hub.address).returncode == 0
    repository = hub.repositories["tester/broken"]
    assert repository.tags == {}
    line = ("publish", str(model), "tester/broken", "--tag", "step-5")
    assert go("deblur_hub.cli", *line, address=hub.address).returncode == 0
    assert len(repository.commits) == 2 and repository.tags == {"step-5": repository.branches["main"]}


@pytest.mark.slow
def test_what_is_no_model_is_not_published(hub, go, tmp_path):
    (tmp_path / "empty").mkdir()
    done = go("deblur_hub.cli", "publish", str(tmp_path / "empty"), "tester/empty", address=hub.address)
    assert done.returncode == 2
    assert "empty: has no config.json" in sentences(done)[0]
    assert "tester/empty" not in hub.repositories


# In the background ---------------------------------------------------------------------------------------------------


def test_a_run_does_not_wait_for_the_hub_and_the_newest_of_those_waiting_is_uploaded(model, monkeypatch):
    from threading import Event

    started, released, uploaded = Event(), Event(), []

    def slow(folder, repo, *, private, tag):
        started.set()
        assert released.wait(30)
        uploaded.append((tag, (folder / "config.json").read_bytes()))
        return "address"

    monkeypatch.setattr(publish, "publish", slow)
    publisher = Publisher("tester/slow", every_best=True)
    publisher.offer(model, 1)
    assert started.wait(30)
    for step in (2, 3, 4):  # these do not block
        publisher.offer(model, step)
    publisher.choose(model, 4)
    released.set()
    assert publisher.finish()
    assert [tag for tag, _ in uploaded] == ["step-1", "step-4", "step-4"]
    assert {content for _, content in uploaded} == {(model / "config.json").read_bytes()}


@pytest.mark.parametrize("failure", [RuntimeError("of the client"), MemoryError()])
def test_whatever_fails_in_an_upload_becomes_a_sentence(model, monkeypatch, capsys, failure):
    def failing(*_, **__):
        raise failure

    monkeypatch.setattr(publish, "publish", failing)
    publisher = Publisher("tester/any", every_best=True, private=True)
    publisher.offer(model, 1)
    publisher.choose(model, 2)
    assert not publisher.finish()
    told = capsys.readouterr().err
    assert f"deblur-hub publish {model} tester/any --tag step-1 --private" in told
    assert f"deblur-hub publish {model} tester/any --tag step-2 --private" in told


def test_the_bests_of_a_run_that_publishes_its_end_alone_are_not_copied(model):
    publisher = Publisher("tester/end")
    publisher.offer(model, 1)
    assert publisher.waiting is None and publisher.thread is None and publisher.finish()


def test_the_card_of_a_recipe_trains_the_same_recipe_again(start, tmp_path):
    assert start("compact", "optimizer.lr=2e-4", steps=3)[0] == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    (tmp_path / "mine.toml").write_text(card.split("```toml\n")[1].split("```")[0])
    found = load_recipe(str(tmp_path / "mine.toml"))
    assert (found.optimizer.lr, found.name, found.data.crop) == (2e-4, "compact", 32)
