"""Ray casting of spheres, cylinders and cubes that stand on a ground plane, many pictures at once.

Every solid is met in its own frame, where it is [-1, 1] high and wide, by the rays of the pixels
around it only; all pixels of all pictures are one flat array. Footprints must not overlap: then the
solids of a picture can be painted from the farthest to the nearest, as `order_by_depth` says, and
no depth buffer is needed. Light: three lamps with soft shadows on the ground, dull surfaces by
Lambert and Phong, shiny ones by one reflection of the ground, a grey sky and the lamps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from figureground.data.samples import Pixels

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Vector = tuple[Floats, Floats, Floats]

SPHERE, CYLINDER, CUBE = range(3)

#: Brightness, and radius of the disc that shadows are softened by, of each lamp.
LAMP_POWERS = (12.0, 3.0, 6.0)
LAMP_RADII = (0.5, 0.9, 0.6)
#: Lamps whose shadows are drawn; the others are too weak for theirs to be seen.
_SHADOWS = (0, 2)
_LAMP_ON_SOLID = 1.6  # More than on the ground, which is darker than it is white.
_MOST_LAYERS = 16  # Solids in a picture.
_TOP = 1 - 1e-3  # Level in a solid's frame from which on it is its top.
_SKY_ON_GROUND = 0.19  # Light that reaches the ground from everywhere.
_GROUND_ALBEDO = 0.75
_COARSE = 2  # Side in pixels of the cells that the ground is lit in, which is smooth.
_RING = 12  # Points that the outline of a solid's foot and top is bounded by.
#: Radius of the round shadow caster in half heights; the cube's is between in- and circumcircle.
_CASTER = np.array([1, 1, 1.15], np.float32)


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


class _Hits(NamedTuple):
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


def render(
    solids: Solids, view: View, camera: Floats, num_samples: int = 3
) -> tuple[Pixels, Pixels, Pixels]:
    """Render pictures.

    Args:
        solids: What is in them.
        view: Picture plane; height and width must be even.
        camera: Directions right, up and backward as columns, (3, 3).
        num_samples: Rays along each side of a pixel on an outline; 1 leaves edges hard.

    Returns:
        Pictures uint8 (N, H, W, 3); instances uint8 (N, H, W) by the middles of pixels; and kinds
        uint8 (N, H, W): 0 or 1 + 2 * shape + shiny.
    """
    solids, layer = _sort_into_layers(solids)
    # Red, green, blue, and 8 * instance + kind: one look-up writes all that is known of a pixel.
    canvas = np.repeat(_light_ground(solids, layer, view, camera).reshape(-1, 1), 4, axis=1)
    canvas[:, 3] = 0
    groups = []
    for kind in range(6):
        chosen = np.flatnonzero(2 * solids.shape + solids.shiny == kind)
        part = solids.take(chosen)
        caster = _CASTERS[kind // 2](part, camera)
        hits = _find_hits(part, caster, view, camera, num_samples)
        linear = (_shade_shiny if kind % 2 else _shade_dull)(part, caster, hits)
        paint = np.empty((len(linear), 4), np.uint8)
        # Gamma 2, the fastest one.
        paint[:, :3] = 255 * np.sqrt(np.clip(linear, 0, 1)) + np.float32(0.5)
        paint[:, 3] = (8 * part.number + kind + 1)[hits.owner]
        groups.append((paint, hits, _cut(hits.owner, layer[chosen])))
    for depth in range(int(layer.max(initial=0)) + 1):
        for paint, hits, cuts in groups:
            _paint(canvas, paint, hits, slice(cuts[depth], cuts[depth + 1]))
    canvas = canvas.reshape(len(solids.camera), view.height, view.width, 4)
    truth = canvas[..., 3]
    return np.ascontiguousarray(canvas[..., :3]), truth >> 3, truth & 7


def _paint(canvas: Pixels, paint: Pixels, hits: _Hits, span: slice) -> None:
    """Put the colours (P, 4) of one span of hits on `canvas` (N * H * W, 4), in place."""
    paint, pixel, cover = paint[span], hits.pixel[span], hits.cover[span]
    mixed = np.flatnonzero(cover < 1)
    below, share = canvas[pixel[mixed]], cover[mixed, None]
    top = paint[mixed]
    top[:, :3] = share * top[:, :3] + (1 - share) * below[:, :3] + np.float32(0.5)
    top[:, 3] = np.where(hits.center[span][mixed], top[:, 3], below[:, 3])
    paint[mixed] = top
    canvas.view(np.uint32)[pixel] = paint.view(np.uint32)


def count_visible(solids: Solids, view: View, camera: Floats) -> Ints:
    """Pixels that show each solid in front of all others, (M,)."""
    order = np.argsort(_find_layers(solids), kind="stable")
    groups = []
    layer = _find_layers(solids)[order]
    sorted_solids = solids.take(order)
    for shape, caster in enumerate(_CASTERS):
        chosen = np.flatnonzero(sorted_solids.shape == shape)
        part = sorted_solids.take(chosen)
        hits = _find_hits(part, caster(part, camera), view, camera, 1)
        groups.append((chosen[hits.owner], hits.pixel, _cut(hits.owner, layer[chosen])))
    seen = np.full(len(solids.camera) * view.height * view.width, -1, np.int32)
    for depth in range(int(layer.max(initial=0)) + 1):
        for owner, pixel, cuts in groups:
            span = slice(cuts[depth], cuts[depth + 1])
            seen[pixel[span]] = owner[span]
    counts = np.empty(len(order), np.int64)
    counts[order] = np.bincount(seen[seen >= 0], minlength=len(order))
    return counts


def _find_layers(solids: Solids) -> Ints:
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


def _sort_into_layers(solids: Solids) -> tuple[Solids, Ints]:
    """Solids by layer, so that what belongs to one layer lies together, and their layers (M,)."""
    layer = _find_layers(solids)
    order = np.argsort(layer, kind="stable")
    return solids.take(order), layer[order]


def _cut(owner: Ints, layer: Ints) -> Ints:
    """Where each layer begins in a row of pixels with ascending owners, and the end of the row."""
    starts = np.searchsorted(layer, np.arange(_MOST_LAYERS + 1))
    return np.searchsorted(owner, starts)


def _find_hits(
    solids: Solids, caster: _Caster, view: View, camera: Floats, num_samples: int
) -> _Hits:
    """Find the pixels of solids of one shape; where `num_samples` is 1, by their middles."""
    bounds = _bound(solids, view, camera)
    owner, row, column = _spread(bounds)
    u = np.float32(view.left) + np.float32(view.step) * column.astype(np.float32)
    v = np.float32(view.top) - np.float32(view.step) * row.astype(np.float32)
    center = caster.meets(owner, u, v)
    cover = center.astype(np.float32)
    if num_samples > 1:
        edge = _find_outline(center, (bounds[:, 3] - bounds[:, 2])[owner])
        place = owner[edge], u[edge], v[edge]
        cover[edge], u[edge], v[edge] = _sample(caster, place, view.step, num_samples)
    kept = np.flatnonzero(cover)
    owner = owner[kept]
    pixel = (solids.picture[owner] * view.height + row[kept]) * view.width + column[kept]
    return _Hits(owner, pixel, cover[kept], center[kept], u[kept], v[kept])


class _Caster:
    """Rays from the camera that meet solids of one shape, in their frames.

    There a solid reaches from -1 to 1 in all directions. The ray through (u, v) has the direction
    ahead + u * right + v * up, whose length is 1 + u^2 + v^2, squared, in every frame.
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
            _turn(solids.lamps[solids.picture, lamp], solids, cos, sin)
            for lamp in range(len(LAMP_POWERS))
        ]

    def meets(self, owner: Ints, u: Floats, v: Floats) -> Bools:
        """Whether rays (P,) meet their solids."""
        raise NotImplementedError

    def enter(self, owner: Ints, u: Floats, v: Floats) -> tuple[Vector, Vector, Vector]:
        """Where rays (P,) that meet their solids enter them; normals there; their directions."""
        x, y = (
            part[0][owner] + u * part[1][owner] + v * part[2][owner]
            for part in (self.across, self.along)
        )
        z = self.height[0] + u * self.height[1] + v * self.height[2]
        a, b, c = (part[owner] for part in self.origin)
        t = self._reach((a, b, c), (x, y, z))
        point = (a + t * x, b + t * y, c + t * z)
        return point, self._normal(point), (x, y, z)

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        raise NotImplementedError

    def _normal(self, point: Vector) -> Vector:
        raise NotImplementedError


