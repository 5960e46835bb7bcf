"""Photos behind URIs: restored as files are, and what is wrong with one costs itself."""

import asyncio
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.batch import pipeline
from deblur_hub.cli import main
from deblur_hub.remote import files_below, place, upload
from tests.conftest import TINY, awake

upath = pytest.importorskip("upath")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    made = DeblurGenerator(GeneratorConfig("compact", dict(TINY)))
    awake(made.network)
    return made.save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A folder in fsspec's own memory; copies on this machine go below `tmp_path`."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    folder = place("memory://bucket")
    yield folder
    folder.fs.store.clear()
    assert list((tmp_path / "tmp").iterdir()) == [], "copies were left behind"


def picture(seed: int, suffix: str = ".png", size: tuple[int, int] = (24, 32)) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(file, Image.registered_extensions()[suffix])
    return file.getvalue()


def run(model: Path, *typed: object) -> int:
    return main(["deblur", "-q", "--model", str(model), *map(str, typed)])


def local_results(model: Path, photos: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    for name, content in photos.items():
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(content)
    assert run(model, folder / "in", "-o", folder / "out") == 0
    return {name: (folder / "out" / name).read_bytes() for name in photos}


def results(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder) if not name.startswith(".")}


@pytest.mark.slow
def test_a_folder_behind_a_uri_is_restored_as_one_on_this_machine(model, bucket, tmp_path, capsys):
    photos = {"1.png": picture(1), "sub/2.jpg": picture(2, ".jpg"), "sub/deep/3.png": picture(3)}
    others = {"bad.png": b"no picture", ".hidden.png": picture(4), "notes.txt": b"", "clip.mp4": b"", "old.psd": b""}
    for name, content in (photos | others).items():
        (bucket / "in" / name).write_bytes(content)
    bucket.fs.store["/bucket/in/../../outside.png"] = bucket.fs.store["/bucket/in/1.png"]
    expected = local_results(model, photos, tmp_path / "local")
    capsys.readouterr()
    assert run(model, bucket / "in", "-o", bucket / "out") == 1
    told = capsys.readouterr()
    assert results(bucket / "out") == expected
    assert told.err.count("bad.png") == 1 and "clip.mp4" in told.err and "old.psd" in told.err
    assert "3 restored (memory://bucket/out), 1 failed, 2 passed over" in told.out

    assert run(model, bucket / "in", "-o", tmp_path / "here") == 1  # from there to here
    assert {name: (tmp_path / "here" / name).read_bytes() for name in photos} == expected
    assert run(model, tmp_path / "local/in", "-o", bucket / "back") == 0  # and back
    assert results(bucket / "back") == expected
    (bucket / "in" / "bad.png").unlink()
    capsys.readouterr()
    assert run(model, bucket / "in/1.png", bucket / "in/none.png") == 1  # beside the original
    assert (bucket / "in/1-deblurred.png").read_bytes() == expected["1.png"]
    assert "memory://bucket/in/none.png: cannot be fetched (not found); check the URI" in capsys.readouterr().err


def test_a_run_behind_a_uri_goes_on_with_what_is_new_or_was_changed(model, bucket, capsys):
    for number in range(4):
        (bucket / f"in/sub/{number}.png").write_bytes(picture(number))
    assert run(model, bucket / "in", "-o", bucket / "out") == 0
    first = results(bucket / "out")
    assert run(model, bucket / "in", "-o", bucket / "out") == 2
    assert capsys.readouterr().err.count("exists already") == 4
    (bucket / "in/sub/1.png").write_bytes(picture(11, size=(25, 32)))  # another photo under the same name
    (bucket / "out/sub/2.png").unlink()
    (bucket / "out/sub/3.png").write_bytes(b"somebody's own")
    assert run(model, bucket / "in", "-o", bucket / "out", "--resume") == 1
    told, second = capsys.readouterr(), results(bucket / "out")
    assert "2 restored (memory://bucket/out), 1 done before, 1 failed" in told.out
    assert "3.png: exists already" in told.err and second["sub/3.png"] == b"somebody's own"
    assert second["sub/1.png"] != first["sub/1.png"] and second["sub/2.png"] == first["sub/2.png"]


