"""MAXIM with a refiner behind it: a small network that sees the photo and MAXIM's result, and has the last word."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from .base import Generator, Quality, reflect
from .compact import CompactGenerator
from .maxim import MaximGenerator

Refined = Literal["fast", "balanced", "best", "all"]
STEPS = {"fast": Quality(1, halved=True, refined=True), "balanced": Quality(1, refined=True)}
SHARED = "every"  # the name of a refiner that all steps share
COLOURS = 3


class Refiner(CompactGenerator):
    """The U-Net of `compact` over two pictures: what is added to a restored one, and how far it is believed.

    Beside a residual, the head gives each pixel a trust t; the refined picture is
    restored + residual + t (blurred - restored). With fresh weights both are zero, and the refiner adds nothing.

    Args:
        widths, blocks, unshuffle: those of `CompactGenerator`.
    """

    def __init__(
        self, *, widths: tuple[int, ...] = (64, 128, 256), blocks: tuple[int, ...] = (1, 2, 4), unshuffle: int = 4
    ) -> None:
        super().__init__(widths=widths, blocks=blocks, unshuffle=unshuffle)
        inputs, outputs = 2 * COLOURS * unshuffle**2, (COLOURS + 1) * unshuffle**2
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.head = nn.Conv2d(widths[0], outputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(cast(Tensor, self.head.bias))

    def refine(self, blurred: Tensor, restored: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] each, H and W multiples of `size_multiple`, to the same (not clamped)."""
        said = self.unfold(self.decode(self.stem(torch.cat([self.fold(blurred), self.fold(restored)], dim=1))))
        residual, trust = said.float().split([COLOURS, 1], dim=1)
        return restored + residual + trust * (blurred - restored)

    @torch.no_grad()
    def begin_from(self, compact: CompactGenerator) -> None:
        """Starts as the mean of the restored picture and of what `compact` makes of the photo.

        Raises:
            ValueError: if it has other widths or blocks.
        """
        weights = compact.state_dict()
        own = self.state_dict()
        alike = {key for key in own if key.partition(".")[0] not in ("stem", "head")}
        inputs, outputs = weights["stem.weight"].shape[1], weights["head.weight"].shape[0]
        if alike != {key for key in weights if key.partition(".")[0] not in ("stem", "head")} or any(
            weights[key].shape != own[key].shape for key in alike
        ):
            raise ValueError("its widths or blocks are not the refiner's")
        for key in alike:
            own[key].copy_(weights[key])
        nn.init.zeros_(self.stem.weight)
        self.stem.weight[:, :inputs].copy_(weights["stem.weight"])
        own["stem.bias"].copy_(weights["stem.bias"])
        nn.init.zeros_(self.head.weight)
        self.head.weight[:outputs].copy_(weights["head.weight"] / 2)
        own["head.bias"][:outputs].copy_(weights["head.bias"] / 2)
        own["head.bias"][outputs:].fill_(1 / 2)


