"""What ILSGAN shows: layers before and after the perturbation, paths, and where its losses pull."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.nn.paths import slerp

if TYPE_CHECKING:
    from figureground.methods.ilsgan.module import ILSGAN

# Between the mean picture and the latent's own, and on the way from one latent to the next.
_TRUNCATIONS, _PLACES = (0.5, 0.75), (0.25, 0.5, 0.75)
_PARTS = ("background", "foreground", "mask", "cut out", "composite")
#: Of the columns of `layer_grids`.
TITLES = {
    "layers": (*_PARTS, *(f"moved {part}" for part in _PARTS)),
    "gradients": ("at composite", "at mask"),
    "truncation": tuple(f"{share:g}" for share in (0, *_TRUNCATIONS, 1)),
    "interpolation": tuple(f"{place:g}" for place in (0, *_PLACES, 1)),
}


def layer_grids(method: ILSGAN, count: int) -> dict[str, Tensor]:
    """Draw grids of the same `count` latents each time, a row for each.

    Args:
        method: Trained or training ILSGAN.
        count: N rows.

    Returns:
        `layers` (N * 10, 3, S, S): background, foreground, mask, masked foreground and composite,
        then the same after the perturbation; `samples` (N, 3, S, S) composites; `masks`;
        `gradients` (N * 2, 3, S, S): how strongly the generator's loss pulls at each pixel of the
        composite and of the mask; `mixing` (N * N, 3, S, S): the foreground of the row before the
        background of the column; `truncation` (N * 4, 3, S, S) and `interpolation`
        (N * 5, 3, S, S): composites nearer to the mean, and on the way to the next row's. All in
        [-1, 1].
    """
    chance = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        latent = torch.randn(count, method.latent_dim, generator=chance)
        draws = torch.rand(count, method.perturbation.num_draws, generator=chance) * 2 - 1
        picture = method.draw(latent)
        moved = method.perturbation(picture, draws.to(picture.mask))
        columns = [*_show(picture), *_show(moved)]
        gradients = _gradients(method, picture, moved)
        own = picture.composite
        mean = method.draw(latent[:1], 0.0).composite.expand_as(own)
        nearer = [mean, *(method.draw(latent, share).composite for share in _TRUNCATIONS), own]
        following, ones = latent.roll(-1, 0), torch.ones(count, 1)
        points = [slerp(latent, following, place * ones) for place in _PLACES]
        between = [own, *(method.draw(point).composite for point in points), own.roll(-1, 0)]
    mixed = LayeredPicture(
        picture.background[None], picture.foreground[:, None], picture.mask[:, None]
    )
    return {
        "layers": _as_rows(columns),
        "samples": own.clamp(-1, 1),
        "masks": _as_picture(picture.mask),
        "gradients": _as_rows(gradients),
        "mixing": mixed.composite.flatten(0, 1).clamp(-1, 1),
        "truncation": _as_rows(nearer),
        "interpolation": _as_rows(between),
    }


def _as_rows(columns: Sequence[Tensor]) -> Tensor:
    """Columns of (N, 3, S, S) each as one grid, row by row."""
    return torch.stack(list(columns), dim=1).flatten(0, 1).clamp(-1, 1)


def _show(picture: LayeredPicture) -> list[Tensor]:
    mask = _as_picture(picture.mask)
    return [picture.background, picture.foreground, mask, picture.cutout, picture.composite]


@torch.enable_grad()
def _gradients(method: ILSGAN, picture: LayeredPicture, moved: LayeredPicture) -> list[Tensor]:
    """Absolute gradients of the generator's loss at composite and mask, as pictures."""
    moved = moved.detach()
    moved.mask.requires_grad_()
    composite = moved.composite
    loss = method.generator_loss(picture, moved, composite, method.last_sigma)[0]
    found = torch.autograd.grad(loss, [composite, moved.mask])
    return [_stretch(gradient.abs()).expand(-1, 3, -1, -1) for gradient in found]


def _stretch(values: Tensor) -> Tensor:
    """Map the 5th and 95th percentile of `values` (N, C, S, S) to -1 and 1, and cut there."""
    flat = values.double().flatten()
    # The whole grid has one scale; quantile takes 16 million numbers at most.
    flat = flat[:: max(1, len(flat) // 10**6)]
    low, high = flat.quantile(torch.tensor([0.05, 0.95]).to(flat)).to(values)
    stretched: Tensor = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return stretched * 2 - 1


def _as_picture(mask: Tensor) -> Tensor:
    """Turn (N, 1, S, S) in [0, 1] into a grey picture (N, 3, S, S) in [-1, 1]."""
    return (2.0 * mask - 1).expand(-1, 3, -1, -1)
