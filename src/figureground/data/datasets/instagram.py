"""Photographs of one hashtag, the set without any truth of the DTI-Sprites paper."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.data.reading import list_pictures, read_image
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import check_files

_TREE = """  {base}/train/*      (pictures of any size and format)
  {base}/val/*        (optional)
or any folder of pictures, which all are for training"""
_PAGE = (
    "wherever you like: nobody may hand on the authors' pictures, so collect your own; their "
    "script (github.com/monniert/dti-sprites, process_insta_santa.sh) fetches up to 10,000 posts"
)


class Instagram(ImageDataset):
    """Pictures without masks or labels.

    Args:
        root: Folder with `<tag>/train/` and perhaps `<tag>/val/`; or with `train/` itself; or with
            pictures, which are all for training.
        split: `train` or `val`; without a folder of its own the latter is empty.
        tag: The hashtag, of the authors `santaphoto` or `weddingkiss`.

    Raises:
        DataError: There are no pictures.
    """

    annotated = False

    def __init__(self, root: str, split: Literal["train", "val"], tag: str = "santaphoto") -> None:
        self.root, self.split, self.tag = Path(root), split, tag
        base = self.root / tag
        if not is_dir(base):
            base = self.root
        check_files("instagram", [base], _TREE.format(base=self.root / tag), _PAGE)
        self.base = base / split
        if split == "train" and not is_dir(self.base):
            self.base = base
        self.paths = list_pictures(self.base) if is_dir(self.base) else []
        if not self.paths and split == "train":
            raise DataError(
                f"{self.base} has no pictures (.jpg, .png, ...); expected them at {root}/{tag}/"
                "train or in data.root=<any folder> itself"
            )
        self.keys = [path.relative_to(self.base).as_posix() for path in self.paths]

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.paths[index]), self.keys[index])

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture."""
        return (self.paths[index],)
