"""How samples become batches: of training, from draws, and of evaluation, from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from figureground.core.seeds import mix_seed
from figureground.core.types import VOID, Batch
from figureground.data.cache import LazyStore, PixelStore
from figureground.data.sampler import Draw
from figureground.data.samples import MAX_OBJECTS, Sample
from figureground.data.transforms import HALF, Augment, RandomSquare


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch; masks and labels only if all have them."""
    masks = [sample.mask for sample in samples if sample.mask is not None]
    labels = [sample.label for sample in samples if sample.label is not None]
    classes = [sample.classes for sample in samples if sample.classes is not None]
    shares = [sample.soft for sample in samples if sample.soft is not None]
    return Batch(
        image=to_float(np.stack([sample.image for sample in samples])),
        key=tuple(sample.key for sample in samples),
        mask=_to_long(np.stack(masks)) if len(masks) == len(samples) else None,
        label=torch.tensor(labels) if len(labels) == len(samples) else None,
        classes=_stack_classes(classes) if len(classes) == len(samples) else None,
        soft_mask=torch.from_numpy(np.stack(shares)) / 255 if len(shares) == len(samples) else None,
    )


def _stack_classes(classes: Sequence[tuple[int, ...]]) -> Tensor:
    """Tables of equal length, (B, MAX_OBJECTS)."""
    return torch.tensor([list(row) + [0] * (MAX_OBJECTS - len(row)) for row in classes])


def to_float(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Turn uint8 (B, H, W, 3) into float (B, 3, H, W) in [-1, 1]."""
    tensor = torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2)
    # Divided first, as the authors did: the last bit of the pixels is theirs.
    return tensor.float().div_(255).mul_(2).sub_(1).contiguous()


def _to_long(masks: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.require(masks, requirements=["C", "W"])).long()


class TrainingReader(Dataset[Any]):
    """Makes whole training batches from draws."""

    def __init__(
        self,
        store: PixelStore | LazyStore,
        augment: Augment | RandomSquare | None,
        seed: int,
        num_streams: int,
        with_masks: bool,
    ) -> None:
        self.store, self.augment, self.seed = store, augment, seed
        self.num_streams, self.with_masks = num_streams, with_masks

    def __getitems__(self, draws: list[Draw]) -> Batch | tuple[Batch, ...]:
        """Return the batch of `draws`, a tuple if there are several streams."""
        size = len(draws) // self.num_streams
        parts = [self._read(draws[k * size : (k + 1) * size]) for k in range(self.num_streams)]
        return parts[0] if self.num_streams == 1 else tuple(parts)

    def _read(self, draws: list[Draw]) -> Batch:
        indices = [draw.number for draw in draws]
        keys = tuple(self.store.keys[index] for index in indices)
        plain = self.augment is None and not self.with_masks
        if plain and isinstance(self.store, PixelStore):
            return Batch(to_float(self.store.images[indices]), keys)
        samples = [self._change(self.store.load(draw.number), draw) for draw in draws]
        if self.with_masks:
            return collate(samples)
        return Batch(to_float(np.stack([sample.image for sample in samples])), keys)

    def _change(self, sample: Sample, draw: Draw) -> Sample:
        if self.augment is None:
            return sample
        seed = mix_seed(self.seed, draw.stream, draw.epoch, draw.number) & 0xFFFFFFFF
        share = sample.mask if sample.is_soft else sample.soft
        mask = share if share is not None else sample.mask
        image, mask = self.augment(sample.image, mask if self.with_masks else None, seed)
        changed = replace(sample, image=image, mask=mask, soft=None, is_soft=False)
        if mask is None or share is None:
            return changed
        hard = np.asarray(mask > HALF, np.uint8)
        if not sample.is_soft and sample.mask is not None and (sample.mask == VOID).any():
            # By the same seed the index mask moves as its shares did.
            moved = self.augment(sample.image, sample.mask, seed)[1]
            hard[moved == VOID] = VOID
        return replace(changed, mask=hard, soft=mask)


class EvaluationReader(Dataset[Any]):
    """Makes whole evaluation batches from indices."""

    def __init__(self, store: PixelStore | LazyStore) -> None:
        self.store = store

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return the pictures at `indices` with all that is known of them."""
        return collate([self.store.load(index) for index in indices])
