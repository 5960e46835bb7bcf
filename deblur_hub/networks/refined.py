"""MAXIM with a refiner behind it: a small network that sees the photo and MAXIM's result, and has the last word."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from .base import Generator, Quality, reflect, zero_bias
from .compact import CompactGenerator
from .maxim import MaximGenerator

Refined = Literal["fast", "full", "all"]
STEPS = {"fast": Quality(1, halved=True, refined=True), "balanced": Quality(1, refined=True)}
REFINERS = {"fast": "fast", "balanced": "full", "best": "full"}  # of each step
COLOURS = 3


class Refiner(CompactGenerator):
    """The U-Net of `compact` over two pictures: what is added to a restored one, and how far it is believed.

    Beside a residual, the head gives each pixel a trust t; the refined picture is
    restored + residual + t (blurred - restored). With fresh weights both are zero, and the refiner adds nothing.
    """

    def __init__(self, *, widths: tuple[int, ...], blocks: tuple[int, ...], unshuffle: int) -> None:
        super().__init__(widths=widths, blocks=blocks, unshuffle=unshuffle)
        inputs, outputs = 2 * COLOURS * unshuffle**2, (COLOURS + 1) * unshuffle**2
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.head = nn.Conv2d(widths[0], outputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        zero_bias(self.head)

    def refine(self, blurred: Tensor, restored: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] each, H and W multiples of `size_multiple`, to the same (not clamped)."""
        said = self.unfold(self.decode(self.stem(torch.cat([self.fold(blurred), self.fold(restored)], dim=1))))
        residual, trust = said.float().split([COLOURS, 1], dim=1)
        return restored + residual + trust * (blurred - restored)

    @torch.no_grad()
    def begin_from(self, compact: CompactGenerator) -> None:
        """Starts as the mean of the restored picture and of what `compact`, of the same widths, makes of the photo."""
        weights, own = compact.state_dict(), self.state_dict()
        inputs, outputs = weights["stem.weight"].shape[1], weights["head.weight"].shape[0]
        inner, theirs = (
            {key: held[key] for key in held if not key.startswith(("stem.", "head."))} for held in (own, weights)
        )
        require_same_shapes(theirs, inner, "its widths or blocks are not the refiner's")
        for key, weight in inner.items():
            weight.copy_(theirs[key])
        nn.init.zeros_(self.stem.weight)
        self.stem.weight[:, :inputs].copy_(weights["stem.weight"])
        own["stem.bias"].copy_(weights["stem.bias"])
        nn.init.zeros_(self.head.weight)
        self.head.weight[:outputs].copy_(weights["head.weight"] / 2)
        own["head.bias"][:outputs].copy_(weights["head.bias"] / 2)
        own["head.bias"][outputs:].fill_(1 / 2)


