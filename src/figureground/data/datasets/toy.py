"""`toy`: textured shapes on textured grounds, drawn in memory with exact layers, masks and labels.

Every picture is a function of (seed, split, index) alone. Objects have warm colours, grounds cool
or grey ones of any brightness, and both are drawn independently: the one assumption the methods of
this suite share is that an object can be exchanged without looking at what is behind it.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from figureground.core.bounds import Count, PositiveInt
from figureground.core.types import Layers
from figureground.data.samples import ImageDataset, Sample

FloatArray = npt.NDArray[np.floating]
Split = Literal["train", "val", "test"]

SHAPES = ("disc", "square", "triangle", "cross")
#: Hue of each object colour, in turns.
HUES = {"red": 0.0, "orange": 0.07, "yellow": 0.14, "pink": 0.92}
SPLITS: dict[str, int] = {"train": 1, "val": 2, "test": 3}


@dataclass(frozen=True)
class Scene:
    """One drawn picture, layers back to front.

    Attributes:
        color: (L, S, S, 3), in [0, 1].
        alpha: Opacity of each layer, (L, S, S), in [0, 1]; the ground is opaque.
        label: Shape and colour of the front object, shape * 4 + colour.
    """

    color: FloatArray
    alpha: FloatArray
    label: int

    @property
    def visible(self) -> FloatArray:
        """Share of each layer in each pixel, (L, S, S); sums to one."""
        clear = np.cumprod(1 - self.alpha[::-1], axis=0)[::-1]  # Through this layer and all before.
        behind = np.concatenate([clear[1:], np.ones_like(clear[:1])])
        return np.asarray(self.alpha * behind, np.float32)


class Toy(ImageDataset):
    """Shapes on grounds, at the size asked for.

    Args:
        split: Which of three independent sets.
        count: Pictures in it.
        resolution: Side S.
        seed: Another seed draws another set.
        num_objects: Shapes per picture, painted one over the other.
    """

    def __init__(
        self,
        split: Split,
        count: PositiveInt,
        resolution: PositiveInt = 32,
        seed: Count = 0,
        num_objects: PositiveInt = 1,
    ) -> None:
        self.split, self.resolution, self.seed = split, resolution, seed
        self.num_objects = num_objects
        self.keys = [f"toy-{split}-{index:05d}" for index in range(count)]

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        visible = scene.visible
        image = (visible[..., None] * scene.color).sum(axis=0)
        return Sample(
            np.round(image * 255).clip(0, 255).astype(np.uint8),
            self.keys[index],
            visible.argmax(axis=0).astype(np.uint8),
            scene.label,
        )

    def layers(self, index: int) -> Layers:
        """Exact layers of picture `index`, a batch of one."""
        scene = self.scene(index)
        color = torch.from_numpy(scene.color).permute(0, 3, 1, 2)[None] * 2 - 1
        return Layers(color, torch.from_numpy(scene.visible)[None, :, None])

    def scene(self, index: int) -> Scene:
        """Draw picture `index`."""
        rng = np.random.default_rng([self.seed, SPLITS[self.split], index])
        side = self.resolution
        axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
        grid = (axis[None, :], axis[:, None])
        color, alpha = [_draw_ground(rng, grid)], [np.ones((side, side), np.float32)]
        label = 0
        scale = self.num_objects**-0.5
        for _ in range(self.num_objects):
            label = int(rng.integers(len(SHAPES) * len(HUES)))
            shape, hue = divmod(label, len(HUES))
            color.append(_draw_surface(rng, grid, list(HUES.values())[hue]))
            alpha.append(_draw_shape(rng, grid, SHAPES[shape], scale))
        return Scene(np.stack(color), np.stack(alpha), label)

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        return f"toy-{self.split}-{len(self)}-{self.resolution}-{self.seed}-{self.num_objects}"


def draw_texture(rng: np.random.Generator, grid: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Draw a smooth grey pattern (S, S) in [-1, 1]: waves, checks or wobbles, any scale and angle.

    Args:
        rng: Source of chance.
        grid: Coordinates x (1, S) and y (S, 1) in [-1, 1].
    """
    x, y = grid
    angle, phase = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    frequency = np.float32(rng.uniform(8, 20))
    u = np.cos(angle) * x + np.sin(angle) * y
    v = np.cos(angle) * y - np.sin(angle) * x
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(np.sin(frequency * u + phase))
    if kind == 1:
        return np.asarray(np.sin(frequency * u + phase) * np.sin(frequency * v + phase))
    bent = 2 * np.sin(np.float32(0.4) * frequency * v + phase)
    return np.asarray(np.sin(frequency * u + bent))


def signed_distance(shape: str, x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    """Distance, negative inside, to a shape of about `radius` around the origin."""
    r = np.float32(radius)
    if shape == "disc":
        return np.asarray(np.hypot(x, y) - r)
    if shape == "square":
        return np.asarray(np.maximum(np.abs(x), np.abs(y)) - np.float32(0.86) * r)
    if shape == "triangle":
        side = np.abs(x) * np.float32(np.sqrt(3) / 2) + y / 2
        return np.asarray(np.maximum(side, -y) - np.float32(0.62) * r)
    across = np.maximum(np.abs(x) - r, np.abs(y) - np.float32(0.42) * r)
    along = np.maximum(np.abs(y) - r, np.abs(x) - np.float32(0.42) * r)
    return np.asarray(np.minimum(across, along))


def _draw_ground(rng: np.random.Generator, grid: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Two similar cool colours mixed by a texture, (S, S, 3)."""
    hue, saturation, value = rng.uniform(0.28, 0.78), rng.uniform(0.25, 0.9), rng.uniform(0.2, 0.9)
    other = np.clip(value + rng.choice([-1, 1]) * rng.uniform(0.1, 0.2), 0.1, 1)
    one = _rgb(hue, saturation, value)
    two = _rgb(hue + rng.uniform(-0.06, 0.06), saturation, other)
    share = 0.5 + 0.5 * draw_texture(rng, grid)
    return np.asarray(one + share[..., None] * (two - one), np.float32)


def _draw_surface(
    rng: np.random.Generator, grid: tuple[FloatArray, FloatArray], hue: float
) -> FloatArray:
    """A warm colour with light and dark in it, (S, S, 3)."""
    color = _rgb(hue, rng.uniform(0.75, 0.95), rng.uniform(0.85, 1.0))
    shade = 1 + 0.15 * draw_texture(rng, grid)
    return np.asarray(np.clip(color * shade[..., None], 0, 1), np.float32)


def _draw_shape(
    rng: np.random.Generator, grid: tuple[FloatArray, FloatArray], shape: str, scale: float
) -> FloatArray:
    """Opacity of a shape anywhere inside the picture, edges smooth over one pixel, (S, S)."""
    radius = rng.uniform(0.55, 0.8) * scale
    reach = 1 - 0.9 * radius
    (x, y), (left, top) = grid, rng.uniform(-reach, reach, 2).astype(np.float32)
    angle = np.float32(rng.uniform(-0.4, 0.4))
    x, y = x - left, y - top
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    pixels = signed_distance(shape, x, y, radius) * (len(grid[1]) / 2)
    return np.asarray(np.clip(0.5 - pixels, 0, 1), np.float32)


def _rgb(hue: float, saturation: float, value: float) -> FloatArray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, float(value)), np.float32)
