"""Official archives and folders of other projects, read as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from archives import (
    disc,
    picture,
    write_clevr_npz,
    write_official_gtsrb8,
    write_official_horses,
    write_saliency,
    write_two_folders,
)
from figureground.core.config import build
from figureground.core.errors import DataError
from figureground.data.datasets.clevr import CLEVR
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.gtsrb8 import CLASSES, GTSRB8
from figureground.data.datasets.saliency import DUTSTrain
from figureground.data.datasets.weizmann_horse import WeizmannHorse
from figureground.data.prepare import prepare

Compose = Callable[..., DictConfig]
Photographs = Callable[[str], Path]
SPLITS: tuple[Any, ...] = ("train", "val", "test")


# -- GTSRB-8 -------------------------------------------------------------------------------------


def test_official_signs_are_read_and_held_out_by_tracks(tmp_path: Path) -> None:
    root = write_official_gtsrb8(tmp_path / "GTSRB")
    train, val, test = (GTSRB8(str(root), split, transductive=False) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [8 * 4, 8 * 2, 8 * 2]
    assert not {*train.keys} & {*val.keys} | {*val.keys} & {*test.keys}
    whole = GTSRB8(str(root), "train")
    assert [whole[8 * number].label for number in range(8)] == list(range(8))
    assert whole.keys[0] == "00003/00000_00000.ppm"


def test_folders_of_the_authors_come_first(tmp_path: Path) -> None:
    root = write_official_gtsrb8(tmp_path / "GTSRB", 3, 1)
    for number in CLASSES:
        (root / f"train/{number}").mkdir(parents=True)
        picture(1).save(root / f"train/{number}/00000_00000.ppm")
    assert len(GTSRB8(str(root), "train")) == 8
    with pytest.raises(DataError, match="data=gtsrb8: 8 of 8 files are missing") as found:
        GTSRB8(str(tmp_path), "train")
    assert "Final_Training/Images/00003" in str(found.value)


@pytest.mark.slow
def test_the_archive_of_signs_has_the_official_numbers(photographs: Photographs) -> None:
    root = str(photographs("gtsrb8.tar.xz") / "GTSRB")
    whole, val = GTSRB8(root, "train"), GTSRB8(root, "val")
    assert (len(whole), len(val), whole.check_counts()) == (10_650, 100, [])
    held_out = [GTSRB8(root, split, transductive=False) for split in SPLITS]
    assert sum(len(part) for part in held_out) == 10_650
    sample = whole[10_649]
    assert sample.label == 7
    assert sample.image.shape[2] == 3


# -- Weizmann Horses -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["weizmann_horse", "weizmann_horse_db"])
def test_official_masks_get_the_size_of_their_pictures(tmp_path: Path, place: str) -> None:
    write_official_horses(tmp_path / place)
    data = WeizmannHorse(str(tmp_path / "weizmann_horse"), "train")
    assert len(data) == 10
    for index in range(10):
        sample = data[index]
        assert sample.mask is not None
        assert sample.mask.shape == sample.image.shape[:2]
        width = sample.image.shape[1]
        # To a pixel, and to what JPEG does to an edge.
        assert abs(int(sample.mask[5].argmax()) - 2 * width // 3) <= 1
        assert (sample.mask[:, -width // 4 :] == 1).all()
        assert (sample.mask[:, : width // 2] == 0).all()


def test_masks_of_another_aspect_are_refused(tmp_path: Path) -> None:
    root = write_official_horses(tmp_path / "horses")
    Image.new("L", (66, 66)).save(root / "figure_ground/horse001.jpg")
    data = WeizmannHorse(str(root), "train")
    with pytest.raises(DataError, match=r"horse001\.jpg is 66x66 but its picture is 63x42"):
        data[0]
    (root / "figure_ground/horse002.jpg").unlink()
    with pytest.raises(DataError, match=r"10 pictures \(rgb/\*\.jpg\) and 9 masks"):
        WeizmannHorse(str(root), "train")


def test_folders_of_images_and_masks_come_first(tmp_path: Path) -> None:
    root = write_official_horses(tmp_path / "horses")
    write_two_folders(root, "images", "masks", 6)
    assert WeizmannHorse(str(root), "train").keys == [f"{index:04d}" for index in range(6)]


@pytest.mark.slow
def test_the_archive_of_horses_has_what_is_known_of_it(photographs: Photographs) -> None:
    data = WeizmannHorse(str(photographs("weizmann_horse_db.tar") / "weizmann_horse"), "test")
    assert (len(data), data.keys[0], data.keys[-1]) == (328, "horse001", "horse328")
    shares = []
    for index in range(len(data)):
        sample = data[index]
        assert sample.mask is not None
        assert sample.mask.shape == sample.image.shape[:2]
        assert set(np.unique(sample.mask)) == {0, 1}
        shares.append(float(sample.mask.mean()))
    assert 0.2 < np.mean(shares) < 0.35


# -- other photographs (Flowers-17 has a file of its own) ----------------------------------------


@pytest.mark.slow
def test_the_archive_of_bags_is_a_folder(photographs: Photographs, compose: Compose) -> None:
    root = photographs("bags600_256.tar") / "bags600_256"
    own = ["data=folder", f"data.root={root}", "data.resolution=64", "data.num_workers=0"]
    module: Any = build(compose("method=redo", *own, f"paths.cache_dir={root.parent}/c").data)
    reports = prepare(module)
    assert sum(report.count for report in reports.values()) == 600
    assert sum(report.masks for report in reports.values()) == 600


# -- DUTS ------------------------------------------------------------------------------------------


def duts(compose: Compose, folder: Path, method: str = "redo") -> Any:
    return build(compose(f"method={method}", "data=duts", f"paths.data_dir={folder}").data)


def test_duts_trains_on_its_own_pictures_and_tests_on_others(
    compose: Compose, tmp_path: Path
) -> None:
    write_saliency(tmp_path, "duts")
    write_two_folders(tmp_path / "DUTS", "DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask", 6)
    module = duts(compose, tmp_path)
    assert {name: len(data) for name, data in module.datasets.items()} == {
        "train": 6, "val": 4, "test": 4,
    }  # fmt: skip
    train = module.datasets["train"]
    assert train.check_counts() == ["duts has 6 pictures, expected 10553"]
    assert np.array_equal(train[1].mask, disc((41, 31)))


def test_duts_is_for_tests_alone_without_its_training_pictures(
    compose: Compose, tmp_path: Path
) -> None:
    write_saliency(tmp_path, "duts")
    module = duts(compose, tmp_path)
    assert set(module.datasets) == {"val", "test"}
    reports = prepare(module)
    assert reports["test"].count == 4
    with pytest.raises(DataError, match=r"no train split.*DUTS-TR-Image is not there; get it from"):
        module.store("train")
    (tmp_path / "DUTS/DUTS-TR/DUTS-TR-Image").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data=duts: 1 of 2 files are missing.*DUTS-TR-Mask"):
        DUTSTrain(str(tmp_path / "DUTS"), "DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask")


# -- folders of the GAN segmenter -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [CUB, Flowers])
def test_sorted_folders_are_read(tmp_path: Path, kind: Any) -> None:
    for part, count in (("train", 5), ("test", 4)):
        write_two_folders(tmp_path, f"{part}_images", f"{part}_segmentations", count)
    train, val, test = (kind(str(tmp_path), split) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [5, 4, 4]
    assert test.keys[1] == "test/0001"
    sample = test[1]
    assert np.array_equal(sample.mask, disc((41, 31)))
    assert sample.label is None
    assert train.check_counts() == []
    soft = kind(str(tmp_path), "test", masks="soft")[1]
    assert soft.is_soft
    assert np.array_equal(soft.mask, disc((41, 31)) * 255)


def test_sorted_masks_are_read_as_the_authors_do(tmp_path: Path) -> None:
    for number, mode in enumerate(("1", "P", "LA")):
        write_two_folders(tmp_path, "test_images/sub", "test_segmentations/sub", number + 1)
        path = tmp_path / f"test_segmentations/sub/{number:04d}.png"
        Image.open(path).convert(mode).save(path)
        size = (40 + number, 30 + number)
        assert np.array_equal(CUB(str(tmp_path), "test")[number].mask, disc(size)), mode
    votes = np.array([[0, 102, 153, 255]] * 3, np.uint8)
    picture(0, (4, 3)).save(tmp_path / "test_images/sub/0000.jpg")
    Image.fromarray(votes).save(tmp_path / "test_segmentations/sub/0000.png")
    assert CUB(str(tmp_path), "test")[0].mask.tolist() == [[0, 0, 1, 1]] * 3  # type: ignore[union-attr]
    blue = np.full((3, 4, 3), (0, 0, 254), np.uint8)
    blue[:, 2:] = (200, 100, 50)
    Image.fromarray(blue).save(tmp_path / "test_segmentations/sub/0000.png")
    assert Flowers(str(tmp_path), "test")[0].mask.tolist() == [[0, 0, 1, 1]] * 3  # type: ignore[union-attr]


def test_sorted_folders_that_lack_something_say_so(tmp_path: Path, compose: Compose) -> None:
    write_two_folders(tmp_path / "cub", "test_images", "test_segmentations", 4)
    module: Any = build(compose("method=segmenter", "data=cub", f"paths.data_dir={tmp_path}").data)
    assert set(module.datasets) == {"val", "test"}
    with pytest.raises(DataError, match=r"no train split .*: .*train_images is not there"):
        module.store("train")
    with pytest.raises(DataError, match="sorted into folders without boxes"):
        CUB(str(tmp_path / "cub"), "test", crop="box")
    (tmp_path / "cub/train_images").mkdir()
    with pytest.raises(DataError, match="has train_images, but no train_segmentations"):
        CUB(str(tmp_path / "cub"), "train")
    (tmp_path / "cub/test_segmentations/0003.png").unlink()
    with pytest.raises(DataError, match="1 of which have no partner of the same name: 0003"):
        CUB(str(tmp_path / "cub"), "test")
    with pytest.raises(DataError, match=r"data=cub: 1 of 1 files are missing.*") as found:
        CUB(str(tmp_path), "train")
    assert "test_segmentations" in str(found.value)


# -- CLEVR of DRC ----------------------------------------------------------------------------------


def test_unpacked_records_are_those_of_two_to_five_objects(tmp_path: Path) -> None:
    root = write_clevr_npz(tmp_path / "clevr")
    train, test = (CLEVR(split, source="npz", root=str(root)) for split in ("train", "test"))  # type: ignore[arg-type]
    assert list(train.numbers) == list(test.numbers) == [0, 2, 3, 4]
    assert CLEVR("test", 2, "npz", str(root)).numbers == [0, 2]
    sample = test[1]
    assert sample.image.shape == (128, 128, 3)
    assert sample.mask is not None
    assert set(np.unique(sample.mask)) == {0, 1}
    assert (sample.image[sample.mask == 0] < 80).all()  # Objects are of 40 times their number.
    assert test.files(0) == ()
    assert "has 4 scenes, expected 1000 at least" in test.check_counts()[0]
    before = test.fingerprint()
    (root / "meta/0.npz").write_bytes((root / "meta/2.npz").read_bytes())
    assert CLEVR("test", source="npz", root=str(root)).fingerprint() != before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no array visibility"),
        ({"visibility": np.array([object()])}, "has an array visibility of object"),
        ({"visibility": np.zeros(2**23, np.float32)}, "has an array visibility of float32"),
        ({"visibility": np.zeros(3)}, "has an array visibility of float64"),
    ],
)
def test_other_arrays_are_refused_unread(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    (tmp_path / "meta").mkdir()
    np.savez_compressed(tmp_path / "meta/0.npz", **arrays)
    with pytest.raises(DataError, match=message):
        CLEVR("test", source="npz", root=str(tmp_path))


def test_broken_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data=clevr: 1 of 1 files are missing.*meta"):
        CLEVR("test", source="npz", root=str(tmp_path))
    root = write_clevr_npz(tmp_path / "clevr", (3, 4))
    with np.load(root / "meta/1.npz") as content:
        np.savez(root / "meta/1.npz", **{**content, "image": content["image"][:, :9]})
    with pytest.raises(DataError, match=r"1\.npz has 8640 bytes of image instead of 240x320x3"):
        CLEVR("test", source="npz", root=str(root))[1]
    (root / "meta/0.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"0\.npz cannot be read \(BadZipFile\)"):
        CLEVR("test", source="npz", root=str(root))
    (root / "meta/0.npz").unlink()
    (root / "meta/1.npz").unlink()
    with pytest.raises(DataError, match="has no scene of two to five objects among 0 files"):
        CLEVR("train", source="npz", root=str(root))
