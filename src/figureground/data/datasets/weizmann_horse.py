"""Weizmann Horses: one horse in each picture, the co-segmentation set of the DTI-Sprites paper."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from figureground.core.errors import DataError
from figureground.core.presence import is_dir
from figureground.data.reading import open_picture, read_image
from figureground.data.samples import ImageDataset, Pixels, Sample
from figureground.data.splits import check_files

_OFFICIAL = ("rgb", "figure_ground")
_PLAIN = ("images", "masks")
_TREE = """  {root}/images/*.jpg
  {root}/masks/*.png      (0 background, 255 horse; same names, or the same order)
or the official archive's folders, there or in {root}_db:
  {root}/rgb/*.jpg
  {root}/figure_ground/*.jpg"""
_PAGE = (
    "the Weizmann Horse Database (Borenstein and Ullman), or by the authors' script "
    "(github.com/monniert/dti-sprites, download_data.sh),"
)
_COUNTS = (327, 328)  # Sources differ; the authors take every file.
_NUM_VAL = 30
_SHOWN = 5
_HALF = 128  # JPEG masks: what is above is horse.
_MAX_ASPECT_ERROR = 0.02  # The official masks are off by 0.006 at most.

Grey = Literal["refuse", "background"]


class WeizmannHorse(ImageDataset):
    """Horses with masks; the one class of objects is 1.

    Args:
        root: Folder with `images/` and `masks/`, or with the official `rgb/` and `figure_ground/`,
            which may also be in a folder beside it whose name ends in `_db`. The official masks are
            JPEG files of another size than their images: they are cut at half of white and resized
            (nearest) to the image.
        split: `train`, `val` (the first 30 pictures) or `test`.
        transductive: All pictures are for training and for the test, as the authors have it;
            otherwise `val` and the 30 pictures that follow, which are `test`, are held out.
        grey: What a mask value other than 0 and 255 means: `refuse` it, or take it for
            `background`, as the authors' code does without saying so.

    Raises:
        DataError: Files are missing, or it is unclear which mask belongs to which picture.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test"],
        transductive: bool = True,
        grey: Grey = "refuse",
    ) -> None:
        self.root, self.split = Path(root), split
        self.transductive, self.grey = transductive, grey
        pairs = _pair_files(self.root)
        size = min(_NUM_VAL, len(pairs) // 5)  # Fewer of small sets.
        if size == 0:
            raise DataError(
                f"{root} has {len(pairs)} pictures, too few to evaluate on some; expected at "
                f"least 5. Get them from {_PAGE.rstrip(',')}"
            )
        if split == "val":
            self.pairs = pairs[:size]
        elif transductive:
            self.pairs = pairs
        else:
            self.pairs = pairs[2 * size :] if split == "train" else pairs[size : 2 * size]
        self.keys = [picture.stem for picture, _ in self.pairs]

    def __getitem__(self, index: int) -> Sample:
        picture, path = self.pairs[index]
        image = read_image(picture)
        if path.parent.name == _OFFICIAL[1]:
            mask = _read_official_mask(path, image.shape)
        else:
            mask = _read_mask(path, self.grey)
        return Sample(image, self.keys[index], mask, classes=(1,))

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its mask."""
        return self.pairs[index]

    def fingerprint(self) -> str:
        """Hash of the files and of how masks are read."""
        return f"{super().fingerprint()}-{self.grey}"

    def check_counts(self) -> list[str]:
        """Compare with the published numbers."""
        if self.split != "train" or not self.transductive or len(self) in _COUNTS:
            return []
        return [f"weizmann_horse has {len(self)} pictures, expected {_COUNTS[0]} or {_COUNTS[1]}"]


def _pair_files(root: Path) -> list[tuple[Path, Path]]:
    """Pictures and their masks: by name, or in sorted order where no names agree.

    Raises:
        DataError: There are none, or some but not all names agree, or the numbers differ.
    """
    folders = _find_folders(root)
    mask_ending = "jpg" if folders[1].name == _OFFICIAL[1] else "png"
    check_files("weizmann_horse", list(folders), _TREE.format(root=root), _PAGE)
    pictures = {path.stem: path for path in sorted(folders[0].glob("*.jpg"))}
    masks = {path.stem: path for path in sorted(folders[1].glob(f"*.{mask_ending}"))}
    if pictures.keys() == masks.keys():
        return [(path, masks[stem]) for stem, path in pictures.items()]
    if pictures.keys() & masks.keys() or len(pictures) != len(masks):
        alone = sorted(str(p) for p in _outside(pictures, masks) + _outside(masks, pictures))
        raise DataError(
            f"{root} has {len(pictures)} pictures ({folders[0].name}/*.jpg) and {len(masks)} masks "
            f"({folders[1].name}/*.{mask_ending}) that do not belong together: "
            f"{', '.join(alone[:_SHOWN])} without partner; expected one mask for each picture, of "
            "the same name"
        )
    return list(zip(pictures.values(), masks.values(), strict=True))


def _find_folders(root: Path) -> tuple[Path, Path]:
    """Folders of pictures and masks: the first two of which the pictures' is there."""
    beside = root.with_name(f"{root.name}_db")
    places = [(root, _PLAIN), (root, _OFFICIAL), (beside, _OFFICIAL)]
    found = ((place / names[0], place / names[1]) for place, names in places)
    return next((pair for pair in found if is_dir(pair[0])), (root / "images", root / "masks"))


def _outside(files: dict[str, Path], others: dict[str, Path]) -> list[Path]:
    return [path for stem, path in files.items() if stem not in others]


def _read_official_mask(path: Path, shape: tuple[int, ...]) -> Pixels:
    """Read a JPEG mask as 0 and 1, resized (nearest) to an image of `shape` (H, W, 3).

    Raises:
        DataError: Its aspect differs from the image's by more than 2 %, or it cannot be read.
    """
    mask = open_picture(path).convert("L")
    height, width = shape[:2]
    if abs(mask.width * height / (mask.height * width) - 1) > _MAX_ASPECT_ERROR:
        raise DataError(
            f"mask {path} is {mask.width}x{mask.height} but its picture is {width}x{height}; "
            "expected the same aspect: put the original there"
        )
    mask = mask.point(lambda value: int(value >= _HALF))
    return np.asarray(mask.resize((width, height), Image.Resampling.NEAREST), np.uint8)


def _read_mask(path: Path, grey: Grey) -> Pixels:
    """Read a mask of 0 and 255 as 0 and 1.

    Raises:
        DataError: It has other values, and `grey` is `refuse`; or it cannot be read.
    """
    values = np.asarray(open_picture(path).convert("L"))
    levels = np.unique(values)
    strange = levels[(levels != 0) & (levels != 255)]
    if len(strange) and grey == "refuse":
        raise DataError(
            f"mask {path} has values from {strange[0]} to {strange[-1]}; expected 0 and 255 only: "
            "put the original there, or set data.train.grey=background to score such pixels as "
            "background, as the authors' code does"
        )
    return np.asarray(values == 255, np.uint8)
