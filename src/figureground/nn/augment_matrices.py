"""Random matrices of the augmentation pipe in `ada.py`: where pixels come from, and colours.

Draws follow one fixed order (value, then coin, operation by operation), so a seed means the same
pictures from release to release.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

_SHIFT = 0.125  # Largest whole-pixel shift, and standard deviation of the other, by image size.
_SCALE_STD = 0.2  # In octaves, also of the aspect ratio.
_BRIGHTNESS_STD = 0.2
_CONTRAST_STD = 0.5  # In octaves.
_SATURATION_STD = 1.0  # In octaves.


class Dice:
    """Draws for one batch, on the CPU.

    Args:
        count: Pictures B.
        p: Probability that an operation happens to a picture.
        generator: Source of the draws (on any device); None for the global CPU generator.
        percentile: If given, every operation happens and its draws are fixed: U(0, 1) to this
            number q, N(0, 1) to erfinv(2 q - 1), |N(0, 1)| to erfinv(q). This is the authors' test
            mode, to compare with; true percentiles of the latter two are sqrt(2) times as large.
    """

    def __init__(
        self,
        count: int,
        p: float,
        generator: torch.Generator | None = None,
        percentile: float | None = None,
    ) -> None:
        self.count = count
        self.p = p
        self._generator = generator
        self._percentile = percentile
        self._device = None if generator is None else generator.device

    def uniform(self, *size: int) -> Tensor:
        """Draw (B, *size) from [0, 1)."""
        if self._percentile is not None:
            return torch.full((self.count, *size), self._percentile)
        size = (self.count, *size)
        return torch.rand(size, generator=self._generator, device=self._device).cpu()

    def normal(self, *size: int) -> Tensor:
        """Draw (B, *size) from N(0, 1)."""
        if self._percentile is not None:
            return self._fixed(2 * self._percentile - 1, *size)
        size = (self.count, *size)
        return torch.randn(size, generator=self._generator, device=self._device).cpu()

    def half_normal(self) -> Tensor:
        """Draw (B,) absolute values of N(0, 1)."""
        if self._percentile is not None:
            return self._fixed(self._percentile)
        return self.normal().abs()

    def second_angle(self) -> Tensor:
        """Draw (B,) angles of the second rotation; the test mode has it stay at zero."""
        return self.angle() if self._percentile is None else torch.zeros(self.count)

    def angle(self) -> Tensor:
        """Draw (B,) angles from [-pi, pi)."""
        return (self.uniform() * 2 - 1) * math.pi

    def pixels(self, image: Tensor) -> Tensor:
        """Draw N(0, 1) for every pixel, whatever the percentile; by default on its device."""
        device = self._device or image.device
        noise = torch.randn(image.shape, generator=self._generator, device=device)
        return noise.to(image)

    def gate(self, values: Tensor, neutral: float, p: float | None = None) -> Tensor:
        """Replace a picture's values (B, ...) by `neutral` unless the operation happens to it.

        Args:
            values: What was drawn.
            neutral: What leaves a picture as it is.
            p: Probability, if not that of the batch.
        """
        if self._percentile is not None:
            return values
        coin = self.uniform(*(1,) * (values.dim() - 1))
        return torch.where(coin < (self.p if p is None else p), values, neutral)

    def _fixed(self, value: float, *size: int) -> Tensor:
        """Return erfinv(value) as (B, *size)."""
        return torch.full((self.count, *size), value).erfinv()


def translate_2d(x: Tensor | float, y: Tensor | float) -> Tensor:
    """Return the homogeneous matrix of a shift, (B, 3, 3), or (3, 3) for numbers."""
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scale_2d(x: Tensor | float, y: Tensor | float) -> Tensor:
    """Return the homogeneous matrix of a scaling, (B, 3, 3), or (3, 3) for numbers."""
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def rotate_2d(angle: Tensor) -> Tensor:
    """Return homogeneous matrices (B, 3, 3) of rotations by angles (B,)."""
    cos, sin = angle.cos(), angle.sin()
    return _matrix([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def geometry_matrix(
    dice: Dice, operations: Collection[str], height: int, width: int
) -> Tensor | None:
    """Draw from where each pixel of a result comes.

    Args:
        dice: Source of the draws.
        operations: Those that take part.
        height: Of the picture.
        width: Of the picture.

    Returns:
        (B, 3, 3) from pixels of the result to pixels of the picture, both measured from the
        centre; None if no operation moves pixels.
    """
    # The inverses of what happens to the picture, first thing first.
    steps: list[Tensor] = []
    if "xflip" in operations:
        side = dice.gate((dice.uniform() * 2).floor(), 0.0)
        steps.append(scale_2d(1 - 2 * side, 1.0))
    if "rotate90" in operations:
        quarter = dice.gate((dice.uniform() * 4).floor(), 0.0)
        steps.append(rotate_2d(quarter * (math.pi / 2)))
    if "xint" in operations:
        shift = dice.gate((dice.uniform(2) * 2 - 1) * _SHIFT, 0.0)
        steps.append(translate_2d(-(shift[:, 0] * width).round(), -(shift[:, 1] * height).round()))
    steps += _continuous_steps(dice, operations, height, width)
    if not steps:
        return None
    product = torch.eye(3)
    for step in steps:
        product = product @ step
    return product


def _continuous_steps(
    dice: Dice, operations: Collection[str], height: int, width: int
) -> list[Tensor]:
    """Those steps that need interpolation."""
    steps = []
    # Two rotations, of which at least one happens with probability p.
    p_rotate = 1 - math.sqrt(max(1 - dice.p, 0.0))
    if "scale" in operations:
        factor = dice.gate((dice.normal() * _SCALE_STD).exp2(), 1.0)
        steps.append(scale_2d(1 / factor, 1 / factor))
    if "rotate" in operations:
        steps.append(rotate_2d(dice.gate(dice.angle(), 0.0, p_rotate)))
    if "aniso" in operations:
        factor = dice.gate((dice.normal() * _SCALE_STD).exp2(), 1.0)
        steps.append(scale_2d(1 / factor, factor))
    if "rotate" in operations:
        steps.append(rotate_2d(dice.gate(dice.second_angle(), 0.0, p_rotate)))
    if "xfrac" in operations:
        shift = dice.gate(dice.normal(2) * _SHIFT, 0.0)
        steps.append(translate_2d(-shift[:, 0] * width, -shift[:, 1] * height))
    return steps


def color_matrix(dice: Dice, operations: Collection[str]) -> Tensor | None:
    """Draw affine maps of colours, (B, 4, 4), acting on (r, g, b, 1); None if there are none."""
    gray = torch.tensor([1.0, 1, 1, 0]) / math.sqrt(3)
    along = torch.outer(gray, gray)
    identity = torch.eye(4)
    color = torch.diag(torch.tensor([1.0, 1, 1, 0]))
    steps: list[Tensor] = []
    if "brightness" in operations:
        offset = dice.gate(dice.normal() * _BRIGHTNESS_STD, 0.0)
        column = torch.tensor([[1.0], [1], [1], [0]]) @ torch.tensor([[0.0, 0, 0, 1]])
        steps.append(identity + offset[:, None, None] * column)
    if "contrast" in operations:
        factor = dice.gate((dice.normal() * _CONTRAST_STD).exp2(), 1.0)
        steps.append(identity + (factor[:, None, None] - 1) * color)
    if "lumaflip" in operations:
        side = dice.gate((dice.uniform() * 2).floor(), 0.0)
        steps.append(identity - 2 * side[:, None, None] * along)
    if "hue" in operations:
        steps.append(_rotate_about_gray(dice.gate(dice.angle(), 0.0)))
    if "saturation" in operations:
        factor = dice.gate((dice.normal() * _SATURATION_STD).exp2(), 1.0)
        steps.append(along + (identity - along) * factor[:, None, None])
    if not steps:
        return None
    product = identity
    for step in steps:
        product = step @ product
    return product


def _rotate_about_gray(angle: Tensor) -> Tensor:
    """Return (B, 4, 4), the rotations by angles (B,) about the axis from black to white.

    Rodrigues: R = cos I + sin [v]x + (1 - cos) v v^T.
    """
    v = 1 / math.sqrt(3)
    cross = torch.tensor([[0.0, -v, v, 0], [v, 0, -v, 0], [-v, v, 0, 0], [0, 0, 0, 0]])
    color = torch.diag(torch.tensor([1.0, 1, 1, 0]))
    along = torch.full((4, 4), v * v) * color.sum(0) * color.sum(1, keepdim=True)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return torch.eye(4) - color + cos * color + sin * cross + (1 - cos) * along


def _matrix(rows: list[list[Tensor | float]]) -> Tensor:
    """Stack numbers and (B,) tensors into (B, N, N), or (N, N) without tensors."""
    dtype = torch.get_default_dtype()  # As that of draws: float64 in training with 64-true.
    entries = [torch.as_tensor(entry, dtype=dtype) for row in rows for entry in row]
    size = max((entry.shape for entry in entries), key=len)
    stacked = torch.stack([entry.expand(size) for entry in entries], dim=-1)
    return stacked.reshape(*size, len(rows), len(rows))
