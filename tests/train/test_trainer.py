"""Steps of training: in parts, with dropout, without updates that are not finite, compiled."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F

from deblur_hub.networks import build_network
from deblur_hub.networks.base import Generator
from tests.train.tiny_runs import tensors_of
from train import trainer
from train.console import Alarms
from train.losses.discriminators import build_discriminator
from train.optim.dropout import SampleDropout, use_sample_dropout
from train.optim.step import OptimizerStep
from train.preparation import check, require_compiler
from train.recipe import Alarms as AlarmOptions
from train.recipe import RecipeError, load_recipe
from train.trainer import NonFiniteLossError, Trainer

GAN = (
    "network.width=8",
    "network.blocks=2",
    "loss.pixel=l1",
    "loss.perceptual.weight=0.0",
    "loss.adversarial.critic_steps=2",
    "loss.adversarial.options.width=8",
    "data.crop=32",
    "data.batch_size=4",
    "precision=no",
)


def make(recipe="deblurgan", *changes, base=GAN):
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = load_recipe(recipe, [*base, *changes])
    torch.manual_seed(recipe.seed)
    return Trainer(recipe, build_network(recipe.generator, **recipe.network), None, Accelerator())


def batches(count=2, *, seed=0, samples=4, size=32):
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.rand(2, samples, 3, size, size, generator=generator) * 2 - 1) for _ in range(count)]


def steps(run, count=1, *, first=0):
    return [run.step(batches(seed=number), step=number, progress=number / 10) for number in range(first, first + count)]


def moments(run):
    """Of all optimizers: linear in the gradients, where Adam's own step hides their size."""
    return {key: value for key, value in tensors_of(run.state()).items() if key.endswith(".exp_avg")}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_gives_the_gradients_of_the_whole_one(parts):
    """Of networks that keep samples apart, for one step, as Adam makes full steps of what is only rounding.

    Where rounding puts a value on the other side of a ReLU's kink, a weight's gradient differs by a percent or so.
    """
    for dropout in (0.0, 0.5):
        whole, split = (make("deblurgan", f"optimizer.accumulate={n}", f"network.dropout={dropout}",
                             "loss.adversarial.lr=0.0", "loss.frequency_weight=0.1",
                             "loss.grid_weight=1") for n in (1, parts))  # fmt: skip
        logs = [steps(run)[0] for run in (whole, split)]
        assert {"loss/pixel", "loss/frequency", "loss/grid", "loss/adversarial"} <= logs[0].keys()
        whole, split = moments(whole), moments(split)
        assert whole.keys() == split.keys() and len(whole) > 20
        for key in whole:
            assert (whole[key] - split[key]).norm() <= 0.03 * whole[key].norm().clamp(min=1e-3), key
        for key in logs[0]:
            if key != "generator/change":  # a ratio of means
                assert logs[0][key].item() == pytest.approx(logs[1][key].item(), rel=1e-3, abs=1e-5), key


def test_parts_that_do_not_divide_the_batch_are_refused():
    recipe = load_recipe("compact", ["data.batch_size=8", "optimizer.accumulate=3"])
    network = build_network(recipe.generator, **recipe.network)
    with pytest.raises(RecipeError, match=r"optimizer.accumulate 3 does not divide the 8 samples of each process"):
        check(recipe, network, Accelerator())


def test_dropout_is_drawn_for_each_place_in_the_batch_and_keeps_the_mean():
    network = nn.Sequential(nn.Dropout(0.25), nn.Dropout(0.25), nn.Dropout2d(0.5), nn.Dropout(0.0))
    chance = use_sample_dropout(network)
    assert [type(module) for module in network] == [SampleDropout] * 4
    chance.seed = (1, 2)
    ones = torch.ones(4, 8, 30, 30)
    first, second, channels, none = (module(ones) for module in network)
    assert torch.equal(none, ones)
    assert first.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert first.mean().item() == pytest.approx(1, abs=0.03)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert torch.equal(channels, channels[:, :, :1, :1].expand_as(channels)) and channels.unique().tolist() == [0, 2]
    chance.first = 2  # the second half by itself
    assert torch.equal(network[0](ones[2:]), first[2:])
    chance.seed = (1, 3)
    assert not torch.equal(network[0](ones[2:]), first[2:])
    assert torch.equal(network.eval()(ones), ones)


def test_dropout_keeps_the_names_of_all_weights():
    plain, dropping = (build_network("deblurgan", width=8, blocks=2, dropout=p) for p in (0.0, 0.5))
    use_sample_dropout(dropping)
    assert any(isinstance(module, SampleDropout) for module in dropping.modules())
    assert (
        build_network("deblurgan", width=8, blocks=2, dropout=0.5).state_dict().keys() == dropping.state_dict().keys()
    )
    assert len(plain.state_dict()) == len(dropping.state_dict())


