"""Layers with an equalised learning rate (Karras et al. 2018), and what StyleGAN2 puts between.

Weights are stored with unit variance and scaled at run time by a constant, so that an optimiser
like Adam moves all of them at the same relative speed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.precision import widen
from figureground.nn.resample import (
    filtered_conv_downsample,
    fir_kernel,
    upsample_filtered_conv,
)

Activation = Literal["linear", "lrelu"]

#: Factor that keeps the variance of unit Gaussian inputs.
ACTIVATION_GAIN: dict[Activation, float] = {"linear": 1.0, "lrelu": math.sqrt(2)}

_SLOPE = 0.2
_EPS = 1e-8


def activate(features: Tensor, activation: Activation, clamp: float | None = None) -> Tensor:
    """Apply an activation *without* its gain, then limit the result to [-clamp, clamp].

    A leaky ReLU commutes with positive factors, so the gain costs nothing where it multiplies the
    weights and biases that made `features`; every caller here does that.
    """
    if activation == "lrelu":
        features = F.leaky_relu(features, _SLOPE)
    # Like `clamp`, but for gradients at the very limit; they take one pass instead of four.
    return features if clamp is None else F.hardtanh(features, -clamp, clamp)


def normalize_second_moment(vectors: Tensor) -> Tensor:
    """Divide (B, D) by the root of the mean square over D."""
    return vectors * (vectors.square().mean(dim=1, keepdim=True) + _EPS).rsqrt()


class EqualizedLinear(nn.Module):
    """Dense layer act(x (W L / sqrt(n))^T + b L) * gain, with W ~ N(0, 1) / L.

    It computes in float32 (float64 if its weights have that type) whatever autocast says: mapping
    networks, styles and scores need the bits, and none of them costs much.

    Args:
        in_features: n.
        out_features: Size of the result.
        activation: What follows; its gain is applied too.
        lr_multiplier: L, the learning rate relative to that of other layers.
        bias_init: Initial value of the stored bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Activation = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))
        self.bias_gain = lr_multiplier * ACTIVATION_GAIN[activation]
        self.weight_gain = self.bias_gain / math.sqrt(in_features)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (B, in_features) to (B, out_features)."""
        with torch.autocast(vectors.device.type, enabled=False):
            weight = widen(self.weight) * self.weight_gain
            bias = widen(self.bias) * self.bias_gain
            result = F.linear(vectors.to(weight.dtype), weight, bias)
            return activate(result, self.activation)


class EqualizedConv2d(nn.Module):
    """Convolution with weight W / sqrt(Cin k^2), W ~ N(0, 1), and optional filtered resampling.

    Args:
        in_channels: Cin.
        out_channels: Channels of the result.
        kernel_size: k, 1 or 3; the size of the map is kept, or doubled or halved.
        activation: What follows; its gain is applied too.
        use_bias: Whether there is a bias.
        resampling: "none", "up" (x2; taps flipped, see `upsample_filtered_conv`) or "down" (x2).
        clamp: Results stay within +-clamp (times `gain` of the call); None for no limit.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activation: Activation = "linear",
        use_bias: bool = True,
        resampling: Literal["none", "up", "down"] = "none",
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.resampling = resampling
        self.clamp = clamp
        size = (out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.randn(size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if use_bias else None
        self.gain = ACTIVATION_GAIN[activation]
        self.weight_gain = self.gain / math.sqrt(in_channels * kernel_size**2)
        if resampling != "none":
            self.register_buffer("resample_filter", fir_kernel(), persistent=False)

    def forward(self, features: Tensor, *, gain: float = 1.0) -> Tensor:
        """Map (B, Cin, H, W) to (B, out_channels, H', W'), in the precision of `features`.

        Args:
            features: The map.
            gain: Factor of the result and of the clamp.
        """
        weight = (self.weight * (self.weight_gain * gain)).to(features.dtype)
        bias = None
        if self.bias is not None:
            bias = (self.bias * (self.gain * gain)).to(features.dtype)
        if self.resampling == "down":
            features = filtered_conv_downsample(features, weight, self.resample_filter, bias)
        elif self.resampling == "up":
            features = upsample_filtered_conv(features, weight, self.resample_filter)
            features = features if bias is None else features + bias[:, None, None]
        else:
            features = F.conv2d(features, weight, bias, padding=weight.shape[-1] // 2)
        clamp = None if self.clamp is None else self.clamp * gain
        return activate(features, self.activation, clamp)
