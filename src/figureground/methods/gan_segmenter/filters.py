"""Which drawn pairs are kept: filters in the published order, and how much each lets through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from figureground.core.bounds import Count, Fraction, NonNegativeFloat
from figureground.core.passages import ALL, Passage
from figureground.methods.gan_segmenter.directions import Side
from figureground.methods.gan_segmenter.masks import clean_together, largest_components

_LEAST_PEAKS = 2
_ROUND_AREA = (0.05, 0.9)  # Shares of the picture that a round component may have, both excluded.
# Length of a contour of 4-connected border pixels by what surrounds each (Benkrid and Crookes):
# weights of a pixel's neighbours, and the codes of straight, diagonal and mixed pieces.
_SURROUNDINGS = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]])
_PIECES = {
    1.0: (5, 7, 15, 17, 25, 27),
    math.sqrt(2): (21, 33),
    (1 + math.sqrt(2)) / 2: (13, 23),
}


@dataclass(frozen=True)
class PairFilters:
    """Cleaning of masks, and what a pair must be like; defaults are the released ones.

    Attributes:
        components: Components are kept above this share of the largest one's area; 0 keeps all.
        area: Least and largest share of the picture that a mask may cover, both allowed. With a
            least share of 0, empty masks pass, as they did when the figures were published.
        histogram_bins: Bins of the shifted picture's histogram, which must have two peaks or more;
            0 asks for none.
        roundness: Least area / perimeter^2 of the largest component; 0 for any.
        overlap: Least share of pixels in which the masks of two directions agree; 0 for any.
    """

    components: Fraction = 0.2
    area: Sequence[Fraction] = (0.0, 0.5)
    histogram_bins: Count = 12
    roundness: NonNegativeFloat = 0.0
    overlap: Fraction = 0.0

    @staticmethod
    def check_options(*, area: Sequence[float], histogram_bins: int, **_: object) -> list[str]:
        """Refuse areas and histograms that nothing could pass."""
        problems = []
        if len(area) != 2 or area[0] > area[1]:
            problems.append(f"area={list(area)}: expected [least, largest], such as [0.0, 0.5]")
        if histogram_bins == 1:
            problems.append("histogram_bins=1: one bin has no two peaks; use 12, or 0 for none")
        return problems


@dataclass
class Tally:
    """What one filter has seen.

    Attributes:
        seen: Candidates that came to it.
        passed: Those it let through.
        low: Smallest value of what it looks at,
        high: and largest.
        expected: What it asks for, in words.
    """

    seen: int = 0
    passed: int = 0
    low: float = math.inf
    high: float = -math.inf
    expected: str = ""

    def count(self, value: Tensor, keep: Tensor, expected: str) -> None:
        """Take in the values (B,) and decisions (B,) of those that came."""
        self.seen += len(keep)
        self.passed += int(keep.sum())
        if len(value):
            self.low = min(self.low, float(value.min()))
            self.high = max(self.high, float(value.max()))
        self.expected = expected

    def add(self, other: Tally) -> None:
        """Take in what `other` has counted."""
        self.seen += other.seen
        self.passed += other.passed
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.expected = other.expected

    @property
    def rate(self) -> float:
        """Share that passed, of those that came."""
        return self.passed / max(self.seen, 1)


@dataclass
class Acceptance:
    """How many candidates came through, filter by filter."""

    seen: int = 0
    passed: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Share of candidates that all filters let through."""
        return self.passed / max(self.seen, 1)

    def add(self, other: Acceptance) -> None:
        """Take in what `other` has counted."""
        self.seen += other.seen
        self.passed += other.passed
        for name, tally in other.tallies.items():
            self.tallies.setdefault(name, Tally()).add(tally)

    def count(self) -> dict[str, Passage]:
        """All counts by name, those of all filters together first."""
        each = {name: Passage(tally.seen, tally.passed) for name, tally in self.tallies.items()}
        return {ALL: Passage(self.seen, self.passed), **each}

    def find_strictest(self) -> tuple[str, Tally]:
        """The filter that threw away most, by name."""
        return max(self.tallies.items(), key=lambda item: item[1].seen - item[1].passed)


def clean(masks: Mapping[Side, Tensor], filters: Mapping[Side, PairFilters]) -> dict[Side, Tensor]:
    """Drop small components of masks (B, H, W) bool, by each side's own threshold."""
    kept = clean_together(list(masks.values()), [filters[side].components for side in masks])
    return dict(zip(masks, kept, strict=True))


