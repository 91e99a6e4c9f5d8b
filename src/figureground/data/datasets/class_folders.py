"""Pictures in folders, one for each class, such as FaceScrub's faces of 100 people (FS100)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from figureground.core.bounds import PositiveInt
from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.data.reading import list_pictures, read_image
from figureground.data.samples import ImageDataset, Sample

_EVERY = 10  # Of the training pictures, one in so many is validated on.


class ClassFolders(ImageDataset):
    """All pictures below the sub-folders of a folder, as L2IC reads FS100 and CLEVR.

    There is no published split: training takes all, and `val` and `test` are every tenth of these.

    Args:
        root: The folder; pictures that lie in it, but in no sub-folder, are left out.
        split: `train`, `val` or `test`.
        name: Of the set, in messages.
        num_classes: Sub-folders that there should be, whose order by name gives the labels; None
            if they mean nothing.

    Raises:
        DataError: There are no pictures.
    """

    annotated = False

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        name: str = "class_folders",
        num_classes: PositiveInt | None = None,
    ) -> None:
        self.root, self.split, self.name, self.num_classes = Path(root), split, name, num_classes
        found = list_pictures(self.root) if is_dir(self.root) else []
        inner = [path for path in found if path.parent != self.root]
        if not inner:
            raise DataError(
                f"data={name}: {root} has no pictures in sub-folders; expected {root}/<class>/*.jpg"
                f", or point data.root=... at them"
            )
        folders = sorted({self._folder(path) for path in inner})
        self.classes = {folder: number for number, folder in enumerate(folders)}
        self.paths = inner if split == "train" else inner[::_EVERY]
        self.keys = [path.relative_to(self.root).as_posix() for path in self.paths]

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        label = None if self.num_classes is None else self.classes[self._folder(path)]
        return Sample(read_image(path), self.keys[index], label=label)

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture."""
        return (self.paths[index],)

    def check_counts(self) -> list[str]:
        """Compare the number of classes with that of the set."""
        if self.num_classes in {None, len(self.classes)}:
            return []
        return [
            f"{self.name} has {len(self.classes)} sub-folders, expected {self.num_classes}, one "
            "for each class"
        ]

    def _folder(self, path: Path) -> str:
        return path.relative_to(self.root).parts[0]
