"""Changing the resolution of pictures, alone or together with the convolution beside it.

Fused: nearest upsampling repeats pixels and average pooling sums them, so a convolution next to
either multiplies the same numbers several times. Moving the repetition into the (tiny) kernel is
exact up to rounding and leaves 4/9 of the products for a 3x3 kernel.

Filtered: `fir_resample` inserts zeros, filters with a fixed low-pass kernel and drops pixels, which
neither aliases nor leaves blocks (Karras et al. 2020, "Analyzing and Improving the Image Quality of
StyleGAN"). All of it is plain convolutions, so it differentiates as often as one likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# A 3-tap kernel followed by the sum of two neighbours, as one 4-tap kernel.
_SPREAD_1D = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
# The same in two dimensions, from 9 to 16 taps, and with the taps in reverse order.
_SPREAD = torch.kron(_SPREAD_1D, _SPREAD_1D).T.contiguous()
_SPREAD_REVERSED = _SPREAD.flip(1)

# Up to this side, separable filters are matrix products: most of their entries are zero, and still
# they take a fifth to a tenth of the time of convolutions of few channels.
_LARGEST_PRODUCT = 512


def upsample_conv3x3(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve the nearest-upsampled (x2) image with a 3x3 kernel and zero padding 1.

    Equal to `conv2d(interpolate(image, scale_factor=2), weight, bias, padding=1)`.

    Args:
        image: (B, C, H, W).
        weight: (N, C, 3, 3).
        bias: (N,) or None.

    Returns:
        (B, N, 2H, 2W).
    """
    kernel = _spread(weight, _SPREAD_REVERSED).transpose(0, 1)
    return F.conv_transpose2d(image, kernel, bias, stride=2, padding=1)