class Poisoned:
    """A pixel loss that some calls make something else of."""

    def __init__(self, monkeypatch, poison, calls):
        self.original, self.poison, self.calls, self.count = trainer.pixel_loss, poison, calls, 0
        monkeypatch.setattr(trainer, "pixel_loss", self)

    def __call__(self, kind, restored, sharp):
        self.count += 1
        loss = self.original(kind, restored, sharp)
        return self.poison(loss, restored) if self.count in self.calls else loss


POISONS = {
    "nan": lambda loss, restored: loss * float("nan"),
    "infinite, of finite gradient": lambda loss, restored: loss + float("inf"),
    "infinite gradient of a finite loss": lambda loss, restored: (
        loss + (restored - restored.detach()).abs().sqrt().sum()
    ),
}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(("parts", "optimizer"), [(1, "adamw"), (2, "adamw"), (1, "muon")])
def test_an_update_that_is_not_finite_is_not_made_and_the_next_one_is(monkeypatch, poison, parts, optimizer):
    run = make("deblurgan", f"optimizer.accumulate={parts}", "optimizer.clip=1.0", f"optimizer.name={optimizer}",
               "optimizer.weight_decay=0.1")  # fmt: skip
    Poisoned(monkeypatch, POISONS[poison], {parts + 1})  # the first part of the second step
    steps(run, 1)
    before = {key: tensor.clone() for key, tensor in tensors_of(run.state()).items()}
    log = steps(run, 1, first=1)[0]
    after = {key: tensor.clone() for key, tensor in tensors_of(run.state()).items()}
    for key in before:
        if key.startswith(("generator.", "optimizer.")):
            assert torch.equal(before[key], after[key]), key
        assert torch.isfinite(after[key]).all(), key
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("critic."))
    assert log["skipped"] == 1
    assert run.skipped.tolist() == [1, 1, 1]
    assert steps(run, 1, first=2)[0]["skipped"] == 1
    assert run.skipped.tolist() == [1, 0, 1]
    changed = tensors_of(run.state())
    assert any(not torch.equal(after[key], changed[key]) for key in after if key.startswith("generator."))


def test_statistics_of_pictures_that_are_not_finite_are_not_remembered():
    run = make("deblurgan", "network.norm=batch", "loss.adversarial.weight=0.0", "generator=resnet")
    run.step(batches(1), step=0, progress=0.0)
    before = [statistic.clone() for statistic in run.statistics()]
    ((blurred, sharp),) = batches(1, seed=1)
    blurred[0, 0, 0, 0] = float("inf")
    run.step([(blurred, sharp)], step=1, progress=0.0)
    assert run.skipped[0] == 1
    assert before and all(torch.equal(*pair) for pair in zip(before, run.statistics(), strict=True))
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(run.state()).values())


@pytest.mark.slow
def test_losses_scaled_for_fp16_make_the_same_updates_and_skip_the_same(monkeypatch):
    """With a scaler on the CPU, where fp16 itself is not computed in: what a GPU's would see."""
    options = ("optimizer.clip=1.0", "optimizer.accumulate=2", "loss.adversarial.weight=0.5")
    plain, original = make("deblurgan", *options), Accelerator.__init__

    def scaling(self, *arguments, **others):
        original(self, *arguments, **others)
        self.scaler, self.native_amp = torch.amp.GradScaler("cpu", init_scale=1024.0), True
        AcceleratorState._shared_state["_mixed_precision"] = "fp16"

    monkeypatch.setattr(Accelerator, "__init__", scaling)
    monkeypatch.setattr(Accelerator, "prepare_model", lambda self, model, **_: model)  # without fp16's autocast
    scaled = make("deblurgan", *options)
    assert scaled.generator_step.optimizer.scaler is scaled.accelerator.scaler is not None
    for one, other in zip(steps(plain, 2), steps(scaled, 2), strict=True):
        assert {key: value.item() for key, value in one.items()} == {key: value.item() for key, value in other.items()}
    assert all(torch.equal(value, moments(scaled)[key]) for key, value in moments(plain).items())
    before = copy.deepcopy(tensors_of(scaled.state()))
    Poisoned(monkeypatch, POISONS["infinite, of finite gradient"], {1})
    assert steps(scaled, 1, first=2)[0]["skipped"] == 1
    after = tensors_of(scaled.state())
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith(("generator.", "optimizer.")))
    assert scaled.accelerator.scaler.get_scale() < 1024


