"""CUB-200-2011 photographs, whole or cut, with their segmentations."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from figureground.core.errors import DataError
from figureground.data.crops import Box, cut_box, cut_centre
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
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
  {root}/train_val_test_split.txt                            (ReDO's list, which DRC has, too)
  {root}/bounding_boxes.txt                                  (for crop=box alone)"""
_PAGE = "www.vision.caltech.edu/datasets/cub_200_2011"
_LIST = "redo/cub/train_val_test_split.txt"
_COUNTS = {"train": 10000, "val": 788, "test": 1000}
_SPLITS = ("train", "val", "test")
_HALF = 127  # Annotators' votes are multiples of 51: above this, at least three of five agree.

Crop = Literal["none", "centre", "box"]
Masks = Literal["majority", "soft", "dither"]


class CUB(ImageDataset):
    """Birds; a pixel is bird where most annotators say so. Labels are the 200 classes from 0 on.

    Layered GANs train on the middle squares of whole photographs and are tested on squares around
    the boxes: `data=cub_drc`.

    Args:
        root: Folder with `images/`, `images.txt` and `segmentations/`.
        split: `train`, `val` or `test`.
        protocol: `redo` reads the list of the ReDO paper (10000 / 788 / 1000 pictures at random);
            `official` reads `train_test_split.txt` of the archive, whose test set also serves as
            validation set.
        crop: What of the photograph: all (`none`), its middle square (`centre`), or the square
            around the bird's box, half as large again (`box`).
        masks: `majority` cuts the votes at full size (ReDO); `soft` after resizing (ILSGAN);
            `dither` lets Pillow dither them to one bit at full size (DRC).

    Raises:
        DataError: Files or the list are missing, or the list has a picture in several splits.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        protocol: Literal["redo", "official"] = "redo",
        crop: Crop = "none",
        masks: Masks = "majority",
    ) -> None:
        self.root, self.split, self.protocol = Path(root), split, protocol
        self.crop, self.masks = crop, masks
        tree = _TREE.format(root=root)
        check_files("cub", [self.root / "images.txt"], tree, _PAGE)
        names = dict(read_pairs(self.root / "images.txt"))
        chosen = self._choose(tree)
        if unknown := [number for number in chosen if number not in names]:
            raise DataError(
                f"{self.list} names {len(unknown)} pictures that images.txt does not have: "
                f"{', '.join(unknown[:5])}"
            )
        self.paths = [names[number] for number in chosen]
        self.keys = [str(Path(path).with_suffix("")) for path in self.paths]
        check_files("cub", [file for i in range(len(self)) for file in self.files(i)], tree, _PAGE)
        self.boxes: list[Box] = []
        if crop == "box":
            path = self.root / "bounding_boxes.txt"
            check_files("cub", [path], tree, _PAGE)
            self.boxes = _read_boxes(path, chosen)

    def _choose(self, tree: str) -> list[str]:
        """Numbers of the pictures in the split."""
        if self.protocol == "redo":
            self.list = find_list(self.root, _LIST)
            wanted = str(_SPLITS.index(self.split))
        else:
            self.list = self.root / "train_test_split.txt"
            check_files("cub", [self.list], tree, _PAGE)
            wanted = "1" if self.split == "train" else "0"
        pairs = read_pairs(self.list)
        uses = Counter(number for number, _ in pairs)
        refuse_overlap(str(self.list), (number for number in uses if uses[number] > 1))
        return [number for number, part in pairs if part == wanted]

    def __getitem__(self, index: int) -> Sample:
        picture, segmentation = self.files(index)
        image, mask = read_image(picture), _read_votes(segmentation, self.masks)
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{segmentation} is {mask.shape[1]}x{mask.shape[0]} but its picture is "
                f"{image.shape[1]}x{image.shape[0]}; put the originals there"
            )
        label = int(self.paths[index].split(".")[0]) - 1
        image, mask = (self._cut(pixels, index) for pixels in (image, mask))
        return Sample(image, self.keys[index], mask, label, is_soft=self.masks == "soft")

    def _cut(self, pixels: Pixels, index: int) -> Pixels:
        if self.crop == "box":
            return cut_box(pixels, self.boxes[index])
        return cut_centre(pixels) if self.crop == "centre" else pixels

    def fingerprint(self) -> str:
        """Hash of the files and of what is made of them."""
        boxes = hashlib.sha256(repr(self.boxes).encode()).hexdigest()
        return f"{super().fingerprint()}-{self.crop}-{self.masks}-{boxes}"

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


def _read_votes(path: Path, rule: Masks) -> Pixels:
    """Read annotators' votes as a mask: indices, or shares of 255 if `rule` is `soft`; (H, W)."""
    picture = open_picture(path)
    if rule == "dither":
        return np.asarray(picture.convert("1"), np.uint8)
    votes = np.asarray(picture)
    votes = votes if votes.ndim == 2 else votes[..., 0]
    return np.asarray(votes, np.uint8) if rule == "soft" else np.asarray(votes > _HALF, np.uint8)


def _read_boxes(path: Path, numbers: list[str]) -> list[Box]:
    """Boxes of the pictures `numbers`, fractions cut off.

    Raises:
        DataError: The file has lines of another form, or lacks a picture.
    """
    boxes: dict[str, Box] = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            number, *sides = line.split()
            left, top, width, height = (int(float(side)) for side in sides)
        except ValueError as error:
            raise DataError(
                f"{path}: expected `number left top width height`, found `{line[:40]}`; put the "
                "original there"
            ) from error
        boxes[number] = left, top, width, height
    if missing := [number for number in numbers if number not in boxes]:
        raise DataError(f"{path} lacks {len(missing)} pictures, such as {missing[0]}")
    return [boxes[number] for number in numbers]
