"""Batches are a pure function of seed and number; workers, caches and restarts change nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from archives import write_folder
from figureground.core.errors import DataError, WriteError
from figureground.core.seeds import mix_seed
from figureground.core.types import Batch, Layers, check_image
from figureground.data.batching import collate
from figureground.data.cache import LazyStore, PixelStore, open_store
from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.folder import Folder
from figureground.data.datasets.toy import Toy
from figureground.data.sampler import EndlessBatchSampler, WatchfulLoader
from figureground.data.samples import Sample
from figureground.data.transforms import Augment, ResizeCrop


def test_every_pass_draws_every_picture_once() -> None:
    sampler = EndlessBatchSampler(12, 4, seed=1)
    for epoch in range(3):
        numbers = [d.number for b in range(3) for d in sampler.batch(3 * epoch + b)]
        assert sorted(numbers) == list(range(12))


def test_batches_do_not_depend_on_the_order_of_asking() -> None:
    one, two = (EndlessBatchSampler(10, 3, seed=4, num_streams=2) for _ in "ab")
    forward = [one.batch(number) for number in range(9)]
    backward = [two.batch(number) for number in reversed(range(9))]
    assert forward == backward[::-1]


def test_streams_are_independent_and_seeds_differ() -> None:
    sampler = EndlessBatchSampler(50, 10, seed=4, num_streams=2)
    draws = sampler.batch(0)
    assert [d.number for d in draws[:10]] != [d.number for d in draws[10:]]
    assert draws != EndlessBatchSampler(50, 10, seed=5, num_streams=2).batch(0)


def test_ranks_share_a_batch() -> None:
    whole = EndlessBatchSampler(24, 8, seed=0)
    parts = [EndlessBatchSampler(24, 4, seed=0, rank=r, world_size=2) for r in (0, 1)]
    for number in range(6):
        assert whole.batch(number) == [d for part in parts for d in part.batch(number)]


def test_iteration_starts_where_it_is_told() -> None:
    sampler = EndlessBatchSampler(10, 3, seed=4, start=lambda: 5)
    assert next(iter(sampler)) == sampler.batch(5)


def test_f39_set_smaller_than_a_batch_is_refused_with_numbers() -> None:
    with pytest.raises(DataError, match="has 3 pictures, fewer than one batch of 4"):
        EndlessBatchSampler(3, 4, seed=0)


def test_near_seeds_are_far_apart() -> None:
    seeds = {mix_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= seed < 2**63 for seed in seeds)


def make(tmp_path: Path, **options: object) -> ImageDataModule:
    folder = (
        str(write_folder(tmp_path / "p", 24))
        if not (tmp_path / "p").exists()
        else str(tmp_path / "p")
    )
    settings: dict[str, object] = {
        "name": "f", "resolution": 16, "batch_size": 4, "transform": ResizeCrop(16),
        "cache_dir": str(tmp_path / "cache"), "train": Folder(folder), "val": Folder(folder),
    }  # fmt: skip
    return ImageDataModule(**{**settings, **options})  # type: ignore[arg-type]  # as given


def first(module: ImageDataModule, count: int = 3) -> list[Batch]:
    batches = iter(module.train_dataloader())
    return [next(batches) for _ in range(count)]


def assert_equal(one: list[Batch], two: list[Batch]) -> None:
    for a, b in zip(one, two, strict=True):
        assert a.key == b.key
        assert torch.equal(a.image, b.image)


@pytest.mark.parametrize("cache", ["disk", "memory", "off"])
def test_caches_change_nothing(tmp_path: Path, cache: str) -> None:
    augment = Augment(16, flip=0.5, crop=0.6, rotate=10, brightness=0.2)
    plain = make(tmp_path, cache="off", augment=augment)
    assert_equal(first(plain), first(make(tmp_path, cache=cache, augment=augment)))


def test_f06_workers_change_nothing(tmp_path: Path) -> None:
    augment = Augment(16)
    alone = first(make(tmp_path, augment=augment))
    assert_equal(alone, first(make(tmp_path, augment=augment, num_workers=2)))


def test_loaders_leave_the_global_generator_alone(tmp_path: Path) -> None:
    module = make(tmp_path)
    before = torch.get_rng_state()
    first(module)
    next(iter(module.val_dataloader()))
    assert torch.equal(before, torch.get_rng_state())


def test_training_never_sees_masks_unless_it_learns_from_them(tmp_path: Path) -> None:
    module = make(tmp_path)
    assert all(batch.mask is None for batch in first(module))
    teacher = SimpleNamespace(num_streams=1, learns_from_masks=True)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]  # what is asked of a trainer
        lightning_module=teacher, global_rank=0, world_size=1,
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(
                batch_progress=SimpleNamespace(current=SimpleNamespace(ready=2))
            )
        ),
    )  # fmt: skip
    batch = next(iter(module.train_dataloader()))
    assert batch.mask is not None
    sampler = EndlessBatchSampler(24, 4, 0)
    assert batch.key == tuple(module.store("train").keys[d.number] for d in sampler.batch(2))


def test_evaluation_covers_everything_in_order(tmp_path: Path) -> None:
    module = make(tmp_path, eval_batch_size=7)
    batches = list(module.val_dataloader())
    assert [key for batch in batches for key in batch.key] == module.store("val").keys
    assert Counter(len(batch) for batch in batches) == {6: 4}


@pytest.mark.parametrize(("size", "batch_size"), [(2, 1), (2, 7), (3, 4), (5, 5), (24, 1)])
def test_processes_evaluate_equally_many_batches_and_every_picture_once(
    tmp_path: Path, size: int, batch_size: int
) -> None:
    seen: list[list[Batch]] = []
    for rank in range(size):
        module = make(tmp_path, eval_batch_size=batch_size)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=size)  # type: ignore[assignment]
        seen.append(list(module.val_dataloader()))
    assert len({len(batches) for batches in seen}) == 1
    keys = [key for batches in seen for batch in batches for key in batch.key]
    assert sorted(keys) == sorted(module.store("val").keys)


def test_more_processes_than_pictures_are_refused(tmp_path: Path) -> None:
    module = make(tmp_path)
    module.trainer = SimpleNamespace(global_rank=0, world_size=25)  # type: ignore[assignment]
    with pytest.raises(DataError, match="24 val pictures cannot be shared out among 25 processes"):
        module.val_dataloader()


def test_cache_is_built_once_and_read_back(tmp_path: Path) -> None:
    make(tmp_path).store("val")
    files = sorted(p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy"))
    store = make(tmp_path).store("val")
    assert isinstance(store, PixelStore)
    assert isinstance(store.images, np.memmap)
    assert files == sorted(p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy"))


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_cached_masks_may_hold_any_value(tmp_path: Path, cache: str) -> None:
    pictures = [np.full((16, 16, 3), value, np.uint8) for value in range(3)]
    masks = [np.full((16, 16), 255, np.uint8), None, np.zeros((16, 16), np.uint8)]

    class Drawn(Folder):
        def __getitem__(self, index: int) -> Sample:
            return Sample(pictures[index], self.keys[index], masks[index])

    drawn = Drawn(str(write_folder(tmp_path / "p", 3)))
    for _ in "build", "open":
        store = open_store(drawn, None, 16, cache, [tmp_path / "cache"], "d")  # type: ignore[arg-type]  # a choice
        for index, mask in enumerate(masks):
            found = store.load(index).mask
            assert (found is None) if mask is None else np.array_equal(found, mask)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("images.npy", None),  # Cut in half.
        ("images.npy", b""),
        ("masks.npy", None),
        ("labels.npy", b"\x93NUMPY\x01\x00v\x00{'descr': ["),
        ("has_mask.npy", "gone"),
        ("header.json", b"{"),
        ("header.json", b'{"format": 1, "count": 24, "resolution": 16}'),
        ("header.json", "gone"),
    ],
)
def test_damaged_cache_is_built_again_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str, content: bytes | str | None
) -> None:
    sound = make(tmp_path).batch("val", range(24))
    (path,) = (tmp_path / "cache").glob(f"f-val-*/{part}")
    if content == "gone":
        path.unlink()
    else:
        old = path.read_bytes()
        path.write_bytes(content if isinstance(content, bytes) else old[: len(old) // 2])
    again = make(tmp_path).batch("val", range(24))
    assert torch.equal(again.image, sound.image)
    assert torch.equal(again.mask, sound.mask)  # type: ignore[arg-type]  # both have masks
    assert caplog.text.count("is damaged") == 1
    make(tmp_path).batch("val", range(24))
    assert caplog.text.count("is damaged") == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_f45_other_transform_is_another_cache(tmp_path: Path) -> None:
    make(tmp_path).store("val")
    make(tmp_path, transform=ResizeCrop(16, "nearest")).store("val")
    assert len(list((tmp_path / "cache").glob("f-val-*"))) == 2


def test_f38_read_only_cache_folder_falls_back(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    module = make(tmp_path, fallback_cache_dir=str(tmp_path / "run/cache"))
    module.store("val")
    assert list((tmp_path / "run/cache").glob("f-val-*"))


def test_no_writable_cache_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(WriteError, match=r"data\.cache=off"):
        make(tmp_path).store("val")


def test_wrong_size_after_the_transform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected"):
        make(tmp_path, transform=ResizeCrop(8)).store("val")


def test_drawn_pictures_are_kept_in_memory() -> None:
    toy = Toy("val", 6)
    assert isinstance(open_store(toy, None, 32, "auto", [], "toy"), PixelStore)
    assert isinstance(open_store(toy, None, 32, "off", [], "toy"), LazyStore)


def test_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no test split"):
        make(tmp_path).test_dataloader()


def test_collate_keeps_masks_only_if_all_have_them() -> None:
    image, mask = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8)
    batch = collate([Sample(image, "a", mask, 1), Sample(image, "b", mask, 2)])
    assert batch.mask is not None
    assert batch.label is not None
    assert batch.image.min() == -1
    assert collate([Sample(image, "a", mask), Sample(image, "b")]).mask is None


def test_records_move_and_measure() -> None:
    batch = Batch(torch.zeros(2, 3, 4, 4), ("a", "b"))
    assert len(batch) == 2
    assert batch.to(torch.float64).image.dtype == torch.float64
    alpha = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4)
    color = torch.stack([torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)], dim=1)
    layers = Layers(color, alpha)
    assert torch.all(layers.composite == 0.75)
    assert torch.all(layers.segmentation == 1)
    assert torch.all(layers.foreground == 0.75)
    with pytest.raises(ValueError, match="expected float images"):
        check_image(torch.zeros(3, 4, 4))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError()])
def test_a_hand_over_cut_short_names_the_worker(error: Exception) -> None:
    class CutShort(list[int]):
        def __getitem__(self, index: Any) -> Any:
            raise error

    loader = WatchfulLoader(CutShort([1, 2]), batch_size=None)
    with pytest.raises(RuntimeError, match="DataLoader worker died"):
        list(loader)


def test_a_watched_loader_yields_all_and_passes_other_errors_on() -> None:
    assert list(WatchfulLoader([1, 2, 3], batch_size=None)) == [1, 2, 3]
    with pytest.raises(KeyError):
        list(WatchfulLoader([{}, {}], batch_size=None, collate_fn=lambda row: row["missing"]))
