"""Street View House Numbers, cropped digits, split as in the DTI-Sprites paper."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from figureground.core.errors import DataError
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import check_files

Part = Literal["test", "train", "extra"]

_TREE = """  {root}/train_32x32.mat
  {root}/test_32x32.mat
  {root}/extra_32x32.mat       (only for training)"""
_PAGE = (
    "the project page of SVHN (format 2, cropped digits), or write them with "
    "torchvision.datasets.SVHN(root, part, download=True),"
)
_COUNTS: dict[Part, int] = {"test": 26_032, "train": 73_257, "extra": 531_131}
_SEED, _SHARE = 46, 10


class SVHN(ImageDataset):
    """32x32 pictures of digits; labels 0..9 and no masks. torchvision reads and verifies the files.

    `val` is a tenth of the official test set, drawn by the authors' seed (which pictures theirs
    draws is not published, ours are other ones). The authors train on everything (`test`, `train`,
    `extra`: 630,420 pictures) and score on `test` and `train`.

    Args:
        root: Folder with the `.mat` files.
        split: `train`, `val` or `test`.
        transductive: As the authors have it; otherwise nothing of the official test set is for
            training: nine tenths of it are `test`, one is `val`.
        extra: Whether the pictures of `extra` are for training.

    Raises:
        DataError: Files are missing or not the published ones.
    """

    annotated = False

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transductive: bool = True,
        extra: bool = True,
    ) -> None:
        self.root, self.split, self.transductive = Path(root), split, transductive
        self.parts = _parts_of(split, transductive, extra)
        names = {part: self.root / f"{part}_32x32.mat" for part in self.parts}
        check_files("svhn", list(names.values()), _TREE.format(root=root), _PAGE)
        arrays = {part: _read(path, part, path.stat().st_mtime_ns) for part, path in names.items()}
        self._arrays = [
            self._choose(part, images, labels) for part, (images, labels) in arrays.items()
        ]
        self._ends = list(accumulate(len(numbers) for _, _, numbers in self._arrays))
        self.keys = [
            f"svhn-{part}-{number:06d}"
            for part, (_, _, numbers) in zip(self.parts, self._arrays, strict=True)
            for number in numbers.tolist()
        ]

    def __getitem__(self, index: int) -> Sample:
        part = bisect_right(self._ends, index)
        images, labels, numbers = self._arrays[part]
        number = numbers[index - (self._ends[part - 1] if part else 0)]
        image = np.ascontiguousarray(images[number].transpose(1, 2, 0))
        return Sample(image, self.keys[index], label=int(labels[number]))

    def fingerprint(self) -> str:
        """Hash of names, sizes and times of the files, and of which pictures are taken."""
        files = [(self.root / f"{part}_32x32.mat").stat() for part in self.parts]
        facts = [(stat.st_size, stat.st_mtime_ns) for stat in files]
        text = f"{self.parts} {facts} {self.split} {self.transductive}"
        return hashlib.sha256(text.encode()).hexdigest()

    def check_counts(self) -> list[str]:
        """Compare the parts with the published numbers."""
        return [
            f"svhn {part} has {len(images)} pictures, expected {_COUNTS[part]}"
            for part, (images, _, _) in zip(self.parts, self._arrays, strict=True)
            if len(images) != _COUNTS[part]
        ]

    def _choose(
        self, part: Part, images: Pixels, labels: npt.NDArray[np.int64]
    ) -> tuple[Pixels, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Add to the arrays of a part the numbers of the pictures that belong to the split."""
        count = len(images)
        numbers = np.arange(count)
        if part == "test" and (self.split == "val" or not self.transductive):
            drawn = np.random.default_rng(_SEED).permutation(count)
            cut = count // _SHARE
            numbers = np.sort(drawn[:cut] if self.split == "val" else drawn[cut:])
        return images, labels, numbers


def _parts_of(split: str, transductive: bool, extra: bool) -> list[Part]:
    """Files that a split draws from."""
    if split == "val":
        return ["test"]
    if split == "test":
        return ["test", "train"] if transductive else ["test"]
    first: list[Part] = ["test", "train"] if transductive else ["train"]
    return [*first, "extra"] if extra else first


@cache  # Several splits draw from one file, which holds up to 1.6 GB; `changed` is its time.
def _read(path: Path, part: Part, changed: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Read a file: pictures (N, 3, 32, 32) and labels (N,)."""
    from torchvision import datasets

    try:
        data = datasets.SVHN(str(path.parent), part, download=False)
    except RuntimeError as error:
        raise DataError(
            f"{path} is not the published file (its checksum differs): it is cut off or damaged; "
            f"get it again from {_PAGE.rstrip(',')}"
        ) from error
    return data.data, data.labels
