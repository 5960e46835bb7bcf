"""DeblurGAN-v2's checkpoints come over whole: what our network makes of them is what the authors' layers make of them.

The authors' networks are written down here once more, in functions alone. They fill their checkpoint as they go: a
tensor is drawn where it is first asked for, under the key that it has in the authors' files.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_hub.conversion.deblurgan_v2 import recognise
from deblur_hub.errors import ModelError
from deblur_hub.networks import build_network
from tests.conftest import TINY_RESNET

INCEPTION, MOBILE = "inception-resnet-v2", "mobilenetv2"


class Authors:
    """The authors' generator, by their keys.

    Args:
        width: of the pyramid (`num_filters_fpn`).
        norm: of the pyramid.
        stored: whether batch normalisation goes by its memory; the authors test without.
    """

    def __init__(self, backbone: str, width: int, *, norm: str = "instance", stored: bool = False) -> None:
        self.backbone, self.width, self.norm, self.stored = backbone, width, norm, stored
        self.tensors: dict[str, Tensor] = {}
        self.draw = torch.Generator().manual_seed(0)

    # --- layers

    def tensor(self, key: str, *shape: int, around: float = 0.0, spread: float = 1.0) -> Tensor:
        if key not in self.tensors:
            drawn = torch.randn(shape, generator=self.draw, dtype=torch.float64)
            self.tensors[key] = around + spread * drawn
        return self.tensors[key]

    def conv(self, x, key, channels, kernel, *, stride=1, padding=0, groups=1, bias=False):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        inputs = x.shape[1] // groups
        spread = (2 / (inputs * kernel[0] * kernel[1])) ** 0.5
        weight = self.tensor(f"{key}.weight", channels, inputs, *kernel, spread=spread)
        offset = self.tensor(f"{key}.bias", channels, spread=0.1) if bias else None
        return F.conv2d(x, weight, offset, stride, padding, groups=groups)

    def batch_norm(self, x, key, eps):
        channels = x.shape[1]
        weight = self.tensor(f"{key}.weight", channels, around=1, spread=0.2)
        bias = self.tensor(f"{key}.bias", channels, spread=0.2)
        mean = self.tensor(f"{key}.running_mean", channels, spread=0.2)
        variance = self.tensor(f"{key}.running_var", channels, spread=0.2).abs_().add_(0.5)
        self.tensors[f"{key}.num_batches_tracked"] = torch.tensor(7)
        if self.stored:
            return F.batch_norm(x, mean, variance, weight, bias, eps=eps)
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)

    def normed(self, x, key, channels):
        """Conv3, norm, ReLU of the pyramid."""
        x = self.conv(x, f"{key}.0", channels, 3, padding=1, bias=True)
        if self.norm == "batch":
            return self.batch_norm(x, f"{key}.1", 1e-5).relu()
        for buffer in ("running_mean", "running_var"):
            self.tensor(f"{key}.1.{buffer}", channels)
        self.tensors[f"{key}.1.num_batches_tracked"] = torch.tensor(7)
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
        return ((x - mean) / (variance + 1e-5).sqrt()).relu()

    # --- Inception-ResNet-v2, by the keys of `pretrainedmodels`

    def unit(self, x, key, channels, kernel, stride=1, padding=0):
        x = self.conv(x, f"{key}.conv", channels, kernel, stride=stride, padding=padding)
        return self.batch_norm(x, f"{key}.bn", 1e-3).relu()

    def chain(self, x, key, *units):
        for number, (channels, kernel, *others) in enumerate(units):
            x = self.unit(x, f"{key}.{number}", channels, kernel, *others)
        return x

    def inception_taps(self, x):
        net = "fpn.inception"
        taps = [self.unit(x, f"{net}.conv2d_1a", 32, 3, 2)]
        x = self.unit(self.unit(taps[0], f"{net}.conv2d_2a", 32, 3), f"{net}.conv2d_2b", 64, 3, 1, 1)
        taps.append(F.max_pool2d(x, 3, 2))
        x = self.unit(self.unit(taps[1], f"{net}.conv2d_3b", 80, 1), f"{net}.conv2d_4a", 192, 3)
        taps.append(F.max_pool2d(x, 3, 2))

        x, key = taps[2], f"{net}.mixed_5b"
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = torch.cat(
            [
                self.unit(x, f"{key}.branch0", 96, 1),
                self.chain(x, f"{key}.branch1", (48, 1), (64, 5, 1, 2)),
                self.chain(x, f"{key}.branch2", (64, 1), (96, 3, 1, 1), (96, 3, 1, 1)),
                self.unit(pooled, f"{key}.branch3.1", 64, 1),
            ],
            1,
        )
        for number in range(10):
            key = f"{net}.repeat.{number}"
            branches = [
                self.unit(x, f"{key}.branch0", 32, 1),
                self.chain(x, f"{key}.branch1", (32, 1), (32, 3, 1, 1)),
                self.chain(x, f"{key}.branch2", (32, 1), (48, 3, 1, 1), (64, 3, 1, 1)),
            ]
            x = (x + 0.17 * self.conv(torch.cat(branches, 1), f"{key}.conv2d", 320, 1, bias=True)).relu()
        key = f"{net}.mixed_6a"
        branches = [
            self.unit(x, f"{key}.branch0", 384, 3, 2),
            self.chain(x, f"{key}.branch1", (256, 1), (256, 3, 1, 1), (384, 3, 2)),
            F.max_pool2d(x, 3, 2),
        ]
        taps.append(torch.cat(branches, 1))

        x = taps[3]
        for number in range(20):
            key = f"{net}.repeat_1.{number}"
            branches = [
                self.unit(x, f"{key}.branch0", 192, 1),
                self.chain(x, f"{key}.branch1", (128, 1), (160, (1, 7), 1, (0, 3)), (192, (7, 1), 1, (3, 0))),
            ]
            x = (x + 0.10 * self.conv(torch.cat(branches, 1), f"{key}.conv2d", 1088, 1, bias=True)).relu()
        key = f"{net}.mixed_7a"
        branches = [
            self.chain(x, f"{key}.branch0", (256, 1), (384, 3, 2)),
            self.chain(x, f"{key}.branch1", (256, 1), (288, 3, 2)),
            self.chain(x, f"{key}.branch2", (256, 1), (288, 3, 1, 1), (320, 3, 2)),
            F.max_pool2d(x, 3, 2),
        ]
        return [*taps, torch.cat(branches, 1)]

    # --- MobileNetV2

    def layer(self, x, key, conv, channels, kernel=1, active=True, **options):
        x = self.conv(x, f"{key}.{conv}", channels, kernel, padding=kernel // 2, **options)
        x = self.batch_norm(x, f"{key}.{conv + 1}", 1e-5)
        return x.clamp(0, 6) if active else x

    def mobile_taps(self, x):
        x = self.layer(x, "fpn.features.0", 0, 32, 3, stride=2)
        taps, number = [], 1
        for wider, channels, strides in (
            (1, 16, [1]),
            (6, 24, [2, 1]),
            (6, 32, [2, 1, 1]),
            (6, 64, [2, 1, 1, 1]),
            (6, 96, [1, 1, 1]),
            (6, 160, [2, 1]),
        ):
            for stride in strides:
                key, given, place = f"fpn.features.{number}.conv", x, 0
                inside = x.shape[1] * wider
                if wider > 1:
                    x, place = self.layer(x, key, 0, inside), 3
                x = self.layer(x, key, place, inside, 3, stride=stride, groups=inside)
                x = self.layer(x, key, place + 3, channels, active=False)
                x = x + given if x.shape == given.shape else x
                number += 1
            if channels != 96:
                taps.append(x)
        return taps

    # --- the pyramid

    def __call__(self, blurred):
        width, half = self.width, self.width // 2
        taps = self.inception_taps(blurred) if self.backbone == INCEPTION else self.mobile_taps(blurred)
        laterals = [
            self.conv(tap, f"fpn.lateral{level}", half if level == 0 else width, 1) for level, tap in enumerate(taps)
        ]
        if self.backbone == INCEPTION:
            edges = [(0, 1), (1, 1), (1, 2), (1, 1), (1, 1)]
            laterals = [F.pad(one, edge * 2, mode="reflect") for one, edge in zip(laterals, edges, strict=True)]

        def up(x, times=2):
            return x.repeat_interleave(times, 2).repeat_interleave(times, 3)

        maps = [laterals[4]]
        for step in (1, 2, 3):
            maps.append(self.normed(laterals[4 - step] + up(maps[-1]), f"fpn.td{step}", width))
        seen = []
        for head, (x, times) in enumerate(zip(maps[::-1], (1, 2, 4, 8), strict=True)):
            for block in range(2):
                x = self.conv(x, f"head{head + 1}.block{block}", half, 3, padding=1).relu()
            seen.append(up(x, times))
        x = self.normed(torch.cat(seen[::-1], 1), "smooth", half)
        x = self.normed(up(x) + laterals[0], "smooth2", half // 2)
        x = self.conv(up(x), "final", 3, 3, padding=1, bias=True)
        return (x.tanh() + blurred).clamp(-1, 1)

    def checkpoint(self) -> dict[str, Tensor]:
        """What the authors' file holds: the tensors used so far, those never used, and the backbone's a second time."""
        tensors = dict(self.tensors)
        if self.backbone == INCEPTION:
            for key, shape in dead_of_inception():
                tensors[key] = torch.zeros(()).expand(shape)
            ends = (
                ("conv2d_1a", "0"),
                ("conv2d_2a", "1.0"),
                ("conv2d_2b", "1.1"),
                ("conv2d_3b", "2.0"),
                ("conv2d_4a", "2.1"),
                ("mixed_5b", "3.0"),
                ("repeat", "3.1"),
                ("mixed_6a", "3.2"),
                ("repeat_1", "4.0"),
                ("mixed_7a", "4.1"),
            )
            names = {f"fpn.inception.{own}.": f"fpn.enc{second}." for own, second in ends}
        else:
            for key, shape in dead_of_mobile():
                tensors[key] = torch.zeros(()).expand(shape)
            starts = (0, 2, 4, 7, 11, 16)
            names = {
                f"fpn.features.{number}.": f"fpn.enc{level}.{number - starts[level]}."
                for level in range(5)
                for number in range(starts[level], starts[level + 1])
            }
        for key in list(tensors):
            for own, second in names.items():
                if key.startswith(own):
                    tensors[second + key.removeprefix(own)] = tensors[key].clone()
        return tensors


def dead_norm(key, channels):
    return [(f"{key}.{leaf}", (channels,)) for leaf in ("weight", "bias", "running_mean", "running_var")] + [
        (f"{key}.num_batches_tracked", ())
    ]


def dead_of_inception():
    def unit(key, channels, inputs, tall=1, broad=1):
        shape = (channels, inputs, tall, broad)
        return [(f"fpn.inception.{key}.conv.weight", shape), *dead_norm(f"fpn.inception.{key}.bn", channels)]

    for block in [f"repeat_2.{number}" for number in range(9)] + ["block8"]:
        yield from unit(f"{block}.branch0", 192, 2080)
        yield from unit(f"{block}.branch1.0", 192, 2080)
        yield from unit(f"{block}.branch1.1", 224, 192, 1, 3)
        yield from unit(f"{block}.branch1.2", 256, 224, 3, 1)
        yield f"fpn.inception.{block}.conv2d.weight", (2080, 448, 1, 1)
        yield f"fpn.inception.{block}.conv2d.bias", (2080,)
    yield from unit("conv2d_7b", 1536, 2080)
    yield "fpn.inception.last_linear.weight", (1000, 1536)
    yield "fpn.inception.last_linear.bias", (1000,)


def dead_of_mobile():
    for number, channels in ((16, 160), (17, 320)):
        for place, shape in ((0, (960, 160, 1, 1)), (3, (960, 1, 3, 3)), (6, (channels, 960, 1, 1))):
            yield f"fpn.features.{number}.conv.{place}.weight", shape
            yield from dead_norm(f"fpn.features.{number}.conv.{place + 1}", shape[0])
    yield "fpn.features.18.0.weight", (1280, 320, 1, 1)
    yield from dead_norm("fpn.features.18.1", 1280)


def picture(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def loaded(converted, **options):
    network = build_network(converted.architecture, **converted.options | options).double().eval()
    network.load_state_dict(converted.tensors, strict=True)
    return network


@pytest.fixture(scope="module")
def mobile_file() -> dict[str, Tensor]:
    authors = Authors(MOBILE, 16)
    authors(picture(64, 64))
    return authors.checkpoint()


# --- what it computes --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "width", "published", "options"),
    [(MOBILE, 128, 3.31e6, {}), (INCEPTION, 256, 60.93e6, {"backbone": INCEPTION, "width": 256})],
)
def test_the_published_networks_come_over_whole(backbone, width, published, options):
    """The released files: every tensor used, or dropped for a reason; the output that of the authors' layers."""
    authors, blurred = Authors(backbone, width), picture(128, 160)
    expected = authors(blurred)
    file = authors.checkpoint()
    learned = [key for key in file if ".enc" not in key and not key.endswith(("_mean", "_var", "_tracked"))]
    assert sum(file[key].numel() for key in learned) == pytest.approx(published, abs=5e3)

    converted = recognise(file)
    assert converted.options == options
    assert len(converted.tensors) + len(converted.dropped) == len(file)
    assert converted.dropped.keys() <= file.keys()
    with torch.inference_mode():
        restored = loaded(converted)(blurred)
    assert (expected - blurred).abs().mean() > 0.1
    assert torch.allclose(restored, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "norm", "stored"),
    [
        (MOBILE, "instance", False),
        (MOBILE, "batch", False),
        (MOBILE, "instance", True),
        (MOBILE, "batch", True),
        (INCEPTION, "batch", True),
    ],
)
def test_either_norm_and_either_kind_of_statistics_comes_over(backbone, norm, stored):
    authors, blurred = Authors(backbone, 16, norm=norm, stored=stored), picture(128, 128)
    expected = authors(blurred)
    converted = recognise(authors.checkpoint())
    assert converted.options.get("norm", "instance") == norm and converted.options["width"] == 16
    with torch.inference_mode():
        restored = loaded(converted, statistics="stored" if stored else "frame")(blurred)
    assert (expected - blurred).abs().mean() > 0.1
    assert torch.allclose(restored, expected, atol=1e-6)


