"""Scores of soft masks against true ones, under every published way of counting.

Ids follow one rule, `<measure>/<averaging>/<who decides which region is the object>`:

- `img`: mean over pictures; `global`: sums over the set.
- `oracle`: regions are matched to the truth in each picture, separately for each measure. It is
  what ReDO and L2IC publish, and it is optimistic.
- `set`: one matching for the whole set, the one with the best mean IoU.
- `fixed`: no matching; region k claims to be truth k (for two regions, region 1 the object).
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from figureground.core.bounds import Fraction, PositiveInt

_BETA_SQUARED = 0.3  # Weight of precision in the F measure, as all saliency papers have it.
_NUM_THRESHOLDS = 255
_EXHAUSTIVE = 4  # Up to so many regions all matchings are tried.
_MEASURES = ("acc", "iou", "dice")


class SegmentationScores(Metric):
    """Accuracy, IoU, Dice and F of soft regions, per picture and over the set.

    A pixel belongs to the object where its probability is at least `threshold` (two regions), or to
    its most probable region (more). With two regions IoU and Dice count the object alone; with
    more they are means over all regions, background included.

    Args:
        num_regions: K.
        threshold: Cut for two regions; the complement is everything below it.
        assign: How a pixel finds its region if there are more than two: `argmax` takes the most
            probable, `threshold` only one that reaches the threshold, else none (ReDO's authors).
        average: `image` averages over pictures; `batch` takes the mean of batch means, which is
            how ReDO's code counts.
        empty: Score of an empty prediction of an empty truth: `one`, `zero` or `nan`.
    """

    full_state_update = False
    pairs: Tensor
    region_iou: Tensor
    confusion: Tensor
    oracle: Tensor
    f_curve: Tensor
    f_half: Tensor
    weight: Tensor
    empty_pairs: Tensor

    def __init__(
        self,
        num_regions: PositiveInt = 2,
        threshold: Fraction = 0.5,
        assign: Literal["argmax", "threshold"] = "argmax",
        average: Literal["image", "batch"] = "image",
        empty: Literal["one", "zero", "nan"] = "one",
    ) -> None:
        super().__init__()
        self.num_regions, self.threshold = num_regions, threshold
        self.assign, self.average = assign, average
        self.empty_score = {"one": 1.0, "zero": 0.0, "nan": float("nan")}[empty]
        pairs = torch.zeros(num_regions, num_regions, dtype=torch.float64)
        zero = torch.zeros((), dtype=torch.float64)
        # A matching scores the sum of its pairs (truth t, region k), so sums over pairs are all
        # that is needed to score any matching at the end.
        self.add_state("pairs", pairs.repeat(len(_MEASURES), 1, 1), dist_reduce_fx="sum")
        self.add_state("region_iou", pairs.clone(), dist_reduce_fx="sum")
        self.add_state("confusion", pairs.clone(), dist_reduce_fx="sum")
        self.add_state("oracle", zero.repeat(len(_MEASURES)), dist_reduce_fx="sum")
        curve = torch.zeros(_NUM_THRESHOLDS, dtype=torch.float64)
        self.add_state("f_curve", curve, dist_reduce_fx="sum")
        self.add_state("f_half", zero.clone(), dist_reduce_fx="sum")
        self.add_state("weight", zero.clone(), dist_reduce_fx="sum")
        self.add_state("empty_pairs", zero.clone(), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, mask: Tensor) -> None:
        """Take in a batch.

        Args:
            probabilities: (B, K, H, W); another size than the masks' is resized bilinearly.
            mask: Index mask (B, H, W), 0 = background.

        Raises:
            ValueError: Shapes do not fit, or a mask has more regions than K.
        """
        if probabilities.shape[1] != self.num_regions:
            raise ValueError(
                f"expected probabilities of {self.num_regions} regions, got "
                f"{tuple(probabilities.shape)}; set method.metrics.segmentation.num_regions"
            )
        probabilities = probabilities.double()
        if probabilities.shape[2:] != mask.shape[1:]:
            probabilities = F.interpolate(probabilities, mask.shape[1:], mode="bilinear")
        if int(mask.max()) >= self.num_regions:
            # A set with several objects and a method with one foreground: all objects are one.
            if self.num_regions != 2:
                raise ValueError(
                    f"mask has region {int(mask.max())}, expected < {self.num_regions}"
                )
            mask = mask.clamp(max=1)
        if self.num_regions == 2:
            hard = (probabilities[:, 1] >= self.threshold).long()
        else:
            best, hard = probabilities.max(dim=1)
            if self.assign == "threshold":
                hard = torch.where(best >= self.threshold, hard, self.num_regions)
        confusion = self._confuse(hard, mask)  # (B, K truth, K + 1 predicted; the last is none)
        self.confusion += confusion[:, :, : self.num_regions].sum(dim=0)
        self._count_matches(confusion)
        self._count_f(probabilities, mask)

    def compute(self) -> dict[str, Tensor]:
        """Return all scores by id."""
        matching = _match(self.pairs[_MEASURES.index("iou")])
        rows = torch.arange(self.num_regions)
        chosen, fixed = self.pairs[:, rows, matching].sum(1), self.pairs[:, rows, rows].sum(1)
        scores: dict[str, Tensor] = {}
        for who, sums in (("oracle", self.oracle), ("set", chosen), ("fixed", fixed)):
            for measure, value in zip(_MEASURES, sums / self.weight, strict=True):
                scores[f"{measure}/img/{who}"] = value
        hits = self.confusion[rows, matching]
        sizes = self.confusion.sum(dim=1) + self.confusion.sum(dim=0)[matching]
        iou = hits / (sizes - hits).clamp(min=1)
        scores["iou/global/fg"] = iou[1:].mean()
        scores["miou/global"] = iou.mean()
        scores["miou/img"] = self.region_iou[rows, matching].mean() / self.weight
        if self.num_regions == 2:
            curve = self.f_curve / self.weight
            scores["fmax/img"], scores["f05/img"] = curve.max(), self.f_half / self.weight
        scores["empty_pairs"] = self.empty_pairs
        return {name: value.float() for name, value in scores.items()}

    def _confuse(self, hard: Tensor, mask: Tensor) -> Tensor:
        """Count pixels of each (truth, prediction) pair in each picture, (B, K, K + 1)."""
        count, columns = len(hard), self.num_regions + 1
        pairs = self.num_regions * columns
        offset = torch.arange(count, device=hard.device).view(-1, 1) * pairs
        codes = (mask * columns + hard).flatten(1) + offset
        counts = torch.bincount(codes.flatten(), minlength=count * pairs)
        return counts.view(count, self.num_regions, columns).double()

    def _count_matches(self, confusion: Tensor) -> None:
        truth = confusion.sum(dim=2, keepdim=True)
        confusion = confusion[:, :, : self.num_regions]
        claimed = confusion.sum(dim=1, keepdim=True)
        iou = self._divide(confusion, truth + claimed - confusion)  # (B, K, K)
        dice = self._divide(2 * confusion, truth + claimed)
        accuracy = confusion / truth.sum(dim=1, keepdim=True)
        # With two regions only the object's row counts, with more the mean over rows.
        rows = torch.full_like(confusion[0, :, :1], 1 / self.num_regions)
        if self.num_regions == 2:
            rows = rows.new_tensor([[0.0], [1.0]])
        pairs = torch.stack([accuracy, rows * iou, rows * dice], dim=1)  # (B, measures, K, K)
        weight = 1.0 / len(confusion) if self.average == "batch" else 1.0
        self.pairs += weight * pairs.sum(dim=0)
        self.oracle += weight * _best_scores(pairs).sum(dim=0)
        self.region_iou += weight * iou.sum(dim=0)
        self.weight += weight * len(confusion)
        if self.num_regions == 2:
            self.empty_pairs += (truth[:, 1, 0] + claimed[:, 0, 1] == 0).sum()

    def _divide(self, part: Tensor, whole: Tensor) -> Tensor:
        return torch.where(whole > 0, part / whole.clamp(min=1), self.empty_score)

    def _count_f(self, probabilities: Tensor, mask: Tensor) -> None:
        """Add F at all thresholds, from one histogram of each picture's object probabilities."""
        if self.num_regions != 2:
            return
        foreground = (mask > 0).flatten(1)
        levels = (probabilities[:, 1].flatten(1) * _NUM_THRESHOLDS).floor()
        levels = levels.clamp(0, _NUM_THRESHOLDS).long()
        size = _NUM_THRESHOLDS + 1
        counts = levels.new_zeros(len(levels), size).double()
        hits = counts.scatter_add(1, levels, foreground.double())
        counts = counts.scatter_add(1, levels, torch.ones_like(foreground, dtype=torch.float64))
        # Pixels at or above threshold t / 255, t = 1 .. 255.
        hits, counts = (x.flip(1).cumsum(1).flip(1)[:, 1:] for x in (hits, counts))
        total = foreground.sum(dim=1, keepdim=True)
        f = (1 + _BETA_SQUARED) * hits / (_BETA_SQUARED * total + counts).clamp(min=1e-12)
        weight = 1.0 / len(mask) if self.average == "batch" else 1.0
        self.f_curve += weight * f.sum(dim=0)
        claimed = (probabilities[:, 1].flatten(1) >= 0.5).double()
        hit = (claimed * foreground).sum(dim=1)
        size_sum = _BETA_SQUARED * total.squeeze(1) + claimed.sum(dim=1)
        self.f_half += weight * ((1 + _BETA_SQUARED) * hit / size_sum.clamp(min=1e-12)).sum()


def _best_scores(pairs: Tensor) -> Tensor:
    """Score of the best matching of each (K, K) table of (..., K, K); NaN where one is NaN."""
    size = pairs.shape[-1]
    rows = torch.arange(size)
    if size <= _EXHAUSTIVE:
        scores = [pairs[..., rows, list(order)].sum(dim=-1) for order in permutations(range(size))]
        return torch.stack(scores).amax(dim=0)
    tables = pairs.reshape(-1, size, size)
    best = [table[rows, _match(table)].sum() for table in tables]
    return torch.stack(best).reshape(pairs.shape[:-2])


def _match(pairs: Tensor) -> Tensor:
    """Region of each truth (K,) in the best matching of a (K, K) table."""
    # Rounded, so that ties end alike on all machines: in the given order.
    table = pairs.nan_to_num(-1.0).cpu().numpy().round(9)
    return torch.from_numpy(linear_sum_assignment(table, maximize=True)[1])
