"""Charts as uint8 arrays (H, W, 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from figureground.viz.overlays import Pixels

_HEIGHT, _STEP, _TEXT = 120, 36, 14  # Of the highest bar, from bar to bar, of a line, in pixels.


def bar_chart(shares: Sequence[float], colors: Pixels, labels: Sequence[str]) -> Pixels:
    """Draw one bar per share, its percentage above it and its label below.

    Args:
        shares: Heights in [0, 1]; the largest fills the chart.
        colors: Colour of each bar, (N, 3).
        labels: What each bar stands for.
    """
    size = (_STEP * len(shares) + 4, _HEIGHT + 2 * _TEXT + 4)
    chart = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(chart), ImageFont.load_default(10)
    highest = max(max(shares, default=0.0), 1e-6)
    for number, (share, color, label) in enumerate(zip(shares, colors, labels, strict=True)):
        left, bottom = _STEP * number + 4, _HEIGHT + _TEXT
        top = bottom - round(_HEIGHT * share / highest)
        draw.rectangle((left, top, left + _STEP - 6, bottom), tuple(map(int, color)))
        middle = left + _STEP // 2 - 3
        draw.text((middle, top - 1), f"{share:.0%}", "black", font, anchor="mb")
        draw.text((middle, bottom + 3), label, "black", font, anchor="mt")
    return np.asarray(chart)
