"""Modulated convolutions: a style scales the input channels of a kernel (StyleGAN2, section 2).

Two equal forms are here. *Fused* builds one kernel per sample and runs a grouped convolution;
the other scales the map, runs one shared convolution, and scales the result.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.equalized import ACTIVATION_GAIN, EqualizedLinear, activate
from figureground.nn.precision import widen
from figureground.nn.resample import fir_kernel, upsample_filtered_conv

NoiseMode = Literal["random", "const", "none"]

_EPS = 1e-8
_HALF = (torch.float16, torch.bfloat16)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return the factors that give every output channel of a modulated kernel unit norm.

    d_bo = (sum_{i,k} (W_oik s_bi)^2 + eps)^(-1/2), computed as a matrix product: the style does not
    depend on the tap k, so the sum over taps is taken once for all samples.

    Args:
        weight: W, (Cout, Cin, k, k).
        styles: s, (B, Cin).

    Returns:
        (B, Cout), float32 or wider.
    """
    with torch.autocast(weight.device.type, enabled=False):
        power = widen(weight).square().sum(dim=(2, 3))  # (Cout, Cin)
        return torch.rsqrt(widen(styles).square() @ power.T + _EPS)


def modulated_conv2d(
    features: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    noise: Tensor | None = None,
    upsample_kernel: Tensor | None = None,
    gain: float = 1.0,
    fused: bool = False,
) -> Tensor:
    """Convolve with the kernel W_oik s_bi, scaled to unit norm per output channel, and add noise.

    Args:
        features: (B, Cin, H, W); its dtype is that of the result.
        weight: W, (Cout, Cin, k, k), k = 1 or 3.
        styles: s, (B, Cin).
        demodulate: Whether kernels are scaled to unit norm.
        noise: Added to the result before `gain`, broadcastable to it, or None.
        upsample_kernel: Low-pass kernel (4, 4) to double the resolution, or None to keep it.
        gain: Factor of the result.
        fused: Which of the two equal forms computes it.

    Returns:
        (B, Cout, H, W), or twice the height and width.
    """
    dtype = features.dtype
    is_half = dtype in _HALF or torch.is_autocast_enabled(features.device.type)
    if is_half and demodulate:
        # Demodulation undoes any scale, so sums of products can be kept away from overflow.
        fan_in = weight[0].numel()
        weight = weight / (weight.abs().amax(dim=(1, 2, 3), keepdim=True) * math.sqrt(fan_in))
        styles = styles / styles.abs().amax(dim=1, keepdim=True)
    scale = demodulation(weight, styles) * gain if demodulate else None  # (B, Cout)
    noise = None if noise is None else noise * gain
    if fused:
        kernels = weight * styles[:, None, :, None, None]  # (B, Cout, Cin, k, k)
        kernels = kernels * (gain if scale is None else scale[:, :, None, None, None])
        result = _convolve_per_sample(features, kernels.to(dtype), upsample_kernel)
        return result if noise is None else result + noise.to(result.dtype)
    if scale is None:
        styles = styles * gain
    features = features * styles[:, :, None, None].to(dtype)
    result = _convolve(features, weight.to(dtype), upsample_kernel)
    if scale is not None:
        factor = scale[:, :, None, None].to(result.dtype)
        if noise is None:
            return result * factor
        return torch.addcmul(noise.to(result.dtype), result, factor)
    return result if noise is None else result + noise.to(result.dtype)


def _convolve(
    features: Tensor, weight: Tensor, upsample_kernel: Tensor | None, groups: int = 1
) -> Tensor:
    if upsample_kernel is None:
        return F.conv2d(features, weight, padding=weight.shape[-1] // 2, groups=groups)
    return upsample_filtered_conv(features, weight, upsample_kernel, groups=groups)


def _convolve_per_sample(
    features: Tensor, kernels: Tensor, upsample_kernel: Tensor | None
) -> Tensor:
    """Convolve sample b of (B, Cin, H, W) with kernel b of (B, Cout, Cin, k, k)."""
    size = len(features)
    features = features.flatten(0, 1)[None]  # (1, B * Cin, H, W)
    result = _convolve(features, kernels.flatten(0, 1), upsample_kernel, groups=size)
    return result.reshape(size, -1, *result.shape[2:])


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU, clamp.

    Args:
        in_channels: Channels of the incoming map.
        out_channels: Channels of the result.
        style_dim: Size of a style vector w.
        resolution: Side of the result.
        upsample: Whether the incoming map has half that side.
        clamp: Results stay within +-clamp; None for no limit.
    """

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        resolution: int,
        *,
        upsample: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.clamp = clamp
        self.upsample = upsample
        self.affine = EqualizedLinear(style_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        if upsample:
            self.register_buffer("resample_filter", fir_kernel(), persistent=False)

    def forward(
        self,
        features: Tensor,
        style: Tensor,
        *,
        noise: NoiseMode = "random",
        generator: torch.Generator | None = None,
        gain: float = 1.0,
        fused: bool = False,
    ) -> Tensor:
        """Map (B, in_channels, h, h) under w (B, style_dim) to (B, out_channels, R, R).

        Args:
            features: The incoming map.
            style: w.
            noise: A new draw for each sample, the stored picture, or none.
            generator: Where new draws come from; None for the global generator.
            gain: Factor of the result and of the clamp.
            fused: Form of the modulated convolution.
        """
        total_gain = ACTIVATION_GAIN["lrelu"] * gain
        features = modulated_conv2d(
            features,
            self.weight,
            self.affine(style),
            noise=self._draw_noise(noise, len(features), generator),
            upsample_kernel=self.resample_filter if self.upsample else None,
            gain=total_gain,
            fused=fused,
        )
        features = features + (self.bias * total_gain).to(features.dtype)[:, None, None]
        return activate(features, "lrelu", None if self.clamp is None else self.clamp * gain)

    def _draw_noise(
        self, mode: NoiseMode, count: int, generator: torch.Generator | None
    ) -> Tensor | None:
        """Return noise of the learned strength, (B, 1, R, R) or (R, R), or None."""
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const * self.noise_strength
        # Drawn where the generator lives, so that a seed means the same noise on every device.
        device = self.noise_const.device if generator is None else generator.device
        size = (count, 1, self.resolution, self.resolution)
        noise = torch.randn(size, generator=generator, device=device)
        return noise.to(self.noise_const) * self.noise_strength


class ToImage(nn.Module):
    """Turn a map into picture channels: modulated 1x1 convolution without demodulation.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the picture.
        style_dim: Size of a style vector w.
        clamp: Results stay within +-clamp; None for no limit.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, *, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = EqualizedLinear(style_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, features: Tensor, style: Tensor, *, fused: bool = False) -> Tensor:
        """Map (B, in_channels, R, R) under w (B, style_dim) to (B, out_channels, R, R)."""
        styles = self.affine(style) * self.weight_gain
        image = modulated_conv2d(features, self.weight, styles, demodulate=False, fused=fused)
        image = image + self.bias.to(image.dtype)[:, None, None]
        return activate(image, "linear", self.clamp)
