"""GTSRB-8: eight kinds of traffic signs, the clustering set of the DTI-Sprites paper."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Literal

import numpy as np

from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.data.reading import list_pictures, read_image
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import check_files

#: Official numbers of the classes, in the order of our labels 0..7.
CLASSES = (3, 7, 9, 11, 17, 18, 25, 35)

_BASES = ("train", "Final_Training/Images")  # Of the authors, and of the official archive.
_TREE = """  {root}/Final_Training/Images/00003/*.ppm     (the official archive)
  or {root}/train/3/*     (or 00003; .ppm, .png or .jpg)
  and the same for the classes 7, 9, 11, 17, 18, 25, 35; others are left alone"""
_PAGE = (
    "the German Traffic Sign Recognition Benchmark (the training images), or by the authors' "
    "script (github.com/monniert/dti-sprites, download_data.sh),"
)
_COUNTS = (1410, 1440, 1470, 1320, 1110, 1200, 1500, 1200)
_SEED, _NUM_VAL = 46, 100
_HELD_OUT = 10  # One track in so many is for the test, another one for validation.


class GTSRB8(ImageDataset):
    """Traffic signs of eight classes, of any size; labels 0..7 and no masks.

    The authors train and score on all pictures and watch 100 of them in between; which 100 their
    seed draws is not published, ours are other ones.

    Held out are whole tracks (`<track>_<frame>.ppm`): the 30 pictures of one are the same sign
    filmed in passing, so that a random picture has its twins in the training set.

    Args:
        root: Folder with `train/<class>/`, or with the official `Final_Training/Images/<class>/`.
        split: `train`, `val` or `test`.
        transductive: All pictures are for training and for the test, as the authors have it;
            otherwise of each class a tenth of the tracks is for each of `val` and `test` only.

    Raises:
        DataError: Classes are missing or empty, or have too few tracks to hold some out.
    """

    annotated = False

    def __init__(
        self, root: str, split: Literal["train", "val", "test"], transductive: bool = True
    ) -> None:
        self.root, self.split, self.transductive = Path(root), split, transductive
        self._samples = [
            (path, label)
            for label, folder in enumerate(_find_folders(self.root))
            for path in self._choose(folder)
        ]
        if transductive and split == "val":
            chosen = np.random.default_rng(_SEED).permutation(len(self._samples))[:_NUM_VAL]
            self._samples = [self._samples[number] for number in sorted(chosen.tolist())]
        self.keys = [f"{CLASSES[label]:05d}/{path.name}" for path, label in self._samples]

    def __getitem__(self, index: int) -> Sample:
        path, label = self._samples[index]
        return Sample(read_image(path), self.keys[index], label=label)

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture."""
        return (self._samples[index][0],)

    def check_counts(self) -> list[str]:
        """Compare with the numbers of the official training set."""
        if self.split != "train" or not self.transductive:
            return []
        found = np.bincount([label for _, label in self._samples], minlength=len(CLASSES))
        return [
            f"gtsrb8 has {count} pictures of class {number}, expected {expected}"
            for number, count, expected in zip(CLASSES, found.tolist(), _COUNTS, strict=True)
            if count != expected
        ]

    def _choose(self, folder: Path) -> list[Path]:
        """Pictures of one class that belong to the split."""
        paths = list_pictures(folder)
        if not paths:
            raise DataError(
                f"{folder} has no pictures (.ppm, .png, .jpg); get them from {_PAGE} or remove "
                "the folder to see all that is expected"
            )
        if self.transductive:
            return paths
        tracks: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            tracks[path.stem.partition("_")[0]].append(path)
        names = sorted(tracks)
        size = -(-len(names) // _HELD_OUT)
        if len(names) <= 2 * size:
            raise DataError(
                f"{folder} has {len(names)} tracks (<track>_<frame>.ppm), too few to hold some "
                "out; expected at least 3, or set data.train.transductive=true"
            )
        ends = {"train": -2 * size, "val": -size, "test": None}
        begin = {"train": 0, "val": -2 * size, "test": -size}[self.split]
        return [path for name in names[begin : ends[self.split]] for path in tracks[name]]


def _find_folders(root: Path) -> list[Path]:
    """Folders of the eight classes, whose names may have leading zeros."""
    bases = [root / name for name in _BASES]
    base = next((base for base in bases if is_dir(base)), bases[0])
    inside = base.iterdir() if is_dir(base) else ()
    found = {int(path.name): path for path in inside if path.is_dir() and path.name.isdecimal()}
    folders = [found.get(number, base / str(number)) for number in CLASSES]
    check_files("gtsrb8", folders, _TREE.format(root=root), _PAGE)
    return folders
