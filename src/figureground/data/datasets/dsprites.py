"""Multi-dSprites: two to five coloured sprites, overlapping, on grey (Kabra et al., 2019)."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from figureground.data.datasets.multi_objects import MultiObjects, Scenes, index_masks, shape_bytes
from figureground.data.tfrecord import Example

FloatArray = npt.NDArray[np.floating]

SIDE, FEWEST, MOST = 64, 2, 5
SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.5, 1, 6)
ANGLES = np.linspace(0, 2 * np.pi, 40)
#: Sprite centres lie on 32 x 32 pixels in the middle.
CENTERS = (16, 47)
#: Lengths in pixels at scale 1, measured on published samples: side of the square, full axes of
#: the ellipse, width of the heart.
SQUARE, ELLIPSE, HEART = 18.2, (24.5, 13.6), 20.7
_HEART_UNIT = HEART / 0.98  # Unit of the heart's own numbers, in which it is 0.98 wide.
_REACH = 13  # No sprite goes farther from its centre.


class DSprites(MultiObjects):
    """64x64 pictures of sprites of 3 classes: 1 square, 2 ellipse, 3 heart.

    See `MultiObjects` for the options. Instances are 1..5 in the order of painting; a sprite may
    be hidden, so that a number is missing.
    """

    name = "dsprites"
    file_name = "multi_dsprites_colored_on_grayscale.tfrecords"
    published = 60_000
    side = SIDE
    num_classes = len(SHAPES)
    chunk = 128

    def draw(self, rng: np.random.Generator, count: int) -> Scenes:
        """Draw `count` pictures; see `draw_dsprites`."""
        return draw_dsprites(rng, count)

    @classmethod
    def decode(cls, example: Example) -> Scenes:
        """Turn a record into one picture.

        Raises:
            ValueError: It is not a record of this set.
        """
        image = shape_bytes(example, "image", (SIDE, SIDE, 3))
        masks = shape_bytes(example, "mask", (SIDE, SIDE, MOST + 1))  # Entities last, here only.
        instances = index_masks(masks.transpose(2, 0, 1))
        shapes = example.read_floats("shape").round().astype(int)
        if shapes.shape != (MOST + 1,) or not set(shapes[np.unique(instances)[1:]]) <= {1, 2, 3}:
            raise ValueError(f"has shapes {shapes.tolist()}, expected six from 0 to 3")
        table = np.concatenate([[0], shapes[1:]]).astype(np.uint8)
        return Scenes(image[None], instances[None], table[instances][None])


def draw_dsprites(rng: np.random.Generator, count: int) -> Scenes:
    """Draw pictures of two to five sprites, later ones on top, with hard edges.

    Args:
        rng: Source of chance.
        count: Pictures N.

    Returns:
        Pictures (N, 64, 64), instances 1..5 in the order of painting, classes 1..3.
    """
    grey = rng.integers(256, size=count, dtype=np.uint8)
    numbers = rng.integers(FEWEST, MOST, size=count, endpoint=True)
    size = (count, MOST)
    kinds = [rng.integers(len(x), size=size) for x in (SHAPES, SCALES, ANGLES)]
    centers = rng.integers(*CENTERS, size=(*size, 2), endpoint=True)
    hues, saturations, values = (rng.uniform(low, 1, size) for low in (0, 0.5, 0.5))
    colors = np.round(_rgb(hues, saturations, values) * 255).astype(np.uint8)
    images = np.repeat(grey, 3 * SIDE**2).reshape(-1, 3)
    instances, classes = (np.zeros(count * SIDE**2, np.uint8) for _ in range(2))
    starts, pixels = _stencils()
    stencils = np.ravel_multi_index(tuple(kinds), (len(SHAPES), len(SCALES), len(ANGLES)))
    corners = np.arange(count)[:, None] * SIDE**2 + centers[..., 0] * SIDE + centers[..., 1]
    for sprite in range(MOST):
        rows = np.flatnonzero(numbers > sprite)
        chosen = stencils[rows, sprite]
        lengths = starts[chosen + 1] - starts[chosen]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        places = pixels[np.repeat(starts[chosen], lengths) + within]
        places += np.repeat(corners[rows, sprite], lengths)
        images[places] = np.repeat(colors[rows, sprite], lengths, axis=0)
        instances[places] = sprite + 1
        classes[places] = np.repeat(kinds[0][rows, sprite] + 1, lengths)
    shape = (count, SIDE, SIDE)
    return Scenes(images.reshape(*shape, 3), instances.reshape(shape), classes.reshape(shape))


def covers(shape: str, x: FloatArray, y: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether points are inside an upright sprite of scale 1 around the origin.

    The heart is two discs and a polygon that meet in tangents, fitted to the extent and area of
    the published ones.

    Args:
        shape: One of `SHAPES`.
        x: Pixels to the right of the centre, any shape.
        y: Pixels below it, the same shape.
    """
    if shape == "square":
        return np.asarray(np.maximum(np.abs(x), np.abs(y)) <= SQUARE / 2)
    if shape == "ellipse":
        return np.asarray((2 * x / ELLIPSE[0]) ** 2 + (2 * y / ELLIPSE[1]) ** 2 <= 1)
    x, y = np.abs(x) / _HEART_UNIT, y / _HEART_UNIT
    lobe = (x - 0.23) ** 2 + (y + 0.2) ** 2 <= 0.26**2
    # Half of the polygon (0, 0.5), (0.432, -0.037), (0, -0.2): below one edge, above the other.
    polygon = (y >= -0.2 + x * (0.163 / 0.432)) & (y <= 0.5 - x * (0.537 / 0.432))
    return np.asarray(lobe | polygon)


@cache
def _stencils() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels of every sprite in every scale and angle, relative to its centre in a flat picture.

    Returns:
        Start of each of the 720 stencils, (721,), and the pixels of all of them.
    """
    axis = np.arange(-_REACH, _REACH + 1)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    flat, starts = [], [0]
    for shape in SHAPES:
        for scale in SCALES:
            for angle in ANGLES:
                x = (np.cos(angle) * columns + np.sin(angle) * rows) / scale
                y = (np.cos(angle) * rows - np.sin(angle) * columns) / scale
                inside = covers(shape, x, y)
                flat.append((rows * SIDE + columns)[inside])
                starts.append(starts[-1] + len(flat[-1]))
    return np.array(starts), np.concatenate(flat)


def _rgb(hue: FloatArray, saturation: FloatArray, value: FloatArray) -> FloatArray:
    """Turn HSV in [0, 1] into RGB in [0, 1], (..., 3).

    Channel n (5, 3, 1 for red, green, blue) falls short of the value by saturation times how far
    its place on the hue circle is from the plateau.
    """
    place = (np.array([5, 3, 1]) + 6 * hue[..., None]) % 6
    short = np.clip(np.minimum(place, 4 - place), 0, 1)
    return np.asarray(value[..., None] * (1 - saturation[..., None] * short))
