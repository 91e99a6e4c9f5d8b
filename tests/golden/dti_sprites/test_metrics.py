"""Object, class and clustering scores against the authors' values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from torch import Tensor

from figureground.metrics.clustering import ClusteringScores
from figureground.metrics.objects import PixelClassScores, adjusted_rand_index, count_pairs


@pytest.fixture
def stored(golden: Callable[[str], Path]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder = golden("dti_sprites")
    with safe_open(folder / "metrics.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key).long() for key in file.keys()}  # noqa: SIM118
    return tensors, json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("with_background", [True, False])
def test_ari_matches(
    stored: tuple[dict[str, Tensor], dict[str, Any]], with_background: bool
) -> None:
    tensors, values = stored
    table = count_pairs(tensors["ari.gt"], tensors["ari.pred"], 4)
    if not with_background:
        table[:, 0] = 0
    found = adjusted_rand_index(table)
    theirs = values[f"ari_with_bkg_{with_background}"]
    assert found.tolist() == pytest.approx(theirs["per_image"], abs=1e-9)


@pytest.mark.parametrize(("name", "classes"), [("seg", 5), ("bin", 2)])
def test_classes_of_pixels_match(
    stored: tuple[dict[str, Tensor], dict[str, Any]], name: str, classes: int
) -> None:
    tensors, values = stored
    theirs = values["seg" if name == "seg" else "seg_binary"]
    scores = PixelClassScores(classes)
    for half in (slice(None, 3), slice(3, None)):
        scores.update(tensors[f"{name}.pred"][half], tensors[f"{name}.gt"][half])
    found = {key: float(value) for key, value in scores.compute().items()}
    for ours, key in (("acc", "global_acc"), ("macc", "avg_acc"), ("miou", "avg_iou")):
        assert found[ours] == pytest.approx(theirs[key], abs=1e-9)
        assert found[f"{ours}/fg"] == pytest.approx(theirs[f"{key}_nobkg"], abs=1e-9)


@pytest.mark.parametrize("name", ["equal", "more_clusters", "fewer_clusters"])
def test_clustering_matches(stored: tuple[dict[str, Tensor], dict[str, Any]], name: str) -> None:
    tensors, values = stored
    theirs = values[f"clus_{name}"]
    for which, clusters in (("first", "c"), ("second", "c2")):
        scores = ClusteringScores(theirs["n_clusters"], theirs["n_classes"])
        scores.update(tensors[f"clus.{name}.{clusters}"], tensors[f"clus.{name}.y"])
        found = {key: float(value) for key, value in scores.compute().items()}
        assert found["acc"] == pytest.approx(theirs[which]["global_acc"], abs=1e-6)
        assert found["acc/class"] == pytest.approx(theirs[which]["avg_acc"], abs=1e-6)
        assert found["nmi"] == pytest.approx(theirs[which]["nmi"], abs=1e-5)
