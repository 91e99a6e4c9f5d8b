"""Pictures taken apart, changed layer by layer and put together again.

    stack = take_apart(method, "cat.jpg").edit([Move(layer=1, x=0.2), Reorder(layer=2, to="front")])
    stack.composite()  # (3, H, W)

Where a method knows what its layers look like behind others, that appears when something moves.
Otherwise hidden parts of objects stay missing, and the background is continued from around them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.edits import (
    Duplicate,
    Edit,
    Move,
    Recolor,
    Remove,
    Reorder,
    Scale,
    Swap,
)
from figureground.core.errors import UserError
from figureground.core.protocols import Decomposer, Recaster
from figureground.core.types import Layers
from figureground.data.batching import to_float
from figureground.data.pictures import Picture, add_detail, enlarge, load_picture, stretch

_LUMA = (0.299, 0.587, 0.114)  # Share of red, green and blue in lightness.

Recast = Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StackedLayer:
    """One object, and what was done to it.

    Attributes:
        number: What it is called by.
        source: Layer of the picture that it comes from.
        color: (3, H, W), in [0, 1].
        opacity: (1, H, W), in [0, 1].
        shift: To the right and down, as shares of width and height.
        scale: Enlargement about its centre.
        paint: Colour in [0, 1] that it is painted in, or None.
    """

    number: int
    source: int
    color: Tensor
    opacity: Tensor
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    paint: tuple[float, ...] | None = None

    def render(self) -> tuple[Tensor, Tensor]:
        """Colour (3, H, W) and opacity (1, H, W) where it is now."""
        color = self.color if self.paint is None else self._painted(self.paint)
        if self.shift == (0.0, 0.0) and self.scale == 1.0:
            return color, self.opacity
        grid = self._grid()
        sample = partial(F.grid_sample, grid=grid, align_corners=False)
        return sample(color[None], padding_mode="border")[0], sample(self.opacity[None])[0]

    def _painted(self, paint: tuple[float, ...]) -> Tensor:
        weights, target = (self.color.new_tensor(v)[:, None, None] for v in (_LUMA, paint))
        light = (weights * self.color).sum(dim=0, keepdim=True)
        mean = (light * self.opacity).sum() / self.opacity.sum().clamp(min=1e-6)
        shading = light / mean if mean > 0.02 else torch.ones_like(light)  # Black has no shades.
        return (shading * target).clamp(0, 1)

    def _grid(self) -> Tensor:
        """Where each pixel of the result comes from, (1, H, W, 2)."""
        height, width = self.opacity.shape[1:]
        total = self.opacity.sum().clamp(min=1e-6)
        axes = [(2 * torch.arange(n) + 1).to(self.opacity) / n - 1 for n in (width, height)]
        center = [
            (self.opacity.sum(dim=dim).squeeze() * axis).sum() / total
            for dim, axis in zip((1, 2), axes, strict=True)
        ]
        theta = self.opacity.new_zeros(1, 2, 3)
        for row in (0, 1):
            theta[0, row, row] = 1 / self.scale
            theta[0, row, 2] = center[row] - (center[row] + 2 * self.shift[row]) / self.scale
        return F.affine_grid(theta, [1, 1, height, width], align_corners=False)


@dataclass(frozen=True)
class Stack:
    """A background and objects in front of it, back to front.

    Attributes:
        background: (3, H, W), in [0, 1].
        layers: Objects from back to front.
        recast: Gives colour and opacity of a layer of the picture as another class; None where the
            method knows none.
        has_hidden: Whether the method knows what is behind other layers.
    """

    background: Tensor
    layers: tuple[StackedLayer, ...]
    recast: Recast | None = None
    has_hidden: bool = True

    def composite(self) -> Tensor:
        """The picture, (3, H, W) in [-1, 1]."""
        made = self.background
        for layer in self.layers:
            color, opacity = layer.render()
            made = made + opacity * (color - made)
        return made * 2 - 1

    def edit(self, edits: Sequence[Edit]) -> Stack:
        """Carry out `edits` one after the other.

        Raises:
            UserError: One names a layer, place or class that is not there.
        """
        stack = self
        for number, each in enumerate(edits):
            try:
                stack = stack._apply(each)
            except ValueError as error:
                raise UserError(f"edits[{number}] ({type(each).__name__}): {error}") from error
        return stack

    def _apply(self, edit: Edit) -> Stack:
        layers = list(self.layers)
        numbers = [layer.number for layer in layers]
        if edit.layer not in numbers:
            there = ", ".join(map(str, sorted(numbers))) or "none"
            raise ValueError(f"there is no layer {edit.layer}; there are: {there}")
        place = numbers.index(edit.layer)
        layer = layers.pop(place)
        if isinstance(edit, Remove):
            return replace(self, layers=tuple(layers))
        if isinstance(edit, Reorder):
            place = _find_place(edit.to, len(layers) + 1)
        elif isinstance(edit, Duplicate):
            layers.insert(place, layer)
            place += 1
            layer = replace(_move(layer, edit.x, edit.y), number=max(numbers) + 1)
        else:
            layer = self._change(layer, edit)
        layers.insert(place, layer)
        return replace(self, layers=tuple(layers))

    def _change(self, layer: StackedLayer, edit: Edit) -> StackedLayer:
        if isinstance(edit, Move):
            return _move(layer, edit.x, edit.y)
        if isinstance(edit, Scale):
            return replace(layer, scale=layer.scale * edit.by)
        if isinstance(edit, Recolor):
            return replace(layer, paint=tuple(level / 255 for level in edit.color))
        if not isinstance(edit, Swap):
            raise TypeError(f"unknown edit {type(edit).__name__}")
        if self.recast is None:
            raise ValueError("this method has no classes to swap; use the other edits")
        color, opacity = self.recast(layer.source, edit.to)
        return replace(layer, color=color, opacity=opacity)


def take_apart(method: Any, picture: Picture) -> Stack:
    """Take one picture of any size apart with a method that can decompose.

    Raises:
        UserError: The method cannot.
        DataError: The file cannot be read.
    """
    if not isinstance(method, Decomposer):
        raise UserError(
            f"{type(method).__name__} cannot take pictures apart, so there are no layers to edit; "
            "use a checkpoint of a method that can, such as redo or dti_sprites"
        )
    pixels = load_picture(picture)
    size = (pixels.shape[0], pixels.shape[1])
    resolution: int = method.resolution  # type: ignore[attr-defined]  # of every method
    device: torch.device = method.device  # type: ignore[attr-defined]
    square = to_float(stretch(pixels, resolution)[None]).to(device)

    def recast(layer: int, label: int) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            color, opacity = method.recast(square, layer, label)  # type: ignore[attr-defined]
        return (enlarge(color.float(), size)[0] + 1) / 2, enlarge(opacity.float(), size)[0]

    with torch.inference_mode():
        layers = method.decompose(square)
        color = torch.stack([add_detail(each.float(), pixels) for each in layers.color[0]])
        return _stack(
            (color + 1) / 2, layers, size, recast if isinstance(method, Recaster) else None
        )


def _stack(color: Tensor, layers: Layers, size: tuple[int, int], recast: Recast | None) -> Stack:
    """Stack the layers of one picture, with their colours (L, 3, H, W) at full size."""
    shares = layers.alpha if layers.opacity is None else layers.opacity
    opacity = enlarge(shares[0].movedim(1, 0).float(), size)[0].unsqueeze(1)  # (L, 1, H, W)
    order = list(range(1, len(color))) if layers.order is None else layers.order[0].tolist()
    has_hidden = layers.opacity is not None
    background = color[0] if has_hidden else _continue(color[0], opacity[0])
    if not has_hidden:
        # Of all that is seen up to a layer, its own part: stacked again, this gives the shares.
        opacity = opacity / opacity.cumsum(dim=0).clamp(min=1e-6)
    stacked = tuple(StackedLayer(n, n, color[n], opacity[n]) for n in order if n > 0)
    return Stack(background, stacked, recast, has_hidden)


def _continue(color: Tensor, weight: Tensor) -> Tensor:
    """Fill in colours (3, H, W) where `weight` (1, H, W) is low, smoothly from around.

    A pyramid of weighted means: what is unknown is taken from the next coarser level.
    """
    weight = weight**8  # What an object shines through shall not leave a halo.
    if max(weight.shape[1:]) == 1:
        return color
    pool = partial(F.avg_pool2d, kernel_size=2, ceil_mode=True, count_include_pad=False)
    mass = pool(weight[None])[0]
    coarse = pool((color * weight)[None])[0] / mass.clamp(min=1e-12)
    known = (mass / mass.max().clamp(min=1e-12)).clamp(max=1) ** (1 / 8)
    below = _continue(coarse, known)[None]
    filled = F.interpolate(below, color.shape[1:], mode="bilinear", align_corners=False)[0]
    return weight * color + (1 - weight) * filled


def _move(layer: StackedLayer, x: float, y: float) -> StackedLayer:
    return replace(layer, shift=(layer.shift[0] + x, layer.shift[1] + y))


def _find_place(to: int | str, count: int) -> int:
    """Place among `count` layers, counted from 0 at the back."""
    if to == "front":
        return count - 1
    if to == "back":
        return 0
    if not 1 <= int(to) <= count:
        raise ValueError(f"there is no place {to}; expected front, back or 1 to {count}")
    return int(to) - 1
