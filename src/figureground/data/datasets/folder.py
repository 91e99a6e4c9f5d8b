"""`folder`: the user's own pictures, with or without masks."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from pathlib import Path
from typing import Literal

from figureground.core.bounds import Fraction
from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.data.mask_rule import MaskRule
from figureground.data.reading import list_pictures, read_image
from figureground.data.samples import ImageDataset, Sample

_SHOWN = 10


class Folder(ImageDataset):
    """All pictures below a folder, split by a hash of their names.

    `root/images/**` if there is such a folder, else `root/**`. Masks are `root/masks/**` with the
    same relative path, any ending. The split of a picture never changes when others come or go.

    Args:
        root: The folder.
        split: `train`, `val`, `test`, or `all` of it.
        val: Share of the pictures for validation; 0 for no such split, which is then empty.
        test: Share of the pictures for the test, likewise.
        masks: How mask files are read.

    Raises:
        DataError: No pictures; two pictures or masks of the same name; or an empty split whose
            share is above 0.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test", "all"] = "all",
        val: Fraction = 0.1,
        test: Fraction = 0.1,
        masks: MaskRule | None = None,
    ) -> None:
        self.rule = masks or MaskRule()
        self.root, self.split = Path(root), split
        if not is_dir(self.root):
            raise DataError(
                f"{root} is not a folder; expected pictures below it (or below {root}/images, with "
                "masks below masks): data.root=my_photos"
            )
        inner = self.root / "images"
        self.base = inner if inner.is_dir() else self.root
        paths = [p for p in list_pictures(self.base) if (self.root / "masks") not in p.parents]
        if not paths:
            raise DataError(
                f"{self.base} has no pictures (.jpg, .png, ...); is it the right folder?"
            )
        _check_names(paths, self.base)
        self.paths = [path for path in paths if self._in_split(path, val, test)]
        if not self.paths and {"val": val, "test": test}.get(split) != 0:
            way_out = (
                "lower data.train.val and data.train.test"
                if split == "train"
                else f"set data.train.{split}=0 to go without, which all splits follow"
            )
            raise DataError(
                f"{self.base} has {len(paths)} pictures, none of which falls into the {split} "
                f"split (val={val}, test={test}); add pictures or {way_out}"
            )
        self.keys = [_stem(path, self.base) for path in self.paths]
        folder = self.root / "masks"
        drawn = list_pictures(folder) if folder.is_dir() else []
        _check_names(drawn, folder)
        found = {_stem(path, folder): path for path in drawn}
        self._masks = {key: found[key] for key in self.keys if key in found}
        self.annotated = bool(found)

    def __getitem__(self, index: int) -> Sample:
        files = self.files(index)
        image = read_image(files[0])
        mask = None
        if len(files) > 1:
            mask = self.rule.read(files[1], (image.shape[1], image.shape[0]))
        return Sample(image, self.keys[index], mask)

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its mask, if it has one."""
        mask = self._masks.get(self.keys[index])
        return (self.paths[index],) if mask is None else (self.paths[index], mask)

    def fingerprint(self) -> str:
        """Hash of the files and of how masks are read."""
        return f"{super().fingerprint()}{self.rule.fingerprint}"

    def without_masks(self) -> Folder:
        """The same pictures; their masks are not looked at."""
        bare = copy.copy(self)
        bare._masks = {}
        return bare

    def unannotated(self) -> list[int]:
        """Numbers of the pictures without a mask."""
        return [number for number, key in enumerate(self.keys) if key not in self._masks]

    def _in_split(self, path: Path, val: float, test: float) -> bool:
        if self.split == "all":
            return True
        digest = hashlib.sha256(_stem(path, self.base).encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        name = "test" if place < test else "val" if place < test + val else "train"
        return name == self.split


def _stem(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix()


def _check_names(paths: list[Path], base: Path) -> None:
    """Refuse names that differ in ending or case only: keys and masks would be ambiguous."""
    stems = Counter(_stem(path, base).casefold() for path in paths)
    twice = [str(path) for path in paths if stems[_stem(path, base).casefold()] > 1]
    if twice:
        raise DataError(
            f"{len(twice)} pictures below {base} share a name apart from ending or case: "
            f"{', '.join(twice[:_SHOWN])}; rename them"
        )
