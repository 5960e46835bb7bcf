"""Critics and the losses that pit them against generators, against published sizes and closed forms."""

import math
import typing
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deblur_hub.errors import ModelError
from train.losses.adversarial import (
    CrossEntropy,
    PenalisedWasserstein,
    RelativisticLeastSquares,
    Wasserstein,
    adversarial_loss,
)
from train.losses.discriminators import (
    DISCRIMINATORS,
    BatchPatchDiscriminator,
    DoubleScaleDiscriminator,
    KerasDiscriminator,
    PatchDiscriminator,
    build_discriminator,
)
from train.losses.pixels import cross_entropy, relativistic_least_squares
from train.recipe import Adversarial

TINY_CRITICS = {
    "patchgan": lambda: PatchDiscriminator(width=4),
    "patchgan, batch": lambda: PatchDiscriminator(width=4, norm="batch"),
    "patchgan, none": lambda: PatchDiscriminator(width=4, norm="none"),
    "double-scale": lambda: DoubleScaleDiscriminator(width=4),
    "keras": lambda: KerasDiscriminator(side=32, width=4),
    "keras, linear": lambda: KerasDiscriminator(side=32, width=4, head="linear"),
    "bce-patchgan": lambda: BatchPatchDiscriminator(width=4),
    "bce-patchgan, sigmoid": lambda: BatchPatchDiscriminator(width=4, head="sigmoid"),
}


def pictures(seed=0, shape=(2, 3, 32, 32)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) * 2 - 1


def score_maps(critic, batch, **options):
    scores = critic(batch, **options)
    return scores if isinstance(scores, list) else [scores]


# --- the networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "published", "maps"),
    [
        ("patchgan", {}, 2.76e6, [35]),
        ("patchgan", {"layers": 5}, 11.15e6, [11]),
        ("patchgan", {"norm": "batch"}, 2.766e6, [35]),
        ("double-scale", {}, 2.76e6 + 11.15e6, [35, 11]),
        ("keras", {}, 3.10e6, [1]),
        ("bce-patchgan", {}, 2.766e6, [15]),
    ],
)
def test_a_critic_has_the_published_size_and_its_scores_a_known_shape(name, options, published, maps):
    with torch.device("meta"):
        critic = build_discriminator(name, crop=256, **options)
        scores = critic.score(torch.empty(2, 3, 256, 256))
    assert sum(weight.numel() for weight in critic.parameters()) == pytest.approx(published, rel=0.002)
    shapes = [tuple(part.shape) for part in (scores if isinstance(scores, list) else [scores])]
    assert shapes == [(2, 1, side, side) for side in maps]


def test_the_parameters_of_the_patch_critics_are_those_of_the_authors_layers():
    def counted(layers):  # kernels of 4x4 and biases, 64 channels doubled up to 512
        channels = [3] + [64 * min(2**level, 8) for level in range(layers + 1)] + [1]
        return sum(16 * narrow * wide + wide for narrow, wide in pairwise(channels))

    for layers in (3, 5):
        with torch.device("meta"):
            critic = PatchDiscriminator(layers=layers)
        assert sum(weight.numel() for weight in critic.parameters()) == counted(layers)


def test_recipes_know_every_critic_and_every_loss_by_name():
    hints = typing.get_type_hints(Adversarial)
    assert set(typing.get_args(hints["critic"])) == set(DISCRIMINATORS)
    kinds = {name: type(adversarial_loss(Adversarial(loss=name))) for name in typing.get_args(hints["loss"])}
    assert kinds == {
        "wgan-gp": PenalisedWasserstein,
        "wasserstein": Wasserstein,
        "ragan-ls": RelativisticLeastSquares,
        "bce": CrossEntropy,
    }


@pytest.mark.parametrize("make", TINY_CRITICS.values(), ids=TINY_CRITICS)
def test_only_with_batch_normalisation_a_score_depends_on_the_rest_of_its_batch(make):
    torch.manual_seed(0)
    critic, batch = make(), pictures(4, (3, 3, 32, 32))
    batched, alone = score_maps(critic, batch), score_maps(critic, batch[1:2])
    same = all(torch.allclose(all_of[1:2], one, atol=1e-6) for all_of, one in zip(batched, alone, strict=True))
    assert same != critic.sees_batch


@pytest.mark.parametrize("make", TINY_CRITICS.values(), ids=TINY_CRITICS)
def test_batches_behind_one_another_are_scored_as_if_each_came_alone(make):
    torch.manual_seed(0)
    critic, restored, sharp = make(), pictures(1), pictures(2) * 0.3
    behind = score_maps(critic, torch.cat([restored, sharp]), batches=2)
    apart = [torch.cat(parts) for parts in zip(score_maps(critic, restored), score_maps(critic, sharp), strict=True)]
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(behind, apart, strict=True))
    if critic.sees_batch:
        mixed = score_maps(critic, torch.cat([restored, sharp]))
        assert not any(torch.allclose(one, other, atol=1e-4) for one, other in zip(mixed, apart, strict=True))


