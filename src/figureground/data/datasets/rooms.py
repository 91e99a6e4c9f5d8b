"""`rooms`: rendered objects with soft edges in front of photographed places, in the package.

Objects and panoramas are CC0 (see ATTRIBUTION.md). Composites are drawn on the fly; picture i is a
function of (seed, split, index). Splits share neither objects nor places.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from figureground.core.bounds import Bounds, Count, Fraction, PositiveInt
from figureground.core.pictures import open_image
from figureground.core.types import Layers
from figureground.data.datasets.toy import SPLITS, Split
from figureground.data.samples import ImageDataset, Sample

Angle = Annotated[float, Bounds(above=0, high=120)]
FloatArray = npt.NDArray[np.floating]

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "rooms"
CATEGORIES = (
    "Bathroom", "Bedroom", "Characters", "Exterior", "Kitchen", "Lights", "Living room",
    "Miscellaneous", "Office", "Staircases", "Vehicles",
)  # fmt: skip
#: Places nobody else sees; all others are for training.
_HELD_OUT = {"val": ("courtyard.jpg",), "test": ("interior.jpg",)}
#: Which part of the objects, in the order of their hashes, each split has.
_PARTS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}


@dataclass(frozen=True)
class RoomScene:
    """One composite, taken apart.

    Attributes:
        object_color: (S, S, 3), in [0, 1]; black where there is no object.
        alpha: Soft mask (S, S), in [0, 1].
        background: Clean background (S, S, 3), in [0, 1].
        label: Index of the object's category in `CATEGORIES`.
        object_id: Name of the object.
        background_id: Name of the panorama.
    """

    object_color: FloatArray
    alpha: FloatArray
    background: FloatArray
    label: int
    object_id: str
    background_id: str


class Rooms(ImageDataset):
    """One object in front of a view of a panorama.

    Args:
        split: Which of three sets that share neither objects nor places.
        count: Pictures.
        resolution: Side S.
        seed: Another seed draws other pictures of the same objects and places.
        smallest: Least size of the object's longer side, as a share of S.
        largest: Greatest size of it.
        narrowest: Least angle of view, in degrees.
        widest: Greatest angle of view, below 120 degrees. At less than 30, backgrounds are as
            blurred as behind a close-up.
        noise: Standard deviation of grey noise, in 1/255.
    """

    def __init__(
        self,
        split: Split,
        count: PositiveInt,
        resolution: PositiveInt = 64,
        seed: Count = 0,
        smallest: Fraction = 0.7,
        largest: Fraction = 1.0,
        narrowest: Angle = 45,
        widest: Angle = 80,
        noise: Count = 2,
    ) -> None:
        if problems := self.check_options(
            smallest=smallest, largest=largest, narrowest=narrowest, widest=widest
        ):
            raise ValueError("; ".join(problems))
        self.split, self.resolution, self.seed = split, resolution, seed
        self.sizes, self.noise = (smallest, largest), noise
        self.angles = (narrowest, widest)
        self.keys = [f"rooms-{split}-{index:05d}" for index in range(count)]
        manifest = _read_manifest()
        objects = sorted(manifest["objects"], key=lambda record: _hash(record["name"]))
        first, last = (round(part * len(objects)) for part in _PARTS[split])
        self.objects = objects[first:last]
        held_out = [name for names in _HELD_OUT.values() for name in names]
        self.places = list(_HELD_OUT.get(split, ())) or [
            p["name"] for p in manifest["panoramas"] if p["name"] not in held_out
        ]

    @staticmethod
    def check_options(
        *, smallest: float, largest: float, narrowest: float, widest: float, **_: object
    ) -> list[str]:
        """Problems of options that are fine one by one but not together."""
        ranges = (("smallest", smallest, "largest", largest),
                  ("narrowest", narrowest, "widest", widest))  # fmt: skip
        return [
            f"{low}={least} exceeds {high}={most}; expected the smaller one first"
            for low, least, high, most in ranges
            if least > most
        ]

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        alpha = scene.alpha[..., None]
        image = alpha * scene.object_color + (1 - alpha) * scene.background
        noise = np.random.default_rng([self.seed, SPLITS[self.split], index, 1])
        grey = noise.normal(0, self.noise, scene.alpha.shape)[..., None]
        return Sample(
            np.round(image * 255 + grey).clip(0, 255).astype(np.uint8),
            self.keys[index],
            (scene.alpha > 0.5).astype(np.uint8),
            scene.label,
            soft=np.round(255 * scene.alpha).astype(np.uint8),
        )

    def layers(self, index: int) -> Layers:
        """Exact layers of picture `index` before noise, a batch of one."""
        scene = self.scene(index)
        color = np.stack([scene.background, scene.object_color])
        alpha = np.stack([1 - scene.alpha, scene.alpha])
        return Layers(
            torch.from_numpy(color).permute(0, 3, 1, 2)[None] * 2 - 1,
            torch.from_numpy(alpha)[None, :, None],
        )

    def scene(self, index: int) -> RoomScene:
        """Draw picture `index`."""
        rng = np.random.default_rng([self.seed, SPLITS[self.split], index])
        side = self.resolution
        record = self.objects[rng.integers(len(self.objects))]
        place = self.places[rng.integers(len(self.places))]
        background = _look(rng, _load_panorama(place), side, self.angles)
        color, alpha = _place(rng, _load_objects()[record["name"]], side, self.sizes)
        if alpha.any():
            # A third of the way towards the light of the place.
            bright = float((color * alpha[..., None]).sum() / (3 * alpha.sum()))
            wanted = bright + 0.35 * (float(background.mean()) - bright)
            factor = wanted / max(bright, 1e-3) * rng.uniform(0.9, 1.1)
            color = np.clip(color * np.float32(np.clip(factor, 0.6, 1.5)), 0, 1)
        label = CATEGORIES.index(record["category"])
        return RoomScene(color, alpha, background, label, record["name"], place)

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        drawing = (self.sizes, self.angles, self.noise)
        settings = (self.split, len(self), self.resolution, self.seed, *drawing)
        return f"rooms-{settings}"


def _look(
    rng: np.random.Generator, panorama: FloatArray, side: int, angles: tuple[float, float]
) -> FloatArray:
    """View of an equirectangular panorama (H, W, 3) by a camera of random direction and angle."""
    yaw, pitch = rng.uniform(0, 2 * np.pi), rng.uniform(-0.35, 0.25)
    half = np.tan(np.deg2rad(rng.uniform(*angles)) / 2)
    axis = np.linspace(-half, half, side, dtype=np.float32)
    x, y = np.meshgrid(axis, -axis)
    up = np.cos(pitch) * y + np.sin(pitch)
    ahead = np.cos(pitch) - np.sin(pitch) * y
    longitude = np.arctan2(x, ahead) + yaw
    latitude = np.arctan2(up, np.hypot(x, ahead))
    height, width = panorama.shape[:2]
    columns = (longitude / (2 * np.pi) % 1) * width - 0.5
    rows = ((0.5 - latitude / np.pi) * height - 0.5).clip(0, height - 1.001)
    left, top = np.floor(columns).astype(int), np.floor(rows).astype(int)
    across, down = (columns - left)[..., None], (rows - top)[..., None]
    right, left = (left + 1) % width, left % width
    upper = (1 - across) * panorama[top, left] + across * panorama[top, right]
    lower = (1 - across) * panorama[top + 1, left] + across * panorama[top + 1, right]
    return np.asarray((1 - down) * upper + down * lower, np.float32)


def _place(
    rng: np.random.Generator, picture: Image.Image, side: int, sizes: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Flip, scale, turn and place an object; return its colour (S, S, 3) and alpha (S, S)."""
    # Mode RGBa is premultiplied by alpha: otherwise edges pick up the colour of clear pixels.
    if rng.integers(2):
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = rng.uniform(*sizes) * side / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    picture = picture.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
    center = side / 2 + rng.normal(0, 0.08 * side, 2)
    corner = [
        int(np.clip(round(c - length / 2), min(0, side - length), max(0, side - length)))
        for c, length in zip(center, picture.size, strict=True)
    ]
    canvas = Image.new("RGBa", (side, side))
    canvas.paste(picture, (corner[0], corner[1]))
    pixels = np.asarray(canvas, np.float32) / 255
    alpha = pixels[..., 3]
    color = pixels[..., :3] / np.maximum(alpha, 1 / 255)[..., None]
    return np.clip(color, 0, 1), alpha


def _hash(name: str) -> str:
    """An order of objects that has nothing to do with their names."""
    return hashlib.sha256(name.encode()).hexdigest()


@cache
def _read_manifest() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ASSETS / "manifest.json").read_text("utf-8"))
    return content


@cache
def _load_objects() -> dict[str, Image.Image]:
    """All objects, decoded once, premultiplied by alpha."""
    found = {}
    for shard in sorted({record["shard"] for record in _read_manifest()["objects"]}):
        with zipfile.ZipFile(ASSETS / shard) as archive:
            for name in archive.namelist():
                picture = open_image(io.BytesIO(archive.read(name)))
                found[name] = picture.convert("RGBA").convert("RGBa")
    return found


@cache
def _load_panorama(name: str) -> FloatArray:
    return np.asarray(open_image(ASSETS / name).convert("RGB"), np.float32) / 255
