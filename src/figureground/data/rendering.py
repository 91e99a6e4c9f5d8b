"""Pictures of solids on a grey ground (`solids`), lit by three lamps.

Dull surfaces follow Lambert and Phong, shiny ones are mirrors of the ground, a grey sky and the
lamps. Solids throw soft shadows on the ground, not on one another. Only `solids` knows geometry.
"""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

import numpy as np

from figureground.data.casting import CASTERS, Caster, Hits, Vector, find_hits, make_spread
from figureground.data.samples import Pixels
from figureground.data.solids import (
    SPHERE,
    Floats,
    Ints,
    Solids,
    View,
    bound_points,
    bound_solids,
    cut_layers,
    sort_into_layers,
    spread_windows,
)

#: Brightness of key, fill and back lamp, and radii of the discs that soften their shadows.
LAMP_POWERS = (110.0, 40.0, 32.0)
LAMP_RADII = (0.5, 0.9, 0.6)

#: Lamps grow weaker with the squared distance plus this: large panels, not points.
_LAMP_FALLOFF = 225.0
_LAMP_ON_SOLID = 1.3  # Solids are lit more, so that colours look like their names.
_SHADOWS = (0, 2)  # Lamps whose shadows are drawn; those of the fill lamp are too faint.
#: Radius of the round shadow caster in half heights; the cube's is between in- and circumcircle.
_CASTER = np.array([1, 1, 1.15], np.float32)
_SKY_ON_GROUND = 0.17  # Light that reaches the ground from everywhere.
_GROUND_ALBEDO = 0.68
_COARSE = 2  # Side in pixels of the cells that the ground is lit in, which is smooth.
_GREY = int.from_bytes((1, 1, 1, 0), sys.byteorder)  # Times a grey level: it in red, green, blue.


