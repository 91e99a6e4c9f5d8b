"""Datasets read the archives' layouts, and drawn ones keep their promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from archives import picture, write_cub, write_flowers, write_folder, write_lfw
from figureground.core.errors import DataError
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.concat import Concat
from figureground.data.datasets.cub import CUB
from figureground.data.datasets.digits import TwoDigits
from figureground.data.datasets.flowers import Flowers
from figureground.data.datasets.folder import Folder
from figureground.data.datasets.lfw import LFW
from figureground.data.datasets.rooms import ASSETS, CATEGORIES, Rooms
from figureground.data.datasets.toy import HUES, SHAPES, Toy
from figureground.data.samples import ImageDataset
from figureground.data.splits import PUBLISHED, check_published


@pytest.mark.parametrize(
    "make",
    [
        lambda split: Toy(split, 20),
        lambda split: Toy(split, 6, resolution=48, num_objects=3),
        lambda split: Rooms(split, 6, resolution=32),
        lambda split: TwoDigits(split, 6),
    ],
)
def test_drawn_pictures_depend_on_seed_split_and_index_alone(
    make: Callable[[str], ImageDataset],
) -> None:
    one, two, other = make("train"), make("train"), make("test")
    for index in reversed(range(6)):
        a, b = one[index], two[index]
        assert np.array_equal(a.image, b.image)
        assert a.mask is not None
        assert b.mask is not None
        assert np.array_equal(a.mask, b.mask)
        assert not np.array_equal(a.image, other[index].image)
        assert a.image.dtype == a.mask.dtype == np.uint8
    assert one.fingerprint() != other.fingerprint()
    assert one.files(0) == ()


@pytest.mark.parametrize(
    "data", [Toy("val", 20), Toy("val", 8, 64, num_objects=3), Rooms("val", 8)]
)
def test_layers_are_exact(data: Toy | Rooms) -> None:
    noise = 14 if isinstance(data, Rooms) else 1
    for index in range(8):
        layers, sample = data.layers(index), data[index]
        total = layers.alpha.sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total))
        image = (layers.composite[0].permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(image - sample.image).max() < noise
        assert sample.mask is not None
        same = layers.segmentation[0].numpy() == sample.mask
        assert same.mean() > 0.99
        if isinstance(data, Rooms):
            assert sample.soft is not None
            assert np.array_equal(sample.soft >= 128, sample.mask)
            assert np.abs(sample.soft / 255 - layers.alpha[0, 1, 0].numpy()).max() < 0.002


def test_toy_objects_are_of_useful_size_and_all_kinds() -> None:
    data = Toy("train", 200)
    samples = [data[index] for index in range(200)]
    shares = [float((s.mask > 0).mean()) for s in samples if s.mask is not None]
    assert 0.25 < np.mean(shares) < 0.4
    assert min(shares) > 0.08
    assert {s.label for s in samples} == set(range(len(SHAPES) * len(HUES)))


def test_rooms_splits_share_neither_objects_nor_places() -> None:
    splits = [Rooms(split, 1) for split in ("train", "val", "test")]
    for kind in ("objects", "places"):
        names = [{str(x) for x in getattr(split, kind)} for split in splits]
        assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert sum(len(split.objects) for split in splits) == 172


def test_rooms_assets_are_small_and_free() -> None:
    sizes = [path.stat().st_size for path in ASSETS.iterdir()]
    assert sum(sizes) < 4_000_000
    assert max(sizes) < 500_000
    assert "Vehicles" in CATEGORIES


def test_rooms_refuse_sizes_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match="smallest=0.9 exceeds largest=0.5"):
        Rooms("train", 1, smallest=0.9, largest=0.5)


def test_two_digits_have_three_regions() -> None:
    data = TwoDigits("train", 30)
    found = [set(np.unique(data[index].mask)) for index in range(30)]
    assert all(regions <= {0, 1, 2} for regions in found)
    assert {0, 1, 2} in found
    with pytest.raises(DataError, match="MNIST is not at"):
        TwoDigits("train", 1, digits="mnist", root="/nowhere")


def test_flowers_are_read(tmp_path: Path) -> None:
    root = write_flowers(tmp_path / "flowers", 4)
    sets = {split: Flowers(str(root), split) for split in ("train", "val", "test")}
    assert sets["train"].keys[0] == "image_00001"
    assert sets["test"].keys[-1] == "image_00012"
    sample = sets["val"][0]
    assert sample.label == 5
    assert sample.mask is not None
    assert 0.1 < sample.mask.mean() < 0.6
    assert "expected 6149" in sets["train"].check_counts()[0]
    (root / "jpg/image_00002.jpg").unlink()
    with pytest.raises(DataError, match="image_00002.jpg") as caught:
        Flowers(str(root), "train")
    assert "Get them from" in str(caught.value)


def test_cub_is_read(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "cub", 12)
    data = CUB(str(root), "train")
    assert len(data) == 4
    assert data[0].image.shape == (30, 40, 3)
    assert data[1].label == 1
    assert len(CUB(str(root), "test", protocol="official")) == 6
    problems = data.check_counts()
    assert any("not the published list" in problem for problem in problems)
    with (root / "train_val_test_split.txt").open("a") as file:
        file.write("99 0\n")
    with pytest.raises(DataError, match="images.txt does not have: 99"):
        CUB(str(root), "train")


def test_f35_duplicated_line_is_refused(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "cub", 12)
    with (root / "train_val_test_split.txt").open("a") as file:
        file.write("1 0\n")
    with pytest.raises(DataError, match="lines twice: 1 0"):
        CUB(str(root), "train")


def test_missing_list_says_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: Path
) -> None:
    root = write_cub(tmp_path / "cub", 12)
    (root / "train_val_test_split.txt").unlink()
    monkeypatch.delenv("FIGUREGROUND_SPLITS", raising=False)
    with pytest.raises(DataError, match="set FIGUREGROUND_SPLITS"):
        CUB(str(root), "train")
    monkeypatch.setenv("FIGUREGROUND_SPLITS", str(splits))
    with pytest.raises(DataError, match=r"pictures that images\.txt does not have"):
        CUB(str(root), "train")


def test_published_lists_are_recognised(splits: Path) -> None:
    for name in PUBLISHED:
        assert check_published(splits / name, name) == []


def test_lfw_trains_without_masks(tmp_path: Path) -> None:
    root = write_lfw(tmp_path / "lfw", 4)
    train, test = LFW(str(root), "train"), LFW(str(root), "test")
    assert not train.annotated
    assert train[0].mask is None
    assert test[0].mask is not None
    assert test[0].mask.sum() > 50
    assert train.check_counts()


def test_mixture_keeps_order_and_drops_labels(tmp_path: Path) -> None:
    flowers = Flowers(str(write_flowers(tmp_path / "flowers", 4)), "val")
    lfw = LFW(str(write_lfw(tmp_path / "lfw", 4)), "val")
    mixed = Concat({"lfw": lfw, "flowers": flowers})
    assert len(mixed) == 8
    assert mixed.keys[4] == "flowers/image_00005"
    assert mixed[4].label is None
    assert np.array_equal(mixed[5].image, flowers[1].image)
    assert mixed.files(5) == flowers.files(1)
    assert len(mixed.check_counts()) == 3


def test_mixture_of_drawn_pictures_depends_on_their_settings() -> None:
    one, same, other = (Concat({"toy": Toy("train", 2, seed=seed)}) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_two_masks_for_one_picture_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", 3)
    (root / "masks/p000.bmp").write_bytes((root / "masks/p000.png").read_bytes())
    with pytest.raises(DataError, match="2 pictures below .*masks share a name"):
        Folder(str(root))


def test_folder_splits_by_name_and_finds_masks(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", 60)
    sets = [Folder(str(root), split) for split in ("train", "val", "test")]
    keys = [set(data.keys) for data in sets]
    assert sum(map(len, keys)) == 60
    assert len(set.union(*keys)) == 60
    assert len(sets[0]) > 35
    assert sets[0].unannotated() == []
    assert sets[0][0].mask is not None


def test_folder_without_masks_or_images_folder(tmp_path: Path) -> None:
    for index in range(3):
        picture(index).save(tmp_path / f"{index}.png")
    (tmp_path / ".hidden.png").write_bytes(b"")
    data = Folder(str(tmp_path))
    assert data.keys == ["0", "1", "2"]
    assert not data.annotated
    assert data[0].mask is None


@pytest.mark.parametrize(
    ("names", "fragment"),
    [
        ([], "has no pictures"),
        (["a.jpg", "a.png"], "share a name"),
        (["a.png", "A.png"], "share a name"),
    ],
)
def test_f39_unusable_folder_is_refused(tmp_path: Path, names: list[str], fragment: str) -> None:
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match=fragment):
        Folder(str(tmp_path))


def test_split_with_a_share_of_nothing_does_not_exist(tmp_path: Path) -> None:
    root = str(write_folder(tmp_path / "mine", 6))
    train, val, test = (Folder(root, split, 0, 0) for split in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [6, 0, 0]
    module = ImageDataModule(
        name="mine", resolution=16, batch_size=2, train=train, val=val, test=test
    )
    assert list(module.datasets) == ["train"]
    assert module.val_dataloader() == []


def test_empty_split_and_missing_folder_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"falls into the val split .* set data\.train\.val=0"):
        Folder(str(tmp_path), "val", val=1e-9)
    with pytest.raises(DataError, match=r"falls into the train split .* lower data\.train\.val"):
        Folder(str(tmp_path), "train", val=1.0)
    with pytest.raises(DataError, match="is not a folder"):
        Folder(str(tmp_path / "nowhere"))
