"""Void pixels: every score equals a loop over what is left when they are deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import comb
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from figureground.core.types import VOID, Batch
from figureground.metrics.objects import ObjectScores, PartitionScores, PixelClassScores
from figureground.metrics.saliency import SaliencyScores
from figureground.metrics.segmentation import SegmentationScores

Array = npt.NDArray[Any]
SIDE, BATCHES = 10, (3, 1, 2, 3)


@dataclass
class Left:
    """A picture without its void pixels: probabilities (K, N), truth (N,), shares (N,)."""

    soft: Array
    truth: Array
    share: Array
    weight: float = 1.0


def scene(regions: int, labels: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, masks with void pixels, shares. Picture 3 is a batch of its own, all void.

    Picture 4 is all void beside others, 1 has void for its only object, 2 one pixel that is not
    void, 5 none that is void.
    """
    chance = torch.Generator().manual_seed(regions)
    count = sum(BATCHES)
    mask = torch.randint(labels or regions, (count, SIDE, SIDE), generator=chance)
    logits = 2 * torch.randn(count, regions, SIDE, SIDE, generator=chance)
    known = torch.nn.functional.one_hot(mask.clamp(max=regions - 1), regions).movedim(3, 1)
    logits += 2 * torch.rand(count, 1, 1, 1, generator=chance) * known
    share = (mask > 0) * (0.5 + torch.rand(mask.shape, generator=chance) / 2)
    share = torch.where(torch.rand(mask.shape, generator=chance) < 0.3, share.ceil(), share)
    void = torch.rand(mask.shape, generator=chance) < 0.3
    void[1], void[3:5], void[5] = mask[1] > 0, True, False
    void[2], void[2, 4, 7] = True, False
    return logits.softmax(dim=1), mask.masked_fill(void, VOID), share


def delete(probabilities: Tensor, mask: Tensor, share: Tensor, by_batch: bool) -> list[Left]:
    """Pictures that have a pixel left, each weighed as its batch has it."""
    left = []
    for part in zip(*(x.split(BATCHES) for x in (probabilities, mask, share)), strict=True):
        own = []
        for p, m, s in zip(*(each.double().numpy() for each in part), strict=True):
            kept = [(y, x) for y, x in product(range(SIDE), repeat=2) if m[y, x] != VOID]
            if kept:
                rows, columns = (list(each) for each in zip(*kept, strict=True))
                own.append(Left(p[:, rows, columns], m[rows, columns], s[rows, columns]))
        for each in own:
            each.weight = 1 / len(own) if by_batch else 1.0
        left += own
    return left


def mean(pictures: Sequence[Left], values: Sequence[float]) -> float:
    total = sum(each.weight * value for each, value in zip(pictures, values, strict=True))
    return total / sum(each.weight for each in pictures)


def overlap(a: Array, b: Array) -> tuple[int, int]:
    return int((a & b).sum()), int((a | b).sum())


def ratio(part: float, whole: float, empty: float = 1.0) -> float:
    return part / whole if whole else empty


def rand_index(truth: Array, found: Array) -> float:
    pairs = Counter(zip(truth.tolist(), found.tolist(), strict=True))
    both = sum(comb(n, 2) for n in pairs.values())
    ours, theirs = (sum(comb(n, 2) for n in Counter(x.tolist()).values()) for x in (truth, found))
    expected = ours * theirs / max(comb(len(truth), 2), 1)
    spread = (ours + theirs) / 2 - expected
    return (both - expected) / spread if spread else 1.0


# -- regions -----------------------------------------------------------------------------------


def assign(each: Left) -> Array:
    best = each.soft.argmax(axis=0)
    return np.asarray(each.soft[1] >= 0.5, int) if len(each.soft) == 2 else best


def claims(each: Left, matching: tuple[int, ...] | int) -> Iterator[tuple[Array, Array]]:
    """True and found pixels of each true region, background first."""
    hard = assign(each)
    if isinstance(matching, int):  # Binary truth: this region is the ground.
        yield each.truth == 0, hard == matching
        yield each.truth > 0, hard != matching
    else:
        for region, own in enumerate(matching):
            yield each.truth == region, hard == own


