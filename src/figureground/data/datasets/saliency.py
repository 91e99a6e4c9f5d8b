"""Saliency benchmarks: DUTS, ECSSD and DUT-OMRON, sets that segmenters are tested on.

Pictures and masks lie in two folders, in the layouts that gan-segmenter's authors evaluate.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from figureground.core.bounds import PositiveInt
from figureground.core.errors import DataError
from figureground.data.reading import list_pictures, open_picture, read_image, to_rgb
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import check_files

_SHOWN = 10
_HALF = 127  # Of 255: what is above is object.

Pairing = Literal["stem", "position"]


class SaliencySet(ImageDataset):
    """Pictures and masks in two folders, flat or with sub-folders.

    A pixel is object where the mask's first channel is above a half, at the mask's own size.

    Args:
        root: Folder of both.
        images: Folder of the pictures below it.
        masks: Folder of the masks below it.
        pairing: Which mask is whose: `stem`, that of the same relative path apart from the ending;
            `position`, that of the same place in sorted order, as the authors pair them.
        first: Only so many of the pictures, the first in order; None takes all.

    Raises:
        DataError: A folder is missing or empty, or pictures and masks do not belong together.
    """

    name: ClassVar[str] = "saliency"
    page: ClassVar[str] = "where they are published"
    published: ClassVar[int | None] = None  # Pictures of the whole set.

    def __init__(
        self,
        root: str,
        images: str,
        masks: str,
        pairing: Pairing = "stem",
        first: PositiveInt | None = None,
    ) -> None:
        self.root, self.pairing = Path(root), pairing
        folders = self.root / images, self.root / masks
        tree = f"  {folders[0]}/*.jpg ...\n  {folders[1]}/*.png ...   (of the same names)"
        check_files(self.name, list(folders), tree, self.page)
        pairs = _pair_by_position(*folders) if pairing == "position" else _pair_by_stem(*folders)
        self.count = len(pairs)
        self.pairs = pairs[:first]
        self.keys = [_stem(picture, folders[0]) for picture, _ in self.pairs]

    def __getitem__(self, index: int) -> Sample:
        picture, path = self.pairs[index]
        mask = to_rgb(open_picture(path), str(path))[..., 0] > _HALF
        return Sample(read_image(picture), self.keys[index], np.asarray(mask, np.uint8))

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its mask."""
        return self.pairs[index]

    def check_counts(self) -> list[str]:
        """Compare with the published number."""
        if self.published is None or self.count == self.published:
            return []
        return [f"{self.name} has {self.count} pictures, expected {self.published}"]


class DUTS(SaliencySet):
    """Test set of DUTS, 5019 pictures (Wang et al. 2017); its training set is not read."""

    name, published = "duts", 5019
    page = "saliencydetection.net/duts (DUTS-TE.zip)"


class ECSSD(SaliencySet):
    """Extended complex scene saliency dataset, 1000 pictures (Yan et al. 2013)."""

    name, published = "ecssd", 1000
    page = "www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"


class DUTOMRON(SaliencySet):
    """DUT-OMRON, 5168 pictures with masks of single pixels (Yang et al. 2013)."""

    name, published = "dut_omron", 5168
    page = "saliencydetection.net/dut-omron"


def _stem(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix()


def _pair_by_stem(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    pictures, truths = (_by_stem(folder) for folder in (images, masks))
    if alone := sorted(pictures.keys() ^ truths.keys()):
        raise DataError(
            f"{images} has {len(pictures)} pictures and {masks} {len(truths)} masks, "
            f"{len(alone)} of which have no partner of the same name: {', '.join(alone[:_SHOWN])}; "
            "complete or rename them, or set data.test.pairing=position if both are in one order"
        )
    return [(pictures[stem], truths[stem]) for stem in pictures]


def _pair_by_position(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    pictures, truths = (list(_by_stem(folder).values()) for folder in (images, masks))
    if len(pictures) != len(truths):
        alone = sorted(_by_stem(images).keys() ^ _by_stem(masks).keys())
        raise DataError(
            f"{images} has {len(pictures)} pictures but {masks} {len(truths)} masks; "
            f"without partner of the same name are {', '.join(alone[:_SHOWN])}"
        )
    return list(zip(pictures, truths, strict=True))


def _by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of `folder` by relative path without ending, in order.

    Raises:
        DataError: There are none, or two of one name.
    """
    paths = list_pictures(folder)
    found = {_stem(path, folder): path for path in paths}
    if not paths or len(found) < len(paths):
        twice = [str(path) for path in paths if path not in found.values()]
        raise DataError(
            f"{folder} holds several pictures of one name, such as {twice[0]}; keep one of each"
            if twice
            else f"{folder} holds no pictures (.jpg, .png, ...); unpack the originals there"
        )
    return found
