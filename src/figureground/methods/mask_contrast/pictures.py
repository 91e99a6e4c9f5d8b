"""What features look like: their first three principal components as colours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.viz.truth import gray_truth

#: Of the columns of `feature_rows`.
TITLES = ("picture", "mask", "saliency", "features")
_REACH = 2.0  # Standard deviations that a colour spans to either side.
_SMALLEST = 1e-6


def principal_colors(features: Tensor) -> Tensor:
    """First three principal components of features over all pixels, as colours.

    Args:
        features: (B, D, h, w).

    Returns:
        (B, 3, h, w), in [-1, 1]; components that there are not are 0.
    """
    points = features.double().movedim(1, -1).flatten(0, -2)
    points = points - points.mean(dim=0)
    values, vectors = torch.linalg.eigh(points.T @ points / len(points))
    values, vectors = values.flip(0)[:3], vectors.flip(1)[:, :3]
    # Either sign is one; the same each time keeps colours as they were.
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    vectors = vectors * vectors.gather(0, largest).sign()
    colors = points @ vectors / (_REACH * values.clamp(min=0).sqrt()).clamp(min=_SMALLEST)
    colors = F.pad(colors, (0, 3 - colors.shape[1])).clamp(-1, 1)
    return colors.view(len(features), *features.shape[2:], 3).movedim(-1, 1).to(features.dtype)


def feature_rows(image: Tensor, mask: Tensor | None, saliency: Tensor, features: Tensor) -> Tensor:
    """Rows of picture, mask, saliency and features.

    Args:
        image: (B, 3, H, W).
        mask: Objects, (B, h, w); None for none. Void is grey.
        saliency: (B, 1, H, W), in [0, 1].
        features: (B, D, h, w).

    Returns:
        (4 B, 3, H, W), in [-1, 1].
    """
    size = image.shape[2:]
    share = torch.zeros_like(saliency)
    if mask is not None:
        share = F.interpolate(gray_truth(mask).to(saliency), size)
    grays = [(2 * each - 1).expand(-1, 3, -1, -1) for each in (share, saliency)]
    colors = F.interpolate(principal_colors(features), size)
    return torch.stack([image, *grays, colors.to(image)], dim=1).flatten(0, 1)
