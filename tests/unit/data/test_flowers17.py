"""Oxford Flowers-17 in both layouts: labels of all pictures, masks of some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from archives import write_flowers17
from figureground.core.config import build
from figureground.core.errors import DataError
from figureground.core.types import VOID
from figureground.data.datasets.flowers17 import Flowers17
from figureground.data.transforms import ResizeCrop

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout; read only."""
    return write_flowers17(tmp_path_factory.mktemp("flowers") / "flowers17")


def test_all_pictures_have_a_label_and_some_a_mask(root: Path) -> None:
    train, val, test = (Flowers17(str(root), split) for split in ("train", "val", "test"))  # type: ignore[arg-type]
    assert (len(train), len(val), len(test)) == (1360, 75, 1360)
    assert [test[index].label for index in (0, 79, 80, 1359)] == [0, 0, 1, 16]
    mask = test[0].mask
    assert mask is not None
    assert mask[0].tolist() == [VOID, VOID, 1, 1, 0, 0, 0, 0, 0, 0, VOID, VOID]
    assert (test[1].mask == VOID).all()
    assert val.keys[:3] == ["image_0001", "image_0017", "image_0033"]
    assert train.check_counts() == ["flowers17 has 600 label maps, expected 846 or a few more"]
    assert val.check_counts() == []


def test_pictures_without_a_map_are_missing_for_those_that_learn_from_masks(root: Path) -> None:
    train, test = Flowers17(str(root), "train"), Flowers17(str(root), "test")
    assert len(train.unannotated()) == 760
    assert test.unannotated() == []
    bare = train.without_masks()
    assert bare[0].mask is None
    assert bare[0].label == 0
    assert len(train.files(0)) == 2
    assert len(train.files(1)) == len(bare.files(0)) == 1
    assert bare.fingerprint() != train.fingerprint()


def test_held_out_pictures_are_in_one_split_only(root: Path) -> None:
    train, val, test = (Flowers17(str(root), s, False) for s in ("train", "val", "test"))  # type: ignore[arg-type]
    assert (len(train), len(val), len(test)) == (1210, 75, 75)
    keys = [*train.keys, *val.keys, *test.keys]
    assert len(set(keys)) == 1360
    assert not any((test[index].mask == VOID).all() for index in range(75))


@pytest.mark.parametrize("place", ["flowers17", "flowers17_256"])
def test_small_pictures_are_found_in_the_folder_or_beside_it(tmp_path: Path, place: str) -> None:
    write_flowers17(tmp_path / place, "small")
    data = Flowers17(str(tmp_path / "flowers17"), "test")
    assert data.files(0)[1] == tmp_path / place / "labels_256/image_0001.png"
    assert np.array_equal(ResizeCrop(10)(data[0]).mask, np.full((10, 1), 1) * data[0].mask[0, 1:11])  # type: ignore[index]


def test_wrong_trees_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "flowers17"
    with pytest.raises(DataError, match=r"data=flowers17: 1360 of 1360 files are missing") as found:
        Flowers17(str(root), "train")
    assert "trimaps.tgz" in str(found.value)
    assert "flowers17_256" in str(found.value)
    write_flowers17(root)
    (root / "trimaps/image_0001.png").unlink()
    Image.new("RGB", (12, 10)).save(root / "trimaps/image_0001.png")
    with pytest.raises(DataError, match=r"image_0001\.png has mode RGB; expected a palette"):
        Flowers17(str(root), "test")[0]
    Image.new("L", (5, 7)).save(root / "trimaps/image_0001.png")
    with pytest.raises(DataError, match="is 5x7 but its picture is 12x10"):
        Flowers17(str(root), "test")[0]
    for path in (root / "trimaps").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="has 0 label maps of the pictures beside it, expected 846"):
        Flowers17(str(root), "train")


def test_options_reach_all_splits(compose: Compose, root: Path) -> None:
    own = ["data=flowers17", f"data.root={root}", "data.train.transductive=false"]
    module: Any = build(
        compose("method=redo", *own, "data.resolution=8", "data.num_workers=0").data
    )
    assert {name: len(data) for name, data in module.datasets.items()} == {
        "train": 1210, "val": 75, "test": 75,
    }  # fmt: skip


@pytest.mark.slow
def test_the_archive_has_what_is_known_of_it(photographs: Callable[[str], Path]) -> None:
    folder = photographs("flowers17_256.tar")
    train, test = (Flowers17(str(folder / "flowers17"), split) for split in ("train", "test"))  # type: ignore[arg-type]
    assert (len(train), len(train.unannotated()), train.check_counts()) == (1360, 514, [])
    labels, labelled, counts = Counter[int](), set(), np.zeros(256, np.int64)
    for sample in (test[index] for index in range(len(test))):
        assert sample.mask is not None
        assert sample.label is not None
        assert sample.image.shape == (256, 256, 3)
        labels[sample.label] += 1
        own = np.bincount(sample.mask.ravel(), minlength=256)
        if own[VOID] < sample.mask.size:
            labelled.add(sample.label)
            counts += own
    assert labels == dict.fromkeys(range(17), 80)
    assert labelled == set(range(17)) - {13}
    # Flowers; leaves, ground and sky; unlabelled, with 30 stray pixels.
    assert counts[[1, 0, VOID]].tolist() == [15179266, 433590 + 32187287 + 139667, 7503616 + 30]
