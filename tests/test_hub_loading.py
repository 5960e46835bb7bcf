"""What loading fetches from a hub, and what it leaves there: golden tensors on demand, spread weights, no others."""

import json

import pytest

SHARD = 20_000  # bytes: the tiny model then has several files


def fetched(hub, since: int) -> list[str]:
    """The files that were asked for since then, in order and without their folder."""
    lines = (line for line in hub.log[since:] if line.startswith("GET") and "/resolve/" in line)
    return [line.rsplit("/", 1)[1] for line in lines]


def test_golden_tensors_are_fetched_when_they_are_asked_for(hub, play):
    play("""step(generator.push_to_hub, "tester/golden")""")
    since = len(hub.log)
    play("""step(load, "tester/golden")""")
    assert set(fetched(hub, since)) == {"config.json", "model.safetensors"}
    ((loaded, _),) = play("""step(load, "tester/golden", verify=True)""")
    assert isinstance(loaded, list)
    assert fetched(hub, since)[2:] == ["golden.safetensors"]


def test_a_model_on_the_hub_that_lacks_golden_tensors_or_fails_them_is_a_sentence(hub, play):
    play("""
        step(generator.push_to_hub, "tester/other")
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/swapped")
        """)
    theirs, swapped = hub.repositories["tester/other"], hub.repositories["tester/swapped"]
    golden = theirs.commits[theirs.branches["main"]]["golden.safetensors"]
    files = swapped.commits[swapped.branches["main"]]
    swapped.commit("main", files | {"golden.safetensors": golden})
    bare = {path: content for path, content in files.items() if path != "golden.safetensors"}
    swapped.commit("bare", bare)
    (failed, _), (lacking, _), (unasked, _) = play("""
        step(load, "tester/swapped", verify=True)
        step(load, "tester/swapped", revision="bare", verify=True)
        step(load, "tester/swapped", revision="bare")
        """)
    assert failed.startswith("tester/swapped: gives another output than when it was saved") and "the norms of" in failed
    assert lacking == "tester/swapped@bare: has no golden.safetensors to verify it by; save the model again"
    assert isinstance(unasked, list)


@pytest.mark.slow
def test_offline_the_cache_serves_what_it_holds_and_says_what_it_lacks(hub, play):
    """As HF_HUB_OFFLINE has it, which the client reads once: test_hub.py starts one with it."""
    *_, (plain, _), (unverified, _), (variant, _) = play(f"""
        from huggingface_hub import constants
        step(generator.push_to_hub, "tester/cached", max_shard_size={SHARD})
        step(generator.push_to_hub, "tester/cached", variant="fp16", max_shard_size={SHARD})
        step(load, "tester/cached")
        step(load, "tester/cached", variant="fp16", verify=True)
        constants.HF_HUB_OFFLINE = True
        step(load, "tester/cached")
        step(load, "tester/cached", verify=True)
        step(load, "tester/cached", variant="fp16", verify=True)
        constants.HF_HUB_OFFLINE = False
        """)
    assert isinstance(plain, list) and isinstance(variant, list), (plain, variant)
    assert unverified.startswith("tester/cached: is not in the local cache, and the hub cannot be reached (")


def test_spread_weights_come_from_one_commit_though_the_branch_moves_between_them(hub, play):
    ((_, _), (wanted, _)) = play(f"""
        step(generator.push_to_hub, "tester/drifting", max_shard_size={SHARD})
        step(lambda: generator.network.stem.bias.tolist())
        """)
    repository = hub.repositories["tester/drifting"]
    files = repository.commits[first := repository.branches["main"]]

    def move(line: str) -> None:
        if line.startswith("GET") and line.endswith("index.json"):
            repository.commit("main", dict.fromkeys(files, b"of another day"))

    hub.watch = move
    try:
        ((loaded, _),) = play("""step(load, "tester/drifting")""")
    finally:
        hub.watch = None
    assert repository.branches["main"] != first and loaded == wanted


@pytest.mark.parametrize("name", ["../../../secret.safetensors", "/etc/passwd", "deep/model.safetensors", "model.bin"])
def test_an_index_on_the_hub_cannot_name_a_file_that_is_elsewhere(hub, play, name):
    play(f"""step(generator.push_to_hub, "tester/pointing", max_shard_size={SHARD})""")
    repository = hub.repositories["tester/pointing"]
    files = repository.commits[repository.branches["main"]]
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["stem.bias"] = name
    repository.commit("main", files | {"model.safetensors.index.json": json.dumps(index).encode(), name: b"secret"})
    since = len(hub.log)
    ((message, _),) = play("""step(load, "tester/pointing")""")
    assert message.endswith("which is not a safetensors file beside it; nothing else is opened")
    assert name.rsplit("/")[-1] not in fetched(hub, since)


def test_a_crisp_partner_comes_the_way_that_its_model_came(hub, play, tmp_path):
    (_, _), (_, _), (refused, _), (blend, _) = play(f"""
        step(generator.push_to_hub, "tester/plain")
        awake(generator.network, seed=1)
        step(generator.push_to_hub, "tester/firm")
        aside = {str(tmp_path / "aside")!r}
        loaded = load("tester/plain", cache_dir=aside, crisp="tester/firm")
        again = load("tester/plain", cache_dir=aside, crisp="tester/firm", local_files_only=True)
        step(again.with_crispness, 0.5)
        step(loaded.with_crispness, 0.5)
        """)
    assert refused.startswith("tester/firm: ") and isinstance(blend, list)
    assert {path.name for path in (tmp_path / "aside").glob("models--*")} == {
        "models--tester--plain",
        "models--tester--firm",
    }
