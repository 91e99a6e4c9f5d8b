"""Masks from what a direction does to brightness, and connected components of masks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from figureground.methods.gan_segmenter.directions import SIGNS, Side
from figureground.methods.gan_segmenter.objective import gray

Rule = Literal["lighting", "std"]

_STD_SHARE = -0.3  # Of the deviation, which the rule `std` cuts at.
# Pixels touch across corners; pictures of a batch do not touch.
_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


def mask_of_one(original: Tensor, shifted: Tensor, side: Side, rule: Rule = "lighting") -> Tensor:
    """What became lighter (along the light direction), or darker (along the dark one).

    Args:
        original: G(z), (B, 3, H, W).
        shifted: G(z + eps v), (B, 3, H, W).
        side: What v does to the foreground.
        rule: `lighting` cuts the difference of grey values at nought, `std` at -0.3 times its
            standard deviation over the whole batch.

    Returns:
        (B, H, W) bool.
    """
    difference = SIGNS[side] * (gray(shifted) - gray(original))
    bound = _STD_SHARE * difference.std() if rule == "std" else 0.0
    return difference > bound


def mask_of_two(light: Tensor, dark: Tensor) -> Tensor:
    """What is lighter in G(z + eps v_light) than in G(z + eps v_dark); (B, H, W) bool."""
    return gray(light - dark) > 0


def label_components(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Number the components of masks, pixels touching across corners, too.

    Args:
        mask: (B, H, W) bool.

    Returns:
        Numbers (B, H, W) int64 that run on from picture to picture, 0 = none; and the area of each
        number, that of 0 being 0. Both on the CPU.
    """
    numbers, count = ndimage.label(mask.cpu().numpy(), _NEIGHBOURS)
    labels = torch.from_numpy(numbers.astype(np.int64))
    areas = torch.bincount(labels.flatten(), minlength=count + 1)
    areas[0] = 0
    return labels, areas


def keep_large_components(mask: Tensor, threshold: float) -> Tensor:
    """Keep components whose area is more than `threshold` of their picture's largest one.

    Args:
        mask: (B, H, W) bool; an empty one stays empty.
        threshold: 0 keeps all.

    Returns:
        (B, H, W) bool.
    """
    if threshold <= 0 or not mask.numel():
        return mask
    labels, areas = label_components(mask)
    own = areas[labels]  # Of the component at each pixel.
    largest = own.flatten(1).amax(dim=1).clamp(min=1)
    # In double precision, as threshold and areas of a file of the authors would be compared.
    return ((own.double() / largest.view(-1, 1, 1)) > threshold).to(mask.device)


def largest_components(mask: Tensor) -> Tensor:
    """The largest component of each of (B, H, W), the first of several; empty if there is none."""
    labels, areas = label_components(mask)
    own = areas[labels].flatten(1)
    best = labels.flatten(1).gather(1, own.argmax(dim=1, keepdim=True))
    return (labels == best.view(-1, 1, 1)) & (labels > 0)
