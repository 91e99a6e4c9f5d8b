"""Pictures taken apart, changed and put together: what moves, what appears, what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from figureground.core.edits import (
    Duplicate,
    Edit,
    Move,
    Recolor,
    Remove,
    Reorder,
    Scale,
    Swap,
    find_problems,
    read_edits,
    write_edits,
)
from figureground.core.errors import UserError
from figureground.core.types import Layers
from figureground.data.editing import Stack, take_apart

SIDE = 40
GRAY, RED, BLUE = -0.2, (1.0, -1.0, -1.0), (-1.0, -1.0, 1.0)


def square(left: int, top: int, side: int = 8) -> Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, top : top + side, left : left + side] = 1
    return mask


def plain(color: tuple[float, ...]) -> Tensor:
    return torch.tensor(color)[:, None, None].expand(3, SIDE, SIDE)


class Known:
    """Two squares that overlap, the second in front, unless the order says otherwise."""

    resolution, device = SIDE, torch.device("cpu")

    def __init__(self, order: list[int] | None = None) -> None:
        self.order = order

    def decompose(self, image: Tensor) -> Layers:
        masks = [torch.ones(1, SIDE, SIDE), square(8, 8), square(12, 12)]
        opacity = torch.stack(masks)[None]
        one, two = masks[1], masks[2]
        alpha = torch.stack([(1 - one) * (1 - two), one * (1 - two), two])[None]
        color = torch.stack([plain((GRAY,) * 3), plain(RED), plain(BLUE)])[None]
        order = None if self.order is None else torch.tensor([self.order])
        return Layers(color, alpha, opacity, order)


class Recasting(Known):
    def recast(self, image: Tensor, layer: int, label: int) -> tuple[Tensor, Tensor]:
        if label > 2:
            raise ValueError("there is no sprite 3; expected 1 to 2")
        return plain((1.0, 1.0, 1.0))[None], square(0, 0, 4)[None]


class Cutting(Known):
    """Knows only what is seen; layers show the picture itself."""

    def decompose(self, image: Tensor) -> Layers:
        mask = square(8, 8)
        color = image.unsqueeze(1).expand(-1, 2, -1, -1, -1)
        return Layers(color, torch.stack([1 - mask, mask])[None])


def picture() -> Any:
    return np.full((SIDE, SIDE, 3), 102, np.uint8)


def start(method: Any = None, *edits: Edit) -> Tensor:
    return take_apart(method or Known(), picture()).edit(edits).composite()


def is_color(image: Tensor, x: int, y: int, color: tuple[float, ...]) -> bool:
    return torch.allclose(image[:, y, x], torch.tensor(color), atol=0.02)


def test_without_edits_the_stack_is_the_composite() -> None:
    layers = Known().decompose(torch.zeros(1, 3, SIDE, SIDE))
    assert_close(start(), layers.composite[0])


def test_moving_reveals_what_was_hidden() -> None:
    moved = start(None, Move(layer=2, x=0.5, y=0.25))
    assert is_color(moved, 14, 14, RED)
    assert is_color(moved, 12 + 20 + 2, 12 + 10 + 2, BLUE)
    assert is_color(moved, 18, 18, (GRAY,) * 3)


def test_scaling_keeps_the_centre() -> None:
    bigger = start(None, Scale(layer=2, by=2))
    assert all(is_color(bigger, n, n, BLUE) for n in (9, 16, 22))
    assert not any(is_color(bigger, n, n, BLUE) for n in (6, 26))


def test_painting_keeps_shading() -> None:
    stack = take_apart(Known(), picture())
    layer = stack.layers[0]
    shaded = layer.color * torch.linspace(0.5, 1, SIDE)
    stack = Stack(stack.background, (type(layer)(1, 1, shaded, layer.opacity),))
    painted = stack.edit([Recolor(layer=1, color=(0, 200, 0))]).composite()
    assert (painted[0, 8:16, 8:16] == -1).all()
    green = painted[1, 10, 8:16]
    assert (green[1:] > green[:-1]).all()
    assert float((green.mean() + 1) * 127.5) == pytest.approx(200, abs=3)


@pytest.mark.parametrize(("to", "front"), [("front", 1), ("back", 2), (1, 2), (2, 1)])
def test_reordering_puts_layers_in_front_and_behind(to: Any, front: int) -> None:
    image = start(None, Reorder(layer=1, to=to))
    assert is_color(image, 14, 14, RED if front == 1 else BLUE)


def test_order_of_the_method_is_kept() -> None:
    assert is_color(start(Known([0, 2, 1])), 14, 14, RED)


def test_removing_duplicating_and_naming_the_copy() -> None:
    image = start(
        None, Remove(layer=2), Duplicate(layer=1, x=0.5, y=0), Recolor(layer=2, color=(0, 0, 255))
    )
    assert is_color(image, 10, 10, RED)
    assert is_color(image, 30, 10, BLUE)
    copy = take_apart(Known(), picture()).edit([Duplicate(layer=1)])
    assert [(layer.number, layer.source) for layer in copy.layers] == [(1, 1), (3, 1), (2, 2)]


def test_swapping_keeps_moves_and_needs_classes() -> None:
    image = start(Recasting(), Move(layer=2, x=0.5), Swap(layer=2, to=1))
    assert is_color(image, 22, 2, (1.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"edits\[0\] \(Swap\): there is no sprite 3"):
        start(Recasting(), Swap(layer=1, to=3))
    with pytest.raises(UserError, match="has no classes to swap; use the other edits"):
        start(Known(), Swap(layer=1, to=1))


def test_background_is_continued_where_only_what_is_seen_is_known() -> None:
    pixels = picture()
    pixels[8:16, 8:16] = (255, 0, 0)
    stack = take_apart(Cutting(), pixels)
    assert not stack.has_hidden
    assert_close(stack.composite(), torch.tensor(pixels).movedim(2, 0) / 127.5 - 1)
    gone = stack.edit([Remove(layer=1)]).composite()
    assert (gone - GRAY).abs().max() < 0.02
    moved = stack.edit([Move(layer=1, x=0.5)]).composite()
    assert is_color(moved, 32, 12, RED)
    assert is_color(moved, 12, 12, (GRAY,) * 3)


def test_results_have_the_size_of_the_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 50, 3), np.uint8)
    cut = take_apart(Cutting(), pixels)
    # The layers show the picture, so that no detail is lost.
    assert_close(cut.layers[0].color, torch.tensor(pixels).movedim(2, 0) / 255)
    assert take_apart(Known(), pixels).composite().shape == (3, 90, 50)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Move(layer=7), r"there is no layer 7; there are: 1, 2"),
        (Reorder(layer=1, to=3), "there is no place 3; expected front, back or 1 to 2"),
    ],
)
def test_what_is_not_there_is_named(edit: Edit, message: str) -> None:
    with pytest.raises(UserError, match=message):
        start(None, edit)
    with pytest.raises(UserError, match="there is no layer 1; there are: none"):
        start(None, Remove(layer=1), Remove(layer=2), Remove(layer=1))


def test_methods_without_layers_are_refused() -> None:
    with pytest.raises(UserError, match="cannot take pictures apart"):
        take_apart(SimpleNamespace(), picture())


def test_written_edits_are_checked_and_come_back() -> None:
    written = [
        {"do": "move", "layer": 1, "x": 0.5, "y": 0.0},
        {"do": "recolor", "layer": 2, "color": (1, 2, 3)},
        {"do": "reorder", "layer": 1, "to": "front"},
        {"do": "remove", "layer": 1},
    ]
    assert find_problems(written) == []
    assert write_edits(read_edits(written)) == written
    problems = find_problems([
        {"do": "moove", "layer": 1}, {"layer": 1}, {"do": "move", "layer": 0, "x": 3.0},
        {"do": "scale", "layer": 1}, {"do": "recolor", "layer": 1, "color": [1, 2]},
    ])  # fmt: skip
    assert "did you mean 'move'" in problems[0]
    assert "edits[1].do=None" in problems[1]
    assert problems[2].startswith("edits[2].layer=0: expected a whole number from 1")
    assert problems[3].startswith("edits[2].x=3.0: expected a number from -1 to 1")
    assert problems[4] == "edits[3].by is not set; add edits[3].by=..."
    assert problems[5] == "edits[4].color=[1, 2]: expected a list of 3"
