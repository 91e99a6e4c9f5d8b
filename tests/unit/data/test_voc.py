"""Pictures with a class for each pixel, in PASCAL VOC's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archives import write_voc
from figureground.core.errors import DataError
from figureground.core.types import VOID
from figureground.data.datasets.voc import VOC


def test_objects_are_what_has_a_class(tmp_path: Path) -> None:
    data = VOC(str(write_voc(tmp_path / "voc")), "val")
    assert (len(data), data.class_names[0]) == (4, "aeroplane")
    classes = data.read_classes(1)  # A palette picture.
    assert set(np.unique(classes)) == {0, 6, 255}
    assert np.array_equal(data[1].mask, classes == 6)
    assert data.check_counts() == ["voc val has 4 pictures, expected 1449 in VOC 2012"]


def test_borders_may_be_void(tmp_path: Path) -> None:
    root = str(write_voc(tmp_path / "voc"))
    data, plain = VOC(root, "val", borders="void"), VOC(root, "val")
    classes = data.read_classes(1)
    assert np.array_equal(data[1].mask, np.where(classes == 255, VOID, classes == 6))
    assert data.fingerprint() != plain.fingerprint()


def test_other_files_are_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    with pytest.raises(DataError, match="has class 6, expected 0 to 5, or 255"):
        VOC(str(root), "val", num_classes=5)[1]
    Image.new("RGB", (40, 30)).save(root / "SegmentationClass/2007_000004.png")
    with pytest.raises(DataError, match="has mode RGB; expected a palette or grey picture"):
        VOC(str(root), "val")[0]
    names = root / "ImageSets/Segmentation/val.txt"
    names.write_text("2007_000004\n2007_000004\n")
    with pytest.raises(DataError, match="names pictures twice: 2007_000004"):
        VOC(str(root), "val")
    names.write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        VOC(str(root), "val")
    names.write_text("nowhere\n")
    with pytest.raises(DataError, match=r"data=voc: 2 of 2 files are missing.*nowhere\.jpg"):
        VOC(str(root), "val")
