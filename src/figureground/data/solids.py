"""Spheres, cylinders and cubes on a ground plane, their order, and where in pictures they may be.

Footprints must not overlap: then the solids of a picture can be painted layer by layer from the
farthest to the nearest, and no depth buffer is needed. `casting` finds the pixels that show them,
`rendering` adds the light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SPHERE, CYLINDER, CUBE = range(3)

_RING = 12  # Points that the outline of a solid's foot and top is bounded by.
_MOST_LAYERS = 16  # Solids in a picture.


class View(NamedTuple):
    """Where the centres of pixels are on the picture plane at distance 1.

    Attributes:
        height: Rows.
        width: Columns.
        left: Horizontal place of the first column.
        top: Vertical place of the first row, upwards.
        step: Distance between pixels.
    """

    height: int
    width: int
    left: float
    top: float
    step: float


@dataclass(frozen=True)
class Solids:
    """M solids of N pictures, in any order.

    Attributes:
        picture: Picture of each solid, (M,), in 0..N-1.
        number: Value of the solid in the instance map, (M,), from 1 on.
        shape: `SPHERE`, `CYLINDER` or `CUBE`, (M,).
        shiny: Whether it mirrors, bool (M,).
        half: Half its height, (M,); also the radius, or half the side of a cube.
        x: Place of the centre on the ground, (M,).
        y: The other coordinate of it, (M,).
        yaw: Turn about the vertical in radians, (M,).
        color: Linear RGB (M, 3), in [0, 1].
        camera: Place of the camera for each picture, (N, 3).
        lamps: Places of three lamps for each picture, (N, 3, 3).
    """

    picture: Ints
    number: Ints
    shape: Ints
    shiny: Bools
    half: Floats
    x: Floats
    y: Floats
    yaw: Floats
    color: Floats
    camera: Floats
    lamps: Floats

    def take(self, chosen: Ints | Bools) -> Solids:
        """Return some of the solids, of the same pictures."""
        parts = {
            name: getattr(self, name)[chosen]
            for name in ("picture", "number", "shape", "shiny", "half", "x", "y", "yaw", "color")
        }
        return Solids(**parts, camera=self.camera, lamps=self.lamps)


def rotation(angles: tuple[float, float, float]) -> Floats:
    """Matrix (3, 3) of turns about x, then y, then z, by angles in degrees.

    For a camera its columns are right, up and backward.
    """
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles)):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[two, one] = np.sin(angle)
        turn[one, two] = -np.sin(angle)
        result = turn @ result
    return result.astype(np.float32)


def sort_into_layers(solids: Solids) -> tuple[Solids, Ints]:
    """Solids by layer, so that what belongs to one layer lies together, and their layers (M,)."""
    layer = find_layers(solids)
    order = np.argsort(layer, kind="stable")
    return solids.take(order), layer[order]


def cut_layers(owner: Ints, layer: Ints) -> Ints:
    """Where each layer begins in a row of pixels with ascending owners, and the end of the row."""
    starts = np.searchsorted(layer, np.arange(_MOST_LAYERS + 1))
    return np.searchsorted(owner, starts)


def bound_solids(solids: Solids, view: View, camera: Floats) -> Ints:
    """First and last row and column (M, 4), ends excluded, of the pixels a solid may be in."""
    angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False, dtype=np.float32)
    is_cube = (solids.shape == CUBE)[:, None]
    quarter = np.float32(np.pi / 2)
    corner = solids.yaw[:, None] + quarter / 2 + quarter * (np.arange(_RING) % 4)
    turned = np.where(is_cube, corner, angle)
    radius = solids.half[:, None] * np.where(is_cube, 2**0.5, 1 / np.cos(np.pi / _RING))
    x = solids.x[:, None] + radius * np.cos(turned)
    y = solids.y[:, None] + radius * np.sin(turned)
    z = np.broadcast_to(2 * solids.half[:, None], x.shape)
    x, y, z = (np.concatenate(p, axis=1) for p in ((x, x), (y, y), (z * 0, z)))
    return bound_points(x, y, z, solids, view, camera)


def bound_points(
    x: Floats, y: Floats, z: Floats, solids: Solids, view: View, camera: Floats
) -> Ints:
    """Window (M, 4) around the pictures of points (M, N), cut to the view."""
    place = solids.camera[solids.picture]
    x, y, z = x - place[:, :1], y - place[:, 1:2], z - place[:, 2:]
    u, v, depth = (x * axis[0] + y * axis[1] + z * axis[2] for axis in camera.T)
    column = (u / -depth - view.left) / view.step
    row = (view.top - v / -depth) / view.step
    return np.stack(
        [
            np.clip(np.floor(row.min(axis=1)), 0, view.height),
            np.clip(np.ceil(row.max(axis=1)) + 1, 0, view.height),
            np.clip(np.floor(column.min(axis=1)), 0, view.width),
            np.clip(np.ceil(column.max(axis=1)) + 1, 0, view.width),
        ],
        axis=1,
    ).astype(np.int64)


def spread_windows(bounds: Ints) -> tuple[Ints, Ints, Ints]:
    """Owner, row and column of all pixels of windows (M, 4), one window after the other."""
    heights, widths = bounds[:, 1] - bounds[:, 0], bounds[:, 3] - bounds[:, 2]
    lines = np.repeat(np.arange(len(bounds)), heights)  # Owner of each row of pixels.
    row = np.arange(len(lines)) - np.repeat(np.cumsum(heights) - heights, heights)
    row += bounds[lines, 0]
    lengths = widths[lines]
    ends = np.cumsum(lengths)
    shift = bounds[lines, 2] - (ends - lengths)
    column = np.arange(ends[-1] if len(ends) else 0) + np.repeat(shift, lengths)
    return np.repeat(lines, lengths), np.repeat(row, lengths), column


def find_layers(solids: Solids) -> Ints:
    """Place (M,) of each solid among those of its picture, from the farthest on.

    The line from which two disjoint circles have tangents of equal length lies between them: the
    one to which the tangents from below the camera are longer is behind it, and hides nothing of
    the other.
    """
    camera = solids.camera[solids.picture]
    radius = np.where(solids.shape == CUBE, 2**0.5, 1) * solids.half
    power = (camera[:, 0] - solids.x) ** 2 + (camera[:, 1] - solids.y) ** 2 - radius**2
    order = np.lexsort((-power, solids.picture))
    picture = solids.picture[order]
    layer = np.empty(len(order), np.int64)
    layer[order] = np.arange(len(order)) - np.searchsorted(picture, picture)
    return layer