class _SphereCaster(_Caster):
    def __init__(self, solids: Solids, camera: Floats) -> None:
        super().__init__(solids, camera)
        a, b, c = self.origin
        parts = zip(self.across, self.along, self.height, strict=True)
        self._inward = [a * x + b * y + c * z for x, y, z in parts]
        self._rest = a * a + b * b + c * c - 1

    def meets(self, owner: Ints, u: Floats, v: Floats) -> Bools:
        ahead, right, up = self._inward
        inward = ahead[owner] + u * right[owner] + v * up[owner]
        return np.asarray(inward * inward > (1 + u * u + v * v) * self._rest[owner])

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        (a, b, c), (x, y, z) = origin, ray
        square, inward = x * x + y * y + z * z, a * x + b * y + c * z
        under = inward * inward - square * (a * a + b * b + c * c - 1)
        return np.asarray((-inward - np.sqrt(np.maximum(under, 0))) / square)

    def _normal(self, point: Vector) -> Vector:
        return point


class _CylinderCaster(_Caster):
    def __init__(self, solids: Solids, camera: Floats) -> None:
        super().__init__(solids, camera)
        a, b, _ = self.origin
        self._inward = [a * x + b * y for x, y in zip(self.across, self.along, strict=True)]
        self._rest = a * a + b * b - 1

    def meets(self, owner: Ints, u: Floats, v: Floats) -> Bools:
        ahead, right, up = self._inward
        z = self.height[0] + u * self.height[1] + v * self.height[2]
        square = 1 + u * u + v * v - z * z
        inward = ahead[owner] + u * right[owner] + v * up[owner]
        under = inward * inward - square * self._rest[owner]
        root = np.sqrt(np.maximum(under, 0))
        # Inside the endless cylinder between the levels of top and bottom; rays go down.
        level, z = self.origin[2][owner], z / square
        nearest, farthest = level - (inward + root) * z, level - (inward - root) * z
        return np.asarray((under > 0) & (nearest >= -1) & (farthest <= 1))

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        (a, b, c), (x, y, z) = origin, ray
        square, inward = x * x + y * y, a * x + b * y
        under = inward * inward - square * (a * a + b * b - 1)
        side = (-inward - np.sqrt(np.maximum(under, 0))) / square
        return np.maximum(side, (1 - c) / z)

    def _normal(self, point: Vector) -> Vector:
        side = (point[2] < _TOP).astype(np.float32)
        return point[0] * side, point[1] * side, 1 - side


