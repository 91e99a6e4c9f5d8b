"""Single pictures of any size in and out of methods that work on squares of one size."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from figureground.core.errors import DataError
from figureground.core.presence import is_file
from figureground.core.types import Batch, check_image
from figureground.data.batching import to_float
from figureground.data.reading import read_image, to_rgb
from figureground.data.samples import Pixels

T = TypeVar("T")

#: What stands for one picture: a file, a Pillow image, or an array (H, W), (H, W, 3) or (H, W, 4).
Picture = str | Path | Image.Image | npt.NDArray[np.uint8]


def load_picture(picture: Picture) -> Pixels:
    """Return `picture` as uint8 RGB (H, W, 3).

    Raises:
        DataError: The file cannot be read.
        ValueError: The array is not a picture.
    """
    if isinstance(picture, str | Path):
        if not is_file(picture):
            raise DataError(f"{picture} is not a file; give an existing picture")
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if not isinstance(picture, np.ndarray):
        raise ValueError(
            "expected a tensor (B, 3, S, S) or one picture (a file, a Pillow image or an array), "
            f"got {type(picture).__name__}"
        )
    if picture.dtype != np.uint8 or picture.ndim not in {2, 3}:
        raise ValueError(f"expected uint8 (H, W[, C]), got {picture.dtype} {picture.shape}")
    return to_rgb(Image.fromarray(picture))


def stretch(pixels: Pixels, resolution: int) -> Pixels:
    """Resize (H, W, 3) to a square; nothing is cut off, so masks can be stretched back."""
    if pixels.shape[:2] == (resolution, resolution):
        return pixels
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((resolution, resolution), Image.Resampling.LANCZOS))


def accepts_pictures(segment: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Any], Tensor]:
    """Let a method's `segment` take one picture of any size instead of a tensor.

    `method.segment("cat.jpg")` returns probabilities (1, K, H, W) at the picture's own size. The
    method tells its `resolution` and `device`.
    """

    @wraps(segment)
    def wrapper(self: Any, image: Tensor | Picture) -> Tensor:
        if isinstance(image, Tensor):
            return segment(self, image)
        pixels = load_picture(image)
        with torch.inference_mode():
            square = to_float(stretch(pixels, self.resolution)[None]).to(self.device)
            probabilities = segment(self, square).float()
        return enlarge(probabilities, (pixels.shape[0], pixels.shape[1]))

    return wrapper


def segment_stretched(segment: Callable[[Tensor], Tensor], resolution: int, batch: Batch) -> Tensor:
    """Probabilities (B, K, h, w) for scores, by a method that takes squares of one size alone.

    Tests at full resolution hand out pictures of any size: they are stretched, as files are, and
    what is found is stretched back to their masks.
    """
    side = (resolution, resolution)
    if batch.image.shape[2:] == side:
        return segment(batch.image)
    square = F.interpolate(batch.image, side, mode="bilinear", antialias=True)
    height, width = (batch.image[:, 0] if batch.mask is None else batch.mask).shape[1:]
    return enlarge(segment(square), (height, width))


def stretches_pictures(look: Callable[[Any, Tensor], T]) -> Callable[[Any, Any], T]:
    """Let a method of a method take one picture of any size instead of a tensor (B, 3, S, S).

    The picture is stretched to the square that the method works at, which is what comes back.
    """

    @wraps(look)
    def wrapper(self: Any, image: Tensor | Picture) -> T:
        if not isinstance(image, Tensor):
            pixels = stretch(load_picture(image), self.resolution)
            with torch.inference_mode():
                return look(self, to_float(pixels[None]).to(self.device))
        check_image(image, self.resolution)
        return look(self, image)

    return wrapper


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B, K, S, S) to `size` = (H, W), bilinear."""
    return F.interpolate(maps, size, mode="bilinear", antialias=size[0] < maps.shape[-1])


def add_detail(color: Tensor, pixels: Pixels) -> Tensor:
    """Resize a layer's colours (3, S, S) to the picture they come from, (3, H, W) in [-1, 1].

    Args:
        color: In [-1, 1].
        pixels: The picture (H, W, 3); where a layer shows nothing else, it is shown itself.
    """
    small = to_float(stretch(pixels, color.shape[-1])[None])[0].to(color)
    if (color - small).abs().max() <= 1.5 / 127.5:  # One step of eight bits, and rounding.
        return to_float(pixels[None])[0].to(color)
    return enlarge(color[None], (pixels.shape[0], pixels.shape[1]))[0]


def enlarge_labels(labels: Tensor, size: tuple[int, int]) -> Pixels:
    """Resize an index map (S, S) below 256 to uint8 `size` = (H, W) without mixing labels."""
    resized = F.interpolate(labels[None, None].float(), size, mode="nearest-exact")
    return resized[0, 0].to(torch.uint8).cpu().numpy()
