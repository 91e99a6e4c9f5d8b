"""Stanford Dogs and Stanford Cars from their official archives, with classes and boxes.

C3-GAN and L2IC sort these pictures; masks are not part of them. For pictures with pseudo-masks see
`drc`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from figureground.core.errors import DataError
from figureground.core.presence import SMALL, read_text
from figureground.data.crops import Box, cut_box
from figureground.data.listed import require_inside
from figureground.data.matlab import read_matlab, read_numbers
from figureground.data.reading import read_image
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import (
    check_files,
    check_published,
    find_list,
    read_classes,
    require_classes,
)

Crop = Literal["none", "box", "misread_box"]
Split = Literal["train", "val", "test"]

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_CORNER = re.compile(r"<(xmin|ymin|xmax|ymax)>\s*(-?\d{1,9})\b")


class _Photographs(ImageDataset):
    """What both sets share: the official test set also serves as validation set.

    Args:
        root: Folder of the set.
        split: `train`, `val` or `test`.
        protocol: `official` takes the official split; `lists` reads the lists of C3-GAN and L2IC,
            which are meant to say the same, and compares their classes with the official ones.
        crop: What of the photograph: all, the square around the box, half as large again, or
            (`misread_box`) what L2IC's loader cuts out: it takes the lower right corner of the box
            for width and height, so that nearly all is left.

    Raises:
        DataError: Files are missing, or disagree; on reading, a box is outside its picture.
    """

    annotated = False
    name: ClassVar[str]
    page: ClassVar[str]
    tree: ClassVar[str]
    listed: ClassVar[str]  # Path of the published list of a split.
    folder: ClassVar[str] = ""  # Below the root, that the official list leaves out.
    counts: ClassVar[dict[str, int]]

    def __init__(
        self,
        root: str,
        split: Split,
        protocol: Literal["official", "lists"] = "official",
        crop: Crop = "none",
    ) -> None:
        self.root, self.split, self.protocol, self.crop = Path(root), split, protocol, crop
        self.part = "train" if split == "train" else "test"
        found = self._read_official()
        self.list: Path | None = None
        if protocol == "lists":
            self.list = find_list(self.root, self._published)
            listed = {self._locate(name): k for name, k in read_classes(self.list).items()}
            require_classes(self.list, listed, dict(found))
            found = listed
        self.labels = list(found.values())
        self.paths = [self.root / path for path in found]
        self._require_inside(found, self.paths)
        self.keys = [Path(path).with_suffix("").as_posix() for path in found]
        self._check(self.paths)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.paths[index])
        if self.crop != "none":
            left, top, right, bottom = self._read_corners(index)
            size = (right - left, bottom - top) if self.crop == "box" else (right, bottom)
            box: Box = (left, top, *size)
            image = cut_box(image, box, self.keys[index])
        return Sample(image, self.keys[index], label=self.labels[index])

    def files(self, index: int) -> tuple[Path, ...]:
        """The photograph."""
        return (self.paths[index],)

    def fingerprint(self) -> str:
        """Hash of the files, of their classes, and of what is cut out of them."""
        text = f"{self.labels} {self._boxes_fingerprint() if self.crop != 'none' else ''}"
        facts = hashlib.sha256(text.encode()).hexdigest()
        return f"{super().fingerprint()}-{self.crop}-{facts}"

    def check_counts(self) -> list[str]:
        """Compare with the official numbers and the published list."""
        problems = [] if self.list is None else check_published(self.list, self._published)
        if len(self) != self.counts[self.part]:
            expected = self.counts[self.part]
            found = f"{self.name} {self.split} has {len(self)} pictures"
            problems.append(f"{found}, expected {expected}")
        return problems

    @property
    def official(self) -> Path:
        """The official list of the split."""
        raise NotImplementedError

    @property
    def _published(self) -> str:
        return self.listed.format(part=self.part)

    def _require_inside(self, found: Iterable[str], files: Iterable[Path]) -> None:
        """Refuse files that the official list names elsewhere; `found` are paths in its order."""
        entries = (path.removeprefix(self.folder) for path in found)
        require_inside(
            self.official, self.root, ((e, (f,)) for e, f in zip(entries, files, strict=True))
        )

    def _check(self, files: list[Path]) -> None:
        check_files(self.name, files, self.tree.format(root=self.root), self.page)

    def _read_official(self) -> dict[str, int]:
        """Classes from 0 on, by path below the root, of the pictures in the split."""
        raise NotImplementedError

    def _locate(self, listed: str) -> str:
        """Path below the root of a picture that a list names."""
        raise NotImplementedError

    def _read_corners(self, index: int) -> Box:
        """Left, top, right and bottom of the box."""
        raise NotImplementedError

    def _boxes_fingerprint(self) -> str:
        raise NotImplementedError


class StanfordDogs(_Photographs):
    """Stanford Dogs: 12000 and 8580 pictures of 120 breeds; of several dogs the first box counts.

    Args:
        root: See above, as `split`, `protocol` and `crop`.
        split: Part.
        protocol: Where it is read from.
        crop: What of the photograph.
        one_based_labels: Leave classes as the file has them, from 1 on. L2IC's loader does, so
            that its scores are without the last breed.
    """

    name = "stanford_dogs"
    page = "vision.stanford.edu/aditya86/ImageNetDogs"
    tree = """  {root}/Images/n02085620-Chihuahua/*.jpg ...        (images.tar)
  {root}/train_list.mat, test_list.mat               (lists.tar)
  {root}/Annotation/n02085620-Chihuahua/...          (annotation.tar, for crop=box alone)"""
    listed = "l2ic/stanford_dog_{part}.txt"
    folder = "Images/"
    counts: ClassVar = {"train": 12000, "test": 8580}

    def __init__(
        self,
        root: str,
        split: Split,
        protocol: Literal["official", "lists"] = "official",
        crop: Crop = "none",
        one_based_labels: bool = False,
    ) -> None:
        super().__init__(root, split, protocol, crop)
        if one_based_labels:
            self.labels = [label + 1 for label in self.labels]
        self.notes: list[Path] = []
        if crop != "none":
            self.notes = [self.root / "Annotation" / key.partition("/")[2] for key in self.keys]
            self._require_inside(self.keys, self.notes)
            self._check(self.notes)

    @property
    def official(self) -> Path:
        """See `_Photographs.official`."""
        return self.root / f"{self.part}_list.mat"

    def _read_official(self) -> dict[str, int]:
        self._check([self.official])
        names = read_matlab(self.official, "file_list", self.page)
        labels = read_numbers(self.official, "labels", self.page)
        if len(names) != len(labels):
            raise DataError(
                f"{self.official} has {len(names)} pictures but {len(labels)} classes; put the "
                f"original from {self.page} there"
            )
        return {
            f"{self.folder}{name}": label - 1 for name, label in zip(names, labels, strict=True)
        }

    def _locate(self, listed: str) -> str:
        return f"Images/{listed}"

    def _read_corners(self, index: int) -> Box:
        text = read_text(self.notes[index], SMALL, errors="replace")
        found = dict(reversed(_CORNER.findall(text)))  # The first of each name stays.
        if len(found) < len(_SIDES):
            raise DataError(f"{self.notes[index]} has no box; put the original there")
        left, top, right, bottom = (int(found[side]) for side in _SIDES)
        return left, top, right, bottom

    def _boxes_fingerprint(self) -> str:
        stats = [note.stat() for note in self.notes]
        return repr([(stat.st_size, stat.st_mtime_ns) for stat in stats])


class StanfordCars(_Photographs):
    """Stanford Cars: 8144 and 8041 pictures of 196 models, arguments as above."""

    name = "stanford_cars"
    page = "ai.stanford.edu/~jkrause/cars/car_dataset.html"
    tree = """  {root}/car_ims/000001.jpg ...   (car_ims.tgz, training and test pictures in one)
  {root}/cars_annos.mat"""
    listed = "l2ic/stanford_car_{part}.txt"
    counts: ClassVar = {"train": 8144, "test": 8041}

    @property
    def official(self) -> Path:
        """See `_Photographs.official`."""
        return self.root / "cars_annos.mat"

    def _read_official(self) -> dict[str, int]:
        path = self.official
        self._check([path])
        found: dict[str, dict[str, Any]] = {}
        try:
            for note in read_matlab(path, "annotations", self.page):
                if int(note["test"]) == (self.part == "test"):
                    found[str(note["relative_im_path"])] = note
            self.corners: dict[str, Box] = {
                name: (
                    int(note["bbox_x1"]), int(note["bbox_y1"]),
                    int(note["bbox_x2"]), int(note["bbox_y2"]),
                )
                for name, note in found.items()
            }  # fmt: skip
            return {name: int(note["class"]) - 1 for name, note in found.items()}
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise DataError(
                f"{path} has annotations of another form ({type(error).__name__}: {error}); put "
                f"the original from {self.page} there"
            ) from error

    def _locate(self, listed: str) -> str:
        return f"car_ims/{Path(listed).name}"

    def _read_corners(self, index: int) -> Box:
        return self.corners[self.paths[index].relative_to(self.root).as_posix()]

    def _boxes_fingerprint(self) -> str:
        return repr(self.corners)
