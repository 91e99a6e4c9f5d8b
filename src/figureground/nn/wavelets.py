"""Low-pass filters and filter banks of Daubechies' symlets (least asymmetric wavelets)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Scaling filters; their squares sum to one, they themselves to sqrt(2).
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)


def low_pass(taps: tuple[float, ...]) -> Tensor:
    """Return a scaling filter (N,) scaled to sum to one, which keeps the brightness of pictures."""
    kernel = torch.tensor(taps, dtype=torch.float64)
    return (kernel / kernel.sum()).float()


def octave_bank(taps: tuple[float, ...], num_bands: int) -> Tensor:
    """Split all frequencies into octaves by symmetric filters that sum to a unit impulse.

    With L(z) = h(z) h(1/z) / 2 and H(z) = g(z) g(1/z) / 2, where g is h with alternating signs,
    L + H = 1. So H(z) is the highest band, L(z) H(z^2) the one below, L(z) L(z^2) H(z^4) the next,
    and the lowest takes what remains, a product of Ls alone.

    Args:
        taps: Scaling filter h.
        num_bands: Number of octaves, at least 2.

    Returns:
        (num_bands, N), lowest band first, centred in N = 2 (2^(num_bands - 1) - 1) (taps - 1) + 1.
    """
    low = torch.tensor(taps, dtype=torch.float64)
    high = low * (-1.0) ** torch.arange(len(taps))
    low, high = (_convolve(part, part.flip(0)) / 2 for part in (low, high))
    bands = []
    passed = torch.ones(1, dtype=torch.float64)  # The product of Ls so far.
    for step in range(num_bands - 1):
        bands.append(_convolve(passed, _dilate(high, 2**step)))
        passed = _convolve(passed, _dilate(low, 2**step))
    bands.append(passed)
    centred = [F.pad(band, ((len(passed) - len(band)) // 2,) * 2) for band in bands]
    return torch.stack(centred[::-1]).float()


def _dilate(kernel: Tensor, step: int) -> Tensor:
    """Substitute z^step: put step - 1 zeros between taps."""
    dilated = kernel.new_zeros((len(kernel) - 1) * step + 1)
    dilated[::step] = kernel
    return dilated


def _convolve(first: Tensor, second: Tensor) -> Tensor:
    """Multiply two filters as polynomials."""
    size = len(second) - 1
    return F.conv1d(first[None, None], second.flip(0)[None, None], padding=size)[0, 0]
