"""`ImageDataModule`: one class for all datasets; what is special about one is configuration."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from figureground.core.bounds import Count, PositiveInt
from figureground.core.errors import DataError
from figureground.core.seeds import mix_seed
from figureground.core.types import VOID, Batch
from figureground.data.batching import EvaluationReader, TrainingReader, collate
from figureground.data.cache import CacheMode, LazyStore, PixelStore, Transform, open_store
from figureground.data.index import (
    exclude_unreadable,
    find_seen,
    require_annotated,
    verify_unchanged,
)
from figureground.data.mask_rule import MaskRule
from figureground.data.sampler import EndlessBatchSampler, EndlessLoader, WatchfulLoader
from figureground.data.samples import ImageDataset, refuse_uniform
from figureground.data.transforms import Augment, RandomSquare

if TYPE_CHECKING:
    from figureground.data.pairs import LivePairs

logger = logging.getLogger(__name__)

_STORES = ("train", "val", "test", "predict", "test_transductive")


class ImageDataModule(LightningDataModule):
    """Turn datasets into batches of one size in [-1, 1].

    Training batches come without end (see `EndlessBatchSampler`) and never carry masks or labels,
    unless the method says that it `learns_from_masks`; `data.pairs` may then put drawn pairs in
    the place of `train`, some of which are validated on as `val_pairs`. A method with
    `num_streams` > 1 gets a tuple of that many independently shuffled batches.

    Args:
        name: Name for messages, caches and checkpoints.
        resolution: Side of the pictures.
        batch_size: Pictures per batch, stream and process.
        num_workers: Loader processes; they change speed, never the data.
        root: Folder of the files; the datasets' own nodes refer to it.
        masks: How mask files are read, where users bring their own; the datasets refer to it, too.
        train: Training set; one that is empty, as any of these, is none.
        val: Validation set.
        test: Test set.
        predict: Set for prediction.
        test_transductive: Training pictures that are scored beside `test`, under names of their
            own: papers often report such figures. What is not in `train` is left out, and all if
            they are the pictures of `test` anyway.
        transform: Fixed transform to `resolution`, or None if samples have that size.
        test_transform: Transform of test pictures instead, whose results may be of any size and
            may differ from their masks' (scores are then taken at the masks'); one at a time.
        augment: Random transform of training pictures. One that takes whole pictures has them
            read anew each time instead of transformed and cached.
        eval_batch_size: Pictures per evaluation batch; `batch_size` if None.
        seed: Seed of shuffles and augmentation.
        cache: Where transformed pictures are kept: `auto` (drawn ones in memory, files on disk),
            `disk`, `memory` or `off`.
        cache_dir: Folder of disk caches.
        fallback_cache_dir: Used where `cache_dir` cannot be written to.
        on_error: `raise` on a broken file, or `skip` those that `prepare` has listed.
        allow_unannotated: Score what has masks instead of refusing a partly annotated set.
    """

    def __init__(
        self,
        *,
        name: str,
        resolution: PositiveInt,
        batch_size: PositiveInt,
        num_workers: Count = 0,
        root: str | None = None,
        masks: MaskRule | None = None,
        train: ImageDataset | None = None,
        val: ImageDataset | None = None,
        test: ImageDataset | None = None,
        predict: ImageDataset | None = None,
        test_transductive: ImageDataset | None = None,
        transform: Transform | None = None,
        test_transform: Transform | None = None,
        augment: Augment | RandomSquare | None = None,
        eval_batch_size: PositiveInt | None = None,
        seed: Count = 0,
        cache: CacheMode = "auto",
        cache_dir: str | None = None,
        fallback_cache_dir: str | None = None,
        on_error: str = "raise",
        allow_unannotated: bool = False,
    ) -> None:
        super().__init__()
        self.name: str = name
        self.resolution, self.root, self.masks = resolution, root, masks
        self.batch_size, self.num_workers = batch_size, num_workers
        self.eval_batch_size = eval_batch_size or batch_size
        seen = find_seen(test_transductive, train, test)
        given = (train, val, test, predict, seen)
        self.datasets = {
            split: dataset
            for split, dataset in zip(_STORES, given, strict=True)
            if dataset is not None and len(dataset)
        }
        self._why_empty = {
            split: dataset.why_empty
            for split, dataset in zip(_STORES, given, strict=True)
            if dataset is not None
        }
        self.transform, self.augment, self.seed = transform, augment, seed
        self._takes_whole = isinstance(augment, RandomSquare)
        self.test_transform = test_transform
        self.cache, self.on_error = cache, on_error
        folders = (cache_dir, fallback_cache_dir)
        self.cache_dirs = [Path(folder) for folder in folders if folder is not None]
        self.allow_unannotated = allow_unannotated
        self._stores: dict[tuple[str, bool], PixelStore | LazyStore] = {}
        self._opened: dict[str, ImageDataset] = {}  # Without what was left out as broken.
        self.drawn: set[str] = set()  # Splits of pairs, at training size and whole as they are.
        self.live: LivePairs | None = None

    def setup(self, stage: str) -> None:
        """Check the files against the index of `prepare`, if there is one, and open the caches."""
        stage = getattr(stage, "value", stage)  # Lightning's enumeration prints its own name.
        validated = ("val", "val_pairs")
        wanted = {"fit": ("train", *validated), "validate": validated}.get(stage, (stage,))
        for split in wanted:
            if split in self.datasets and not (split == "train" and self.live):
                self.store(split, whole=split == "train" and self._takes_whole)

    def store(self, split: str, *, whole: bool = False) -> PixelStore | LazyStore:
        """Pictures of `split` at training size, from the cache where one is kept, or `whole`."""
        with_masks = split != "train" or self._learns_from_masks()
        key = f"whole {split}" if whole else split
        if (key, with_masks) not in self._stores:
            if split not in self.datasets:
                known, why = ", ".join(self.datasets), self._why_empty.get(split)
                raise DataError(
                    f"data={self.name} has no {split} split (it has: {known})"
                    + (f": {why}" if why else "")
                )
            dataset = self.datasets[split]
            if not with_masks:  # Broken ones then do no harm.
                dataset = dataset.without_masks()
            self._stores[key, with_masks] = self._open(split, dataset, whole)
        return self._stores[key, with_masks]

    def _open(self, split: str, dataset: ImageDataset, whole: bool) -> PixelStore | LazyStore:
        if split in self.drawn:
            self._opened[split] = dataset
            return LazyStore(dataset, None)
        verify_unchanged(dataset, self.cache_dirs, self.name)
        if self.on_error == "skip":
            dataset = exclude_unreadable(dataset, self.cache_dirs, self.name)
        if split == "train" and self._learns_from_masks():
            what = f"{self.name} train pictures"
            dataset = require_annotated(dataset, what, self.allow_unannotated)
        self._opened[split] = dataset
        if split == "train" and self._takes_whole:  # A cache would not be trained on.
            return LazyStore(dataset, None if whole else self.transform)
        if split == "test" and self.test_transform is not None:
            return LazyStore(dataset, self.test_transform)
        mode = self.cache if self.cache_dirs or self.cache != "auto" else "memory"
        name = f"{self.name}-{split}"
        return open_store(dataset, self.transform, self.resolution, mode, self.cache_dirs, name)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches without end, from where the trainer's counter stands."""
        if self.live is not None:
            batches = self.live.batches(self, self._batches_done, self._rank_and_size()[0])
            return EndlessLoader(batches, batch_size=None)
        store = self.store("train", whole=self._takes_whole)
        module = self.trainer.lightning_module if self.trainer else None
        num_streams = int(getattr(module, "num_streams", 1))
        with_masks = self._learns_from_masks()
        if with_masks:
            self._check_masks("train", store, range(len(store)))
        sampler = EndlessBatchSampler(
            len(store),
            self.batch_size,
            self.seed,
            num_streams,
            self._batches_done,
            *self._rank_and_size(),
        )
        reader = TrainingReader(store, self.augment, self.seed, num_streams, with_masks)
        return self._loader(EndlessLoader, reader, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """All validation pictures in order, none if there is no such set; then pairs, if any."""
        real: DataLoader[Any] | list[Any] = []
        if "val" in self.datasets:
            real = self._evaluation_loader("val")
        if "val_pairs" not in self.datasets:
            return real
        return [real, self._evaluation_loader("val_pairs")]

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """All test pictures in order; then training pictures, if some are scored as well."""
        held_out = self._evaluation_loader("test")
        if "test_transductive" not in self.datasets:
            return held_out
        return [held_out, self._evaluation_loader("test_transductive")]

    def predict_dataloader(self) -> DataLoader[Any]:
        """All pictures to predict in order."""
        return self._evaluation_loader("predict")

    def batch(self, split: str, indices: Sequence[int]) -> Batch:
        """Pictures of `split` by index, with masks and labels if there are any."""
        store = self.store(split)
        return collate([store.load(index) for index in indices])

    def first_scored(self, split: str) -> Batch:
        """The first picture of `split` that evaluation scores, a batch of one."""
        store = self.store(split)
        return collate([store.load(self._find_scored(split, store)[0])])

    def _evaluation_loader(self, split: str) -> DataLoader[Any]:
        store = self.store(split)
        indices = range(len(store)) if split == "predict" else self._find_scored(split, store)
        if split != "predict":
            self._check_masks(split, store, indices)
        rank, size = self._rank_and_size()
        if len(indices) < size:
            raise DataError(
                f"{len(indices)} {split} pictures cannot be shared out among {size} processes; use "
                "fewer (trainer.devices) or add pictures"
            )
        # Every process gets equally many batches, because they exchange buffers before each, and
        # none is padded, so that every picture counts once.
        alone = split == "test" and self.test_transform is not None
        length = 1 if alone else self.eval_batch_size
        count = min(-(-len(indices) // (size * length)), len(indices) // size)
        batches = [list(part) for part in np.array_split(np.asarray(indices)[rank::size], count)]
        return self._loader(WatchfulLoader, EvaluationReader(store), batch_sampler=batches)

    def _find_scored(self, split: str, store: PixelStore | LazyStore) -> Sequence[int]:
        """Numbers of the pictures that can be scored: all, unless some lack the masks of others."""
        dataset = self._opened[split]
        missing = dataset.unannotated()
        if not missing or not dataset.annotated:
            return range(len(store))
        if not self.allow_unannotated:
            raise DataError(
                f"{len(missing)} of {len(dataset)} {split} pictures have no mask: "
                f"{', '.join(dataset.keys[number] for number in missing[:10])}; add masks, or set "
                "data.allow_unannotated=true to score the rest"
            )
        if len(missing) == len(dataset):
            raise DataError(
                f"none of the {len(dataset)} {split} pictures has a mask; move masks of other "
                "splits away to train without scores"
            )
        logger.warning(
            "%d of %d %s pictures have no mask and are not scored",
            len(missing), len(dataset), split,
        )  # fmt: skip
        return sorted(set(range(len(store))) - set(missing))

    def _check_masks(
        self, split: str, store: PixelStore | LazyStore, indices: Sequence[int]
    ) -> None:
        """Refuse a split without any object or ground, reading no further than to the first."""
        if not self._opened[split].annotated:
            return
        count, has_ground, has_object = 0, False, False
        for index in indices:
            mask = store.load(index).mask
            if mask is not None:
                count += 1
                has_ground |= bool((mask == 0).any())
                has_object |= bool(((mask != 0) & (mask != VOID)).any())
            if has_ground and has_object:
                return
        refuse_uniform(f"{self.name} {split}", count, has_ground, has_object)

    def _loader(
        self, kind: type[DataLoader[Any]], reader: Dataset[Any], batch_sampler: Any
    ) -> DataLoader[Any]:
        workers: dict[str, Any] = {}
        if self.num_workers:
            workers = {
                "persistent_workers": True,
                "worker_init_fn": partial(_seed_worker, self.seed),
            }
        return kind(
            reader,
            batch_sampler=batch_sampler,
            collate_fn=_identity,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            # Of its own, so that making an iterator draws nothing from the global generator.
            generator=torch.Generator().manual_seed(self.seed),
            **workers,
        )

    def _learns_from_masks(self) -> bool:
        module = self.trainer.lightning_module if self.trainer else None
        return bool(getattr(module, "learns_from_masks", False))

    def _batches_done(self) -> int:
        if self.trainer is None:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def _rank_and_size(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def _identity(batch: Any) -> Any:
    return batch


def _seed_worker(seed: int, worker: int) -> None:
    """Give libraries with global generators a state that depends on the seed alone."""
    random.seed(mix_seed(seed, worker))
    np.random.seed(mix_seed(seed, worker) & 0xFFFFFFFF)  # noqa: NPY002 - libraries draw from it
