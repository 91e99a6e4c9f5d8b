"""Rays from the camera that meet solids, and the pixels that show these.

Every solid is met in its own frame, where it is [-1, 1] high and wide, by the rays of the pixels
around it only; all pixels of all pictures are one flat array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from figureground.data.solids import (
    Bools,
    Floats,
    Ints,
    Solids,
    View,
    bound_solids,
    cut_layers,
    find_layers,
    spread_windows,
)

Vector = tuple[Floats, Floats, Floats]
Spread = Callable[[Floats], Floats]  # From values of solids (M, ...) to those of pixels (P, ...).

NUM_LAMPS = 3

_TOP = 1 - 1e-3  # Level in a solid's frame from which on it is its top.


class Hits(NamedTuple):
    """Pixels that show some of the solids, solid by solid.

    Attributes:
        owner: Solid of each, (P,), ascending.
        pixel: Place in the flat row of pictures, (P,).
        cover: Share of the pixel, (P,), in (0, 1].
        center: Whether the solid is in the middle of the pixel, bool (P,).
        u: Place on the picture plane that stands for the pixel, (P,).
        v: The other coordinate of it, upwards, (P,).
    """

    owner: Ints
    pixel: Ints
    cover: Floats
    center: Bools
    u: Floats
    v: Floats


class Caster:
    """Rays from the camera that meet solids of one shape, in their frames.

    There a solid reaches from -1 to 1 in all directions. The ray through (u, v) has the direction
    ahead + u * right + v * up, whose length is 1 + u^2 + v^2, squared, in every frame.

    Args:
        solids: M solids of this shape.
        camera: Directions right, up and backward as columns, (3, 3).

    Attributes:
        origin: The camera in the frame of each solid, three times (M,).
        across: First coordinate of ahead, right and up there, three times (M,).
        along: Second coordinate of them.
        height: Third coordinate of them, the same for all solids.
        lamps: The lamps in these frames, three times (M,) each.
    """

    def __init__(self, solids: Solids, camera: Floats) -> None:
        cos, sin = np.cos(solids.yaw), np.sin(solids.yaw)
        place = solids.camera[solids.picture]
        self.origin = _turn(place, solids, cos, sin)
        right, up, back = camera.T
        axes = (-back, right, up)
        self.across = [cos * a[0] + sin * a[1] for a in axes]
        self.along = [cos * a[1] - sin * a[0] for a in axes]
        self.height = [a[2] for a in axes]
        self.lamps = [
            _turn(solids.lamps[solids.picture, lamp], solids, cos, sin) for lamp in range(NUM_LAMPS)
        ]

    def meets(self, spread: Spread, u: Floats, v: Floats) -> Bools:
        """Whether rays (P,) meet their solids."""
        raise NotImplementedError

    def enter(self, spread: Spread, u: Floats, v: Floats) -> tuple[Vector, Vector, Vector]:
        """Where rays (P,) that meet their solids enter them; normals there; their directions."""
        x, y = (
            spread(part[0]) + u * spread(part[1]) + v * spread(part[2])
            for part in (self.across, self.along)
        )
        z = self.height[0] + u * self.height[1] + v * self.height[2]
        a, b, c = (spread(part) for part in self.origin)
        t = self._reach((a, b, c), (x, y, z))
        point = (a + t * x, b + t * y, c + t * z)
        return point, self._normal(point), (x, y, z)

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        raise NotImplementedError

    def _normal(self, point: Vector) -> Vector:
        raise NotImplementedError


class _SphereCaster(Caster):
    def __init__(self, solids: Solids, camera: Floats) -> None:
        super().__init__(solids, camera)
        a, b, c = self.origin
        parts = zip(self.across, self.along, self.height, strict=True)
        self._inward = [a * x + b * y + c * z for x, y, z in parts]
        self._rest = a * a + b * b + c * c - 1

    def meets(self, spread: Spread, u: Floats, v: Floats) -> Bools:
        ahead, right, up = self._inward
        inward = spread(ahead) + u * spread(right) + v * spread(up)
        return np.asarray(inward * inward > (1 + u * u + v * v) * spread(self._rest))

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        (a, b, c), (x, y, z) = origin, ray
        square, inward = x * x + y * y + z * z, a * x + b * y + c * z
        under = inward * inward - square * (a * a + b * b + c * c - 1)
        return np.asarray((-inward - np.sqrt(np.maximum(under, 0))) / square)

    def _normal(self, point: Vector) -> Vector:
        return point


class _CylinderCaster(Caster):
    def __init__(self, solids: Solids, camera: Floats) -> None:
        super().__init__(solids, camera)
        a, b, _ = self.origin
        self._inward = [a * x + b * y for x, y in zip(self.across, self.along, strict=True)]
        self._rest = a * a + b * b - 1

    def meets(self, spread: Spread, u: Floats, v: Floats) -> Bools:
        ahead, right, up = self._inward
        z = self.height[0] + u * self.height[1] + v * self.height[2]
        square = 1 + u * u + v * v - z * z
        inward = spread(ahead) + u * spread(right) + v * spread(up)
        under = inward * inward - square * spread(self._rest)
        root = np.sqrt(np.maximum(under, 0))
        # Inside the endless cylinder between the levels of top and bottom; rays go down.
        level, z = spread(self.origin[2]), z / square
        nearest, farthest = level - (inward + root) * z, level - (inward - root) * z
        return np.asarray((under > 0) & (nearest >= -1) & (farthest <= 1))

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        (a, b, c), (x, y, z) = origin, ray
        square, inward = x * x + y * y, a * x + b * y
        under = inward * inward - square * (a * a + b * b - 1)
        side = (-inward - np.sqrt(np.maximum(under, 0))) / square
        return np.asarray(np.maximum(side, (1 - c) / z))

    def _normal(self, point: Vector) -> Vector:
        side: Floats = (point[2] < _TOP).astype(np.float32)
        return point[0] * side, point[1] * side, 1 - side


class _CubeCaster(Caster):
    def meets(self, spread: Spread, u: Floats, v: Floats) -> Bools:
        z = 1 / (self.height[0] + u * self.height[1] + v * self.height[2])
        level = spread(self.origin[2])
        near, far = (1 - level) * z, (-1 - level) * z  # Top and bottom; rays go down.
        for part, origin in ((self.across, self.origin[0]), (self.along, self.origin[1])):
            inverse = 1 / (spread(part[0]) + u * spread(part[1]) + v * spread(part[2]))
            middle, width = spread(origin) * inverse, np.abs(inverse)
            near = np.maximum(near, -middle - width)
            far = np.minimum(far, width - middle)
        return np.asarray(near <= far)

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        (a, b, c), (x, y, z) = origin, ray
        across, along = (-(o + np.copysign(np.float32(1), d)) / d for o, d in ((a, x), (b, y)))
        return np.asarray(np.maximum(np.maximum(across, along), (1 - c) / z))

    def _normal(self, point: Vector) -> Vector:
        x, y, z = point
        side: Floats = (z < _TOP).astype(np.float32)
        facing: Floats = (np.abs(x) > np.abs(y)).astype(np.float32) * side
        across: Floats = np.copysign(facing, x)
        along: Floats = np.copysign(side - facing, y)
        return across, along, 1 - side


CASTERS = (_SphereCaster, _CylinderCaster, _CubeCaster)


@np.errstate(divide="ignore", invalid="ignore")  # A ray along a face may divide by zero: it misses.
def count_visible(solids: Solids, view: View, camera: Floats) -> Ints:
    """Pixels that show each solid in front of all others, (M,)."""
    layer = find_layers(solids)
    order = np.argsort(layer, kind="stable")
    groups = []
    layer = layer[order]
    sorted_solids = solids.take(order)
    bounds = bound_solids(sorted_solids, view, camera)
    for shape, caster in enumerate(CASTERS):
        chosen = np.flatnonzero(sorted_solids.shape == shape)
        part = sorted_solids.take(chosen)
        hits = find_hits(part, caster(part, camera), view, bounds[chosen], 1)
        groups.append((chosen[hits.owner], hits.pixel, cut_layers(hits.owner, layer[chosen])))
    seen = np.full(len(solids.camera) * view.height * view.width, -1, np.int32)
    for depth in range(int(layer.max(initial=0)) + 1):
        for owner, pixel, cuts in groups:
            span = slice(cuts[depth], cuts[depth + 1])
            seen[pixel[span]] = owner[span]
    counts = np.empty(len(order), np.int64)
    counts[order] = np.bincount(seen[seen >= 0], minlength=len(order))
    return counts


def find_hits(solids: Solids, caster: Caster, view: View, bounds: Ints, num_samples: int) -> Hits:
    """Find the pixels of solids of one shape; where `num_samples` is 1, by their middles."""
    owner, row, column = spread_windows(bounds)
    spread = make_spread(owner, len(bounds))
    u = np.float32(view.left) + np.float32(view.step) * column.astype(np.float32)
    v = np.float32(view.top) - np.float32(view.step) * row.astype(np.float32)
    center = caster.meets(spread, u, v)
    cover = center.astype(np.float32)
    if num_samples > 1:
        edge = _find_outline(center, (bounds[:, 3] - bounds[:, 2])[owner])
        on_edge = make_spread(owner[edge], len(bounds))
        cover[edge], u[edge], v[edge] = _sample(
            caster, on_edge, (u[edge], v[edge]), view.step, num_samples
        )
    kept = np.flatnonzero(cover)
    owner = owner[kept]
    pixel = (solids.picture[owner] * view.height + row[kept]) * view.width + column[kept]
    return Hits(owner, pixel, cover[kept], center[kept], u[kept], v[kept])


def make_spread(owner: Ints, num_solids: int) -> Spread:
    """Function that gives pixels the values of their solids, as `values[owner]` does.

    Args:
        owner: Solid of each pixel, (P,), ascending: then repeating is six times as fast as looking
            up.
        num_solids: M.
    """
    counts = np.bincount(owner, minlength=num_solids)
    return lambda values: np.repeat(values, counts, axis=0)


def _turn(place: Floats, solids: Solids, cos: Floats, sin: Floats) -> Vector:
    """Places (M, 3) in the frames of solids, by coordinate."""
    x, y = place[:, 0] - solids.x, place[:, 1] - solids.y
    return (
        np.asarray((cos * x + sin * y) / solids.half, np.float32),
        np.asarray((cos * y - sin * x) / solids.half, np.float32),
        place[:, 2] / solids.half - 1,
    )


def _find_outline(center: Bools, width: Ints) -> Ints:
    """Numbers of the pixels whose middle and a neighbour's are on two sides of an outline."""
    last = len(center) - 1
    here = np.arange(last + 1)
    mixed = np.zeros(last + 1, np.bool_)
    mixed[1:] |= center[1:] != center[:-1]
    mixed[:-1] |= center[1:] != center[:-1]
    # Beyond a window's ends are pixels of another: at worst a pixel is looked at for nothing.
    mixed |= center != center[np.minimum(here + width, last)]
    mixed |= center != center[np.maximum(here - width, 0)]
    return np.flatnonzero(mixed)


def _sample(
    caster: Caster, spread: Spread, place: tuple[Floats, Floats], step: float, num_samples: int
) -> tuple[Floats, Floats, Floats]:
    """Share of pixels that a solid covers, and the mean place of what it covers.

    Outlines are convex, so that the mean place is on the solid as well.
    """
    u, v = place
    axis = (np.arange(num_samples) + 0.5) / num_samples - 0.5
    grid = np.meshgrid(axis * step, axis * step, indexing="ij")
    down, across = (part.ravel().astype(np.float32) for part in grid)
    hit = [caster.meets(spread, u + x, v + y) for x, y in zip(across, down, strict=True)]
    weights = np.array(hit, np.float32)
    total = weights.sum(axis=0)
    some = np.maximum(total, 1)
    cover = total / np.float32(len(down))
    return cover, u + across @ weights / some, v + down @ weights / some
