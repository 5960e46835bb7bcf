"""What every generator shares: any size in and out, what it says of itself, and its way through a frame in stages."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from .description import Description, multiply_adds

Layer = TypeVar("Layer", bound=nn.Module)
Read = Callable[[range, range], Tensor]  # (N, 3, h, w) in [-1, 1] at rows and columns, beyond the picture by reflection
Piece = tuple[int, int, Tensor]  # a picture's part: the first row, the first column, and (N, 3, h, w) from there on


class Stage(NamedTuple):
    """One leg of a generator's way through a frame; a large frame is computed leg by leg, each in tiles.

    Every tensor is (N, C, H / s, W / s) with an s of its own that divides the generator's `size_multiple`.
    """

    run: Callable[
        ..., Tensor
    ]  # from `reads` to `writes`; but for the layers of `frame` it sees no farther than `reach`
    reads: tuple[str, ...]  # earlier results, in the order that `run` takes them; "blurred" is the padded frame itself
    writes: str  # the result, which may be one of `reads`; "restored" for the last stage
    reach: int | None  # in pixels of the frame; None where it has no bound or depends on the place: no tiles then


class Quality(NamedTuple):
    """A step between quick and good at which a network can restore."""

    depth: int  # how much of the network runs; what that counts is the network's own
    halved: bool = False  # on the picture at half its size, to whose result the picture's own fine detail is added
    refined: bool = False  # a refiner of that step's own has the last word


class Generator(nn.Module):
    """Base of all generators: (N, 3, H, W) in [-1, 1] to the same, for any H and W from 1 up.

    `forward` pads by reflection, at the bottom and the right, to the network's own multiple, and crops back; what it
    gives is not clamped, unless a class says so. A network that restores at several scales returns their list in
    training, coarse to fine, each (N, 3, H / s, W / s) rounded up, and the finest alone in evaluation.

    A subclass defines `compute`, or, if layers of it look at the whole frame, `stages` that share the work well.
    """

    size_multiple: int = 1  # H and W inside are multiples of it
    smallest_side: int = 1  # H and W inside are at least this: reflection padding needs something to reflect
    receptive_field: int | None = None  # how far, in pixels, an input can reach; None for the whole frame
    reach: int | None = None  # the same with the statistics of the frame held fixed
    values_per_pixel: int = 64  # activation values a pixel of the input costs at the peak, for choosing tiles
    source: str = ""  # the paper that the design is from
    licence: str = ""  # of the authors' code; ours is written anew
    note: str = ""  # where what is printed elsewhere differs: which count is meant

    def forward(self, blurred: Tensor) -> Tensor | list[Tensor]:
        height, width = blurred.shape[-2:]
        rows, columns = range(self.padded(height)), range(self.padded(width))
        restored = self.compute(reflect(blurred, rows, columns))
        if isinstance(restored, Tensor):
            return restored[..., :height, :width]
        scales = [len(rows) // output.shape[-2] for output in restored]
        return [x[..., : -(-height // s), : -(-width // s)] for x, s in zip(restored, scales, strict=True)]

    def padded(self, side: int) -> int:
        """The side, in pixels, that a side of the picture is padded to."""
        return -(-max(side, self.smallest_side) // self.size_multiple) * self.size_multiple

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        """`forward` for H and W that are multiples of `size_multiple`."""
        return follow(self.stages(), blurred)

    def stages(self) -> list[Stage]:
        """The way through a frame in evaluation; here, all of it in one."""
        reach = self.reach if self.receptive_field is None else self.receptive_field
        whole = cast(Callable[[Tensor], Tensor], self.compute)  # in evaluation there is one result
        return [Stage(whole, ("blurred",), "restored", reach)]

    def describe(self, size: tuple[int, int] = (1280, 720)) -> Description:
        """What this network is and costs for a picture of (width, height); nothing is computed but shapes."""
        return Description(
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            multiply_adds=self.cost(size),
            size=size,
            tiles=all(stage.reach is not None for stage in self.stages()),
            size_multiple=self.size_multiple,
            receptive_field=self.receptive_field,
            source=self.source,
            licence=self.licence,
            note=self.note,
        )

    def cost(self, size: tuple[int, int]) -> int:
        """Multiply-adds of a picture of (width, height)."""
        return multiply_adds(self, size)


def follow(stages: Sequence[Stage], blurred: Tensor) -> Tensor:
    """Runs the stages one after another on whole tensors, and lets go of each tensor behind its last reader."""
    held = {"blurred": blurred}
    for number, stage in enumerate(stages):
        held[stage.writes] = stage.run(*(held[name] for name in stage.reads))
        for name in unread(held, stages[number + 1 :]):
            del held[name]
    return held["restored"]


def unread(held: dict[str, Tensor], later: Sequence[Stage]) -> list[str]:
    """The names that no later stage reads before it is written anew."""
    wanted, written = set(), set()
    for stage in later:
        wanted |= {name for name in stage.reads if name not in written}
        written.add(stage.writes)
    return [name for name in held if name not in wanted and name != "restored"]


def reflect(picture: Tensor, rows: range, columns: range) -> Tensor:
    """(..., H, W) read at rows and columns that may lie beyond it, where it is reflected as often as needed."""
    for axis, wanted in ((-2, rows), (-1, columns)):
        length = picture.shape[axis]
        if wanted.start >= 0 and wanted.stop <= length:
            picture = picture.narrow(axis, wanted.start, len(wanted))
            continue
        picture = picture.index_select(axis, reflected(wanted, length).to(picture.device))
    return picture


def reflected(wanted: range, length: int) -> Tensor:
    """(len(wanted),) the places below `length` that stand at places of any number."""
    period = max(1, 2 * (length - 1))
    at = torch.arange(wanted.start, wanted.stop).remainder(period)
    return torch.minimum(at, period - at).clamp_(max=length - 1)


def reflecting(read: Read, size: tuple[int, int]) -> Read:
    """Reads beyond a picture of (height, width) what `read` gives within it."""

    def read_anywhere(rows: range, columns: range) -> Tensor:
        places = [reflected(wanted, length) for wanted, length in zip((rows, columns), size, strict=True)]
        starts = [int(at.min()) for at in places]
        part = read(*(range(start, int(at.max()) + 1) for start, at in zip(starts, places, strict=True)))
        for axis, start, at in zip((-2, -1), starts, places, strict=True):
            if at[0] != start or len(at) != part.shape[axis]:
                part = part.index_select(axis, at - start)
        return part

    return read_anywhere


def gathered(pieces: Iterable[Piece], like: Tensor) -> Tensor:
    """(N, 3, H, W) of all pieces of a picture."""
    return fill(torch.empty_like(like), pieces)


def fill(whole: Tensor, pieces: Iterable[Piece]) -> Tensor:
    """Puts pieces where they belong in (N, 3, H, W), and returns it."""
    for top, left, piece in pieces:
        whole[..., top : top + piece.shape[-2], left : left + piece.shape[-1]] = piece
    return whole


def of_kind(kind: type[Layer], layers: Iterable[nn.Module]) -> list[Layer]:
    """The layers of a list or a sequence, all of one class, which PyTorch does not tell a type checker."""
    return cast(list[Layer], list(layers))


class ResidualBlock(nn.Module):
    """x + Conv(ReLU(Conv(x))), as in EDSR (Lim et al., CVPRW 2017, fig. 2c); with a slope, a leaky ReLU."""

    def __init__(self, width: int, *, kernel: int = 3, dilation: int = 1, slope: float = 0.0) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.first = nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation)
        self.second = nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation)
        self.activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(self.activation(self.first(features)))


def residual_blocks(width: int, depth: int, *, kernel: int = 3, slope: float = 0.0) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, kernel=kernel, slope=slope) for _ in range(depth)))


def zero_bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Starts a convolution without a bias, where it has one."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
