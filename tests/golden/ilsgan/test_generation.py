"""Scores of drawn pictures and of dependence between layers against the authors' code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from figureground.metrics.generation import FrechetDistance, InceptionScore, KernelDistance
from figureground.metrics.information import StatisticsNetwork, donsker_varadhan

Stored = tuple[dict[str, Tensor], dict[str, Any]]


@pytest.fixture
def stored(golden: Callable[[str], Path]) -> Stored:
    folder = golden("ilsgan")
    scalars = json.loads((folder / "scalars_eval.json").read_text())
    return load_file(folder / "gan_metrics.safetensors"), scalars


def feed(metric: FrechetDistance | KernelDistance, tensors: dict[str, Tensor]) -> float:
    """In batches of odd sizes, real and drawn ones mixed."""
    for part in range(0, 60, 7):
        metric.update(tensors["real"][part : part + 7], real=True)
        metric.update(tensors["gen"][part : part + 7], real=False)
    return float(metric.compute())


def test_frechet_distance_matches(stored: Stored) -> None:
    tensors, scalars = stored
    assert feed(FrechetDistance(8), tensors) == pytest.approx(scalars["fid"], rel=1e-6)


def test_kernel_distance_matches(stored: Stored) -> None:
    tensors, scalars = stored
    metric = KernelDistance(num_subsets=5, subset_size=1000, seed=scalars["seed"])
    assert feed(metric, tensors) == pytest.approx(scalars["kid_seeded"], rel=1e-5)


def test_inception_score_matches(stored: Stored) -> None:
    tensors, scalars = stored
    metric = InceptionScore(scalars["is"]["splits"])
    for part in range(0, 40, 7):
        metric.update(tensors["probs"][part : part + 7])
    mean, spread = (float(value) for value in metric.compute())
    assert mean == pytest.approx(scalars["is"]["mean"], rel=1e-6)
    assert spread == pytest.approx(scalars["is"]["std"], rel=1e-5)


def test_bound_of_mine_matches(golden: Callable[[str], Path]) -> None:
    tensors = load_file(golden("ilsgan") / "mine.safetensors")
    network = StatisticsNetwork(96, 16)
    names = {"0": "hidden", "2": "out"}
    network.load_state_dict(
        {
            f"{names[key.split('.')[2]]}.{key.split('.')[3]}": value
            for key, value in tensors.items()
            if key.startswith("sd.")
        }
    )
    x, y = tensors["in.x"], tensors["in.y"]
    bound = donsker_varadhan(network(x, y), network(x, y[tensors["in.shuffle"]]))
    assert bound.item() == pytest.approx(float(tensors["out.lower_bound"]), abs=1e-6)