def measures(each: Left, matching: tuple[int, ...] | int) -> tuple[float, ...]:
    """Accuracy, IoU, Dice and mean IoU of a picture."""
    pairs = list(claims(each, matching))
    accuracy = sum(int((t & f).sum()) for t, f in pairs) / len(each.truth)
    iou = [ratio(*overlap(t, f)) for t, f in pairs]
    dice = [ratio(2 * overlap(t, f)[0], int(t.sum() + f.sum())) for t, f in pairs]
    if isinstance(matching, int):
        return accuracy, iou[1], dice[1], sum(iou) / 2
    return accuracy, sum(iou) / len(iou), sum(dice) / len(dice), sum(iou) / len(iou)


def segmentation_twin(pictures: list[Left], regions: int, binary: bool) -> dict[str, float]:
    ways: list[Any] = list(range(regions)) if binary else list(permutations(range(regions)))
    table = np.array([[measures(each, way) for each in pictures] for way in ways])
    best = int(np.argmax([mean(pictures, table[number, :, 1]) for number in range(len(ways))]))
    found = {"miou/img": mean(pictures, table[best, :, 3])}
    for index, name in enumerate(("acc", "iou", "dice")):
        found[f"{name}/img/oracle"] = mean(pictures, table[:, :, index].max(axis=0))
        found[f"{name}/img/set"] = mean(pictures, table[best, :, index])
        found[f"{name}/img/fixed"] = mean(pictures, table[0, :, index])
    for way, inner, outer in ((best, "fg", ""), (0, "fixed", "/fixed")):
        sums = np.array([[overlap(*c) for c in claims(each, ways[way])] for each in pictures])
        iou = [ratio(*pair) for pair in sums.sum(axis=0).tolist()]
        found[f"iou/global/{inner}"] = sum(iou[1:]) / len(iou[1:])
        found[f"miou/global{outer}"] = sum(iou) / len(iou)
    truths = [np.minimum(each.truth, 1) if binary else each.truth for each in pictures]
    index = [rand_index(t, assign(each)) for t, each in zip(truths, pictures, strict=True)]
    return found | {"ari/img": mean(pictures, index)}


def f_score(claimed: Array, truth: Array) -> float:
    return ratio(1.3 * int((claimed & truth).sum()), 0.3 * truth.sum() + claimed.sum(), 0.0)


def f_twin(pictures: list[Left]) -> dict[str, float]:
    softs = [e.soft[1] if len(e.soft) == 2 else 1 - e.soft[0] for e in pictures]
    truths = [each.truth > 0 for each in pictures]

    def at(level: float) -> float:
        return mean(pictures, [f_score(s >= level, t) for s, t in zip(softs, truths, strict=True)])

    return {"f05/img": at(0.5), "fmax/img": max(at(k / 255) for k in range(1, 256))}


def feed(metric: Any, *values: Tensor) -> dict[str, float]:
    for part in zip(*(value.split(BATCHES) for value in values), strict=True):
        metric.update(*part)
    return {name: float(value) for name, value in metric.compute().items()}


