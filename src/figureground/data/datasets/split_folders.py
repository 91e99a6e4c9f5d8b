"""Sets that users have sorted into folders themselves, as the GAN segmenter's authors do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.data.pairing import pair_files, stem_of
from figureground.data.samples import Pixels

TREE = """or, sorted as the GAN segmenter's authors have it, flat or in sub-folders:
  {root}/train_images/*.jpg, {root}/train_segmentations/*.png
  {root}/test_images/*.jpg, {root}/test_segmentations/*.png   (above half of white: object)"""

_NUM_VAL = 512  # Test pictures that training is watched by; the authors select nothing by them.
_HALF = 127


class SplitFolder(NamedTuple):
    """Pictures and masks of one split.

    Attributes:
        pairs: Pictures with their masks.
        keys: Names of the pictures.
        why_empty: What is missing where there are none.
    """

    pairs: list[tuple[Path, Path]]
    keys: list[str]
    why_empty: str = ""


def find_split(root: Path, split: Literal["train", "val", "test"]) -> SplitFolder | None:
    """Look for `<split>_images/` and `<split>_segmentations/` below `root`; None if it has none.

    `val` are the first 512 test pictures. Who tests alone needs no training pictures.

    Raises:
        DataError: There are no test pictures, or no masks; or it is unclear which mask is whose.
    """
    known = [part for part in ("train", "test") if is_dir(root / f"{part}_images")]
    if not known:
        return None
    part = "train" if split == "train" else "test"
    images, masks = root / f"{part}_images", root / f"{part}_segmentations"
    if part not in known and part == "train":
        return SplitFolder([], [], f"{images} is not there")
    if absent := [folder for folder in (images, masks) if not is_dir(folder)]:
        raise DataError(
            f"{root} has {known[0]}_images, but no {absent[0].name}; expected it with the "
            f"{'masks' if absent[0] == masks else 'pictures'} of that split"
        )
    pairs = pair_files(images, masks)[: _NUM_VAL if split == "val" else None]
    return SplitFolder(pairs, [f"{part}/{stem_of(picture, images)}" for picture, _ in pairs])


def cut_at_half(mask: Pixels) -> Pixels:
    """Object of a mask read as a picture (H, W, 3): its first channel above half of white."""
    return np.asarray(mask[..., 0] > _HALF, np.uint8)
