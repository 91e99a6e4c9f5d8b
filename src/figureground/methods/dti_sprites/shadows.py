"""Shadows of layers on the background, so that masks need not explain them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.methods.dti_sprites.transforms import Perceptrons, StackedPerceptrons

_DARKEST, _FARTHEST = 0.8, 0.5  # Largest share of light taken; shift, 2 being the picture.
_FIRST = -2.0  # Before the sigmoid: shadows start faint.


class Shadows(nn.Module):
    """Darkens a background by the shifted, blurred masks of the layers in front of it.

    Args:
        num_layers: L.
        num_features: Length of the feature vectors.
        perceptrons: Shape of the predictors.
    """

    def __init__(self, num_layers: int, num_features: int, perceptrons: Perceptrons) -> None:
        super().__init__()
        self.perceptrons = StackedPerceptrons(num_layers, num_features, 3, perceptrons)

    def forward(self, background: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """Cast shadows.

        Args:
            background: (B, 3, H, W).
            mask: (B, L, 1, H, W); shadows follow it, but do not shape it.
            features: (B, F).

        Returns:
            The background with the shadow of each layer, (B, 3, H, W).
        """
        count, num_layers, _, height, width = mask.shape
        numbers = self.perceptrons(features).transpose(0, 1).flatten(0, 1).to(mask)  # (B L, 3)
        strength = _DARKEST * torch.sigmoid(numbers[:, 0] + _FIRST)
        theta = torch.eye(2, 3).to(numbers).repeat(len(numbers), 1, 1)
        theta = theta + F.pad(-_FARTHEST * numbers[:, 1:].tanh().unsqueeze(2), (2, 0))
        flat = mask.detach().flatten(0, 1)
        grid = F.affine_grid(theta, [len(flat), 1, height, width], align_corners=False)
        shadow = F.grid_sample(flat, grid, align_corners=False)
        side = max(height // 8, 1) // 2 * 2 + 1
        shadow = F.avg_pool2d(shadow, side, stride=1, padding=side // 2)
        light = 1 - strength[:, None, None, None] * shadow
        return background * light.view(count, num_layers, 1, height, width).prod(dim=1)