def agree(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert not any(np.isnan(value) for value in found.values())


@pytest.mark.parametrize("average", ["image", "batch"])
@pytest.mark.parametrize(
    ("regions", "truth"), [(2, "regions"), (3, "regions"), (5, "regions"), (3, "binary")]
)
def test_scores_of_regions_are_those_of_what_is_left(
    regions: int, truth: Literal["regions", "binary"], average: Literal["image", "batch"]
) -> None:
    probabilities, mask, share = scene(regions)
    pictures = delete(probabilities, mask, share, average == "batch")
    binary = regions == 2 or truth == "binary"
    expected = segmentation_twin(pictures, regions, binary)
    if binary:
        expected |= f_twin(pictures)
        empty = [e for e in pictures if not (e.truth > 0).any() and not assign(e).any()]
        expected["empty_pairs"] = len(empty)
    metric = SegmentationScores(regions, truth=truth, average=average)
    agree(feed(metric, probabilities, mask), expected)


@pytest.mark.parametrize("regions", [2, 3])
def test_scores_of_soft_truth_are_those_of_what_is_left(regions: int) -> None:
    probabilities, mask, share = scene(regions)
    pictures = delete(probabilities, mask, share, by_batch=False)
    expected: dict[str, list[list[float]]] = {"iou": [], "dice": []}
    for each in pictures:
        claimed = [(assign(each) != ground).astype(float) for ground in range(regions)]
        hits = [float((c * each.share).sum()) for c in claimed]
        unions = [int((c + each.share >= 1).sum()) for c in claimed]
        sizes = [float(c.sum() + each.share.sum()) for c in claimed]
        expected["iou"].append([h / (u + 1e-3) for h, u in zip(hits, unions, strict=True)])
        expected["dice"].append([2 * h / (s + 1e-3) for h, s in zip(hits, sizes, strict=True)])
    found = feed(SegmentationScores(regions, truth="soft"), probabilities, mask, share)
    for name, rows in expected.items():
        table = np.array(rows)
        assert found[f"{name}/img/fixed"] == pytest.approx(table[:, 0].mean(), abs=1e-6)
        assert found[f"{name}/img/oracle"] == pytest.approx(table.max(axis=1).mean(), abs=1e-6)


def test_small_probabilities_are_enlarged_before_pixels_are_deleted() -> None:
    probabilities, mask, share = scene(2)
    small = torch.nn.functional.interpolate(probabilities.double(), (5, 5), mode="bilinear")
    large = torch.nn.functional.interpolate(small, (SIDE, SIDE), mode="bilinear")
    expected = segmentation_twin(delete(large, mask, share, by_batch=False), 2, True)
    agree(feed(SegmentationScores(), small, mask), expected)


# -- saliency ----------------------------------------------------------------------------------


def saliency_f(claimed: Array, truth: Array) -> float:
    both = int((claimed & truth).sum())
    precision, recall = ratio(both, int(claimed.sum())), ratio(both, int(truth.sum()))
    return ratio(1.3 * precision * recall, 0.3 * precision + recall, 0.0)


def saliency_twin(pictures: Sequence[tuple[Array, Array]]) -> dict[str, float]:
    def average(value: Callable[[Array, Array], float]) -> float:
        return float(np.mean([value(p, t) for p, t in pictures]))

    curve = [average(lambda p, t, k=k: saliency_f(p > k / 255, t)) for k in range(1, 255)]  # type: ignore[misc]
    return {
        "acc": average(lambda p, t: float(((p > 0.5) == t).mean())),
        "iou": average(lambda p, t: ratio(*overlap(p > 0.5, t), 0.0)),
        "f05": average(lambda p, t: saliency_f(p > 0.5, t)),
        "fmax": max(curve),
        "fmean": sum(curve) / len(curve),
        "mae": average(lambda p, t: float(np.abs(p - t).mean())),
    }


def test_saliency_scores_are_those_of_what_is_left() -> None:
    probabilities, mask, share = scene(2)
    pictures = [(e.soft[1], e.truth > 0) for e in delete(probabilities, mask, share, False)]
    expected = {f"{name}/img": value for name, value in saliency_twin(pictures).items()}
    whole = [(np.concatenate([p for p, _ in pictures]), np.concatenate([t for _, t in pictures]))]
    expected |= {f"{name}/global": value for name, value in saliency_twin(whole).items()}
    adaptive = [(p >= min(1.0, 2 * p.mean()), t) for p, t in pictures]
    expected["fadaptive/img"] = float(np.mean([saliency_f(*pair) for pair in adaptive]))
    joined = [np.concatenate([pair[n] for pair in adaptive]) for n in (0, 1)]
    expected["fadaptive/global"] = saliency_f(*joined)
    agree(feed(SaliencyScores(), probabilities, mask), expected)


# -- objects, partitions, classes --------------------------------------------------------------


def objects_twin(pictures: Sequence[tuple[Array, Array, Array]]) -> dict[str, float]:
    index, inside, instances = [], [], []
    for truth, found, filled in pictures:
        index.append(rand_index(truth, found))
        inside.append(rand_index(truth[truth > 0], filled[truth > 0]))
        own = sorted({*truth.tolist()} - {0})
        best = 0.0
        for order in permutations(range(1, 4), len(own)):
            pairs = zip(own, order, strict=True)
            best = max(best, sum(ratio(*overlap(truth == t, found == f)) for t, f in pairs))
        instances.append(best / len(own) if own else 1.0)
    names = ("ari", "ari/fg", "miou/instance")
    return {n: float(np.mean(v)) for n, v in zip(names, (index, inside, instances), strict=True)}


def test_scores_of_objects_are_those_of_what_is_left() -> None:
    probabilities, mask, _ = scene(4)
    found, filled = probabilities.argmax(dim=1), 1 + probabilities[:, 1:].argmax(dim=1)
    pictures = []
    for t, f, g in zip(mask.numpy(), found.numpy(), filled.numpy(), strict=True):
        if (t != VOID).any():
            pictures.append((t[t != VOID], f[t != VOID], g[t != VOID]))
    agree(feed(ObjectScores(4), found, filled, mask), objects_twin(pictures))


def covering(truth: Array, found: Array) -> tuple[float, float]:
    parts = sorted({*truth.tolist()})
    best = [max(ratio(*overlap(truth == t, found == f)) for f in range(3)) for t in parts]
    sizes = [int((truth == t).sum()) for t in parts]
    weighed = sum(b * s for b, s in zip(best, sizes, strict=True)) / sum(sizes)
    return sum(best) / len(best), weighed


def test_scores_of_partitions_are_those_of_what_is_left() -> None:
    probabilities, mask, _ = scene(3, labels=4)  # The last true object is counted as third.
    found = probabilities.argmax(dim=1)
    scores, batches = [], []
    for masks, maps in zip(mask.split(BATCHES), found.split(BATCHES), strict=True):
        pairs = [
            (np.minimum(t[t != VOID], 2), f[t != VOID])
            for t, f in zip(masks.numpy(), maps.numpy(), strict=True)
            if (t != VOID).any()
        ]
        if pairs:
            own = [covering(*pair) for pair in pairs]
            scores += own
            joined = [np.concatenate([pair[n] for pair in pairs]) for n in (0, 1)]
            batches.append((rand_index(*joined), float(np.mean([msc for msc, _ in own]))))
    expected = dict(zip(("msc", "msc/scaled"), np.mean(scores, axis=0).tolist(), strict=True))
    means = np.mean(batches, axis=0).tolist()
    expected |= dict(zip(("ari/batch", "msc/batch"), means, strict=True))
    agree(feed(PartitionScores(3), found, mask), expected)


def classes_twin(truth: Array, found: Array, names: range) -> dict[str, float]:
    orders = permutations(names)
    order = max(
        orders,
        key=lambda o: sum(
            overlap(truth == t, found == f)[0] for t, f in zip(names, o, strict=True)
        ),
    )
    pairs = list(zip(names, order, strict=True))
    known = np.isin(truth, names) & np.isin(found, names)
    truth, found = truth[known], found[known]
    hits = [overlap(truth == t, found == f) for t, f in pairs]
    rows = [int((truth == t).sum()) for t, _ in pairs]
    return {
        "acc": sum(h for h, _ in hits) / len(truth),
        "macc": float(np.mean([h / n for (h, _), n in zip(hits, rows, strict=True) if n])),
        "miou": float(np.mean([ratio(h, u, 0.0) for h, u in hits])),
    }


def test_classes_of_pixels_are_those_of_what_is_left() -> None:
    probabilities, mask, _ = scene(4)
    found = probabilities.argmax(dim=1)
    kept = (mask != VOID).numpy()
    truth, own = mask.numpy()[kept], found.numpy()[kept]
    expected = classes_twin(truth, own, range(4))
    inner = classes_twin(truth, own, range(1, 4))
    expected |= {f"{name}/fg": value for name, value in inner.items()}
    agree(feed(PixelClassScores(4), found, mask), expected)


def test_void_pixels_have_no_class() -> None:
    mask = torch.tensor([[[0, 1, VOID], [2, VOID, 1]]])
    batch = Batch(torch.zeros(1, 3, 2, 3), ("a",), mask, classes=torch.tensor([[5, 7]]))
    assert batch.class_mask is not None
    assert batch.class_mask.tolist() == [[[0, 5, VOID], [7, VOID, 5]]]


@pytest.mark.parametrize(
    ("metric", "count"),
    [
        (SegmentationScores(2), 1), (SegmentationScores(3), 1), (SaliencyScores(), 1),
        (ObjectScores(4), 2), (PartitionScores(2), 1), (PixelClassScores(3), 1),
    ],
)  # fmt: skip
def test_where_all_is_void_there_is_no_score(metric: Any, count: int) -> None:
    void = torch.full((2, 4, 4), VOID)
    maps = torch.zeros(2, 4, 4, dtype=torch.long)
    soft = torch.rand(2, getattr(metric, "num_regions", 2), 4, 4).softmax(dim=1)
    given = [soft] if isinstance(metric, SegmentationScores) else [maps] * count
    metric.update(*given, void)
    assert metric.compute() == {}
