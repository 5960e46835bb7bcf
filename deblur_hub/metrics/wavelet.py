"""The CW-SSIM that DeblurGAN's tables print, so that its 0.958 can be explained."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .pictures import Pictures, Scores, prepared, require_colour

WIDTHS = range(1, 31)  # pixels, of the wavelets
SUPPORT = 10  # widths that a wavelet is long
LONGEST = SUPPORT * WIDTHS[-1]
BLOCK = 4096  # samples of a signal that are transformed together
STEP = BLOCK - LONGEST + 1 - LONGEST // 2  # of them, those that come out free of what wraps around
STABILISER = 0.01  # the K of Sampat et al., on grey values of 0 to 255
LUMA = (19595, 38470, 7471)  # of 65536: Pillow's conversion to grey, BT.601


def cw_ssim(restored: Pictures, sharp: Pictures, *, data_range: float | None = None) -> Scores:
    """The "complex wavelet" SSIM as pyssim up to 0.6 computes it, and with it the code of DeblurGAN and DeblurGAN-v2.

    It takes the two terms of Sampat et al. (IEEE TIP 2009), but none of their wavelets: in place of a
    complex steerable pyramid the grey picture is laid out row behind row as one long signal, and convolved with real
    Ricker wavelets of widths 1 to 30 pixels. So it hardly sees vertical detail, and reads about 0.1 higher than
    `ssim`; it serves to compare with DeblurGAN's SSIM column and nothing else. pyssim 0.7 takes PyWavelets' "mexh",
    which is sampled otherwise, and gives slightly different numbers.

    Arguments, result and errors as of `psnr`, of one channel or three. The pictures are rounded to 8 bits, and so is
    the grey made of them, as in the picture files that pyssim reads.
    """
    x, y, data_range, answer = prepared(restored, sharp, data_range)
    spectra = [blocks(signal(picture, data_range)) for picture in (x, y)]
    length = x.shape[-2] * x.shape[-1]
    signed = product = energies = torch.zeros_like(x[:, 0].flatten(1))
    for width in WIDTHS:
        a, b = (convolved(spectrum, width, length) for spectrum in spectra)
        signed = signed + a * b
        product = product + (a * b).abs()
        energies = energies + a * a + b * b
    magnitude = (2 * product + STABILISER) / (energies + STABILISER)
    phase = (2 * signed.abs() + STABILISER) / (2 * product + STABILISER)
    return answer((magnitude * phase).mean(dim=1))


def signal(pictures: Tensor, data_range: float) -> Tensor:
    """(N, H * W) of whole grey values from 0 to 255."""
    eight_bits = (pictures * (255 / data_range) + 0.5).floor().clamp(0, 255)
    if pictures.shape[1] != 1:
        require_colour(pictures)
        weights = pictures.new_tensor(LUMA)
        eight_bits = ((torch.einsum("nchw,c->nhw", eight_bits, weights) + 32768) / 65536).floor()[:, None]
    return eight_bits.flatten(1)


def blocks(signals: Tensor) -> Tensor:
    """(N, L) as the spectra of overlapping blocks, (N, blocks, BLOCK // 2 + 1): short transforms fit into the cache."""
    count = -(-signals.shape[1] // STEP)
    padded = F.pad(signals, (LONGEST - 1, count * STEP + BLOCK - STEP - LONGEST + 1 - signals.shape[1]))
    spectra: Tensor = torch.fft.rfft(padded.unfold(1, BLOCK, STEP))
    return spectra


def convolved(spectra: Tensor, width: int, length: int) -> Tensor:
    """A signal's blocks with a Ricker wavelet, (N, length): the full convolution's middle, zeros beyond the ends."""
    points = min(SUPPORT * width, length)
    wavelet = ricker(points, width, spectra.real)
    found: Tensor = torch.fft.irfft(spectra * torch.fft.rfft(wavelet, BLOCK), BLOCK)
    first = LONGEST - 1 + (points - 1) // 2
    return found[..., first : first + STEP].flatten(1)[:, :length]


def ricker(points: int, width: int, like: Tensor) -> Tensor:
    """The negative second derivative of a Gaussian, of unit energy, around the middle of `points` samples."""
    at = (torch.arange(points, dtype=like.dtype, device=like.device) - (points - 1) / 2) / width
    height = 2 / (math.sqrt(3 * width) * math.pi**0.25)
    wavelet: Tensor = height * (1 - at**2) * torch.exp(-(at**2) / 2)
    return wavelet
