"""Scores of soft masks against true ones, under every published way of counting.

Ids follow one rule, `<measure>/<averaging>/<who decides which region is the object>`:

- `img`: mean over pictures; `global`: sums over the set.
- `oracle`: regions are matched to the truth in each picture, separately for each measure. It is
  what ReDO and L2IC publish, and it is optimistic.
- `set`: one matching for the whole set, the one with the best mean IoU. `iou/global/fg` and
  `miou/global` use it, too.
- `fixed`: no matching; region k claims to be truth k (for two regions, region 1 the object).

Void pixels (`core.types.VOID`) count in no score: they are cut out of truth and prediction. A
picture that is all void has no score and is in no mean; if all are, there are no scores at all.

The F measures (`f05`, `fmax`) are those of `fixed`. `ari/img`, the adjusted Rand index of all
pixels of a picture, asks for no matching. DRC and ILSGAN publish `iou/img/fixed` as DRC_IoU,
`dice/img/fixed` as DRC_DICE (with `empty=nan`), and `iou/global/fixed`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchmetrics import Metric

from figureground.core.bounds import Fraction, PositiveInt
from figureground.metrics.objects import adjusted_rand_index
from figureground.metrics.void import cut_void

logger = logging.getLogger(__name__)

_BETA_SQUARED = 0.3  # Weight of precision in the F measure, as all saliency papers have it.
_NUM_THRESHOLDS = 255
_EXHAUSTIVE = 4  # Up to so many regions all matchings are tried.
_MEASURES = ("acc", "iou", "dice")
_SOFT_MARGIN = 1e-3  # Added to the denominators of scores of true shares.


class SegmentationScores(Metric):
    """Accuracy, IoU, Dice and F of soft regions, per picture and over the set.

    A pixel belongs to the object where its probability is at least `threshold` (two regions), or to
    its most probable region (more). With two regions IoU and Dice count the object alone; with
    more they are means over all regions, background included. Sums are kept in double precision
    under any `trainer.precision`.

    Args:
        num_regions: K.
        threshold: Cut for two regions; the complement is everything below it.
        assign: How a pixel finds its region if there are more than two: `argmax` takes the most
            probable, `threshold` only one that reaches the threshold, else none (ReDO's authors).
        truth: `regions` compares K regions with as many true ones. `binary` is for masks that know
            one object only although K is larger: one region is the ground, the others together
            are the object, and what is matched is which one is the ground. `soft` is the same, but
            `iou/img/*` and `dice/img/*` are those of true shares, as L2IC has them of flowers.
        average: `image` averages over pictures; `batch` takes the mean of batch means, which is
            how ReDO's code counts.
        empty: Score of an empty prediction of an empty truth: `one`, `zero` or `nan`; 0 with soft
            truth.
    """

    full_state_update = False
    pairs: Tensor
    region_iou: Tensor
    confusion: Tensor
    oracle: Tensor
    f_curve: Tensor
    f_half: Tensor
    ari: Tensor
    weight: Tensor
    empty_pairs: Tensor

    def __init__(
        self,
        num_regions: PositiveInt = 2,
        threshold: Fraction = 0.5,
        assign: Literal["argmax", "threshold"] = "argmax",
        truth: Literal["regions", "binary", "soft"] = "regions",
        average: Literal["image", "batch"] = "image",
        empty: Literal["one", "zero", "nan"] = "one",
    ) -> None:
        super().__init__()
        self.num_regions, self.threshold = num_regions, threshold
        self.assign, self.average = assign, average
        self.is_binary, self.is_soft = num_regions == 2 or truth != "regions", truth == "soft"
        self.empty_score = {"one": 1.0, "zero": 0.0, "nan": float("nan")}[empty]
        self._has_warned = False
        # A matching scores the sum of its pairs (truth t, region k), so sums over pairs are all
        # that is needed to score any matching at the end. With binary truth, row 0 holds the
        # scores with region k as the ground, and the other rows are zero.
        table = (num_regions, num_regions)
        self._add_sum("pairs", len(_MEASURES), *table)
        self._add_sum("region_iou", *table)
        self._add_sum("confusion", num_regions, num_regions + 1)
        self._add_sum("oracle", len(_MEASURES))
        self._add_sum("f_curve", _NUM_THRESHOLDS)
        for name in ("f_half", "ari", "weight", "empty_pairs"):
            self._add_sum(name)

    def _add_sum(self, name: str, *size: int) -> None:
        self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> nn.Module:
        """Follow the method to its device, but not to a precision too low for sums."""

        def move(state: Tensor) -> Tensor:
            device = fn(state.new_zeros((), dtype=torch.float32)).device
            # Apple's GPUs have no double precision.
            return state.to(device, torch.float32 if device.type == "mps" else state.dtype)

        return super()._apply(move, exclude_state)

    def update(self, probabilities: Tensor, mask: Tensor, soft_mask: Tensor | None = None) -> None:
        """Take in a batch.

        Args:
            probabilities: (B, K, H, W); another size than the masks' is resized bilinearly.
            mask: Index mask (B, H, W), 0 = background, `VOID` = not counted. With binary truth
                every other value is the object.
            soft_mask: Share of the object in each pixel, (B, H, W) in [0, 1], for soft truth.

        Raises:
            ValueError: Shapes do not fit, a mask has more regions than K, or shares are missing.
        """
        if probabilities.shape[1] != self.num_regions:
            raise ValueError(
                f"expected probabilities of {self.num_regions} regions, got "
                f"{tuple(probabilities.shape)}; set method.metrics.segmentation.num_regions"
            )
        if self.is_soft and (soft_mask is None or soft_mask.shape != mask.shape):
            size = "none" if soft_mask is None else tuple(soft_mask.shape)
            raise ValueError(
                f"truth=soft needs soft masks of the index masks' shape {tuple(mask.shape)}, got "
                f"{size}; give them, or set method.metrics.segmentation.truth=binary"
            )
        probabilities = probabilities.to(self.pairs.dtype)
        if probabilities.shape[2:] != mask.shape[1:]:
            probabilities = F.interpolate(probabilities, mask.shape[1:], mode="bilinear")
        share = soft_mask if self.is_soft and soft_mask is not None else mask
        parts = cut_void(mask, probabilities, mask, share)
        count = sum(len(part[0]) for part in parts)
        for part in parts:
            self._count(1.0 / count if self.average == "batch" else 1.0, *part)

    def compute(self) -> dict[str, Tensor]:
        """Return all scores by id; none where all was void."""
        if not self.weight:
            return {}
        self._warn_of_binary_truth()
        matching = _match(self.pairs[_MEASURES.index("iou")])
        rows = torch.arange(self.num_regions)
        chosen, fixed = self.pairs[:, rows, matching].sum(1), self.pairs[:, rows, rows].sum(1)
        scores: dict[str, Tensor] = {}
        for who, sums in (("oracle", self.oracle), ("set", chosen), ("fixed", fixed)):
            for measure, value in zip(_MEASURES, sums / self.weight, strict=True):
                scores[f"{measure}/img/{who}"] = value
        iou = self._global_iou(matching)
        scores["iou/global/fg"], scores["miou/global"] = iou[1:].mean(), iou.mean()
        iou = self._global_iou(rows)
        scores["iou/global/fixed"], scores["miou/global/fixed"] = iou[1:].mean(), iou.mean()
        scores["miou/img"] = self.region_iou[rows, matching].sum() / self.weight
        scores["ari/img"] = self.ari / self.weight
        if self.is_binary:
            curve = self.f_curve / self.weight
            scores["fmax/img"], scores["f05/img"] = curve.max(), self.f_half / self.weight
            scores["empty_pairs"] = self.empty_pairs
        return {name: value.float() for name, value in scores.items()}

    def _count(self, weight: float, probabilities: Tensor, mask: Tensor, share: Tensor) -> None:
        """Take in pictures without void pixels, each of this weight in means over pictures."""
        mask = mask.long()
        if self.is_binary:
            mask = mask.clamp(max=1)
        elif int(mask.max()) >= self.num_regions:
            raise ValueError(
                f"mask has region {int(mask.max())}, expected < {self.num_regions}; raise "
                "method.num_regions or set method.metrics.segmentation.truth=binary"
            )
        hard = self._assign(probabilities)
        confusion = self._confuse(hard, mask)
        self.confusion += confusion.sum(dim=0)
        self._count_matches(confusion, self._score_shares(hard, share), weight)
        if self.is_binary:
            self._count_f(probabilities, mask, weight)

    def _assign(self, probabilities: Tensor) -> Tensor:
        """Region of each pixel (B, H, W); K stands for none."""
        if self.num_regions == 2:
            return (probabilities[:, 1] >= self.threshold).long()
        best, hard = probabilities.max(dim=1)
        if self.assign == "threshold":
            hard = torch.where(best >= self.threshold, hard, self.num_regions)
        return hard

    def _confuse(self, hard: Tensor, mask: Tensor) -> Tensor:
        """Count pixels of each (truth, prediction) pair in each picture, (B, K, K + 1)."""
        count, columns = len(hard), self.num_regions + 1
        pairs = self.num_regions * columns
        offset = torch.arange(count, device=hard.device).view(-1, 1) * pairs
        codes = (mask * columns + hard).flatten(1) + offset
        counts = torch.bincount(codes.flatten(), minlength=count * pairs)
        return counts.view(count, self.num_regions, columns).to(self.pairs.dtype)

    def _count_matches(self, confusion: Tensor, soft_scores: Tensor | None, weight: float) -> None:
        """Add the scores of all pairs in each picture, from (B, K, K + 1)."""
        tables = self._binary_tables if self.is_binary else self._region_tables
        pairs, region_iou = tables(confusion)
        if soft_scores is not None:
            pairs[:, 1:, 0] = soft_scores
        self.pairs += weight * pairs.sum(dim=0)
        self.oracle += weight * _best_scores(pairs).sum(dim=0)
        self.region_iou += weight * region_iou.sum(dim=0)
        self.ari += weight * adjusted_rand_index(confusion).sum()
        self.weight += weight * len(confusion)

    def _region_tables(self, confusion: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, measures, K, K) and shares of the mean IoU (B, K, K) of truth and region."""
        truth = confusion.sum(dim=2, keepdim=True)
        confusion = confusion[:, :, : self.num_regions]
        claimed = confusion.sum(dim=1, keepdim=True)
        accuracy = confusion / truth.sum(dim=1, keepdim=True)
        iou = self._divide(confusion, truth + claimed - confusion) / self.num_regions
        dice = self._divide(2 * confusion, truth + claimed) / self.num_regions
        return torch.stack([accuracy, iou, dice], dim=1), iou

    def _binary_tables(self, confusion: Tensor) -> tuple[Tensor, Tensor]:
        """The same with everything in row 0: column k has region k as the ground."""
        hits, false, missed, ground = _split_binary(confusion)  # (B, K)
        wrong = false + missed
        iou, ground_iou = self._divide(hits, hits + wrong), self._divide(ground, ground + wrong)
        accuracy = (hits + ground) / (hits + ground + wrong)
        dice = self._divide(2 * hits, 2 * hits + wrong)
        self.empty_pairs += (hits[:, 0] + wrong[:, 0] == 0).sum()
        rest = (0, 0, 0, self.num_regions - 1)
        pairs = F.pad(torch.stack([accuracy, iou, dice], dim=1).unsqueeze(2), rest)
        return pairs, F.pad((iou + ground_iou).unsqueeze(1) / 2, rest)

    def _score_shares(self, hard: Tensor, share: Tensor) -> Tensor | None:
        """IoU and Dice (B, 2, K) of true shares with each region in turn as the ground.

        L2IC, spec section 6.3: what is neither claimed nor object throughout is in no union, so
        that IoU is slightly too high where objects have soft borders.
        """
        if not self.is_soft:
            return None
        region, share = hard.flatten(1), share.flatten(1).to(self.pairs.dtype)
        empty = share.new_zeros(len(share), self.num_regions + 1)

        def in_ground(values: Tensor) -> Tensor:
            return empty.scatter_add(1, region, values)[:, : self.num_regions]

        whole = share.sum(dim=1, keepdim=True)
        hits = whole - in_ground(share)
        claimed = share.shape[1] - in_ground(torch.ones_like(share))
        union = claimed + in_ground((share >= 1).to(share.dtype))
        scores = [hits / (union + _SOFT_MARGIN), 2 * hits / (claimed + whole + _SOFT_MARGIN)]
        return torch.stack(scores, dim=1)

    def _global_iou(self, matching: Tensor) -> Tensor:
        """IoU of each true region over the whole set, (2,) or (K,), background first."""
        if self.is_binary:
            cells = _split_binary(self.confusion)
            hits, false, missed, ground = (cell[matching[0]] for cell in cells)
            found = torch.stack([ground, hits])
            return self._divide(found, found + false + missed)
        found = self.confusion[torch.arange(self.num_regions), matching]
        claimed = self.confusion.sum(dim=0)[matching]
        return self._divide(found, self.confusion.sum(dim=1) + claimed - found)

    def _divide(self, part: Tensor, whole: Tensor) -> Tensor:
        return torch.where(whole > 0, part / whole.clamp(min=1), self.empty_score)

    def _count_f(self, probabilities: Tensor, mask: Tensor, weight: float) -> None:
        """Add F at all thresholds, from one histogram of each picture's object probabilities."""
        soft = probabilities[:, 1] if self.num_regions == 2 else 1 - probabilities[:, 0]
        soft, truth = soft.flatten(1), mask.flatten(1).to(soft.dtype)
        levels = (soft * _NUM_THRESHOLDS).floor().clamp(0, _NUM_THRESHOLDS).long()
        empty = soft.new_zeros(len(soft), _NUM_THRESHOLDS + 1)
        hits = empty.scatter_add(1, levels, truth)
        claimed = empty.scatter_add(1, levels, torch.ones_like(truth))
        # Pixels at or above threshold t / 255, t = 1 .. 255.
        hits, claimed = (x.flip(1).cumsum(1).flip(1)[:, 1:] for x in (hits, claimed))
        size = truth.sum(dim=1, keepdim=True)
        self.f_curve += weight * _f_measure(hits, claimed, size).sum(dim=0)
        half = (soft >= 0.5).to(soft.dtype)
        hits, claimed = (x.sum(dim=1, keepdim=True) for x in (half * truth, half))
        self.f_half += weight * _f_measure(hits, claimed, size).sum()

    def _warn_of_binary_truth(self) -> None:
        if self.is_binary or self._has_warned or self.confusion[2:].sum() > 0:
            return
        self._has_warned = True
        logger.warning(
            "the masks have an object and a ground, but there are %d regions, so each score counts "
            "%d that are in no mask; set method.metrics.segmentation.truth=binary",
            self.num_regions, self.num_regions - 2,
        )  # fmt: skip


def _split_binary(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tell right from wrong pixels with each region in turn as the ground.

    Args:
        confusion: Pixels of (truth, prediction) pairs, (..., K, K + 1).

    Returns:
        Object pixels found, claimed falsely and missed, and ground found; (..., K) each.
    """
    regions = confusion.shape[-1] - 1
    in_ground, in_object = confusion[..., 0, :], confusion[..., 1, :]
    ground, missed = in_ground[..., :regions], in_object[..., :regions]
    hits = in_object.sum(dim=-1, keepdim=True) - missed
    return hits, in_ground.sum(dim=-1, keepdim=True) - ground, missed, ground


def _f_measure(hits: Tensor, claimed: Tensor, size: Tensor) -> Tensor:
    """F of pixel counts; 0 where nothing is claimed and nothing is there."""
    return (1 + _BETA_SQUARED) * hits / (_BETA_SQUARED * size + claimed).clamp(min=1e-12)


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
