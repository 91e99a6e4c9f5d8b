"""Masks from what a direction does to brightness, and connected components of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from figureground.methods.gan_segmenter.directions import SIGNS, Side
from figureground.methods.gan_segmenter.objective import gray

Rule = Literal["lighting", "std"]

_BELOW_HALF = 127 / 255
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
    return margin_of_one(original, shifted, side, rule) > 0


def margin_of_one(original: Tensor, shifted: Tensor, side: Side, rule: Rule = "lighting") -> Tensor:
    """By how much grey values are beyond the bound of `mask_of_one`, (B, H, W)."""
    return margin_of_grays(gray(original), gray(shifted), side, rule)


def margin_of_grays(original: Tensor, shifted: Tensor, side: Side, rule: Rule) -> Tensor:
    """As `margin_of_one`, of grey values (B, H, W)."""
    difference = SIGNS[side] * (shifted - original)
    return difference - (_STD_SHARE * difference.std() if rule == "std" else 0.0)


def mask_of_two(light: Tensor, dark: Tensor) -> Tensor:
    """What is lighter in G(z + eps v_light) than in G(z + eps v_dark); (B, H, W) bool."""
    return margin_of_two(light, dark) > 0


def margin_of_two(light: Tensor, dark: Tensor) -> Tensor:
    """By how much it is lighter, (B, H, W)."""
    return gray(light - dark)


def soften(margin: Tensor, mask: Tensor, width: float) -> Tensor:
    """Shares of the object that say how sure a mask is of each pixel.

    With difference d of grey values, s = 1/2 + d / (2 width), limited to [0, 1]; what cleaning has
    dropped is 0. On either side of the half shares agree with the mask, also as bytes.

    Args:
        margin: d, (B, H, W).
        mask: What d > 0 has left after cleaning, (B, H, W) bool.
        width: Difference from which on a pixel is sure; 0 for masks as they are.

    Returns:
        (B, H, W) in [0, 1].
    """
    if width <= 0:
        return mask.to(margin)
    share = (0.5 + margin / (2 * width)).clamp(0, 1)
    ground = torch.where(margin > 0, 0.0, share.clamp(max=_BELOW_HALF))
    return torch.where(mask, share.clamp(min=0.5), ground)


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


def keep_large_components(mask: Tensor, threshold: float | Sequence[float]) -> Tensor:
    """Keep components whose area is more than `threshold` of their picture's largest one.

    Args:
        mask: (B, H, W) bool; an empty one stays empty.
        threshold: 0 keeps all; one for all pictures, or one for each.

    Returns:
        (B, H, W) bool.
    """
    shares = np.broadcast_to(np.asarray(threshold, np.float64), len(mask))
    if not mask.numel() or not shares.any():
        return mask
    numbers, count = ndimage.label(mask.cpu().numpy(), _NEIGHBOURS)
    kept = _are_large(numbers, count, shares)
    return torch.from_numpy(kept.take(numbers)).to(mask.device)


def clean_together(masks: Sequence[Tensor], thresholds: Sequence[float]) -> list[Tensor]:
    """As `keep_large_components`, each (B, H, W) by its own threshold, in one call."""
    shares = np.repeat(thresholds, len(masks[0])).tolist()
    kept = keep_large_components(torch.cat(list(masks)), shares)
    return list(kept.view(len(masks), *masks[0].shape).unbind())


def _are_large(
    numbers: npt.NDArray[np.int32], count: int, shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether each number of (B, H, W) is a component to keep, (count + 1,); 0 is none."""
    areas = np.bincount(numbers.ravel(), minlength=count + 1)
    # Numbers run on from picture to picture, so the last one of each tells whose the others are.
    last = np.maximum.accumulate(numbers.reshape(len(numbers), -1).max(axis=1))
    owner = np.searchsorted(last, np.arange(1, count + 1))
    largest = np.zeros(len(numbers))
    np.maximum.at(largest, owner, areas[1:])
    kept = np.zeros(count + 1, bool)
    # In double precision, as threshold and areas of a file of the authors would be compared.
    kept[1:] = areas[1:] / largest[owner] > shares[owner]
    return kept


def largest_components(mask: Tensor) -> Tensor:
    """The largest component of each of (B, H, W), the first of several; empty if there is none."""
    labels, areas = label_components(mask)
    own = areas[labels].flatten(1)
    best = labels.flatten(1).gather(1, own.argmax(dim=1, keepdim=True))
    return (labels == best.view(-1, 1, 1)) & (labels > 0)
