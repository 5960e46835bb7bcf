"""The classifiers under DeblurGAN-v2's pyramid, each cut off behind the last layer that the pyramid looks at."""

from typing import Literal

from torch import Tensor, nn

from ..base import Stage

Statistics = Literal["frame", "stored"]  # that batch normalisation goes by in evaluation


class Backbone(nn.Module):
    """A classifier without its end. Its results `tap0` to `tap4` stand at 1/2, 1/4, 1/8, 1/16 and 1/32 of the frame.

    Convolutions without padding leave fewer rows and columns than that. What is missing is void at the bottom and the
    right: zeros, by which a tap (N, C, H / s, W / s) stays on the frame's grid, and which nobody may read.
    """

    channels: tuple[int, ...]  # of each tap
    void: tuple[int, ...]  # rows, and columns, of each tap that are void
    smallest_side: int  # of the frame, so that the last tap has something to normalise and to reflect
    radius: int  # how far, in pixels, a value of the last tap sees with the statistics of the frame held fixed
    values_per_pixel: int  # as a generator's

    def stages(self) -> list[Stage]:
        """Of which the first reads "blurred", and the last writes "tap4"."""
        raise NotImplementedError


def unvoid(features: Tensor, void: int) -> Tensor:
    """Without their last rows and columns."""
    height, width = features.shape[-2:]
    return features[..., : height - void, : width - void]
