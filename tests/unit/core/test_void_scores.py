"""One test scores clusters on all pictures, and masks where there are some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.optim import Optimizer

from figureground.core.errors import DataError
from figureground.core.method import Method
from figureground.core.types import VOID, Batch
from figureground.data.datamodule import ImageDataModule
from figureground.data.samples import ImageDataset, Sample
from figureground.metrics.clustering import ClusteringScores
from figureground.metrics.objects import PartitionScores
from figureground.metrics.segmentation import SegmentationScores

SIDE = 8


class Brightness(Method):
    """Bright is object; the category is whether the first pixel is."""

    def segment(self, image: Tensor) -> Tensor:
        """Probabilities (B, 2, H, W)."""
        share = (image.mean(dim=1, keepdim=True) > 0).float()
        return torch.cat([1 - share, share], dim=1)

    def cluster(self, image: Tensor) -> Tensor:
        """Category (B,)."""
        return (image[:, 0, 0, 0] > 0).long()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Learn nothing."""

    def configure_optimizers(self) -> list[Optimizer]:
        """None."""
        return []

    def reset_parameters(self) -> None:
        """There are none."""

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """None."""
        return {}


class HalfLabelled(ImageDataset):
    """Every third picture has a mask, wrong in the last row and void in the first."""

    def __init__(self, count: int) -> None:
        self.keys = [str(number) for number in range(count)]

    def __getitem__(self, index: int) -> Sample:
        object_ = np.indices((SIDE, SIDE))[1] < 2 + index % 4
        image = np.repeat(np.where(object_, 250, 5)[..., None], 3, axis=2).astype(np.uint8)
        mask = np.full((SIDE, SIDE), VOID, np.uint8)
        if index % 3 == 0:
            mask[1:] = object_[1:]
            mask[-1] = 1 - mask[-1]
        return Sample(image, self.keys[index], mask, label=int(index % 5 > 0))


def run_test(data: ImageDataset) -> dict[str, float]:
    module = ImageDataModule(name="half", resolution=SIDE, batch_size=4, test=data)
    method = Brightness(
        metrics={
            "segmentation": SegmentationScores(), "partition": PartitionScores(),
            "clustering": ClusteringScores(2, 2),
        }
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    (found,) = trainer.test(method, module, verbose=False)
    return {name: float(value) for name, value in found.items()}


def test_clusters_are_of_all_pictures_and_masks_of_the_labelled() -> None:
    found = run_test(HalfLabelled(10))
    assert found["test/images"] == 10
    assert found["test/acc"] == pytest.approx(0.8)  # All are of one cluster, eight of one class.
    # Of 7 labelled rows one is wrong.
    assert found["test/acc/img/fixed"] == pytest.approx(6 / 7)
    widths = [2 + index % 4 for index in range(0, 10, 3)]
    iou = [6 * w / (7 * w + (SIDE - w)) for w in widths]
    assert found["test/iou/img/fixed"] == pytest.approx(float(np.mean(iou)))
    assert not any(np.isnan(value) for value in found.values())


class Unlabelled(HalfLabelled):
    """No picture has a mask."""

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(1)


def test_a_set_without_any_label_is_refused() -> None:
    with pytest.raises(DataError, match="all 4 masks of half test are unlabelled"):
        run_test(Unlabelled(4))


def test_a_metric_without_labels_is_noted_as_absent(monkeypatch: Any) -> None:
    monkeypatch.setattr(ImageDataModule, "_check_masks", lambda *_: None)
    found = run_test(Unlabelled(4))
    assert set(found) >= {"test/images", "test/purity"}
    assert not any("iou" in name or "msc" in name or np.isnan(v) for name, v in found.items())