@np.errstate(divide="ignore", invalid="ignore")  # A ray along a face may divide by zero: it misses.
def render(
    solids: Solids, view: View, camera: Floats, num_samples: int = 2
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
    solids, layer = sort_into_layers(solids)
    # Red, green, blue, and 8 * instance + kind: one look-up writes all that is known of a pixel.
    grey = _light_ground(solids, layer, view, camera).astype(np.uint32).reshape(-1, 1)
    canvas: Pixels = (grey * np.uint32(_GREY)).view(np.uint8)
    bounds = bound_solids(solids, view, camera)
    groups = []
    for kind in range(6):
        chosen = np.flatnonzero(2 * solids.shape + solids.shiny == kind)
        part = solids.take(chosen)
        caster = CASTERS[kind // 2](part, camera)
        hits = find_hits(part, caster, view, bounds[chosen], num_samples)
        linear = (_shade_shiny if kind % 2 else _shade_dull)(part, caster, hits)
        paint = np.empty((len(linear), 4), np.uint8)
        # Gamma 2, the fastest one.
        paint[:, :3] = 255 * np.sqrt(np.clip(linear, 0, 1)) + np.float32(0.5)
        paint[:, 3] = (8 * part.number + kind + 1)[hits.owner]
        groups.append((paint, hits, cut_layers(hits.owner, layer[chosen])))
    for depth in range(int(layer.max(initial=0)) + 1):
        for paint, hits, cuts in groups:
            _paint(canvas, paint, hits, slice(cuts[depth], cuts[depth + 1]))
    canvas = canvas.reshape(len(solids.camera), view.height, view.width, 4)
    truth = canvas[..., 3]
    return canvas[..., :3], np.right_shift(truth, 3, dtype=np.uint8), truth & np.uint8(7)


def _paint(canvas: Pixels, paint: Pixels, hits: Hits, span: slice) -> None:
    """Put the colours (P, 4) of one span of hits on `canvas` (N * H * W, 4), in place."""
    paint, pixel, cover = paint[span], hits.pixel[span], hits.cover[span]
    mixed = np.flatnonzero(cover < 1)
    below, share = canvas[pixel[mixed]], cover[mixed, None]
    top = paint[mixed]
    top[:, :3] = share * top[:, :3] + (1 - share) * below[:, :3] + np.float32(0.5)
    top[:, 3] = np.where(hits.center[span][mixed], top[:, 3], below[:, 3])
    paint[mixed] = top
    canvas.view(np.uint32)[pixel] = paint.view(np.uint32)


def _shade_dull(solids: Solids, caster: Caster, hits: Hits) -> Floats:
    """Linear colours (P, 3): Lambert, light from all around, a faint wide highlight."""
    spread = make_spread(hits.owner, len(solids.half))
    (x, y, z), (n, m, k), ray = caster.enter(spread, hits.u, hits.v)
    # Less light comes from around near the ground.
    light = (np.float32(0.2) + np.float32(0.1) * k) * np.minimum(1 + np.float32(0.35) * z, 1)
    scale = spread(solids.half**2)
    gloss = np.zeros_like(light)
    for lamp, (power, (a, b, c)) in enumerate(zip(LAMP_POWERS, caster.lamps, strict=True)):
        dx, dy, dz = spread(a) - x, spread(b) - y, spread(c) - z
        square = dx * dx + dy * dy + dz * dz
        facing = np.maximum(n * dx + m * dy + k * dz, 0)
        distance = np.sqrt(square)
        strength = np.float32(_LAMP_ON_SOLID * power) / (scale * square + np.float32(_LAMP_FALLOFF))
        light += strength * facing / distance
        if lamp == 0:
            a, b, c = _mirror(ray, (n, m, k))
            mirrored = np.maximum(a * dx + b * dy + c * dz, 0) / distance
            gloss = np.float32(0.06) * _raise(mirrored, 3)
    return np.asarray(spread(solids.color) * light[:, None] + gloss[:, None])


def _shade_shiny(solids: Solids, caster: Caster, hits: Hits) -> Floats:
    """Linear colours (P, 3): a tinted mirror of the ground, a grey sky and the lamps."""
    spread = make_spread(hits.owner, len(solids.half))
    (x, y, z), normal, ray = caster.enter(spread, hits.u, hits.v)
    a, b, c = _mirror(ray, normal)
    sky = np.float32(0.2) + np.float32(0.4) * np.maximum(1 - 2 * np.abs(c), 0)
    # The ground is dark where the solid keeps the light off, which is what a low place sees.
    reach = (z + 1) / np.maximum(-c, np.float32(1e-3))
    light = np.where(c > 0, sky, np.float32(0.08) + np.float32(0.5) * reach / (reach + 1))
    gloss = np.zeros_like(light)
    for power, lamps in zip(LAMP_POWERS, caster.lamps, strict=True):
        dx, dy, dz = spread(lamps[0]) - x, spread(lamps[1]) - y, spread(lamps[2]) - z
        mirrored = np.maximum(a * dx + b * dy + c * dz, 0)
        mirrored /= np.sqrt(dx * dx + dy * dy + dz * dz)
        share = np.float32(power / max(LAMP_POWERS))
        # Cut off at the top, so that it looks like the disc of a lamp.
        gloss += share * np.minimum(3 * _raise(mirrored, 7), np.float32(0.8))
    color = spread(solids.color)
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
    ground = _Ground(solids, layer, coarse, camera, x, y)
    _occlude_sky(light, ground)
    for lamp, power in enumerate(LAMP_POWERS):
        lamps = solids.lamps[:, lamp, :, None, None]
        dx, dy, dz = lamps[:, 0] - x, lamps[:, 1] - y, lamps[:, 2]
        square = dx * dx + dy * dy + dz * dz
        lit = np.float32(power) * dz / ((square + np.float32(_LAMP_FALLOFF)) * np.sqrt(square))
        if lamp in _SHADOWS:
            _cast_shadows(lit, lamp, ground)
        light += lit
    grey = _enlarge(np.sqrt(np.clip(_GROUND_ALBEDO * light, 0, 1)) * 255 + np.float32(0.5))
    return grey.astype(np.uint8)


class _Ground(NamedTuple):
    """The ground of pictures in coarse pixels, and the solids on it.

    Attributes:
        solids: M solids of N pictures.
        layer: Their layers (M,).
        view: Coarse pixels.
        camera: Directions right, up and backward as columns, (3, 3).
        x: Place of each pixel on the ground, (N, H, W).
        y: The other coordinate of it.
    """

    solids: Solids
    layer: Ints
    view: View
    camera: Floats
    x: Floats
    y: Floats

    def find_pixels(self, x: Floats, y: Floats) -> tuple[Ints, Ints]:
        """Owners and pixels (P,) of windows around points (M, K) on the ground."""
        bounds = bound_points(x, y, x * 0, self.solids, self.view, self.camera)
        owner, row, column = spread_windows(bounds)
        return owner, (
            self.solids.picture[owner] * self.view.height + row
        ) * self.view.width + column

    def multiply(self, light: Floats, owner: Ints, pixel: Ints, factor: Floats) -> None:
        """Multiply pixels of `light` by `factor` (P,) in place; solids may share pixels."""
        flat = light.reshape(-1)
        cuts = cut_layers(owner, self.layer)
        for first, last in itertools.pairwise(cuts):
            flat[pixel[first:last]] *= factor[first:last]


def _occlude_sky(light: Floats, ground: _Ground) -> None:
    """Darken `light` (N, H, W) around the feet of solids, in place."""
    solids = ground.solids
    reach = 2.2 * solids.half[:, None]
    x = solids.x[:, None] + reach * np.array([-1, -1, 1, 1], np.float32)
    y = solids.y[:, None] + reach * np.array([-1, 1, -1, 1], np.float32)
    owner, pixel = ground.find_pixels(x, y)
    spread = make_spread(owner, len(solids.half))
    dx = ground.x.ravel()[pixel] - spread(solids.x)
    dy = ground.y.ravel()[pixel] - spread(solids.y)
    near = np.asarray((dx * dx + dy * dy) / spread(solids.half**2), np.float32)
    clear = np.float32(1) - np.float32(0.75) / (1 + near * near * np.float32(0.6))
    ground.multiply(light, owner, pixel, clear)


def _cast_shadows(lit: Floats, lamp: int, ground: _Ground) -> None:
    """Darken the light (N, H, W) of one lamp where solids are in its way, in place.

    A point is in the shadow as far as the way to the lamp passes a solid's axis, below its top, at
    less than its radius; for a sphere, its centre. Farther away shadows are softer.
    """
    solids = ground.solids
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
    owner, pixel = ground.find_pixels(x, y)
    spread = make_spread(owner, len(solids.half))
    px, py = ground.x.ravel()[pixel], ground.y.ravel()[pixel]
    ex, ey = spread(lamps[:, 0]) - px, spread(lamps[:, 1]) - py
    wx, wy = spread(solids.x) - px, spread(solids.y) - py
    # Only for spheres do heights count.
    ez = spread(lamps[:, 2] * (solids.shape == SPHERE))
    wz = spread(solids.half * (solids.shape == SPHERE))
    share = (wx * ex + wy * ey + wz * ez) / (ex * ex + ey * ey + ez * ez)
    share = np.clip(share, 0, spread(top))
    ex, ey, ez = wx - share * ex, wy - share * ey, wz - share * ez
    distance = np.sqrt(ex * ex + ey * ey + ez * ez) - spread(caster)
    soft = np.float32(0.06) + np.float32(LAMP_RADII[lamp]) * share
    clear = np.clip(distance / (2 * soft) + 0.5, 0, 1)
    ground.multiply(lit, owner, pixel, clear * clear * (3 - 2 * clear))


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
