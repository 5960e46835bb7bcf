"""DeblurGAN's generator."""

from torch import Tensor, nn


class ResnetGenerator(nn.Module):
    """DeblurGAN's generator (Kupyn et al., CVPR 2018, fig. 3): encoder, residual blocks, decoder, global residual.

    Args:
        width: channels of the first convolution; the residual blocks have four times as many.
        blocks: residual blocks: 9 in the paper.
        dropout: probability of zeroing a value inside each residual block while training; the authors train with
            0.5. It is off in evaluation (their released code leaves it on).

    `forward` maps (N, 3, H, W) in [-1, 1] to the same; H and W are multiples of `size_multiple`. Instance
    normalisation takes its statistics over the whole frame, in training and in evaluation.
    """

    size_multiple = 4
    receptive_field = None  # instance normalisation sees the whole frame

    def __init__(self, *, width: int = 64, blocks: int = 9, dropout: float = 0.0) -> None:
        super().__init__()
        self.values_per_pixel = 3 * width
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, width, 7),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.InstanceNorm2d(4 * width),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(ResnetBlock(4 * width, dropout) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)  # authors' options; the paper does not say
                nn.init.zeros_(module.bias)

    def forward(self, blurred: Tensor) -> Tensor:
        return (blurred + self.decoder(self.blocks(self.encoder(blurred)))).clamp(-1, 1)


class ResnetBlock(nn.Module):
    """x + IN(Conv3(Dropout(ReLU(IN(Conv3(x)))))), padded by reflection."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)
