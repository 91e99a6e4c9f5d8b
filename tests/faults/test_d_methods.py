"""Faults of the data (F31-F39) met by every method in training and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from broken_pictures import bomb, empty, text, truncate
from omegaconf import DictConfig
from PIL import Image
from pytorch_lightning import Callback
from short import short
from tiny import Run

from archives import disc, picture, write_cub, write_folder
from faults import METHODS, At, assert_same_checkpoint, build_tiny, needs_masks
from figureground.cli.train import train
from figureground.core.checkpoint import iteration_of, read_checkpoint
from figureground.core.errors import DataError, exit_code_of
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.folder import Folder
from figureground.data.prepare import prepare
from figureground.data.reading import read_image
from figureground.data.transforms import ResizeCrop

Compose = Callable[..., DictConfig]
SIZE = 32

# Said of runs without a validation set; the commands silence it.
pytestmark = pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")


def folder_data(root: Path, **options: Any) -> ImageDataModule:
    """The user's own pictures in `root`, with caches beside it."""
    settings: dict[str, Any] = {
        "name": "mine", "resolution": SIZE, "batch_size": 4, "transform": ResizeCrop(SIZE),
        "cache_dir": str(root.parent / "cache"), "train": Folder(str(root)),
    }  # fmt: skip
    return ImageDataModule(**{**settings, **options})


def fed(
    directory: Path, method: str, data: ImageDataModule, *more: Callback, **changed: Any
) -> Run:
    """A run of two batches of `method` on `data`."""
    settings = {"iterations": 2, "make": lambda: (build_tiny(method)[0], data), **changed}
    return short(directory, method, *more, **settings)


def refuse(part: Run, match: str) -> str:
    """Start `part`, which must end as data errors do, before it has trained; return the message."""
    with pytest.raises(DataError, match=match) as caught:
        part.start()
    assert exit_code_of(caught.value) == 3
    assert not part.last.exists()
    return str(caught.value)


