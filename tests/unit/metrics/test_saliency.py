"""Saliency scores against loops over pictures and thresholds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from figureground.metrics.saliency import SaliencyScores, _thresholds, find_levels

THRESHOLDS = [k / 255 for k in range(1, 255)]


def scene() -> tuple[Tensor, Tensor]:
    """Pictures with probabilities on and between thresholds; empty and full ones among them."""
    chance = torch.Generator().manual_seed(0)
    soft = torch.rand(7, 9, 11, generator=chance)
    soft[0] = torch.randint(256, (9, 11), generator=chance) / 255
    soft[1] = torch.where(soft[1] > 0.6, 0.5, 0.25)
    soft[2], soft[3] = 0.0, 1.0
    mask = (torch.rand(7, 9, 11, generator=chance) < 0.3).long()
    mask[4], mask[5], mask[2] = 0, 1, 0
    return soft, mask


def f_of(claimed: Tensor, truth: Tensor) -> float:
    both, all_claimed, size = (int(x.sum()) for x in (claimed & truth, claimed, truth))
    precision = both / all_claimed if all_claimed else 1.0
    recall = both / size if size else 1.0
    return 1.3 * precision * recall / (0.3 * precision + recall) if precision + recall else 0.0


def brute(pictures: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Scores of pictures one by one; of a single one with everything in it, the global ones."""
    count = len(pictures)
    curve = [sum(f_of(p > t, m) for p, m in pictures) / count for t in THRESHOLDS]
    iou = [int(((p > 0.5) & m).sum()) / max(int(((p > 0.5) | m).sum()), 1) for p, m in pictures]
    return {
        "acc": sum(float(((p > 0.5) == m).double().mean()) for p, m in pictures) / count,
        "iou": sum(iou) / count,
        "f05": sum(f_of(p > 0.5, m) for p, m in pictures) / count,
        "fmax": max(curve),
        "fmean": sum(curve) / len(curve),
        "mae": sum(float((p.double() - m.double()).abs().mean()) for p, m in pictures) / count,
    }


@pytest.mark.parametrize("batches", [1, 3])
def test_all_scores_equal_loops(batches: int) -> None:
    soft, mask = scene()
    metric = SaliencyScores(empty="zero")
    for p, m in zip(soft.chunk(batches), mask.chunk(batches), strict=True):
        metric.update(torch.stack([1 - p, p], dim=1), m)
    found = {name: float(value) for name, value in metric.compute().items()}
    pictures = list(zip(soft, mask > 0, strict=True))
    adaptive = [(p >= min(1.0, float(2 * p.mean())), m) for p, m in pictures]
    expected = {f"{name}/img": value for name, value in brute(pictures).items()}
    expected |= {f"{k}/global": v for k, v in brute([(soft, mask > 0)]).items()}
    expected["fadaptive/img"] = sum(f_of(*pair) for pair in adaptive) / len(adaptive)
    together = [torch.stack([pair[n] for pair in adaptive]) for n in (0, 1)]
    expected["fadaptive/global"] = f_of(*together)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-7), name
    assert found["iou/img"] <= found["iou/img/fixed"] <= 1  # The one on p >= 0.5.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_those_of_a_search(dtype: torch.dtype) -> None:
    bounds = _thresholds(torch.zeros(1, dtype=dtype))
    beside = [torch.nextafter(bounds, torch.tensor(end, dtype=dtype)) for end in (-1.0, 2.0)]
    edges = torch.tensor([0.0, 1.0, 1 - 1e-7, 1e-7], dtype=dtype)
    soft = torch.cat([bounds, *beside, edges, torch.rand(1000, dtype=dtype)])
    assert torch.equal(find_levels(soft).long(), torch.bucketize(soft, bounds))


def test_probabilities_of_another_size_are_enlarged() -> None:
    soft, mask = scene()
    small = torch.nn.functional.interpolate(soft[:, None], (4, 5), mode="bilinear")
    large = torch.nn.functional.interpolate(small, (9, 11), mode="bilinear")
    one, two = SaliencyScores(), SaliencyScores()
    one.update(torch.cat([1 - small, small], dim=1), mask)
    two.update(torch.cat([1 - large, large], dim=1), mask)
    for name, value in two.compute().items():
        torch.testing.assert_close(one.compute()[name], value, msg=name)


def test_more_than_two_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="num_regions must be 2, got 3"):
        SaliencyScores(num_regions=3)