class _CubeCaster(_Caster):
    def meets(self, owner: Ints, u: Floats, v: Floats) -> Bools:
        z = 1 / (self.height[0] + u * self.height[1] + v * self.height[2])
        level = self.origin[2][owner]
        near, far = (1 - level) * z, (-1 - level) * z  # Top and bottom; rays go down.
        for part, origin in ((self.across, self.origin[0]), (self.along, self.origin[1])):
            inverse = 1 / (part[0][owner] + u * part[1][owner] + v * part[2][owner])
            middle, width = origin[owner] * inverse, np.abs(inverse)
            near = np.maximum(near, -middle - width)
            far = np.minimum(far, width - middle)
        return np.asarray(near <= far)

    def _reach(self, origin: Vector, ray: Vector) -> Floats:
        (a, b, c), (x, y, z) = origin, ray
        across, along = (-(o + np.copysign(np.float32(1), d)) / d for o, d in ((a, x), (b, y)))
        return np.maximum(np.maximum(across, along), (1 - c) / z)

    def _normal(self, point: Vector) -> Vector:
        x, y, z = point
        side = (z < _TOP).astype(np.float32)
        facing = (np.abs(x) > np.abs(y)).astype(np.float32) * side
        return np.sign(x) * facing, np.sign(y) * (side - facing), 1 - side


_CASTERS = (_SphereCaster, _CylinderCaster, _CubeCaster)


