"""Scores of masks, by pictures, sets and batches, against the authors' code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from figureground.metrics.objects import PartitionScores, count_pairs, segmentation_covering
from figureground.metrics.segmentation import SegmentationScores

Stored = tuple[dict[str, Tensor], dict[str, Any]]
IDS = {
    "pACC": "acc/img/fixed",
    "IoU": "iou/global/fixed",
    "mIoU": "miou/global/fixed",
    "DRC_IoU": "iou/img/fixed",
    "DRC_DICE": "dice/img/fixed",
}


@pytest.fixture
def stored(golden: Callable[[str], Path]) -> Stored:
    folder = golden("ilsgan")
    scalars = json.loads((folder / "scalars_eval.json").read_text())
    return load_file(folder / "metrics.safetensors"), scalars


def check(logits: Tensor, truth: Tensor, expected: dict[str, float | None]) -> None:
    metric = SegmentationScores(empty="nan")
    for part in (slice(None, 4), slice(4, 8), slice(8, None)):
        metric.update(logits[part].softmax(1), truth[part])
    scores = metric.compute()
    for theirs, ours in IDS.items():
        value = float("nan") if expected[theirs] is None else expected[theirs]
        assert float(scores[ours]) == pytest.approx(value, abs=1e-6, nan_ok=True), theirs


def test_masks_match(stored: Stored) -> None:
    tensors, scalars = stored
    check(tensors["in.logits"], tensors["in.gt"], scalars["calc_metrics"])


def test_masks_of_twice_the_size_match(stored: Stored) -> None:
    tensors, scalars = stored
    larger = F.interpolate(tensors["in.logits"], scale_factor=2, mode="bilinear")
    check(larger, tensors["in.gt2x"], scalars["calc_metrics_eval128"])


def test_one_empty_picture_spoils_means_over_pictures_alone(stored: Stored) -> None:
    tensors, scalars = stored
    logits, truth = tensors["in.logits"].clone(), tensors["in.gt"].clone()
    logits[1, 1], truth[1] = -100.0, 0
    check(logits, truth, scalars["calc_metrics_empty_image"])


def test_scores_of_batches_match(stored: Stored) -> None:
    tensors, scalars = stored
    metric = PartitionScores()
    for part in (slice(None, 4), slice(4, 8), slice(8, None)):
        metric.update(tensors["in.logits"][part].argmax(1), tensors["in.gt"][part])
    scores = metric.compute()
    assert float(scores["ari/batch"]) == pytest.approx(scalars["calc_metrics"]["ARI"], abs=1e-9)
    assert float(scores["msc/batch"]) == pytest.approx(scalars["calc_metrics"]["MSC"], abs=1e-6)


def test_covering_matches(stored: Stored) -> None:
    tensors, scalars = stored
    table = count_pairs(tensors["in.gt"], tensors["in.logits"].argmax(1), 2)
    mean, scaled = segmentation_covering(table)
    assert float(mean.mean()) == pytest.approx(scalars["segcover"]["mean"], abs=1e-6)
    assert float(scaled.mean()) == pytest.approx(scalars["segcover"]["scaled"], abs=1e-6)


def test_covering_is_the_best_overlap_of_each_true_segment() -> None:
    truth = torch.tensor([[[0, 0, 0, 1], [0, 0, 1, 1]]])
    found = torch.tensor([[[0, 0, 1, 1], [2, 2, 1, 1]]])
    mean, scaled = segmentation_covering(count_pairs(truth, found, 3))
    best = 2 / 5, 3 / 4
    assert float(mean) == pytest.approx(sum(best) / 2)
    assert float(scaled) == pytest.approx((5 * best[0] + 3 * best[1]) / 8)
