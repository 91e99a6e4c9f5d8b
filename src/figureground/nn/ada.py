"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with Limited Data").

`AugmentPipe` changes real and painted pictures alike before the discriminator sees them, each
operation with probability p; `AdaController` raises p while the discriminator is too sure about
real pictures. Everything is differentiable with respect to the pictures, twice if need be.

The operations and their strengths are those of the paper's appendix B. Matrices are made on the
CPU: they are tiny, and the padding needs their corners as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.core.bounds import Fraction, PositiveFloat, PositiveInt
from figureground.nn.augment_matrices import (
    Dice,
    color_matrix,
    geometry_matrix,
    scale_2d,
    translate_2d,
)
from figureground.nn.grid_sample import grid_sample
from figureground.nn.precision import widen
from figureground.nn.resample import fir_resample
from figureground.nn.wavelets import SYM2, SYM6, low_pass, octave_bank

_GROUPS: dict[str, tuple[str, ...]] = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
_PRESETS: dict[str, tuple[str, ...]] = {
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}
_OPERATIONS = tuple(name for names in _GROUPS.values() for name in names)

_NUM_BANDS = 4
_BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # Expected power of natural pictures per octave.
_NOISE_STD = 0.1
_CUTOUT_SIZE = 0.5


class AugmentPipe(nn.Module):
    """Random geometry, colour, filtering and corruption, one draw per picture.

    Args:
        operations: Names of presets ("bg", "bgc", "bgcf", "bgcfn", "bgcfnc"), of groups ("blit",
            "geom", "color", "filter", "noise", "cutout") or of single operations; one or several.
        p: Initial strength: the probability of each operation.
    """

    p: Tensor
    geometry_filter: Tensor
    filter_bank: Tensor

    def __init__(self, operations: str | Sequence[str] = "bgc", p: Fraction = 0.0) -> None:
        super().__init__()
        if problems := self.check_options(operations=operations):
            raise ValueError("; ".join(problems))
        self.operations = _expand(operations)
        self.register_buffer("p", torch.tensor(float(p)))
        self.register_buffer("geometry_filter", low_pass(SYM6), persistent=False)
        self.register_buffer("filter_bank", octave_bank(SYM2, _NUM_BANDS), persistent=False)

    @staticmethod
    def check_options(*, operations: str | Sequence[str], **_: Any) -> list[str]:
        """Problems of names that stand for nothing."""
        unknown = sorted(_expand(operations) - set(_OPERATIONS))
        if not unknown:
            return []
        known = ", ".join(dict.fromkeys((*_PRESETS, *_GROUPS, *_OPERATIONS)))
        return [f"unknown augmentation {', '.join(unknown)}; expected any of {known}"]

    def forward(
        self,
        image: Tensor,
        *,
        generator: torch.Generator | None = None,
        percentile: float | None = None,
    ) -> Tensor:
        """Return changed pictures.

        Args:
            image: (B, 3, H, W), nominally in [-1, 1].
            generator: Source of all draws (on any device); None for the global generators: the
                CPU's, and for pixels of noise that of their device.
            percentile: For tests: every operation happens with fixed draws, see `Dice`; in (0, 1).

        Returns:
            (B, 3, H, W), float32 or wider, not limited to [-1, 1].
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
        p = self.p.item() if percentile is None else 1.0
        dice = Dice(len(image), p, generator, percentile)
        with torch.autocast(image.device.type, enabled=False):
            image = widen(image)
            height, width = image.shape[2:]
            geometry = geometry_matrix(dice, self.operations, height, width)
            if geometry is not None:
                image = self._warp(image, geometry)
            color = color_matrix(dice, self.operations)
            if color is not None:
                color = color.to(image)
                pixels = torch.baddbmm(color[:, :3, 3:], color[:, :3, :3], image.flatten(2))
                image = pixels.view_as(image)
            if "filter" in self.operations:
                image = self._filter(image, dice)
            if "noise" in self.operations:
                image = _add_noise(image, dice)
            if "cutout" in self.operations:
                image = _cut_out(image, dice)
        return image

    def _warp(self, image: Tensor, inverse: Tensor) -> Tensor:
        """Resample at twice the resolution, with low-pass filters before and after.

        Args:
            image: (B, 3, H, W).
            inverse: (B, 3, 3) on the CPU, from pixels of the result to those of `image`, both
                measured from the centre.
        """
        taps = len(self.geometry_filter)
        support = 2 * (taps // 4)
        height, width = image.shape[2:]
        left, right, top, bottom = _margins(inverse, height, width, support)
        image = F.pad(image, (left, right, top, bottom), mode="reflect")
        inverse = translate_2d((left - right) / 2, (top - bottom) / 2) @ inverse
        before, after = (taps + 1) // 2, taps // 2 - 1
        image = fir_resample(
            image, self.geometry_filter, up=2, padding=(before, after, before, after), gain=4
        )
        inverse = scale_2d(2, 2) @ inverse @ scale_2d(0.5, 0.5)
        inverse = translate_2d(-0.5, -0.5) @ inverse @ translate_2d(0.5, 0.5)
        size = (len(image), 3, 2 * (height + support), 2 * (width + support))
        inverse = (
            scale_2d(2 / image.shape[3], 2 / image.shape[2])
            @ inverse
            @ scale_2d(size[3] / 2, size[2] / 2)
        )
        grid = F.affine_grid(inverse[:, :2].to(image), list(size), align_corners=False)
        image = grid_sample(image, grid)
        edge = after - support
        return fir_resample(image, self.geometry_filter, down=2, padding=(edge,) * 4, flip=True)

    def _filter(self, image: Tensor, dice: Dice) -> Tensor:
        """Amplify octaves at random, keeping the expected power."""
        power = torch.tensor(_BAND_POWER)
        gains = torch.ones(dice.count, _NUM_BANDS)
        for band in range(_NUM_BANDS):
            gain = torch.ones(dice.count, _NUM_BANDS)
            gain[:, band] = dice.gate(dice.normal().exp2(), 1.0)
            gains = gains * gain / (power * gain.square()).sum(dim=1, keepdim=True).sqrt()
        kernels = gains.to(image) @ self.filter_bank.to(image)  # (B, taps), symmetric
        reach = kernels.shape[1] // 2
        kernels = kernels.repeat_interleave(3, dim=0)[:, None]  # (3 B, 1, taps)
        planes = F.pad(image, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
        planes = F.conv2d(planes, kernels[:, :, None, :], groups=len(kernels))
        planes = F.conv2d(planes, kernels[:, :, :, None], groups=len(kernels))
        return planes.view_as(image)


class AdaController(nn.Module):
    """Steer the strength of a pipe by how often the discriminator calls real pictures real.

    With r = mean sign(D(real)), p moves by a constant step towards more when r is above target and
    towards less when it is below.

    Args:
        target: r aimed at.
        interval: Iterations between moves.
        speed: Thousands of real pictures in which p can go from 0 to 1.
    """

    sign_sum: Tensor
    count: Tensor

    def __init__(
        self,
        *,
        target: Fraction = 0.6,
        interval: PositiveInt = 4,
        speed: PositiveFloat = 500.0,
    ) -> None:
        super().__init__()
        self.target = target
        self.interval = interval
        self.speed = speed
        self.register_buffer("sign_sum", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Take note of scores of real (augmented) pictures, (B,), of all processes."""
        counts = torch.stack([logits.sign().sum(), logits.new_tensor(logits.numel())])
        # At once, since data-parallel training gives all processes the buffers of the first.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        self.sign_sum += counts[0]
        self.count += counts[1]

    @torch.no_grad()
    def update(self, pipe: AugmentPipe, iteration: int, batch_size: int) -> None:
        """Move `pipe.p` if it is time, and forget the scores.

        Args:
            pipe: What is steered.
            iteration: Number of the iteration; multiples of `interval` move p.
            batch_size: Real pictures per iteration, over all devices.
        """
        if iteration % self.interval:
            return
        step = batch_size * self.interval / (self.speed * 1000)
        # Without scores there is nothing to go by: both sides are zero then.
        direction = (self.sign_sum - self.target * self.count).sign()
        pipe.p.add_((direction * step).to(pipe.p)).clamp_(min=0)
        self.sign_sum.zero_()
        self.count.zero_()