@pytest.mark.parametrize("make", TINY_CRITICS.values(), ids=TINY_CRITICS)
def test_a_critic_computes_in_float32_under_autocast_and_remembers_nothing(make):
    torch.manual_seed(0)
    critic, batch = make(), pictures(3)
    plain = score_maps(critic, batch)
    with torch.autocast("cpu", torch.bfloat16):
        within = score_maps(critic, batch)
    assert all(one.dtype == torch.float32 and torch.equal(one, other) for one, other in zip(within, plain, strict=True))
    assert list(critic.buffers()) == []
    assert all(torch.equal(*pair) for pair in zip(score_maps(critic.eval(), batch), plain, strict=True))


def test_the_keras_critic_pads_as_keras_does():
    """TensorFlow's "same": at stride 2 one row on each side, at stride 1 one before and two behind."""
    critic = KerasDiscriminator(side=32, width=4, head="linear")
    features = pictures(6)
    layers = [module for module in critic.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    for layer in layers[:-3]:
        if isinstance(layer, nn.BatchNorm2d):
            features = F.batch_norm(features, None, None, layer.weight, layer.bias, training=True, eps=1e-3)
        else:
            stride = layer.stride[0]
            around = (1, 1, 1, 1) if stride == 2 else (1, 2, 1, 2)
            features = F.conv2d(F.pad(features, around), layer.weight, layer.bias, stride=stride)
        if isinstance(layer, nn.BatchNorm2d) or layer is layers[0]:
            features = F.leaky_relu(features, 0.2)
    last, wide, narrow = layers[-3:]
    flat = F.conv2d(F.pad(features, (1, 2, 1, 2)), last.weight, last.bias).flatten(1)
    wanted = torch.tanh(flat @ wide.weight.T + wide.bias) @ narrow.weight.T + narrow.bias
    assert torch.allclose(critic(pictures(6)).flatten(1), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", [KerasDiscriminator, BatchPatchDiscriminator])
def test_a_sigmoid_head_is_the_sigmoid_of_the_linear_one(kind):
    options = {"side": 32} if kind is KerasDiscriminator else {}
    published, mended = kind(width=4, head="sigmoid", **options), kind(width=4, head="linear", **options)
    mended.load_state_dict(published.state_dict())
    assert torch.allclose(published(pictures()), mended(pictures()).sigmoid(), atol=1e-6)


def test_the_keras_critic_takes_the_crops_size_and_no_other():
    assert build_discriminator("keras", crop=64, width=4).side == 64
    with pytest.raises(ValueError, match="side 32 is not the crops' 64"):
        build_discriminator("keras", crop=64, side=32)
    with pytest.raises(ValueError, match="side 40 is not a multiple of 16"):
        build_discriminator("keras", crop=40)
    with pytest.raises(ValueError, match="pictures of 32x32, not 48x32"):
        KerasDiscriminator(side=32, width=4)(torch.zeros(1, 3, 48, 32))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("patchgan", {"layer": 3}, r"critic 'patchgan': unknown option 'layer' \(did you mean 'layers'\?\)"),
        ("patchgan", {"norm": "group"}, "option 'norm' must be one of instance, batch, none, not 'group'"),
        ("double-scale", {"layers": 3}, r"critic 'double-scale': unknown option 'layers' \(did you mean"),
        ("keras", {"head": 3}, "option 'head' must be one of linear, sigmoid, not 3"),
        ("bce-patchgan", {"width": 0}, "option 'width' is 0, which is out of range"),
    ],
)
def test_a_wrong_option_of_a_critic_is_named(name, options, sentence):
    with pytest.raises(ModelError, match=sentence):
        build_discriminator(name, crop=256, **options)


# --- the losses --------------------------------------------------------------------------------------------------


def test_losses_of_known_scores():
    restored, sharp = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([3.0, 5.0])
    assert Wasserstein().of_discriminator(restored, sharp).item() == 1 - 4
    # Sharp ones score 2 and 4 above the mean restored one; restored ones 4, 2, 3 and 3 below the mean sharp one.
    assert relativistic_least_squares(sharp, restored).item() == (1 + 9) / 2 + (9 + 1 + 4 + 4) / 4
    assert relativistic_least_squares(restored, sharp).item() == (25 + 9 + 16 + 16) / 4 + (9 + 25) / 2
    assert relativistic_least_squares(torch.ones(3), torch.zeros(5)).item() == 0
    assert relativistic_least_squares(sharp + 7, restored + 7) == relativistic_least_squares(sharp, restored)
    assert cross_entropy(torch.zeros(4), 1.0).item() == pytest.approx(math.log(2))
    assert cross_entropy(torch.tensor([2.0]), 1.0).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert cross_entropy(torch.tensor([2.0]), 0.0).item() == pytest.approx(math.log(1 + math.exp(2)))


