"""MAXIM with a refiner: what fresh weights leave alone, what it starts from, steps, training, and windows."""

import pytest
import torch

from deblur_hub import DeblurGenerator, GeneratorConfig
from deblur_hub.networks import build_network
from deblur_hub.networks.windows import half_of, resized
from deblur_hub.restoration.restore import restore
from tests.conftest import awake

SMALL = {"width": 4, "refiner_widths": (8, 8), "refiner_blocks": (1, 1)}


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def fresh(**options) -> torch.nn.Module:
    """MAXIM awake, and refiners as they begin."""
    network = build_network("maxim-light", **SMALL | options)
    refiners = {key: tensor.clone() for key, tensor in network.refiners.state_dict().items()}
    awake(network)
    network.refiners.load_state_dict(refiners)
    return network.eval()


def alive(**options) -> torch.nn.Module:
    """MAXIM and refiners awake, that say no more than a trained one."""
    network = fresh(**options)
    awake(network.refiners)
    for refiner in network.refiners.values():
        refiner.head.weight.data *= 0.02
        refiner.head.bias.data *= 0.02
    for layer in network.unets[-1].outputs:
        layer.weight.data *= 0.02
    return network


@pytest.mark.slow
@pytest.mark.parametrize("refined", ["fast", "full"])
def test_a_fresh_refiner_adds_nothing(refined):
    network, blurred = fresh(stages=2, refined=refined), picture(90, 150)
    for step, unrefined in zip(network.trained, network.unrefined, strict=True):
        plain = restore(network, blurred, quality=unrefined, precision="float32")
        assert (plain - blurred).abs().max() > 0.1
        assert torch.allclose(restore(network, blurred, quality=step, precision="float32"), plain, atol=1e-6)
    best = network.best if "best" in network.qualities else network.trained[-1]
    expected = restore(network, blurred, quality=best, precision="float32")
    assert torch.equal(restore(network, blurred, precision="float32"), expected)


@pytest.mark.slow
def test_its_steps_are_maxims_and_the_refined_ones_in_order():
    assert list(build_network("maxim-light", **SMALL).qualities) == ["draft", "fast", "balanced"]
    everything = build_network("maxim-light", **SMALL, stages=3, refined="all")
    assert list(everything.qualities) == ["draft", "fast", "balanced", "best"]
    assert [step.refined for step in everything.qualities.values()] == [False, True, True, True]
    assert list(everything.refiners) == ["fast", "full"]
    assert everything.trained == [everything.qualities["balanced"], everything.qualities["best"]]
    assert list(build_network("maxim-light", **SMALL, refined="full").qualities) == ["draft", "balanced"]


def test_a_refined_step_is_the_refiners_word_on_the_step_without():
    """Fused, in a thread, within a window: as computed by hand."""
    network, blurred = alive(), picture(128, 256)
    half = resized(blurred, half_of((128, 256)))
    with torch.no_grad():
        coarse = blurred + resized(network.compute_window(half, 1) - half, (128, 256))
        expected = network.refiners["fast"].refine(blurred, coarse).clamp(-1, 1)
    found = restore(network, blurred, quality=network.qualities["fast"], precision="float32")
    assert (expected - coarse).abs().max() > 0.01
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_trust_of_a_refiner_gives_the_photo_back():
    refiner = fresh().refiners["fast"]
    blurred, restored = picture(32, 32), picture(32, 32, seed=1)
    with torch.no_grad():
        refiner.head.bias[3 * 16 :] = 1.0
        assert torch.allclose(refiner.refine(blurred, restored), blurred, atol=1e-6)


@pytest.mark.slow
def test_it_begins_from_the_first_stage_of_maxim_as_that_is():
    whole = awake(build_network("maxim", width=4, stages=3))
    network = fresh()
    assert network.begin_from(whole)
    blurred = picture(64, 128)
    with torch.no_grad():
        assert torch.equal(network.compute_window(blurred, 1), whole.compute_window(blurred, 1))
    refined = fresh(stages=3)  # as the bundled default is
    assert refined.begin_from(whole)
    light = fresh()
    assert light.begin_from(refined)
    with torch.no_grad():
        assert torch.equal(light.compute_window(blurred, 1), whole.compute_window(blurred, 1))
    before = {key: weight.clone() for key, weight in refined.unets.state_dict().items()}
    assert refined.begin_from(fresh())  # of one stage: its refiner alone
    assert all(torch.equal(weight, before[key]) for key, weight in refined.unets.state_dict().items())


