"""Squares cut out of photographs before they are resized."""

from __future__ import annotations

import numpy as np

from figureground.data.samples import Pixels

Box = tuple[int, int, int, int]  # Left, top, width, height.

_MARGIN = 0.75  # Half side of the square in longer sides of the box, as DRC and ILSGAN have it.


def cut_centre(pixels: Pixels) -> Pixels:
    """Return the middle square of (H, W, ...); odd excess goes to the right and the bottom."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def cut_box(pixels: Pixels, box: Box) -> Pixels:
    """Return the square around `box`, half as large again, as far as (H, W, ...) reaches."""
    left, top, width, height = box
    radius = int(_MARGIN * max(width, height))
    row, column = int(top + height / 2), int(left + width / 2)
    rows = slice(max(row - radius, 0), row + radius)
    return np.ascontiguousarray(pixels[rows, max(column - radius, 0) : column + radius])