def test_paths_and_uris_are_taken_from_a_list(model, bucket, tmp_path, monkeypatch, capsys):
    (bucket / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    lines = f"{bucket / 'a.png'}\n\n{tmp_path / 'b.png'}\nfile://{tmp_path / 'c%20d.png'}\n"
    (tmp_path / "c d.png").write_bytes(picture(3))
    (tmp_path / "list.txt").write_text(lines)
    assert run(model, "--list", tmp_path / "list.txt", "-o", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["a.png", "b.png", "c d.png"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert run(model, "--list", "-", "-o", tmp_path / "again") == 0
    capsys.readouterr()
    (tmp_path / "list.txt").write_text("\n")
    for name, wrong in (("list.txt", "lists no photos"), ("none.txt", "cannot be read (No such file")):
        assert run(model, "--list", tmp_path / name) == 2
        assert wrong in capsys.readouterr().err


def test_what_is_wrong_with_a_uri_is_one_sentence(model, bucket, tmp_path, monkeypatch, capsys):
    (tmp_path / "photo.png").write_bytes(picture(1))
    with pytest.raises(SystemExit):
        run(model, "nosuch://bucket/photo.png")
    assert "nosuch://bucket/photo.png: no file system that fsspec knows" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "dropboxdrivefs", None)
    with pytest.raises(SystemExit):
        run(model, "dropbox://photo.png")
    assert "cannot be reached without another package (DropboxFileSystem requires" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "paramiko", None)  # as where it is not installed
    monkeypatch.setitem(sys.modules, "fsspec.implementations.sftp", None)
    for typed in (
        (place("sftp://host/folder"), tmp_path / "photo.png"),
        (tmp_path / "photo.png", "-o", "sftp://host/"),
    ):
        assert run(model, *typed) in (1, 2)
        (sentence,) = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"deblur-hub: sftp:.*: cannot be found \(.*paramiko.*\)", sentence)
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(SystemExit):
        run(model, "s3://bucket/photo.png")
    assert "pip install 'deblur-hub[remote]'" in capsys.readouterr().err


def test_an_upload_that_fails_leaves_nothing_behind(bucket, tmp_path, monkeypatch):
    """On a file system whose files grow while they are written."""
    monkeypatch.setattr("deblur_hub.remote.WHOLE_FILES", {"s3"})
    (tmp_path / "made.png").write_bytes(b"new")
    (bucket / "out.png").write_bytes(b"old")
    put = type(bucket.fs).put_file

    def cut_off(files, local, path, **options):
        put(files, local, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(bucket.fs), "put_file", cut_off)
    with pytest.raises(Exception, match=r"out.png: cannot be written \(No space left on device\)"):
        upload(tmp_path / "made.png", bucket / "out.png")
    assert results(bucket) == {"out.png": b"old"} and list(files_below(bucket)) == ["out.png"]
    monkeypatch.setattr(type(bucket.fs), "put_file", put)
    upload(tmp_path / "made.png", bucket / "new" / "out.png")
    assert results(bucket) == {"out.png": b"old", "new/out.png": b"new"}


def test_only_the_copies_of_pictures_in_work_are_there_at_once(model, bucket, tmp_path, monkeypatch):
    for number in range(12):
        (bucket / f"in/{number}.png").write_bytes(picture(number))
    most = []
    monkeypatch.setattr(pipeline, "MOST_PICTURES", 4)
    monkeypatch.setattr(
        "deblur_hub.batch.nearby.upload", lambda *_: most.append(len(list((tmp_path / "tmp").glob("deblur-hub-*/*"))))
    )
    generator = DeblurGenerator.from_pretrained(model)
    stream = pipeline.restore_files(generator, [(bucket / f"in/{n}.png", bucket / f"out/{n}.png") for n in range(12)])
    assert [outcome.error for outcome in stream] == [None] * 12
    assert 1 <= max(most) <= 4 + 2


@pytest.mark.slow
def test_photos_in_a_repository_of_the_hub_are_restored_into_it_and_from_it(hub, play, model, tmp_path):
    photos = {"1.png": picture(1), "sub/2.jpg": picture(2, ".jpg")}
    expected = local_results(model, photos, tmp_path)
    *codes, (resumed, _) = play(f"""
        import contextlib, huggingface_hub
        from deblur_hub.cli import main
        huggingface_hub.create_repo("tester/photos")
        huggingface_hub.upload_folder(repo_id="tester/photos", folder_path={str(tmp_path / "in")!r}, path_in_repo="in")
        typed = ["deblur", "-q", "hf://tester/photos/in", "--model", {str(model)!r}, "-o"]
        with contextlib.redirect_stdout(sys.stderr):  # this one's is for the answers
            step(main, [*typed, {str(tmp_path / "here")!r}])
            step(main, [*typed, "hf://tester/photos/out"])
            commits = len(huggingface_hub.list_repo_commits("tester/photos"))
            step(main, [*typed, "hf://tester/photos/out", "--resume"])
        step(lambda: len(huggingface_hub.list_repo_commits("tester/photos")) - commits)
        """)
    assert [code for code, _ in codes] == [0, 0, 0] and resumed == 0, "nothing is put there twice"
    there = hub.repositories["tester/photos"].head
    for name, content in expected.items():
        assert there[f"out/{name}"] == (tmp_path / "here" / name).read_bytes() == content


