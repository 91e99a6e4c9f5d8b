"""The segmenter is scored by partitions, too."""

from __future__ import annotations

import pytest
import torch

from faults import build_tiny
from figureground.core.types import Batch
from figureground.metrics.objects import PartitionScores, adjusted_rand_index, count_pairs


def test_segmenter_counts_partitions_of_binary_truth() -> None:
    method, _ = build_tiny("segmenter")
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    mask[:, :9], mask[:, 20:] = 1, 3  # Two objects: one foreground.
    method.eval()._update_scores("val", Batch(torch.rand(2, 3, 32, 32), ("a", "b"), mask))
    scores = method._scores["val/partition"].compute()
    assert set(scores) == {"ari", "ari/batch", "msc/batch", "msc", "msc/scaled"}
    assert 0 < float(scores["msc"]) <= 1


def test_scores_of_pictures_do_not_depend_on_batches() -> None:
    found, truth = torch.randint(2, (2, 5, 8, 8))
    whole, parts = PartitionScores(), PartitionScores()
    whole.update(found, truth)
    for part in (slice(None, 2), slice(2, None)):
        parts.update(found[part], truth[part])
    mean = adjusted_rand_index(count_pairs(truth, found, 2)).mean()
    for metric in (whole, parts):
        assert float(metric.compute()["ari"]) == pytest.approx(float(mean))
    assert float(whole.compute()["ari/batch"]) != pytest.approx(float(mean))
