"""What generator and critic strive for against each other: from their networks and pictures to the losses of both.

A critic at several scales has the mean of its scales' losses.
"""

from collections.abc import Iterable

import torch
from accelerate.utils import gather
from torch import Tensor, nn

from ..recipe import Adversarial
from .pixels import cross_entropy, relativistic_least_squares, wasserstein


class AdversarialLoss:
    """Base: a pair of losses of scores. A subclass defines `judges`, and `deceives` or `of_generator`.

    A subclass that remembers something from step to step hands it over in `state`, for `load_state`.
    """

    def of_critic(
        self, critic: nn.Module, restored: Tensor, sharp: Tensor, *, share: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss, and what of it is for the log.

        Args:
            critic: pictures to scores, as in `critics`; it runs once, as data-parallel wrappers want one forward for
                each backward.
            restored, sharp: (N, 3, H, W) in [-1, 1].
            share: (N,), uniform in [0, 1], for losses that mix the two.
        """
        pairs = [scores.chunk(2) for scores in scales(critic(torch.cat([restored, sharp]), batches=2))]
        of_restored, of_sharp = (mean(scores.detach().mean() for scores in side) for side in zip(*pairs, strict=True))
        return mean(self.judges(*pair) for pair in pairs), {"restored": of_restored, "sharp": of_sharp}

    def of_generator(self, critic: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
        """The generator's loss; arguments as for the critic's."""
        return mean(self.deceives(scores) for scores in scales(critic(restored)))

    def judges(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        raise NotImplementedError

    def deceives(self, of_restored: Tensor) -> Tensor:
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Of checkpoints that hold none, `state` is empty."""


class Wasserstein(AdversarialLoss):
    """E[D(restored)] - E[D(sharp)], and -E[D(restored)], with nothing that keeps the critic's slope at bay."""

    def judges(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        return wasserstein(of_restored, of_sharp)

    def deceives(self, of_restored: Tensor) -> Tensor:
        return -of_restored.mean()


class PenalisedWasserstein(Wasserstein):
    """WGAN-GP (Gulrajani et al., NIPS 2017, eq. 3): E[D(restored)] - E[D(sharp)] + penalty * E[(|grad D(mix)| - 1)^2].

    D of a picture is the mean of its map of scores, and the norm is that of the gradient over the whole picture; the
    released DeblurGAN takes it over the channels of each pixel, which bounds something else. `share` says how much of
    the sharp picture is in each mix. D of a picture must not depend on the rest of its batch.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def of_critic(
        self, critic: nn.Module, restored: Tensor, sharp: Tensor, *, share: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        share = share.to(sharp).view(-1, 1, 1, 1)
        mix = (share * sharp + (1 - share) * restored).requires_grad_()
        distances, deviations = [], []
        for scores in scales(critic(torch.cat([restored, sharp, mix]))):
            of_restored, of_sharp, of_mix = scores.mean(dim=(1, 2, 3)).chunk(3)
            (gradient,) = torch.autograd.grad(of_mix.sum(), mix, create_graph=True)
            distances.append(-self.judges(of_restored, of_sharp))
            deviations.append((gradient.flatten(1).norm(dim=1) - 1).square().mean())
        distance, deviation = mean(distances), mean(deviations)
        log = {"wasserstein": distance.detach(), "penalty": deviation.detach()}
        return -distance + self.penalty * deviation, log


class RelativisticLeastSquares(AdversarialLoss):
    """RaGAN-LS of DeblurGAN-v2: sharp pictures score 1 more than restored ones do on average, or the other way.

    Of several processes, each takes the averages over its own part of the batch.
    """

    def judges(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        return relativistic_least_squares(of_sharp, of_restored)

    def of_generator(self, critic: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
        judged = scales(critic(torch.cat([restored, sharp]), batches=2))
        return mean(relativistic_least_squares(*scores.chunk(2)) for scores in judged)


class PooledLeastSquares(RelativisticLeastSquares):
    """RaGAN-LS as the released code of DeblurGAN-v2 has it, whose batches are of one picture.

    Scores are compared with the means over the last `size` restored and sharp pictures that the critic has learned
    from, the present ones among them, for each scale of the critic by itself. No gradient flows through these means.
    All processes remember all pictures, in the order of the batch, so that their number changes nothing.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.remembered: dict[str, Tensor] = {}  # scale -> (2, at most `size`): of restored pictures and of sharp ones

    def of_critic(
        self, critic: nn.Module, restored: Tensor, sharp: Tensor, *, share: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = [scores.chunk(2) for scores in scales(critic(torch.cat([restored, sharp]), batches=2))]
        for scale, pair in enumerate(pairs):
            self.remember(str(scale), *pair)
        loss = mean(
            relativistic_least_squares(of_sharp, of_restored, mean_of_better=mean_sharp, mean_of_worse=mean_restored)
            for (of_restored, of_sharp), (mean_restored, mean_sharp) in zip(pairs, self.means(), strict=True)
        )
        of_restored, of_sharp = (mean(scores.detach().mean() for scores in side) for side in zip(*pairs, strict=True))
        return loss, {"restored": of_restored, "sharp": of_sharp}

    def of_generator(self, critic: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
        """After `of_critic` of the same step, whose scores it is compared with."""
        with torch.no_grad():  # a part of the loss's value, of which the generator has no gradient
            of_sharp = scales(critic(sharp))
        of_restored = scales(critic(restored))
        return mean(
            relativistic_least_squares(better, worse, mean_of_better=mean_restored, mean_of_worse=mean_sharp)
            for better, worse, (mean_restored, mean_sharp) in zip(of_restored, of_sharp, self.means(), strict=True)
        )

    def remember(self, scale: str, of_restored: Tensor, of_sharp: Tensor) -> None:
        """Adds the mean score of each picture of the whole batch."""
        fresh = gather(torch.stack([of_restored, of_sharp], dim=1).detach().mean(dim=(2, 3, 4))).T
        before = self.remembered.get(scale, fresh[:, :0]).to(fresh)
        self.remembered[scale] = torch.cat([before, fresh], dim=1)[:, -self.size :].contiguous()

    def means(self) -> list[Tensor]:
        """(mean of restored pictures, mean of sharp ones) for each scale, of those scores that are finite.

        A step with others is not made, but they stay in the pool for a while; to drop them would wait for the device.
        """
        return [torch.where(scores.isfinite(), scores, torch.nan).nanmean(dim=1) for scores in self.remembered.values()]

    def state(self) -> dict[str, Tensor]:
        return dict(self.remembered)

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.remembered = dict(state)


class CrossEntropy(AdversarialLoss):
    """Binary cross-entropy of scores as logits, sharp against restored; the critic's is halved, as by Isola et al."""

    def judges(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        return (cross_entropy(of_sharp, 1.0) + cross_entropy(of_restored, 0.0)) / 2

    def deceives(self, of_restored: Tensor) -> Tensor:
        return cross_entropy(of_restored, 1.0)


def adversarial_loss(options: Adversarial) -> AdversarialLoss:
    """The pair of losses that a recipe names."""
    if options.loss == "wgan-gp":
        return PenalisedWasserstein(options.gradient_penalty)
    if options.loss == "ragan-ls" and options.pool:
        return PooledLeastSquares(options.pool)
    return {"wasserstein": Wasserstein, "ragan-ls": RelativisticLeastSquares, "bce": CrossEntropy}[options.loss]()


def scales(scores: Tensor | list[Tensor]) -> list[Tensor]:
    return [scores] if isinstance(scores, Tensor) else scores


def mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
