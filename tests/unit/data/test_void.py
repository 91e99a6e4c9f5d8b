"""Unlabelled pixels on their way from a file to a batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from archives import picture, write_folder
from figureground.core.config import build
from figureground.core.errors import DataError
from figureground.core.seeds import mix_seed
from figureground.core.types import VOID
from figureground.data.batching import TrainingReader
from figureground.data.cache import open_store
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.concat import Concat
from figureground.data.datasets.folder import Folder
from figureground.data.mask_rule import MaskRule
from figureground.data.prepare import prepare
from figureground.data.reading import read_mask
from figureground.data.sampler import Draw
from figureground.data.samples import ImageDataset, Sample
from figureground.data.transforms import Augment, RandomSquare, ResizeCrop, ShorterSide, Stretch

Compose = Callable[..., DictConfig]


def regions(height: int = 30, width: int = 40) -> np.ndarray:
    """Ground, object and void in three bands of columns."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 3 : 2 * width // 3], mask[:, 2 * width // 3 :] = 1, VOID
    return mask


def sample(key: str = "a", mask: np.ndarray | None = None) -> Sample:
    image = np.asarray(picture(0))
    return Sample(image, key, regions() if mask is None else mask, label=3)


class Few(ImageDataset):
    """The given samples."""

    def __init__(self, *samples: Sample) -> None:
        self.samples, self.keys = samples, [each.key for each in samples]

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


# -- files -------------------------------------------------------------------------------------


def write_values(path: Path, values: list[int], mode: str = "L") -> Path:
    dtype = np.uint16 if mode == "I;16" else np.uint8
    image = Image.fromarray(np.array([values], dtype))
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200] + 252 * [7, 8, 9])
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("values", "mode", "void", "expected"),
    [
        ([0, 1, 255], "L", 255, [0, 1, VOID]),
        ([0, 128, 255], "L", 128, [0, VOID, 1]),
        ([3, 0, 2, 5], "L", 5, [3, 0, 2, VOID]),
        ([0, 255, 7], "L", 0, [VOID, 1, 0]),  # The others are a soft mask, cut at the half.
        ([9, 9, 9], "L", 9, [VOID, VOID, VOID]),
        ([0, 1, 2, 255], "P", 255, [0, 1, 2, VOID]),
        ([0, 1, 0, 2], "P", 2, [0, 1, 0, VOID]),
        ([0, 1000, 65535], "I;16", 1000, [0, VOID, 1]),
        ([0, 1, 0], "L", 255, [0, 1, 0]),
        ([0, 255, 255], "L", None, [0, 1, 1]),
    ],
)
def test_the_value_of_void_pixels_is_taken_out_first(
    tmp_path: Path, values: list[int], mode: str, void: int | None, expected: list[int]
) -> None:
    path = write_values(tmp_path / "m.png", values, mode)
    assert read_mask(path, void=void).tolist() == [expected]
    assert MaskRule(void).read(path, (len(values), 1)).tolist() == [expected]


def test_an_index_that_is_void_elsewhere_says_how_to_say_so(tmp_path: Path) -> None:
    path = write_values(tmp_path / "m.png", [0, 1, 255], "P")
    with pytest.raises(DataError, match=r"set data\.masks\.void=255 if so"):
        read_mask(path)


