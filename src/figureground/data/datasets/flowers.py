"""Oxford Flowers-102 with its automatic segmentations, split as in the ReDO paper."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from scipy.io import loadmat

from figureground.core.errors import DataError
from figureground.data.reading import read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import check_files

_TREE = """  {root}/jpg/image_00001.jpg ...       (102flowers.tgz)
  {root}/segmim/segmim_00001.jpg ...   (102segmentations.tgz)
  {root}/setid.mat
  {root}/imagelabels.mat               (optional: class labels)"""
_PAGE = "www.robots.ox.ac.uk/~vgg/data/flowers/102"
#: Entry of setid.mat behind each split: the official training and test sets change places.
_ENTRIES = {"train": "tstid", "val": "valid", "test": "trnid"}
_COUNTS = {"train": 6149, "val": 1020, "test": 1020}


class Flowers(ImageDataset):
    """Flowers-102; labels are the official classes from 0 on, if `imagelabels.mat` is there.

    Args:
        root: Folder with `jpg/`, `segmim/` and `setid.mat`.
        split: `train` (6149 pictures), `val` (1020) or `test` (1020).

    Raises:
        DataError: Files are missing, or a `.mat` file is not the official one.
    """

    def __init__(self, root: str, split: Literal["train", "val", "test"]) -> None:
        self.root, self.split = Path(root), split
        tree = _TREE.format(root=root)
        check_files("flowers", [self.root / "setid.mat"], tree, _PAGE)
        self.numbers = _read_numbers(self.root / "setid.mat", _ENTRIES[split])
        self.keys = [f"image_{number:05d}" for number in self.numbers]
        check_files(
            "flowers", [file for i in range(len(self)) for file in self.files(i)], tree, _PAGE
        )
        labels = self.root / "imagelabels.mat"
        self._labels = _read_numbers(labels, "labels") if labels.is_file() else None
        if self._labels is not None and len(self._labels) < max(self.numbers):
            raise DataError(
                f"{labels} has {len(self._labels)} labels, but setid.mat names picture "
                f"{max(self.numbers)}; put the original from {_PAGE} there, or remove it"
            )

    def __getitem__(self, index: int) -> Sample:
        picture, segmented = self.files(index)
        label = None
        if self._labels is not None:
            label = self._labels[self.numbers[index] - 1] - 1
        mask = mask_of_segmentation(read_image(segmented))
        return Sample(read_image(picture), self.keys[index], mask, label)

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its segmentation."""
        number = self.numbers[index]
        return (
            self.root / f"jpg/image_{number:05d}.jpg",
            self.root / f"segmim/segmim_{number:05d}.jpg",
        )

    def check_counts(self) -> list[str]:
        """Compare with the official numbers."""
        if len(self) == _COUNTS[self.split]:
            return []
        return [f"flowers {self.split} has {len(self)} pictures, expected {_COUNTS[self.split]}"]


def mask_of_segmentation(segmented: Pixels) -> Pixels:
    """Turn a picture whose background was painted blue into an index mask (H, W).

    Background is where R = 0 or G = 0 or B = 254, on the decoded JPEG at full size, which is how
    ReDO's loader undoes the blue (0, 0, 254) after compression.
    """
    red, green, blue = segmented[..., 0], segmented[..., 1], segmented[..., 2]
    background = (red == 0) | (green == 0) | (blue == 254)
    return np.asarray(~background, np.uint8)


def _read_numbers(path: Path, entry: str) -> list[int]:
    """Read one list of a MATLAB file.

    Raises:
        DataError: It is no such file, or has no such list.
    """
    try:
        numbers = [int(number) for number in loadmat(str(path))[entry].ravel()]
    except Exception as error:  # On damaged files scipy raises nearly anything.
        raise DataError(
            f"{path} is not a MATLAB file with a list `{entry}` ({type(error).__name__}); put the "
            f"original from {_PAGE} there"
        ) from error
    if not numbers:
        raise DataError(f"{path}: the list `{entry}` is empty; put the original there")
    return numbers
