"""Crispness: weights between a generator and its partner, from Python, the shell and the page alike."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_hub import DeblurGenerator, GeneratorConfig, ModelError
from deblur_hub.cli import main
from deblur_hub.evaluation import Evaluation
from deblur_hub.metrics import psnr
from tests.conftest import TINY, awake


@pytest.fixture
def partners(tmp_path) -> tuple[Path, Path]:
    """Two folders of one network with different weights."""
    for name, seed in (("plain", 1), ("crisp", 2)):
        made = DeblurGenerator(GeneratorConfig("compact", TINY, name=name))
        awake(made.network, seed)
        made.save_pretrained(tmp_path / name)
    return tmp_path / "plain", tmp_path / "crisp"


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)


def test_every_weight_lies_on_the_line_between_the_two(partners):
    plain, crisp = partners
    generator = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu")
    ends = [DeblurGenerator.from_pretrained(folder, device="cpu").state_dict() for folder in partners]
    before = {name: weight.clone() for name, weight in generator.state_dict().items()}
    for share in (0.0, 0.25, 1.0):
        for name, weight in generator.with_crispness(share).state_dict().items():
            expected = (1 - share) * ends[0][name].double() + share * ends[1][name].double()
            torch.testing.assert_close(weight.double(), expected, rtol=0, atol=1e-6)
    assert all(torch.equal(weight, before[name]) for name, weight in generator.state_dict().items())


def test_the_ends_restore_as_the_two_models_do_and_between_lies_something_else(partners, picture):
    plain, crisp = partners
    generator = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu")
    ends = [DeblurGenerator.from_pretrained(folder, device="cpu").deblur(picture) for folder in partners]
    assert np.array_equal(generator.deblur(picture), ends[0])
    assert np.array_equal(generator.deblur(picture, crispness=0), ends[0])
    assert np.abs(generator.deblur(picture, crispness=1.0).astype(int) - ends[1]).max() <= 1
    half = generator.deblur(picture, crispness=0.5)
    assert not np.array_equal(half, ends[0]) and not np.array_equal(half, ends[1])
    file = generator.deblur(Image.fromarray(picture), crispness=0.5)
    assert np.array_equal(np.asarray(file), half)


def test_a_blend_can_be_saved_and_says_what_it_is(partners, picture, tmp_path):
    plain, crisp = partners
    blend = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu").with_crispness(0.5)
    assert repr(blend).startswith("DeblurGenerator(plain at crispness 0.5,")
    blend.save_pretrained(tmp_path / "saved")
    again = DeblurGenerator.from_pretrained(tmp_path / "saved", device="cpu", verify=True)
    assert np.array_equal(again.deblur(picture), blend.deblur(picture))


def test_a_blend_of_half_precision_stays_in_half_precision(partners):
    plain, crisp = partners
    generator = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu", dtype=torch.bfloat16)
    assert {weight.dtype for weight in generator.with_crispness(0.5).parameters()} == {torch.bfloat16}


def test_the_partner_is_read_once_and_another_one_when_it_changes(partners, picture, tmp_path):
    plain, crisp = partners
    generator = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu")
    first = generator.deblur(picture, crispness=0.7)
    shutil.move(crisp, tmp_path / "away")
    assert np.array_equal(generator.deblur(picture, crispness=0.7), first)
    generator.crisp = tmp_path / "plain"
    assert np.array_equal(generator.deblur(picture, crispness=0.7), generator.deblur(picture))


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_crispness_outside_of_nought_and_one_is_refused(partners, picture, share):
    generator = DeblurGenerator.from_pretrained(partners[0], crisp=partners[1], device="cpu")
    with pytest.raises(ModelError, match=r"crispness .* is not between 0, .* and 1"):
        generator.deblur(picture, crispness=share)


def test_a_model_without_a_partner_says_so_and_restores_without(partners, picture):
    generator = DeblurGenerator.from_pretrained(partners[0], device="cpu")
    assert generator.deblur(picture, crispness=0.0).shape == picture.shape
    with pytest.raises(ModelError, match="plain: has no crisp partner to blend with"):
        generator.deblur(picture, crispness=0.1)


def test_a_partner_of_another_shape_is_refused(partners, picture, tmp_path):
    other = DeblurGenerator(GeneratorConfig("compact", TINY | {"blocks": [1, 2]}, name="other"))
    other.save_pretrained(tmp_path / "other")
    generator = DeblurGenerator.from_pretrained(partners[0], crisp=tmp_path / "other", device="cpu")
    with pytest.raises(ModelError, match="differs from plain in its architecture or options"):
        generator.deblur(picture, crispness=0.5)


def test_a_partner_of_the_same_network_may_spell_its_options_otherwise(picture, tmp_path):
    """As `convert` and training do: the one writes what is not the default, the other everything but dropout."""
    small = {"width": 4, "blocks": 1}
    spelled = {"norm": "instance", "upsampling": "transposed3", "residual": "clamp"}
    for name, options in (("short", small | {"dropout": 0.5}), ("long", small | spelled)):
        DeblurGenerator(GeneratorConfig("resnet", options, name=name)).save_pretrained(tmp_path / name)
    generator = DeblurGenerator.from_pretrained(tmp_path / "short", crisp=tmp_path / "long", device="cpu")
    assert generator.deblur(picture, crispness=0.5).shape == picture.shape
    other = GeneratorConfig("resnet", small | spelled | {"residual": "none"}, name="other")  # of the same shapes
    DeblurGenerator(other).save_pretrained(tmp_path / "other")
    generator.crisp = tmp_path / "other"
    with pytest.raises(ModelError, match="differs from short"):
        generator.deblur(picture, crispness=0.5)


def test_the_shell_blends_as_python_does(partners, picture, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, crisp = partners
    Image.fromarray(picture).save("photo.png")
    line = ["deblur", "photo.png", "-o", "out.png", "--model", str(plain), "-q", "--device", "cpu"]
    assert main([*line, "--precision", "float32", "--crispness", "0.5", "--crisp-model", str(crisp)]) == 0
    generator = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu")
    assert np.array_equal(
        np.asarray(Image.open("out.png")), generator.deblur(picture, crispness=0.5, precision="float32")
    )
    assert main([*line, "--overwrite", "--crispness", "0.5"]) == 2
    assert "plain: has no crisp partner" in capsys.readouterr().err
    for share in ("2", "-1", "nan"):
        assert main([*line, "--overwrite", f"--crispness={share}"]) == 2
        assert f"crispness {share} is not between 0" in capsys.readouterr().err
    before = Path("out.png").read_bytes()
    assert main([*line, "--overwrite", "--crisp-model", str(crisp)]) == 2
    assert "is to be the crisp partner, but the crispness is 0" in capsys.readouterr().err
    assert Path("out.png").read_bytes() == before


@pytest.mark.slow
def test_a_network_that_holds_its_partner_blends_with_that_and_restores_by_its_fast_step(picture, tmp_path):
    options = {"width": 4, "crisp": True, "refined": "all", "refiner_widths": (8, 8), "refiner_blocks": (1, 1)}
    made = DeblurGenerator(GeneratorConfig("maxim_refined", options, name="whole"))
    awake(made.network)
    made.eval().save_pretrained(tmp_path / "whole")
    generator = DeblurGenerator.from_pretrained(tmp_path / "whole", device="cpu")
    half = generator.with_crispness(0.5)
    plain, crisp, blend = (
        network.state_dict()["fast.head.weight"]
        for network in (generator.network.refiners, generator.network.crisp, half.network.refiners)
    )
    assert torch.allclose(blend, (plain + crisp) / 2) and not torch.allclose(plain, crisp)
    assert generator.can_be_crisp
    assert generator.qualities == ("draft", "fast", "balanced") and half.qualities == ("fast",)
    crispest = copy.deepcopy(generator)
    crispest.network.crisp_leads = True
    expected = crispest.deblur(picture, quality="fast")
    for quality in (None, "fast"):
        assert np.array_equal(generator.deblur(picture, quality=quality, crispness=1.0), expected)
    assert not np.array_equal(generator.deblur(picture, quality="fast"), expected)
    for quality in ("draft", "balanced"):
        with pytest.raises(ModelError, match=f"crispness is of quality 'fast', not of '{quality}'"):
            generator.deblur(picture, quality=quality, crispness=1.0)


@pytest.mark.slow
def test_the_default_gets_crisper_step_by_step():
    """Edges get stronger all the way, which two unrelated sets of weights would not give."""
    with Image.open(Path(__file__).parents[1] / "space" / "examples" / "square.jpg") as photo:
        pixels = np.asarray(photo.convert("RGB"))[-128:, :128]
    generator = DeblurGenerator.from_pretrained(device="cpu").with_quality("fast")
    restored = [generator.deblur(pixels, crispness=share).astype(float) for share in (0.0, 0.5, 1.0)]
    strength = [np.abs(np.diff(picture, axis=1)).mean() for picture in restored]
    assert strength == sorted(strength) and strength[2] > 1.02 * strength[0]


def test_evaluation_scores_a_blend_as_it_restores(partners, picture, tmp_path, capsys):
    plain, crisp = partners
    smeared = ((picture.astype(int) + np.roll(picture, 1, axis=1)) // 2).astype(np.uint8)
    for folder, pixels in (("blur", smeared), ("sharp", picture)):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "pairs" / folder / "1.png")
    line = ["evaluate", str(plain), str(tmp_path / "pairs"), "--precision", "float32", "-q"]
    assert main([*line, "--crisp-model", str(crisp), "--crispness", "0.5", "--output", str(tmp_path / "out")]) == 0
    found = Evaluation.read(tmp_path / "out")
    generator = DeblurGenerator.from_pretrained(plain, crisp=crisp, device="cpu")
    assert found.model == "plain at crispness 0.5"
    restored = generator.deblur(smeared, crispness=0.5, precision="float32")
    assert found.mean("psnr") == pytest.approx(psnr(restored, picture), abs=0.01)
    assert found.mean("psnr") != pytest.approx(psnr(generator.deblur(smeared), picture), abs=0.01)
    capsys.readouterr()
    assert main([*line[:1], "unsharp", *line[2:], "--crispness", "0.5"]) == 2
    assert "unsharp: is not a model" in capsys.readouterr().err
    assert main([*line, "--crisp-model", "other/"]) == 2
    assert "other/: is to be the crisp partner, but the crispness is 0" in capsys.readouterr().err
