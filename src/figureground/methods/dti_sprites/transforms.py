"""Transformations of sprites, predicted from an image's features (paper, section 3.2).

A `TransformGroup` holds as many sequences as there are sprites, layers or backgrounds. All of them
apply the same modules with parameters of their own, so their perceptrons are stacked into batched
matrix products and their warps into one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.warp import ThinPlateSpline, projective_grid

Padding = Literal["zeros", "border"]
ALIASES = {
    "id": "identity", "col": "color", "aff": "affine", "pos": "position", "sim": "similarity",
    "proj": "projective", "homography": "projective", "thinplatespline": "tps",
    "morpho": "morphological",
}  # fmt: skip
#: Numbers that each transformation needs; those of `tps` and `morphological` depend on options.
NUM_PARAMETERS = {
    "identity": 0, "color": 6, "affine": 6, "position": 3, "similarity": 4, "projective": 9,
    "tps": 32, "morphological": 10,
}  # fmt: skip


def soft_clamp(x: Tensor, slope: float = 0.01) -> Tensor:
    """Clamp to [0, 1] with a gradient of `slope` outside."""
    return torch.lerp(x.clamp(0, 1), x, slope)


def parse_sequence(text: str) -> list[str]:
    """Split a sequence such as `color_projective_tps` into full names.

    Raises:
        ValueError: A name is not known.
    """
    names = [ALIASES.get(name, name) for name in text.split("_")]
    for name in names:
        if name not in NUM_PARAMETERS:
            raise ValueError(
                f"{text}: there is no transformation {name!r}; there are "
                f"{', '.join(NUM_PARAMETERS)}, joined by _"
            )
    return names


class Perceptrons(NamedTuple):
    """Shape of the predictors.

    Attributes:
        num_hidden: Hidden layers.
        width: Units of each.
    """

    num_hidden: int = 2
    width: int = 128


_DEFAULT_SHAPE = Perceptrons()


class StackedPerceptrons(nn.Module):
    """Q perceptrons on the same input, as batched products; the last layers start at zero.

    Args:
        num: Q.
        num_in: Features.
        num_out: Outputs.
        shape: Hidden layers.
    """

    def __init__(
        self, num: int, num_in: int, num_out: int, shape: Perceptrons = _DEFAULT_SHAPE
    ) -> None:
        super().__init__()
        sizes = [num_in, *[shape.width] * shape.num_hidden, num_out]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for size_in, size_out in pairwise(sizes):
            self.weights.append(nn.Parameter(torch.empty(num, size_in, size_out)))
            self.biases.append(nn.Parameter(torch.empty(num, 1, size_out)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Hidden layers as `nn.Linear` draws them, the last one zero."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            bound = 1 / math.sqrt(weight.shape[1])
            weight.uniform_(-bound, bound)
            bias.uniform_(-bound, bound)
        self.weights[-1].zero_()
        self.biases[-1].zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, F) to (Q, B, num_out)."""
        num = len(self.weights[0])
        hidden = features.expand(num, -1, -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, F.relu(hidden) if number else hidden, weight)
        return hidden

    @torch.no_grad()
    def copy_rows(self, targets: Sequence[int], source: int) -> list[nn.Parameter]:
        """Overwrite perceptrons `targets` by `source`; return the parameters that changed."""
        parameters = [*self.weights, *self.biases]
        for parameter in parameters:
            parameter[list(targets)] = parameter[source].clone()
        return parameters


