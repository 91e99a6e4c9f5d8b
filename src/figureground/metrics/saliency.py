"""Scores of saliency papers: F at all thresholds, adaptive F and mean error, all in one pass.

With p the probability of the object, thresholds t = k / 255 for k = 1 .. 254, precision P (1 where
nothing is claimed), recall R (1 where nothing is there) and F = 1.3 P R / (0.3 P + R), 0 for 0 / 0:

- `acc`, `iou`, `f05`  of p > 0.5; IoU is 0 where nothing is claimed and nothing is there
- `fmax`, `fmean`      largest and mean value of F over the thresholds, p > t
- `fadaptive`          F of p >= min(1, 2 mean(p)), the mean of the picture
- `mae`                mean |p - truth|

each as `/img`, the mean over pictures (the F curve is averaged before its maximum is taken), and as
`/global`, of the pixels of the whole set together. Published figures of "Finding an Unsupervised
Image Segmenter" and "Big GANs Are Watching You" are `/img`; `fmean`, `fadaptive`, `mae` and
`/global` are further ones. Void pixels are cut out first.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.bounds import Fraction, PositiveInt
from figureground.metrics.segmentation import SegmentationScores
from figureground.metrics.void import cut_void

_BETA_SQUARED = 0.3
_LEVELS = 255
_NEAR = 1e-3  # Beyond rounding errors of probabilities times 255.
_MIDDLE = 127  # Place of 0.5 among the thresholds, which are one more with it.


class SaliencyScores(SegmentationScores):
    """All scores of `SegmentationScores` for two regions, and those above.

    `f05/img` and `fmax/img` follow the rules above.

    Args:
        num_regions: 2: ground and object.
        threshold: See `SegmentationScores`, as all others.
        assign: See there.
        truth: See there; `soft` is not among them.
        average: See there; the scores above are means over pictures.
        empty: See there; in the scores above IoU is 0.
    """

    counts: Tensor
    single: Tensor
    curve: Tensor
    shares: Tensor
    images: Tensor

    def __init__(
        self,
        num_regions: PositiveInt = 2,
        threshold: Fraction = 0.5,
        assign: Literal["argmax", "threshold"] = "argmax",
        truth: Literal["regions", "binary"] = "binary",
        average: Literal["image", "batch"] = "image",
        empty: Literal["one", "zero", "nan"] = "zero",
    ) -> None:
        super().__init__(num_regions, threshold, assign, truth, average, empty)
        if problems := self.check_options(num_regions=num_regions):
            raise ValueError(problems[0])
        self._add_sum("counts", 2, _LEVELS)  # True and claimed pixels above each threshold.
        self._add_sum("single", 3)  # True and claimed pixels of adaptive masks, absolute error.
        self._add_sum("curve", _LEVELS)  # Of F, summed over pictures.
        self._add_sum("shares", 4)  # acc, iou, adaptive F and error, summed over pictures.
        self._add_sum("images", 3)  # Pictures, pixels, pixels of objects.

    @staticmethod
    def check_options(*, num_regions: int, **_: object) -> list[str]:
        """Say that there are too many regions, or nothing."""
        if num_regions != 2:
            return [f"num_regions must be 2, got {num_regions}: ground and object"]
        return []

    def update(self, probabilities: Tensor, mask: Tensor, soft_mask: Tensor | None = None) -> None:
        """Take in a batch, see `SegmentationScores.update`."""
        super().update(probabilities, mask, soft_mask)
        if probabilities.shape[2:] != mask.shape[1:]:
            probabilities = F.interpolate(probabilities, mask.shape[1:], mode="bilinear")
        for soft, truth in cut_void(mask, probabilities[:, 1], mask > 0):
            self._count_levels(soft.flatten(1).contiguous(), truth.flatten(1))

    def _count_levels(self, soft: Tensor, truth: Tensor) -> None:
        """Take in probabilities and truth (B, N) of pictures without void pixels."""
        hits, claimed = self._count_above(soft, truth)
        size = truth.count_nonzero(dim=1).unsqueeze(1).to(hits)
        pixels = float(soft.shape[1])
        curve = f_measure(hits, claimed, size)

        right, found = hits[:, _MIDDLE], claimed[:, _MIDDLE]
        whole = size[:, 0]
        accuracy = (pixels - found - whole + 2 * right) / pixels
        iou = right / (found + whole - right).clamp(min=1)

        adaptive = soft >= (2 * soft.mean(dim=1, keepdim=True)).clamp(max=1)
        both = (adaptive & truth).count_nonzero(dim=1).unsqueeze(1).to(hits)
        chosen = adaptive.count_nonzero(dim=1).unsqueeze(1).to(hits)
        error = (soft - truth.to(soft)).abs().sum(dim=1, dtype=hits.dtype)

        self.counts += torch.stack([hits.sum(dim=0), claimed.sum(dim=0)])
        self.single += torch.stack([both.sum(), chosen.sum(), error.sum()])
        self.curve += curve.sum(dim=0)
        own = (accuracy, iou, f_measure(both, chosen, size)[:, 0], error / pixels)
        self.shares += torch.stack([value.sum() for value in own])
        self.images += torch.stack([size.new_tensor(len(soft)), *_totals(soft, size)])

    def compute(self) -> dict[str, Tensor]:
        """Return all scores by id; none where all was void."""
        scores = super().compute()
        if not scores:
            return {}
        count, pixels, size = self.images
        curve = self.curve / count
        own = {"f05": curve[_MIDDLE], **_summarise(curve)}
        own |= dict(zip(("acc", "iou", "fadaptive", "mae"), self.shares / count, strict=True))
        hits, claimed = self.counts
        right, found = hits[_MIDDLE], claimed[_MIDDLE]
        curve = f_measure(hits, claimed, size)
        total = {"f05": curve[_MIDDLE], **_summarise(curve)}
        total["acc"] = (pixels - found - size + 2 * right) / pixels
        total["iou"] = right / (found + size - right).clamp(min=1)
        total["fadaptive"] = f_measure(self.single[0], self.single[1], size)
        total["mae"] = self.single[2] / pixels
        scores |= {f"{name}/img": value.float() for name, value in own.items()}
        return scores | {f"{name}/global": value.float() for name, value in total.items()}

    def _count_above(self, soft: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """True and claimed pixels (B, 255) above each threshold, by one histogram a picture."""
        picture = torch.arange(len(soft), dtype=torch.int32, device=soft.device).view(-1, 1)
        codes = find_levels(soft) + (_LEVELS + 1) * (2 * picture + truth)  # Of 32 bits: faster.
        size = 2 * len(soft) * (_LEVELS + 1)
        counts = torch.bincount(codes.flatten(), minlength=size).view(len(soft), 2, -1)
        above = counts.to(self.counts.dtype).flip(2).cumsum(2).flip(2)[:, :, 1:]
        return above[:, 1], above.sum(dim=1)

    def _confuse(self, hard: Tensor, mask: Tensor) -> Tensor:
        """As the base, of two regions."""
        found, truth = hard.flatten(1) == 1, mask.flatten(1) == 1
        both, claimed, size = (x.count_nonzero(dim=1) for x in (found & truth, found, truth))
        ground = found.shape[1] - claimed - size + both
        none = torch.zeros_like(both)
        cells = [ground, claimed - both, none, size - both, both, none]
        return torch.stack(cells, dim=1).view(-1, 2, 3).to(self.pairs.dtype)

    def _count_f(self, probabilities: Tensor, mask: Tensor, weight: float) -> None:
        """Not as the base has it: its two scores follow the rules above here."""


def f_measure(hits: Tensor, claimed: Tensor, size: Tensor) -> Tensor:
    """F of counted pixels, any shapes that fit: true ones claimed, all claimed, all true."""
    precision = torch.where(claimed > 0, hits / claimed.clamp(min=1), 1.0)
    recall = torch.where(size > 0, hits / size.clamp(min=1), 1.0)
    below = _BETA_SQUARED * precision + recall
    above = (1 + _BETA_SQUARED) * precision * recall
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)


def find_levels(soft: Tensor) -> Tensor:
    """Number of thresholds that lie strictly below each probability, int32 of the same shape.

    By rounding; a search among the thresholds, which takes ten times as long, is for those few that
    are as good as on one.
    """
    scaled = soft * _LEVELS
    near = scaled.round().clamp_(1, _LEVELS - 1).sub_(scaled).abs_() < _NEAR
    levels = scaled.ceil_().sub_(1).clamp_(0, _LEVELS - 1).add_(soft > 0.5).int()
    places = near.flatten().nonzero()[:, 0]
    exact = torch.bucketize(soft.flatten()[places], _thresholds(soft), out_int32=True)
    levels.view(-1)[places] = exact
    return levels


def _thresholds(like: Tensor) -> Tensor:
    """K / 255 for k = 1 .. 254 with 0.5 between them, in the precision they are compared in."""
    levels = torch.arange(1, _LEVELS, dtype=torch.float64) / _LEVELS
    middle = torch.tensor([0.5], dtype=torch.float64)
    return torch.cat([levels[:_MIDDLE], middle, levels[_MIDDLE:]]).to(like)


def _summarise(curve: Tensor) -> dict[str, Tensor]:
    """Maximum and mean over the thresholds k / 255."""
    without = torch.cat([curve[:_MIDDLE], curve[_MIDDLE + 1 :]])
    return {"fmax": without.max(), "fmean": without.mean()}


def _totals(soft: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    return size.new_tensor(soft.numel()), size.sum()
