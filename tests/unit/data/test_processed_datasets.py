"""Dogs and Cars as DRC has them, and birds cut out of their photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from archives import disc, write_cars, write_cub, write_dogs, write_flowers
from figureground.core.config import build
from figureground.core.errors import DataError
from figureground.data.batching import TrainingReader
from figureground.data.cache import LazyStore, open_store
from figureground.data.crops import cut_box
from figureground.data.datasets.concat import Concat
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.drc import Cars, Dogs
from figureground.data.datasets.flowers import Flowers
from figureground.data.prepare import prepare
from figureground.data.sampler import Draw
from figureground.data.samples import Sample
from figureground.data.transforms import Augment, RandomSquare, ResizeCrop, ShorterSide, Stretch


@pytest.mark.parametrize(("kind", "write"), [(Dogs, write_dogs), (Cars, write_cars)])
def test_training_takes_whole_photographs_and_tests_take_masks(
    tmp_path: Path, kind: Any, write: Callable[[Path, int], Path]
) -> None:
    root = write(tmp_path / "set", 6)
    train, test = kind(str(root), "train"), kind(str(root), "test")
    assert (len(train), len(test)) == (6, 3)
    assert not set(train.keys) & set(test.keys)
    assert train[1].image.shape == (30, 30, 3)  # The middle of 41x30.
    assert train[1].mask is None
    assert np.array_equal(test[0].mask, disc((32, 32)))
    resized = kind(str(root), "train", pictures="resized")
    assert resized[0].mask is not None
    both = kind(str(root), "all")
    assert both.keys == [*resized.keys, *test.keys]
    assert np.array_equal(both[6].image, test[0].image)
    assert np.array_equal(both[2].image, resized[2].image)
    expected = kind.counts["train"] + kind.counts["test"]
    assert f"all has 9 pictures, expected {expected}" in both.check_counts()[0]
    assert "not checked against the original list" in train.check_counts()[0]


def test_authors_order_of_channels_is_an_option(tmp_path: Path) -> None:
    root = str(write_dogs(tmp_path / "dogs", 4))
    rgb, bgr = (Dogs(root, "test", colors=colors) for colors in ("rgb", "bgr"))
    assert np.array_equal(rgb[0].image[..., ::-1], bgr[0].image)
    assert rgb.fingerprint() != bgr.fingerprint()


def test_missing_pictures_say_whom_to_ask(tmp_path: Path) -> None:
    root = write_cars(tmp_path / "cars", 4)
    (root / "data_mrcnn/test/resized/00001_maskresized.png").unlink()
    with pytest.raises(DataError, match="00001_maskresized.png") as caught:
        Cars(str(root), "test")
    assert "deep-region-competition" in str(caught.value)
    with pytest.raises(DataError, match=r"data=dogs: 1 of 1 files are missing.*data_tr_sel\.npy"):
        Dogs(str(root), "train")


@pytest.mark.parametrize(
    ("tokens", "fragment"),
    [
        (np.array([1, 1, 2]), "names 1 pictures twice, such as 1"),
        (np.zeros((2, 2), int), "in one row"),
        (np.array([0.5]), "in one row"),
        (np.array([], int), "is empty"),
        (np.array([{}], object), "saved without pickled objects"),
    ],
)
def test_strange_lists_are_refused(tmp_path: Path, tokens: np.ndarray, fragment: str) -> None:
    root = write_dogs(tmp_path / "dogs", 4)
    np.save(root / "data_te_sel.npy", tokens)
    with pytest.raises(DataError, match=fragment):
        Dogs(str(root), "test")


@pytest.mark.parametrize(
    ("data", "write"), [("dogs", write_dogs), ("cars", write_cars), ("cub", write_cub)]
)
def test_prepare_checks_all_splits(
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    data: str,
    write: Callable[[Path], Path],
) -> None:
    write(tmp_path / data)
    name = "cub_drc" if data == "cub" else data
    config = compose(f"data={name}", f"paths.data_dir={tmp_path}")
    module = build(config.data)
    if data != "cub":  # They have no validation list, and the test is not to be looked at.
        assert all(key.startswith("train/") for key in module.datasets["val"].keys)
        assert module.datasets["val"].annotated
    reports = prepare(module)
    assert reports["train"].remarks
    assert 0.1 < reports["test"].foreground < 0.6
    batch = module.batch("test", [0, 1])
    assert batch.image.shape == (2, 3, 64, 64)
    assert batch.mask is not None
    assert set(batch.mask.unique().tolist()) == {0, 1}


def test_birds_are_cut_alike_with_their_masks(tmp_path: Path) -> None:
    root = str(write_cub(tmp_path / "cub", 12))
    whole = CUB(root, "test", masks="soft")[0]
    box = CUB(root, "test", crop="box", masks="soft")[0]
    assert whole.mask is not None
    assert np.array_equal(box.image, cut_box(whole.image, (10, 5, 15, 15)))
    assert np.array_equal(box.mask, cut_box(whole.mask, (10, 5, 15, 15)))
    assert CUB(root, "test", crop="centre")[0].image.shape == (30, 30, 3)
    prints = [CUB(root, "test", crop=crop).fingerprint() for crop in ("none", "centre", "box")]
    assert len(set(prints)) == 3


def test_rules_for_votes_differ_where_annotators_do(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "cub", 3)
    votes = np.full((30, 40), 102, np.uint8)  # Two of five.
    path = next((root / "segmentations").rglob("*0002.png"))
    Image.fromarray(votes).save(path)
    share = {
        rule: Stretch(24)(CUB(str(root), "test", masks=rule)[0]).mask.mean()
        for rule in ("majority", "soft", "dither")
    }
    assert share["majority"] == share["soft"] == 0
    assert 0.2 < share["dither"] < 0.6


def test_damaged_boxes_and_masks_are_refused(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "cub", 12)
    boxes = root / "bounding_boxes.txt"
    lines = boxes.read_text().splitlines()
    boxes.write_text("\n".join(lines[:5]))
    with pytest.raises(DataError, match="lacks 4 pictures, such as 9"):
        CUB(str(root), "test", crop="box")
    boxes.write_text("1 2 3\n")
    with pytest.raises(DataError, match="expected `number left top width height`, found `1 2 3`"):
        CUB(str(root), "test", crop="box")
    Image.new("L", (5, 5)).save(next((root / "segmentations").rglob("*0008.png")))
    with pytest.raises(DataError, match="is 5x5 but its picture is 40x30"):
        CUB(str(root), "test", crop="centre")[0]


@pytest.mark.parametrize("transform", [Stretch(4), ResizeCrop(4, "bilinear")])
def test_soft_masks_are_cut_after_resizing(transform: Stretch | ResizeCrop) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    shares = np.zeros((8, 8), np.uint8)
    shares[:, :4], shares[0, 0] = 255, 0
    found = transform(Sample(image, "x", shares, is_soft=True))
    assert found.mask.tolist() == [[1, 1, 0, 0]] * 4
    assert not found.is_soft
    assert np.array_equal(found.mask, found.soft >= 128)


def test_soft_masks_of_another_size_than_pictures_are_cut_too() -> None:
    shares = np.full((8, 12), 51, np.uint8)
    shares[:, :6] = 204
    sample = Sample(np.zeros((8, 12, 3), np.uint8), "x", shares, is_soft=True)
    for resize_mask, size in ((False, (8, 12)), (True, (4, 6))):
        found = ShorterSide(4, resize_mask=resize_mask)(sample)
        assert found.mask.shape == found.soft.shape == size
        assert set(np.unique(found.mask)) == {0, 1}
        assert not found.is_soft


def test_flowers_keep_soft_masks_through_caches(tmp_path: Path) -> None:
    root = str(write_flowers(tmp_path / "flowers", 4))
    hard, soft = (Flowers(root, "test", masks=masks) for masks in ("hard", "soft"))
    assert np.array_equal(255 * hard[0].mask, soft[0].mask)
    assert hard.fingerprint() != soft.fingerprint()
    transform = ResizeCrop(16, "bilinear", 19)
    lazy = open_store(soft, transform, 16, "off", [], "flowers").load(2)
    assert len(np.unique(lazy.soft)) > 2
    for mode in ("memory", "disk", "disk"):
        store = open_store(soft, transform, 16, mode, [tmp_path / "cache"], "flowers")
        found = store.load(2)
        assert np.array_equal(found.soft, lazy.soft)
        assert np.array_equal(found.mask, lazy.mask)
    (path,) = (tmp_path / "cache").glob("flowers-*/shares.npy")
    path.unlink()
    assert np.array_equal(
        open_store(soft, transform, 16, "disk", [tmp_path / "cache"], "flowers").load(2).soft,
        lazy.soft,
    )
    plain = open_store(hard, transform, 16, "disk", [tmp_path / "plain"], "flowers")
    assert plain.load(0).soft is None
    assert not list((tmp_path / "plain").glob("flowers-*/shares.npy"))


def test_soft_masks_stay_soft_in_mixtures_and_when_augmented(tmp_path: Path) -> None:
    flowers = Flowers(str(write_flowers(tmp_path / "flowers", 4)), "train", masks="soft")
    mixed = Concat({"flowers": flowers})
    transform = ResizeCrop(16, "bilinear")
    sample, own = transform(mixed[1]), transform(flowers[1])
    assert (sample.key, sample.label) == ("flowers/image_00002", None)
    assert np.array_equal(sample.soft, own.soft)
    store = LazyStore(mixed, transform)
    reader = TrainingReader(store, Augment(16, flip=1.0), 0, 1, with_masks=True)
    batch = reader.__getitems__([Draw(0, 0, 1)])
    assert np.array_equal(batch.soft_mask[0].numpy() * 255, own.soft[:, ::-1])
    assert np.array_equal(batch.mask[0], (batch.soft_mask[0] >= 0.5).long())
    whole = TrainingReader(LazyStore(mixed, None), RandomSquare(16, 20, 18), 0, 1, with_masks=True)
    assert set(whole.__getitems__([Draw(0, 0, 1)]).mask.unique().tolist()) == {0, 1}