def _turn(place: Floats, solids: Solids, cos: Floats, sin: Floats) -> Vector:
    """Places (M, 3) in the frames of solids, by coordinate."""
    x, y = place[:, 0] - solids.x, place[:, 1] - solids.y
    return (
        (cos * x + sin * y) / solids.half,
        (cos * y - sin * x) / solids.half,
        place[:, 2] / solids.half - 1,
    )


def _shade_dull(solids: Solids, caster: _Caster, hits: _Hits) -> Floats:
    """Linear colours (P, 3): Lambert, light from all around, a faint wide highlight."""
    owner = hits.owner
    (x, y, z), (n, m, k), ray = caster.enter(owner, hits.u, hits.v)
    # Less light comes from around near the ground.
    light = (np.float32(0.2) + np.float32(0.1) * k) * np.minimum(1 + np.float32(0.35) * z, 1)
    gloss = np.float32(0)
    for lamp, (power, (a, b, c)) in enumerate(zip(LAMP_POWERS, caster.lamps, strict=True)):
        dx, dy, dz = a[owner] - x, b[owner] - y, c[owner] - z
        square = dx * dx + dy * dy + dz * dz
        facing = np.maximum(n * dx + m * dy + k * dz, 0)
        strength = np.float32(_LAMP_ON_SOLID * power) / solids.half**2
        light += strength[owner] * facing / (square * np.sqrt(square))
        if lamp == 0:
            a, b, c = _mirror(ray, (n, m, k))
            mirrored = np.maximum(a * dx + b * dy + c * dz, 0) / np.sqrt(square)
            gloss = np.float32(0.06) * _raise(mirrored, 3)
    return np.asarray(solids.color[owner] * light[:, None] + gloss[:, None])


def _shade_shiny(solids: Solids, caster: _Caster, hits: _Hits) -> Floats:
    """Linear colours (P, 3): a tinted mirror of the ground, a grey sky and the lamps."""
    owner = hits.owner
    (x, y, z), normal, ray = caster.enter(owner, hits.u, hits.v)
    a, b, c = _mirror(ray, normal)
    sky = np.float32(0.14) + np.float32(0.36) * np.maximum(1 - 2 * np.abs(c), 0)
    # The ground is dark where the solid keeps the light off, which is what a low place sees.
    reach = (z + 1) / np.maximum(-c, np.float32(1e-3))
    light = np.where(c > 0, sky, np.float32(0.06) + np.float32(0.36) * reach / (reach + 1))
    gloss = np.zeros_like(light)
    for power, lamps in zip(LAMP_POWERS, caster.lamps, strict=True):
        dx, dy, dz = lamps[0][owner] - x, lamps[1][owner] - y, lamps[2][owner] - z
        mirrored = np.maximum(a * dx + b * dy + c * dz, 0)
        mirrored /= np.sqrt(dx * dx + dy * dy + dz * dz)
        share = np.float32(power / LAMP_POWERS[0])
        # Cut off at the top, so that it looks like the disc of a lamp.
        gloss += share * np.minimum(3 * _raise(mirrored, 7), np.float32(0.8))
    color = solids.color[owner]
    # The lamps are too bright to look as tinted as the rest.
    return np.asarray(color * (light + gloss / 3)[:, None] + (gloss / 2)[:, None])


def _mirror(ray: Vector, normal: Vector) -> Vector:
    """Unit vectors along mirrored rays."""
    (x, y, z), (n, m, k) = ray, normal
    scale = 1 / np.sqrt(x * x + y * y + z * z)
    away = 2 * (x * n + y * m + z * k)
    return (x - away * n) * scale, (y - away * m) * scale, (z - away * k) * scale


def _raise(values: Floats, num_squares: int) -> Floats:
    """Square `values` several times, in place; NumPy's general power is far slower."""
    for _ in range(num_squares):
        values *= values
    return values


