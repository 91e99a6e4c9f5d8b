"""Oxford Flowers-17 (Nilsback and Zisserman 2006): 80 photographs of each of 17 species."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np

from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.core.types import VOID
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import check_files

NUM_CLASSES, _PER_CLASS = 17, 80
_COUNT = NUM_CLASSES * _PER_CLASS
#: Folders of pictures and of their label maps: the official archives', then those of 256 pixels.
_LAYOUTS = (("jpg", "trimaps"), ("images_256", "labels_256"))
_TREE = """  {root}/jpg/image_0001.jpg .. image_1360.jpg   (17flowers.tgz)
  {root}/trimaps/image_0001.png ...             (trimaps.tgz; not all pictures have one)
or the same at 256 pixels, there or in {small}:
  {root}/images_256/image_0001.jpg .. image_1360.jpg
  {root}/labels_256/image_0001.png ..."""
_PAGE = "www.robots.ox.ac.uk/~vgg/data/flowers/17"

_NUM_MAPS = (846, 848, 849)  # At 256 pixels, and of the official archive as it is told of.
_FLOWER = 1
_GROUND = (2, 3, 4)  # Leaves, ground, sky; 0 is unlabelled, and some stray pixels are 5.
_EVERY = 8  # One labelled picture in so many is for validation, and one for the test held out.


class Flowers17(ImageDataset):
    """Flowers of 17 species, labels 0..16; flower against the rest where a label map says so.

    Pixels that a label map leaves open are void, and so are whole pictures without one: one test
    over all 1360 scores clusters on all of them and masks on the 846 that have some.

    There is no published split for learning without labels. As with other sets of this kind, all
    pictures are for training and for the test, and every eighth of those with label maps is
    watched in between (`val`, of which nothing is selected).

    Args:
        root: Folder with `jpg/` and `trimaps/`, or `images_256/` and `labels_256/`; these may also
            be in a folder beside it whose name ends in `_256`.
        split: `train`, `val` or `test`.
        transductive: All pictures are for training and for the test; otherwise `val` and another
            eighth of those with label maps, which is `test`, are held out.

    Raises:
        DataError: Pictures or all label maps are missing.
    """

    def __init__(
        self, root: str, split: Literal["train", "val", "test"], transductive: bool = True
    ) -> None:
        self.root, self.split, self.transductive = Path(root), split, transductive
        folder, maps = _find_layout(self.root)
        paths = [folder / f"image_{number + 1:04d}.jpg" for number in range(_COUNT)]
        check_files("flowers17", paths, _describe(self.root), _PAGE)
        known = {path.stem: path for path in sorted(maps.glob("image_*.png"))}
        self._maps = {path.stem: known[path.stem] for path in paths if path.stem in known}
        self._num_maps = len(self._maps)
        if self._num_maps < 2 * _EVERY:
            raise DataError(
                f"{maps} has {self._num_maps} label maps of the pictures beside it, expected "
                f"{_NUM_MAPS[0]} or a few more: put the originals there, from {_PAGE}"
            )
        chosen = self._choose()
        self._paths = [path for path in paths if path.stem in chosen]
        self.keys = [path.stem for path in self._paths]

    def __getitem__(self, index: int) -> Sample:
        key, image = self.keys[index], read_image(self._paths[index])
        mask = None
        if self.annotated:
            path = self._maps.get(key)
            void = np.full(image.shape[:2], VOID, np.uint8)
            mask = void if path is None else _read_map(path, void)
        return Sample(image, key, mask, label=_number_of(key) // _PER_CLASS)

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its label map, if it has one."""
        path = self._maps.get(self.keys[index]) if self.annotated else None
        return (self._paths[index],) if path is None else (self._paths[index], path)

    def unannotated(self) -> list[int]:
        """Training pictures without a label map, of which methods that need masks learn nothing.

        In the other splits there are none: whatever is void is left out of scores of masks alone.
        """
        if self.split != "train":
            return []
        return [number for number, key in enumerate(self.keys) if key not in self._maps]

    def without_masks(self) -> Flowers17:
        """The same pictures; their label maps are not looked at."""
        bare = copy.copy(self)
        bare.annotated = False
        return bare

    def check_counts(self) -> list[str]:
        """Compare with the known number of label maps."""
        if self.split != "train" or self._num_maps in _NUM_MAPS:
            return []
        return [f"flowers17 has {self._num_maps} label maps, expected {_NUM_MAPS[0]} or a few more"]

    def _choose(self) -> set[str]:
        """Names of the pictures of the split."""
        labelled = list(self._maps)
        parts = {"val": set(labelled[::_EVERY]), "test": set(labelled[_EVERY // 2 :: _EVERY])}
        everything = {f"image_{number + 1:04d}" for number in range(_COUNT)}
        if self.split == "val":
            return parts["val"]
        if self.transductive:
            return everything
        return parts["test"] if self.split == "test" else everything - parts["val"] - parts["test"]


def _find_layout(root: Path) -> tuple[Path, Path]:
    """Folders of pictures and label maps: the first pair whose pictures are there."""
    places = [(root, pair) for pair in _LAYOUTS] + [(_small(root), _LAYOUTS[1])]
    for place, pair in places:
        folder, maps = (place / name for name in pair)
        if is_dir(folder):
            check_files("flowers17", [maps], _describe(root), _PAGE)
            return folder, maps
    return root / _LAYOUTS[0][0], root / _LAYOUTS[0][1]


def _small(root: Path) -> Path:
    """Where an archive of pictures of 256 pixels unpacks to, beside the official one."""
    return root.with_name(f"{root.name}_256")


def _describe(root: Path) -> str:
    return _TREE.format(root=root, small=_small(root))


def _number_of(key: str) -> int:
    """Number of a picture, from 0 on."""
    return int(key.rpartition("_")[2]) - 1


def _read_map(path: Path, void: Pixels) -> Pixels:
    """Read a label map as 1 for flowers, 0 for the rest, and void as it is given (H, W).

    Raises:
        DataError: It cannot be read, is no index picture, or has another size.
    """
    picture = open_picture(path)
    if picture.mode not in {"P", "L"}:
        raise DataError(
            f"{path} has mode {picture.mode}; expected a palette picture with 0 = unlabelled, "
            f"1 = flower, 2 to 4 = the rest: put the original there, from {_PAGE}"
        )
    values = np.asarray(picture)
    if values.shape != void.shape:
        raise DataError(
            f"label map {path} is {values.shape[1]}x{values.shape[0]} but its picture is "
            f"{void.shape[1]}x{void.shape[0]}; both must have the same size, as the originals have"
        )
    mask = np.where(np.isin(values, _GROUND), np.uint8(0), void)
    return np.where(values == _FLOWER, np.uint8(1), mask)