def judge(
    masks: Mapping[Side, Tensor],
    shifted: Mapping[Side, Tensor],
    filters: Mapping[Side, PairFilters],
    acceptance: Acceptance | None = None,
) -> Tensor:
    """Pass candidates through all filters, in order.

    Args:
        masks: Cleaned masks of each direction, (B, H, W) bool.
        shifted: Pictures shifted along each, (B, 3, H, W).
        filters: Of each direction. Those of the first switch histogram, roundness and overlap on.
        acceptance: Where to count.

    Returns:
        Which to keep, (B,) bool, on the CPU.
    """
    first = next(iter(masks))
    lead, count = filters[first], len(masks[first])
    acceptance = Acceptance() if acceptance is None else acceptance
    alive = torch.ones(count, dtype=torch.bool)

    def apply(name: str, value: Tensor, keep: Tensor, expected: str) -> None:
        nonlocal alive
        value, keep = value.cpu(), keep.cpu()
        tally = acceptance.tallies.setdefault(name, Tally())
        tally.count(value[alive], keep[alive], expected)
        alive = alive & keep

    for side, mask in masks.items():
        low, high = filters[side].area
        share = area(mask)
        apply(f"area_{side}", share, (share >= low) & (share <= high), f"from {low:g} to {high:g}")
    if lead.histogram_bins:
        bins = [filters[side].histogram_bins or lead.histogram_bins for side in shifted]
        counted = _count_peaks_of_each(list(shifted.values()), bins)
        for side, peaks in zip(shifted, counted, strict=True):
            apply(f"histogram_{side}", peaks, peaks >= _LEAST_PEAKS, "at least 2 peaks")
    if lead.roundness > 0:
        for side, mask in masks.items():
            least = filters[side].roundness
            value, fits = roundness(mask)
            apply(f"roundness_{side}", value, fits & (value > least), f"above {least:g}")
    if lead.overlap > 0 and len(masks) == 2:
        one, two = masks.values()
        share = agreement(one, two)
        apply("overlap", share, share >= lead.overlap, f"at least {lead.overlap:g}")
    acceptance.seen += count
    acceptance.passed += int(alive.sum())
    return alive


def area(mask: Tensor) -> Tensor:
    """Share of the picture that each of (B, H, W) covers, (B,)."""
    return mask.float().mean(dim=(1, 2))


def count_peaks(image: Tensor, bins: int) -> Tensor:
    """Number of peaks of each picture's smoothed histogram.

    All colours are counted in `bins` of [-1, 1], values outside are left out; the histogram is
    summed over three neighbouring bins; a peak is a bin that is nowhere below its neighbours, each
    bin of a plateau counting.

    Args:
        image: (B, 3, H, W).
        bins: How many.

    Returns:
        (B,) int64.
    """
    values = image.float().flatten(1)
    # In bins of exact width: 1 belongs to the last one. What is left out goes to one more.
    place = (values + 1).mul_(bins / 2).to(torch.int32).clamp_(max=bins - 1)
    if len(values) and not all(-1 <= bound <= 1 for bound in values.aminmax()):
        place.masked_fill_(values.abs() > 1, bins)
    first = torch.arange(len(values), dtype=torch.int32, device=place.device) * (bins + 1)
    place += first.unsqueeze(1)
    counts = torch.bincount(place.flatten(), minlength=len(values) * (bins + 1))
    histogram = counts.view(len(values), bins + 1)[:, :bins]
    padded = F.pad(histogram, (1, 1))
    smooth = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    around = F.pad(smooth, (1, 1), value=-1)
    peaks = (smooth >= around[:, :-2]) & (smooth >= around[:, 2:])
    return peaks.sum(dim=1)


def _count_peaks_of_each(images: Sequence[Tensor], bins: Sequence[int]) -> Iterable[Tensor]:
    """As `count_peaks`, in one call where the bins are the same."""
    if len(set(bins)) > 1:
        return map(count_peaks, images, bins)
    return count_peaks(torch.cat(list(images)), bins[0]).view(len(images), -1).unbind()


def roundness(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Area / perimeter^2 of the largest component of each of (B, H, W).

    Returns:
        It, (B,), 0 where there is no component; and whether the component covers more than 5 and
        less than 90 per cent of the picture, (B,) bool. Both on the CPU.
    """
    largest = largest_components(mask)
    size = largest.sum(dim=(1, 2)).double()
    length = torch.tensor([_perimeter(each.numpy()) for each in largest], dtype=torch.float64)
    value = torch.where(size > 0, size / length.square(), 0.0)
    share = size / largest[0].numel()
    return value, (share > _ROUND_AREA[0]) & (share < _ROUND_AREA[1])


def agreement(one: Tensor, two: Tensor) -> Tensor:
    """Share of pixels in which masks (B, H, W) are alike, (B,)."""
    return (one == two).float().mean(dim=(1, 2))


def _perimeter(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """Length of the contour of a mask (H, W)."""
    border = mask & ~ndimage.binary_erosion(mask)
    codes = ndimage.convolve(border.astype(np.int64), _SURROUNDINGS, mode="constant")[border]
    return sum(length * int(np.isin(codes, pieces).sum()) for length, pieces in _PIECES.items())
