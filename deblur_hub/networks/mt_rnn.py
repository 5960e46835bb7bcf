"""MT-RNN: one small U-Net that sharpens its own result again and again, and remembers features on the way."""

import torch
from torch import Tensor, nn

from .base import Generator, residual_blocks

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K in [0, 1], which the authors subtract from every picture


class MtRnnGenerator(Generator):
    """Multi-temporal recurrent network (Park et al., ECCV 2020, fig. 3): a recurrent U-Net of three levels.

    Each iteration sees the blurred picture beside its own last result, and the features that the last iteration
    left at 1/2 and 1/4 of the resolution; in the first, its own. The authors train iteration after iteration towards
    frame averages of shorter and shorter exposure.

    Args:
        iterations: 6 in the authors' test code, 7 in the paper's tables.
        width: channels at full resolution; twice and four times as many at 1/2 and 1/4.

    In training `forward` gives all iterations' results, first to last, at full resolution; gradients flow through all.
    """

    size_multiple = 4
    source = "MT-RNN: Park et al., ECCV 2020, arXiv 1911.07410"
    licence = "none stated"

    def __init__(self, *, iterations: int = 6, width: int = 32) -> None:
        super().__init__()
        self.iterations = iterations
        self.receptive_field = 95 * iterations  # stem and head 2, blocks 12 + 24 + 48, levels down and up 3 + 6
        self.values_per_pixel = 13 * width // 2 + 18  # at full resolution a block and a skip; memories old and new

        self.stem = nn.Conv2d(6, width, 3, padding=1)
        self.encoder_full = three_blocks(width)
        self.down_half = halved(width)
        self.recall_half = nn.Conv2d(4 * width, 2 * width, 1)
        self.encoder_half = three_blocks(2 * width)
        self.down_quarter = halved(2 * width)
        self.recall_quarter = nn.Conv2d(8 * width, 4 * width, 1)
        self.encoder_quarter = three_blocks(4 * width)

        self.decoder_quarter = three_blocks(4 * width)
        self.up_half = doubled(2 * width)
        self.merge_half = nn.Conv2d(4 * width, 2 * width, 1)
        self.decoder_half = three_blocks(2 * width)
        self.up_full = doubled(width)
        self.merge_full = nn.Conv2d(2 * width, width, 1)
        self.decoder_full = three_blocks(width)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def compute(self, blurred: Tensor) -> Tensor | list[Tensor]:
        mean = 255 * blurred.new_tensor(MEAN)[:, None, None]
        centred = 127.5 * (blurred + 1) - mean  # the authors' range: [0, 255] minus the mean
        estimate, memory, results = centred, None, []
        for _ in range(self.iterations):
            difference, memory = self.iterate(torch.cat([centred, estimate], 1), memory)
            estimate = centred + difference
            if self.training:
                results.append(blurred + difference / 127.5)
        return results if self.training else blurred + difference / 127.5

    def iterate(self, pictures: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One pass: what is to be added to the blurred picture, and the features at 1/2 and 1/4 to be remembered."""
        full = self.encoder_full(self.stem(pictures))
        half = self.down_half(full)
        half = self.encoder_half(self.recall_half(torch.cat([half, memory[0] if memory else half], 1)))
        quarter = self.down_quarter(half)
        quarter = self.encoder_quarter(self.recall_quarter(torch.cat([quarter, memory[1] if memory else quarter], 1)))

        quarter = self.decoder_quarter(quarter)
        half = self.decoder_half(self.merge_half(torch.cat([self.up_half(quarter), half], 1)))
        full = self.decoder_full(self.merge_full(torch.cat([self.up_full(half), full], 1)))
        return self.head(full), (half, quarter)


def three_blocks(width: int) -> nn.Sequential:
    return residual_blocks(width, 3, slope=0.1)


def halved(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.LeakyReLU(0.1, inplace=True))


def doubled(width: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.LeakyReLU(0.1, inplace=True))
