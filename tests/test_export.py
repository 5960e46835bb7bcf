"""Exported files: every network, in ONNX Runtime and torch.export, at sizes that it was not traced at."""

import json
import os
from dataclasses import replace

import pytest
import torch

from deblur_hub import DeblurGenerator, GeneratorConfig, ModelError
from deblur_hub.cli import main
from deblur_hub.export.files import NOTES, write_onnx, write_torch_export
from deblur_hub.export.notes import notes_of, quality_of
from deblur_hub.export.program import trace
from deblur_hub.export.web import require_replaceable, require_tiles, runtime_files
from deblur_hub.networks import NETWORKS
from deblur_hub.networks.windows import WindowedGenerator

onnx = pytest.importorskip("onnx", reason="exporting needs the extra 'onnx'")
pytest.importorskip("onnxscript", reason="exporting needs the extra 'onnx'")
OnnxFile = pytest.importorskip("deblur_hub.export.running", reason="exporting needs the extra 'onnx'").OnnxFile

REFINER = {"refiner_widths": [8, 12], "refiner_blocks": [1, 1]}
TINY = {
    "compact": {"widths": [8, 12, 16], "blocks": [1, 1, 1]},
    "resnet": {"width": 4, "blocks": 1},
    "unet": {"width": 8},
    "autoencoder": {"width": 16, "blocks": [1, 2], "dilations": [1, 3]},
    "deepdeblur": {"width": 4, "blocks": 1, "scales": 2},
    "dmphn": {"width": 4, "patches": "1-2-4"},
    "fpn": {"width": 16},
    "mimo_unet": {"width": 4, "blocks": 1},
    "mt_rnn": {"width": 4, "iterations": 2},
    "nafnet": {"width": 4, "encoder_blocks": [1, 2], "middle_blocks": 1, "decoder_blocks": [1, 1]},
    "pss_nsc": {"width": 4, "blocks": 1, "iterations": 1},
    "srn": {"width": 4, "blocks": 1},
    "maxim": {"width": 4, "stages": 1},
    "maxim_refined": {"width": 4, "stages": 1, **REFINER},
}
QUICK = ("compact", "resnet")  # others take up to two minutes, since PyTorch weighs every size of every layer


# Made of the same layers as the others; minutes in all, which a release takes and not every change.
RARE = ("maxim", "fpn", "dmphn", "mt_rnn", "pss_nsc", "mimo_unet", "deepdeblur")


def made(name: str) -> DeblurGenerator:
    torch.manual_seed(0)
    generator = DeblurGenerator(GeneratorConfig(name, TINY[name], "tiny")).eval()
    with torch.no_grad():  # fresh weights, of which some are zero, stirred; wilder ones would amplify every rounding
        for parameter in generator.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return generator


def traced(generator: DeblurGenerator, *, half: bool = False):
    quality = quality_of(generator, "fast" if generator.qualities else None)
    notes = notes_of(generator, quality, half=half, licence="")
    step = generator.network.qualities[quality] if quality else None
    return trace(generator.network, step, half=half), notes, step


def marks(name: str) -> list[pytest.MarkDecorator]:
    rare = pytest.mark.skipif(not os.environ.get("EVERY_EXPORT"), reason="before a release, with EVERY_EXPORT=1")
    return [pytest.mark.slow, *([] if name in QUICK else [pytest.mark.full]), *([rare] if name in RARE else [])]


def test_every_network_is_exported_here():
    assert TINY.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in TINY])
