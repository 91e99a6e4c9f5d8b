"""Stanford Dogs and Stanford Cars as the authors of DRC (Yu et al., NeurIPS 2021) processed them.

They kept pictures with one large object, and took the output of a Mask R-CNN for truth: scores are
against pseudo-masks, and a set of one's own making does not compare with theirs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from figureground.core.errors import DataError
from figureground.core.presence import require_file
from figureground.data.crops import cut_centre
from figureground.data.listed import require_inside
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import check_files

_PAGE = (
    "the authors of DRC (Deep Region Competition, project `deep-region-competition`), whose public "
    "link is gone: ask them or those of ILSGAN,"
)
_LAST = 0x10FFFF  # Of all characters.


class _Processed(ImageDataset):
    """What both sets share.

    Training pictures are the middle squares of whole photographs, without masks; test pictures are
    those the authors resized, with masks. What resizes them comes after.

    Args:
        root: Folder of the set.
        split: `train`, `test`, or `all`: what is resized of both, as L2IC tests on dogs.
        pictures: `orig` or `resized`; None for what the split has.
        colors: Order of the channels: `rgb`, or `bgr` as ILSGAN's and DRC's loaders have it.

    Raises:
        DataError: Files are missing, or a list is not one.
    """

    name: ClassVar[str]
    tree: ClassVar[str]
    lists: ClassVar[dict[str, str]]
    #: Folders of whole photographs.
    photographs: ClassVar[dict[str, str]]
    #: Lengths of the lists, from memory of the papers.
    counts: ClassVar[dict[str, int]]

    def __init__(
        self,
        root: str,
        split: Literal["train", "test", "all"],
        pictures: Literal["orig", "resized"] | None = None,
        colors: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        self.root, self.split, self.colors = Path(root), split, colors
        self.annotated = (pictures or ("orig" if split == "train" else "resized")) == "resized"
        self.parts = ("train", "test") if split == "all" else (split,)
        tree = self.tree.format(root=root)
        lists = {part: self.root / self.lists[part] for part in self.parts}
        check_files(self.name, list(lists.values()), tree, _PAGE)
        self.tokens = [(part, x) for part, path in lists.items() for x in _read_tokens(path)]
        self.keys = [f"{part}/{token}" for part, token in self.tokens]
        for part, path in lists.items():
            own = [index for index, (each, _) in enumerate(self.tokens) if each == part]
            entries = ((self.tokens[index][1], self.files(index)) for index in own)
            require_inside(path, self.root, entries)
        files = [file for index in range(len(self)) for file in self.files(index)]
        check_files(self.name, files, tree, _PAGE)

    def __getitem__(self, index: int) -> Sample:
        files = self.files(index)
        image, mask = read_image(files[0]), None
        if self.annotated:
            # One bit, as the authors read them; Pillow resizes such pictures by nearest neighbour
            # whatever filter is named, as `transforms` does with hard masks.
            mask = np.asarray(open_picture(files[1]).convert("1"), np.uint8)
        else:
            image = cut_centre(image)
        if self.colors == "bgr":
            image = np.ascontiguousarray(image[..., ::-1])
        return Sample(image, self.keys[index], mask)

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and, where there is one, its mask."""
        part, token = self.tokens[index]
        if not self.annotated:
            return (self.root / self.photographs[part] / f"{token}_orig.png",)
        folder = self.root / "data_mrcnn" / part / "resized"
        return folder / f"{token}_resized.png", folder / f"{token}_maskresized.png"

    def fingerprint(self) -> str:
        """Hash of the files and of the order of channels."""
        return f"{super().fingerprint()}-{self.colors}"

    def check_counts(self) -> list[str]:
        """Compare with the numbers that papers name."""
        expected = sum(self.counts[part] for part in self.parts)
        if len(self) == expected:
            return []
        return [
            f"{self.name} {self.split} has {len(self)} pictures, expected {expected} (a number not "
            "checked against the original list)"
        ]


class Dogs(_Processed):
    """Stanford Dogs; arguments as above."""

    name = "dogs"
    tree = """  {root}/data_tr_sel.npy, data_te_sel.npy
  {root}/data_mrcnn/<train or test>/resized/<token>_resized.png, <token>_maskresized.png
  {root}/train_orig/orig/<token>_orig.png      (from the archive of raw data)"""
    lists: ClassVar = {"train": "data_tr_sel.npy", "test": "data_te_sel.npy"}
    photographs: ClassVar = {"train": "train_orig/orig", "test": "test_orig/orig"}
    counts: ClassVar = {"train": 5024, "test": 286}


class Cars(_Processed):
    """Stanford Cars; arguments as above."""

    name = "cars"
    tree = """  {root}/data_mrcnn_train_select.npy, data_mrcnn_test_select.npy
  {root}/data_mrcnn/<train or test>/resized/<token>_resized.png, <token>_maskresized.png
  {root}/data_mrcnn/train/orig/<token>_orig.png"""
    lists: ClassVar = {
        "train": "data_mrcnn_train_select.npy",
        "test": "data_mrcnn_test_select.npy",
    }
    photographs: ClassVar = {"train": "data_mrcnn/train/orig", "test": "data_mrcnn/test/orig"}
    counts: ClassVar = {"train": 5235, "test": 218}


def _read_tokens(path: Path) -> list[str]:
    """Read a list of the names that files begin with.

    Raises:
        DataError: It is no array of whole numbers or text in one row, is empty, or repeats one.
    """
    try:
        array = np.load(require_file(path), allow_pickle=False)
        if array.ndim != 1 or array.dtype.kind not in "iuUS":
            raise TypeError("expected whole numbers or text in one row")
        tokens = _to_text(array)
    except Exception as error:  # On damaged files numpy raises nearly anything.
        raise DataError(
            f"{path} is not an array of numbers or text in one row ({type(error).__name__}); put "
            "the original there, saved without pickled objects"
        ) from error
    if not tokens:
        raise DataError(f"{path} is empty; put the original there")
    if twice := [token for token, uses in Counter(tokens).items() if uses > 1]:
        raise DataError(f"{path} names {len(twice)} pictures twice, such as {twice[0]}")
    return tokens


def _to_text(array: npt.NDArray[Any]) -> list[str]:
    """Entries of an array of text or whole numbers as text.

    Raises:
        ValueError: There are characters that do not exist, which Python cannot bear.
    """
    kind = array.dtype.kind
    if kind == "U" and array.size and array.view(f"{array.dtype.byteorder}u4").max() > _LAST:
        raise ValueError("it has characters that do not exist")
    tokens = [str(token) for token in (array.astype(str) if kind == "S" else array)]
    "".join(tokens).encode()  # Halves of characters are no names either.
    return tokens
