"""Scores against loops in plain Python."""

from __future__ import annotations

import logging
from itertools import combinations, permutations
from typing import Any

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


@pytest.mark.parametrize("regions", [2, 3])
def test_adjusted_rand_index_equals_loops_over_pairs_of_pixels(regions: int) -> None:
    probabilities = torch.rand(3, regions, 4, 5).softmax(dim=1)
    mask = torch.randint(regions, (3, 4, 5))
    values = []
    for found, truth in zip(probabilities.argmax(dim=1).flatten(1), mask.flatten(1), strict=True):
        pairs = list(combinations(range(20), 2))
        both = sum(bool(found[i] == found[j] and truth[i] == truth[j]) for i, j in pairs)
        ours, theirs = (sum(bool(x[i] == x[j]) for i, j in pairs) for x in (found, truth))
        expected = ours * theirs / len(pairs)
        values.append((both - expected) / ((ours + theirs) / 2 - expected))
    for batches in ([3], [1, 2]):
        metric = SegmentationScores(regions)
        for part in zip(probabilities.split(batches), mask.split(batches), strict=True):
            metric.update(*part)
        assert metric.compute()["ari/img"].item() == pytest.approx(sum(values) / 3, abs=1e-6)


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


@pytest.mark.parametrize("regions", [2, 3])
def test_scores_of_soft_truth_equal_loops(regions: int) -> None:
    probabilities, mask = scene(4, regions)
    share = torch.where(mask > 0, torch.rand(mask.shape) / 2 + 0.5, torch.rand(mask.shape) / 2)
    share[:, :3] = share[:, :3].round()
    metric = SegmentationScores(regions, truth="soft")
    metric.update(probabilities, (share >= 0.5).long(), share)
    hard = (probabilities[:, 1] >= 0.5).long() if regions == 2 else probabilities.argmax(dim=1)
    table = []
    for found, true in zip(hard.numpy(), share.double().numpy(), strict=True):
        for ground in range(regions):
            claimed = (found != ground).astype(float)
            hits = (claimed * true).sum()
            table.append(
                (hits / ((claimed + true >= 1).sum() + 1e-3),
                 2 * hits / (claimed.sum() + true.sum() + 1e-3))
            )  # fmt: skip
    expected = np.array(table).reshape(4, regions, 2)
    scores = metric.compute()
    for number, name in enumerate(("iou", "dice")):
        own = expected[:, :, number]
        assert scores[f"{name}/img/fixed"].item() == pytest.approx(own[:, 0].mean(), abs=1e-6)
        assert scores[f"{name}/img/oracle"].item() == pytest.approx(own.max(1).mean(), abs=1e-6)


def test_soft_truth_changes_no_other_score_and_needs_shares() -> None:
    probabilities, mask = scene(4, 2)
    soft, plain = SegmentationScores(truth="soft"), SegmentationScores()
    with pytest.raises(ValueError, match=r"truth=soft needs soft masks.*\(4, 12, 12\), got none"):
        soft.update(probabilities, mask)
    with pytest.raises(ValueError, match=r"got \(4, 6, 6\)"):
        soft.update(probabilities, mask, torch.ones(4, 6, 6))
    soft.update(probabilities, mask, mask.double())
    plain.update(probabilities, mask)
    own, others = soft.compute(), plain.compute()
    for name, value in own.items():
        near = 1e-4 if name.split("/")[0] in {"iou", "dice"} else 1e-9  # The added 0.001.
        assert value.item() == pytest.approx(others[name].item(), abs=near), name


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


def ground_scores(hard: np.ndarray, truth: np.ndarray, ground: int) -> np.ndarray:
    """Accuracy, IoU, Dice of one picture when everything but region `ground` is the object."""
    found = hard != ground
    both, either = (found & truth).sum(), (found | truth).sum()
    dice = 2 * both / (found.sum() + truth.sum()) if either else 1.0
    return np.array([(found == truth).mean(), both / either if either else 1.0, dice])


