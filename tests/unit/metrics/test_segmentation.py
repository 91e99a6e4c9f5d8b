"""Scores against loops in plain Python."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from figureground.metrics.segmentation import SegmentationScores


def scene(count: int, regions: int, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count * 10 + regions)
    logits = 2 * torch.randn(count, regions, size, size, generator=generator)
    mask = torch.randint(regions, (count, size, size), generator=generator)
    agree = torch.rand(count, 1, 1, 1, generator=generator) * 3
    logits += agree * torch.nn.functional.one_hot(mask, regions).movedim(3, 1)
    return logits.softmax(1), mask


def scores_of(hard: np.ndarray, truth: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Accuracy, IoU, Dice of one picture when truth t is region order[t]."""
    regions = range(len(order))
    counted = [1] if len(order) == 2 else regions
    iou, dice = [], []
    for t in counted:
        a, b = hard == order[t], truth == t
        both, either = (a & b).sum(), (a | b).sum()
        iou.append(both / either if either else 1.0)
        dice.append(2 * both / (a.sum() + b.sum()) if either else 1.0)
    accuracy = sum(((hard == order[t]) & (truth == t)).sum() for t in regions) / hard.size
    return np.array([accuracy, np.mean(iou), np.mean(dice)])


def brute(probabilities: Tensor, mask: Tensor) -> dict[str, float]:
    regions = probabilities.shape[1]
    soft = probabilities.numpy()
    hard = (soft[:, 1] >= 0.5).astype(int) if regions == 2 else soft.argmax(1)
    orders = list(permutations(range(regions)))
    table = np.array(
        [[scores_of(h, t, o) for h, t in zip(hard, mask.numpy(), strict=True)] for o in orders]
    )
    best = table[:, :, 1].mean(1).argmax()
    found = {}
    for index, name in enumerate(("acc", "iou", "dice")):
        found[f"{name}/img/oracle"] = table[:, :, index].max(0).mean()
        found[f"{name}/img/set"] = table[best, :, index].mean()
        found[f"{name}/img/fixed"] = table[0, :, index].mean()
    return found


@pytest.mark.parametrize("regions", [2, 3, 4, 5])
def test_scores_equal_loops(regions: int) -> None:
    probabilities, mask = scene(7, regions)
    metric = SegmentationScores(num_regions=regions)
    metric.update(probabilities[:4], mask[:4])
    metric.update(probabilities[4:], mask[4:])
    found = metric.compute()
    for name, value in brute(probabilities, mask).items():
        assert found[name].item() == pytest.approx(value, abs=1e-6), name


def test_f_measures_equal_loops() -> None:
    probabilities, mask = scene(5, 2)
    metric = SegmentationScores()
    metric.update(probabilities, mask)
    curve = []
    for level in np.arange(1, 256) / 255:
        values = []
        for p, t in zip(probabilities[:, 1].double().numpy(), mask.numpy() > 0, strict=True):
            claimed = p >= level
            hit = (claimed & t).sum()
            total = 0.3 * t.sum() + claimed.sum()
            values.append(1.3 * hit / total if total else 0.0)
        curve.append(np.mean(values))
    assert metric.compute()["fmax/img"].item() == pytest.approx(max(curve), abs=1e-6)


def test_global_scores_are_of_sums() -> None:
    probabilities, mask = scene(5, 2)
    metric = SegmentationScores()
    metric.update(probabilities, mask)
    hard, truth = (probabilities[:, 1] >= 0.5), mask == 1
    best = max(float((h & truth).sum() / (h | truth).sum()) for h in (hard, ~hard))
    assert metric.compute()["iou/global/fg"].item() == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("empty", "value"), [("one", 1.0), ("zero", 0.0), ("nan", float("nan"))])
def test_two_empty_masks_score_as_told(empty: str, value: float) -> None:
    probabilities = torch.zeros(1, 2, 4, 4)
    probabilities[:, 0] = 1
    metric = SegmentationScores(empty=empty)  # type: ignore[arg-type]  # one of the three
    metric.update(probabilities, torch.zeros(1, 4, 4, dtype=torch.long))
    scores = metric.compute()
    assert scores["iou/img/fixed"].item() == pytest.approx(value, nan_ok=True)
    assert scores["empty_pairs"] == 1


def test_polarity_is_found_per_set_and_per_picture() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.long)
    mask[:, :2] = 1
    right = torch.nn.functional.one_hot(mask, 2).movedim(3, 1).float()
    metric = SegmentationScores()
    metric.update(torch.stack([right[0], 1 - right[1]]), mask)
    scores = metric.compute()
    assert scores["iou/img/oracle"] == 1
    assert scores["iou/img/set"] == 0.5
    flipped = SegmentationScores()
    flipped.update(1 - right, mask)
    assert flipped.compute()["iou/img/set"] == 1
    assert flipped.compute()["iou/img/fixed"] == 0


def test_sizes_are_matched_and_half_precision_is_taken() -> None:
    probabilities, _ = scene(2, 2, 8)
    metric = SegmentationScores()
    metric.update(probabilities.bfloat16(), torch.ones(2, 16, 16, dtype=torch.long))
    assert 0 < metric.compute()["iou/img/fixed"] < 1


def test_wrong_regions_are_refused_and_objects_merged() -> None:
    probabilities, mask = scene(2, 3)
    with pytest.raises(ValueError, match="expected probabilities of 2 regions"):
        SegmentationScores().update(probabilities, mask)
    SegmentationScores().update(probabilities[:, :2], mask)
    with pytest.raises(ValueError, match="mask has region 4"):
        SegmentationScores(num_regions=3).update(probabilities, mask + 2)


def test_states_add_up() -> None:
    probabilities, mask = scene(6, 2)
    whole, one, two = (SegmentationScores() for _ in range(3))
    whole.update(probabilities, mask)
    one.update(probabilities[:2], mask[:2])
    two.update(probabilities[2:], mask[2:])
    for name in ("pairs", "oracle", "confusion", "f_curve", "weight"):
        torch.testing.assert_close(getattr(one, name) + getattr(two, name), getattr(whole, name))
