"""Squares cut out of photographs before they are resized."""

from __future__ import annotations

import numpy as np

from figureground.core.errors import DataError
from figureground.data.samples import Pixels

Box = tuple[int, int, int, int]  # Left, top, width, height.

_MARGIN = 0.75  # Half side of the square in longer sides of the box, as DRC and ILSGAN have it.


def cut_centre(pixels: Pixels) -> Pixels:
    """Return the middle square of (H, W, ...); odd excess goes to the right and the bottom."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def cut_box(pixels: Pixels, box: Box, name: str = "the picture") -> Pixels:
    """Return the square around `box`, half as large again, as far as (H, W, ...) reaches.

    Args:
        pixels: The picture.
        box: Left, top, width, height.
        name: Of the picture, for the message.

    Raises:
        DataError: The box has no pixel in the picture.
    """
    left, top, width, height = box
    rows_in, columns_in = pixels.shape[:2]
    if min(width, height, left + width, top + height, columns_in - left, rows_in - top) <= 0:
        raise DataError(
            f"the box of {name} (left {left}, top {top}, {width}x{height}) has no pixel in its "
            f"picture of {columns_in}x{rows_in}; put the original boxes and pictures there"
        )
    radius = max(int(_MARGIN * max(width, height)), 1)  # Of a box of one pixel, too.
    row, column = int(top + height / 2), int(left + width / 2)
    rows = slice(max(row - radius, 0), row + radius)
    return np.ascontiguousarray(pixels[rows, max(column - radius, 0) : column + radius])
