"""Adversarial losses of a discriminator and pictures, averaged over the scales of a discriminator that has several."""

from collections.abc import Iterable

import torch
from accelerate.utils import gather
from torch import Tensor, nn

from ..recipe import Adversarial
from .pixels import cross_entropy, relativistic_least_squares

Losses = tuple[Tensor, dict[str, Tensor]]  # a loss, and values for the log


class AdversarialLoss:
    """Base class: of scores, `of_discriminator` and `of_generator`; with `state` if it changes from step to step."""

    def discriminator_loss(self, discriminator: nn.Module, restored: Tensor, sharp: Tensor, *, share: Tensor) -> Losses:
        """The discriminator's loss, and its parts for the log.

        `restored` and `sharp` are (N, 3, H, W) in [-1, 1]; `share` is (N,), uniform in [0, 1], for losses that mix the
        two. The discriminator is called once, as data-parallel wrappers want one forward for each backward.
        """
        pairs = score_pairs(discriminator, restored, sharp)
        return mean(self.of_discriminator(*pair) for pair in pairs), mean_scores(pairs)

    def generator_loss(self, discriminator: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
        """The generator's loss; arguments as above."""
        return mean(self.of_generator(scores) for scores in scales(discriminator(restored)))

    def of_discriminator(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        raise NotImplementedError

    def of_generator(self, of_restored: Tensor) -> Tensor:
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Loads a state, which is empty in checkpoints that hold none."""


class Wasserstein(AdversarialLoss):
    """WGAN (Arjovsky et al., ICML 2017, eq. 2) with nothing that bounds the discriminator's slope.

    E[D(restored)] - E[D(sharp)] for the discriminator, and -E[D(restored)] for the generator.
    """

    def of_discriminator(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        return of_restored.mean() - of_sharp.mean()

    def of_generator(self, of_restored: Tensor) -> Tensor:
        return -of_restored.mean()


class PenalisedWasserstein(Wasserstein):
    """WGAN-GP (Gulrajani et al., NIPS 2017, eq. 3): E[D(restored)] - E[D(sharp)] + penalty * E[(|grad D(mix)| - 1)^2].

    D of a picture is the mean of its map of scores, and the norm is of the gradient over the whole picture; the
    released DeblurGAN takes it over the channels of each pixel, which bounds something else. `share` is the part of the
    sharp picture in each mix. D of a picture must not depend on the rest of its batch.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def discriminator_loss(self, discriminator: nn.Module, restored: Tensor, sharp: Tensor, *, share: Tensor) -> Losses:
        share = share.to(sharp).view(-1, 1, 1, 1)
        mix = (share * sharp + (1 - share) * restored).requires_grad_()
        distances, deviations = [], []
        for scores in scales(discriminator(torch.cat([restored, sharp, mix]))):
            of_restored, of_sharp, of_mix = scores.mean(dim=(1, 2, 3)).chunk(3)
            (gradient,) = torch.autograd.grad(of_mix.sum(), mix, create_graph=True)
            distances.append(of_sharp.mean() - of_restored.mean())
            deviations.append((gradient.flatten(1).norm(dim=1) - 1).square().mean())
        distance, deviation = mean(distances), mean(deviations)
        log = {"wasserstein": distance.detach(), "penalty": deviation.detach()}
        return -distance + self.penalty * deviation, log


class RelativisticLeastSquares(AdversarialLoss):
    """RaGAN-LS of DeblurGAN-v2: sharp pictures score 1 more than restored ones do on average, or the other way.

    Each of several processes takes the averages over its own part of the batch.
    """

    def of_discriminator(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        return relativistic_least_squares(of_sharp, of_restored)

    def generator_loss(self, discriminator: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
        return mean(relativistic_least_squares(*pair) for pair in score_pairs(discriminator, restored, sharp))


class PooledLeastSquares(RelativisticLeastSquares):
    """RaGAN-LS as the released code of DeblurGAN-v2 has it, whose batches are of one picture.

    Scores are compared with the means over the last `size` restored and sharp pictures that the discriminator learned
    from, the present ones among them, for each scale by itself. No gradient flows through these means. All processes
    keep the scores of all pictures, in the order of the batch, so that their number changes nothing.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.scores: dict[str, Tensor] = {}  # scale -> (2, at most `size`): of restored pictures and of sharp ones

    def discriminator_loss(self, discriminator: nn.Module, restored: Tensor, sharp: Tensor, *, share: Tensor) -> Losses:
        pairs = score_pairs(discriminator, restored, sharp)
        for scale, pair in enumerate(pairs):
            self.keep(str(scale), *pair)
        loss = mean(
            relativistic_least_squares(of_sharp, of_restored, mean_of_better=mean_sharp, mean_of_worse=mean_restored)
            for (of_restored, of_sharp), (mean_restored, mean_sharp) in zip(pairs, self.means(), strict=True)
        )
        return loss, mean_scores(pairs)

    def generator_loss(self, discriminator: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
        """After `discriminator_loss` of the same step, with whose scores it is compared."""
        with torch.no_grad():  # a part of the loss's value without a gradient
            of_sharp = scales(discriminator(sharp))
        of_restored = scales(discriminator(restored))
        return mean(
            relativistic_least_squares(better, worse, mean_of_better=mean_restored, mean_of_worse=mean_sharp)
            for better, worse, (mean_restored, mean_sharp) in zip(of_restored, of_sharp, self.means(), strict=True)
        )

    def keep(self, scale: str, of_restored: Tensor, of_sharp: Tensor) -> None:
        """Adds the mean score of each picture of the whole batch."""
        fresh = gather(torch.stack([of_restored, of_sharp], dim=1).detach().mean(dim=(2, 3, 4))).T
        before = self.scores.get(scale, fresh[:, :0]).to(fresh)
        self.scores[scale] = torch.cat([before, fresh], dim=1)[:, -self.size :].contiguous()

    def means(self) -> list[Tensor]:
        """(mean of restored pictures, mean of sharp ones) for each scale, of those scores that are finite.

        Others stay in the pool for a while: to drop them would wait for the device.
        """
        return [torch.where(scores.isfinite(), scores, torch.nan).nanmean(dim=1) for scores in self.scores.values()]

    def state(self) -> dict[str, Tensor]:
        return dict(self.scores)

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.scores = dict(state)


class CrossEntropy(AdversarialLoss):
    """Binary cross-entropy of logits, sharp against restored; the discriminator's is halved, as by Isola et al."""

    def of_discriminator(self, of_restored: Tensor, of_sharp: Tensor) -> Tensor:
        return (cross_entropy(of_sharp, 1.0) + cross_entropy(of_restored, 0.0)) / 2

    def of_generator(self, of_restored: Tensor) -> Tensor:
        return cross_entropy(of_restored, 1.0)


def adversarial_loss(options: Adversarial) -> AdversarialLoss:
    """The losses that a recipe names."""
    if options.loss == "wgan-gp":
        return PenalisedWasserstein(options.gradient_penalty)
    if options.loss == "ragan-ls" and options.pool:
        return PooledLeastSquares(options.pool)
    return {"wasserstein": Wasserstein, "ragan-ls": RelativisticLeastSquares, "bce": CrossEntropy}[options.loss]()


def score_pairs(discriminator: nn.Module, restored: Tensor, sharp: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(scores of restored, scores of sharp) at each scale."""
    return [scores.chunk(2) for scores in scales(discriminator(torch.cat([restored, sharp]), batches=2))]


def mean_scores(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    restored, sharp = (mean(scores.detach().mean() for scores in side) for side in zip(*pairs, strict=True))
    return {"restored": restored, "sharp": sharp}


def scales(scores: Tensor | list[Tensor]) -> list[Tensor]:
    return [scores] if isinstance(scores, Tensor) else scores


def mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
