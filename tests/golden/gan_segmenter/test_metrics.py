"""Scores of the authors' code, and this suite's further ones by the definitions of its spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from figureground.metrics.saliency import SaliencyScores


def test_published_and_further_scores(golden: Callable[[str], Path]) -> None:
    stored = load_file(golden("gan_segmenter") / "metrics.safetensors")
    metric = SaliencyScores(empty="zero")
    metric.update(stored["logits"].softmax(dim=1), stored["target"].long())
    found = metric.compute()
    expected = {
        "acc/img": "aggregate.acc", "iou/img": "aggregate.iou", "f05/img": "aggregate.f_beta",
        "fmax/img": "aggregate.f_max", "fmean/img": "ext.f_mean_over_thresholds",
        "fadaptive/img": "ext.f_adaptive", "mae/img": "ext.mae", "iou/global": "ext.global_iou",
    }  # fmt: skip
    for name, theirs in expected.items():
        torch.testing.assert_close(
            found[name].double(), stored[theirs].double(), rtol=1e-5, atol=1e-6, msg=name
        )
