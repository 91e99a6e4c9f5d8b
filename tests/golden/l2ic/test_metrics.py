"""Clustering scores and pixel entropies against the authors' values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from figureground.methods.segmenter.losses import binary_entropy
from figureground.metrics.clustering import ClusteringScores
from figureground.metrics.generation import FrechetDistance, InceptionScore
from figureground.metrics.segmentation import SegmentationScores

Golden = Callable[[str], Path]


@pytest.mark.parametrize("name", ["over3", "over1", "dogs_label_shift"])
def test_clustering_matches(golden: Golden, name: str) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    cluster, label = (stored[f"clus.{name}.{key}"] for key in ("pred", "gt"))
    num_classes, over = stored[f"clus.{name}.ngt_over"].tolist()
    # Their labels count from 1: the last class falls out of the table, the first row is empty.
    is_shifted = name == "dogs_label_shift"
    scores = ClusteringScores(num_classes * over, num_classes, "equal_share", is_shifted)
    scores.update(cluster, label)
    found = scores.compute()
    assert found["acc"].item() == pytest.approx(float(stored[f"clus.{name}.acc"]), rel=1e-6)
    assert found["nmi/max"].item() == pytest.approx(float(stored[f"clus.{name}.nmi"]), rel=1e-6)


def test_masks_are_scored_by_batches_and_with_either_polarity(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    found, mask = stored["seg.pred"][:, 0], stored["seg.gt"][:, 0].long()
    scores = SegmentationScores(average="batch")
    for part in (slice(0, 4), slice(4, 7)):
        scores.update(torch.stack([1 - found[part], found[part]], dim=1), mask[part])
    values = scores.compute()
    for name in ("iou", "dice"):
        expected = float(stored[f"seg.{name}_birds"])
        assert values[f"{name}/img/oracle"].item() == pytest.approx(expected, rel=1e-6)


def test_soft_masks_of_flowers_are_scored_as_they_are(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    found, share = stored["seg.pred"][:, 0], stored["seg.gt_soft"][:, 0]
    scores = SegmentationScores(truth="soft", average="batch")
    for part in (slice(0, 4), slice(4, 7)):
        probabilities = torch.stack([1 - found[part], found[part]], dim=1)
        scores.update(probabilities, (share[part] >= 0.5).long(), share[part])
    values = scores.compute()
    for name in ("iou", "dice"):
        expected = float(stored[f"seg.{name}_flowers"])
        assert values[f"{name}/img/oracle"].item() == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_matches(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    metric = FrechetDistance(stored["fid.feat_real"].shape[1], correction=1)
    metric.update(stored["fid.feat_real"], real=True)
    metric.update(stored["fid.feat_fake"], real=False)
    assert metric.compute().item() == pytest.approx(float(stored["fid.value"]), rel=1e-5)


def test_inception_score_matches(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    metric = InceptionScore(4)
    metric.update(stored["is.logits"].softmax(dim=1))
    mean, spread = metric.compute()
    assert mean.item() == pytest.approx(float(stored["is.mean"]), rel=1e-6)
    assert spread.item() == pytest.approx(float(stored["is.std"]), rel=1e-5)


def test_entropy_of_soft_masks_matches(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "metrics.safetensors")
    given = stored["pre_mask"][:, 0].double()
    found = binary_entropy(torch.logit(given), stored["mask"][:, 0].double())
    expected = stored["binary_entropy.syn_pre"].double().mean()
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
