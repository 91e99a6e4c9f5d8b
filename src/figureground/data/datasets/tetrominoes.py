"""Tetrominoes: three bevelled tetrominoes on black, side by side (Kabra et al., 2019)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt

from figureground.core.bounds import Bounds, Count, PositiveInt
from figureground.data.datasets.multi_objects import (
    MultiObjects,
    Scenes,
    Source,
    index_masks,
    shape_bytes,
)
from figureground.data.datasets.toy import Split
from figureground.data.tfrecord import Example

SIDE, BLOCK, PIECES = 35, 5, 3
COLORS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1),
    "yellow": (1, 1, 0), "magenta": (1, 0, 1), "cyan": (0, 1, 1),
}  # fmt: skip
#: The fixed tetrominoes, `/` between rows, by the letter that they are called by.
_DRAWINGS = {
    "I": ("####", "#/#/#/#"),
    "O": ("##/##",),
    "S": (".##/##.", "#./##/.#"),
    "Z": ("##./.##", ".#/##/#."),
    "T": ("###/.#.", ".#/##/.#", ".#./###", "#./##/#."),
    "J": ("#../###", "##/#./#.", "###/..#", ".#/.#/##"),
    "L": ("..#/###", "#./#./##", "###/#..", "##/.#/.#"),
}
LETTERS = "".join(_DRAWINGS)
_LETTERS = [letter for letter, drawings in _DRAWINGS.items() for _ in drawings]  # Of each shape.
#: (19, 4, 2): row and column of the blocks of each piece, in blocks, sorted.
SHAPES = np.array(
    [
        [(y, x) for y, row in enumerate(drawing.split("/")) for x, c in enumerate(row) if c == "#"]
        for drawings in _DRAWINGS.values()
        for drawing in drawings
    ]
)
#: Brightness of a block's pixels, measured on published samples: lit from above and the right.
BEVEL = np.array(
    [
        [0.75, 1, 1, 1, 0.875],
        [0.5, 0.625, 0.625, 0.625, 0.75],
        [0.5, 0.625, 0.625, 0.625, 0.75],
        [0.5, 0.625, 0.625, 0.625, 0.75],
        [0.375, 0.25, 0.25, 0.25, 0.5],
    ]
)
_EXTENTS = BLOCK * (SHAPES.max(axis=1) + 1)  # (19, 2): heights and widths in pixels.
_PIXELS = (BEVEL[..., None, None] * np.array(list(COLORS.values())).T * 255).round()


class Tetrominoes(MultiObjects):
    """35x35 pictures of three pieces of 19 classes in 6 colours.

    Instances are 1..3; of drawn pictures and of records classes follow the order of `SHAPES`, from
    1 on, skipping shapes that `letters` leaves out. The collection speaks of 17 shapes; there are
    19.

    Args:
        split: As for `MultiObjects`, like all options not named here.
        num_pieces: Pieces per drawn picture.
        letters: Kinds of pieces that are drawn, such as `IOS`, each in all its rotations.
    """

    name = "tetrominoes"
    file_name = "tetrominoes_train.tfrecords"
    published = 60_000
    side = SIDE
    num_classes = len(SHAPES)
    chunk = 256

    def __init__(
        self,
        split: Split,
        count: PositiveInt | None = None,
        source: Source = "generate",
        root: str = "data",
        seed: Count = 0,
        transductive: bool = False,
        num_pieces: Annotated[int, Bounds(1, PIECES)] = PIECES,
        letters: str = LETTERS,
    ) -> None:
        if problems := self.check_options(letters=letters):
            raise ValueError("; ".join(problems))
        self.num_pieces, self.letters = num_pieces, letters
        super().__init__(split, count, source, root, seed, transductive)

    @staticmethod
    def check_options(*, letters: str, **_: object) -> list[str]:
        """Problems of options that types do not show."""
        if letters and set(letters) <= set(LETTERS):
            return []
        return [f"letters={letters}: expected some of {LETTERS}"]

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        return f"{super().fingerprint()}-{self.num_pieces}-{self.letters}"

    def draw(self, rng: np.random.Generator, count: int) -> Scenes:
        """Draw `count` pictures; see `draw_tetrominoes`."""
        chosen = [number for number, letter in enumerate(_LETTERS) if letter in self.letters]
        return draw_tetrominoes(rng, count, self.num_pieces, np.array(chosen))

    @classmethod
    def decode(cls, example: Example) -> Scenes:
        """Turn a record into one picture; classes come from the masks, not from `shape`.

        Raises:
            ValueError: It is not a record of Tetrominoes.
        """
        image = shape_bytes(example, "image", (SIDE, SIDE, 3))
        masks = shape_bytes(example, "mask", (PIECES + 1, SIDE, SIDE))
        instances = index_masks(masks)
        table = np.array([0] + [_classify(instances == 1 + piece) for piece in range(PIECES)])
        return Scenes(image[None], instances[None], table[instances][None].astype(np.uint8))


def draw_tetrominoes(
    rng: np.random.Generator,
    count: int,
    num_pieces: int = PIECES,
    chosen: npt.NDArray[np.int64] | None = None,
) -> Scenes:
    """Draw pictures of pieces that do not overlap.

    Shapes and colours are drawn first, then positions until nothing overlaps: drawing shapes anew
    as well would favour compact ones.

    Args:
        rng: Source of chance.
        count: Pictures N.
        num_pieces: Pieces per picture, 3 at most.
        chosen: Numbers of the shapes to draw from, or None for all.

    Returns:
        Pictures (N, 35, 35), instances 1..3, classes from 1 on in the order of `chosen`.
    """
    if chosen is None:
        chosen = np.arange(len(SHAPES))
    kinds = rng.integers(len(chosen), size=(count, num_pieces))
    shapes = chosen[kinds]
    colors = rng.integers(len(COLORS), size=(count, num_pieces))
    corners = _place(rng, shapes)
    blocks = corners[:, :, None] + BLOCK * SHAPES[shapes]  # (N, 3, 4, 2)
    offsets = np.arange(BLOCK)[:, None] * SIDE + np.arange(BLOCK)
    places = np.arange(count)[:, None, None] * SIDE**2 + blocks[..., 0] * SIDE + blocks[..., 1]
    pixels = places[..., None, None] + offsets  # (N, 3, 4, 5, 5)
    images = np.zeros((count * SIDE**2, 3), np.uint8)
    instances, classes = (np.zeros(count * SIDE**2, np.uint8) for _ in range(2))
    painted = _PIXELS.astype(np.uint8).transpose(3, 0, 1, 2)  # (6, 5, 5, 3)
    images[pixels] = painted[colors][:, :, None]
    instances[pixels] = np.arange(1, num_pieces + 1)[:, None, None, None]
    classes[pixels] = (kinds + 1)[..., None, None, None]
    size = (count, SIDE, SIDE)
    return Scenes(images.reshape(*size, 3), instances.reshape(size), classes.reshape(size))


def _place(rng: np.random.Generator, shapes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Draw top left corners (N, 3, 2) of pieces (N, 3) inside the picture without overlap."""
    corners = np.empty((*shapes.shape, 2), np.int64)
    left = np.arange(len(shapes))
    first, second = np.triu_indices(shapes.shape[1], 1)
    while len(left):
        pieces = shapes[left]
        drawn = rng.integers(SIDE + 1 - _EXTENTS[pieces])
        blocks = drawn[:, :, None] + BLOCK * SHAPES[pieces]
        apart = np.abs(blocks[:, first, :, None] - blocks[:, second, None]).max(axis=-1)
        free = (apart >= BLOCK).all(axis=(1, 2, 3))
        corners[left[free]] = drawn[free]
        left = left[~free]
    return corners


def _classify(mask: npt.NDArray[np.bool_]) -> int:
    """Class 1..19 of a piece by the blocks that its mask (H, W) covers.

    Raises:
        ValueError: It covers no tetromino.
    """
    rows, columns = np.nonzero(mask)
    if len(rows):
        middle = BLOCK // 2
        cells = mask[rows.min() + middle :: BLOCK, columns.min() + middle :: BLOCK]
        blocks = np.argwhere(cells)
        if blocks.shape == SHAPES[0].shape:
            found = np.flatnonzero((blocks == SHAPES).all(axis=(1, 2)))
            if len(found):
                return int(found[0]) + 1
    raise ValueError("has a mask that is not a tetromino")