def write_masks(root: Path) -> None:
    """A mask of its size for every picture in `root`."""
    (root / "masks").mkdir()
    for path in list(root.glob("*.*")):
        height, width = read_image(path).shape[:2]
        mask = np.where(disc((width, height)), 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(root / "masks" / f"{path.stem}.png")


class Seen(Callback):
    """Keys of all pictures trained on."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        for part in batch if isinstance(batch, tuple) else (batch,):
            assert part.mask is None or pl_module.learns_from_masks
            self.keys.update(part.key)


@pytest.mark.parametrize("method", METHODS)
def test_f31_broken_pictures_are_named_and_listed_and_skipped(tmp_path: Path, method: str) -> None:
    root = write_folder(tmp_path / "mine", 16)
    bad = sorted((root / "images").glob("*.jpg"))[:3]
    for path, spoil in zip(bad, (truncate, empty, text), strict=True):
        spoil(path)
    (root / "images/x.png").mkdir()
    Image.new("L", (4, 4)).save(root / "masks/x.png")
    message = refuse(fed(tmp_path / "run", method, folder_data(root)), r"\.jpg|x\.png")
    assert any(path.name in message for path in [*bad, root / "x.png"])
    with pytest.raises(DataError) as caught:
        prepare(folder_data(root))
    assert all(path.name in str(caught.value) for path in [*bad, root / "x.png"])
    prepare(folder_data(root), skip_broken=True)
    seen = Seen()
    data = folder_data(root, on_error="skip")
    part = fed(tmp_path / "run", method, data, seen, iterations=4, validate_every=100).start()
    assert len(data.store("train").keys) == 13
    assert seen.keys <= set(data.store("train").keys)
    assert not {"x", *(path.stem for path in bad)} & seen.keys
    assert iteration_of(read_checkpoint(part.last)) == 4


@pytest.mark.parametrize("method", METHODS)
def test_f32_masks_that_are_missing_or_odd_stop_evaluation_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    root = write_folder(tmp_path / "mine", 12)
    masks = sorted((root / "masks").rglob("*.png"))
    for path in masks[:5]:
        path.unlink()
    (root / "masks/stranger.png").write_bytes(b"")
    Image.open(masks[5]).resize((9, 9)).save(masks[5])
    masks[6].rename(masks[6].with_name(masks[6].name.upper()))  # Another mask by its name.
    part = fed(tmp_path / "run", method, folder_data(root))
    if needs_masks(method):
        refuse(part, "6 of 12 mine train pictures have no mask to learn from: ")
        usable = Folder(str(write_folder(tmp_path / "whole", 4)))
    else:
        assert iteration_of(read_checkpoint(part.start().last)) == 2
        usable = Folder(str(root))
    scored = folder_data(root, train=usable, val=Folder(str(root)))
    message = refuse(fed(tmp_path / "scored", method, scored), "both must have the same size")
    assert masks[5].name in message
    Image.fromarray(np.where(disc(), 255, 0).astype(np.uint8)).save(masks[5])
    masks[5].unlink()
    scored = folder_data(root, train=usable, val=Folder(str(root)))
    part = fed(tmp_path / "scored", method, scored)
    with pytest.raises(DataError, match="7 of 12 val pictures have no mask: ") as caught:
        part.trainer.validate(part.method, scored, verbose=False)
    assert exit_code_of(caught.value) == 3
    allowed = folder_data(root, val=Folder(str(root)), allow_unannotated=True)
    part = fed(tmp_path / "allowed", method, allowed)
    with caplog.at_level(logging.WARNING):
        (found,) = part.trainer.validate(part.method, allowed, verbose=False)
    assert "7 of 12" in caplog.text
    assert found["val/images"] == 5


@pytest.mark.parametrize("method", METHODS)
def test_f33_masks_mean_the_same_in_every_coding_and_are_never_all_ground(
    tmp_path: Path, method: str
) -> None:
    root = write_folder(tmp_path / "mine", 6)
    built = build_tiny(method)[0]  # One set of weights for all.
    reference: dict[str, float] = {}
    for coding in ("0/255", "0/1", "16 bit", "RGB"):
        for path in (root / "masks").rglob("*.png"):
            values = np.asarray(Image.open(path).convert("I")) > 0
            levels = {"0/1": 1, "16 bit": 65535}.get(coding, 255)
            dtype = np.uint16 if coding == "16 bit" else np.uint8
            image = Image.fromarray(np.where(values, levels, 0).astype(dtype))
            (image.convert("RGB") if coding == "RGB" else image).save(path)
        data = folder_data(root, val=Folder(str(root)), cache="off")
        part = fed(tmp_path / "run", method, data, make=lambda d=data: (built, d))
        (found,) = part.trainer.validate(part.method, data, verbose=False)
        reference = reference or found
        assert found == reference, coding
    for path in (root / "masks").rglob("*.png"):
        Image.new("L", Image.open(path).size).save(path)
    empty_masks = folder_data(root, val=Folder(str(root)), cache="off")
    refuse(fed(tmp_path / "run", method, empty_masks), "all 6 masks of mine (train|val) are empty")


@pytest.mark.parametrize("method", METHODS)
def test_f34_odd_pictures_train_and_a_bomb_is_named(tmp_path: Path, method: str) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1"):
        picture(0).convert("L" if mode == "LA" else "RGB").convert(mode).save(root / f"{mode}.tif")
    Image.fromarray(np.full((5, 7), 40000, np.uint16)).save(root / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(root / "turned.jpg", exif=exif)
    for size in ((1, 1), (4000, 3), (3, 400)):
        Image.new("RGB", size, "red").save(root / f"wide{size[0]}.png")
    if needs_masks(method):
        write_masks(root)
    data, seen = folder_data(root, batch_size=11), Seen()
    part = fed(tmp_path / "run", method, data, seen).start()
    assert len(seen.keys) == 11
    losses = {k: v for _, row in part.rows.rows for k, v in row.items() if "loss" in k}
    assert losses
    assert torch.tensor(list(losses.values())).isfinite().all()
    bomb(root / "bomb.png")
    if needs_masks(method):
        Image.new("L", (4, 4)).save(root / "masks/bomb.png")
    refuse(fed(tmp_path / "refused", method, folder_data(root)), r"bomb\.png")


@pytest.mark.parametrize("method", METHODS)
def test_f35_wrong_split_list_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_cub(tmp_path / "cub", 12)
    config = compose(
        f"method={method}", "data=cub", f"data.root={root}", "data.num_workers=0", "iterations=2",
        "++data.train.protocol=redo",  # Recipes may choose one without a list.
    )  # fmt: skip
    split = root / "train_val_test_split.txt"
    right = split.read_text()
    for added, fragment in (
        ("99 0\n", "images.txt does not have: 99"),
        ("1 0\n", "lines twice: 1 0"),
        ("1 2\n", "1 pictures are in more than one split: 1;"),
    ):
        split.write_text(right + added)
        with pytest.raises(DataError, match=fragment) as caught:
            train(config)
        assert exit_code_of(caught.value) == 3
    split.write_text(right)
    (root / "images" / (root / "images.txt").read_text().split()[1]).unlink()
    with pytest.raises(DataError) as caught:
        train(config)
    assert exit_code_of(caught.value) == 3
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize("method", METHODS)
def test_f36_file_changed_after_prepare_is_named(tmp_path: Path, method: str) -> None:
    root = write_folder(tmp_path / "mine", 8, masks=needs_masks(method))
    prepare(folder_data(root))
    changed = next((root / "images").glob("*.jpg"))
    changed.write_bytes(changed.read_bytes() + b"x")
    part = fed(tmp_path / "run", method, folder_data(root))
    refuse(part, f"changed since prepare: .*{changed.name}")


@pytest.mark.parametrize("method", METHODS)
def test_f37_dataset_removed_while_training_is_named_and_resumed_when_back(
    tmp_path: Path, method: str
) -> None:
    root = write_folder(tmp_path / "mine", 8, masks=needs_masks(method))
    usual = {"iterations": 3, "every": 100, "validate_every": 100}
    whole = fed(tmp_path / "whole", method, folder_data(root, cache="off"), **usual).start()
    away = root.with_name("away")
    remove = At("on_train_batch_end", 1, lambda: root.rename(away))
    part = fed(tmp_path / "part", method, folder_data(root, cache="off"), remove, **usual)
    with pytest.raises(DataError, match="does not exist") as caught:
        part.start()
    assert exit_code_of(caught.value) == 3
    assert iteration_of(read_checkpoint(part.last)) in (1, 2)  # Loaders are a batch ahead.
    away.rename(root)
    again = fed(tmp_path / "part", method, folder_data(root, cache="off"), **usual)
    assert_same_checkpoint(whole.last, again.start(part.last).last)


@pytest.mark.parametrize("method", METHODS)
def test_f38_caches_go_to_the_run_where_the_data_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    root = write_folder(tmp_path / "mine", 8, masks=needs_masks(method))
    (root / "cache").write_text("in the way")
    before = sorted(root.rglob("*"))
    places = {"cache_dir": str(root / "cache"), "fallback_cache_dir": str(tmp_path / "run/cache")}
    fed(tmp_path / "run", method, folder_data(root, **places), iterations=1).start()
    assert list((tmp_path / "run/cache").glob("mine-train-*"))
    assert sorted(root.rglob("*")) == before
    # Who runs as root may read anything, so the refusal is injected.
    forbidden, read = sorted((root / "images").rglob("*.jpg"))[3], Image.open

    def refusing(path: Any, *rest: Any, **options: Any) -> Any:
        if path == forbidden:
            raise PermissionError(13, "Permission denied", str(forbidden))
        return read(path, *rest, **options)

    monkeypatch.setattr(Image, "open", refusing)
    refuse(fed(tmp_path / "other", method, folder_data(root, cache="memory")), forbidden.name)


@pytest.mark.parametrize("method", METHODS)
def test_f39_too_few_pictures_are_refused_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for count in (1, 3):
        root = write_folder(tmp_path / str(count) / "mine", count, masks=needs_masks(method))
        some = fed(tmp_path / str(count) / "run", method, folder_data(root))
        refuse(some, f"has {count} pictures, fewer than one batch of 4")
    (tmp_path / "none").mkdir()
    config = compose(f"method={method}", "data=folder", f"data.root={tmp_path}/none")
    with pytest.raises(DataError, match="has no pictures") as caught:
        train(config)
    assert exit_code_of(caught.value) == 3
    assert not list((tmp_path / "run").rglob("*.ckpt"))
