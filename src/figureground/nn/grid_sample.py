"""Bilinear sampling that can be differentiated twice with respect to the picture.

Gradient penalties through augmented pictures need this, and PyTorch's own operator had a first
derivative only for years (2.15 has both; its issue 34704). Sampling is linear in the picture, so
its derivative is the adjoint, and the derivative of the adjoint is sampling again.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BILINEAR, _ZEROS = 0, 0  # The operator's own numbers for these modes.


def grid_sample(image: Tensor, grid: Tensor) -> Tensor:
    """Sample with zeros outside and corners at the outer edges (`align_corners=False`).

    Args:
        image: (B, C, H, W).
        grid: (B, H', W', 2), x and y in [-1, 1]; gets no gradient.

    Returns:
        (B, C, H', W').
    """
    sampled: Tensor = _Sample.apply(image, grid)
    return sampled


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = image.shape
        return F.grid_sample(image, grid, "bilinear", "zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(gradient, grid, ctx.shape), None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        image = gradient.new_zeros(shape)  # Only its shape matters.
        result: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), image, grid, _BILINEAR, _ZEROS, False, [True, False]
        )[0]
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradient, grid), None, None