@pytest.mark.parametrize("samples", [1, 2])
def test_channels_last_changes_no_gradient(samples):
    """PyTorch's instance normalisation on CPUs has a wrong one for a single sample whose gradient comes so."""
    torch.manual_seed(0)
    picture = torch.rand(samples, 3, 32, 32, dtype=torch.float64) * 2 - 1
    for network in (build_network("deblurgan", width=8, blocks=1), build_discriminator("patchgan", crop=32, width=8)):
        run = network.double() if isinstance(network, Generator) else network.double().score
        gradients = []
        for layout in (torch.contiguous_format, torch.channels_last):
            network.to(memory_format=layout).zero_grad()
            (run(picture.to(memory_format=layout)) - 0.3).square().sum().backward()
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
        assert (gradients[0] - gradients[1]).norm() < 1e-9 * gradients[0].norm()


def test_a_row_of_skipped_steps_stops_the_run_and_a_broken_row_does_not():
    alarms = Alarms(AlarmOptions(most_skipped=3))
    alarms.require_progress(torch.tensor([20.0, 2.0, 2.0]), 40)
    with pytest.raises(NonFiniteLossError, match=r"not finite in 3 steps in a row up to step 41, and none of these"):
        alarms.require_progress(torch.tensor([3.0, 3.0, 3.0]), 41)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_step_reads_nothing_back_from_the_device(monkeypatch, optimizer):
    """Each reading would wait for a GPU to finish; on a CPU it can be counted just as well."""
    changes = ("optimizer.clip=1.0", "optimizer.accumulate=2", "schedule.ema=0.9", f"optimizer.name={optimizer}")
    run = make("deblurgan", *changes)
    steps(run, 2)  # what is made once
    monkeypatch.setattr(run.average, "update", lambda *_: None)  # AveragedModel reads its count, which stays on the CPU

    def caught(*_):
        raise AssertionError("a number was read from the device")

    for name in ("item", "__bool__", "__float__", "__int__", "tolist", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, caught)
    steps(run, 1, first=2)


def test_the_rate_betas_and_decay_at_resume_are_the_recipes_and_the_moments_the_checkpoints():
    run = make("deblurgan")
    steps(run)
    other = make("deblurgan", "optimizer.betas=[0.8,0.95]", "optimizer.weight_decay=0.25", "optimizer.lr=1.0")
    other.load_state(copy.deepcopy(run.state()))
    for optimizer_step in (other.generator_step, other.discriminator_step):
        (group,) = optimizer_step.optimizer.param_groups
        assert (group["betas"], group["weight_decay"], group["fused"]) == ((0.8, 0.95), 0.25, True)
    assert all(torch.equal(value, moments(run)[key]) for key, value in moments(other).items())


def test_moments_of_a_channels_last_run_serve_one_of_another_layout():
    """Fused updates on CPUs go by memory: with strides that differ they would mix up the elements of a weight."""
    first = make("deblurgan", "channels_last=true")
    steps(first)
    last, plain = make("deblurgan", "channels_last=true"), make("deblurgan", "channels_last=false")
    for run in (last, plain):
        run.load_state(copy.deepcopy(first.state()))
        steps(run, 1, first=1)
    last, plain = moments(last), moments(plain)
    assert any(value.stride() != last[key].stride() for key, value in plain.items())
    for key, value in plain.items():
        assert (value - last[key]).norm() <= 0.03 * value.norm().clamp(min=1e-3), key


def test_an_update_is_that_of_the_optimizer_by_itself():
    weights = torch.randn(5, 3, 4, 4)
    network, plain = (nn.Conv2d(3, 5, 4).to(memory_format=torch.channels_last) for _ in range(2))
    recipe = load_recipe("compact", ["optimizer.clip=0.5", "optimizer.name=adamw"])
    optimizer_step = OptimizerStep(network, recipe.optimizer, 1.0, Accelerator())
    own = torch.optim.AdamW(plain.parameters(), lr=1e-2, betas=recipe.optimizer.betas, weight_decay=1e-4)
    for each in (network, plain):
        with torch.no_grad():
            each.weight.copy_(weights)
            each.bias.zero_()
    for number in range(3):
        picture = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        optimizer_step.zero_grad()
        with optimizer_step.accumulate(last=True):
            optimizer_step.backward(F.mse_loss(optimizer_step.network(picture), torch.ones(2, 5, 5, 5)))
        norm, non_finite = optimizer_step.apply(1e-2)
        own.zero_grad()
        F.mse_loss(plain(picture), torch.ones(2, 5, 5, 5)).backward()
        wanted = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        own.step()
        assert norm.item() == pytest.approx(wanted.item(), rel=1e-5) and not non_finite
        assert torch.allclose(network.weight, plain.weight, atol=1e-6)


class Unchanged(Generator):
    receptive_field = 0
    size_multiple = 1

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def compute(self, blurred):
        return blurred * self.factor