class RefinedMaximGenerator(MaximGenerator):
    """MAXIM with refiners behind its steps; ours, on the network of Tu et al. (CVPR 2022).

    `fast` is the first stage at half width and height, whose refiner adds the last octave. The full-size steps share
    one, which knows when to believe them: MAXIM was trained on clean frames of one camera, and noise, JPEG and sharp
    photos mislead it.

    Args:
        width, stages: those of `MaximGenerator`.
        refined: what has a refiner: the step `fast`, the full-size ones, or all.
        crisp: whether the refiner of `fast` has a partner that is trained against a critic, see `crispness`.
        refiner_widths, refiner_blocks, refiner_unshuffle: of `Refiner`.

    One refiner is trained at a time: that of the full-size steps, if there is one, else that of `fast`; or the crisp
    one, after `lead_with_crisp`.
    """

    size_multiple = 16
    source = "ours; MAXIM: Tu et al., CVPR 2022, arXiv 2201.02973"

    def __init__(
        self,
        *,
        width: int = 32,
        stages: Literal[1, 2, 3] = 1,
        refined: Refined = "fast",
        crisp: bool = False,
        refiner_widths: tuple[int, ...] = (64, 128, 256),
        refiner_blocks: tuple[int, ...] = (1, 2, 4),
        refiner_unshuffle: int = 4,
    ) -> None:
        super().__init__(width=width, stages=stages, coarse_outputs=False)
        if crisp and refined == "full":
            raise ValueError("the crisp refiner is the partner of that of 'fast'; set refined to 'fast' or 'all'")
        kept = ["fast", "full"] if refined == "all" else [refined]
        steps = STEPS | ({"best": Quality(stages, refined=True)} if stages > 1 else {})
        steps = {name: step for name, step in steps.items() if REFINERS[name] in kept}
        sizes: dict[str, Any] = {"widths": refiner_widths, "blocks": refiner_blocks, "unshuffle": refiner_unshuffle}
        self.refiners = nn.ModuleDict({name: Refiner(**sizes) for name in kept})
        self.crisp = nn.ModuleDict({"fast": Refiner(**sizes)} if crisp else {})
        self.crisp_leads = self.crisp_begun = False
        known = self.qualities | steps
        self.qualities = {name: known[name] for name in ("draft", *REFINERS) if name in known}
        self.size_multiple = cast(Refiner, self.refiners[kept[0]]).size_multiple
        self.trained = [step for name, step in steps.items() if REFINERS[name] == kept[-1]]

    @property
    def best(self) -> Quality:
        """All stages at full size, if there are several; else the best of the refined steps."""
        return self.qualities.get("best", self.trained[-1])

    @property
    def unrefined(self) -> list[Quality]:
        """The steps that are trained, without their refiner."""
        return [step._replace(refined=False) for step in self.trained]

    def forward(self, blurred: Tensor, restored: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) in [-1, 1], for any H and W, to the same.

        Args:
            restored: in training, what a step of `unrefined` gives; else the last of them is computed, with gradients.
        """
        if not self.training:
            return self.restore(blurred, self.best)
        if restored is None:
            restored = self.restore(blurred, self.unrefined[-1])
        height, width = blurred.shape[-2:]
        rows, columns = range(self.padded(height)), range(self.padded(width))
        given = reflect(blurred, rows, columns), reflect(restored, rows, columns)
        return self.refine(*given, self.trained[-1])[..., :height, :width]

    def refine(self, blurred: Tensor, restored: Tensor, quality: Quality) -> Tensor:
        name = next(name for name, step in self.qualities.items() if step == quality)
        refiners = self.crisp if self.crisp_leads else self.refiners
        return cast(Refiner, refiners[REFINERS[name]]).refine(blurred, restored)

    def crisp_weights(self) -> dict[str, Tensor]:
        """The crisp refiner's weights by the names of those that it is the partner of; none if there is none."""
        return {f"refiners.{key}": weight for key, weight in self.crisp.state_dict().items()}

    def keep_to_fast(self) -> None:
        """Restores at `fast` alone from now on, the one step that knows of crispness."""
        self.qualities, self.trained = {"fast": STEPS["fast"]}, [STEPS["fast"]]

    def lead_with_crisp(self) -> None:
        """Restores by the crisp refiner from now on, to train it; it begins as its partner, if it has not begun yet."""
        if not self.crisp_begun:
            self.crisp["fast"].load_state_dict(self.refiners["fast"].state_dict())
        self.crisp_leads = self.crisp_begun = True
        self.keep_to_fast()
        self.refiners.requires_grad_(False)

    def begin_from(self, other: Generator) -> bool:
        """Takes over MAXIM's stages, the refiners of some steps, or `compact` for every refiner; whether it could.

        Raises:
            ValueError: if the other's options do not fit.
        """
        if isinstance(other, CompactGenerator):
            for refiner in self.refiners.values():
                cast(Refiner, refiner).begin_from(other)
            return True
        if not isinstance(other, MaximGenerator):
            return False
        if isinstance(other, RefinedMaximGenerator):
            self.take_refiners(other)
            if len(other.unets) < len(self.unets):
                return True
        self.take_stages(other)
        return True

    def take_stages(self, other: MaximGenerator) -> None:
        """The first of MAXIM's stages, as many as there are here."""
        stages = len(self.unets)
        weights = {key: tensor for key, tensor in other.unets.state_dict().items() if int(key.split(".")[0]) < stages}
        if stages < len(other.unets):
            weights = ended(weights, stages - 1)
        last = f"{stages - 1}.outputs."
        weights = {key: t for key, t in weights.items() if not key.startswith(last) or key.startswith(f"{last}0.")}
        require_same_shapes(weights, self.unets.state_dict(), "its width, stages or outputs are not this network's")
        self.unets.load_state_dict(weights)

    def take_refiners(self, other: "RefinedMaximGenerator") -> None:
        """Those that both have; where there is none of these, its only one for every one here, to begin with."""
        taken = [name for name in other.refiners if name in self.refiners]
        if not taken and len(other.refiners) == 1:
            taken = list(self.refiners)
        if not taken:
            raise ValueError(f"it has refiners of {', '.join(other.refiners)} alone")
        for name in taken:
            source = other.refiners[name if name in other.refiners else next(iter(other.refiners))]
            weights = source.state_dict()
            require_same_shapes(weights, self.refiners[name].state_dict(), "its refiners have other widths or blocks")
            self.refiners[name].load_state_dict(weights)
            if name in self.crisp and name in other.crisp:
                self.crisp[name].load_state_dict(other.crisp[name].state_dict())
                self.crisp_begun = True


def require_same_shapes(weights: dict[str, Tensor], wanted: dict[str, Tensor], message: str) -> None:
    """Raises ValueError unless both hold weights of the same names and shapes."""
    shapes, wanted_shapes = ({key: weight.shape for key, weight in held.items()} for held in (weights, wanted))
    if shapes != wanted_shapes:
        raise ValueError(message)


def ended(weights: dict[str, Tensor], last: int) -> dict[str, Tensor]:
    """Weights of stages of which the last hands nothing on any more: its picture becomes the network's output."""
    kept = {key: tensor for key, tensor in weights.items() if not key.startswith(f"{last}.attentions.")}
    for part in ("weight", "bias"):
        kept[f"{last}.outputs.0.{part}"] = weights[f"{last}.attentions.0.picture.{part}"]
    return kept
