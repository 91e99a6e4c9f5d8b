"""Saliency benchmarks: DUTS, ECSSD and DUT-OMRON, sets that segmenters are tested on.

Pictures and masks lie in two folders, in the layouts that gan-segmenter's authors evaluate.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from figureground.core.bounds import PositiveInt
from figureground.core.presence import exists
from figureground.data.pairing import pair_by_position, pair_by_stem, stem_of
from figureground.data.reading import open_picture, read_image, to_rgb
from figureground.data.samples import ImageDataset, Sample
from figureground.data.splits import check_files

_ADVICE = ", or set data.test.pairing=position if both are in one order"
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
    is_optional: ClassVar[bool] = False  # Whether the set is empty where its folder is not there.

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
        if self.is_optional and not any(map(exists, folders)):
            self.pairs, self.keys, self.count = [], [], 0
            self.why_empty = f"{folders[0]} is not there; get it from {self.page}"
            return
        tree = f"  {folders[0]}/*.jpg ...\n  {folders[1]}/*.png ...   (of the same names)"
        check_files(self.name, list(folders), tree, self.page)
        if pairing == "position":
            pairs = pair_by_position(*folders)
        else:
            pairs = pair_by_stem(*folders, _ADVICE)
        self.count = len(pairs)
        self.pairs = pairs[:first]
        self.keys = [stem_of(picture, folders[0]) for picture, _ in self.pairs]

    def __getitem__(self, index: int) -> Sample:
        picture, path = self.pairs[index]
        mask = to_rgb(open_picture(path), str(path))[..., 0] > _HALF
        return Sample(read_image(picture), self.keys[index], np.asarray(mask, np.uint8))

    def files(self, index: int) -> tuple[Path, ...]:
        """The picture and its mask."""
        return self.pairs[index]

    def check_counts(self) -> list[str]:
        """Compare with the published number."""
        if self.count in {self.published or self.count, 0}:
            return []
        return [f"{self.name} has {self.count} pictures, expected {self.published}"]


class DUTS(SaliencySet):
    """Test set of DUTS, 5019 pictures (Wang et al. 2017)."""

    name, published = "duts", 5019
    page = "saliencydetection.net/duts (DUTS-TE.zip)"


class DUTSTrain(SaliencySet):
    """Training set of DUTS, 10553 pictures; empty where it is not there, for tests alone."""

    name, published = "duts", 10553
    page = "saliencydetection.net/duts (DUTS-TR.zip)"
    is_optional = True


class ECSSD(SaliencySet):
    """Extended complex scene saliency dataset, 1000 pictures (Yan et al. 2013)."""

    name, published = "ecssd", 1000
    page = "www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"


class DUTOMRON(SaliencySet):
    """DUT-OMRON, 5168 pictures with masks of single pixels (Yang et al. 2013)."""

    name, published = "dut_omron", 5168
    page = "saliencydetection.net/dut-omron"