def _bound(solids: Solids, view: View, camera: Floats) -> Ints:
    """First and last row and column (M, 4), ends excluded, of the pixels a solid may be in."""
    angle = np.linspace(0, 2 * np.pi, _RING, endpoint=False, dtype=np.float32)
    is_cube = (solids.shape == CUBE)[:, None]
    turned = np.where(is_cube, solids.yaw[:, None] + np.pi / 4 + angle // (np.pi / 2 - 1e-4) * (
        np.pi / 2), angle)  # fmt: skip
    radius = solids.half[:, None] * np.where(is_cube, 2**0.5, 1 / np.cos(np.pi / _RING))
    x = solids.x[:, None] + radius * np.cos(turned)
    y = solids.y[:, None] + radius * np.sin(turned)
    z = np.broadcast_to(2 * solids.half[:, None], x.shape)
    x, y, z = (np.concatenate(p, axis=1) for p in ((x, x), (y, y), (z * 0, z)))
    return _frame(x, y, z, solids, view, camera)


def _frame(x: Floats, y: Floats, z: Floats, solids: Solids, view: View, camera: Floats) -> Ints:
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


def _spread(bounds: Ints) -> tuple[Ints, Ints, Ints]:
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
    caster: _Caster, place: tuple[Ints, Floats, Floats], step: float, num_samples: int
) -> tuple[Floats, Floats, Floats]:
    """Share of pixels that a solid covers, and the mean place of what it covers.

    Outlines are convex, so that the mean place is on the solid as well.
    """
    owner, u, v = place
    axis = (np.arange(num_samples) + 0.5) / num_samples - 0.5
    grid = np.meshgrid(axis * step, axis * step, indexing="ij")
    down, across = (part.ravel().astype(np.float32) for part in grid)
    hit = caster.meets(
        np.tile(owner, len(down)),
        (u + across[:, None]).ravel(),
        (v + down[:, None]).ravel(),
    )
    weights = hit.reshape(len(down), -1).astype(np.float32)
    total = weights.sum(axis=0)
    some = np.maximum(total, 1)
    cover = total / np.float32(len(down))
    return cover, u + across @ weights / some, v + down @ weights / some


