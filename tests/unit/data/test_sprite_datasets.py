"""The sets of single objects that DTI-Sprites was published on, from their archives' layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from archives import write_gtsrb8, write_horses, write_instagram, write_svhn
from figureground.core.errors import DataError
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets import svhn
from figureground.data.datasets.gtsrb8 import CLASSES, GTSRB8
from figureground.data.datasets.instagram import Instagram
from figureground.data.datasets.svhn import SVHN
from figureground.data.datasets.toy import Toy
from figureground.data.datasets.weizmann_horse import WeizmannHorse
from figureground.data.prepare import prepare
from figureground.data.samples import ImageDataset, Sample
from figureground.data.transforms import ResizeCrop, Stretch

SPLITS: list[Any] = ["train", "val", "test"]


def module(resolution: int, tmp_path: Path, **sets: ImageDataset) -> ImageDataModule:
    return ImageDataModule(
        name="some",
        resolution=resolution,
        batch_size=4,
        transform=Stretch(resolution),
        cache_dir=str(tmp_path / "cache"),
        **sets,  # type: ignore[arg-type]
    )


# GTSRB-8.


def test_signs_of_eight_classes_are_numbered_in_order(tmp_path: Path) -> None:
    root = str(write_gtsrb8(tmp_path / "GTSRB"))
    train, val, test = (GTSRB8(root, split) for split in SPLITS)
    assert len(train) == len(test) == 8 * 10
    assert set(val.keys) <= set(train.keys)
    assert train.keys == test.keys
    labels = [train[index].label for index in range(len(train))]
    assert labels == [number for number in range(8) for _ in range(10)]
    assert train.keys[0] == "00003/00000_00000.png"
    assert train.keys[-1].startswith("00035/")
    assert train[10].image.shape == (25, 30, 3)
    assert not train.annotated
    assert "gtsrb8 has 10 pictures of class 3, expected 1410" in train.check_counts()


def test_held_out_signs_are_not_seen_from_another_frame(tmp_path: Path) -> None:
    root = str(write_gtsrb8(tmp_path / "GTSRB", tracks=12))
    parts = [GTSRB8(root, split, transductive=False) for split in SPLITS]
    assert [len(part) for part in parts] == [8 * 2 * 8, 8 * 2 * 2, 8 * 2 * 2]
    tracks = [{key.rpartition("_")[0] for key in part.keys} for part in parts]
    assert not tracks[0] & tracks[1] | tracks[0] & tracks[2] | tracks[1] & tracks[2]
    assert all(len({part[i].label for i in range(len(part))}) == 8 for part in parts)
    assert parts[0].check_counts() == []


def test_missing_signs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="8 of 8 files are missing") as caught:
        GTSRB8(str(tmp_path), "train")
    assert f"{tmp_path}/train/3/*" in str(caught.value)
    assert "German Traffic Sign Recognition Benchmark" in str(caught.value)
    root = write_gtsrb8(tmp_path / "GTSRB", tracks=2)
    with pytest.raises(DataError, match="has 2 tracks .* too few to hold some out"):
        GTSRB8(str(root), "train", transductive=False)
    for path in (root / "train/18").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="18 has no pictures"):
        GTSRB8(str(root), "train")


def test_signs_are_prepared_and_broken_ones_named(tmp_path: Path) -> None:
    root = write_gtsrb8(tmp_path / "GTSRB")
    data = module(28, tmp_path, train=GTSRB8(str(root), "train"))
    report = prepare(data)["train"]
    assert (report.count, report.masks, len(report.remarks)) == (80, 0, 8)
    batch = data.batch("train", range(80))
    assert batch.image.shape == (80, 3, 28, 28)
    assert batch.label is not None
    assert batch.label.unique().tolist() == list(range(8))
    broken = root / f"train/{CLASSES[0]:05d}/00001_00000.ppm"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match="1 samples of some are broken"):
        prepare(module(28, tmp_path, train=GTSRB8(str(root), "train")))


# SVHN.


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    checksums = write_svhn(tmp_path / "svhn")
    published = {part: ["", f"{part}_32x32.mat", known] for part, known in checksums.items()}
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", published)
    svhn._read.cache_clear()
    return tmp_path / "svhn"


def test_house_numbers_are_those_of_three_files(digits: Path) -> None:
    train, val, test = (SVHN(str(digits), split) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [50, 3, 42]
    assert train.keys[:42] == test.keys
    assert set(val.keys) < set(test.keys)
    # Digit 0 is 10 in the files.
    assert [test[index].label for index in range(10)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    first = np.random.default_rng(8).integers(0, 256, (32, 32, 3, 8), dtype=np.uint8)
    assert np.array_equal(train[42].image, first[..., 0])
    assert train[0].image.flags["C_CONTIGUOUS"]
    assert "svhn test has 30 pictures, expected 26032" in train.check_counts()
    assert len({part.fingerprint() for part in (train, val, test)}) == 3
    assert train.files(0) == ()


def test_held_out_house_numbers_are_not_trained_on(digits: Path) -> None:
    train, val, test = (SVHN(str(digits), split, transductive=False) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [20, 3, 27]
    assert not set(train.keys) & {*val.keys, *test.keys}
    assert not set(val.keys) & set(test.keys)
    assert len(SVHN(str(digits), "train", transductive=False, extra=False)) == 12


def test_missing_or_damaged_house_numbers_are_named(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 of 3 files are missing") as caught:
        SVHN(str(tmp_path / "nowhere"), "train")
    assert "test_32x32.mat" in str(caught.value)
    path = digits / "extra_32x32.mat"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"extra_32x32.mat is not the published file"):
        SVHN(str(digits), "train")
    assert len(SVHN(str(digits), "test")) == 42


# Weizmann Horses.


@pytest.mark.parametrize("same_names", [True, False])
def test_horses_are_paired_with_their_masks(tmp_path: Path, same_names: bool) -> None:
    root = write_horses(tmp_path / "horses", 20, same_names)
    train, val, test = (WeizmannHorse(str(root), split) for split in SPLITS)
    assert train.keys == test.keys == [f"horse{index:03d}" for index in range(20)]
    assert val.keys == train.keys[:4]
    sample = train[9]
    assert sample.mask is not None
    assert sample.mask.shape == sample.image.shape[:2]
    assert set(np.unique(sample.mask)) == {0, 1}
    assert sample.classes == (1,)
    assert "expected 327 or 328" in train.check_counts()[0]


def test_held_out_horses_are_in_one_split_only(tmp_path: Path) -> None:
    root = str(write_horses(tmp_path / "horses"))
    parts = [set(WeizmannHorse(root, split, transductive=False).keys) for split in SPLITS]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert len(set.union(*parts)) == 20


def test_grey_in_a_horse_mask_is_refused_or_background(tmp_path: Path) -> None:
    root = write_horses(tmp_path / "horses")
    path = root / "masks/horse000.png"
    values = np.asarray(Image.open(path)).copy()
    horse = int((values == 255).sum())
    values[15, 20] = 254
    Image.fromarray(values).save(path)
    data = WeizmannHorse(str(root), "train")
    with pytest.raises(DataError, match="has values from 254 to 254; expected 0 and 255 only"):
        data[0]
    with pytest.raises(DataError, match="1 samples of some are broken"):
        prepare(module(16, tmp_path, train=data))
    lenient = WeizmannHorse(str(root), "train", grey="background")
    mask = lenient[0].mask
    assert mask is not None
    assert mask.sum() == horse - 1
    assert lenient.fingerprint() != data.fingerprint()


def test_horses_that_do_not_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Weizmann Horse Database"):
        WeizmannHorse(str(tmp_path), "train")
    root = write_horses(tmp_path / "horses")
    (root / "masks/horse003.png").unlink()
    with pytest.raises(DataError, match=r"20 pictures .* 19 masks .*horse003.jpg without partner"):
        WeizmannHorse(str(root), "train")
    small = write_horses(tmp_path / "small", 3)
    with pytest.raises(DataError, match="has 3 pictures, too few"):
        WeizmannHorse(str(small), "train")


# Instagram.


def test_photographs_of_a_tag_are_read_without_truth(tmp_path: Path) -> None:
    root = str(write_instagram(tmp_path, "weddingkiss"))
    train, val = (Instagram(root, split, "weddingkiss") for split in SPLITS[:2])
    assert [len(train), len(val)] == [6, 3]
    sample = ResizeCrop(32)(train[0])
    assert sample.image.shape == (32, 32, 3)
    assert sample.mask is sample.label is None


def test_any_folder_of_photographs_will_do(tmp_path: Path) -> None:
    root = write_instagram(tmp_path, val=0)
    assert len(Instagram(str(root), "val")) == 0
    for folder in (root / "santaphoto", root / "santaphoto/train"):
        assert len(Instagram(str(folder), "train")) == 6
        assert len(Instagram(str(folder), "val")) == 0


def test_missing_photographs_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="collect your own") as caught:
        Instagram(str(tmp_path / "nowhere"), "train")
    assert "santaphoto/train/*" in str(caught.value)
    with pytest.raises(DataError, match="has no pictures"):
        Instagram(str(tmp_path), "train")


# What they share.


@pytest.mark.parametrize("resolution", [16, 40])
def test_stretch_keeps_nothing_of_the_aspect(resolution: int) -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    mask = np.zeros((20, 60), np.uint8)
    image[:, :30], mask[:, :30] = 200, 3
    done = Stretch(resolution)(Sample(image, "a", mask))
    assert done.image.shape == (resolution, resolution, 3)
    assert done.mask is not None
    assert set(np.unique(done.mask)) == {0, 3}
    assert done.mask.mean() == pytest.approx(1.5)
    assert done.image[0, 0, 0] == 200
    with pytest.raises(DataError, match="both must have the same size"):
        Stretch(resolution)(Sample(image, "a", mask[:, :50]))


@pytest.mark.parametrize(
    ("train", "wanted", "found"),
    [(20, 10, range(10)), (5, 10, range(5)), (20, 0, None)],
)
def test_only_training_pictures_are_scored_as_transductive(
    tmp_path: Path, train: int, wanted: int, found: range | None
) -> None:
    make: Callable[..., Toy] = Toy
    data = module(
        32,
        tmp_path,
        train=make("train", train),
        test=make("test", 4),
        **({"test_transductive": make("train", wanted)} if wanted else {}),
    )
    seen = data.datasets.get("test_transductive")
    assert (seen and list(seen.keys)) == (found and [data.datasets["train"].keys[i] for i in found])
    loaders = data.test_dataloader()
    assert isinstance(loaders, list) == (found is not None)


def test_transductive_pictures_are_not_scored_twice(tmp_path: Path) -> None:
    root = str(write_horses(tmp_path / "horses"))
    for transductive in (True, False):
        options = {"transductive": transductive}
        data = module(
            16,
            tmp_path,
            train=WeizmannHorse(root, "train", **options),
            test=WeizmannHorse(root, "test", **options),
            test_transductive=WeizmannHorse(root, "train", **options),
        )
        assert ("test_transductive" in data.datasets) != transductive
