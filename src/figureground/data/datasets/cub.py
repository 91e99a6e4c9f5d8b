"""CUB-200-2011 whole photographs with their segmentations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from figureground.core.errors import DataError
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import (
    check_files,
    check_published,
    find_list,
    read_pairs,
    refuse_overlap,
)

_TREE = """  {root}/images/001.Black_footed_Albatross/*.jpg ...         (CUB_200_2011.tgz)
  {root}/images.txt
  {root}/segmentations/001.Black_footed_Albatross/*.png ...  (segmentations.tgz)
  {root}/train_val_test_split.txt                            (ReDO's list)"""
_PAGE = "www.vision.caltech.edu/datasets/cub_200_2011"
_LIST = "redo/cub/train_val_test_split.txt"
_COUNTS = {"train": 10000, "val": 788, "test": 1000}
_SPLITS = ("train", "val", "test")
_HALF = 127  # Annotators' votes are multiples of 51: above this, at least three of five agree.


class CUB(ImageDataset):
    """Birds; a pixel is bird where most annotators say so. Labels are the 200 classes from 0 on.

    Args:
        root: Folder with `images/`, `images.txt` and `segmentations/`.
        split: `train`, `val` or `test`.
        protocol: `redo` reads the list of the ReDO paper (10000 / 788 / 1000 pictures at random);
            `official` reads `train_test_split.txt` of the archive, whose test set also serves as
            validation set.

    Raises:
        DataError: Files or the list are missing, or the list has a picture in several splits.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        protocol: Literal["redo", "official"] = "redo",
    ) -> None:
        self.root, self.split, self.protocol = Path(root), split, protocol
        tree = _TREE.format(root=root)
        check_files("cub", [self.root / "images.txt"], tree, _PAGE)
        names = dict(read_pairs(self.root / "images.txt"))
        if protocol == "redo":
            self.list = find_list(self.root, _LIST)
            wanted = str(_SPLITS.index(split))
        else:
            self.list = self.root / "train_test_split.txt"
            check_files("cub", [self.list], tree, _PAGE)
            wanted = "1" if split == "train" else "0"
        pairs = read_pairs(self.list)
        uses = Counter(number for number, _ in pairs)
        refuse_overlap(str(self.list), (number for number in uses if uses[number] > 1))
        chosen = [number for number, part in pairs if part == wanted]
        if unknown := [number for number in chosen if number not in names]:
            raise DataError(
                f"{self.list} names {len(unknown)} pictures that images.txt does not have: "
                f"{', '.join(unknown[:5])}"
            )
        self.paths = [names[number] for number in chosen]
        self.keys = [str(Path(path).with_suffix("")) for path in self.paths]
        check_files("cub", [file for i in range(len(self)) for file in self.files(i)], tree, _PAGE)

    def __getitem__(self, index: int) -> Sample:
        picture, segmentation = self.files(index)
        votes = np.asarray(open_picture(segmentation))
        votes = votes if votes.ndim == 2 else votes[..., 0]
        label = int(self.paths[index].split(".")[0]) - 1
        mask = np.asarray(votes > _HALF, np.uint8)
        return Sample(read_image(picture), self.keys[index], mask, label)

    def files(self, index: int) -> tuple[Path, ...]:
        """The photograph and its segmentation."""
        path = Path(self.paths[index])
        return self.root / "images" / path, self.root / "segmentations" / path.with_suffix(".png")

    def check_counts(self) -> list[str]:
        """Compare with the published numbers and list."""
        if self.protocol != "redo":
            return []
        problems = check_published(self.list, _LIST)
        if len(self) != _COUNTS[self.split]:
            expected = _COUNTS[self.split]
            problems.append(f"cub {self.split} has {len(self)} pictures, expected {expected}")
        return problems
