"""Grids of pictures as uint8 arrays (H, W, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from figureground.core.escaping import one_line

Pixels = npt.NDArray[np.uint8]

_CELL = 96  # Pictures are enlarged to about this side, so that small ones can be seen.
_CAPTION = 14  # Height of a caption in pixels.


def to_uint8(image: Tensor) -> Pixels:
    """Turn (3, H, W) in [-1, 1] into uint8 (H, W, 3)."""
    pixels = ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round()
    return pixels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def from_uint8(pixels: Pixels) -> Tensor:
    """Turn uint8 (H, W, 3) into (3, H, W) in [-1, 1]."""
    return torch.tensor(pixels).permute(2, 0, 1).float() / 127.5 - 1


def picture_grid(
    pictures: Tensor, columns: int, cell: int = _CELL, titles: Sequence[str] = ()
) -> Pixels:
    """Lay pictures out row by row, small ones enlarged by whole factors.

    Args:
        pictures: (N, 3, H, W), in [-1, 1].
        columns: Pictures per row.
        cell: Side that small pictures are enlarged to, in pixels.
        titles: Of the columns.
    """
    factor = max(1, round(cell / pictures.shape[-1]))
    pictures = F.interpolate(pictures.detach().float().cpu(), scale_factor=factor)
    grid = to_uint8(make_grid(pictures, columns, padding=2, pad_value=1.0))
    if not titles:
        return grid
    strip = Image.new("RGB", (grid.shape[1], _CAPTION), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(10)
    for column, title in enumerate(titles):
        draw.text((column * (pictures.shape[-1] + 2) + 4, 1), one_line(title), "black", font)
    return np.concatenate([np.asarray(strip), grid])


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    captions: Sequence[str],
    titles: Sequence[str],
    cell: int = 128,
) -> Pixels:
    """Lay out rows of pictures of any sizes, with a caption per row and a title per column."""
    captions, titles = [*map(one_line, captions)], [*map(one_line, titles)]
    font = ImageFont.load_default(10)
    ends = [len(row) * (cell + 4) for row in rows]
    # Few pictures are no reason to cut off what is said of them.
    ends += [ceil(font.getlength(caption)) + 4 for caption in captions]
    ends += [n * (cell + 4) + ceil(font.getlength(each)) + 4 for n, each in enumerate(titles)]
    size = (max(ends), _CAPTION + len(rows) * (cell + _CAPTION + 4))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * (cell + 4) + 2, 1), title, "black", font)
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        top = _CAPTION + number * (cell + _CAPTION + 4)
        draw.text((2, top), caption, "black", font)
        for column, pixels in enumerate(row):
            picture = Image.fromarray(pixels)
            if factor := cell // max(picture.size):  # Small ones grow by whole factors.
                size = (picture.width * factor, picture.height * factor)
                picture = picture.resize(size, Image.Resampling.NEAREST)
            picture.thumbnail((cell, cell))
            sheet.paste(picture, (column * (cell + 4), top + _CAPTION))
    return np.asarray(sheet)


def save_png(pixels: Pixels, file: Any) -> None:
    """Encode `pixels`, grey, RGB or RGBA, as PNG into an open binary file."""
    # The highest compression takes ten times as long and gains a tenth.
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)


def save_labels(labels: Pixels, colors: Pixels, file: Any) -> None:
    """Encode an index map (H, W) as PNG whose values are the labels, shown in their colours.

    Args:
        labels: Below 256.
        colors: One colour per label, (N, 3).
        file: Open for bytes.
    """
    picture = Image.fromarray(labels, "L")
    picture.putpalette(colors.tobytes())
    picture.save(file, "PNG")
