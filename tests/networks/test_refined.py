"""MAXIM with a refiner: what fresh weights leave alone, what it starts from, steps, training, and windows."""

import pytest
import torch

from deblur_hub import DeblurGenerator
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
@pytest.mark.parametrize("refined", ["fast", "balanced", "best"])
def test_a_fresh_refiner_adds_nothing(refined):
    network, blurred = fresh(stages=2, refined=refined), picture(90, 150)
    plain = restore(network, blurred, quality=network.unrefined[-1], precision="float32")
    assert (plain - blurred).abs().max() > 0.1
    assert torch.allclose(restore(network, blurred, precision="float32"), plain, atol=1e-6)


def test_its_steps_are_maxims_and_the_refined_ones_in_order():
    assert list(build_network("maxim-light", **SMALL).qualities) == ["draft", "fast", "balanced"]
    everything = build_network("maxim-light", **SMALL, stages=3, refined="all")
    assert list(everything.qualities) == ["draft", "fast", "balanced", "best"]
    assert [step.refined for step in everything.qualities.values()] == [False, True, True, True]
    assert list(everything.refiners) == ["fast", "balanced", "best"]


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


def test_it_begins_from_the_first_stage_of_maxim_as_that_is():
    whole = awake(build_network("maxim", width=4, stages=3))
    network = fresh()
    assert network.begin_from(whole)
    blurred = picture(64, 128)
    with torch.no_grad():
        assert torch.equal(network.compute_window(blurred, 1), whole.compute_window(blurred, 1))


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
    parts = {name: alive(stages=3 if name == "best" else 1, refined=name) for name in network.refiners}
    assert network.begin_from(whole) and all(network.begin_from(part) for part in parts.values())
    for name, part in parts.items():
        for key, tensor in part.refiners[name].state_dict().items():
            assert torch.equal(network.refiners[name].state_dict()[key], tensor)
    with pytest.raises(ValueError, match="it has refiners of fast alone"):
        fresh(refined="balanced").begin_from(parts["fast"])


@pytest.mark.parametrize(
    "other", [("compact", {"widths": (8, 16), "blocks": (1, 1)}), ("maxim", {"width": 8, "stages": 1})]
)
def test_it_begins_from_nothing_of_other_sizes(other):
    name, options = other
    with pytest.raises(ValueError, match="are not"):
        fresh().begin_from(build_network(name, **options))
    assert not fresh().begin_from(build_network("unet", width=8))


def test_training_takes_the_restored_picture_that_is_kept_or_makes_it():
    network, blurred = fresh().train(), picture(64, 64)
    kept = network.restore(blurred, network.unrefined[-1])
    assert torch.allclose(network(blurred), network(blurred, kept))
    assert torch.allclose(network(blurred, blurred), blurred, atol=1e-6)
    network(blurred).mean().backward()
    assert network.unets[0].inputs[0].weight.grad is not None
    assert network.refiners["fast"].head.weight.grad is not None


def test_a_network_of_one_stage_has_no_best_step():
    with pytest.raises(ValueError, match="no step 'best'; set stages to 2 or 3"):
        build_network("maxim-light", refined="best")


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
def test_steps_that_share_a_refiner_have_the_same_judge():
    network, blurred = alive(refined="all", shared=True, stages=2), picture(128, 256)
    assert list(network.refiners) == ["every"] and list(network.qualities) == ["draft", "fast", "balanced", "best"]
    assert network.unrefined == tuple(step._replace(refined=False) for step in list(network.qualities.values())[1:])
    for step in network.unrefined:
        with torch.no_grad():
            plain = network.restore(blurred, step)
            refined = network.restore_window(blurred, step._replace(refined=True))
            assert torch.allclose(refined, network.refiners["every"].refine(blurred, plain), atol=1e-5)


def test_a_shared_refiner_begins_from_that_of_one_step_and_the_other_way_round():
    part, shared = alive(), fresh(refined="all", shared=True)
    assert shared.begin_from(part)
    assert torch.equal(shared.refiners["every"].head.weight, part.refiners["fast"].head.weight)
    single = fresh(refined="balanced")
    assert single.begin_from(shared)
    assert torch.equal(single.refiners["balanced"].head.weight, part.refiners["fast"].head.weight)


def test_crisp_refiners_begin_as_the_others_and_alone_learn():
    network, blurred = fresh(crisp=True), picture(64, 64)
    awake(network.refiners)
    network.train().lead_with_crisp()
    before = {key: weight.clone() for key, weight in network.refiners.state_dict().items()}
    assert all(torch.equal(weight, before[key]) for key, weight in network.crisp.state_dict().items())
    network(blurred, blurred).square().mean().backward()
    assert network.crisp["fast"].head.weight.grad is not None and network.refiners["fast"].head.weight.grad is None
    network.crisp["fast"].head.bias.data += 0.1
    later = fresh(crisp=True)
    assert later.begin_from(network)
    later.lead_with_crisp()
    assert torch.equal(later.crisp["fast"].head.bias, network.crisp["fast"].head.bias)  # what it has learnt is not lost
    assert not torch.equal(later.crisp["fast"].head.bias, later.refiners["fast"].head.bias)
    with pytest.raises(ValueError, match=r"set network\.crisp to true"):
        fresh().lead_with_crisp()
