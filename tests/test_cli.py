"""The shell command: what it writes, what it says, and how it ends."""

import argparse
import fcntl
import importlib
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.cli import main, models, parser
from deblur_hub.evaluation import matrix
from deblur_hub.evaluation.benchmark import made_up_photo, measure_memory, peak_of
from deblur_hub.networks import PRESETS
from tests.conftest import awake
from tests.conversion.test_deblurgan import deblurgan_state


@pytest.fixture
def model(generator, tmp_path_factory) -> Path:
    return generator.save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with a photo and a folder of photos."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "holiday/beach.png", "holiday/day two/hill.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)).save(path)
    return tmp_path


def files_below(folder: Path) -> set[str]:
    """But for the journals of those that were restored together."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.endswith(".deblur-hub.jsonl")}


def sentence(capsys) -> str:
    """The one line that a failed command says, progress bars aside."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "deblur-hub: " in line]
    assert len(lines) == 1, lines
    return lines[0].split("deblur-hub: ", 1)[1]


def test_every_command_has_the_function_that_runs_it():
    (commands,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert len(commands.choices) > 10
    for made in commands.choices.values():
        module, function = made.get_default("run").args
        assert callable(getattr(importlib.import_module(f"deblur_hub.cli.{module}"), function))


def test_files_and_folders_are_restored_under_their_own_names(here, model, capsys):
    assert main(["deblur", "photo.jpg", "holiday", "-o", "sharp", "--model", str(model), "-q"]) == 0
    assert files_below(here / "sharp") == {"photo.jpg", "beach.png", "day two/hill.jpg"}
    assert "3 restored (sharp)" in capsys.readouterr().out


def test_what_the_shell_writes_is_what_python_returns(here, model):
    assert main(["deblur", "holiday/beach.png", "-o", "out.png", "--model", str(model), "-q"]) == 0
    expected = DeblurGenerator.from_pretrained(model).deblur(Image.open("holiday/beach.png"))
    assert np.array_equal(np.asarray(Image.open("out.png")), np.asarray(expected))


def test_without_an_output_the_result_stands_beside_the_photo(here, model):
    assert main(["deblur", "photo.jpg", "--model", str(model), "-q"]) == 0
    assert Image.open("photo-deblurred.jpg").size == Image.open("photo.jpg").size


def test_a_format_can_be_asked_for(here, model):
    assert main(["deblur", "photo.jpg", "-o", "sharp", "--format", "png", "--model", str(model), "-q"]) == 0
    assert Image.open("sharp/photo.png").format == "PNG"


def test_a_number_as_quality_is_that_of_the_jpeg_and_a_word_that_of_the_model(here, model, capsys):
    typed = ["deblur", "photo.jpg", "-o", "out.jpg", "--overwrite", "-q", "--model", str(model)]
    tables = {}
    for number in (30, 85):
        Image.open("photo.jpg").save("plain.jpg", quality=number)
        for switches in (
            ["--quality", number],
            ["--jpeg-quality", number],
            ["--quality", "draft", "--quality", number],
        ):
            assert main([*typed, *map(str, switches)]) == 0
            assert Image.open("out.jpg").quantization == Image.open("plain.jpg").quantization
        tables[number] = Image.open("out.jpg").quantization
    assert tables[30] != tables[85]
    capsys.readouterr()
    assert main([*typed, "--quality", "30", "--jpeg-quality", "85"]) == 2
    assert sentence(capsys) == "--quality 30 and --jpeg-quality 85 ask for two qualities of the JPEG; give one of them"
    assert main([*typed, "--quality", "85", "--jpeg-quality", "85"]) == 0
    for wrong in ("0", "101", "finest"):
        with pytest.raises(SystemExit, match="2"):
            main([*typed, "--quality", wrong])
        assert f"'{wrong}' is neither a quality of the model (draft, fast" in capsys.readouterr().err


def test_a_batch_with_one_bad_file_writes_the_others_and_exits_with_1(here, model, capsys):
    (here / "holiday/text.jpg").write_text("not a picture")
    assert main(["deblur", "photo.jpg", "holiday", "nowhere.png", "-o", "sharp", "--model", str(model)]) == 1
    said = capsys.readouterr()
    assert "text.jpg: not a picture" in said.err and "nowhere.png: no such file" in said.err
    assert files_below(here / "sharp") == {"photo.jpg", "beach.png", "day two/hill.jpg"}
    assert "3 restored (sharp), 2 failed" in said.out


def truncated(here: Path) -> str:
    whole = (here / "photo.jpg").read_bytes()
    (here / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return "cut.jpg"


def text_file(here: Path) -> str:
    (here / "note.jpg").write_text("hello")
    return "note.jpg"


def empty_folder(here: Path) -> str:
    (here / "empty").mkdir()
    return "empty"


def enormous(here: Path) -> str:
    header = bytearray((here / "holiday/beach.png").read_bytes())
    header[16:24] = (30000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (here / "huge.png").write_bytes(header)
    return "huge.png"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (truncated, r"cut\.jpg: truncated"),
        (text_file, r"note\.jpg: not a picture"),
        (empty_folder, r"empty: holds no pictures"),
        (enormous, r"huge\.png: .*30000x30000.*110"),
        (lambda here: "nowhere.jpg", r"nowhere\.jpg: no such file or folder"),
    ],
)
def test_a_bad_input_gets_one_sentence_exit_code_2_and_leaves_nothing(here, model, capsys, make, says):
    bad = make(here)
    before = files_below(here)
    assert main(["deblur", bad, "-o", "out", "--model", str(model)]) == 2
    assert re.match(says, sentence(capsys))
    assert files_below(here) == before
    assert not (here / "out").exists()


def test_weights_that_cannot_be_read_get_one_sentence(here, model, capsys):
    (model / "model.safetensors").write_bytes(b"not weights")
    assert main(["deblur", "photo.jpg", "--model", str(model)]) == 2
    assert "model.safetensors" in sentence(capsys)


def test_weights_of_another_architecture_get_one_sentence(here, model, capsys):
    save_file({"stem.weight": torch.zeros(3)}, model / "model.safetensors")
    assert main(["deblur", "photo.jpg", "--model", str(model)]) == 2
    assert "tensor" in sentence(capsys)


def test_an_existing_file_is_kept_unless_it_may_be_replaced(here, model, capsys):
    (here / "out.jpg").write_text("mine")
    assert main(["deblur", "photo.jpg", "-o", "out.jpg", "--model", str(model)]) == 2
    assert "--overwrite" in sentence(capsys)
    assert (here / "out.jpg").read_text() == "mine"
    assert main(["deblur", "photo.jpg", "-o", "out.jpg", "--overwrite", "--model", str(model), "-q"]) == 0
    assert Image.open("out.jpg").size == (53, 37)


def test_results_beside_the_photos_are_not_restored_again(here, model):
    for _ in range(2):
        assert main(["deblur", "holiday", "--overwrite", "--model", str(model), "-q"]) == 0
    names = {"beach.png", "beach-deblurred.png", "day two/hill.jpg", "day two/hill-deblurred.jpg"}
    assert files_below(here / "holiday") == names


def test_a_photo_is_never_written_over_itself(here, model, capsys):
    assert main(["deblur", "photo.jpg", "-o", ".", "--overwrite", "--model", str(model)]) == 2
    assert "over itself" in sentence(capsys)


def test_two_photos_of_one_name_are_not_written_into_one_file(here, model, capsys):
    Path("other").mkdir()
    Path("other/photo.jpg").write_bytes(Path("photo.jpg").read_bytes())
    inputs = ["photo.jpg", "other/photo.jpg", "holiday/beach.png"]
    assert main(["deblur", *inputs, "-o", "sharp", "--model", str(model), "-q"]) == 1
    assert capsys.readouterr().err.count("both be written") == 2
    assert files_below(here / "sharp") == {"beach.png"}


def test_one_photo_named_twice_is_restored_once(here, model, capsys):
    inputs = ["photo.jpg", "holiday/../photo.jpg", "holiday", "holiday/beach.png"]
    assert main(["deblur", *inputs, "-o", "sharp", "--model", str(model), "-q"]) == 0
    assert capsys.readouterr().out.startswith("3 restored")


def test_a_folder_that_holds_its_own_output_is_not_restored_twice(here, model):
    for _ in range(2):
        assert main(["deblur", "holiday", "-o", "holiday/sharp", "--overwrite", "--model", str(model), "-q"]) == 0
    assert files_below(here / "holiday/sharp") == {"beach.png", "day two/hill.jpg"}


@pytest.mark.slow
def test_the_process_ends_with_the_code_and_without_a_traceback(here):
    done = subprocess.run(
        [sys.executable, "-m", "deblur_hub.cli", "deblur", "nowhere.jpg"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "deblur-hub: nowhere.jpg: no such file or folder; check the path\n"


@pytest.mark.slow
def test_a_terminal_shows_a_progress_bar_that_moves_with_the_tiles(here, model):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "deblur_hub.cli",
            "deblur",
            "photo.jpg",
            "--tile",
            "64",
            "--model",
            str(model),
            "-o",
            "big",
        ],
        stdout=terminal,
        stderr=terminal,
        cwd=enlarge(here),
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    shares = {int(share) for share in re.findall(rb"(\d+)%\|", shown)}
    assert {0, 100} <= shares and len(shares) > 2, shares


def enlarge(here: Path) -> Path:
    Image.open(here / "photo.jpg").resize((1100, 900)).save(here / "photo.jpg")
    return here


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Two pairs whose blurred pictures are off by 10 and 20 steps everywhere: 28.13 and 22.11 dB."""
    for folder, shift in (("sharp", None), ("blur", (10, 20))):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for number in range(2):
            values = np.full((40, 48, 3), 100, np.uint8) + (np.arange(48, dtype=np.uint8) % 5)[None, :, None]
            values = values + np.uint8(shift[number] if shift else 0)
            Image.fromarray(values).save(tmp_path / "set" / folder / f"{number}.png")
    return tmp_path / "set"


def test_evaluate_prints_the_blurry_inputs_own_score_beside_the_models(pairs, model, capsys):
    assert main(["evaluate", str(model), str(pairs), "-q"]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[:5]] == ["picture", "0.png", "1.png", "mean", "over 2 pictures"]
    assert [row[1] for row in rows[1:4]] == ["28.13 dB", "22.11 dB", "25.12 dB"]
    blurred = Image.open(pairs / "blur" / "0.png")
    restored = np.asarray(DeblurGenerator.from_pretrained(model).deblur(blurred), float)
    error = ((restored - np.asarray(Image.open(pairs / "sharp" / "0.png"), float)) ** 2).mean()
    assert rows[1][2] == f"{10 * np.log10(255**2 / error):.2f} dB"


def test_evaluate_names_what_is_wrong_with_a_set(pairs, model, capsys):
    (pairs / "blur" / "1.png").unlink()
    assert main(["evaluate", str(model), str(pairs)]) == 2
    assert "1.png" in sentence(capsys)


def test_release_writes_half_precision_with_a_card_of_what_it_measured(pairs, model, tmp_path, capsys):
    arguments = [
        "release",
        str(model),
        "--name",
        "mine",
        "--pairs",
        str(pairs),
        "--to",
        str(tmp_path / "weights"),
        "-q",
    ]
    assert main([*arguments, "--training", "Trained by a test."]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "weights" / "mine"
    card = (folder / "README.md").read_text()
    assert "28.13 dB" in card and "28.13 dB" in printed and "Trained by a test." in card
    assert (
        f"deblur-hub evaluate path/to/this/folder {pairs.name} --precision float32" in card and str(pairs) not in card
    )
    assert (folder / "model.safetensors").stat().st_size < 0.6 * (model / "model.safetensors").stat().st_size
    assert DeblurGenerator.from_pretrained(folder).config.name == "mine"


def test_a_release_that_fails_leaves_the_one_before(pairs, model, tmp_path, capsys):
    arguments = [
        "release",
        str(model),
        "--name",
        "mine",
        "--pairs",
        str(pairs),
        "--to",
        str(tmp_path / "weights"),
        "-q",
    ]
    assert main(arguments) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "weights/mine").iterdir()}
    (pairs / "sharp" / "0.png").write_text("broken")
    assert main(arguments) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "weights/mine").iterdir()} == before


@pytest.mark.slow
def test_benchmark_compares_with_resnet_9_in_the_same_run(capsys, model):
    assert main(["benchmark", str(model), "--size", "96x64", "--runs", "1"]) == 0
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ")
    ]
    assert [row[0] for row in rows] == ["model", "deblurgan", str(model)]
    assert rows[1][1:3] == ["float32", "11.38 M"]
    assert rows[1][5] == "1.0" and float(rows[2][5]) > 1


@pytest.mark.slow
def test_a_command_is_measured_without_the_memory_of_who_measures():
    held = np.ones(2**26)  # half a GiB
    assert peak_of([sys.executable, "-c", "pass"]) < 0.1 < held.nbytes
    assert 0.25 < peak_of([sys.executable, "-c", "held = bytearray(2**28)"]) < 0.35


@pytest.mark.slow
def test_a_photo_of_24_megapixels_stays_under_two_and_a_half_gib():
    """In tiles as large as those of the released network, and with a quarter of its channels: they take 0.1 GiB."""
    (run,) = measure_memory("compact", options={"widths": [16, 32, 64]}, photo=(6000, 4000))
    assert 0.3 < run.peak < 2.4


# `deblur-hub` that computes every 24th window and gives the others back in negative: a minute would say no more.
SPARING = """
import sys
from deblur_hub.cli import main
from deblur_hub.restoration.fused.maxim import FusedMaxim

compute, windows = FusedMaxim.restore, 0

def restore(folded, window, depth, tick):
    global windows
    windows += 1
    return compute(folded, window, depth, tick) if windows % 24 == 1 else -window

FusedMaxim.restore = restore
code = main()
assert windows > 100
sys.exit(code)
"""


@pytest.mark.slow
def test_a_photo_of_24_megapixels_needs_its_windows_and_two_pictures_of_memory(tmp_path):
    """A network with the depth of the released one, and few channels: its windows are small, the pictures are not."""
    made = DeblurGenerator(GeneratorConfig("maxim", {"width": 4, "stages": 1}, name="narrow"))
    awake(made.network)
    made.save_pretrained(tmp_path / "model")
    photo = made_up_photo(tmp_path / "photo.jpg", 6000, 4000)
    command = ["deblur", str(photo), "-o", str(tmp_path / "sharp.jpg"), "--model", str(tmp_path / "model")]
    peak = peak_of([sys.executable, "-c", SPARING, *command, "--quality", "balanced", "--quiet"])
    assert 0.6 < peak < 2.0 and Image.open(tmp_path / "sharp.jpg").size == (6000, 4000)


def matrix_of(folder: Path, tmp_path: Path, *arguments: str) -> list[dict]:
    file = tmp_path / "figures.json"
    command = ["benchmark", str(folder), "--sizes", "70x50", "--runs", "1", "--precision", "float32"]
    assert main([*command, "--json", str(file), "--markdown", str(tmp_path / "table.md"), *arguments]) == 0
    assert (tmp_path / "table.md").read_text().count(str(folder)) == len(json.loads(file.read_text())["results"])
    return json.loads(file.read_text())["results"]


@pytest.mark.slow
def test_the_matrix_measures_each_runtime_in_a_process_of_its_own(capsys, model, tmp_path):
    pytest.importorskip("onnxruntime")
    found = matrix_of(model, tmp_path, "--runtimes", "eager", "onnx")
    assert [(one["cell"]["width"], one["cell"]["runtime"]) for one in found] == [(70, "eager"), (70, "onnx")]
    for one in found:
        assert not one["problem"] and 0 < one["seconds"] < 5 and 0.2 < one["peak"] < 2 and one["share"] > 0
    assert "MP/s" in capsys.readouterr().out


@pytest.mark.full
def test_the_matrix_takes_openvino_and_names_what_cannot_be_measured(capsys, model, tmp_path):
    pytest.importorskip("openvino")
    (found,) = matrix_of(model, tmp_path, "--runtimes", "openvino")
    assert not found["problem"] and found["seconds"] > 0
    assert main(["benchmark", str(model), "--runtimes", "onnx", "--precision", "bfloat16"]) == 2
    assert "nothing of that can be measured here" in capsys.readouterr().err
    (broken,) = matrix.measured([matrix.Cell(str(tmp_path / "none"), "", "float32", 70, 50, "eager")], runs=1)
    assert "none" in broken.problem and "Traceback" not in broken.problem


def test_the_matrix_compiles_the_network_of_a_model_that_has_windows(monkeypatch):
    made = DeblurGenerator(GeneratorConfig("maxim", {"width": 4, "stages": 1})).eval()
    awake(made.network)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    picture = torch.rand(1, 3, 60, 90) * 2 - 1
    with torch.inference_mode():
        run = matrix.compiled(matrix.Cell("x", "balanced", "float32", 90, 60, "compiled"), made)
        expected = made.restore(picture, quality="balanced", precision="float32")
        assert (run(picture).clamp(-1, 1) - expected).abs().max() < 0.02 and len(compiled) == 1


@pytest.mark.slow
def test_memory_is_measured_in_tiles_and_whole_and_the_results_are_compared(capsys, tmp_path):
    made = DeblurGenerator(GeneratorConfig("compact", {"widths": [32], "blocks": [1], "unshuffle": 1}, name="wide"))
    awake(made.network)
    model = str(made.save_pretrained(tmp_path))
    assert main(["benchmark", model, "--photo", "3300x500", "--whole", "--precision", "float32"]) == 0
    tiled, whole, difference = capsys.readouterr().out.splitlines()
    peaks = [float(line.split(": ")[1].split(" GiB")[0]) for line in (tiled, whole)]
    assert "--tile 0" in whole and "--tile" not in tiled and 0.3 < peaks[0] < 0.9 * peaks[1]
    assert int(difference.split()[2]) <= 1


@pytest.mark.slow
def test_what_cannot_be_measured_ends_in_one_sentence(capsys, tmp_path):
    assert main(["benchmark", str(tmp_path), "--photo", "20x20"]) == 2
    assert "'deblur' failed with exit code 2" in capsys.readouterr().err


def test_several_models_are_released_as_their_average(pairs, generator, tmp_path):
    folders, names = [], list(generator.network.state_dict())
    for number in (1, 3):
        with torch.no_grad():
            for parameter in generator.network.parameters():
                parameter.fill_(number / 64)
        folders.append(str(generator.save_pretrained(tmp_path / str(number))))
    command = ["release", *folders, "--name", "mine", "--pairs", str(pairs), "--to", str(tmp_path / "weights"), "-q"]
    assert main(command) == 0
    released = DeblurGenerator.from_pretrained(tmp_path / "weights" / "mine").network.state_dict()
    assert list(released) == names
    assert all((tensor == 2 / 64).all() for tensor in released.values())


# --- networks and conversion -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_networks_are_listed_with_what_they_cost(capsys, monkeypatch):
    known = ("deblurgan", "dmphn", "compact", "maxim-light")  # counting the others takes seconds: test_presets.py
    monkeypatch.setattr(models, "PRESETS", {name: PRESETS[name] for name in known})
    assert main(["networks", "--size", "640x360"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert rows[0][2] == "multiply-adds at 640x360"
    assert [row[0] for row in rows[2:]] == [f"`{name}`" for name in known]
    found = {row[0].strip("`"): row for row in rows[2:]}
    assert found["deblurgan"][1:5] == ["11.38 M", "174 G", "4", "whole frame"]
    assert found["dmphn"][4] == "whole frame, not tiled" and found["compact"][4] == "232 px"


def test_a_checkpoint_is_converted_and_deblurs(capsys, tmp_path):
    torch.save(deblurgan_state(width=4, blocks=2), tmp_path / "latest_net_G.pth")
    assert main(["convert", str(tmp_path / "latest_net_G.pth"), "-o", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "DeblurGAN (KupynOrest); architecture 'resnet' with blocks 2, width 4" in said
    Image.new("RGB", (40, 30), (90, 120, 200)).save(tmp_path / "photo.png")
    assert main(["deblur", str(tmp_path / "photo.png"), "--model", str(tmp_path / "model"), "-q"]) == 0
    assert main(["convert", str(tmp_path / "latest_net_G.pth"), "-o", str(tmp_path / "model")]) == 2
    assert "holds a model already; give --overwrite" in capsys.readouterr().err


def test_a_name_that_ends_as_a_files_does_and_is_of_no_known_format_is_one_sentence(
    model, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.png")
    assert main(["deblur", "photo.png", "-o", "sharp.xyz", "--model", str(model)]) == 2
    assert "sharp.xyz: pictures are not written as '.xyz' here" in capsys.readouterr().err
    assert not Path("sharp.xyz").exists()
    assert main(["deblur", "photo.png", "-o", "of 2024.05", "--model", str(model), "-q"]) == 0
    assert Path("of 2024.05/photo.png").is_file()