def test_the_log_tells_how_far_a_generator_goes_of_what_it_should():
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = load_recipe("compact", ["precision=no", "optimizer.lr=0.0"])
    for factor, wanted in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0)):
        run = Trainer(recipe, Unchanged(factor), None, Accelerator())
        blurred = torch.full((2, 3, 8, 8), 0.5)
        log = run.step([(blurred, torch.zeros_like(blurred))], step=0, progress=0.0)
        assert log["generator/change"].item() == pytest.approx(wanted)
    log = run.step([(blurred, blurred.clone())], step=0, progress=0.0)
    assert math.isnan(log["generator/change"])


class Linear(nn.Module):
    """A critic whose score has the same slope everywhere."""

    sees_batch = False

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def score(self, pictures):
        return (pictures * self.slope).sum(dim=(1, 2, 3), keepdim=True)

    def forward(self, pictures, batches=1):
        return self.score(pictures.float())


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("weight", [1.0, 0.01])
def test_the_slope_of_a_critic_is_the_norm_of_its_gradient_by_each_picture(monkeypatch, parts, weight):
    monkeypatch.setattr(trainer, "make_discriminator", lambda *_: Linear(0.25))
    run = make("deblurgan", f"loss.adversarial.weight={weight}", "loss.adversarial.loss=wasserstein",
               "loss.adversarial.lr=0.0", f"optimizer.accumulate={parts}")  # fmt: skip
    assert steps(run)[0]["critic/slope"].item() == pytest.approx(0.25 * math.sqrt(3 * 32 * 32), rel=1e-4)


def test_a_critic_with_a_saturated_sigmoid_has_no_slope(monkeypatch):
    class Saturated(Linear):
        def score(self, pictures):
            return torch.sigmoid(super().score(pictures) + 100)

    monkeypatch.setattr(trainer, "make_discriminator", lambda *_: Saturated(0.25))
    run = make("deblurgan", "loss.adversarial.loss=wasserstein")
    log = steps(run)[0]
    assert log["critic/slope"] == 0 and log["critic/restored"] == 1


def listen(alarms, lines, *, first=1001):
    return [sentence for number, line in enumerate(lines) for sentence in alarms.listen(first + number, line)]


def test_a_saturated_critic_is_told_of_once_after_a_row_of_lines():
    saturated, sound = {"critic/slope": 0.0}, {"critic/slope": 1.0}
    options = AlarmOptions(patience=3)
    assert listen(Alarms(options), [saturated, saturated, sound] * 4) == []
    (sentence,) = listen(Alarms(options), [saturated] * 9)
    assert sentence.startswith("step 1003: the critic is saturated: its score of a picture does not change")
    assert listen(Alarms(AlarmOptions(patience=3, least_slope=0.0)), [saturated] * 9) == []


def test_a_generator_that_returns_its_input_is_told_of_once_and_not_before_its_time():
    idle, busy, blank = {"generator/change": 0.004}, {"generator/change": 0.4}, {"generator/change": math.nan}
    options = AlarmOptions(patience=2, change_after=1000)
    assert listen(Alarms(options), [idle] * 5, first=990) == []
    assert listen(Alarms(options), [idle, busy] * 4) == []
    (sentence,) = listen(Alarms(options), [idle, blank, idle, idle])
    assert "the generator returns its input: it changes a picture by 0.4% of what it should" in sentence
    assert sentence.startswith("step 1003: ")


@pytest.mark.slow
def test_compiled_networks_take_the_same_steps_under_the_same_names(monkeypatch):
    """Traced as ever, but run without a compiler, which takes a minute; test_benchmark.py compiles in earnest."""
    traced, backend = [], torch._dynamo.lookup_backend("eager")

    def count(graph, inputs):
        traced.append(graph)
        return backend(graph, inputs)

    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network: original(network, backend=count))
    options = ("loss.adversarial.loss=ragan-ls", "network.dropout=0.5", "optimizer.lr=1e-5", "loss.adversarial.lr=1e-6")
    eager, compiled = (make("deblurgan", *options, f"compile={value}") for value in ("false", "true"))
    logs = [steps(run, 2) for run in (eager, compiled)]
    assert len(traced) > 2  # of a network in parts, as its dropout is not traced
    eager, compiled = (tensors_of(run.state()) for run in (eager, compiled))
    assert eager.keys() == compiled.keys() and not any("_orig_mod" in key for key in compiled)
    for plain, fast in zip(*logs, strict=True):
        for key in plain:
            assert plain[key].item() == pytest.approx(fast[key].item(), rel=1e-3, abs=1e-5), key


def test_a_recipe_that_compiles_where_there_is_no_compiler_is_refused(monkeypatch):
    def missing(_function):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found.\nmore")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(RecipeError) as caught:
        require_compiler(Accelerator())
    assert str(caught.value) == (
        "compile = true, but nothing can be compiled here (InvalidCxxCompiler: No working C++ "
        "compiler found); install a C++ compiler such as g++, or set compile=false"
    )
