"""Bounds on mutual information against closed forms, and what is told of layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from figureground.core.types import Layers
from figureground.metrics.information import (
    MutualInformation,
    StatisticsNetwork,
    donsker_varadhan,
    flatten_layers,
    info_nce,
    pair_layers,
)


def normals(count: int, correlation: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs of normals whose information is -log(1 - correlation^2) / 2."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, count, 1, generator=generator)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def quick(objective: str = "mine", **more: int) -> MutualInformation:
    options = {"iterations": 600, "evaluate_every": 20, "num_hidden": 64, "batch_size": 256} | more
    return MutualInformation(objective, lr=5e-3, **options)


@pytest.mark.parametrize("objective", ["mine", "infonce"])
def test_estimates_approach_the_truth(objective: str) -> None:
    pairs = {"close": normals(2000, 0.9), "apart": normals(2000, 0.0)}
    fresh = {"close": normals(2000, 0.9, seed=1), "apart": normals(2000, 0.0, seed=1)}
    # All pairs of a batch are compared for InfoNCE, which takes its time.
    few = {"batch_size": 64, "iterations": 300, "num_hidden": 32} if objective == "infonce" else {}
    found = quick(objective, **few).estimate(pairs, fresh)
    assert set(found) == {
        f"{objective}/{name}{kind}" for name in pairs for kind in ("", "/held_out")
    }
    truth = -math.log(1 - 0.9**2) / 2
    assert found[f"{objective}/close/held_out"] == pytest.approx(truth, abs=0.15)
    assert abs(found[f"{objective}/apart/held_out"]) < 0.1


def test_few_samples_are_learnt_by_heart_and_held_out_ones_show_it() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, other, another = torch.randn(4, 60, 30, generator=generator)
    found = quick().estimate({"noise": (x, y)}, {"noise": (other, another)})
    assert found["mine/noise"] > 1
    assert found["mine/noise/held_out"] < 0.2


def test_estimates_repeat_and_leave_the_global_generator_alone() -> None:
    pairs = {"a": normals(100, 0.5)}
    before = torch.random.get_rng_state()
    one, two = (quick(iterations=30).estimate(pairs) for _ in range(2))
    assert one == two
    assert torch.equal(before, torch.random.get_rng_state())
    assert quick(iterations=30, seed=1).estimate(pairs) != one


def test_bounds_equal_loops() -> None:
    scores = torch.randn(5, 5, dtype=torch.float64)
    expected = sum(
        float(scores[i, i]) - math.log(sum(math.exp(float(s)) for s in scores[i]) / 5)
        for i in range(5)
    )
    assert float(info_nce(scores)) == pytest.approx(expected / 5)
    shuffled = torch.randn(7, dtype=torch.float64)
    expected = float(scores[0].mean()) - math.log(sum(math.exp(float(s)) for s in shuffled) / 7)
    assert float(donsker_varadhan(scores[0], shuffled)) == pytest.approx(expected)


def test_all_pairs_at_once_equal_each_alone() -> None:
    network = StatisticsNetwork(2 * 12, 8)
    x, y = torch.randn(4, 3, 2, 2), torch.randn(5, 3, 2, 2)
    table = network.compare_all(x, y)
    for column in range(5):
        each = network(x, y[column].expand(4, -1, -1, -1))
        torch.testing.assert_close(table[:, column], each)


def test_published_network_has_its_size() -> None:
    with torch.device("meta"):
        network = StatisticsNetwork(2 * 3 * 64 * 64)
    assert sum(p.numel() for p in network.parameters()) == 73_734_001


def test_batches_without_a_finite_bound_change_nothing() -> None:
    x, y = normals(20, 0.5)
    x[3] = float("inf")
    found = MutualInformation(iterations=5, batch_size=20, num_hidden=4).estimate({"a": (x, y)})
    assert math.isnan(found["mine/a"])


def test_unequal_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many samples"):
        quick().estimate({"a": (torch.zeros(3, 1), torch.zeros(4, 1))})


def test_asking_to_stop_is_heard() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick().estimate({"a": normals(10, 0.5)}, check=stop)


def test_layers_are_paired_as_published() -> None:
    color, soft = torch.rand(2, 2, 3, 4, 4) * 2 - 1, torch.rand(2, 1, 4, 4)
    layers = Layers(color, torch.stack([1 - soft, soft], dim=1))
    ground, front, mask = flatten_layers(layers)
    torch.testing.assert_close(mask, soft)
    pairs = pair_layers(ground, front, mask, "separate")
    x, y = pairs["visible_fg"]
    torch.testing.assert_close(x + pairs["visible_bg"][0], layers.composite)
    torch.testing.assert_close(y, color[:, 0] * soft)
    torch.testing.assert_close(pairs["visible_bg"][1], color[:, 1] * (1 - soft))
    assert set(pair_layers(ground, front, mask, "single")) == {"whole"}


def test_several_objects_count_as_one_foreground() -> None:
    color = torch.rand(2, 4, 3, 5, 5) * 2 - 1
    alpha = torch.randn(2, 4, 1, 5, 5).softmax(dim=1)
    alpha[0] = torch.tensor([1.0, 0, 0, 0]).view(4, 1, 1, 1)
    layers = Layers(color, alpha)
    ground, front, mask = flatten_layers(layers)
    torch.testing.assert_close((1 - mask) * ground + mask * front, layers.composite)
    assert front.isfinite().all()