def conv3x3_downsample(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with a 3x3 kernel and zero padding 1, then average 2x2 blocks.

    Equal to `avg_pool2d(conv2d(image, weight, bias, padding=1), 2)`.

    Args:
        image: (B, C, H, W), H and W even.
        weight: (N, C, 3, 3).
        bias: (N,) or None.

    Returns:
        (B, N, H/2, W/2).
    """
    return F.conv2d(image, _spread(weight, 0.25 * _SPREAD), bias, stride=2, padding=1)


def fir_taps(taps: Sequence[float] = (1, 3, 3, 1)) -> Tensor:
    """Return `taps` (N,) scaled to sum to one."""
    row = torch.tensor(taps, dtype=torch.float32)
    return row / row.sum()


def fir_kernel(taps: Sequence[float] = (1, 3, 3, 1)) -> Tensor:
    """Return the outer product (N, N) of N `taps` with themselves, scaled to sum to one."""
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(row, row)
    return kernel / kernel.sum()


def fir_resample(
    image: Tensor,
    kernel: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
    flip: bool = False,
) -> Tensor:
    """Insert zeros, pad, filter, and keep every `down`-th pixel.

    Args:
        image: (B, C, H, W).
        kernel: (N, N), or (N,) for a separable filter, which is run along rows, then columns. It
            is a constant and gets no gradient.
        up: Each pixel is followed by `up` - 1 zeros to its right and below.
        down: Stride of the pixels that are kept.
        padding: Zeros (or, if negative, cuts) at left, right, top, bottom after inserting.
        gain: Factor of the result; up**2 keeps the brightness of an upsampled picture.
        flip: Correlate with the kernel instead of convolving (no difference for symmetric ones).

    Returns:
        (B, C, H', W') with H' = floor((H * up + top + bottom - N) / down) + 1, and W' alike.
    """
    kernel = (kernel if gain == 1 else kernel * gain ** (kernel.dim() / 2)).to(image)
    if kernel.dim() == 2:
        return _apply_filter(image, kernel, (up, up), (down, down), padding, flip)
    if max(image.shape[2:]) <= _LARGEST_PRODUCT:
        return _multiply(image, kernel, up, down, padding, flip)
    rows, columns = (*padding[:2], 0, 0), (0, 0, *padding[2:])
    image = _apply_filter(image, kernel[None, :], (1, up), (1, down), rows, flip)
    return _apply_filter(image, kernel[:, None], (up, 1), (down, 1), columns, flip)


def fir_upsample(image: Tensor, kernel: Tensor) -> Tensor:
    """Double the resolution of (B, C, H, W) with a low-pass kernel (4, 4) or (4,) of sum one."""
    return fir_resample(image, kernel, up=2, padding=(2, 1, 2, 1), gain=4)


def fir_downsample(image: Tensor, kernel: Tensor) -> Tensor:
    """Halve the resolution of (B, C, H, W), H and W even, with a low-pass kernel as above."""
    return fir_resample(image, kernel, down=2, padding=(1, 1, 1, 1))


def upsample_filtered_conv(
    image: Tensor, weight: Tensor, kernel: Tensor, *, groups: int = 1
) -> Tensor:
    """Convolve with a 1x1 or 3x3 kernel while doubling the resolution.

    The equation is: insert zeros, low-pass, then a *true* convolution (taps flipped), unlike the
    correlation that convolutional layers are elsewhere. Both filters commute, so the learned one
    goes first, as a transposed convolution that skips the zeros (3x3), or at the low resolution.

    Args:
        image: (B, groups * C, H, W).
        weight: (groups * N, C, k, k), k = 1 or 3.
        kernel: Low-pass kernel (4, 4) of sum one.
        groups: Number of groups.

    Returns:
        (B, groups * N, 2H, 2W).
    """
    if weight.shape[-1] == 1:
        return fir_upsample(F.conv2d(image, weight, groups=groups), kernel)
    weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    image = F.conv_transpose2d(image, weight, stride=2, groups=groups)  # (B, N, 2H + 1, 2W + 1)
    return fir_resample(image, kernel, padding=(1, 1, 1, 1), gain=4)


def filtered_conv_downsample(
    image: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Convolve (correlate) with a 1x1 or 3x3 kernel while halving the resolution.

    Args:
        image: (B, C, H, W), H and W even.
        weight: (N, C, k, k), k = 1 or 3.
        kernel: Low-pass kernel (4, 4), applied first.
        bias: (N,) or None.

    Returns:
        (B, N, H/2, W/2).
    """
    if weight.shape[-1] == 1:
        return F.conv2d(fir_downsample(image, kernel), weight, bias)
    return F.conv2d(fir_resample(image, kernel, padding=(2, 2, 2, 2)), weight, bias, stride=2)


def _multiply(
    image: Tensor,
    taps: Tensor,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
    flip: bool,
) -> Tensor:
    """`fir_resample` by separable `taps` (N,) as products with one matrix per direction."""
    left, right, top, bottom = padding
    across = _filter_matrix(taps, image.shape[3], up, down, (left, right), flip)
    along = _filter_matrix(taps, image.shape[2], up, down, (top, bottom), flip)
    # Autocast would give a result, hence a gradient, of another type than the taps'.
    with torch.autocast(image.device.type, enabled=False):
        return along @ (image @ across.T)


def _filter_matrix(
    taps: Tensor, size: int, up: int, down: int, padding: tuple[int, int], flip: bool
) -> Tensor:
    """The matrix (size', size) of `fir_resample` in one direction."""
    count = len(taps)
    device = taps.device
    last = size * up + sum(padding) - count
    start = torch.arange(0, last + 1, down, device=device) - padding[0]  # In the zero-filled row.
    tap = torch.arange(size, device=device) * up - start[:, None]
    is_inside = (tap >= 0) & (tap < count)
    taps = taps if flip else taps.flip(0)
    return torch.where(is_inside, taps[tap.clamp(0, count - 1)], 0)


def _apply_filter(
    image: Tensor,
    kernel: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip: bool,
) -> Tensor:
    result: Tensor = _Filter.apply(image, kernel, up, down, padding, flip)
    return result


class _Filter(torch.autograd.Function):
    """`fir_resample` for one kernel (M, N); steps are (vertical, horizontal).

    The operator is linear and its adjoint is one of its kind: steps change places, the kernel is
    flipped. Saying so keeps no map for the backward pass, and spares second derivatives what
    convolutions would compute for their kernels, one channel at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        kernel: Tensor,
        up: tuple[int, int],
        down: tuple[int, int],
        padding: tuple[int, int, int, int],
        flip: bool,
    ) -> Tensor:
        # Autocast would give a result, hence a gradient, of another type than the kernel's.
        with torch.autocast(image.device.type, enabled=False):
            result = _filter(image, kernel, up, down, padding, flip)
        ctx.save_for_backward(kernel)
        ctx.options = (up, down, padding, flip)
        ctx.sizes = (image.shape[2:], result.shape[2:])
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        up, down, (left, right, top, bottom), flip = ctx.options
        (height, width), (rows, columns) = ctx.sizes
        # What pads before filtering cuts after it; the far end is whatever restores the size.
        right = width * up[1] - columns * down[1] + left
        bottom = height * up[0] - rows * down[0] + top
        padding = (kernel.shape[1] - 1 - left, right, kernel.shape[0] - 1 - top, bottom)
        result = _Filter.apply(gradient, kernel, down, up, padding, not flip)
        return result, None, None, None, None, None


def _filter(
    image: Tensor,
    kernel: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip: bool,
) -> Tensor:
    channels = image.shape[1]
    if up == (1, 1):
        kernel = (kernel if flip else kernel.flip((0, 1))).expand(channels, 1, -1, -1)
        left, right, top, bottom = padding
        if left == right >= 0 and top == bottom >= 0:
            return F.conv2d(image, kernel, stride=down, padding=(top, left), groups=channels)
        return F.conv2d(F.pad(image, padding), kernel, stride=down, groups=channels)
    # A transposed convolution never multiplies the inserted zeros. Its output begins with the
    # first tap of the first pixel, so it lacks the last zeros and has kernel - 1 more all round.
    height, width = kernel.shape
    kernel = (kernel.flip((0, 1)) if flip else kernel).expand(channels, 1, -1, -1)
    image = F.conv_transpose2d(image, kernel, stride=up, groups=channels)
    left, right, top, bottom = padding
    left, right = left + 1 - width, right + up[1] - width
    top, bottom = top + 1 - height, bottom + up[0] - height
    return F.pad(image, (left, right, top, bottom))[..., :: down[0], :: down[1]]


def _spread(weight: Tensor, spread: Tensor) -> Tensor:
    """Apply `spread` (9, 16) to the taps of a kernel: (N, C, 3, 3) to (N, C, 4, 4)."""
    return (weight.flatten(2) @ spread.to(weight)).view(*weight.shape[:2], 4, 4)
