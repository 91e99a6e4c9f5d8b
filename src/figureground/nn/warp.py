"""Sampling grids of geometric transformations, as `grid_sample` takes them.

All matrices map output coordinates to input coordinates, both in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALLEST_DIVISOR = 1e-8


def projective_grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Grid of a homography.

    Args:
        matrix: (N, 3, 3).
        size: Height and width of the output; its corner pixels lie at -1 and 1.

    Returns:
        (N, H, W, 2), to be sampled with `align_corners=True`.
    """
    points = lattice(size, matrix)
    mapped = F.pad(points, (0, 1), value=1.0) @ matrix.mT  # (N, H*W, 3)
    depth = mapped[..., 2:]
    depth = torch.where(depth.abs() > _SMALLEST_DIVISOR, depth, torch.ones_like(depth))
    return (mapped[..., :2] / depth).view(len(matrix), *size, 2)


def lattice(size: tuple[int, int], like: Tensor) -> Tensor:
    """Evenly spaced points (H*W, 2) from -1 to 1 inclusive, x before y, row after row."""
    y, x = torch.meshgrid(
        *(torch.linspace(-1, 1, length, dtype=like.dtype, device=like.device) for length in size),
        indexing="ij",
    )
    return torch.stack([x.flatten(), y.flatten()], dim=1)


class ThinPlateSpline(nn.Module):
    """Grids of thin-plate splines over a square of control points (Bookstein 1989).

    The spline is linear in the control points, so a grid is one matrix product.

    Args:
        size: Height and width of the output.
        grid_size: Control points per side.
    """

    def __init__(self, size: tuple[int, int], grid_size: int = 4) -> None:
        super().__init__()
        double = torch.zeros((), dtype=torch.float64)
        points = lattice((grid_size, grid_size), double)
        count = len(points)
        kernel = double.new_zeros(count + 3, count + 3)
        kernel[:count, :count] = _radial(points, points)
        border = torch.cat([double.new_ones(count, 1), points], dim=1)
        kernel[:count, count:], kernel[count:, :count] = border, border.mT
        targets = lattice(size, double)
        basis = torch.cat(
            [_radial(targets, points), double.new_ones(len(targets), 1), targets], dim=1
        )
        self.size = size
        matrix = (basis @ torch.linalg.inv(kernel))[:, :count]
        self.register_buffer("matrix", matrix.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("points", points.to(torch.get_default_dtype()), persistent=False)
        self.matrix: Tensor
        self.points: Tensor

    def forward(self, offset: Tensor) -> Tensor:
        """Grid (N, H, W, 2) for control points moved by `offset` (N, grid_size**2, 2)."""
        grid: Tensor = self.matrix @ (self.points + offset)
        return grid.view(len(offset), *self.size, 2)


def _radial(one: Tensor, other: Tensor) -> Tensor:
    """0.5 r^2 log r^2 of all distances, 0 at r = 0."""
    square = (one[:, None] - other[None]).square().sum(dim=2)
    return 0.5 * torch.xlogy(square, square)
