"""Videos: frames are restored, and all that is not a frame comes back as it was."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_hub import DeblurGenerator, GeneratorConfig, PictureError
from deblur_hub.cli import main
from tests.conftest import TINY, awake

av = pytest.importorskip("av", reason="the extra 'video' is not installed")

from deblur_hub.video import carefully, restore_video  # noqa: E402 - needs av at first use only, but this file at once

ROOT = Path(__file__).parents[1]
SIZE = (96, 64)
TIMES = [0, 40, 130, 200, 210, 300]  # milliseconds: of a variable frame rate
FULL, BT709 = 2, 1


@pytest.fixture(scope="module")
def generator() -> DeblurGenerator:
    made = DeblurGenerator(GeneratorConfig("compact", dict(TINY)))
    awake(made.network)
    return made


def film(path: Path, codec: str = "libx264", pixels: str = "yuv420p", **extra) -> Path:
    """A moving pattern of few frames, with what `extra` asks for: sound, subtitles, turned, tags, frames."""
    options = {"crf": "5", "x265-params": "log-level=none"} if codec.startswith("libx26") else {}
    with av.open(str(path), "w") as written:
        stream = written.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = Fraction(1, 1000), Fraction(4, 3)
        context.color_primaries = context.colorspace = BT709
        context.color_trc, context.color_range = extra.get("transfer", BT709), extra.get("range", 1)
        if "turned" in extra:
            stream.set_display_rotation(extra["turned"])
        sound = written.add_stream("aac", rate=48_000, layout="mono") if "sound" in extra else None
        written.metadata.update({"title": "Holiday", "location": "+51.5000-000.1000/"})
        tiles = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
        picture = tiles.repeat(8, 0).repeat(8, 1)
        for number in range(extra.get("frames", len(TIMES))):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, 1), "rgb24").reformat(format=pixels)
            frame.pts = TIMES[number] if number < len(TIMES) else 40 * number + 200
            frame.time_base = Fraction(1, 1000)
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
        for number in range(8 if sound else 0):
            wave = np.sin(np.arange(1024) / 20, dtype=np.float32)[None] / 3
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 1024 * number, Fraction(1, 48_000)
            written.mux(sound.encode(frame))
        if sound:
            written.mux(sound.encode(None))
    return path


def with_subtitles(path: Path, plain: Path) -> Path:
    """The same film with a track of subtitles."""
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:00,200\nHello\n")
    with av.open(str(plain)) as film, av.open(str(text)) as words, av.open(str(path), "w") as written:
        copies = {each: written.add_stream_from_template(each) for each in (*film.streams, *words.streams)}
        for opened in (film, words):
            for packet in opened.demux():
                if packet.size:
                    packet.stream = copies[packet.stream]
                    written.mux(packet)
    return path


def frames(path: Path) -> list:
    with av.open(str(path)) as opened:
        return list(opened.decode(video=0))


def samples(plane) -> np.ndarray:
    """Without what fills its lines up."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width].astype(int)


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as opened:
        return [bytes(packet) for packet in opened.demux(**{kind: 0}) if packet.dts is not None]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("b.mkv", "libx265", "yuv420p10le"),
        ("c.webm", "libvpx-vp9", "yuv420p"),
        ("d.mov", "prores_ks", "yuv422p10le"),
        ("e.mkv", "ffv1", "yuv444p"),
    ],
)
def test_what_is_not_a_sample_comes_back_as_it_was(generator, tmp_path, name, codec, pixels):
    extra = {} if name == "c.webm" else {"sound": True}
    source = film(tmp_path / name, codec, pixels, turned=90, **extra)
    report = restore_video(generator, source, tmp_path / f"out-{name}")
    before, after = frames(source), frames(tmp_path / f"out-{name}")
    assert report.frames == len(before) == len(after) == len(TIMES) and not report.notes
    assert [frame.time for frame in after] == [frame.time for frame in before]
    for one, other in zip(before, after, strict=True):
        assert other.format.name == one.format.name == pixels and other.rotation == one.rotation
        for tag in ("colorspace", "color_range"):
            assert getattr(other, tag) == getattr(one, tag)
    if extra:
        assert packets(tmp_path / f"out-{name}", "audio") == packets(source, "audio")
    with av.open(str(source)) as one, av.open(str(tmp_path / f"out-{name}")) as other:
        assert other.metadata["title"] == "Holiday" and "+51.5" in "".join(other.metadata.values())
        shapes = [opened.streams.video[0].sample_aspect_ratio for opened in (one, other)]
        assert shapes[0] == shapes[1]


