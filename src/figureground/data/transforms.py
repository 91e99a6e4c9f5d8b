"""From a picture at its own size to training pixels: a fixed part, cached, and a random part.

`ResizeCrop` is deterministic, so its result is what caches hold. `Augment` draws from a generator
that depends on (seed, epoch, index) only, so the number of workers does not change the data.

Index masks move by nearest neighbour, so that void pixels (`core.types.VOID`) stay void and no
other pixel becomes so. Soft masks, which are interpolated, hold none: an index mask says what is
void.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from PIL import Image

from figureground.core.bounds import Bounds, Fraction, PixelSide, PositiveInt
from figureground.core.errors import DataError
from figureground.data.samples import Pixels, Sample

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
#: A soft mask is object where it is above half of 255.
HALF = 127


class ResizeCrop:
    """Resize the shorter side and cut out the middle square; hard masks by nearest neighbour.

    With side R the longer side becomes int(R * long / short) and the cut starts at
    round((size - R) / 2), as torchvision did for the published figures.

    Args:
        resolution: Side R of the result.
        interpolation: Filter for images; `nearest` is what ReDO used, the others are anti-aliased.
        shorter: What the shorter side becomes; None is R, more cuts away a margin on all sides.
    """

    def __init__(
        self,
        resolution: PositiveInt,
        interpolation: Interpolation = "lanczos",
        shorter: PixelSide | None = None,
    ) -> None:
        self.resolution, self.interpolation = resolution, interpolation
        self.shorter = shorter or resolution
        if problems := self.check_options(resolution=resolution, shorter=shorter):
            raise ValueError("; ".join(problems))

    @staticmethod
    def check_options(*, resolution: int, shorter: int | None = None, **_: object) -> list[str]:
        """The square must fit into the picture."""
        if shorter is None or resolution <= shorter:
            return []
        return [f"a square of {resolution} is cut out of a shorter side of {shorter}; raise that"]

    @property
    def fingerprint(self) -> str:
        """What the result depends on, as text."""
        text = f"resize-crop-{self.resolution}-{self.interpolation}"
        return text if self.shorter == self.resolution else f"{text}-{self.shorter}"

    def __call__(self, sample: Sample) -> Sample:
        """Return `sample` at R x R."""
        mask = _check_mask(sample)
        image = self._apply(sample.image, _FILTERS[self.interpolation])
        if mask is not None:
            mask = self._apply(mask, _mask_filter(sample))
        return _exchange(sample, image, mask)

    def _apply(self, pixels: Pixels, resampling: Image.Resampling) -> Pixels:
        height, width = pixels.shape[:2]
        short, side, target = min(height, width), self.resolution, self.shorter
        if (height, width) != (side, side) or target != side:
            size = int(target * width / short), int(target * height / short)
            picture = Image.fromarray(pixels)
            # Nothing is resized when the shorter side already fits; nearest would be the identity.
            pixels = np.asarray(picture if short == target else picture.resize(size, resampling))
        top, left = (round((length - side) / 2) for length in pixels.shape[:2])
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])


class Stretch:
    """Resize to a square whatever the aspect; hard masks by nearest neighbour.

    Args:
        resolution: Side R of the result.
        interpolation: Filter for images, anti-aliased unless `nearest`.
    """

    def __init__(self, resolution: PositiveInt, interpolation: Interpolation = "bilinear") -> None:
        self.resolution, self.interpolation = resolution, interpolation

    @property
    def fingerprint(self) -> str:
        """What the result depends on, as text."""
        return f"stretch-{self.resolution}-{self.interpolation}"

    def __call__(self, sample: Sample) -> Sample:
        """Return `sample` at R x R."""
        mask = _check_mask(sample)
        image = self._apply(sample.image, _FILTERS[self.interpolation])
        if mask is not None:
            mask = self._apply(mask, _mask_filter(sample))
        return _exchange(sample, image, mask)

    def _apply(self, pixels: Pixels, resampling: Image.Resampling) -> Pixels:
        size = self.resolution, self.resolution
        return np.asarray(Image.fromarray(pixels).resize(size, resampling))


class ShorterSide:
    """Resize a picture's shorter side, keeping its aspect, and leave the mask at its own size.

    For tests at full resolution (gan-segmenter): what is found is enlarged to the mask. While
    training, its authors watch masks of the picture's new size instead (`resize_mask`).

    Args:
        resolution: The shorter side.
        crop: Whether picture and mask are first cut to the square in their middle.
        resize_mask: Whether the mask gets the picture's size too: a soft one bilinearly and then
            cut at the half, a hard one by nearest neighbour.
    """

    def __init__(
        self, resolution: PositiveInt, crop: bool = False, resize_mask: bool = False
    ) -> None:
        self.resolution, self.crop, self.resize_mask = resolution, crop, resize_mask

    @property
    def fingerprint(self) -> str:
        """What the result depends on, as text."""
        text = f"shorter-side-{self.resolution}-{self.crop}"
        return f"{text}-masks" if self.resize_mask else text

    def __call__(self, sample: Sample) -> Sample:
        """Return `sample` with a smaller (or larger) picture."""
        mask, image = _check_mask(sample), sample.image
        if self.crop:
            side = min(image.shape[:2])
            top, left = (round((length - side) / 2) for length in image.shape[:2])
            cut = (slice(top, top + side), slice(left, left + side))
            image, mask = image[cut], None if mask is None else np.ascontiguousarray(mask[cut])
        height, width = image.shape[:2]
        short, side = min(height, width), self.resolution
        size = int(side * width / short), int(side * height / short)
        resized = Image.fromarray(np.ascontiguousarray(image)).resize(
            size, Image.Resampling.BILINEAR
        )
        if mask is not None and self.resize_mask:
            mask = np.asarray(Image.fromarray(mask).resize(size, _mask_filter(sample)))
        return _exchange(sample, np.asarray(resized), mask)


class Augment:
    """Random changes of image and mask together, on the CPU, by albumentations.

    Args:
        resolution: Side R of the pictures.
        flip: Probability of a horizontal flip.
        crop: Smallest share of the area that a random square crop keeps; 1 for no crop.
        rotate: Largest rotation either way, in degrees; the border is mirrored.
        brightness: Largest relative change of brightness and contrast.
    """

    def __init__(
        self,
        resolution: PositiveInt,
        flip: Fraction = 0.5,
        crop: Fraction = 1.0,
        rotate: Annotated[float, Bounds(0, 180)] = 0.0,
        brightness: Fraction = 0.0,
    ) -> None:
        # It asks the network for newer versions when imported, and takes seconds: late and quiet.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations

        steps = [albumentations.HorizontalFlip(p=flip)]
        if crop < 1:
            steps.append(
                albumentations.RandomResizedCrop(
                    (resolution, resolution), scale=(crop, 1.0), ratio=(1.0, 1.0), p=1.0
                )
            )
        if rotate > 0:
            steps.append(albumentations.Rotate(limit=rotate, border_mode=4, p=1.0))
        if brightness > 0:
            steps.append(albumentations.RandomBrightnessContrast(brightness, brightness, p=1.0))
        self._compose = albumentations.Compose(steps)

    def __call__(
        self, image: Pixels, mask: Pixels | None, seed: int
    ) -> tuple[Pixels, Pixels | None]:
        """Change `image` (H, W, 3) and `mask` (H, W) alike, by `seed` alone."""
        self._compose.set_random_seed(seed)
        if mask is None:
            return self._compose(image=image)["image"], None
        changed = self._compose(image=image, mask=mask)
        return changed["image"], changed["mask"]


class RandomSquare:
    """Cut a random square out of a resized picture and flip it: training pictures of L2IC, C3-GAN.

    It takes pictures at their own size, so training reads each anew instead of out of a cache.

    Args:
        resolution: Side R of the result.
        shorter: Shorter side that the whole picture is first resized to.
        square: Side of the square that is cut out of this, then resized to R.
        flip: Probability of a horizontal flip.
    """

    def __init__(
        self,
        resolution: PositiveInt,
        shorter: PositiveInt = 304,
        square: PositiveInt = 256,
        flip: Fraction = 0.5,
    ) -> None:
        if problems := self.check_options(shorter=shorter, square=square):
            raise ValueError("; ".join(problems))
        self.resolution, self.shorter, self.square, self.flip = resolution, shorter, square, flip

    @staticmethod
    def check_options(*, shorter: int = 304, square: int = 256, **_: object) -> list[str]:
        """The square must fit into the picture."""
        if square <= shorter:
            return []
        return [f"square={square} is cut out of a shorter side of {shorter}; lower it"]

    def __call__(
        self, image: Pixels, mask: Pixels | None, seed: int
    ) -> tuple[Pixels, Pixels | None]:
        """Change `image` (H, W, 3) and `mask` (H, W) alike, by `seed` alone, to R x R."""
        rng = np.random.default_rng(seed)
        height, width = image.shape[:2]
        short = min(height, width)
        size = int(self.shorter * width / short), int(self.shorter * height / short)
        # Either end of the picture may be the square's.
        left, top = (int(rng.integers(length - self.square + 1)) for length in size)
        is_flipped = bool(rng.random() < self.flip)
        box = (left, top, left + self.square, top + self.square)

        def change(pixels: Pixels, resampling: Image.Resampling) -> Pixels:
            whole = Image.fromarray(pixels).resize(size, resampling)
            cut = whole.crop(box).resize((self.resolution, self.resolution), resampling)
            return np.ascontiguousarray(np.asarray(cut)[:, :: -1 if is_flipped else 1])

        changed = None if mask is None else change(mask, Image.Resampling.NEAREST)
        return change(image, Image.Resampling.BILINEAR), changed


def _mask_filter(sample: Sample) -> Image.Resampling:
    return Image.Resampling.BILINEAR if sample.is_soft else Image.Resampling.NEAREST


def _exchange(sample: Sample, image: Pixels, mask: Pixels | None) -> Sample:
    """`sample` with another picture and mask; a soft one is cut, and its shares are kept."""
    if mask is None or not sample.is_soft:
        return replace(sample, image=image, mask=mask, is_soft=False, soft=None)
    hard = np.asarray(mask > HALF, np.uint8)
    return replace(sample, image=image, mask=hard, is_soft=False, soft=mask)


def _check_mask(sample: Sample) -> Pixels | None:
    """Mask of `sample`, if it has one, which must be as large as the picture."""
    mask = sample.mask
    if mask is not None and mask.shape != sample.image.shape[:2]:
        raise DataError(
            f"the mask of {sample.key} is {mask.shape[1]}x{mask.shape[0]} but its picture is "
            f"{sample.image.shape[1]}x{sample.image.shape[0]}; both must have the same size"
        )
    return mask