def write_trimaps(root: Path, count: int = 24) -> Path:
    """Pictures and masks of 0, 1 and, in the first third of the rows, 9; the first is all 9."""
    write_folder(root, count)
    for number, path in enumerate(sorted((root / "masks").rglob("*.png"))):
        values = np.asarray(Image.open(path)) // 255
        values[: len(values) // 3] = 9
        Image.fromarray(values if number else np.full_like(values, 9)).save(path)
    return root


def test_folder_takes_the_value_from_the_command_line(compose: Compose, tmp_path: Path) -> None:
    root = write_trimaps(tmp_path / "mine")
    own = ["data=folder", f"data.root={root}", "data.resolution=16", "data.train.val=0.4"]
    own.append("data.train.test=0.4")
    config = compose("method=segmenter", *own, "data.masks.void=9", f"paths.cache_dir={tmp_path}/c")
    module: Any = build(config.data)
    reports = prepare(module)
    assert sum(report.void for report in reports.values()) == 1
    assert sum(report.masks for report in reports.values()) == 23
    for split in ("val", "test"):
        batch = module.batch(split, range(len(module.store(split))))
        assert set(batch.mask.unique().tolist()) == {0, 1, VOID}
        assert (batch.mask[:, :4] == VOID).all()
    shares = [r.foreground for r in reports.values()]
    assert all(0.2 < share < 0.5 for share in shares)
    # Without it there are two kinds of objects; that must not come out of the same cache.
    plain: Any = build(compose("method=segmenter", *own, f"paths.cache_dir={tmp_path}/c").data)
    assert set(plain.batch("val", [0, 1]).mask.unique().tolist()) == {0, 1, 9}


def test_a_split_that_is_all_void_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", 8)
    for path in (root / "masks").rglob("*.png"):
        Image.new("L", Image.open(path).size, 9).save(path)
    data = Folder(str(root), masks=MaskRule(9))
    module = ImageDataModule(
        name="mine", resolution=16, batch_size=4, transform=ResizeCrop(16), val=data, test=data
    )
    with pytest.raises(DataError, match="all 8 masks of mine val are unlabelled"):
        prepare(module)
    with pytest.raises(DataError, match="all 8 masks of mine test are unlabelled"):
        module.test_dataloader()


# -- transforms, caches, augmentation ------------------------------------------------------------


@pytest.mark.parametrize(
    "transform",
    [ResizeCrop(16), ResizeCrop(12, shorter=18), Stretch(16), ShorterSide(16, resize_mask=True)],
)
def test_transforms_keep_void_and_make_no_more_of_it(transform: Any) -> None:
    mask = transform(sample()).mask
    assert set(np.unique(mask)) == {0, 1, VOID}
    assert (np.diff(mask.astype(int), axis=1) >= 0).all()  # Still bands, in their order.
    assert (mask == mask[:1]).all()


@pytest.mark.parametrize("cache", ["disk", "memory", "off"])
def test_caches_keep_void_and_labels(tmp_path: Path, cache: Any) -> None:
    bare = np.full((30, 40), VOID, np.uint8)
    data = Few(sample("a"), sample("b", bare))
    store = open_store(data, ResizeCrop(16), 16, cache, [tmp_path], "few")
    kept = [store.load(0), store.load(1)]
    expected = ResizeCrop(16)(sample("a")).mask
    assert np.array_equal(kept[0].mask, expected)
    assert (kept[1].mask == VOID).all()
    assert [each.label for each in kept] == [3, 3]


def test_caches_of_before_void_pixels_are_not_read(tmp_path: Path) -> None:
    open_store(Few(sample()), ResizeCrop(16), 16, "disk", [tmp_path], "few")
    (header,) = tmp_path.glob("few-*/header.json")
    assert json.loads(header.read_text())["format"] >= 6


@pytest.mark.parametrize(
    "augment", [Augment(30, flip=1.0, crop=0.5, rotate=20), RandomSquare(20, 40, 30, flip=1.0)]
)
def test_augmentation_moves_void_with_the_picture(augment: Any) -> None:
    # The mask is painted into the picture, so that both tell where a pixel came from.
    mask = regions()
    image = np.repeat(mask[..., None], 3, axis=2)
    for seed in range(5):
        moved_image, moved = augment(image, mask, seed)
        assert set(np.unique(moved)) <= {0, 1, VOID}
        inside = moved_image[..., 0]
        assert ((inside > 127) == (moved == VOID)).mean() > 0.9  # But for borders.


def test_shares_and_void_of_one_picture_are_augmented_alike() -> None:
    mask = regions()
    share = np.where(mask == 1, 200, 40).astype(np.uint8)
    image = np.repeat(mask[..., None], 3, axis=2)
    both = Few(Sample(image, "a", mask, soft=share))
    augment = Augment(30, flip=1.0, rotate=15)
    reader = TrainingReader(
        open_store(both, None, 30, "off", [], "d"), augment, 0, 1, with_masks=True
    )
    batch = reader.__getitems__([Draw(0, 0, 0)])
    seed = mix_seed(0, 0, 0, 0) & 0xFFFFFFFF
    expected, soft = augment(image, mask, seed)[1], augment(image, share, seed)[1]
    assert torch.equal(batch.mask[0], torch.from_numpy(expected).long())  # type: ignore[union-attr]
    assert torch.equal(batch.soft_mask[0] * 255, torch.from_numpy(soft).float())  # type: ignore[union-attr]


def test_mixtures_keep_void() -> None:
    mixed = Concat({"one": Few(sample("a")), "two": Few(sample("b", np.zeros((30, 40), np.uint8)))})
    assert np.array_equal(mixed[0].mask, regions())
    assert mixed[1].label is None


def test_batches_of_training_carry_void_to_those_that_learn_from_masks(tmp_path: Path) -> None:
    root = write_trimaps(tmp_path / "mine")
    module = ImageDataModule(
        name="mine", resolution=16, batch_size=24, transform=ResizeCrop(16), cache="off",
        train=Folder(str(root), masks=MaskRule(9)), augment=Augment(16),
    )  # fmt: skip
    teacher = SimpleNamespace(num_streams=1, learns_from_masks=True)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=teacher, global_rank=0, world_size=1,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(
            batch_progress=SimpleNamespace(current=SimpleNamespace(ready=0)))),
    )  # fmt: skip
    batch = next(iter(module.train_dataloader()))
    assert (batch.mask[:, :4] == VOID).all()
    assert set(batch.mask.unique().tolist()) == {0, 1, VOID}
