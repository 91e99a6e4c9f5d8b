"""Blocks of L2IC's line of generators: gated convolutions, codes joined to maps, residuals."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.precision import widen

_NORM_SPREAD = 0.02  # Standard deviation of the initial scales of batch normalisation.


def gate(features: Tensor) -> Tensor:
    """GLU of maps (B, 2 C, H, W): the first C channels times the sigmoid of the others.

    That of torch hands gradients back in another order than that of maps with channels last, and
    batch normalisation is slow with both; for these there is another way back.
    """
    if features.is_contiguous():
        return F.glu(features, dim=1)
    gated: Tensor = _Gate.apply(features)
    return gated


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor) -> Tensor:
        context.save_for_backward(features)
        return F.glu(features, dim=1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (features,) = context.saved_tensors
        values, gates = features.chunk(2, dim=1)
        share = torch.sigmoid(gates)
        if torch.is_grad_enabled():  # To be differentiated again, which writing in place forbids.
            of_gates = torch.ops.aten.sigmoid_backward(gradient * values, share)
            return torch.cat([gradient * share, of_gates], dim=1)
        found = torch.empty_like(features)
        of_values, of_gates = found.chunk(2, dim=1)
        torch.mul(gradient, share, out=of_values)
        torch.mul(gradient, values, out=of_gates)
        torch.ops.aten.sigmoid_backward.grad_input(of_gates, share, grad_input=of_gates)
        return found


class GatedConv(nn.Module):
    """Enlargement by repetition, 3x3 convolution, batch normalisation, and GLU.

    GLU is the first half of the channels times the sigmoid of the second.

    Args:
        num_in: Channels that come in.
        num_out: Channels that go out.
        scale: Factor of the enlargement; 1 for none.
    """

    def __init__(self, num_in: int, num_out: int, scale: int = 1) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(num_in, 2 * num_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * num_out)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, scale * H, scale * W)."""
        if self.scale > 1:
            features = F.interpolate(features, scale_factor=self.scale, mode="nearest")
        return gate(self.norm(self.conv(features)))


class JoinedConv(nn.Module):
    """A `GatedConv` of maps beside a one-hot code that is repeated at each pixel.

    The code's part of a convolution with zeros around is, at each pixel, the sum of those taps of
    one slice of the kernel that fall inside. It is computed so, without the code's maps; the result
    is the same.

    Args:
        num_features: Channels of the maps.
        num_codes: Length K of the code.
        num_out: Channels that go out.
        code_first: Whether the kernel has the code's channels before those of the maps.
    """

    def __init__(
        self, num_features: int, num_codes: int, num_out: int, *, code_first: bool = False
    ) -> None:
        super().__init__()
        self.num_features, self.num_codes, self.code_first = num_features, num_codes, code_first
        self.conv = nn.Conv2d(num_features + num_codes, 2 * num_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * num_out)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        """Map (B, num_features, H, W) and codes (B,) int64 to (B, num_out, H, W)."""
        sizes = [self.num_codes, self.num_features]
        if self.code_first:
            of_code, of_maps = torch.split(self.conv.weight, sizes, dim=1)
        else:
            of_maps, of_code = torch.split(self.conv.weight, sizes[::-1], dim=1)
        joined = F.conv2d(features, of_maps, padding=1)
        taps = of_code.index_select(1, code).transpose(0, 1)  # (B, 2 * num_out, 3, 3)
        height, width = features.shape[2:]
        rows, columns = _inside(height, taps), _inside(width, taps)
        joined = joined + rows @ taps @ columns.T
        return gate(self.norm(joined))


def _inside(size: int, like: Tensor) -> Tensor:
    """Which of three taps fall inside at each of `size` places, (size, 3) of zeros and ones."""
    inside = like.new_ones(size, 3)
    inside[0, 0], inside[-1, 2] = 0, 0
    return inside


class ResidualBlock(nn.Module):
    """Add to (B, width, H, W) a gated convolution of it and a plain one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gated = GatedConv(width, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        """Same shape."""
        residual: Tensor = self.norm(self.conv(self.gated(features)))
        return features + residual


class Start(nn.Module):
    """Latents to the first maps: a dense layer, batch normalisation, GLU.

    Args:
        latent_dim: D.
        width: Channels of the maps, which are 4x4.
    """

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(latent_dim, 32 * width, bias=False)
        self.norm = nn.BatchNorm1d(32 * width)

    def forward(self, latent: Tensor) -> Tensor:
        """Map (B, D) to (B, width, 4, 4)."""
        flat = F.glu(self.norm(self.linear(latent)), dim=1)
        return flat.view(-1, self.width, 4, 4)


class Head(nn.Sequential):
    """A 3x3 convolution and what bounds its values, the latter in float32 at least.

    Args:
        num_in: Channels that come in.
        num_out: 1 for a mask, in [0, 1]; 3 for colours, in [-1, 1].
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        conv = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        super().__init__(conv, nn.Sigmoid() if num_out == 1 else nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, H, W)."""
        layer: Tensor = self[1](widen(self[0](features)))
        return layer


def initialise(network: nn.Module) -> None:
    """Set all weights as the papers do.

    Kernels and dense weights are orthogonal, biases of dense layers 0, scales of batch
    normalisation N(1, 0.02), its shifts 0. Biases of convolutions keep what they have.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, _NORM_SPREAD)
            nn.init.zeros_(layer.bias)
