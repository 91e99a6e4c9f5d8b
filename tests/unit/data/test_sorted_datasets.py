"""Sets whose pictures are sorted (C3-GAN, L2IC): official layouts, lists, boxes, squares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from archives import (
    picture,
    write_clevr,
    write_cub,
    write_flowers,
    write_people,
    write_stanford_cars,
    write_stanford_dogs,
)
from figureground.core.config import build
from figureground.core.errors import DataError
from figureground.data.crops import cut_box
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.class_folders import ClassFolders
from figureground.data.datasets.clevr import CLEVR
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.stanford import StanfordCars, StanfordDogs
from figureground.data.prepare import prepare
from figureground.data.splits import PUBLISHED, check_published, read_classes
from figureground.data.transforms import RandomSquare, ResizeCrop

OFFICIAL = [(StanfordDogs, write_stanford_dogs), (StanfordCars, write_stanford_cars)]
Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(("kind", "write"), OFFICIAL)
def test_official_archives_give_classes_from_0_on(
    tmp_path: Path, kind: Any, write: Callable[[Path], Path]
) -> None:
    root = str(write(tmp_path / "set"))
    train, test = kind(root, "train"), kind(root, "test")
    assert (len(train), len(test)) == (12, 9)
    assert not set(train.keys) & set(test.keys)
    assert [train[index].label for index in range(4)] == [0, 1, 2, 0]
    assert test.keys == kind(root, "val").keys
    assert train[0].image.shape == (30, 40, 3)
    assert train[0].mask is None
    assert not train.annotated
    assert f"has 12 pictures, expected {kind.counts['train']}" in train.check_counts()[0]


@pytest.mark.parametrize(("kind", "write"), OFFICIAL)
def test_boxes_are_read_right_and_wrong_as_released(
    tmp_path: Path, kind: Any, write: Callable[[Path], Path]
) -> None:
    root = str(write(tmp_path / "set"))
    # The first dog, number 0, and the first car, number 1, have boxes of another width.
    right = 22 if kind is StanfordDogs else 23
    whole, cut = kind(root, "train")[0].image, kind(root, "train", crop="box")
    assert np.array_equal(cut[0].image, cut_box(whole, (10, 5, right - 10, 15)))
    wrong = kind(root, "train", crop="misread_box")
    assert np.array_equal(wrong[0].image, cut_box(whole, (10, 5, right, 20)))
    assert len({each.fingerprint() for each in (cut, wrong, kind(root, "train"))}) == 3


@pytest.mark.parametrize(
    ("kind", "write", "name", "lines"),
    [
        (StanfordDogs, write_stanford_dogs, "stanford_dog_train.txt",
         ["n02-Pug/train_4.jpg 1", "n01-Chihuahua/train_0.jpg 0"]),
        (StanfordCars, write_stanford_cars, "stanford_car_train.txt",
         ["train/A_Model/000005.jpg 1", "train/B/000001.jpg 0"]),
        (CUB, write_cub, "cub_train.txt",
         ["002.Bird_1/Bird_0004.jpg 1", "001.Bird_0/Bird_0000.jpg 0"]),
        (Flowers, lambda root: write_flowers(root, 4), "oxford_flower_train.txt",
         ["train/9/image_00001.jpg 1", "test/1/image_00009.jpg 9"]),
    ],
)  # fmt: skip
def test_lists_of_the_authors_are_taken_and_compared(
    tmp_path: Path, kind: Any, write: Callable[[Path], Path], name: str, lines: list[str]
) -> None:
    root = write(tmp_path / "set")
    with pytest.raises(DataError, match=rf"{name} is missing.*C3-GAN"):
        kind(str(root), "train", protocol="lists")
    (root / name).write_text("\n".join(lines))
    found = kind(str(root), "train", protocol="lists")
    assert len(found) == 2
    assert [found[0].label, found[1].label] == [int(line.split()[1]) for line in lines]
    assert "is not the published list" in found.check_counts()[0]
    (root / name).write_text(f"{lines[0]}2")
    with pytest.raises(DataError, match="other classes than the official files, such as"):
        kind(str(root), "train", protocol="lists")


def test_lists_that_name_other_pictures_are_refused(tmp_path: Path) -> None:
    root = write_stanford_dogs(tmp_path / "dogs")
    for text, fragment in (
        ("n09-Wolf/1.jpg 0", "names 1 pictures that the official files do not have"),
        ("n02-Pug/train_4.jpg one", "classes from 0 on, found 'one'"),
        ("n02-Pug/train_4.jpg 1\nn02-Pug/train_4.jpg 2", "gives a picture two classes"),
    ):
        (root / "stanford_dog_train.txt").write_text(text)
        with pytest.raises(DataError, match=fragment):
            StanfordDogs(str(root), "train", protocol="lists")


def test_published_lists_are_known(splits: Path) -> None:
    for name in PUBLISHED:
        if name.startswith("l2ic/"):
            assert check_published(splits / name, name) == []
    classes = read_classes(splits / "l2ic/stanford_dog_test.txt")
    assert (len(classes), max(classes.values())) == (8580, 119)


def test_birds_and_flowers_train_on_all_and_test_on_the_official_set(tmp_path: Path) -> None:
    birds = str(write_cub(tmp_path / "cub", 12))
    assert len(CUB(birds, "train", protocol="clustering")) == 12
    assert CUB(birds, "test", "clustering").keys == CUB(birds, "test", "official").keys
    assert "expected 11788" in CUB(birds, "train", "clustering").check_counts()[0]
    flowers = str(write_flowers(tmp_path / "flowers", 4))
    assert len(Flowers(flowers, "train", "clustering")) == 12
    assert Flowers(flowers, "test", "clustering").keys == Flowers(flowers, "train").keys


@pytest.mark.parametrize(
    "box", [(40, 5, 9, 9), (5, 30, 9, 9), (-9, 5, 9, 9), (5, -9, 4, 9), (5, 5, 0, 9), (5, 5, 9, -1)]
)
def test_a_box_outside_its_picture_is_one_line(tmp_path: Path, box: tuple[int, ...]) -> None:
    root = write_cub(tmp_path / "cub", 6)
    lines = (root / "bounding_boxes.txt").read_text().splitlines()
    lines[1] = " ".join(map(str, (2, *box)))
    (root / "bounding_boxes.txt").write_text("\n".join(lines))
    data = ImageDataModule(
        name="cub", resolution=16, batch_size=2, transform=ResizeCrop(16),
        train=CUB(str(root), "train", "clustering", crop="box"), cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    with pytest.raises(DataError, match="1 samples of cub are broken") as caught:
        prepare(data)
    problem = str(caught.value).splitlines()[1:]
    assert len(problem) == 1
    assert "has no pixel in its picture of 40x30" in problem[0]
    assert "Bird_0001" in problem[0]


def test_boxes_that_reach_over_an_edge_are_cut_there() -> None:
    pixels = np.asarray(picture(0))
    for box in ((-5, -5, 8, 8), (38, 28, 9, 9), (39, 29, 1, 1), (-1, 0, 2, 2)):
        assert min(cut_box(pixels, box).shape[:2]) >= 1


def test_dogs_without_a_box_and_cars_of_another_form_are_refused(tmp_path: Path) -> None:
    dogs = write_stanford_dogs(tmp_path / "dogs")
    (dogs / "Annotation/n01-Chihuahua/train_0").write_text("<annotation/>")
    with pytest.raises(DataError, match="train_0 has no box; put the original there"):
        StanfordDogs(str(dogs), "train", crop="box")[0]
    (dogs / "Annotation/n01-Chihuahua/train_0").unlink()
    with pytest.raises(DataError, match=r"1 of 12 files are missing.*train_0"):
        StanfordDogs(str(dogs), "train", crop="box")
    cars = write_stanford_cars(tmp_path / "cars")
    (cars / "cars_annos.mat").write_bytes(b"no")
    with pytest.raises(DataError, match="is not a MATLAB file with a list `annotations`"):
        StanfordCars(str(cars), "train")


def test_labels_of_dogs_from_1_on_are_an_option(tmp_path: Path) -> None:
    root = str(write_stanford_dogs(tmp_path / "dogs"))
    assert StanfordDogs(root, "test", one_based_labels=True)[0].label == 1


def test_faces_are_sorted_by_their_folders(tmp_path: Path) -> None:
    root = write_people(tmp_path / "fs100")
    (root / "readme.jpg").write_bytes(b"")
    train = ClassFolders(str(root), "train", "fs100", 100)
    assert (len(train), len(ClassFolders(str(root), "val", "fs100"))) == (24, 3)
    assert (train[0].label, train[23].label) == (0, 1)
    assert train.check_counts() == ["fs100 has 2 sub-folders, expected 100, one for each class"]
    with pytest.raises(DataError, match="has no pictures in sub-folders"):
        ClassFolders(str(root / "Ann"), "train")


def test_clevr_is_scored_on_scenes_of_two_to_five_objects(tmp_path: Path) -> None:
    root = str(write_clevr(tmp_path / "clevr"))
    data = CLEVR("test", 4, "tfrecord", root)
    masks = [data[index].mask for index in range(4)]
    assert [set(np.unique(mask)) for mask in masks] == [{0, 1}] * 4
    # Of 3, 6, 2, 5 and 4 squares.
    assert np.argsort([mask.sum() for mask in masks if mask is not None]).tolist() == [1, 0, 3, 2]


def test_random_squares_are_whole_picture_cuts_of_one_size() -> None:
    pixels = np.asarray(picture(0, (80, 60)))
    marked = np.zeros((60, 80), np.uint8)
    marked[:, :40] = 1
    square = RandomSquare(16, shorter=38, square=32, flip=0.5)
    found = [square(pixels, marked, seed) for seed in range(30)]
    assert {image.shape for image, _ in found} == {(16, 16, 3)}
    assert len({image.tobytes() for image, _ in found}) > 20
    again = square(pixels, marked, 7)
    assert np.array_equal(again[0], found[7][0])
    left = [mask[:, 0].mean() > mask[:, -1].mean() for _, mask in found if mask is not None]
    assert 5 < sum(left) < 25  # Flipped or not.
    assert square(pixels, None, 7)[1] is None
    with pytest.raises(ValueError, match="square=40 is cut out of a shorter side of 38"):
        RandomSquare(16, shorter=38, square=40)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "stanford_dogs": write_stanford_dogs,
    "cub": lambda root: write_cub(root, 12),
    "flowers": lambda root: write_flowers(root, 4),
}


@pytest.mark.parametrize("data", WRITERS)
def test_l2ic_trains_on_random_squares_and_sorts_whole_pictures(
    compose: Compose, tmp_path: Path, data: str
) -> None:
    WRITERS[data](tmp_path / data)
    config = compose(
        "method=l2ic", f"data={data}", f"paths.data_dir={tmp_path}", "data.batch_size=3",
        "data.num_workers=0", "data.resolution=32", f"data.cache_dir={tmp_path}/cache",
    )  # fmt: skip
    assert config.data.test.get("crop", "none") == "none"
    assert config.data.augment.square == 256
    module = build(config.data)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch.image.shape == (3, 3, 32, 32)
    assert batch.label is None
    assert module.batch("val", [0]).label is not None
    assert module.batch("train", [1, 0]).image.shape == (2, 3, 32, 32)  # For scores and sheets.
    assert not list(tmp_path.glob("cache/*-train-*"))  # Training pictures are read anew.