# --- what is dropped, and what is refused ------------------------------------------------------------------------


def test_what_is_dropped_says_why(mobile_file):
    dropped = recognise(mobile_file).dropped
    assert dropped["fpn.enc1.0.conv.3.weight"] == "the same tensor as 'fpn.features.2.conv.3.weight'"
    assert dropped["fpn.features.18.0.weight"] == "belongs to the end of the classifier, which is never run"
    assert dropped["smooth2.1.running_var"] == "a memory of instance normalisation, which goes by the frame itself"


def test_a_file_without_second_names_or_with_those_alone_comes_over_as_well(mobile_file):
    expected = recognise(mobile_file).tensors
    for left_out in ("fpn.enc", "fpn.features"):
        file = {key: tensor for key, tensor in mobile_file.items() if not key.startswith(left_out)}
        found = recognise(file).tensors
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_file_from_before_batches_were_counted_comes_over(mobile_file):
    file = {key: tensor for key, tensor in mobile_file.items() if not key.endswith("num_batches_tracked")}
    loaded(recognise(file))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda file: file | {"fpn.enc1.0.conv.3.weight": file["fpn.enc1.0.conv.3.weight"] + 1},
            "'fpn.enc1.0.conv.3.weight' and 'fpn.features.2.conv.3.weight' are two names of one tensor, but differ",
        ),
        (lambda file: without(file, "smooth.0.bias"), "lacks 'smooth.0.bias'"),
        (lambda file: without(file, "fpn.td"), "has no 'fpn.td1', the convolutions on the way down the pyramid"),
        (
            lambda file: file | {"fpn.extra.weight": torch.zeros(3)},
            "has besides 'fpn.extra.weight'",
        ),
        (
            lambda file: file | {"fpn.enc1.9.weight": torch.zeros(3)},
            "has besides 'fpn.enc1.9.weight'",
        ),
        (lambda file: file | {"fpn.lateral4.weight": torch.zeros(30, 160, 1, 1)}, "a pyramid of 30 channels"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(mobile_file, change, sentence):
    with pytest.raises(ModelError) as error:
        recognise(change(mobile_file))
    assert sentence in str(error.value) and "DeblurGAN-v2 (VITA-Group)" in str(error.value)


def without(file, start):
    return {key: tensor for key, tensor in file.items() if not key.startswith(start)}


def test_files_of_other_networks_are_left_to_others(mobile_file):
    densenet = without(mobile_file, "fpn.features") | {"fpn.features.conv0.weight": torch.zeros(64, 3, 7, 7)}
    assert recognise(without(densenet, "fpn.enc")) is None
    assert recognise({}) is None
    assert recognise(build_network("resnet", **TINY_RESNET).state_dict()) is None
    assert recognise(build_network("fpn", width=8).state_dict()) is None
    assert recognise({key: torch.zeros(3) for key in ("fpn.lateral0.weight", "final.weight")}) is None
