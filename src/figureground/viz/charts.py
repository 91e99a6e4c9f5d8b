"""Charts as uint8 arrays (H, W, 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from figureground.core.escaping import one_line
from figureground.viz.overlays import Pixels

_HEIGHT, _STEP, _TEXT = 120, 36, 14  # Of the highest bar, from bar to bar, of a line, in pixels.
_PANEL = (480, 120)  # Width and height of the axes of one curve, in pixels.
_LEFT, _GAP = 64, 28  # Room for numbers beside the axes, and for titles between them.
_LINE, _GRAY = (31, 119, 180), (200, 200, 200)


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
        draw.text((middle, bottom + 3), one_line(label), "black", font, anchor="mt")
    return np.asarray(chart)


def curve_chart(
    positions: Sequence[float], curves: Mapping[str, Sequence[float]], label: str
) -> Pixels:
    """Draw curves below one another, each on axes of its own over the same positions.

    Args:
        positions: Along the horizontal axis, ascending.
        curves: From title to one value per position; those that are not finite leave a gap.
        label: Of the horizontal axis.
    """
    width, height = _PANEL
    size = (_LEFT + width + 16, (height + _GAP) * len(curves) + 2 * _TEXT + 4)
    chart = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(chart), ImageFont.load_default(10)
    low, high = _widen(positions)
    columns = [_LEFT + width * (each - low) / (high - low) for each in positions]
    bottom = 0
    for number, (title, values) in enumerate(curves.items()):
        top = number * (height + _GAP) + _GAP - 6
        bottom = top + height
        draw.text((_LEFT, top - 3), one_line(title), "black", font, anchor="ls")
        draw.rectangle((_LEFT, top, _LEFT + width, bottom), outline=_GRAY)
        _draw_curve(draw, columns, values, top)
    for column, position in {columns[0]: positions[0], columns[-1]: positions[-1]}.items():
        draw.text((column, bottom + 3), f"{position:g}", "black", font, anchor="mt")
    draw.text((_LEFT + width / 2, bottom + 3), one_line(label), "black", font, anchor="mt")
    return np.asarray(chart)


def _draw_curve(
    draw: ImageDraw.ImageDraw, columns: Sequence[float], values: Sequence[float], top: int
) -> None:
    """Draw one curve with its points, and the ends of its vertical axis."""
    font, height = ImageFont.load_default(10), _PANEL[1]
    low, high = _widen([value for value in values if math.isfinite(value)])
    for row, end in ((top, high), (top + height, low)):
        draw.text((_LEFT - 4, row), f"{end:.4g}", "black", font, anchor="rm")
    before: tuple[float, float] | None = None
    for column, value in zip(columns, values, strict=True):
        if not math.isfinite(value):
            before = None
            continue
        point = (column, top + height * (high - value) / (high - low))
        if before is not None:
            draw.line((before, point), _LINE, 2)
        draw.ellipse((point[0] - 3, point[1] - 3, point[0] + 3, point[1] + 3), _LINE)
        before = point


def _widen(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that holds `values`, never the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = (abs(high) * 0.05 or 0.05) if high == low else 0.0
    return low - margin, high + margin
