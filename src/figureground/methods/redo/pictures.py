"""The picture grids of the ReDO paper, as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.types import VOID, Batch
from figureground.viz.truth import gray_truth

if TYPE_CHECKING:
    from figureground.methods.redo.module import ReDO


@torch.no_grad()
def redraw_grids(method: ReDO, batch: Batch) -> dict[str, Tensor]:
    """Draw one grid per region, a row per picture.

    Columns: input, truth, hard mask, soft mask, redraw with the row's own latent, then one redraw
    for each of B latents shared down the column, so that a column shows one texture on all rows.

    Args:
        method: Trained or training ReDO.
        batch: B pictures, masks optional.

    Returns:
        `redraw_background`, `redraw_object` (`redraw_object<k>` if K > 2): (B * (5 + B), 3, S, S)
        in [-1, 1], row by row.
    """
    image, count = batch.image, len(batch)
    num_regions, latent_dim = method.num_regions, method.latent_dim
    soft = method.segment(image)
    hard = F.one_hot(soft.argmax(dim=1), num_regions).movedim(3, 1)
    truth = torch.zeros_like(image[:, :1])
    if batch.mask is not None:
        labelled = batch.mask.masked_fill(batch.mask == VOID, 0)
        # Two regions at least: an empty mask is black, not a division by zero.
        truth = gray_truth(batch.mask, max(int(labelled.max()) + 1, 2))
    own, shared = torch.randn(2, count, num_regions, latent_dim, device=image.device)
    redraws = [method.redraw(image, own)]
    redraws += [method.redraw(image, latent.expand(count, -1, -1)) for latent in shared]
    grids = {}
    for k in range(num_regions):
        masks = (truth, hard[:, k : k + 1], soft[:, k : k + 1])
        columns = [image, *map(_as_picture, masks), *(redraw[:, k] for redraw in redraws)]
        object_name = "object" if num_regions == 2 else f"object{k}"
        name = f"redraw_{object_name if k else 'background'}"
        grids[name] = torch.stack(columns, dim=1).flatten(0, 1)
    return grids


def _as_picture(mask: Tensor) -> Tensor:
    """Turn (B, 1, S, S) in [0, 1] into a grey picture (B, 3, S, S) in [-1, 1]."""
    return (2.0 * mask - 1).expand(-1, 3, -1, -1)
