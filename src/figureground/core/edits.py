"""Edits of layered pictures as plain records; `data.editing` carries them out.

Written as `{do: move, layer: 1, x: 0.2}`; layers are counted from 1 on, 0 is the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from figureground.core.bounds import Bounds, PositiveInt
from figureground.core.hints import nearest
from figureground.core.signatures import SPECIAL, find_wrong_arguments

Shift = Annotated[float, Bounds(-1, 1)]
Factor = Annotated[float, Bounds(0.05, 20)]
Level = Annotated[int, Bounds(0, 255)]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What all edits have: the layer they change."""

    layer: PositiveInt


@dataclass(frozen=True, kw_only=True)
class Move(Edit):
    """Move a layer to the right and down, by shares of the picture's width and height."""

    x: Shift = 0.0
    y: Shift = 0.0


@dataclass(frozen=True, kw_only=True)
class Scale(Edit):
    """Enlarge a layer about its centre, or shrink it with a factor below one."""

    by: Factor


@dataclass(frozen=True, kw_only=True)
class Recolor(Edit):
    """Paint a layer in one colour (red, green, blue from 0 to 255) and keep its shading."""

    color: tuple[Level, Level, Level]


@dataclass(frozen=True, kw_only=True)
class Reorder(Edit):
    """Put a layer in front of all, at the back, or at a place counted from the back on."""

    to: PositiveInt | Literal["front", "back"]


@dataclass(frozen=True, kw_only=True)
class Remove(Edit):
    """Take a layer away."""


@dataclass(frozen=True, kw_only=True)
class Duplicate(Edit):
    """Put a shifted copy in front of a layer; it takes the next number."""

    x: Shift = 0.1
    y: Shift = 0.1


@dataclass(frozen=True, kw_only=True)
class Swap(Edit):
    """Show a layer as another class (sprite), in its place."""

    to: PositiveInt


EDITS: dict[str, type[Edit]] = {
    "move": Move, "scale": Scale, "recolor": Recolor, "reorder": Reorder, "remove": Remove,
    "duplicate": Duplicate, "swap": Swap,
}  # fmt: skip


def find_problems(edits: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what is wrong with written edits, a line for each problem."""
    problems = []
    for number, written in enumerate(edits):
        place, name = f"edits[{number}]", written.get("do")
        if not isinstance(name, str) or name not in EDITS:
            hint = nearest(str(name), list(EDITS))
            problems.append(f"{place}.do={name}: there is no such edit{hint}")
            continue
        arguments = {key: value for key, value in written.items() if key != "do"}
        problems += [f"{place}.{key}: there is no such option" for key in SPECIAL & {*arguments}]
        problems += find_wrong_arguments(place, EDITS[name], arguments)
    return problems


def read_edits(edits: Sequence[Mapping[str, Any]]) -> list[Edit]:
    """Make records of written edits that `find_problems` has nothing to say about."""
    return [EDITS[w["do"]](**{k: v for k, v in w.items() if k != "do"}) for w in edits]


def write_edits(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Turn records back into what `read_edits` takes."""
    names = {kind: name for name, kind in EDITS.items()}
    return [{"do": names[type(edit)], **asdict(edit)} for edit in edits]
