"""Oxford Flowers-102 with its automatic segmentations, split as in the ReDO paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from figureground.core.errors import DataError
from figureground.core.presence import is_file
from figureground.data.datasets import split_folders
from figureground.data.listed import require_inside
from figureground.data.matlab import read_numbers
from figureground.data.reading import read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import (
    check_files,
    check_published,
    find_list,
    read_classes,
    require_classes,
)

_TREE = (
    """  {root}/jpg/image_00001.jpg ...       (102flowers.tgz)
  {root}/segmim/segmim_00001.jpg ...   (102segmentations.tgz)
  {root}/setid.mat
  {root}/imagelabels.mat               (optional: class labels)
"""
    + split_folders.TREE
)
_PAGE = "www.robots.ox.ac.uk/~vgg/data/flowers/102"
#: Entries of setid.mat behind each split. In ReDO's the official training and test sets change
#: places; those who sort pictures train on all, also on those that they test on.
_ENTRIES: dict[str, dict[str, tuple[str, ...]]] = {
    "redo": {"train": ("tstid",), "val": ("valid",), "test": ("trnid",)},
    "clustering": {"train": ("trnid", "valid", "tstid"), "val": ("tstid",), "test": ("tstid",)},
}
_COUNTS: dict[str, dict[str, int]] = {
    "redo": {"train": 6149, "val": 1020, "test": 1020},
    "clustering": {"train": 8189, "val": 6149, "test": 6149},
}
_COUNTS["lists"] = _COUNTS["clustering"]
_LISTS = {"train": "l2ic/oxford_flower_train.txt"} | dict.fromkeys(
    ("val", "test"), "l2ic/oxford_flower_test.txt"
)
_FILE = re.compile(r"image_\d{5}")


class Flowers(ImageDataset):
    """Flowers-102; labels are the official classes from 0 on, if `imagelabels.mat` is there.

    Folders `test_images/` and so on of the user's own (`split_folders`) are read where there is no
    `setid.mat`; there are no labels then, and `protocol` means nothing.

    Args:
        root: Folder with `jpg/`, `segmim/` and `setid.mat`.
        split: `train` (6149 pictures), `val` (1020) or `test` (1020).
        protocol: `redo`, as just said; `clustering` trains on all 8189 and tests and validates on
            the official test set, 6149 of these, as C3-GAN and L2IC do; `lists` reads their lists
            of it.
        masks: `hard` are resized by nearest neighbour (ReDO); `soft` ones bilinearly, and then cut
            at the half, or scored as they are (L2IC).

    Raises:
        DataError: Files are missing, a `.mat` file is not the official one, or a list disagrees
            with it.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        protocol: Literal["redo", "clustering", "lists"] = "redo",
        masks: Literal["hard", "soft"] = "hard",
    ) -> None:
        self.root, self.split, self.protocol = Path(root), split, protocol
        self.masks = masks
        self._labels: list[int] | None = None
        self._sorted = None
        if not is_file(self.root / "setid.mat"):
            self._sorted = split_folders.find_split(self.root, split)
        if self._sorted is None:
            self._read_lists()
        else:
            self.keys, self.why_empty = self._sorted.keys, self._sorted.why_empty

    def _read_lists(self) -> None:
        """Find the pictures of the split in the official archives."""
        tree = _TREE.format(root=self.root)
        check_files("flowers", [self.root / "setid.mat"], tree, _PAGE)
        self.numbers = self._choose()
        self.keys = [f"image_{number:05d}" for number in self.numbers]
        entries = ((key, self.files(index)) for index, key in enumerate(self.keys))
        source = self._list if self.protocol == "lists" else self.root / "setid.mat"
        require_inside(source, self.root, entries)
        check_files(
            "flowers", [file for i in range(len(self)) for file in self.files(i)], tree, _PAGE
        )
        labels = self.root / "imagelabels.mat"
        self._labels = read_numbers(labels, "labels", _PAGE) if labels.is_file() else None
        if self._labels is not None and len(self._labels) < max(self.numbers):
            raise DataError(
                f"{labels} has {len(self._labels)} labels, but setid.mat names picture "
                f"{max(self.numbers)}; put the original from {_PAGE} there, or remove it"
            )
        if self.protocol == "lists":
            self._compare_labels()

    def _choose(self) -> list[int]:
        """Numbers of the pictures in the split."""
        if self.protocol == "lists":
            self._list = find_list(self.root, _LISTS[self.split])
            listed = read_classes(self._list)
            if bad := [name for name in listed if not _FILE.fullmatch(Path(name).stem)]:
                raise DataError(f"{self._list} names {bad[0]}; expected image_00001.jpg or alike")
            # Their folders are of another copy of the set: only the file name counts.
            self._listed = {int(Path(name).stem[6:]): label for name, label in listed.items()}
            return list(self._listed)
        path = self.root / "setid.mat"
        entries = _ENTRIES[self.protocol][self.split]
        return [n for entry in entries for n in read_numbers(path, entry, _PAGE)]

    def _compare_labels(self) -> None:
        """Refuse a list whose classes are not the official ones, where these are known."""
        known: dict[str, int | None] = {
            key: None if self._labels is None else self._labels[number - 1] - 1
            for key, number in zip(self.keys, self.numbers, strict=True)
        }
        listed = dict(zip(self.keys, self._listed.values(), strict=True))
        require_classes(self._list, listed, known)

    def __getitem__(self, index: int) -> Sample:
        picture, segmented = self.files(index)
        label = None
        if self._labels is not None:
            label = self._labels[self.numbers[index] - 1] - 1
        pixels = read_image(segmented)
        is_grey = self._sorted is not None and bool((pixels == pixels[..., :1]).all())
        mask = split_folders.cut_at_half(pixels) if is_grey else mask_of_segmentation(pixels)
        is_soft = self.masks == "soft"
        mask = mask * np.uint8(255) if is_soft else mask
        return Sample(read_image(picture), self.keys[index], mask, label, is_soft=is_soft)

    def fingerprint(self) -> str:
        """Hash of the files and of what is made of them."""
        return f"{super().fingerprint()}-{self.masks}"

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its segmentation."""
        if self._sorted is not None:
            return self._sorted.pairs[index]
        number = self.numbers[index]
        return (
            self.root / f"jpg/image_{number:05d}.jpg",
            self.root / f"segmim/segmim_{number:05d}.jpg",
        )

    def check_counts(self) -> list[str]:
        """Compare with the official numbers."""
        if self._sorted is not None:
            return []
        expected = _COUNTS[self.protocol][self.split]
        problems = []
        if self.protocol == "lists":
            problems = check_published(self._list, _LISTS[self.split])
        if len(self) != expected:
            problems.append(f"flowers {self.split} has {len(self)} pictures, expected {expected}")
        return problems


def mask_of_segmentation(segmented: Pixels) -> Pixels:
    """Turn a picture whose background was painted blue into an index mask (H, W).

    Background is where R = 0 or G = 0 or B = 254, on the decoded JPEG at full size, which is how
    ReDO's loader undoes the blue (0, 0, 254) after compression.
    """
    red, green, blue = segmented[..., 0], segmented[..., 1], segmented[..., 2]
    background = (red == 0) | (green == 0) | (blue == 254)
    return np.asarray(~background, np.uint8)
