"""Layers in front of one another: composing them, and choosing a sprite for each.

Shapes: B pictures, L layers, K sprites to choose from. An occlusion matrix d (B, L, L) says by
d[j, l] how much layer j hides layer l, in [0, 1]. With a background, it is layer 0: opaque, hidden
by everything, hiding nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor


def fill_occlusion(lower: Tensor, num_layers: int) -> Tensor:
    """Occlusion matrices (B, L, L) from their lower triangles (B, L (L - 1) / 2), row by row.

    What layer j does not hide of layer l is what l hides of j: d[l, j] = 1 - d[j, l].
    """
    rows, columns = torch.tril_indices(num_layers, num_layers, -1, device=lower.device)
    matrix = lower.new_zeros(len(lower), num_layers, num_layers)
    matrix = matrix.index_put((_every(lower), rows, columns), lower)
    return matrix.index_put((_every(lower), columns, rows), 1 - lower)


def order_by_depth(depth: Tensor) -> Tensor:
    """Occlusion matrices from one depth per layer (B, L), d[j, l] = sigmoid(z_j - z_l).

    Unlike free matrices these cannot run in circles.
    """
    matrix = torch.sigmoid(depth.unsqueeze(2) - depth.unsqueeze(1))
    return matrix * (1 - torch.eye(depth.shape[1], dtype=depth.dtype, device=depth.device))


def fixed_occlusion(num_layers: int, like: Tensor) -> Tensor:
    """Later layers hide earlier ones: (1, L, L)."""
    return like.new_ones(num_layers, num_layers).tril(-1).unsqueeze(0)


def add_background(occlusion: Tensor) -> Tensor:
    """Put the background in front of the list: (B, L + 1, L + 1)."""
    size = occlusion.shape[1] + 1
    matrix = occlusion.new_zeros(len(occlusion), size, size)
    matrix[:, 1:, 0] = 1
    matrix[:, 1:, 1:] = occlusion
    return matrix


def visibility(mask: Tensor, occlusion: Tensor) -> Tensor:
    """What is seen of each layer: v_l = m_l prod_j (1 - d[j, l] m_j).

    Args:
        mask: (B, L, 1, H, W).
        occlusion: (B or 1, L, L), zero on the diagonal.

    Returns:
        (B, L, 1, H, W).
    """
    seen = mask
    for j in range(mask.shape[1]):
        hides = occlusion[:, j, :, None, None, None]
        seen = seen * (1 - hides * mask[:, j : j + 1])
    return seen


def compose(color: Tensor, mask: Tensor, occlusion: Tensor) -> Tensor:
    """Composite of layers (B, L, 3, H, W) with masks (B, L, 1, H, W): (B, 3, H, W)."""
    return (visibility(mask, occlusion) * color).sum(dim=1)


def search_greedily(
    image: Tensor,
    color: Tensor,
    mask: Tensor,
    background: Tensor | None,
    occlusion: Tensor,
    *,
    num_sweeps: int = 1,
    penalty: Tensor | None = None,
) -> tuple[Tensor, list[float]]:
    """Choose a sprite for each layer, one layer after the other, from empty layers on.

    With the others fixed, a composite is affine in the candidate: I_k = A + m_k (V c_k - R) with V
    what they leave of the layer, A the composite without it, and R what it would hide of that. So a
    layer costs one composition and one pass over its candidates, and again only if others changed.

    Args:
        image: (B, 3, H, W).
        color: Candidates (L, B, K, 3, H, W).
        mask: Their masks (L, B, K, 1, H, W).
        background: (B, 3, H, W) or None.
        occlusion: (B or 1, L, L) without the background.
        num_sweeps: Passes over the layers; fewer if one changes nothing.
        penalty: Added to the errors of the candidates, (K,).

    Returns:
        Choices (B, L) int64 (the first of equals), and the share of choices that each sweep
        changed, in [0, 1].
    """
    num_layers = len(color)
    paint = mask * color
    chosen = _Chosen(image, background, occlusion)
    changes: list[float] = []
    settled = 0  # Layers in a row, the last one tried included, that are the best for the others.
    for _ in range(num_sweeps):
        changed = 0
        for layer in range(num_layers):
            if settled == num_layers:
                break
            parts = chosen.without(layer)
            best = _best_candidate(image, paint[layer], mask[layer], parts, penalty)
            moved = int((best != chosen.choice[:, layer]).sum())
            settled, changed = 1 if moved else settled + 1, changed + moved
            if moved:
                chosen.put(layer, best, paint[layer], mask[layer])
        changes.append(changed / chosen.choice.numel())
        if not changed:
            break
    return chosen.choice, changes


def join_changes(parts: Sequence[tuple[int, Sequence[float]]]) -> list[float]:
    """Shares of changed choices over all pictures, from numbers of pictures with their shares.

    Pictures whose search ended early changed nothing in later sweeps.
    """
    total = sum(count for count, _ in parts)
    sweeps = zip_longest(*(changes for _, changes in parts), fillvalue=0.0)
    return [
        sum(count * share for (count, _), share in zip(parts, shares, strict=True)) / total
        for shares in sweeps
    ]


class _Chosen:
    """The layers of a search so far; the background, if there is one, is the first.

    Args:
        image: (B, 3, H, W).
        background: (B, 3, H, W) or None.
        occlusion: (B or 1, L, L) without the background.

    Attributes:
        choice: (B, L) int64, -1 for layers that are empty still.
    """

    def __init__(self, image: Tensor, background: Tensor | None, occlusion: Tensor) -> None:
        num_layers, self.first = occlusion.shape[1], int(background is not None)
        hides = occlusion if background is None else add_background(occlusion)[:, 1:]
        self.hides = hides[..., None, None, None]  # by layers (B or 1, L, 1, 1, 1) of all
        size = num_layers + self.first
        self.paint = image.new_zeros(len(image), size, *image.shape[1:])
        if background is not None:
            self.paint[:, 0] = background
        # What each layer leaves of every other.
        self.left = image.new_ones(num_layers, len(image), size, 1, *image.shape[2:])
        self.choice = torch.full((len(image), num_layers), -1, device=image.device)

    def put(self, layer: int, best: Tensor, paint: Tensor, mask: Tensor) -> None:
        """Set a layer to candidates `best` (B,) of (B, K, ...): colour times mask, and mask."""
        rows = torch.arange(len(best), device=best.device)
        self.choice[:, layer] = best
        self.paint[:, layer + self.first] = paint[rows, best]
        torch.mul(self.hides[:, layer], mask[rows, best].unsqueeze(1), out=self.left[layer])
        self.left[layer].neg_().add_(1)

    def without(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """A and R (B, 3, H, W) and V (B, 1, H, W) of `search_greedily` for one layer."""
        own = layer + self.first
        seen = torch.ones_like(self.left[0])
        for other in range(len(self.left)):
            if other != layer:
                seen.mul_(self.left[other])
        free = seen[:, own].clone()
        seen[:, own] = 0
        shown = seen * self.paint
        return shown.sum(dim=1), shown.mul_(self.hides[:, layer]).sum(dim=1), free


def _best_candidate(
    image: Tensor,
    paint: Tensor,
    mask: Tensor,
    parts: tuple[Tensor, Tensor, Tensor],
    penalty: Tensor | None,
) -> Tensor:
    """Candidate of least error for each picture, (B,), from (B, K, ...) candidates."""
    rest, hidden, free = (part.unsqueeze(1) for part in parts)
    difference = torch.addcmul(rest - image.unsqueeze(1), free, paint)
    error = difference.addcmul_(mask, hidden, value=-1).square_().mean(dim=(2, 3, 4))
    if penalty is not None:
        error = error + penalty
    return error.argmin(dim=1)


def score_all(
    image: Tensor, color: Tensor, mask: Tensor, background: Tensor | None, occlusion: Tensor
) -> Tensor:
    """Errors of every combination of one background and one sprite per layer.

    Args:
        image: (B, 3, H, W).
        color: (L, B, K, 3, H, W).
        mask: (L, B, K, 1, H, W).
        background: (M, B, 3, H, W) or None.
        occlusion: (B or 1, L, L) without the background.

    Returns:
        Mean squared errors (B, max(M, 1) * K**L), backgrounds slowest, the last layer fastest.
    """
    num_layers, _, num_sprites = color.shape[:3]
    errors = []
    full = occlusion if background is None else add_background(occlusion)
    for ground in [None] if background is None else background:
        for choice in itertools.product(range(num_sprites), repeat=num_layers):
            layers = [color[layer, :, k] for layer, k in enumerate(choice)]
            masks = [mask[layer, :, k] for layer, k in enumerate(choice)]
            if ground is not None:
                layers = [ground, *layers]
                masks = [torch.ones_like(masks[0]), *masks]
            composite = compose(torch.stack(layers, 1), torch.stack(masks, 1), full)
            errors.append((composite - image).square().mean(dim=(1, 2, 3)))
    return torch.stack(errors, dim=1)


def split_choice(number: Tensor, num_sprites: int, num_layers: int) -> tuple[Tensor, Tensor]:
    """Background (B,) and sprites (B, L) of combinations numbered as in `score_all`."""
    sprites = []
    for _ in range(num_layers):
        sprites.append(number % num_sprites)
        number = number // num_sprites
    return number, torch.stack(sprites[::-1], dim=1)


def _every(lower: Tensor) -> Tensor:
    return torch.arange(len(lower), device=lower.device).unsqueeze(1)
