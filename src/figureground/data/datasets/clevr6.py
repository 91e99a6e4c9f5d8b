"""CLEVR6: three to six solids, dull or shiny, on a grey ground (Johnson et al., 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from figureground.data.casting import count_visible
from figureground.data.datasets.multi_objects import MultiObjects, Scenes, index_masks, shape_bytes
from figureground.data.rendering import render
from figureground.data.samples import Pixels
from figureground.data.solids import CUBE, Solids, View, rotation
from figureground.data.tfrecord import Example

FloatArray = npt.NDArray[np.floating]

SIDE, FEWEST, MOST = 128, 3, 6
SHAPES = ("sphere", "cylinder", "cube")
MATERIALS = ("rubber", "metal")
COLORS = {
    "gray": (87, 87, 87), "red": (173, 35, 35), "blue": (42, 75, 215), "green": (29, 105, 20),
    "brown": (129, 74, 25), "purple": (129, 38, 192), "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}  # fmt: skip
#: Radii; a cube has a half side smaller by the root of 2.
SIZES = (0.7, 0.35)

_FULL = (240, 320)  # Height and width of the original pictures.
_ENTITIES = 11
_CROP = (slice(29, 221), slice(64, 256))
_FOCAL = 350.0  # Pixels of the original: 35 mm before a sensor of 32 mm.
_CAMERA = (7.481, -6.508, 5.344)
_ANGLES = (63.56, 0.62, 46.69)  # Degrees.
#: Key, fill and back lamp.
_LAMPS = ((6.4, -2.9, 4.3), (-4.7, -4.0, 3.0), (-1.1, 2.6, 5.9))
_LEAST_DISTANCE, _LEAST_MARGIN, _TRIES, _LEAST_VISIBLE = 0.25, 0.4, 50, 200
_COARSE = 2  # Visibility is counted in every second pixel of every second row.
_BATCH = 32  # Pictures rendered at once; more would leave the processor's cache.


class CLEVR6(MultiObjects):
    """128x128 pictures of solids of 6 classes: sphere, cylinder, cube, each rubber, then metal.

    See `MultiObjects` for the options. Records are DeepMind's scenes of six objects or fewer,
    rows 29-220 and columns 64-255, made smaller bilinearly (maps by nearest neighbour); their
    classes are numbered by the collection's own codes.
    """

    name = "clevr6"
    file_name = "clevr_with_masks_train.tfrecords"
    published = 34_963
    side = SIDE
    num_classes = len(SHAPES) * len(MATERIALS)
    chunk = 64

    def draw(self, rng: np.random.Generator, count: int) -> Scenes:
        """Draw `count` pictures; see `draw_clevr6`."""
        return draw_clevr6(rng, count)

    @classmethod
    def belongs(cls, example: Example) -> bool:
        """Whether a record has six objects or fewer, besides the background."""
        return bool(example.read_floats("visibility").sum() <= MOST + 1)

    @classmethod
    def decode(cls, example: Example) -> Scenes:
        """Turn a record into one picture.

        Raises:
            ValueError: It is not a record of CLEVR with masks.
        """
        image = shape_bytes(example, "image", (*_FULL, 3))[_CROP]
        masks = shape_bytes(example, "mask", (_ENTITIES, *_FULL))
        instances = _shrink(index_masks(masks)[_CROP], Image.Resampling.NEAREST)
        shapes, materials = (
            shape_bytes(example, name, (_ENTITIES,)).astype(int) for name in ("shape", "material")
        )
        shown = np.unique(instances[instances > 0])
        table = (shapes - 1) * len(MATERIALS) + materials
        table[0] = 0
        if not set(shapes[shown]) <= {1, 2, 3} or not set(materials[shown]) <= {1, 2}:
            raise ValueError(f"has shapes {shapes.tolist()} and materials {materials.tolist()}")
        classes = table[instances].astype(np.uint8)
        picture = _shrink(image, Image.Resampling.BILINEAR)
        return Scenes(picture[None], instances[None], classes[None])


def draw_clevr6(rng: np.random.Generator, count: int, num_samples: int = 2) -> Scenes:
    """Draw pictures in the manner of CLEVR.

    Args:
        rng: Source of chance.
        count: Pictures N.
        num_samples: Rays along each side of a pixel on an outline; 1 leaves edges hard.

    Returns:
        Pictures (N, 128, 128), instances 1..6 (objects outside the picture are missing), classes
        1..6.
    """
    scenes = draw_scenes(rng, count)
    camera = rotation(_ANGLES)
    scale = (_CROP[0].stop - _CROP[0].start) / SIDE
    view = _make_view(SIDE, SIDE, scale, _CROP[1].start, _CROP[0].start)
    size = (count, SIDE, SIDE)
    result = Scenes(*(np.empty(shape, np.uint8) for shape in ((*size, 3), size, size)))
    for first in range(0, count, _BATCH):
        part = slice(first, first + _BATCH)
        rendered = render(_choose(scenes, part), view, camera, num_samples)
        for target, pixels in zip(result, rendered, strict=True):
            target[part] = pixels
    return result


def draw_scenes(rng: np.random.Generator, count: int) -> Solids:
    """Draw what is in N pictures: 3 to 6 solids each, by the rules of the CLEVR generator.

    Solids keep a distance, also as seen along and across the camera's direction; a scene in which
    one does not find a place in 50 tries, or is hardly visible, is drawn anew with as many solids.
    """
    numbers = rng.integers(FEWEST, MOST, size=count, endpoint=True)
    left = np.arange(count)
    found: list[Solids] = []
    camera = rotation(_ANGLES)
    view = _make_view(_FULL[0] // _COARSE, _FULL[1] // _COARSE, _COARSE, 0, 0)
    while len(left):
        solids, placed = _try_scenes(rng, numbers[left])
        seen = np.bincount(
            solids.picture,
            count_visible(solids, view, camera) * _COARSE**2 >= _LEAST_VISIBLE,
            len(left),
        )
        good = placed & (seen == numbers[left])
        found.append(_renumber(_choose(solids, good), left[good]))
        left = left[~good]
    return _join(found, count)


def _try_scenes(
    rng: np.random.Generator, numbers: npt.NDArray[np.int64]
) -> tuple[Solids, npt.NDArray[np.bool_]]:
    """Draw a scene with each of `numbers` (N,) solids; say where all found a place."""
    size = (len(numbers), MOST)
    sizes, shapes, shiny, colors = (
        rng.integers(len(x), size=size) for x in (SIZES, SHAPES, MATERIALS, COLORS)
    )
    radius = np.array(SIZES)[sizes]
    places, placed = _place(rng, radius, numbers)
    yaw = rng.uniform(0, 2 * np.pi, size)
    camera = _CAMERA + rng.uniform(-0.5, 0.5, (size[0], 3))
    lamps = _LAMPS + rng.uniform(-1, 1, (size[0], 3, 3))
    there = np.arange(MOST) < numbers[:, None]
    picture, number = np.nonzero(there)
    # Palettes are gamma coded; light adds up in linear values.
    palette = (np.array(list(COLORS.values())) / 255) ** 2
    half = np.where(shapes == CUBE, radius / 2**0.5, radius)
    solids = Solids(
        picture, number + 1, shapes[there], shiny[there] == 1, _single(half[there]),
        _single(places[there][:, 0]), _single(places[there][:, 1]), _single(yaw[there]),
        _single(palette[colors[there]]), _single(camera), _single(lamps),
    )  # fmt: skip
    return solids, placed


def _place(
    rng: np.random.Generator, radius: FloatArray, numbers: npt.NDArray[np.int64]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Find places (N, 6, 2) for solids of `radius` (N, 6); say in which scenes all have one."""
    right, up, _ = rotation((0, 0, _ANGLES[2])).T[:, :2]
    axes = np.stack([right, up], axis=1)
    places = np.empty((*radius.shape, 2))
    placed = np.ones(len(radius), np.bool_)
    rows = np.arange(len(radius))
    for k in range(MOST):
        tried = rng.uniform(-3, 3, (len(radius), _TRIES, 2))
        apart = tried[:, :, None] - places[:, None, :k]  # (N, 50, k, 2)
        least = _LEAST_DISTANCE + radius[:, None, :k] + radius[:, k, None, None]
        free = ((apart**2).sum(axis=-1) >= least**2).all(axis=-1)
        free &= (np.abs(apart @ axes) >= _LEAST_MARGIN).all(axis=(-1, -2))
        places[:, k] = tried[rows, free.argmax(axis=1)]
        placed &= free.any(axis=1) | (k >= numbers)
    return places, placed


