"""PASCAL VOC's segmentation pictures, or any folder in the same layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from figureground.core.bounds import Bounds
from figureground.core.errors import DataError
from figureground.core.types import VOID
from figureground.data.listed import require_inside
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import check_files, read_lines

_TREE = """  {root}/JPEGImages/2007_000032.jpg ...
  {root}/SegmentationClass/2007_000032.png ...   (indices of classes, 255 = not scored)
  {root}/ImageSets/Segmentation/{list}.txt       (a name per line)"""
_PAGE = "host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOCtrainval_11-May-2012.tar, folder VOC2012)"
_COUNTS = {"train": 1464, "val": 1449, "trainval": 2913}
_SHOWN = 5

#: Of VOC, from index 1 on.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

NumClasses = Annotated[int, Bounds(1, VOID - 1)]


class VOC(ImageDataset):
    """Pictures with a class for each pixel; as masks of objects, whatever has a class.

    Args:
        root: Folder with `JPEGImages/`, `SegmentationClass/` and `ImageSets/Segmentation/`.
        split: Name of the list, without ending: `train`, `val`, `trainval` or one of your own.
        num_classes: Classes of objects; 20 in VOC.
        borders: What pixels that are not to be scored become in `Sample.mask`: `background`, or
            `void`, which no score and no loss counts. `read_classes` keeps them as they are.

    Raises:
        DataError: Files are missing, or the list is empty or names a picture twice.
    """

    def __init__(
        self,
        root: str,
        split: str = "val",
        num_classes: NumClasses = 20,
        borders: Literal["background", "void"] = "background",
    ) -> None:
        self.root, self.split, self.num_classes = Path(root), split, num_classes
        self.borders = borders
        tree = _TREE.format(root=root, list=split)
        names = self.root / "ImageSets/Segmentation" / f"{split}.txt"
        check_files("voc", [names], tree, _PAGE)
        self.keys = _read_names(names)
        entries = ((name, self.files(index)) for index, name in enumerate(self.keys))
        require_inside(names, self.root, entries)
        check_files("voc", [file for i in range(len(self)) for file in self.files(i)], tree, _PAGE)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, from index 1 on; numbers where they are not VOC's."""
        if self.num_classes == len(CLASSES):
            return CLASSES
        return tuple(str(number) for number in range(1, self.num_classes + 1))

    def __getitem__(self, index: int) -> Sample:
        classes = self.read_classes(index)
        mask = np.asarray((classes > 0) & (classes != VOID), np.uint8)
        if self.borders == "void":
            mask[classes == VOID] = VOID
        return Sample(read_image(self.files(index)[0]), self.keys[index], mask)

    def read_classes(self, index: int) -> Pixels:
        """Class of each pixel of picture `index`: (H, W), 0 = background, 255 = not scored.

        Raises:
            DataError: The file cannot be read, is no index picture, or has other classes.
        """
        path = self.files(index)[1]
        picture = open_picture(path)
        if picture.mode not in {"P", "L"}:
            raise DataError(
                f"{path} has mode {picture.mode}; expected a palette or grey picture of indices: "
                "put the original there, or map its colours to indices first"
            )
        classes = np.asarray(picture, np.uint8)
        known = classes[classes != VOID]
        if known.size and int(known.max()) > self.num_classes:
            raise DataError(
                f"{path} has class {int(known.max())}, expected 0 to {self.num_classes}, or "
                f"{VOID} where nothing is scored; set num_classes or put the original there"
            )
        return classes

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its classes."""
        name = self.keys[index]
        return (
            self.root / f"JPEGImages/{name}.jpg",
            self.root / f"SegmentationClass/{name}.png",
        )

    def fingerprint(self) -> str:
        """Hash of the files and of what is made of borders."""
        return f"{super().fingerprint()}-{self.borders}"

    def check_counts(self) -> list[str]:
        """Compare with the published numbers."""
        expected = _COUNTS.get(self.split, len(self))
        if len(self) == expected:
            return []
        return [f"voc {self.split} has {len(self)} pictures, expected {expected} in VOC 2012"]


def _read_names(path: Path) -> list[str]:
    """Read a list of names, one on a line; marks behind them are left out.

    Raises:
        DataError: It is not text or empty, or names a picture twice.
    """
    names = [line.split()[0] for line in read_lines(path) if line.strip()]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or twice:
        what = f"names pictures twice: {', '.join(twice[:_SHOWN])}" if twice else "is empty"
        raise DataError(f"{path} {what}; expected one name on each line")
    return names
