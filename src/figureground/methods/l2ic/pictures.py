"""What L2IC shows: decompositions, and grids in which one code changes and others stay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from figureground.methods.l2ic.codes import Codes
from figureground.methods.l2ic.composition import exchange_backgrounds

if TYPE_CHECKING:
    from figureground.methods.l2ic.module import L2IC

_COLUMNS = 5
_OTHERS = range(1, _COLUMNS)
#: Of the columns of `code_grids`.
TITLES = {
    "decomposition": ("picture", "mask", "foreground", "background", "other ground"),
    "poses": tuple(f"pose {number}" for number in range(1, _COLUMNS + 1)),
    "categories": ("source", *(f"other category {number}" for number in _OTHERS)),
    "backgrounds": ("source", *(f"other ground {number}" for number in _OTHERS)),
    "clusters": ("real", *(f"its cluster, pose {number}" for number in _OTHERS)),
}


def code_grids(method: L2IC, image: Tensor) -> dict[str, Tensor]:
    """Draw grids of the same codes each time, a row for each of `image` (N, 3, S, S).

    Returns:
        All (N * 5, 3, S, S) in [-1, 1]. `decomposition`: picture, mask, layers, and the foreground
        before another background. `poses`: a row has one category and background, a column one z.
        `categories` and `backgrounds`: only c, or only b, changes along a row. `clusters`: real
        pictures, and drawn ones of the category that they are sorted into. Of codes that the
        networks do not have there are none: all pictures of a row would be the same.
    """
    count, chance = len(image), torch.Generator().manual_seed(0)
    codes = method.draw_codes(count, "distinct", chance)
    poses = method.draw_codes(_COLUMNS, "uniform", chance)
    with torch.no_grad():
        picture = method.draw(codes)
        own, mask = picture.composite, (2 * picture.mask - 1).expand(-1, 3, -1, -1)
        parts = [own, mask, picture.foreground, picture.background]
        # Where there is no b, that of another z.
        grids = {"decomposition": [*parts, exchange_backgrounds(picture, codes)[0].composite]}
        if "b" in method.codes:
            steps = [_step(codes.background, n, method.num_backgrounds) for n in _OTHERS]
            swapped = [method.draw(replace(codes, background=b)).composite for b in steps]
            grids = {"decomposition": [*parts, swapped[0]], "backgrounds": [own, *swapped]}
        if "c" in method.codes:
            steps = [_step(codes.category, n, method.num_categories) for n in _OTHERS]
            recast = [method.draw(replace(codes, category=c)).composite for c in steps]
            grids["categories"] = [own, *recast]
            grids["poses"] = _in_poses(method, codes.category, codes.background, poses)
            found = method.cluster(image)
            drawn = _in_poses(method, found, method.background_of(found), poses)
            grids["clusters"] = [image, *drawn[1:]]
        return {name: _as_rows(columns) for name, columns in grids.items()}


def _in_poses(method: L2IC, category: Tensor, background: Tensor, poses: Codes) -> list[Tensor]:
    """A column of N pictures for each of the latents in `poses`."""
    columns = []
    for latent, variation in zip(poses.latent, poses.variation, strict=True):
        count = len(category)
        codes = Codes(latent.expand(count, -1), category, background, variation.expand(count, -1))
        columns.append(method.draw(codes).composite)
    return columns


def _step(index: Tensor, places: int, count: int) -> Tensor:
    """Other codes, evenly spread over `count`."""
    return (index + max(1, count // _COLUMNS) * places) % count


def _as_rows(columns: list[Tensor]) -> Tensor:
    """Columns of (N, 3, S, S) each as one grid, row by row."""
    return torch.stack(columns, dim=1).flatten(0, 1).clamp(-1, 1)