@pytest.mark.parametrize("regions", [2, 3, 6])
def test_several_regions_against_one_object_equal_loops(regions: int) -> None:
    probabilities, mask = scene(6, regions)
    metric = SegmentationScores(num_regions=regions, truth="binary")
    metric.update(probabilities[:4], mask[:4])
    metric.update(probabilities[4:], mask[4:])
    scores = metric.compute()
    hard, truth = probabilities.argmax(1).numpy(), mask.numpy() > 0
    table = np.array(
        [
            [ground_scores(h, t, ground) for h, t in zip(hard, truth, strict=True)]
            for ground in range(regions)
        ]
    )
    best = table[:, :, 1].mean(1).argmax()
    for index, name in enumerate(("acc", "iou", "dice")):
        expected = {
            "oracle": table[:, :, index].max(0).mean(),
            "set": table[best, :, index].mean(),
            "fixed": table[0, :, index].mean(),
        }
        for who, value in expected.items():
            assert scores[f"{name}/img/{who}"].item() == pytest.approx(value, abs=1e-6), who
    found = hard != best
    fg = (found & truth).sum() / (found | truth).sum()
    bg = (~found & ~truth).sum() / (~found | ~truth).sum()
    assert scores["iou/global/fg"].item() == pytest.approx(fg, abs=1e-6)
    fixed = scores["iou/global/fixed"].item()
    assert fixed <= fg + 1e-6
    assert scores["miou/global"].item() == pytest.approx((fg + bg) / 2, abs=1e-6)
    pairs = zip(found, truth, strict=True)
    grounds = [(~f & ~t).sum() / (~f | ~t).sum() for f, t in pairs]
    per_image = (table[best, :, 1] + grounds) / 2
    assert scores["miou/img"].item() == pytest.approx(per_image.mean(), abs=1e-6)


def test_several_regions_and_one_object_are_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    probabilities, mask = scene(3, 3)
    metric = SegmentationScores(num_regions=3)
    metric.update(probabilities, mask.clamp(max=1))
    with caplog.at_level(logging.WARNING):
        metric.compute()
        metric.reset()
        metric.update(probabilities, mask.clamp(max=1))
        metric.compute()
    assert len(caplog.records) == 1
    assert "truth=binary" in caplog.text


def test_global_scores_count_pixels_of_no_region_as_missed() -> None:
    probabilities = torch.full((1, 3, 4, 4), 1 / 3)
    probabilities[:, :, 0] = torch.tensor([1.0, 0, 0]).view(1, 3, 1)
    mask = torch.zeros(1, 4, 4, dtype=torch.long)
    mask[:, 3] = 2
    metric = SegmentationScores(num_regions=3, assign="threshold")
    metric.update(probabilities, mask)
    # Ground: 4 of 12 pixels found; region 1 is nowhere at all; region 2 is missed.
    assert metric.compute()["miou/global"].item() == pytest.approx((4 / 12 + 1 + 0) / 3)


def test_a_set_without_any_object_scores_as_told() -> None:
    probabilities = torch.zeros(2, 2, 4, 4)
    probabilities[:, 0] = 1
    for empty, value in (("one", 1.0), ("zero", 0.0)):
        metric = SegmentationScores(empty=empty)  # type: ignore[arg-type]  # one of the three
        metric.update(probabilities, torch.zeros(2, 4, 4, dtype=torch.uint8))
        assert metric.compute()["iou/global/fg"] == value


@pytest.mark.parametrize("cast", ["to", "half", "bfloat16", "float"])
def test_sums_keep_their_precision_in_a_method_of_low_precision(cast: str) -> None:
    method = torch.nn.ModuleDict({"scores": SegmentationScores()})
    method = method.to(torch.bfloat16) if cast == "to" else getattr(method, cast)()
    metric: Any = method["scores"]
    probabilities, mask = scene(4, 2)
    for _ in range(100):
        metric.update(probabilities, mask)
    assert metric.pairs.dtype == torch.float64
    assert metric.weight == 400
    metric.reset()
    assert metric.pairs.dtype == torch.float64


def test_f_at_levels_on_and_just_below_a_threshold_is_exact() -> None:
    levels = torch.arange(1, 256, dtype=torch.float64) / 255
    soft = torch.cat([levels, torch.nextafter(levels, torch.zeros_like(levels))])
    soft = torch.cat([soft, torch.zeros(2)]).view(1, 16, 32)
    mask = torch.randint(2, soft.shape, generator=torch.Generator().manual_seed(1))
    metric = SegmentationScores()
    metric.update(torch.stack([1 - soft, soft], 1), mask)
    for index, level in enumerate(levels):
        claimed = soft >= level
        hits, total = (claimed & (mask > 0)).sum(), 0.3 * mask.sum() + claimed.sum()
        assert metric.f_curve[index].item() == pytest.approx(float(1.3 * hits / total), abs=1e-6)
