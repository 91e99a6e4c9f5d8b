"""The segmenter is scored by partitions, too."""

from __future__ import annotations

import torch

from faults import build_tiny
from figureground.core.types import Batch


def test_segmenter_counts_partitions_of_binary_truth() -> None:
    method, _ = build_tiny("segmenter")
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    mask[:, :9], mask[:, 20:] = 1, 3  # Two objects: one foreground.
    method.eval()._update_scores("val", Batch(torch.rand(2, 3, 32, 32), ("a", "b"), mask))
    scores = method._scores["val/partition"].compute()
    assert set(scores) == {"ari/batch", "msc/batch", "msc", "msc/scaled"}
    assert 0 < float(scores["msc"]) <= 1