def _expand(names: str | Sequence[str]) -> frozenset[str]:
    """Turn names of presets, groups and operations into those of operations."""
    operations: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        for group in _PRESETS.get(name, (name,)):
            operations.update(_GROUPS.get(group, (group,)))
    return frozenset(operations)


def _margins(inverse: Tensor, height: int, width: int, support: int) -> tuple[int, int, int, int]:
    """Return how far warped pictures reach past the original: left, right, top, bottom."""
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = torch.tensor([[-x, x, x, -x], [-y, -y, y, y], [1.0, 1, 1, 1]])
    reached = (inverse @ corners)[:, :2].transpose(0, 1).flatten(1)  # (2, 4 B)
    half, limit = torch.tensor([x, y]), torch.tensor([width - 1.0, height - 1.0])
    near = (support - half - reached.amin(dim=1)).clamp(min=0).minimum(limit).ceil()
    far = (support - half + reached.amax(dim=1)).clamp(min=0).minimum(limit).ceil()
    return int(near[0]), int(far[0]), int(near[1]), int(far[1])


def _add_noise(image: Tensor, dice: Dice) -> Tensor:
    """Add white noise of random strength |N| * 0.1."""
    strength = dice.gate(dice.half_normal() * _NOISE_STD, 0.0).to(image)
    return image + dice.pixels(image) * strength[:, None, None, None]


def _cut_out(image: Tensor, dice: Dice) -> Tensor:
    """Blacken (to 0) a rectangle of half the height and width around a random centre."""
    size = dice.gate(torch.full((dice.count, 1), _CUTOUT_SIZE), 0.0)
    center = dice.uniform(2)  # (B, 2), x and y
    height, width = image.shape[2:]
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    outside_x = (x - center[:, :1]).abs() >= size / 2  # (B, W)
    outside_y = (y - center[:, 1:]).abs() >= size / 2  # (B, H)
    kept = outside_x[:, None, :] | outside_y[:, :, None]  # (B, H, W)
    return image * kept[:, None].to(image)
