"""`toy`: textured shapes on textured grounds, drawn in memory with exact layers, masks and labels.

Every picture is a function of (seed, split, index) alone. Object and ground are drawn
independently of each other from different palettes, which is the one assumption the methods of
this suite share: an object can be exchanged without looking at what is behind it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

SHAPES = ("disc", "square", "triangle", "cross")
#: Object colours, RGB in [0, 1].
COLORS = {
    "red": (0.86, 0.16, 0.14),
    "yellow": (0.95, 0.80, 0.16),
    "magenta": (0.80, 0.22, 0.66),
    "orange": (0.95, 0.52, 0.12),
}
#: Ground colours between which each picture mixes, RGB in [0, 1].
_GROUNDS = np.array(
    [[0.13, 0.32, 0.20], [0.16, 0.30, 0.48], [0.30, 0.46, 0.30], [0.28, 0.34, 0.38]], np.float32
)
_COLOR_TABLE = np.array(list(COLORS.values()), np.float32)


def texture(rng: np.random.Generator, grid: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Draw a smooth grey pattern in [-1, 1]: waves, checks or spots of random scale and angle."""
    x, y = grid
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    frequency = rng.uniform(8, 20)
    u = np.cos(angle) * x + np.sin(angle) * y
    v = np.cos(angle) * y - np.sin(angle) * x
    kind = rng.integers(3)
    if kind == 0:
        wave = np.sin(frequency * u + phase)
    elif kind == 1:
        wave = np.sin(frequency * u + phase) * np.sin(frequency * v + phase)
    else:
        wave = np.sin(frequency * u + 2 * np.sin(0.4 * frequency * v + phase))
    return np.asarray(wave, np.float32)


def distance(shape: str, x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    """Signed distance (negative inside) to a shape of about `radius` centred at the origin."""
    if shape == "disc":
        field = np.hypot(x, y) - radius
    elif shape == "square":
        field = np.maximum(np.abs(x), np.abs(y)) - 0.86 * radius
    elif shape == "triangle":
        field = np.maximum(np.abs(x) * np.sqrt(3) / 2 + y / 2, -y) - 0.62 * radius
    else:
        arm = np.maximum(np.abs(x) - radius, np.abs(y) - 0.42 * radius)
        field = np.minimum(arm, np.maximum(np.abs(y) - radius, np.abs(x) - 0.42 * radius))
    return np.asarray(field, np.float32)


def render(rng,resolution):
    t = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution * 2 - 1
    x, y = np.meshgrid(t, t)
    i, j = rng.choice(len(_GROUNDS), 2, replace=False)
    mix = 0.5 + 0.5 * texture(rng, (x, y))
    bg = _GROUNDS[i] + mix[..., None] * (_GROUNDS[j] - _GROUNDS[i]) * 0.8
    bg = bg * rng.uniform(0.8, 1.2)
    shape = rng.integers(len(SHAPES)); color = rng.integers(len(COLORS))
    r = rng.uniform(0.5, 0.72)
    cx, cy = rng.uniform(-0.3, 0.3, 2)
    a = rng.uniform(-0.3, 0.3)
    px, py = x - cx, y - cy
    px, py = np.cos(a) * px + np.sin(a) * py, np.cos(a) * py - np.sin(a) * px
    alpha = np.clip(0.5 - distance(SHAPES[shape], px, py, r) * resolution / 2, 0, 1)
    fg = _COLOR_TABLE[color] * (1 + 0.18 * texture(rng, (x, y)))[..., None]
    img = alpha[..., None] * fg + (1 - alpha[..., None]) * bg
    return np.clip(img, 0, 1), alpha, shape * len(COLORS) + color