def test_it_begins_from_compact_as_the_mean_of_both():
    compact = awake(build_network("compact", widths=(8, 8), blocks=(1, 1)))
    network = fresh()
    assert network.begin_from(compact)
    blurred, restored = picture(32, 48), picture(32, 48, seed=1)
    with torch.no_grad():
        refined = network.refiners["fast"].refine(blurred, restored)
        assert torch.allclose(refined, (restored + compact(blurred)) / 2, atol=1e-5)


@pytest.mark.slow
def test_refiners_of_several_runs_come_together_behind_all_of_maxim():
    whole = awake(build_network("maxim", width=4, stages=3))
    network = fresh(stages=3, refined="all")
    parts = {name: alive(stages=3 if name == "full" else 1, refined=name) for name in network.refiners}
    assert network.begin_from(whole) and all(network.begin_from(part) for part in parts.values())
    for name, part in parts.items():
        for key, tensor in part.refiners[name].state_dict().items():
            assert torch.equal(network.refiners[name].state_dict()[key], tensor)
    later = fresh(refined="full")
    assert later.begin_from(parts["fast"])  # to begin with: there is nothing nearer
    assert torch.equal(later.refiners["full"].head.weight, parts["fast"].refiners["fast"].head.weight)


@pytest.mark.parametrize(
    "other", [("compact", {"widths": (8, 16), "blocks": (1, 1)}), ("maxim", {"width": 8, "stages": 1})]
)
def test_it_begins_from_nothing_of_other_sizes(other):
    name, options = other
    with pytest.raises(ValueError, match="are not"):
        fresh().begin_from(build_network(name, **options))
    assert not fresh().begin_from(build_network("unet", width=8))


@pytest.mark.slow
def test_training_takes_the_restored_picture_that_is_kept_or_makes_it():
    network, blurred = fresh().train(), picture(64, 64)
    kept = network.restore(blurred, network.unrefined[-1])
    assert torch.allclose(network(blurred), network(blurred, kept))
    assert torch.allclose(network(blurred, blurred), blurred, atol=1e-6)
    network(blurred).mean().backward()
    assert network.unets[0].inputs[0].weight.grad is not None
    assert network.refiners["fast"].head.weight.grad is not None


def test_the_crisp_refiner_is_that_of_the_fast_step():
    with pytest.raises(ValueError, match="set refined to 'fast' or 'all'"):
        build_network("maxim-light", refined="full", crisp=True)


@pytest.mark.slow
def test_it_comes_back_from_disk_as_it_was(tmp_path):
    made = DeblurGenerator.from_pretrained("compact").config
    network = alive()
    config = type(made)("maxim_refined", SMALL, name="light", quality="fast")
    DeblurGenerator(config, network).save_pretrained(tmp_path / "light")
    loaded = DeblurGenerator.from_pretrained(tmp_path / "light")
    assert loaded.qualities == ("draft", "fast", "balanced")
    blurred = picture(100, 60)
    expected = DeblurGenerator(config, network).restore(blurred, precision="float32")
    assert torch.allclose(loaded.restore(blurred, precision="float32"), expected, atol=1e-5)


@pytest.mark.slow
def test_the_full_size_steps_share_a_refiner():
    network, blurred = alive(refined="all", stages=2), picture(128, 256)
    for step, unrefined in zip(network.trained, network.unrefined, strict=True):
        with torch.no_grad():
            plain, refined = network.restore(blurred, unrefined), network.restore_window(blurred, step)
            assert torch.allclose(refined, network.refiners["full"].refine(blurred, plain), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"refined": "full"}, {"refined": "all", "stages": 2, "crisp": True}])
def test_it_is_verified_at_the_step_that_its_golden_output_is_of(options, tmp_path):
    network = alive(**options)
    made = DeblurGenerator(GeneratorConfig("maxim_refined", SMALL | options, name="light"), network)
    made.save_pretrained(tmp_path / "light")
    DeblurGenerator.from_pretrained(tmp_path / "light", verify=True, device="cpu")


def test_the_crisp_refiner_begins_as_its_partner_and_alone_learns():
    network, blurred = fresh(crisp=True), picture(64, 64)
    awake(network.refiners)
    network.train().lead_with_crisp()
    before = network.refiners.state_dict()
    assert all(torch.equal(weight, before[key]) for key, weight in network.crisp.state_dict().items())
    assert network.trained == [network.qualities["fast"]]
    network(blurred, blurred).square().mean().backward()
    assert network.crisp["fast"].head.weight.grad is not None and network.refiners["fast"].head.weight.grad is None
    network.crisp["fast"].head.bias.data += 0.1
    later = fresh(crisp=True)
    assert later.begin_from(network)
    later.lead_with_crisp()
    assert torch.equal(later.crisp["fast"].head.bias, network.crisp["fast"].head.bias)  # what it has learnt is not lost
    assert not torch.equal(later.crisp["fast"].head.bias, later.refiners["fast"].head.bias)
