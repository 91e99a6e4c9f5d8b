"""Matching of clusters to classes, against loops over all ways to do it."""

from __future__ import annotations

import itertools

import pytest
import torch

from figureground.metrics.clustering import ClusteringScores


def drawn(num_clusters: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(num_clusters, (60,)), torch.randint(num_classes, (60,))


def scores_of(scores: ClusteringScores, cluster: torch.Tensor, label: torch.Tensor) -> dict:
    scores.update(cluster[:25], label[:25])
    scores.update(cluster[25:], label[25:])
    return {name: float(value) for name, value in scores.compute().items()}


def test_equal_share_is_the_best_of_all_ways() -> None:
    cluster, label = drawn(6, 3)
    best = 0
    for owners in set(itertools.permutations([0, 0, 1, 1, 2, 2])):
        best = max(best, sum(owners[c] == y for c, y in zip(cluster, label, strict=True)))
    found = scores_of(ClusteringScores(6, 3, "equal_share"), cluster, label)
    assert found["acc"] == pytest.approx(best / 60)
    assert found["acc/one_to_one"] < found["acc"] <= found["purity"]


@pytest.mark.parametrize(("clusters", "classes"), [(5, 3), (3, 5), (4, 4)])
def test_one_to_one_and_purity_are_those_of_loops(clusters: int, classes: int) -> None:
    cluster, label = drawn(clusters, classes)
    table = [[int(((cluster == c) & (label == y)).sum()) for c in range(clusters)]
             for y in range(classes)]  # fmt: skip
    larger, smaller = max(clusters, classes), min(clusters, classes)
    best = 0
    for chosen in itertools.permutations(range(larger), smaller):
        pairs = enumerate(chosen)
        cells = ((i, j) if classes <= clusters else (j, i) for i, j in pairs)
        best = max(best, sum(table[y][c] for y, c in cells))
    found = scores_of(ClusteringScores(clusters, classes, "one_to_one"), cluster, label)
    assert found["acc"] == found["acc/one_to_one"] == pytest.approx(best / 60)
    purity = sum(max(row[c] for row in table) for c in range(clusters)) / 60
    assert found["purity"] == pytest.approx(purity)


def test_perfect_and_useless_clusterings() -> None:
    label = torch.arange(60) % 3
    perfect = scores_of(ClusteringScores(6, 3, "equal_share"), label + 3 * (label > 3), label)
    assert perfect["purity"] == perfect["acc"] == 1
    assert perfect["nmi/max"] == pytest.approx(1, abs=1e-3)
    assert perfect["clusters"] == 3
    useless = scores_of(ClusteringScores(6, 3, "equal_share"), 0 * label, label)
    assert useless["acc"] == pytest.approx(1 / 3)
    assert useless["nmi/max"] == pytest.approx(0, abs=1e-3)


def test_classes_beyond_the_last_are_refused_or_left_out() -> None:
    label = torch.arange(8) % 4
    with pytest.raises(ValueError, match="classes go up to 3, expected at most 2"):
        scores_of(ClusteringScores(3, 3), label % 3, label)
    found = scores_of(ClusteringScores(3, 3, ignore_beyond=True), label % 3, label)
    assert found["acc"] == 1


def test_clusters_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match="num_clusters=7 is no multiple"):
        ClusteringScores(7, 3, "equal_share")