def _make_view(height: int, width: int, scale: float, left: int, top: int) -> View:
    """View whose pixels are `scale` original ones wide, from column `left` and row `top` on."""
    return View(
        height,
        width,
        (left + scale / 2 - _FULL[1] / 2) / _FOCAL,
        (_FULL[0] / 2 - top - scale / 2) / _FOCAL,
        scale / _FOCAL,
    )


def _choose(solids: Solids, pictures: slice | npt.NDArray[np.bool_]) -> Solids:
    """Scenes of some pictures, numbered from 0 on."""
    count = len(solids.camera)
    chosen = np.zeros(count, np.bool_)
    chosen[pictures] = True
    kept = solids.take(chosen[solids.picture])
    place = np.cumsum(chosen) - 1
    parts = {**vars(kept), "picture": place[kept.picture]}
    return Solids(**{**parts, "camera": solids.camera[chosen], "lamps": solids.lamps[chosen]})


def _renumber(solids: Solids, pictures: npt.NDArray[np.int64]) -> Solids:
    return Solids(**{**vars(solids), "picture": pictures[solids.picture]})


def _join(parts: list[Solids], count: int) -> Solids:
    """Put scenes of separate pictures together in the order of pictures."""
    camera, lamps = np.empty((count, 3), np.float32), np.empty((count, 3, 3), np.float32)
    for part in parts:
        pictures = np.unique(part.picture)
        camera[pictures], lamps[pictures] = part.camera, part.lamps
    fields = [name for name in vars(parts[0]) if name not in {"camera", "lamps"}]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    order = np.argsort(joined["picture"], kind="stable")
    return Solids(
        **{name: values[order] for name, values in joined.items()}, camera=camera, lamps=lamps
    )


def _single(values: FloatArray) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _shrink(pixels: Pixels, resampling: Image.Resampling) -> Pixels:
    """Make a cut-out (192, 192) or (192, 192, 3) as large as the pictures of the set."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), resampling))
