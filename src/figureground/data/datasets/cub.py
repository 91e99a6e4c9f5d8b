"""CUB-200-2011 photographs, whole or cut, with their segmentations."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from figureground.core.errors import DataError
from figureground.core.presence import is_file, read_text
from figureground.data.crops import Box, cut_box, cut_centre
from figureground.data.datasets import split_folders
from figureground.data.listed import require_inside
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import (
    check_files,
    check_published,
    find_list,
    read_classes,
    read_pairs,
    refuse_overlap,
    require_classes,
)

_TREE = (
    """  {root}/images/001.Black_footed_Albatross/*.jpg ...         (CUB_200_2011.tgz)
  {root}/images.txt
  {root}/segmentations/001.Black_footed_Albatross/*.png ...  (segmentations.tgz)
  {root}/train_val_test_split.txt                            (ReDO's list, which DRC has, too)
  {root}/bounding_boxes.txt                                  (for crop=box alone)
"""
    + split_folders.TREE
)
_PAGE = "www.vision.caltech.edu/datasets/cub_200_2011"
_LIST = "redo/cub/train_val_test_split.txt"
_COUNTS = {
    "redo": {"train": 10000, "val": 788, "test": 1000},
    "clustering": {"train": 11788, "val": 5794, "test": 5794},
}
_COUNTS["lists"] = _COUNTS["clustering"]
_CLASSES = {"train": "l2ic/cub_train.txt"} | dict.fromkeys(("val", "test"), "l2ic/cub_test.txt")
_SPLITS = ("train", "val", "test")
_CLASS = re.compile(r"\d{1,9}\.")  # How folders begin.
_SHOWN = 80  # Characters of a name in messages.
_HALF = 127  # Annotators' votes are multiples of 51: above this, at least three of five agree.

Protocol = Literal["redo", "official", "clustering", "lists"]
Crop = Literal["none", "centre", "box"]
Masks = Literal["majority", "soft", "dither"]


class CUB(ImageDataset):
    """Birds; a pixel is bird where most annotators say so. Labels are the 200 classes from 0 on.

    Layered GANs train on the middle squares of whole photographs and are tested on squares around
    the boxes: `data=cub_drc`.

    Folders `test_images/` and so on of the user's own (`split_folders`) are read where there is no
    `images.txt`; there are no labels and boxes then, and `protocol` means nothing.

    Args:
        root: Folder with `images/`, `images.txt` and `segmentations/`.
        split: `train`, `val` or `test`.
        protocol: `redo` reads the list of the ReDO paper (10000 / 788 / 1000 pictures at random);
            `official` reads `train_test_split.txt` of the archive, whose test set also serves as
            validation set; `clustering` is the same but trains on all pictures, those of the test
            too, as C3-GAN and L2IC do; `lists` reads their lists of it.
        crop: What of the photograph: all (`none`), its middle square (`centre`), or the square
            around the bird's box, half as large again (`box`).
        masks: `majority` cuts the votes at full size (ReDO); `soft` after resizing (ILSGAN);
            `dither` lets Pillow dither them to one bit at full size (DRC).

    Raises:
        DataError: Files or the list are missing, or the list has a picture in several splits or
            of another class; on reading, a box is outside its picture.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        protocol: Protocol = "redo",
        crop: Crop = "none",
        masks: Masks = "majority",
    ) -> None:
        self.root, self.split, self.protocol = Path(root), split, protocol
        self.crop, self.masks = crop, masks
        self.boxes: list[Box] = []
        self._sorted = None
        if not is_file(self.root / "images.txt"):
            self._sorted = split_folders.find_split(self.root, split)
        if self._sorted is None:
            self._read_lists()
            return
        if crop == "box":
            raise DataError(
                f"{root} is sorted into folders without boxes; set data.train.crop=none or centre"
            )
        self.keys, self.why_empty = self._sorted.keys, self._sorted.why_empty

    def _read_lists(self) -> None:
        """Find the pictures of the split in the official archives."""
        tree = _TREE.format(root=self.root)
        check_files("cub", [self.root / "images.txt"], tree, _PAGE)
        names = dict(read_pairs(self.root / "images.txt"))
        require_inside(self.root / "images.txt", self.root, ((name, ()) for name in names.values()))
        if odd := [name for name in names.values() if not _CLASS.match(name)]:
            raise DataError(
                f"{self.root / 'images.txt'} names {odd[0][:_SHOWN]!r}; expected a picture in the "
                "folder of its class, such as 001.Black_footed_Albatross: put the original there"
            )
        is_listed = self.protocol == "lists"
        chosen = self._choose_listed(names) if is_listed else self._choose(tree, names)
        if unknown := [number for number in chosen if number not in names]:
            raise DataError(
                f"{self.list} names {len(unknown)} pictures that images.txt does not have: "
                f"{', '.join(unknown[:5])}"
            )
        self.paths = [names[number] for number in chosen]
        self.keys = [str(Path(path).with_suffix("")) for path in self.paths]
        entries = ((path, self.files(index)) for index, path in enumerate(self.paths))
        require_inside(self.root / "images.txt", self.root, entries)
        check_files("cub", [file for i in range(len(self)) for file in self.files(i)], tree, _PAGE)
        if self.crop == "box":
            path = self.root / "bounding_boxes.txt"
            check_files("cub", [path], tree, _PAGE)
            self.boxes = _read_boxes(path, chosen)

    def _choose_listed(self, names: dict[str, str]) -> list[str]:
        """Numbers of the pictures that the lists of C3-GAN and L2IC name for the split."""
        self.list = find_list(self.root, _CLASSES[self.split])
        listed, numbers = read_classes(self.list), {name: number for number, name in names.items()}
        require_classes(self.list, listed, {name: _class_of(name) for name in numbers})
        return [numbers[name] for name in listed]

    def _choose(self, tree: str, names: dict[str, str]) -> list[str]:
        """Numbers of the pictures in the split."""
        if self.protocol == "clustering" and self.split == "train":
            self.list = self.root / "images.txt"
            return list(names)
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
        image, mask = read_image(picture), self._read_mask(segmentation)
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{segmentation} is {mask.shape[1]}x{mask.shape[0]} but its picture is "
                f"{image.shape[1]}x{image.shape[0]}; put the originals there"
            )
        label = _class_of(self.paths[index]) if self._sorted is None else None
        image, mask = (self._cut(pixels, index) for pixels in (image, mask))
        return Sample(image, self.keys[index], mask, label, is_soft=self.masks == "soft")

    def _read_mask(self, path: Path) -> Pixels:
        if self._sorted is None or self.masks == "dither":
            return _read_votes(path, self.masks)
        votes = read_image(path)  # Of any kind, as users save masks.
        is_soft = self.masks == "soft"
        return np.ascontiguousarray(votes[..., 0]) if is_soft else split_folders.cut_at_half(votes)

    def _cut(self, pixels: Pixels, index: int) -> Pixels:
        if self.crop == "box":
            return cut_box(pixels, self.boxes[index], self.keys[index])
        return cut_centre(pixels) if self.crop == "centre" else pixels

    def fingerprint(self) -> str:
        """Hash of the files and of what is made of them."""
        boxes = hashlib.sha256(repr(self.boxes).encode()).hexdigest()
        return f"{super().fingerprint()}-{self.crop}-{self.masks}-{boxes}"

    def files(self, index: int) -> tuple[Path, ...]:
        """The photograph and its segmentation."""
        if self._sorted is not None:
            return self._sorted.pairs[index]
        path = Path(self.paths[index])
        return self.root / "images" / path, self.root / "segmentations" / path.with_suffix(".png")

    def check_counts(self) -> list[str]:
        """Compare with the published numbers and list."""
        if self.protocol == "official" or self._sorted is not None:
            return []
        lists = {"redo": _LIST, "lists": _CLASSES[self.split]}
        published = lists.get(self.protocol)
        problems = [] if published is None else check_published(self.list, published)
        expected = _COUNTS[self.protocol][self.split]
        if len(self) != expected:
            problems.append(f"cub {self.split} has {len(self)} pictures, expected {expected}")
        return problems


def _class_of(path: str) -> int:
    """Class from 0 on of a picture in a folder such as `001.Black_footed_Albatross`."""
    return int(path.split(".")[0]) - 1


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
    for line in read_text(path, errors="replace").splitlines():
        try:
            number, *sides = line.split()
            left, top, width, height = (int(float(side)) for side in sides)
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: expected `number left top width height`, found `{line[:40]}`; put the "
                "original there"
            ) from error
        boxes[number] = left, top, width, height
    if missing := [number for number in numbers if number not in boxes]:
        raise DataError(f"{path} lacks {len(missing)} pictures, such as {missing[0]}")
    return [boxes[number] for number in numbers]
