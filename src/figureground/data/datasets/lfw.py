"""Labeled Faces in the Wild, funneled, with part labels: hair and skin are the object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from figureground.data.listed import require_inside
from figureground.data.reading import read_image
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import (
    check_files,
    check_published,
    find_list,
    look_for_list,
    read_pairs,
    refuse_overlap,
)

_TREE = """  {root}/lfw_funneled/<person>/<person>_0001.jpg ...           (lfw-funneled.tgz)
  {root}/parts_lfw_funneled_gt_images/<person>_0001.ppm ...    (parts_lfw_funneled_gt_images.tgz)
  {root}/train.txt, val.txt, test.txt                          (ReDO's lists)"""
_PAGE = "vis-www.cs.umass.edu/lfw (images) and .../lfw/part_labels (part labels)"
_LIST = "redo/lfw_funneled/{}.txt"
_COUNTS = {"train": 10306, "val": 1327, "test": 1600}


class LFW(ImageDataset):
    """Faces; the training pictures are those without part labels, so they carry no masks.

    (The authors' loader gives them the red channel as a stand-in mask; scores on it mean nothing.)

    Args:
        root: Folder with `lfw_funneled/` and `parts_lfw_funneled_gt_images/`.
        split: `train` (10306 pictures), `val` (1327) or `test` (1600).

    Raises:
        DataError: Files or lists are missing, a list repeats a line, or lists share pictures.
    """

    def __init__(self, root: str, split: Literal["train", "val", "test"]) -> None:
        self.root, self.split = Path(root), split
        self.annotated = split != "train"
        self.list = find_list(self.root, _LIST.format(split))
        self.names = read_pairs(self.list)  # Person and picture.
        self.keys = [name for _, name in self.names]
        for other in _COUNTS.keys() - {split}:
            if path := look_for_list(self.root, _LIST.format(other)):
                shared = set(self.keys) & {name for _, name in read_pairs(path)}
                refuse_overlap(f"{self.list} and {path}", shared)
        entries = ((" ".join(name), self.files(i)) for i, name in enumerate(self.names))
        require_inside(self.list, self.root, entries)
        files = [file for i in range(len(self)) for file in self.files(i)]
        check_files("lfw", files, _TREE.format(root=root), _PAGE)

    def __getitem__(self, index: int) -> Sample:
        files = self.files(index)
        mask = None
        if self.annotated:
            # Hair is red, skin green, background blue.
            mask = np.asarray(read_image(files[1])[..., 2] < 128, np.uint8)
        return Sample(read_image(files[0]), self.keys[index], mask)

    def files(self, index: int) -> tuple[Path, ...]:
        """The photograph and, outside training, its part labels."""
        person, name = self.names[index]
        picture = self.root / "lfw_funneled" / person / f"{name}.jpg"
        if not self.annotated:
            return (picture,)
        return picture, self.root / "parts_lfw_funneled_gt_images" / f"{name}.ppm"

    def check_counts(self) -> list[str]:
        """Compare with the published numbers and list."""
        problems = check_published(self.list, _LIST.format(self.split))
        if len(self) != _COUNTS[self.split]:
            expected = _COUNTS[self.split]
            problems.append(f"lfw {self.split} has {len(self)} pictures, expected {expected}")
        return problems