def _light_ground(solids: Solids, layer: Ints, view: View, camera: Floats) -> Pixels:
    """Grey levels (N, H, W) of the ground with shadows."""
    size = (view.height // _COARSE, view.width // _COARSE)
    shift = view.step * (_COARSE - 1) / 2
    coarse = View(*size, view.left + shift, view.top - shift, view.step * _COARSE)
    u = np.float32(coarse.left) + np.float32(coarse.step) * np.arange(size[1], dtype=np.float32)
    v = np.float32(coarse.top) - np.float32(coarse.step) * np.arange(size[0], dtype=np.float32)
    ray = camera[:, 0, None, None] * u + camera[:, 1, None, None] * v[:, None]
    ray -= camera[:, 2, None, None]
    place = solids.camera[:, :, None, None]
    t = -place[:, 2] / ray[2]
    x, y = place[:, 0] + t * ray[0], place[:, 1] + t * ray[1]  # (N, H/2, W/2)
    light = np.full(x.shape, _SKY_ON_GROUND, np.float32)
    _occlude_sky(light, solids, layer, coarse, camera, (x, y))
    for lamp, power in enumerate(LAMP_POWERS):
        lamps = solids.lamps[:, lamp, :, None, None]
        dx, dy, dz = lamps[:, 0] - x, lamps[:, 1] - y, lamps[:, 2]
        square = dx * dx + dy * dy + dz * dz
        lit = np.float32(power) * dz / (square * np.sqrt(square))
        if lamp in _SHADOWS:
            _cast_shadows(lit, lamp, solids, layer, coarse, camera, (x, y))
        light += lit
    grey = _enlarge(np.sqrt(np.clip(_GROUND_ALBEDO * light, 0, 1)) * 255 + np.float32(0.5))
    return grey.astype(np.uint8)


def _occlude_sky(
    light: Floats,
    solids: Solids,
    layer: Ints,
    view: View,
    camera: Floats,
    ground: tuple[Floats, Floats],
) -> None:
    """Darken `light` (N, H, W) around the feet of solids, in place."""
    reach = 2.2 * solids.half[:, None]
    x = solids.x[:, None] + reach * np.array([-1, -1, 1, 1], np.float32)
    y = solids.y[:, None] + reach * np.array([-1, 1, -1, 1], np.float32)
    owner, row, column = _spread(_frame(x, y, x * 0, solids, view, camera))
    pixel = (solids.picture[owner] * view.height + row) * view.width + column
    dx = ground[0].ravel()[pixel] - solids.x[owner]
    dy = ground[1].ravel()[pixel] - solids.y[owner]
    near = (dx * dx + dy * dy) / (solids.half**2)[owner]
    _multiply(light, layer, owner, pixel, 1 - 0.75 / (1 + near * near * np.float32(0.6)))


def _cast_shadows(
    lit: Floats,
    lamp: int,
    solids: Solids,
    layer: Ints,
    view: View,
    camera: Floats,
    ground: tuple[Floats, Floats],
) -> None:
    """Darken the light (N, H, W) of one lamp where solids are in its way, in place.

    A point is in the shadow as far as the way to the lamp passes a solid's axis, below its top, at
    less than its radius; for a sphere, its centre. Farther away shadows are softer.
    """
    lamps = solids.lamps[solids.picture, lamp]
    caster = _CASTER[solids.shape] * solids.half
    top = np.minimum(2 * solids.half / lamps[:, 2], 0.75)  # Share of the way below the top.
    stretch = top / (1 - top)
    shadow_x = solids.x + (solids.x - lamps[:, 0]) * stretch
    shadow_y = solids.y + (solids.y - lamps[:, 1]) * stretch
    wide = caster + np.float32(0.1) + np.float32(LAMP_RADII[lamp]) * top
    corner = np.array([-1, -1, 1, 1], np.float32), np.array([-1, 1, -1, 1], np.float32)
    wide_shadow = wide * (1 + stretch)
    x, y = (
        np.concatenate(
            [foot[:, None] + wide[:, None] * c, far[:, None] + wide_shadow[:, None] * c], axis=1
        )
        for foot, far, c in ((solids.x, shadow_x, corner[0]), (solids.y, shadow_y, corner[1]))
    )
    owner, row, column = _spread(_frame(x, y, x * 0, solids, view, camera))
    pixel = (solids.picture[owner] * view.height + row) * view.width + column
    px, py = ground[0].ravel()[pixel], ground[1].ravel()[pixel]
    ex, ey = lamps[owner, 0] - px, lamps[owner, 1] - py
    wx, wy = solids.x[owner] - px, solids.y[owner] - py
    # Only for spheres do heights count.
    ez = (lamps[:, 2] * (solids.shape == SPHERE))[owner]
    wz = (solids.half * (solids.shape == SPHERE))[owner]
    share = (wx * ex + wy * ey + wz * ez) / (ex * ex + ey * ey + ez * ez)
    share = np.clip(share, 0, top[owner])
    ex, ey, ez = wx - share * ex, wy - share * ey, wz - share * ez
    distance = np.sqrt(ex * ex + ey * ey + ez * ez) - caster[owner]
    soft = np.float32(0.06) + np.float32(LAMP_RADII[lamp]) * share
    clear = np.clip(distance / (2 * soft) + 0.5, 0, 1)
    _multiply(lit, layer, owner, pixel, clear * clear * (3 - 2 * clear))


def _multiply(light: Floats, layer: Ints, owner: Ints, pixel: Ints, factor: Floats) -> None:
    """Multiply pixels of `light` by factors (P,) in place; solids of a picture may share pixels."""
    flat = light.reshape(-1)
    cuts = _cut(owner, layer)
    for first, last in itertools.pairwise(cuts):
        flat[pixel[first:last]] *= factor[first:last]


def _enlarge(values: Floats) -> Floats:
    """Double height and width of pictures (N, H, W), bilinearly."""
    for axis in (1, 2):
        values = np.moveaxis(values, axis, 1)
        padded = np.concatenate([values[:, :1], values, values[:, -1:]], axis=1)
        near = values * np.float32(0.75)
        size = (len(values), 2 * values.shape[1], values.shape[2])
        result = np.empty(size, np.float32)
        result[:, ::2] = near + np.float32(0.25) * padded[:, :-2]
        result[:, 1::2] = near + np.float32(0.25) * padded[:, 2:]
        values = np.moveaxis(result, 1, axis)
    return values
