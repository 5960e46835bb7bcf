"""MAXIM: exact against the published graph, folded as plain, its stages and scales in training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_hub import DeblurGenerator
from deblur_hub.networks import build_network
from deblur_hub.restoration.fused import kernels
from deblur_hub.restoration.fused.maxim import FusedMaxim
from tests.conftest import awake
from tests.test_networks import multiply_adds, on_meta, parameters

FIXTURE = Path(__file__).parents[1] / "data/tensorflow/maxim.npz"


@pytest.fixture(scope="module")
def released(released_model) -> DeblurGenerator:
    return released_model("maxim")


def tiny(**options) -> torch.nn.Module:
    return awake(build_network("maxim", width=4, **options))


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


# --- exactness ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64x128", "192x64"])
def test_the_released_weights_compute_what_tensorflow_computes_of_the_published_graph(released, size):
    """`fixtures/make_maxim.py` ran the graph, its constants in half precision as the released weights are."""
    held = np.load(FIXTURE)
    blurred, expected = (torch.from_numpy(held[name + size]).permute(0, 3, 1, 2) for name in ("blurred", "restored"))
    assert (expected - blurred).abs().max() > 0.1
    with torch.inference_mode():
        plain = (released.network(2 * blurred - 1) + 1) / 2
    folded = (released.restore(2 * blurred - 1, quality="best", precision="float32") + 1) / 2
    assert (plain - expected).abs().max() < 1e-4
    assert (folded - expected).abs().max() < 1e-4


@pytest.mark.slow
def test_it_has_the_published_parameters_and_multiply_adds():
    """22.2 M as published; without the last stage's two coarse outputs, as in the graph, 22,207,605."""
    assert parameters(on_meta("maxim", coarse_outputs=False)) == 22_207_605
    whole = on_meta("maxim").train()
    assert parameters(whole) == 22_207_605 + 5_190
    assert multiply_adds(whole, 768, 1280) == pytest.approx(2240e9, rel=0.01)
    first = whole.multiply_adds_per_pixel(whole.qualities["balanced"])
    assert first * 768 * 1280 == pytest.approx(633e9, rel=0.01)


# --- folded and fused --------------------------------------------------------------------------------------------


@pytest.fixture(params=["compiled", "plain"])
def kernel(request, monkeypatch):
    """With the compiled kernels, and with PyTorch's own operations in their place."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "compiled", lambda: None)
    elif kernels.compiled() is None:
        pytest.skip("no C compiler")


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 3])
def test_folded_it_computes_the_same(kernel, stages):
    network = tiny(stages=stages)
    blurred = picture(64, 128)
    folded = FusedMaxim(network, torch.float32)
    for depth in range(1, stages + 1):
        told = []
        cost = folded.prepare(depth)
        with torch.inference_mode():
            expected = network.restore_levels(blurred, depth)[-1][0]
            change = (expected - blurred).abs().mean()
            assert change > 1e-3
            restored = folded.restore(blurred, depth, told.append)
        assert (restored - expected).abs().max() < 1e-4 * max(1, change)
        assert sum(told) == pytest.approx(cost)


@pytest.mark.slow
def test_folded_in_bfloat16_it_is_near(kernel, released):
    blurred = picture(64, 64)
    with torch.inference_mode():
        expected = released.network.restore_levels(blurred, 1)[-1][0]
        folded = FusedMaxim(released.network, torch.bfloat16)
        folded.prepare(1)
        restored = folded.restore(blurred, 1, lambda work: None)
    assert (restored - expected).square().mean().sqrt() < 0.01
    assert (restored - expected).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [4, 32, 100])
def test_the_kernels_do_what_pytorch_does(monkeypatch, dtype, channels):
    if kernels.compiled() is None:
        pytest.skip("no C compiler")
    draw = torch.Generator().manual_seed(0)
    wide = (torch.randn(3, 2, 4, 5, 2 * channels, generator=draw) * 3).to(dtype)
    block = wide[..., channels:].permute(1, 0, 3, 2, 4)
    rows = wide.view(-1, 2 * channels)[:, channels:]
    scale, shift, bias = (torch.randn(size, generator=draw) for size in (channels, channels, 6))
    mixed = torch.randn(6, 20 * channels, generator=draw).to(dtype)
    picture = torch.randn(8, 12, channels, generator=draw).to(dtype)
    target = torch.zeros(2, 3, 5, 4, channels, dtype=dtype).permute(1, 0, 3, 2, 4)

    def everything() -> list[torch.Tensor]:
        put = target.clone()
        kernels.scatter(rows.contiguous(), put)
        kernels.scatter(rows.contiguous(), put, put)
        return [
            kernels.norm(block, 1e-6),
            kernels.norm(block, 1e-6, scale, shift),
            kernels.gelu(rows.contiguous()),
            *kernels.gelu_and_norm(rows.contiguous(), 1e-6),
            kernels.norm_of_gelu(rows, 1e-6, scale, shift),
            kernels.gate_(mixed.clone(), rows, bias),
            put,
            kernels.shrink(picture, 2),
            kernels.shrink(picture, 4),
            kernels.norm(block, 1e-6, scale, shift, torch.empty(120, channels, dtype=dtype)),
            kernels.gelu(rows.contiguous(), torch.empty(120, channels, dtype=dtype)),
        ]

    compiled = everything()
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    for fast, plain in zip(compiled, everything(), strict=True):
        tolerance = 1e-4 if dtype == torch.float32 else 0.04
        assert torch.allclose(fast.float(), plain.float(), rtol=tolerance, atol=tolerance)


def test_without_a_compiler_pytorch_does_it(monkeypatch, tmp_path):
    kernels.compiled.cache_clear()
    monkeypatch.setenv("DEBLUR_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    try:
        assert kernels.compiled() is None
        assert kernels.gelu(torch.ones(2, 4)).shape == (2, 4)
        assert not any(tmp_path.iterdir())
    finally:
        kernels.compiled.cache_clear()


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("coarse", "count"), [(True, 9), (False, 7)])
def test_in_training_every_stage_and_scale_has_its_result_and_its_gradient(coarse, count):
    network = tiny(coarse_outputs=coarse).train()
    results = network(picture(64, 128))
    assert len(results) == count
    scales = [64 // result.shape[-2] for result in results]
    assert scales == sorted(scales, reverse=True) and scales[-1] == 1 and scales.count(1) == 3
    sum(result.square().mean() for result in results).backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


def test_the_last_result_in_training_is_that_of_evaluation():
    network = tiny(stages=2)
    with torch.no_grad():
        expected = network(picture(64, 64))
        assert torch.equal(network.train()(picture(64, 64))[-1], expected)


def test_a_changed_weight_is_folded_anew():
    from deblur_hub.restoration.restore import restore

    network = tiny(stages=1)
    before = restore(network, picture(64, 64), precision="float32")
    with torch.no_grad():
        network.unets[0].outputs[0].bias += 0.2
    after = restore(network, picture(64, 64), precision="float32")
    assert torch.allclose(after, (before + 0.4).clamp(-1, 1), atol=0.41) and not torch.allclose(after, before)