class TransformGroup(nn.Module):
    """Q sequences of the same transformations, each with its own parameters.

    Images come as (..., C, h, w) with colour in the first three channels; further channels (mask,
    canvas) are warped but not coloured.

    Args:
        sequence: Names joined by `_`.
        num: Q.
        num_features: Length of the feature vectors.
        size: Height and width of what leaves the group.
        milestones: Iteration after which the second, third, ... module joins; empty: all at once.
        padding: What lies outside an image: `zeros` for sprites, `border` for backgrounds.
        perceptrons: Shape of the predictors.
        grid_size: Control points per side of `tps`.
        kernel_size: Side of the window of `morphological`.
        clamp: What keeps colours that `color` changes near [0, 1].
    """

    def __init__(
        self,
        sequence: str,
        num: int,
        num_features: int,
        size: tuple[int, int],
        *,
        milestones: Sequence[int] = (),
        padding: Padding = "zeros",
        perceptrons: Perceptrons = _DEFAULT_SHAPE,
        grid_size: int = 4,
        kernel_size: int = 3,
        clamp: Callable[[Tensor], Tensor] = soft_clamp,
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.names = parse_sequence(sequence)
        self.num, self.size, self.padding = num, size, padding
        self.milestones = [0, *milestones] if milestones else [0] * len(self.names)
        self.kernel_size = kernel_size
        counts = NUM_PARAMETERS | {
            "tps": 2 * grid_size**2,
            "morphological": 1 + kernel_size**2,
        }
        self.regressors = nn.ModuleDict(
            {
                str(number): StackedPerceptrons(num, num_features, counts[name], perceptrons)
                for number, name in enumerate(self.names)
                if counts[name]
            }
        )
        self.spline = ThinPlateSpline(size, grid_size) if "tps" in self.names else None

    def active(self, iteration: int | None) -> list[int]:
        """Numbers of the modules with parameters in force at `iteration` (None: all)."""
        return [
            number
            for number, milestone in enumerate(self.milestones)
            if str(number) in self.regressors and (iteration is None or iteration > milestone)
        ]

    def predict(self, features: Tensor, iteration: int | None = None) -> dict[int, Tensor]:
        """Parameters of the active modules: number -> (Q, B, d)."""
        return {number: self.regressors[str(number)](features) for number in self.active(iteration)}

    def forward(self, image: Tensor, parameters: dict[int, Tensor]) -> Tensor:
        """Transform images.

        Args:
            image: (*N, C, h, w).
            parameters: Number of a module -> (*P, d), where P broadcasts with N.

        Returns:
            (*N', C, H, W) with N' the broadcast shape; still (h, w) where no module warps.
        """
        for number, beta in parameters.items():
            image = self._transform(self.names[number], image, beta)
        return image

    def _transform(self, name: str, image: Tensor, beta: Tensor) -> Tensor:
        if name == "color":
            return _recolor(image, beta, self.clamp)
        if name == "morphological":
            return _morph(image, beta, self.kernel_size)
        grid, align = self._grid(name, beta.flatten(0, -2))
        return _warp(image, grid.view(*beta.shape[:-1], *grid.shape[1:]), align, self.padding)

    def _grid(self, name: str, beta: Tensor) -> tuple[Tensor, bool]:
        """Sampling grid (N, H, W, 2) for parameters (N, d), and whether corners are aligned."""
        if name == "projective":
            eye = torch.eye(3, dtype=beta.dtype, device=beta.device)
            return projective_grid(eye + beta.view(-1, 3, 3), self.size), True
        if self.spline is not None and name == "tps":
            return self.spline(beta.view(len(beta), -1, 2)), False
        theta = _affine_matrix(name, beta)
        return F.affine_grid(theta, [len(beta), 1, *self.size], align_corners=False), False


def _affine_matrix(name: str, beta: Tensor) -> Tensor:
    """Matrix (N, 2, 3) of `affine`, `position` or `similarity`."""
    eye = torch.eye(2, 3, dtype=beta.dtype, device=beta.device)
    if name == "affine":
        return eye + beta.view(-1, 2, 3)
    if name == "similarity":
        a, b, x, y = beta.unbind(dim=1)
        return eye + torch.stack([a, -b, x, b, a, y], dim=1).view(-1, 2, 3)
    # At scale 0 the factor is 2: a sprite starts at half the size of the picture.
    scale, x, y = beta.unbind(dim=1)
    factor, zero = 1 + scale.exp(), torch.zeros_like(x)
    return torch.stack([factor, zero, x, zero, factor, y], dim=1).view(-1, 2, 3)


def _recolor(image: Tensor, beta: Tensor, clamp: Callable[[Tensor], Tensor]) -> Tensor:
    """Scale and shift colours, c' = clamp((1 + w) c + b), and leave other channels alone."""
    weight, shift = beta.view(*beta.shape[:-1], 3, 1, 1, 2).unbind(dim=-1)
    color = clamp(torch.addcmul(shift, 1 + weight, image[..., :3, :, :]))
    rest = image[..., 3:, :, :].expand(*color.shape[:-3], -1, -1, -1)
    return torch.cat([color, rest], dim=-3)


def _warp(image: Tensor, grid: Tensor, align_corners: bool, padding: Padding) -> Tensor:
    """Sample images (*N, C, h, w) at grids (*P, H, W, 2) that broadcast with N."""
    lead = _broadcast(image.shape[:-3], grid.shape[:-3])
    # Where several images share one grid they travel as channels of one.
    shared = len(lead) > 1 and grid.shape[-4] == 1 and lead[-1] > 1
    if shared:
        sampled = _warp(image.flatten(-4, -3), grid.squeeze(-4), align_corners, padding)
        return sampled.view(*lead, image.shape[-3], *sampled.shape[-2:])
    image = image.expand(*lead, *image.shape[-3:]).reshape(-1, *image.shape[-3:])
    grid = grid.expand(*lead, *grid.shape[-3:]).reshape(-1, *grid.shape[-3:])
    sampled = F.grid_sample(
        image, grid.to(image.dtype), padding_mode=padding, align_corners=align_corners
    )
    return sampled.view(*lead, *sampled.shape[1:])


def _morph(image: Tensor, beta: Tensor, kernel_size: int) -> Tensor:
    """Soft erosion or dilation of single-channel images (*N, 1, h, w)."""
    lead = _broadcast(image.shape[:-3], beta.shape[:-1])
    flat = image.expand(*lead, *image.shape[-3:]).reshape(-1, *image.shape[-3:])
    beta = beta.expand(*lead, -1).reshape(-1, beta.shape[-1])
    rest = beta.new_full((kernel_size**2,), -5.0)
    rest[kernel_size**2 // 2] = 5.0
    alpha, kernel = beta[:, :1, None], torch.sigmoid(beta[:, 1:] + rest)[:, :, None]
    windows = F.unfold(flat, kernel_size, padding=kernel_size // 2)  # (N, k*k, h*w)
    weights = kernel * (alpha * windows).exp()
    out = (windows * weights).sum(dim=1) / weights.sum(dim=1)
    return out.view(*lead, *flat.shape[1:])


def _broadcast(*shapes: torch.Size) -> torch.Size:
    shape: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return shape