def test_files_of_a_network_restore_as_it_does_and_say_how(name, tmp_path):
    generator = made(name)
    program, notes, step = traced(generator)
    write_onnx(program, notes, tmp_path / "tiny.onnx")
    write_torch_export(program, notes, tmp_path / "tiny.pt2")
    file = OnnxFile(tmp_path / "tiny.onnx")
    network = generator.network
    if not isinstance(network, WindowedGenerator):  # one window was compared when it was written
        beside = {NOTES: ""}
        with (tmp_path / "tiny.pt2").open("rb") as opened:
            module = torch.export.load(opened, extra_files=beside).module()
        assert json.loads(beside[NOTES]) == notes
    assert file.notes.items() > notes.items()
    assert file.notes["opset"] == "18" and notes["model"] == "tiny" and len(notes["weights_sha256"]) == 64
    for size in ((150, 101), (57, 211)):
        picture = torch.rand(1, 3, *size)
        with torch.inference_mode():
            whole = network.restore(2 * picture - 1, step) if step else network(2 * picture - 1)
            expected = ((whole + 1) / 2).clamp(0, 1)
            assert (file.restore(picture) - expected).abs().max() <= 1e-4
            assert (picture - expected).abs().max() > 1e-2, "or nothing was computed"
            if not isinstance(network, WindowedGenerator):
                assert (module(picture) - expected).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_half_precision_is_near_and_is_half(name, tmp_path):
    program, notes, _ = traced(made(name), half=True)
    assert write_onnx(program, notes, tmp_path / "half.onnx") <= 1e-2
    weights = [one for one in onnx.load(tmp_path / "half.onnx").graph.initializer if len(one.dims) == 4]
    assert weights and {one.data_type for one in weights} == {onnx.TensorProto.FLOAT16}
    assert write_torch_export(program, notes, tmp_path / "half.pt2") <= 1e-2


@pytest.mark.slow
def test_weights_that_float16_holds_take_half_the_space_and_lose_nothing(tmp_path):
    generator = made("resnet")
    generator.network.half().float()
    program, notes, _ = traced(generator)
    assert write_onnx(program, notes, tmp_path / "a.onnx") <= 1e-5
    stored = [one for one in onnx.load(tmp_path / "a.onnx").graph.initializer if len(one.dims) == 4]
    assert stored and {one.data_type for one in stored} == {onnx.TensorProto.FLOAT16}


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_onnx, write_torch_export])
def test_a_file_that_differs_from_pytorch_is_not_written(write, tmp_path):
    program, notes, _ = traced(made("resnet"))
    wrong = replace(program, reference=lambda picture: program.reference(picture) + 2e-4)
    with pytest.raises(ModelError, match=r"a.file: differs from PyTorch by .* nothing was written"):
        write(wrong, notes, tmp_path / "a.file")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_shell_exports_and_tells_both_speeds(tmp_path, capsys):
    made("resnet").save_pretrained(tmp_path / "model")
    typed = ["export", str(tmp_path / "model"), "--format", "onnx", "-o", str(tmp_path / "a.onnx")]
    assert main(typed) == 0
    said = capsys.readouterr().out
    assert "largest difference from PyTorch" in said and "s in ONNX Runtime" in said and "s in PyTorch" in said
    assert main(typed) == 2 and "is there already; name another, or give --overwrite" in capsys.readouterr().err
    assert main([*typed, "--overwrite"]) == 0
    assert main(["export", str(tmp_path / "model"), "--format", "web", "-o", str(tmp_path / "page")]) == 2
    assert "every pixel it restores depends on the whole photo" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_page_replaces_a_page_and_nothing_else(tmp_path, capsys):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("a page of an earlier export")
    require_replaceable(tmp_path / "page")
    (tmp_path / "page" / "thesis.doc").write_text("somebody's own")
    typed = ["export", "compact", "--format", "web", "--overwrite", "-o"]
    assert main([*typed, str(tmp_path / "page")]) == 2
    assert "page: holds thesis.doc, which is no part of a page, and would be lost" in capsys.readouterr().err
    assert main([*typed, str(tmp_path / "page" / "thesis.doc")]) == 2
    assert "thesis.doc: is a file, and a page is a folder" in capsys.readouterr().err
    assert (tmp_path / "page" / "thesis.doc").read_text() == "somebody's own"


def test_a_page_takes_the_runtime_that_it_is_given_and_no_other(tmp_path):
    require_tiles(made("compact"))
    with pytest.raises(ModelError, match=r"has no ort.webgpu.bundle.min.mjs; give onnxruntime-web"):
        runtime_files(tmp_path)
    (tmp_path / "fake.tgz").write_bytes(b"what a stranger packed")
    with pytest.raises(ModelError, match="SHA-512 differs"):
        runtime_files(tmp_path / "fake.tgz")
