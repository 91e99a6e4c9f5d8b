"""`toy_digits`: the two-digit pictures of the ReDO paper, an even and an odd digit on a ground."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from figureground.core.bounds import Count, PositiveInt
from figureground.core.errors import DataError
from figureground.data.datasets.toy import SPLITS, Split
from figureground.data.samples import ImageDataset, Pixels, Sample

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

SIDE, DIGIT = 128, 56  # Sides of the picture and of a digit.
_SIDE = 28  # Of MNIST's digits.
_GLYPHS = 600  # Drawn digits per parity and split.


class TwoDigits(ImageDataset):
    """One even and one odd digit, the later painted hiding the earlier.

    Index masks: 0 background, 1 even digit, 2 odd digit. Unlike in the authors' loader, digits are
    drawn at random from all there are (theirs saw about the first 500 only).

    Args:
        split: `train` uses MNIST's training digits, `val` and `test` its test digits.
        count: Pictures.
        seed: Another seed draws another set.
        digits: `drawn` renders digits from a font, slightly turned and stretched, without any
            file; `mnist` reads MNIST from `root`.
        root: Folder that holds `MNIST/raw`, as torchvision lays it out.
    """

    def __init__(
        self,
        split: Split,
        count: PositiveInt = 1000,
        seed: Count = 0,
        digits: Literal["drawn", "mnist"] = "drawn",
        root: str = "data",
    ) -> None:
        self.split, self.seed, self.source = split, seed, digits
        self.keys = [f"digits-{split}-{index:05d}" for index in range(count)]
        load = _draw_glyphs if digits == "drawn" else _read_mnist
        self._even, self._odd = load(split, root)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, SPLITS[self.split], index])
        background = np.array([rng.uniform(0.33, 0.66)] * 2 + [rng.uniform(0.33, 0.66)])
        even_color = np.array([rng.uniform(0, 0.33)] + [rng.uniform(0, 0.33)] * 2)
        odd_color = np.empty(3)
        odd_color[1] = rng.uniform(0.66, 1)
        odd_color[[0, 2]] = rng.uniform(0.66, 1)
        places = rng.integers(0, SIDE - DIGIT, 4)
        odd_on_top = bool(rng.integers(2))
        even = self._even[rng.integers(len(self._even))]
        odd = self._odd[rng.integers(len(self._odd))]
        image, mask = compose(background, (even, odd), (even_color, odd_color), places, odd_on_top)
        pixels = np.round(image * 255).astype(np.uint8)
        return Sample(pixels, self.keys[index], mask)

    def fingerprint(self) -> str:
        """What the pictures depend on."""
        return f"digits-{self.split}-{len(self)}-{self.seed}-{self.source}-{len(self._even)}"


def compose(
    background: npt.NDArray[np.floating],
    digits: tuple[BoolArray, BoolArray],
    colors: tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]],
    places: npt.NDArray[np.integer],
    odd_on_top: bool,
) -> tuple[FloatArray, Pixels]:
    """Paint two digits on a ground.

    Args:
        background: RGB (3,) in [0, 1].
        digits: Even and odd digit, (56, 56) each.
        colors: Their RGB (3,) in [0, 1].
        places: Row and column of the even digit's top left corner, then of the odd one's.
        odd_on_top: Whether the odd digit hides the even one.

    Returns:
        Image (128, 128, 3) in [0, 1] and index mask (128, 128): 0, 1 (even), 2 (odd).
    """
    image = np.broadcast_to(background, (SIDE, SIDE, 3)).astype(np.float32)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for which in (0, 1) if odd_on_top else (1, 0):
        row, column = int(places[2 * which]), int(places[2 * which + 1])
        window = np.s_[row : row + DIGIT, column : column + DIGIT]
        image[window][digits[which]] = colors[which]
        mask[window][digits[which]] = which + 1
    return image, mask


@cache
def _draw_glyphs(split: Split, root: str) -> tuple[tuple[BoolArray, ...], tuple[BoolArray, ...]]:
    """Render digits with Pillow's own font, turned, stretched and of several weights."""
    rng = np.random.default_rng([9, SPLITS[split]])
    found: tuple[list[BoolArray], list[BoolArray]] = ([], [])
    for number in range(2 * _GLYPHS):
        digit = number % 10
        canvas = Image.new("L", (112, 112))
        font = ImageFont.load_default(float(rng.uniform(84, 108)))
        ImageDraw.Draw(canvas).text(
            (56, 56), str(digit), 255, font, anchor="mm", stroke_width=int(rng.integers(0, 5))
        )
        shear, stretch = rng.uniform(-0.15, 0.15), rng.uniform(0.85, 1.15)
        matrix = (1 / stretch, shear, 56 - 56 / stretch - 56 * shear, 0.0, 1.0, 0.0)
        canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, matrix)
        canvas = canvas.rotate(float(rng.uniform(-12, 12))).resize((DIGIT, DIGIT))
        found[digit % 2].append(np.asarray(canvas) > 127)
    return tuple(found[0]), tuple(found[1])


@cache
def _read_mnist(split: Split, root: str) -> tuple[tuple[BoolArray, ...], tuple[BoolArray, ...]]:
    """Read MNIST and enlarge it as the paper does: 28 to 56 by nearest neighbour, cut at half."""
    from torchvision.datasets import MNIST

    try:
        digits = MNIST(str(Path(root)), train=split == "train", download=False)
        images, labels = digits.data.numpy(), digits.targets.numpy()
        num_odd = int((labels % 2).sum())
        if images.shape != (*labels.shape, _SIDE, _SIDE) or not 0 < num_odd < len(labels):
            raise ValueError("expected a label for each picture, even and odd ones")
    except Exception as error:  # On damaged files torchvision raises nearly anything.
        raise DataError(
            f"MNIST is not at {root} ({type(error).__name__}); expected "
            f"{root}/MNIST/raw/train-images-idx3-ubyte and its kin (torchvision.datasets.MNIST "
            "writes them), or use data.train.digits=drawn"
        ) from error
    images = images.repeat(2, axis=1).repeat(2, axis=2) > 127
    return tuple(images[labels % 2 == 0]), tuple(images[labels % 2 == 1])