class Means(nn.Module):
    """D(x) = the mean of x, and twice as much at a second scale."""

    def forward(self, picture, batches=1):
        score = picture.mean(dim=(1, 2, 3), keepdim=True)
        return [score, 2 * score]


@pytest.mark.parametrize(
    ("loss", "of_critic", "of_generator"),
    [
        (Wasserstein(), lambda r, s: r - s, lambda r, s: -r),
        (RelativisticLeastSquares(), lambda r, s: 2 * (s - r - 1) ** 2, lambda r, s: 2 * (r - s - 1) ** 2),
        (
            CrossEntropy(),
            lambda r, s: (math.log(1 + math.exp(-s)) + math.log(1 + math.exp(r))) / 2,
            lambda r, s: math.log(1 + math.exp(-r)),
        ),
    ],
    ids=["wasserstein", "ragan-ls", "bce"],
)
def test_a_critic_at_two_scales_has_the_mean_of_their_losses(loss, of_critic, of_generator):
    restored, sharp = torch.full((2, 3, 8, 8), 0.25), torch.full((2, 3, 8, 8), 0.75)
    critics, log = loss.discriminator_loss(Means(), restored, sharp, share=torch.rand(2))
    assert critics.item() == pytest.approx((of_critic(0.25, 0.75) + of_critic(0.5, 1.5)) / 2)
    assert log["restored"].item() == pytest.approx(1.5 * 0.25)
    assert log["sharp"].item() == pytest.approx(1.5 * 0.75)
    generators = loss.generator_loss(Means(), restored, sharp)
    assert generators.item() == pytest.approx((of_generator(0.25, 0.75) + of_generator(0.5, 1.5)) / 2)


def test_the_gradient_penalty_is_taken_of_each_scale():
    restored, sharp = torch.full((2, 3, 8, 8), 0.25), torch.full((2, 3, 8, 8), 0.75)
    loss, log = PenalisedWasserstein(10.0).discriminator_loss(Means(), restored, sharp, share=torch.rand(2))
    norms = [scale / math.sqrt(3 * 8 * 8) for scale in (1, 2)]  # each of 192 values has 1/192 of the mean
    penalty = sum((norm - 1) ** 2 for norm in norms) / 2
    assert log["penalty"].item() == pytest.approx(penalty)
    assert log["wasserstein"].item() == pytest.approx((0.5 + 1.0) / 2)
    assert loss.item() == pytest.approx(10 * penalty - 0.75)


LOSSES = [PenalisedWasserstein(10.0), Wasserstein(), RelativisticLeastSquares(), CrossEntropy()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("make", TINY_CRITICS.values(), ids=TINY_CRITICS)
def test_gradients_reach_every_weight_of_the_critic_and_every_pixel_of_the_generator(make, loss):
    torch.manual_seed(0)
    critic, restored, sharp = make(), pictures(1).requires_grad_(), pictures(2)
    if critic.sees_batch and isinstance(loss, PenalisedWasserstein):
        pytest.skip("refused by the recipe: a gradient of one picture's score is none of its own")
    loss.discriminator_loss(critic, restored.detach(), sharp, share=torch.rand(2))[0].backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in critic.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in critic.parameters() if weight.ndim > 1)
    loss.generator_loss(critic, restored, sharp).backward()
    assert restored.grad.abs().sum(dim=1).count_nonzero() == restored.grad.shape[0] * 32 * 32


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_critic_that_follows_its_loss_learns_to_tell_and_a_picture_that_follows_its_own_to_deceive(loss):
    torch.manual_seed(0)
    critic = PatchDiscriminator(layers=2, width=8)
    sharp = torch.sign(pictures(2))
    restored = F.avg_pool2d(sharp, 5, stride=1, padding=2)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for _ in range(30):
        optimizer.zero_grad()
        loss.discriminator_loss(critic, restored, sharp, share=torch.rand(2))[0].backward()
        optimizer.step()
    before = critic(restored).mean().item()
    assert critic(sharp).mean().item() > before
    restored.requires_grad_()
    (slope,) = torch.autograd.grad(loss.generator_loss(critic, restored, sharp), restored)
    assert critic(restored - 0.02 * slope / slope.abs().mean()).mean().item() > before