@pytest.fixture
def sftp(tmp_path):
    """A folder of an SSH server that others wrote, on the loopback interface, and the same folder on this machine."""
    asyncssh, loop = pytest.importorskip("asyncssh"), asyncio.new_event_loop()
    pytest.importorskip("paramiko")
    (tmp_path / "served").mkdir()

    class AnyPassword(asyncssh.SSHServer):
        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return True

    async def serve():
        return await asyncssh.create_server(
            AnyPassword,
            *("127.0.0.1", 0),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(tmp_path / "served")),
        )

    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    yield f"sftp://somebody:secret@127.0.0.1:{server.get_port()}/photos", tmp_path / "served" / "photos"
    loop.call_soon_threadsafe(server.close)


@pytest.mark.slow
def test_over_ssh_photos_are_fetched_and_put_back_side_by_side(model, sftp, tmp_path, capsys):
    there, here = sftp
    photos = {f"{number % 3}/{number}.png": picture(number, size=(200, 300)) for number in range(12)}
    expected = local_results(model, photos, tmp_path)
    shutil.copytree(tmp_path / "in", here / "in")
    assert run(model, f"{there}/in", "-o", f"{there}/out") == 0
    assert {name: (here / "out" / name).read_bytes() for name in photos} == expected
    capsys.readouterr()
    (here / "out/0/3.png").unlink()
    assert run(model, f"{there}/in", "-o", f"{there}/out", "--resume") == 0
    assert "1 restored (sftp:///photos/out/0/3.png), 11 done before" in capsys.readouterr().out
    assert run(model, f"{there}/in", "-o", f"{there}/out", "--strength", "0", "--overwrite") == 0
    assert (here / "out/1/1.png").read_bytes() != expected["1/1.png"]
    left = {path.relative_to(here / "out").as_posix() for path in (here / "out").rglob("*.*") if path.is_file()}
    assert left == {*photos, *(f".deblur-hub/{name}.json" for name in photos)}


@pytest.fixture
def s3(monkeypatch, tmp_path):
    """A bucket of an S3 server that others wrote, on the loopback interface."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TMPDIR": str(tmp_path),
        "NO_PROXY": host,
    }.items():
        monkeypatch.setenv(name, value)
    bucket = place("s3://photos")
    type(bucket.fs).clear_instance_cache()
    bucket = place("s3://photos")
    bucket.fs.mkdir("photos")
    yield bucket
    server.stop()


def start(model: Path, *typed: object) -> subprocess.Popen:
    """Two processes that share the work."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    command = [sys.executable, *launcher, "-m", "deblur_hub.batch", "-q", "--model", str(model), *map(str, typed)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def ended(running: subprocess.Popen) -> str:
    told, wrong = running.communicate(timeout=300)
    assert running.returncode == 0, wrong
    return told


@pytest.mark.slow
def test_two_processes_share_a_list_of_uris_and_one_that_was_killed_is_gone_on_with(model, s3, tmp_path, capsys):
    count = 12
    photos = {
        f"{number:02}{suffix}": picture(number, suffix, (600, 800))
        for number in range(count)
        for suffix in [(".png", ".jpg")[number % 2]]
    }
    for name, content in photos.items():
        (s3 / "in" / name).write_bytes(content)
    (tmp_path / "list.txt").write_text("\n".join(str(s3 / "in" / name) for name in photos))
    typed = ("--list", tmp_path / "list.txt", "-o", s3 / "out")
    running = start(model, *typed)
    deadline = time.monotonic() + 300
    while sum(not name.startswith(".") for name in files_below(s3 / "out")) < 3:
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.005)
    psutil.Process(running.pid).children()[0].kill()  # upon which the launcher ends the other
    running.communicate(timeout=300)
    assert running.returncode
    before = results(s3 / "out")
    assert len(before) < count

    told = ended(start(model, *typed, "--resume"))
    restored, done = map(int, re.findall(r"(\d+) (?:restored|done before)", told))
    assert restored + done == count and done >= len(before) - 2, "all but what was being taken down when it was killed"
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = local_results(model, photos, tmp_path)
    torch.set_num_threads(threads)
    assert results(s3 / "out") == expected
    capsys.readouterr()
    assert run(model, *typed, "--resume") == 0 and f", {count} done before" in capsys.readouterr().out
