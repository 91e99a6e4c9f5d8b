"""Scores of the authors' code, and this suite's further ones by the definitions of its spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from figureground.metrics.saliency import SaliencyScores, f_measure

Golden = Callable[[str], Path]


def test_published_and_further_scores(golden: Golden) -> None:
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


def test_scores_of_each_picture(golden: Golden) -> None:
    stored = load_file(golden("gan_segmenter") / "metrics.safetensors")
    shares, target = stored["logits"].softmax(dim=1), stored["target"].long()
    precision, recall = (
        stored[f"per_image.f_beta_{name}"][:, 0] for name in ("precision", "recall")
    )
    below = 0.3 * precision + recall
    expected = {
        "acc": stored["per_image.acc"],
        "iou": stored["per_image.iou"],
        "f05": torch.where(below > 0, 1.3 * precision * recall / below, 0.0),
        "fadaptive": stored["ext.f_adaptive_per_image"],
    }
    for number, (share, mask) in enumerate(zip(shares, target, strict=True)):
        metric = SaliencyScores(empty="zero")
        metric.update(share[None], mask[None])
        found = metric.compute()
        for name, values in expected.items():
            value = values[number].double()
            torch.testing.assert_close(found[f"{name}/img"].double(), value, rtol=1e-5, atol=1e-6)


def test_precision_recall_and_f_at_every_threshold(golden: Golden) -> None:
    stored = load_file(golden("gan_segmenter") / "metrics.safetensors")
    soft = stored["logits"].softmax(dim=1)[:, 1].flatten(1)
    truth = stored["target"].flatten(1) > 0
    metric = SaliencyScores(empty="zero")
    hits, claimed = metric._count_above(soft, truth)
    middle = 127  # Ours has one threshold more, of 0.5.
    hits, claimed = (torch.cat([x[:, :middle], x[:, middle + 1 :]], 1) for x in (hits, claimed))
    size = truth.sum(dim=1, keepdim=True).double()
    precision = torch.where(claimed > 0, hits / claimed, 1.0)
    recall = torch.where(size > 0, hits / size, 1.0)
    for found, name in ((precision, "precision"), (recall, "recall")):
        theirs = stored[f"per_image.f_max_{name}"]
        torch.testing.assert_close(found.double(), theirs, rtol=1e-6, atol=1e-7)
    curve = f_measure(hits, claimed, size).mean(dim=0)
    torch.testing.assert_close(curve.float(), stored["f_curve"], rtol=1e-5, atol=1e-6)