class RefinedMaximGenerator(MaximGenerator):
    """MAXIM with refiners behind its steps; ours, on the network of Tu et al. (CVPR 2022).

    `fast` is the first stage at half width and height: the thinking is done at half the size, and the last octave is
    the refiner's. Behind the full-size steps a refiner knows when to believe them: MAXIM was trained on clean frames
    of one camera, and noise, JPEG and sharp photos mislead it.

    Args:
        width, stages: those of `MaximGenerator`.
        refined: the step that has a refiner, or all of them.
        shared: whether the steps share one refiner, which knows none of them by name: it sees the photo and the
            result, and judges.
        crisp: whether every refiner has a partner that is trained against a critic, see `crispness`.
        refiner_widths, refiner_blocks, refiner_unshuffle: of `Refiner`.

    In training `forward` also takes what the step makes of the photo without its refiner, where that is kept.
    """

    size_multiple = 16
    source = "ours; MAXIM: Tu et al., CVPR 2022, arXiv 2201.02973"

    def __init__(
        self,
        *,
        width: int = 32,
        stages: Literal[1, 2, 3] = 1,
        refined: Refined = "fast",
        shared: bool = False,
        crisp: bool = False,
        refiner_widths: tuple[int, ...] = (64, 128, 256),
        refiner_blocks: tuple[int, ...] = (1, 2, 4),
        refiner_unshuffle: int = 4,
    ) -> None:
        super().__init__(width=width, stages=stages, coarse_outputs=False)
        steps = STEPS | ({"best": Quality(stages, refined=True)} if stages > 1 else {})
        names = list(steps) if refined == "all" else [refined]
        if refined == "best" and stages == 1:
            raise ValueError("a network of one stage has no step 'best'; set stages to 2 or 3")
        kept = [SHARED] if shared else names
        sizes: dict[str, Any] = {"widths": refiner_widths, "blocks": refiner_blocks, "unshuffle": refiner_unshuffle}
        self.refiners = nn.ModuleDict({name: Refiner(**sizes) for name in kept})
        self.crisp = nn.ModuleDict({name: Refiner(**sizes) for name in kept} if crisp else {})
        self.crisp_leads = False  # whether the crisp refiners are those that restore: while they are trained
        self.crisp_begun = False
        order = ["draft", "fast", "balanced", "best"]
        self.qualities |= {name: steps[name] for name in names}
        self.qualities = {name: self.qualities[name] for name in order if name in self.qualities}
        self.size_multiple = cast(Refiner, self.refiners[kept[0]]).size_multiple
        self.last_refined = names[-1]
        self.trained = self.qualities[names[-1]]
        trained = names if shared else names[-1:]
        self.unrefined = tuple(self.qualities[name]._replace(refined=False) for name in trained)

    @property
    def best(self) -> Quality:
        """The best of the refined steps: of a network with a fast one alone, that."""
        return self.trained

    def forward(self, blurred: Tensor, restored: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) in [-1, 1], for any H and W, to the same.

        Args:
            restored: (N, 3, H, W), in training alone: what a step of `unrefined` gives; else the last of them is
                computed, with gradients.
        """
        if not self.training:
            return self.restore(blurred, self.trained)
        if restored is None:
            restored = self.restore(blurred, self.unrefined[-1])
        height, width = blurred.shape[-2:]
        rows, columns = range(self.padded(height)), range(self.padded(width))
        given = reflect(blurred, rows, columns), reflect(restored, rows, columns)
        return self.refine(*given, self.trained)[..., :height, :width]

    def refine(self, blurred: Tensor, restored: Tensor, quality: Quality) -> Tensor:
        name = next(name for name, step in self.qualities.items() if step == quality)
        refiners = self.crisp if self.crisp_leads else self.refiners
        refiner = refiners[SHARED if SHARED in refiners else name]
        return cast(Refiner, refiner).refine(blurred, restored)

    def crisp_weights(self) -> dict[str, Tensor]:
        """The crisp refiners' weights by the names of those that they are partners of; none if there are none."""
        return {f"refiners.{key}": weight for key, weight in self.crisp.state_dict().items()}

    def leave_unrefined_steps(self) -> None:
        """Keeps to the steps that have a refiner, as those without know nothing of crispness."""
        self.qualities = {name: step for name, step in self.qualities.items() if step.refined}

    def lead_with_crisp(self) -> None:
        """Restores by the crisp refiners from now on, to train them; they begin as the others, if not begun already."""
        if not self.crisp:
            raise ValueError("it has no crisp refiners; set network.crisp to true")
        if not self.crisp_begun:
            self.crisp.load_state_dict(self.refiners.state_dict())
        self.crisp_leads = self.crisp_begun = True
        self.refiners.requires_grad_(False)

    def begin_from(self, other: Generator) -> bool:
        """Takes over what another network has for this one: MAXIM's stages, the refiners of some of its steps, or
        `compact` for every refiner.

        Returns:
            Whether it has any.

        Raises:
            ValueError: if its options do not fit.
        """
        if isinstance(other, RefinedMaximGenerator):
            return self.take_refiners(other)
        if isinstance(other, CompactGenerator):
            for refiner in self.refiners.values():
                cast(Refiner, refiner).begin_from(other)
            return True
        if not isinstance(other, MaximGenerator):
            return False
        stages = len(self.unets)
        weights = {key: tensor for key, tensor in other.unets.state_dict().items() if int(key.split(".")[0]) < stages}
        if stages < len(other.unets):
            weights = ended(weights, stages - 1)
        last = f"{stages - 1}.outputs."
        weights = {key: t for key, t in weights.items() if not key.startswith(last) or key.startswith(f"{last}0.")}
        wanted = self.unets.state_dict()
        if wanted.keys() != weights.keys() or any(wanted[key].shape != weights[key].shape for key in wanted):
            raise ValueError("its width, stages or outputs are not this network's")
        self.unets.load_state_dict(weights)
        return True

    def take_refiners(self, other: "RefinedMaximGenerator") -> bool:
        """Those that both have; and MAXIM's part, if it has as many stages."""
        taken = {name: name for name in other.refiners if name in self.refiners}
        if SHARED in self.refiners and not taken and len(other.refiners) == 1:
            taken = {SHARED: next(iter(other.refiners))}
        if SHARED in other.refiners and not taken:
            taken = dict.fromkeys(self.refiners, SHARED)
        if not taken:
            raise ValueError(f"it has refiners of {', '.join(other.refiners)} alone")
        for name, its in taken.items():
            weights, wanted = other.refiners[its].state_dict(), self.refiners[name].state_dict()
            if wanted.keys() != weights.keys() or any(wanted[key].shape != weights[key].shape for key in wanted):
                raise ValueError("its refiners have other widths or blocks")
            self.refiners[name].load_state_dict(weights)
            if self.crisp and its in other.crisp:
                self.crisp[name].load_state_dict(other.crisp[its].state_dict())
                self.crisp_begun = True
        weights, wanted = other.unets.state_dict(), self.unets.state_dict()
        if wanted.keys() == weights.keys():
            if any(wanted[key].shape != weights[key].shape for key in wanted):
                raise ValueError("its width is not this network's")
            self.unets.load_state_dict(weights)
        return True


def ended(weights: dict[str, Tensor], last: int) -> dict[str, Tensor]:
    """Weights of stages of which the last hands nothing on any more: its picture becomes the network's output."""
    kept = {key: tensor for key, tensor in weights.items() if not key.startswith(f"{last}.attentions.")}
    for part in ("weight", "bias"):
        kept[f"{last}.outputs.0.{part}"] = weights[f"{last}.attentions.0.picture.{part}"]
    return kept