def test_subtitles_are_copied(generator, tmp_path):
    source = with_subtitles(tmp_path / "titled.mkv", film(tmp_path / "plain.mkv", sound=True))
    assert restore_video(generator, source, tmp_path / "out.mkv").notes == []
    assert packets(tmp_path / "out.mkv", "subtitles") == packets(source, "subtitles") != []


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("full", [FULL, 1])
def test_frames_are_what_pictures_come_to_and_what_is_left_alone_stays_exactly(generator, tmp_path, pixels, full):
    source = film(tmp_path / "a.mkv", "ffv1", pixels, range=full)
    restore_video(generator, source, tmp_path / "same.mkv", strength=0.0)
    restore_video(generator, source, tmp_path / "out.mkv")
    for before, same, after in zip(*(frames(tmp_path / f"{name}.mkv") for name in ("a", "same", "out")), strict=True):
        assert np.array_equal(same.to_ndarray(), before.to_ndarray())
        rgb = before.to_ndarray(format="rgb24", src_colorspace=BT709, src_color_range=full, interpolation=carefully())
        expected = av.VideoFrame.from_ndarray(generator.deblur(rgb), "rgb24").reformat(
            format=pixels, dst_colorspace=BT709, dst_color_range=full, interpolation=carefully()
        )
        planes = 3 if pixels == "yuv444p" else 1  # of the others chroma is interpolated before it is restored
        for plane in range(planes):
            one, other, old = (samples(frame.planes[plane]) for frame in (after, expected, before))
            assert np.abs(one - other).mean() < 1.5 < np.abs(one - old).mean()


def test_where_it_was_taken_is_left_out_if_asked(generator, tmp_path):
    source = film(tmp_path / "a.mov")
    restore_video(generator, source, tmp_path / "out.mov", strip="gps")
    with av.open(str(tmp_path / "out.mov")) as opened:
        assert opened.metadata["title"] == "Holiday" and "51.5" not in "".join(opened.metadata.values())


@pytest.mark.parametrize(
    ("made", "target", "sentence"),
    [
        (lambda path: film(path, transfer=16), "out.mp4", r"film\.mkv: is HDR \(PQ\)"),
        (lambda path: film(path, "ffv1", "yuva420p"), "out.mkv", "has an alpha channel"),
        (lambda path: path.write_bytes(b"no film" * 99), "out.mp4", r"film\.mkv: cannot be restored as a video"),
        (film, "out.avi", r"out\.avi: '\.avi' is not written; name it \.mp4"),
        (film, "no/out.mp4", "cannot be restored as a video"),
    ],
)
def test_what_cannot_be_restored_is_one_sentence_and_leaves_nothing(generator, tmp_path, made, target, sentence):
    made(tmp_path / "film.mkv")
    with pytest.raises(PictureError, match=sentence) as told:
        restore_video(generator, tmp_path / "film.mkv", tmp_path / target)
    assert "\n" not in str(told.value) and [path.name for path in tmp_path.iterdir()] == ["film.mkv"]


def test_a_codec_that_is_not_written_is_written_as_another_and_said(generator, tmp_path):
    report = restore_video(generator, film(tmp_path / "a.mkv", "mpeg4"), tmp_path / "out.mp4")
    assert report.notes == ["is mpeg4, written as h264"]


def test_the_shell_restores_films_beside_photos_and_goes_on(generator, tmp_path, capsys, monkeypatch):
    model = generator.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    film(Path("a.mp4"), sound=True)
    film(Path("b.mkv"))
    Path("bad.mp4").write_bytes(b"no film")
    typed = ["deblur", "a.mp4", "b.mkv", "bad.mp4", "-o", "out", "--model", str(model), "-q"]
    assert main(typed) == 1
    told = capsys.readouterr()
    assert "bad.mp4: cannot be restored as a video" in told.err and told.out == "2 restored (out), 1 failed\n"
    assert main([*typed, "--resume"]) == 1
    assert capsys.readouterr().out == "0 restored, 2 done before, 1 failed\n"
    assert main(typed) == 2
    assert "a.mp4: exists already; give --overwrite" in capsys.readouterr().err
    assert main(["deblur", "a.mp4", "--model", str(model), "-q", "--quality", "fast"]) == 0
    assert len(frames(Path("a-deblurred.mp4"))) == len(TIMES)


@pytest.mark.slow
def test_ctrl_c_leaves_no_part_of_a_film(generator, tmp_path):
    model = generator.save_pretrained(tmp_path / "model")
    film(tmp_path / "a.mp4", frames=1000)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "deblur_hub.cli", "deblur", "a.mp4", "-o", "out/a.mp4", "--model", str(model)]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which background jobs of a shell ignore
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("*.part")):  # which holds nothing for long: frames are written in blocks
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert "Traceback" not in running.stderr.read()
    assert not list((tmp_path / "out").iterdir())
