"""Masks over pictures and layers on checkerboards, as uint8 arrays."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

from figureground.core.types import VOID

Pixels = npt.NDArray[np.uint8]

#: One colour per region from 1 on, easy to tell apart, also without red-green vision.
COLORS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0]],
    np.float64,
)
_VOID_GREY = 128
_GOLDEN = 0.618034  # Multiples of it spread evenly over the circle of hues.
_LIGHT, _DARK, _SQUARE = 230, 180, 8  # Checkerboard: two greys, side of a square in pixels.


def label_colors(count: int = 256) -> Pixels:
    """Colours (count, 3) of the labels 0 to `count` - 1: black, `COLORS`, then hues far apart.

    A label has the same colour however many there are.
    """
    more = [
        colorsys.hls_to_rgb(n * _GOLDEN % 1, (0.45, 0.65)[n % 2], 0.7)
        for n in range(max(count - 1 - len(COLORS), 0))
    ]
    colors = np.concatenate([np.zeros((1, 3)), COLORS, 255 * np.array(more).reshape(-1, 3)])
    return np.asarray(colors[:count].round(), np.uint8)


def overlay(image: Pixels, mask: Pixels, strength: float = 0.5) -> Pixels:
    """Tint the regions of an index mask and draw their outlines; void pixels turn grey.

    Args:
        image: (H, W, 3).
        mask: Index mask (H, W), 0 = background, which stays as it is, `VOID` = unlabelled.
        strength: Share of the tint.
    """
    void = mask == VOID
    tint = COLORS[(mask.astype(int) - 1) % len(COLORS)]
    tint[void] = _VOID_GREY
    result = np.where(mask[..., None] > 0, (1 - strength) * image + strength * tint, image)
    padded = np.pad(mask, 1, mode="edge")
    inside = np.ones(mask.shape, bool)
    for shift in ((0, 1), (2, 1), (1, 0), (1, 2)):
        rows, columns = shift
        window = padded[rows : rows + mask.shape[0], columns : columns + mask.shape[1]]
        inside &= window == mask
    result[~inside & (mask > 0) & ~void] = 255
    return np.asarray(result.round().clip(0, 255), np.uint8)


def on_checkerboard(rgba: Pixels) -> Pixels:
    """Show what is transparent in (H, W, 4) as a checkerboard, (H, W, 3)."""
    rows, columns = np.indices(rgba.shape[:2]) // _SQUARE
    board = np.where((rows + columns) % 2, _DARK, _LIGHT)[..., None]
    alpha = rgba[..., 3:] / 255.0
    return np.asarray((alpha * rgba[..., :3] + (1 - alpha) * board).round(), np.uint8)


def mask_to_gray(mask: Pixels, num_regions: int) -> Pixels:
    """Spread region indices over black to white: 0 and 255 for two regions; void is grey."""
    shades = mask.astype(np.float64) * (255 / max(num_regions - 1, 1))
    return np.where(mask == VOID, _VOID_GREY, shades).astype(np.uint8)
